//! What attackers did to other runtimes, done to this one: hostile images,
//! hostile processes inside, hostile volumes, hostile text.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fds;
use crate::root::{IMAGE, Root, images, pod_text, script_pod, until};

/// An image of the demo's layer with one more above it, which `script` makes in
/// an empty directory. `config` goes over the image's own.
pub(crate) fn evil_image(root: &Root, name: &str, script: &str, config: Value) -> String {
    let dir = root.dir().join(format!("image-{name}"));
    let (oci, tree) = (dir.join("oci"), dir.join("tree"));
    let blobs = oci.join("blobs/sha256");
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(&oci).unwrap();
    run(
        "tar",
        &[
            "-xf",
            &text(&images().join("busybox.tar")),
            "-C",
            &text(&oci),
        ],
    );
    run("sh", &["-ec", &format!("cd {}\n{script}", tree.display())]);
    let read = |digest: &Value| -> Value {
        let digest = digest["digest"].as_str().unwrap();
        let path = blobs.join(digest.strip_prefix("sha256:").unwrap());
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let put = |bytes: &[u8]| -> Value {
        let digest = hex(bytes);
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let mut index: Value =
        serde_json::from_slice(&fs::read(oci.join("index.json")).unwrap()).unwrap();
    let mut manifest = read(&index["manifests"][0]);
    let mut image = read(&manifest["config"]);
    let layer = dir.join("layer.tar");
    run(
        "tar",
        &[
            "-C",
            &text(&tree),
            "--numeric-owner",
            "-cf",
            &text(&layer),
            ".",
        ],
    );
    let layer = fs::read(layer).unwrap();
    let mut descriptor = put(&layer);
    descriptor["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let list = |v: &mut Value, item: Value| v.as_array_mut().unwrap().push(item);
    list(
        &mut image["rootfs"]["diff_ids"],
        descriptor["digest"].clone(),
    );
    list(&mut manifest["layers"], descriptor);
    for (key, value) in config.as_object().unwrap() {
        image["config"][key] = value.clone();
    }
    let config = put(image.to_string().as_bytes());
    manifest["config"]["digest"] = config["digest"].clone();
    manifest["config"]["size"] = config["size"].clone();
    let made = put(manifest.to_string().as_bytes());
    let reference = format!("localhost/evil/{name}:1");
    let entry = &mut index["manifests"][0];
    entry["digest"] = made["digest"].clone();
    entry["size"] = made["size"].clone();
    for (_, value) in entry["annotations"].as_object_mut().unwrap() {
        *value = reference.clone().into();
    }
    fs::write(oci.join("index.json"), index.to_string()).unwrap();
    let archive = dir.join("image.tar");
    run(
        "tar",
        &[
            "-C",
            &text(&oci),
            "-cf",
            &text(&archive),
            "oci-layout",
            "index.json",
            "blobs",
        ],
    );
    root.carob(&["load", "-i", &text(&archive)]).ok();
    reference
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What of the host an escape would most likely touch: contents, modes, owners.
fn host() -> Vec<String> {
    let mut seen: Vec<String> = [
        "/etc/passwd",
        "/etc/group",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
    ]
    .iter()
    .map(|p| format!("{p} {}", hex(&fs::read(p).unwrap_or_default())))
    .collect();
    for p in [
        "/",
        "/etc",
        "/etc/passwd",
        "/dev",
        "/dev/null",
        "/dev/zero",
        "/dev/console",
        "/dev/ptmx",
        "/dev/pts",
        "/dev/shm",
        "/proc",
        "/sys",
        "/root",
        "/var",
        "/usr",
    ] {
        let Ok(m) = fs::symlink_metadata(p) else {
            continue;
        };
        seen.push(format!(
            "{p} {:o} {} {} {} {}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.ino(),
            m.rdev()
        ));
    }
    for p in [
        "kernel/core_pattern",
        "kernel/hostname",
        "kernel/shmmax",
        "net/ipv4/ip_forward",
    ] {
        let p = format!("/proc/sys/{p}");
        seen.push(format!(
            "{p} {}",
            fs::read_to_string(&p).unwrap_or_default()
        ));
    }
    seen
}

const MAIN: &str = "  containers:\n  - name: main\n";

/// Applies it and waits for its one container's end or its refusal, whichever;
/// says the phase, the message and the log.
fn outcome(root: &Root, name: &str, manifest: &str) -> (String, String, String) {
    let applied = root.apply(manifest);
    assert!(applied.stdout.contains("created"), "{applied:?}");
    let state = ".status.containerStatuses[0].state";
    let end = until(|| {
        let phase = root.field(name, ".status.phase");
        let message = root.field(name, &format!("{state}.waiting.message"));
        if phase == "Succeeded" || phase == "Failed" || !message.is_empty() {
            let ended = root.field(name, &format!("{state}.terminated.message"));
            return Ok((phase, format!("{message}{ended}")));
        }
        Err(phase)
    });
    let (phase, message) = end.unwrap_or_else(|phase| panic!("{name} stays {phase}"));
    let log = root.carob(&["logs", name]).stdout;
    let gone = root.carob(&["delete", "pod", name, "--grace-period=0", "--force"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    (phase, message, log)
}

/// T1. Every path that the runtime touches, as an image would have it.
#[test]
fn hostile_root_filesystems_touch_nothing_outside() {
    let root = Root::new();
    let canary = root.dir().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "untouched").unwrap();
    let c = canary.display();
    let up = "../../../../../../../../../../../..";
    // What the layer does, and whether the container may still run (it then says
    // `alive`); else there must be a clear refusal.
    let cases: Vec<(&str, String, Option<bool>)> = vec![
        ("proc-abs", format!("ln -s {c} proc"), Some(false)),
        ("proc-up", format!("ln -s {up}{c} proc"), Some(false)),
        ("proc-file", "echo x > proc".into(), Some(false)),
        ("proc-dangling", "ln -s /none proc".into(), Some(false)),
        ("sys-abs", format!("ln -s {c} sys"), Some(false)),
        ("sys-fifo", "mkfifo sys".into(), Some(false)),
        ("dev-abs", format!("ln -s {c} dev"), Some(false)),
        ("dev-up", format!("ln -s {up}{c} dev"), Some(false)),
        ("dev-inside", format!("mkdir dev; ln -s {c} dev/pts; ln -s {c} dev/shm; ln -s {c}/file dev/null; ln -s {c}/file dev/console; ln -s {c} dev/ptmx; mkfifo dev/tty"), Some(true)),
        ("etc-abs", format!("ln -s {c} etc"), None),
        ("etc-up", format!("ln -s {up}{c} etc"), None),
        ("etc-fifo", "mkfifo etc".into(), None),
        ("hosts-abs", format!("mkdir etc; ln -s {c}/file etc/hosts; ln -s {up}{c}/file etc/resolv.conf; ln -s {c}/none etc/hostname"), None),
        ("hosts-loop", "mkdir etc; ln -s hosts etc/hosts".into(), None),
        ("hosts-fifo", "mkdir etc; mkfifo etc/hosts; mknod etc/hostname c 1 3".into(), None),
        ("hosts-dir", "mkdir -p etc/hosts".into(), Some(false)),
        ("hosts-proc", "mkdir etc; ln -s /proc/self/environ etc/hosts; ln -s /proc/sysrq-trigger etc/resolv.conf".into(), None),
        ("passwd-fifo", "mkdir etc; mkfifo etc/passwd etc/group".into(), Some(true)),
        ("passwd-zero", "mkdir etc; mknod etc/passwd c 1 5; mknod etc/group c 1 8".into(), None),
        ("passwd-fd", "mkdir etc; ln -s /proc/self/fd/0 etc/passwd; ln -s /proc/1/environ etc/group".into(), Some(true)),
        ("passwd-host", format!("mkdir etc; ln -s {c}/file etc/passwd; ln -s {up}{c}/file etc/group"), Some(true)),
        ("passwd-huge", "mkdir etc; truncate -s 2M etc/group etc/passwd".into(), Some(false)),
        ("shell-fifo", "mkdir bin; mkfifo bin/busybox".into(), Some(false)),
        ("target-abs", format!("ln -s {c} data; ln -s {up}{c} more"), Some(true)),
        ("target-fifo", "mkfifo data".into(), Some(false)),
        ("termination", format!("ln -s {c}/file termlog"), None),
        ("cwd-abs", format!("ln -s {c}/made work"), None),
        ("cwd-fifo", "mkfifo work".into(), Some(false)),
    ];
    let before = host();
    for (name, script, runs) in cases {
        // What an overlay merges or replaces is decided by the topmost layer.
        let image = evil_image(
            &root,
            name,
            &script,
            json!({"WorkingDir": if name.starts_with("cwd") { "/work" } else { "/" }}),
        );
        let log = if name == "termination" {
            "    terminationMessagePath: /termlog\n"
        } else {
            ""
        };
        let rest = format!(
            "  volumes:\n  - {{name: v, emptyDir: {{}}}}\n  - {{name: w, emptyDir: {{}}}}\n{MAIN}    tty: {}\n{log}    volumeMounts:\n    \
             - {{name: v, mountPath: /data}}\n    - {{name: w, mountPath: /more/deep/er}}\n",
            name.starts_with("dev")
        );
        // A dangling link's target is made inside: it may exist there, yet not be ours.
        let script = format!(
            "echo evil > /data/x; echo evil > /termlog; echo evil > /dev/termination-log; ! grep -qs untouched {c}/file || echo ESCAPE; echo alive"
        );
        let (phase, message, log) = outcome(&root, name, &pod_text(name, &image, &rest, &script));
        let alive = log.contains("alive");
        assert!(!log.contains("ESCAPE"), "{name}: {log}");
        assert!(alive || !message.is_empty(), "{name}: {phase}, no word why");
        if let Some(want) = runs {
            assert_eq!(alive, want, "{name}: {phase}: {message}\n{log}");
        }
        eprintln!("{name}: {phase} alive={alive} {message}");
        let names: Vec<_> = fs::read_dir(&canary)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"], "{name}");
        assert_eq!(
            fs::read_to_string(canary.join("file")).unwrap(),
            "untouched",
            "{name}"
        );
    }
    assert_eq!(host(), before);
}

/// What stands for the host's files in a container is not the host's to change:
/// its stdin, what covers a masked path.
#[test]
fn the_hosts_null_device_cannot_be_changed_from_inside() {
    let root = Root::new();
    let before = host();
    let attack = "for f in /proc/self/fd/0 /proc/kcore /proc/keys /proc/timer_list; do \
                  chmod 667 $f; chown 7:7 $f; done 2>/dev/null; true";
    let script = format!("{attack}\necho tried\nexec sleep 1000");
    root.apply(&script_pod("dev-null", "Never", 0, &script))
        .ok();
    root.says("dev-null", "main", "tried");
    let by_init = host();
    root.carob(&["exec", "dev-null", "--", "sh", "-c", attack])
        .ok();
    let after = host();
    // Whatever was found, the machine needs its null device.
    fs::set_permissions("/dev/null", fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::chown("/dev/null", Some(0), Some(0)).unwrap();
    assert_eq!(by_init, before, "by init");
    assert_eq!(after, before, "by exec");
    assert!(
        fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

/// T2. A neighbour swaps a directory for a link on a shared volume all the while.
#[test]
fn a_swapped_sub_path_never_leads_to_the_host() {
    let root = Root::new();
    let secret = root.dir().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("flag"), "host").unwrap();
    let s = secret.display();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: race}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 0\n  volumes:\n  - {{name: v, emptyDir: {{}}}}\n  containers:\n  \
         - name: swapper\n    image: {IMAGE}\n    command: [sh, -c]\n    args:\n    - |\n      cd /v; mkdir good; echo ok > good/flag; ln -s ../../../../../../../../../..{s} up; ln -s {s} abs\n      \
         while :; do mv -T good sub; mv -T sub good; mv -T up sub; mv -T sub up; mv -T abs sub; mv -T sub abs; done\n    \
         volumeMounts: [{{name: v, mountPath: /v}}]\n  \
         - name: victim\n    image: {IMAGE}\n    restartPolicy: Always\n    command: [sleep, '1000']\n    \
         volumeMounts: [{{name: v, mountPath: /v}}]\n"
    )
    .replace("    restartPolicy: Always\n", "");
    root.apply(&manifest).ok();
    let volume = root
        .dir()
        .join("data/pods")
        .join(root.field("race", ".metadata.uid"))
        .join("volumes/v");
    let one = |i: u32| {
        let name = format!("victim{i}");
        let rest = format!(
            "  volumes:\n  - {{name: h, hostPath: {{path: {}}}}}\n{MAIN}    volumeMounts:\n    \
             - {{name: h, mountPath: /x, subPath: sub}}\n    - {{name: h, mountPath: /y, subPath: sub/deeper/still}}\n",
            volume.display()
        );
        let (_, _, log) = outcome(
            &root,
            &name,
            &pod_text(&name, IMAGE, &rest, "cat /x/flag; ls /x /y"),
        );
        assert!(!log.contains("host"), "{log}");
    };
    (0..50).for_each(one);
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
}

/// T3, T4, T6, T7, T11: what a process inside has and sees.
#[test]
fn a_process_inside_has_nothing_of_the_runtime() {
    let root = Root::new();
    let rest = "  containers:\n  - name: main\n    lifecycle:\n      postStart:\n        exec: {command: [sh, -c, '(look) > /hook 2>&1']}\n".replace("look", LOOK);
    root.apply(&pod_text(
        "look",
        IMAGE,
        &rest,
        &format!("({LOOK}) > /init 2>&1; exec sleep 1000"),
    ))
    .ok();
    let run = |what: &str| root.carob(&["exec", "look", "--", "sh", "-c", what]).ok();
    let exec = run(LOOK);
    run("until grep -q exe /init && grep -q exe /hook; do sleep 0.05; done");
    for (who, seen) in [
        ("init", run("cat /init")),
        ("hook", run("cat /hook")),
        ("exec", exec),
    ] {
        assert!(seen.contains("fds 0 1 2 \n"), "{who}: {seen}");
        assert!(seen.contains("cwd /\n"), "{who}: {seen}");
        assert!(seen.contains("CapInh:\t0000000000000000"), "{who}: {seen}");
        assert!(seen.contains("CapAmb:\t0000000000000000"), "{who}: {seen}");
        assert!(seen.contains("CapEff:\t00000000a80425fb"), "{who}: {seen}");
        assert!(!seen.contains("CAROB"), "{who}: {seen}");
        assert!(!seen.contains("exe -> /tmp"), "{who}: {seen}");
        for line in seen.lines().filter(|l| l.starts_with("cg ")) {
            assert!(line.ends_with(":/"), "{who}: {line}");
        }
    }
    // Nothing of the cgroup tree can be written to, nor more of it seen.
    let seen = run(
        "find /sys/fs/cgroup -name 'pod*' -o -name carob\\* -o -name '*.slice'; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/evil 2>/dev/null && echo MADE $d; done; for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs); do echo 0 2>/dev/null > $f && echo WROTE $f; done; echo done",
    );
    assert_eq!(seen, "done\n");
    // No abstract socket, and the monitor's is not in any mount.
    assert!(!run("cat /proc/net/unix").contains('@'));
    assert_eq!(
        run("find / -xdev -name '*.sock' 2>/dev/null; echo done"),
        "done\n"
    );
    // T11: what is on the host is root's.
    let uid = root.field("look", ".metadata.uid");
    let dir = root.dir().join("run/pods").join(&uid);
    for (path, mode) in [
        (dir.clone(), 0o700),
        (dir.join("monitor.sock"), 0o600),
        (root.dir().join("data/pods").join(&uid), 0o700),
    ] {
        let m = fs::metadata(&path).unwrap().mode() & 0o7777;
        assert!(
            m & !mode == 0 || path.ends_with("monitor.sock"),
            "{}: {m:o}",
            path.display()
        );
    }
    // Only who passes every directory on the way can reach the socket.
    assert_eq!(
        fs::metadata(root.dir().join("run/pods")).unwrap().mode() & 0o077,
        0
    );
    let logs = root
        .dir()
        .join("log")
        .join(format!("default_look_{uid}"))
        .join("main/0.log");
    assert_eq!(fs::metadata(logs).unwrap().mode() & 0o137, 0);
}

const LOOK: &str = "echo fds $(ls /proc/self/fd | grep -v ^3$ | tr \"\\n\" \" \") \"\"; echo cwd $(pwd -P); ls -l /proc/self/fd /proc/1/fd; tr \"\\0\" \"\\n\" < /proc/1/environ; grep Cap /proc/self/status; sed \"s/^/cg /\" /proc/self/cgroup; ls -l /proc/1/exe";

/// The numbers that the fds of a Pod's monitor, its container's first process and an
/// exec have had, as strace sees them.
fn fd_numbers(root: &Root) -> std::ops::RangeInclusive<u32> {
    let trace = root.dir().join("trace");
    let rest = format!("{MAIN}    workingDir: /work\n");
    let manifest = root.dir().join("traced.yaml");
    fs::write(
        &manifest,
        pod_text("traced", IMAGE, &rest, "exec sleep 1000"),
    )
    .unwrap();
    let carob = root.command(&[]);
    // strace ends with the monitor, which it follows.
    let mut strace = fds::traced(&trace, carob.get_program())
        .args(carob.get_args())
        .args(["apply", "-f"])
        .arg(&manifest)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("strace: `hack/setup test` installs it");
    // The Pod may not be there yet, which is an error of `get`.
    let phase = ["get", "pod", "traced", "-o", "jsonpath={.status.phase}"];
    let runs = until(|| {
        let ran = root.carob(&phase);
        if ran.stdout == "Running" {
            Ok(())
        } else {
            Err(ran)
        }
    });
    runs.unwrap_or_else(|ran| panic!("the traced Pod does not run: {ran:?}"));
    root.carob(&["exec", "traced", "--", "true"]).ok();
    root.carob(&["delete", "pod", "traced"]).ok();
    strace.wait().unwrap();
    fds::numbers(&trace)
}

/// T3. No working directory and no link leads out through an fd of the runtime.
#[test]
fn a_working_directory_is_never_an_fd_of_the_runtime() {
    let root = Root::new();
    let numbers = fd_numbers(&root);
    let look = "test ! -e /proc/self/cwd/../../../../../../etc/debian_version || echo ESCAPE; \
                case $(readlink /proc/self/cwd) in /*) ;; *) echo ESCAPE;; esac; ls /proc/self/cwd/../../../..";
    for n in numbers.clone() {
        let name = format!("cwd{n}");
        let rest = format!("{MAIN}    workingDir: /proc/self/fd/{n}\n");
        let (_, message, log) = outcome(&root, &name, &pod_text(&name, IMAGE, &rest, look));
        assert!(
            !log.contains("ESCAPE") && !log.contains("boot"),
            "{n}: {message} {log}"
        );
    }
    // By a link that the container makes before somebody execs into it.
    let rest = format!("{MAIN}    workingDir: /work\n");
    root.apply(&pod_text("exec", IMAGE, &rest, "exec sleep 1000"))
        .ok();
    let pid = root.pid("exec", "main");
    for n in numbers {
        let inside = PathBuf::from(format!("/proc/{pid}/root/work"));
        let _ = fs::remove_file(&inside).or_else(|_| fs::remove_dir(&inside));
        std::os::unix::fs::symlink(format!("/proc/self/fd/{n}"), &inside).unwrap();
        let ran = root.carob(&["exec", "exec", "--", "sh", "-c", look]);
        assert!(
            !ran.stdout.contains("ESCAPE") && !ran.stdout.contains("boot"),
            "{n}: {ran:?}"
        );
    }
}

/// T4. The runtime's program cannot be written to, by whatever name.
#[test]
fn the_program_of_the_runtime_cannot_be_overwritten() {
    let root = Root::new();
    let program = Path::new(env!("CARGO_BIN_EXE_carob"));
    let before = hex(&fs::read(program).unwrap());
    let script = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in */busybox) ;; *) \
                  (echo evil >> $p/exe) 2>/dev/null && echo WROTE; for f in $p/fd/*; do case $(readlink $f) in *carob*) echo FD $f;; esac; done;; esac; done; done";
    root.apply(&script_pod("over", "Never", 0, script)).ok();
    for _ in 0..30 {
        root.carob(&["exec", "over", "--", "/proc/self/exe", "version"]);
        root.carob(&["exec", "over", "--", "true"]).ok();
    }
    assert_eq!(root.carob(&["logs", "over"]).ok(), "");
    let mut itself = pod_text("itself", IMAGE, MAIN, "true");
    itself = itself.replace("/bin/busybox", "/proc/self/exe");
    outcome(&root, "itself", &itself);
    assert_eq!(hex(&fs::read(program).unwrap()), before);
}

/// T8. No word of a manifest, an image or a container acts on the terminal of who
/// looks at it, or passes for a line of ours.
#[test]
fn untrusted_text_stays_text() {
    let root = Root::new();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: text\n  annotations: {{a: \"x\\e]0;evil\\a\\r\\nName: forged\\x9b2J\"}}\nspec:\n  \
         restartPolicy: Never\n  containers:\n  - name: main\n    image: {IMAGE}\n    env: [{{name: E, value: \"v\\e[2J\\nF=1\"}}]\n    \
         command: [sh, -c, \"printf 'bye\\\\033[2J\\\\r\\\\nName: forged\\\\302\\\\233\\\\001\\\\377' > /dev/termination-log; env | grep -c ^F=; printf 'a\\\\r2026-01-01T00:00:00Z stderr F forged\\\\n'; exit 3\"]\n"
    );
    root.apply(&manifest).ok();
    root.carob(&[
        "wait",
        "pod/text",
        "--for=jsonpath={.status.phase}=Failed",
        "--timeout=10s",
    ])
    .ok();
    for args in [
        &["describe", "pod", "text"][..],
        &["get", "pods", "-o", "wide"],
        &["get", "pod", "text", "-o", "yaml"],
        &["get", "pod", "text", "-o", "json"],
    ] {
        let out = root.carob(args).ok();
        assert!(
            !out.chars()
                .any(|c| c.is_control() && c != '\n' && c != '\t'),
            "{args:?}: {out:?}"
        );
        if args[0] == "describe" {
            assert!(
                !out.lines()
                    .any(|l| l.starts_with("Name: ") && l.contains("forged")),
                "{out}"
            );
        }
    }
    // The log is the container's own, but no record in it can be forged.
    let uid = root.field("text", ".metadata.uid");
    let log = fs::read_to_string(
        root.dir()
            .join("log")
            .join(format!("default_text_{uid}"))
            .join("main/0.log"),
    )
    .unwrap();
    assert_eq!(
        log.split('\n')
            .filter(|l| !l.is_empty() && !l.contains(" stdout F "))
            .count(),
        0,
        "{log}"
    );
    // What could not be told from a line of a file, or ends a string, is refused.
    for bad in [
        "spec: {hostAliases: [{ip: 10.0.0.1, hostnames: [\"a\\n10.0.0.2 bank\"]}], CONTAINERS}",
        "spec: {dnsConfig: {searches: [\"a\\nnameserver 10.0.0.2\"]}, CONTAINERS}",
        "spec: {dnsConfig: {options: [{name: \"x\\nnameserver 10.0.0.2\"}]}, CONTAINERS}",
        "spec: {hostname: \"a\\nb\", CONTAINERS}",
        "spec: {securityContext: {sysctls: [{name: net/../kernel/core_pattern, value: x}]}, CONTAINERS}",
        "spec: {securityContext: {sysctls: [{name: kernel.core_pattern, value: x}]}, CONTAINERS}",
        "spec: {securityContext: {runAsUser: -1}, CONTAINERS}",
        "spec: {securityContext: {runAsUser: 4294967295}, CONTAINERS}",
        "spec: {securityContext: {runAsUser: 4294967296}, CONTAINERS}",
        "spec: {securityContext: {runAsGroup: 2147483648}, CONTAINERS}",
        "spec: {securityContext: {supplementalGroups: [-1]}, CONTAINERS}",
        "spec: {securityContext: {fsGroup: 4294967295}, CONTAINERS}",
    ] {
        let spec = bad.replace(
            "CONTAINERS",
            &format!("containers: [{{name: c, image: '{IMAGE}'}}]"),
        );
        let ran = root.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: bad}}\n{spec}\n"
        ));
        // 3: invalid; 9: not supported, said by name.
        assert!(matches!(ran.code, 3 | 9), "{bad}: {ran:?}");
    }
}

/// T5, T9, T14: where sysctls land, who a container runs as, what its network may.
#[test]
fn numbers_and_sysctls_mean_what_they_say() {
    let root = Root::new();
    let before = host();
    for user in [
        "4294967296",
        "-1",
        "4294967295",
        "0:4294967295",
        "minus",
        "root\n",
    ] {
        let name = format!("user{}", hex(user.as_bytes()).split_at(6).0);
        let image = evil_image(
            &root,
            &name,
            "mkdir etc; echo minus:x:4294967295:4294967295::/: > etc/passwd",
            json!({"User": user}),
        );
        let (phase, message, log) = outcome(&root, &name, &pod_text(&name, &image, MAIN, "id"));
        assert!(
            log.is_empty() && !message.is_empty(),
            "{user:?}: {phase} {message} {log}"
        );
    }
    let group = evil_image(
        &root,
        "group",
        "mkdir etc; echo a:x:1999:4294967295::/: > etc/passwd; echo b:x:4294967295:a > etc/group",
        json!({}),
    );
    let rest = "  securityContext: {runAsUser: 1999, sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '7'}]}\n".to_owned() + MAIN;
    let look = "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb)' /proc/self/status; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/net/ipv4/conf/*/route_localnet";
    let (_, message, log) = outcome(&root, "group", &pod_text("group", &group, &rest, look));
    let words: Vec<&str> = log.split_whitespace().collect();
    assert!(
        log.contains("Uid:\t1999\t1999\t1999\t1999\n"),
        "{message}{log}"
    );
    assert_eq!(
        words.iter().filter(|w| **w == "0000000000000000").count(),
        4,
        "{log}"
    );
    assert!(
        log.contains("\n7\n") && !log.lines().any(|l| l == "1"),
        "{log}"
    );
    assert_eq!(host(), before);
    assert_ne!(
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(),
        "7\n"
    );
    let localnet = run(
        "sh",
        &[
            "-c",
            "cat /proc/sys/net/ipv4/conf/cb*/route_localnet || true",
        ],
    );
    assert!(!localnet.contains('1'), "{localnet}");
}

/// T12. USER, WORKDIR and VOLUME of an image are text like all of it.
#[test]
fn an_image_s_user_directory_and_volumes_stay_inside() {
    let root = Root::new();
    let canary = root.dir().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "of the host").unwrap();
    let look = || {
        let of = |p: &Path| {
            let m = fs::symlink_metadata(p).unwrap();
            (m.mode(), m.uid(), m.nlink(), m.mtime(), m.ctime_nsec())
        };
        // Forwarding comes and goes with the Pods of all tests.
        let host = host().into_iter().filter(|l| !l.contains("ip_forward"));
        let host: Vec<String> = host.collect();
        (of(&canary), of(&canary.join("secret")), host)
    };
    let before = look();
    let up = format!("/..{}{}", "/..".repeat(12), canary.display());
    let make = "mkdir -p etc; ln -s / slash; echo 'evil:x:0:0::/:/bin/sh' >etc/passwd";
    let link = format!("{make}; ln -s {up} out");
    let script = "id -u; pwd; ls; ls /; cat secret";
    let run = |name: &str, config: Value| {
        let image = evil_image(&root, name, &link, config);
        outcome(&root, name, &pod_text(name, &image, MAIN, script))
    };
    // Directories: made or found in the rootfs, or refused. Never the host's.
    for (name, dir) in [
        ("up", up.as_str()),
        ("relative", &up[1..]),
        ("link", "/out"),
        ("slash", "/slash/../../out/."),
        ("proc", "/proc/self/cwd/../../.."),
        ("long", &"/d".repeat(3000)),
    ] {
        let (phase, message, log) = run(name, json!({"WorkingDir": dir}));
        assert!(
            !log.contains("of the host"),
            "{name}: {phase} {message} {log}"
        );
        assert_eq!(look(), before, "{name}");
    }
    // Users: whom nobody can be is nobody, not root.
    for (name, user) in [
        ("user-up", "../../etc/passwd"),
        ("user-max", "4294967295"),
        ("user-over", "4294967296"),
        ("user-minus", "-1"),
        ("user-group-over", "1:4294967296"),
        ("user-group-up", "1:../../etc/group"),
        ("user-nobody-knows", "someone"),
        ("user-space", " 0"),
        ("user-newline", "1\n0"),
    ] {
        let (phase, message, log) = run(name, json!({"User": user}));
        assert_ne!(phase, "Succeeded", "{name}: {log}");
        assert!(log.is_empty(), "{name}: {log}");
        assert!(!message.is_empty(), "{name}: {phase}");
        assert_eq!(look(), before, "{name}");
    }
    let volumes =
        json!({"Volumes": {&up: {}, &up[1..]: {}, "/out/made": {}, "/etc/passwd": {}, "": {}}});
    let (_, message, log) = run("volumes", volumes);
    assert!(log.contains("bin"), "{message} {log}");
    assert_eq!(look(), before);
}
