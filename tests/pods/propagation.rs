//! Mounts and other mount namespaces. systemd makes every mount of a machine shared;
//! here that is so in a mount namespace of the test's own, whatever this machine does.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::root::{Ran, Root, pod, sh, until};

/// A mount namespace in which every mount is shared, and one that receives from it what
/// is mounted there, as that of a systemd service does.
struct Shared {
    host: Child,
    service: Child,
}

fn hold(unshare: &mut Command) -> Child {
    let child = unshare
        .args(["sh", "-c", "echo ready; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare and nsenter run");
    let mut child = child;
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    child
}

impl Shared {
    fn new() -> Self {
        let host = hold(Command::new("unshare").args(["-m", "--propagation", "shared"]));
        let pid = host.id().to_string();
        let service = hold(Command::new("nsenter").args([
            "-t",
            &pid,
            "-m",
            "unshare",
            "-m",
            "--propagation",
            "slave",
        ]));
        Shared { host, service }
    }

    /// `carob`, on the machine with shared mounts.
    fn carob(&self, root: &Root, args: &[&str]) -> Ran {
        let carob = root.command(args);
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.host.id().to_string(), "-m", "--"])
            .arg(carob.get_program())
            .args(carob.get_args())
            .env_remove("CAROB_ROOT")
            .stdin(Stdio::null())
            // Not ended with the test's terminal.
            .process_group(0);
        command.output().unwrap().into()
    }

    /// The mounts below the root that are seen in the other namespace.
    fn seen(&self, root: &Root) -> Vec<String> {
        let dir = root.dir().to_str().unwrap();
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.service.id())).unwrap();
        let points = table.lines().filter_map(|l| l.split(' ').nth(4));
        let ours = points.filter_map(|p| p.strip_prefix(dir));
        ours.map(str::to_owned).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for child in [&mut self.service, &mut self.host] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Of a container, by its mountinfo: proc(5), "optional fields".
fn peers(mountinfo: &str) -> Vec<&str> {
    let is_one = |l: &&str| l.contains(" shared:") || l.contains(" master:");
    mountinfo.lines().filter(is_one).collect()
}

#[test]
fn mounts_pass_neither_out_of_a_pod_nor_into_it() {
    let root = Root::new();
    let shared = Shared::new();
    let data = root.dir().join("on-the-host");
    fs::create_dir(&data).unwrap();
    let script = "cat /proc/self/mountinfo; echo ready; exec sleep 1000";
    let manifest = pod(
        "web",
        json!({
            "containers": [sh("main", script, json!({"volumeMounts": [
                {"name": "memory", "mountPath": "/memory"},
                {"name": "disk", "mountPath": "/disk"},
                {"name": "part", "mountPath": "/part", "subPath": "a"},
                {"name": "host", "mountPath": "/host"},
            ]}))],
            "volumes": [
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "disk", "emptyDir": {}},
                {"name": "part", "emptyDir": {}},
                {"name": "host", "hostPath": {"path": data}},
            ],
        }),
    );
    let file = root.dir().join("web.yaml");
    fs::write(&file, manifest).unwrap();
    shared
        .carob(&root, &["apply", "-f", file.to_str().unwrap()])
        .ok();
    let log = until(|| {
        let log = shared.carob(&root, &["logs", "web"]);
        if log.stdout.contains("ready") {
            Ok(log)
        } else {
            Err(log)
        }
    });
    let log = log.unwrap_or_else(|log| {
        let why = shared.carob(&root, &["describe", "pod", "web"]);
        panic!("the Pod does not run: {log:?} {}", why.stdout)
    });
    assert_eq!(peers(&log.stdout), [""; 0]);
    // Of all that is mounted for a Pod, the directories that keep it apart are seen.
    assert_eq!(shared.seen(&root), ["/run/pods", "/run/bare"]);
    let exec = shared.carob(&root, &["exec", "web", "--", "cat", "/proc/self/mountinfo"]);
    assert_eq!(peers(&exec.ok()), [""; 0]);

    // What the host mounts later does not show up inside.
    let mount = Command::new("nsenter")
        .args([
            "-t",
            &shared.host.id().to_string(),
            "-m",
            "mount",
            "-t",
            "tmpfs",
            "later",
        ])
        .arg(&data)
        .status();
    assert!(mount.unwrap().success());
    let exec = shared.carob(&root, &["exec", "web", "--", "cat", "/proc/self/mounts"]);
    assert!(!exec.ok().contains("later"), "a mount was received");
    let gone = Command::new("nsenter")
        .args(["-t", &shared.host.id().to_string(), "-m", "umount"])
        .arg(&data)
        .status();
    assert!(gone.unwrap().success());

    shared
        .carob(
            &root,
            &["delete", "pod", "web", "--grace-period=0", "--force"],
        )
        .ok();
    let left = until(|| {
        let seen = shared.seen(&root);
        if seen.is_empty() { Ok(()) } else { Err(seen) }
    });
    left.expect("nothing stays mounted");
}

