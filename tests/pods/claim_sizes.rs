//! Claims whose size holds (`storageClassName: carob-loop`) and claims of block devices, as
//! containers see them; and the loop devices that they leave: none.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::claims::why_says;
use crate::root::{Root, kill_9, pod, sh, until};

const IDLE: &str = "exec sleep 1000";

/// A claim as a document of a manifest.
fn claim(name: &str, mode: &str, class: &str, size: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: \
         {{accessModes: [ReadWriteMany], volumeMode: {mode}, storageClassName: {class}, \
         resources: {{requests: {{storage: {size}}}}}}}\n"
    )
}

fn with(name: &str, claim: &str, read_only: bool, container: Value, more: Value) -> String {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "v",
            "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}],
        "containers": [sh("main", IDLE, container)],
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    pod(name, spec)
}

fn with_device(name: &str, claim: &str, read_only: bool) -> String {
    let device = json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/disk"}]});
    with(name, claim, read_only, device, json!({}))
}

fn with_mount(name: &str, claim: &str) -> String {
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    with(name, claim, false, mount, json!({}))
}

/// The numbers of loop devices and what they have as their file.
fn attached() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").unwrap() {
        let entry = entry.unwrap();
        if let Ok(text) = std::fs::read_to_string(entry.path().join("loop/backing_file")) {
            let name = entry.file_name().into_string().unwrap();
            found.push((name, PathBuf::from(text.trim_end())));
        }
    }
    found
}

/// Those of a root: with a file of its own, or with such a device as the file.
fn devices(root: &Root) -> Vec<String> {
    let all = attached();
    let dir = root.dir().canonicalize().unwrap();
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, f)| f.starts_with(&dir));
    let names: Vec<String> = own.into_iter().map(|(name, _)| name).collect();
    let keeps = |file: &Path| names.iter().any(|n| file == Path::new("/dev").join(n));
    let keepers = others.iter().filter(|(_, file)| keeps(file));
    let keepers = keepers.map(|(name, _)| name.clone());
    keepers.chain(names.clone()).collect()
}