/// mountPropagation passes what it says, and no more.
#[test]
fn mount_propagation_passes_what_it_says() {
    let root = Root::new();
    let shared = Shared::new();
    let data = root.dir().join("on-the-host");
    for dir in ["in", "out"] {
        fs::create_dir_all(data.join(dir)).unwrap();
    }
    let script = "mount -t tmpfs made-inside /both/out; echo ready; exec sleep 1000";
    let manifest = pod(
        "web",
        json!({
            "containers": [sh("main", script, json!({
                "securityContext": {"privileged": true},
                "volumeMounts": [
                    {"name": "host", "mountPath": "/none"},
                    {"name": "host", "mountPath": "/to", "mountPropagation": "HostToContainer"},
                    {"name": "host", "mountPath": "/both", "mountPropagation": "Bidirectional"},
                ],
            }))],
            "volumes": [{"name": "host", "hostPath": {"path": data}}],
        }),
    );
    let file = root.dir().join("web.yaml");
    fs::write(&file, manifest).unwrap();
    shared
        .carob(&root, &["apply", "-f", file.to_str().unwrap()])
        .ok();
    let said = until(|| {
        let log = shared.carob(&root, &["logs", "web"]);
        if log.stdout.contains("ready") {
            Ok(())
        } else {
            Err(log)
        }
    });
    said.unwrap_or_else(|log| panic!("the Pod does not run: {log:?}"));
    let on_host = |args: &[&str]| {
        let pid = shared.host.id().to_string();
        let ran = Command::new("nsenter")
            .args(["-t", &pid, "-m"])
            .args(args)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{args:?}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    };
    let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
    assert!(on_host(&["cat", "/proc/self/mounts"]).contains("made-inside"));
    on_host(&["mount", "-t", "tmpfs", "made-outside", &path("in")]);
    let inside = shared.carob(&root, &["exec", "web", "--", "cat", "/proc/self/mounts"]);
    let inside = inside.ok();
    let has = |name: &str, point: &str| inside.contains(&format!("{name} {point} "));
    assert!(
        has("made-outside", "/to/in") && has("made-outside", "/both/in"),
        "{inside}"
    );
    assert!(!has("made-outside", "/none/in"), "{inside}");
    assert!(
        has("made-inside", "/to/out") && !has("made-inside", "/none/out"),
        "{inside}"
    );
    on_host(&["umount", &path("in")]);
    on_host(&["umount", &path("out")]);
    shared
        .carob(
            &root,
            &["delete", "pod", "web", "--grace-period=0", "--force"],
        )
        .ok();
    let left = until(|| {
        let seen = shared.seen(&root);
        if seen.is_empty() { Ok(()) } else { Err(seen) }
    });
    left.expect("nothing stays mounted");
}

/// Nobody but the container knows what it has mounted, and whose files those are.
#[test]
fn what_a_container_leaves_mounted_in_its_volumes_is_not_removed() {
    let root = Root::new();
    let shared = Shared::new();
    let precious = root.dir().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n\
                 spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n---\n";
    let script = "for v in dir claim; do mkdir -p /$v/deep/x; mount --bind /host /$v/deep/x; done; \
                  mount --bind /host /claim; echo ready; exec sleep 1000";
    let both = |name: &str| json!({"name": name, "mountPath": format!("/{name}"), "mountPropagation": "Bidirectional"});
    let manifest = pod(
        "web",
        json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [sh("main", script, json!({
                "securityContext": {"privileged": true},
                "volumeMounts": [
                    {"name": "host", "mountPath": "/host"}, both("dir"), both("claim"),
                ],
            }))],
            "volumes": [
                {"name": "host", "hostPath": {"path": precious}},
                {"name": "dir", "emptyDir": {}},
                {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
            ],
        }),
    );
    let file = root.dir().join("web.yaml");
    fs::write(&file, format!("{claim}{manifest}")).unwrap();
    let carob = |args: &[&str]| shared.carob(&root, args);
    carob(&["apply", "-f", file.to_str().unwrap()]).ok();
    until(|| {
        let log = carob(&["logs", "web"]);
        if log.stdout.contains("ready") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .unwrap_or_else(|log| panic!("the Pod does not run: {log:?}"));
    let pid = shared.host.id();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    assert_eq!(mounts.matches("/deep/x ").count(), 2, "{mounts}");
    // Over the claim's own directory, too.
    let over = mounts
        .lines()
        .find(|l| l.contains("/data/claims/") && !l.contains("/deep/"));
    assert!(over.is_some(), "{mounts}");
    carob(&["delete", "pod", "web"]).ok();
    carob(&["delete", "pvc", "data"]).ok();
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    assert!(
        !mounts.contains("/deep/x ") && !mounts.contains("/data/claims/"),
        "{mounts}"
    );
}