#[track_caller]
fn no_device_is_left(root: &Root) {
    until(|| match devices(root) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .unwrap();
}

fn exec(root: &Root, pod: &str, script: &str) -> crate::root::Ran {
    root.carob(&["exec", pod, "--", "sh", "-c", script])
}

#[test]
fn a_block_claim_is_one_device_for_all_its_pods() {
    let root = Root::new();
    root.apply(&claim("disk", "Block", "fast", "8Mi")).ok();
    for (name, read_only) in [("p", false), ("q", false), ("r", true)] {
        root.apply(&with_device(name, "disk", read_only)).ok();
    }
    // One, and the one that keeps it.
    assert_eq!(devices(&root).len(), 2, "{:?}", devices(&root));
    assert_eq!(root.sh("p", "wc -c < /dev/disk").trim(), "8388608");
    root.sh(
        "p",
        "printf carob | dd of=/dev/disk bs=1 seek=4096 conv=fsync",
    );
    for name in ["q", "r"] {
        let read = root.sh(name, "dd if=/dev/disk bs=1 skip=4096 count=5 2>/dev/null");
        assert_eq!(read, "carob");
    }
    let node = |name: &str| root.sh(name, "stat -c '%F %t %T' /dev/disk");
    assert_eq!(node("p"), node("q"));
    assert!(
        node("p").starts_with("block special file 7 "),
        "{}",
        node("p")
    );
    // Its size holds.
    let beyond = exec(
        &root,
        "p",
        "dd if=/dev/zero of=/dev/disk bs=1M seek=8 count=1",
    );
    assert!(beyond.stderr.contains("No space left"), "{beyond:?}");
    // A Pod that has it to read writes nothing, and nobody opens another device.
    let write = exec(&root, "r", "echo x > /dev/disk");
    assert!(write.stderr.contains("not permitted"), "{write:?}");
    let minor = u32::from_str_radix(node("p").trim().rsplit(' ').next().unwrap(), 16).unwrap();
    for other in [
        (7, minor + 1),
        (7, minor.saturating_sub(1)),
        (253, 0),
        (10, 237),
    ] {
        if other == (7, minor) {
            continue;
        }
        let kind = if other.0 == 10 { 'c' } else { 'b' };
        let script = format!(
            "mknod /tmp/o {kind} {} {}; dd if=/tmp/o of=/dev/null count=1; rm /tmp/o",
            other.0, other.1
        );
        let read = exec(&root, "p", &script);
        assert!(read.stderr.contains("not permitted"), "{other:?}: {read:?}");
    }
    for name in ["p", "q", "r"] {
        root.carob(&["delete", "pod", name]).ok();
    }
    no_device_is_left(&root);
    // What was written stays, for the next one.
    root.apply(&with_device("s", "disk", false)).ok();
    let read = root.sh("s", "dd if=/dev/disk bs=1 skip=4096 count=5 2>/dev/null");
    assert_eq!(read, "carob");
}

/// LOOP_CLR_FD asks for no capability: a device that were free would be the next program's,
/// and this container's still.
#[test]
fn a_container_cannot_detach_its_device() {
    let root = Root::new();
    root.apply(&claim("disk", "Block", "''", "4Mi")).ok();
    root.apply(&with_device("p", "disk", false)).ok();
    let before = devices(&root);
    root.sh("p", "printf kept | dd of=/dev/disk conv=fsync");
    exec(&root, "p", "losetup -d /dev/disk; losetup -d /dev/disk");
    assert_eq!(devices(&root), before);
    assert_eq!(root.sh("p", "head -c 4 /dev/disk"), "kept");
    // Also while no process of this program lives.
    kill_9(root.monitor_pid("p"));
    assert_eq!(devices(&root), before);
    let pid = root.pid("p", "main");
    assert_eq!(root.sh("p", "head -c 4 /dev/disk"), "kept");
    assert_eq!(root.pid("p", "main"), pid);
    kill_9(root.monitor_pid("p"));
    root.carob(&["delete", "pod", "p"]).ok();
    no_device_is_left(&root);
}

#[test]
fn the_size_of_a_filesystem_holds() {
    let root = Root::new();
    root.apply(&claim("data", "Filesystem", "carob-loop", "16Mi"))
        .ok();
    for name in ["p", "q"] {
        root.apply(&with_mount(name, "data")).ok();
    }
    assert_eq!(devices(&root).len(), 1, "{:?}", devices(&root));
    let mount = root.sh("p", "grep ' /v ' /proc/mounts");
    assert!(mount.contains(" ext4 rw,nodev,"), "{mount}");
    root.sh("p", "echo shared > /v/file");
    assert_eq!(root.sh("q", "cat /v/file"), "shared\n");
    let full = exec(&root, "p", "dd if=/dev/zero of=/v/big bs=1M count=20");
    assert!(full.stderr.contains("No space left"), "{full:?}");
    let written: u64 = root.sh("p", "stat -c %s /v/big").trim().parse().unwrap();
    assert!((8 << 20..16 << 20).contains(&written), "{written}");
    // What is deleted is given back to the machine.
    root.sh("p", "rm /v/big; sync");
    let rows = root.carob(&["get", "pvc"]).ok();
    assert!(
        rows.contains("16Mi") && rows.contains("carob-loop"),
        "{rows}"
    );
    // The Pods go on while their monitors are dead, and a container that starts anew has it.
    kill_9(root.monitor_pid("p"));
    assert_eq!(root.sh("p", "cat /v/file"), "shared\n");
    root.carob(&["restart", "p"]).ok();
    assert_eq!(root.sh("p", "cat /v/file"), "shared\n");
    root.carob(&["delete", "pod", "p"]).ok();
    assert_eq!(root.sh("q", "cat /v/file"), "shared\n");
    kill_9(root.monitor_pid("q"));
    root.carob(&["delete", "pod", "q"]).ok();
    no_device_is_left(&root);
    // As after a boot: the file is there, and nothing is mounted.
    root.apply(&with_mount("r", "data")).ok();
    assert_eq!(root.sh("r", "cat /v/file"), "shared\n");
    root.carob(&["delete", "pvc", "data", "--wait=false"]).ok();
    assert_eq!(root.sh("r", "cat /v/file"), "shared\n");
    root.carob(&["delete", "pod", "r"]).ok();
    no_device_is_left(&root);
    let left = std::fs::read_dir(root.dir().join("data/claims")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn the_files_of_a_sized_claim_belong_to_the_fs_group() {
    let root = Root::new();
    root.apply(&claim("data", "Filesystem", "carob-loop", "8Mi"))
        .ok();
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let security = json!({"securityContext": {"fsGroup": 4242, "runAsUser": 1000}});
    root.apply(&with("p", "data", false, mount, security)).ok();
    assert_eq!(root.sh("p", "touch /v/x && stat -c %g /v/x").trim(), "4242");
}

/// Refused, or pending: a claim that has a size stays of use.
#[test]
fn sizes_that_no_file_has() {
    let root = Root::new();
    for (mode, size, text) in [
        ("Filesystem", "100Ki", "must be at least 4Mi"),
        ("Filesystem", "1000Ti", "must be less than 16Ti"),
        ("Block", "18446744073709551615", "must be less than 16Ti"),
    ] {
        root.apply(&claim("c", mode, "carob-loop", size))
            .fails(3, text);
    }
    // What a filesystem without so large files does, this limit does too.
    root.apply(&claim("c", "Block", "''", "4Mi")).ok();
    root.apply(&with_device("p", "c", false)).ok();
    root.carob(&["delete", "pod", "p"]).ok();
    let limited = format!(
        "ulimit -f 8192; {} --root {} apply -f -",
        env!("CARGO_BIN_EXE_carob"),
        root.dir().display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; {limited}")]);
    let grown = root.feed_to(shell, &claim("c", "Block", "''", "64Mi"));
    assert!(grown.stderr.contains("has 4Mi"), "{grown:?}");
    root.apply(&with_device("p", "c", false)).ok();
    assert_eq!(root.sh("p", "wc -c < /dev/disk").trim(), "67108864");
}

#[test]
fn a_claim_grows_and_does_not_shrink() {
    let root = Root::new();
    let size = |mode: &str, size: &str| claim("c", mode, "carob-loop", size);
    let capacity = || {
        root.carob(&[
            "get",
            "pvc",
            "c",
            "-o",
            "jsonpath={.status.capacity.storage}",
        ])
    };
    root.apply(&size("Block", "4Mi")).ok();
    root.apply(&with_device("p", "c", false)).ok();
    root.apply(&size("Block", "6Mi")).ok();
    assert_eq!(root.sh("p", "wc -c < /dev/disk").trim(), "6291456");
    assert_eq!(capacity().ok(), "6Mi");
    let less = root.apply(&size("Block", "4Mi"));
    let text = "spec.resources.requests.storage: Forbidden: field can not be less than \
                status.capacity";
    assert!(less.stderr.contains(text), "{less:?}");
    let other = root.apply(&size("Filesystem", "6Mi"));
    assert!(other.stderr.contains("spec is immutable"), "{other:?}");
    root.carob(&["delete", "pod", "p"]).ok();
    root.carob(&["delete", "pvc", "c"]).ok();

    // One that no Pod has, and one that a Pod has: that is enlarged while it is mounted, or
    // where this program may not do that, with the next Pod.
    root.apply(&size("Filesystem", "8Mi")).ok();
    root.apply(&size("Filesystem", "12Mi")).ok();
    assert_eq!(capacity().ok(), "12Mi");
    root.apply(&with_mount("p", "c")).ok();
    root.sh("p", "echo kept > /v/file");
    let patch = r#"{"spec": {"resources": {"requests": {"storage": "32Mi"}}}}"#;
    let patched = root.carob(&["patch", "pvc", "c", "-p", patch]);
    let shown = capacity().ok();
    match patched.stderr.contains("CAP_SYS_RESOURCE") {
        true => assert_eq!(shown, "12Mi"),
        false => assert_eq!(shown, "32Mi", "{patched:?}"),
    }
    root.carob(&["delete", "pod", "p"]).ok();
    no_device_is_left(&root);
    root.apply(&with_mount("q", "c")).ok();
    assert_eq!(capacity().ok(), "32Mi");
    root.sh("q", "dd if=/dev/zero of=/v/big bs=1M count=20");
    assert_eq!(root.sh("q", "cat /v/file"), "kept\n");
    root.carob(&["delete", "pod", "q"]).ok();
    no_device_is_left(&root);
    root.apply(&size("Filesystem", "48Mi")).ok();
    assert_eq!(capacity().ok(), "48Mi");
}

#[test]
fn a_claim_is_what_it_is() {
    let root = Root::new();
    root.apply(&claim("disk", "Block", "''", "4Mi")).ok();
    root.apply(&claim("data", "Filesystem", "carob-loop", "8Mi"))
        .ok();
    for (pod, text) in [
        (
            with_mount("p", "disk"),
            "volume v has volumeMode Block, but is specified in volumeMounts",
        ),
        (
            with_device("q", "data", false),
            "volume v has volumeMode Filesystem, but is specified in volumeDevices",
        ),
    ] {
        let ran = root.apply(&pod);
        assert!(ran.code != 0 && ran.stderr.contains(text), "{ran:?}");
    }
    why_says(&root, "p", "volumeMode Block");
    assert_eq!(devices(&root), [""; 0]);
    // A Pod that gets another of its claims not gives back the one that it has got.
    let mut both: Value = serde_json::from_str(&with_mount("r", "data")).unwrap();
    let second = json!({"name": "w", "persistentVolumeClaim": {"claimName": "absent"}});
    both["spec"]["volumes"].as_array_mut().unwrap().push(second);
    root.feed(&["apply", "--wait=false", "-f", "-"], &both.to_string())
        .ok();
    why_says(&root, "r", "\"absent\" not found");
    no_device_is_left(&root);
}

#[test]
fn ephemeral_claims_of_both_kinds() {
    let root = Root::new();
    let template = |mode: &str| {
        json!({"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
            "volumeMode": mode, "storageClassName": "carob-loop",
            "resources": {"requests": {"storage": "8Mi"}}}}})
    };
    let spec = json!({"terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "b", "ephemeral": template("Block")},
            {"name": "f", "ephemeral": template("Filesystem")}],
        "containers": [sh("main", IDLE, json!({
            "volumeDevices": [{"name": "b", "devicePath": "/disks/b"}],
            "volumeMounts": [{"name": "f", "mountPath": "/f"}]}))]});
    root.apply(&pod("p", spec)).ok();
    root.sh("p", "cat /disks/b > /f/copy || true; stat -c %F /disks/b");
    assert_eq!(devices(&root).len(), 3);
    root.carob(&["delete", "pod", "p"]).ok();
    no_device_is_left(&root);
    root.carob(&["get", "pvc", "p-b"]).fails(4, "not found");
}

/// What nobody knows any more is found in the kernel.
#[test]
fn a_root_that_is_no_more_leaves_no_device() {
    let _alone = crate::abandoned::alone();
    let root = Root::new();
    root.apply(&claim("disk", "Block", "''", "4Mi")).ok();
    root.apply(&claim("data", "Filesystem", "carob-loop", "8Mi"))
        .ok();
    root.apply(&with_device("p", "disk", false)).ok();
    root.apply(&with_mount("q", "data")).ok();
    root.sh("q", "echo kept > /v/file");
    let monitors = ["p", "q"].map(|name| root.monitor_pid(name));
    let pids = ["p", "q"].map(|name| root.pid(name, "main"));
    monitors.into_iter().for_each(kill_9);
    // It complains of the places where something is mounted.
    let _ = std::process::Command::new("rm")
        .arg("-rf")
        .arg(root.dir().join("run"))
        .output()
        .unwrap();
    assert_eq!(devices(&root).len(), 3);
    root.carob(&["system", "prune"]).ok();
    assert!(!pids.into_iter().any(crate::root::alive));
    no_device_is_left(&root);
    // The claim is no part of the state.
    root.apply(&with_mount("r", "data")).ok();
    assert_eq!(root.sh("r", "cat /v/file"), "kept\n");
    root.carob(&["delete", "pod", "r"]).ok();
    // The logs and the like of Pods of which nothing is known wait for the next boot.
    for dir in ["data/pods", "log"] {
        std::fs::remove_dir_all(root.dir().join(dir)).unwrap();
    }
}
