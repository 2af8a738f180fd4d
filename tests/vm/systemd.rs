//! carob-oci's systemd driver, where systemd is PID 1 and cgroups are pure v2:
//! Debian's systemd in an initramfs. `systemd.sh` does the checks there.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Work, archive, copy, in_path, place_busybox, strip};

/// The applets that `systemd.sh` and units call by name.
const APPLETS: [&str; 26] = [
    "[", "cat", "cp", "cut", "date", "echo", "false", "grep", "head", "kill", "ln", "logger", "ls",
    "mkdir", "mount", "poweroff", "printf", "rm", "sed", "sh", "sleep", "sync", "tr", "touch",
    "true", "wc",
];

const UNIT: &str = "[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /checks
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
Environment=PATH=/bin:/usr/bin
";

/// What the kernel's command line says: one unit, and nothing else of a boot.
pub(crate) const COMMAND_LINE: &str =
    "systemd.unit=checks.service systemd.show_status=0 systemd.log_level=warning";

fn bundle_config() -> Value {
    let kinds = ["pid", "mount", "ipc", "uts", "network", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {
            "args": ["/bin/sleep", "1000"],
            "cwd": "/",
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        },
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "annotations": {"org.systemd.property.CollectMode": "'inactive-or-failed'"},
        "linux": {
            "cgroupsPath": "carobtest.slice:carob:box",
            "namespaces": kinds.map(|k| json!({"type": k})),
            "resources": {
                "memory": {"limit": 64 << 20},
                "cpu": {"shares": 512, "quota": 33_333, "period": 100_000, "cpus": "0"},
                "pids": {"limit": 33},
            },
        },
    })
}

/// One that waits for a file and then says that it is ready. busybox's nearest to
/// sd_notify(3) is syslog(3), which writes to whatever /dev/log is.
fn notifying_config() -> Value {
    let mut config = bundle_config();
    let script = "ln -s $NOTIFY_SOCKET /dev/log; while ! [ -e /go ]; do sleep 0.1; done; \
                  logger \"$(printf 'x\\nREADY=1')\"; sleep 1000";
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    let dev = json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"});
    config["mounts"].as_array_mut().unwrap().push(dev);
    config
}

pub(crate) fn initramfs(work: &Work) -> PathBuf {
    let tree = work.0.join("systemd");
    let make = |dir: &str| std::fs::create_dir_all(tree.join(dir)).unwrap();
    for dir in [
        "bin",
        "etc",
        "lib/systemd/system",
        "bundle/rootfs/bin",
        "bundle/rootfs/proc",
    ] {
        make(dir);
    }
    for program in ["/lib/systemd/systemd", "/usr/bin/systemctl"] {
        for file in with_libraries(Path::new(program)) {
            let to = tree.join(file.strip_prefix("/").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            copy(&file, &to);
        }
    }
    let units = Path::new("/lib/systemd/system");
    for unit in [
        "basic.target",
        "sysinit.target",
        "shutdown.target",
        "slices.target",
    ] {
        copy(
            &units.join(unit),
            &tree.join("lib/systemd/system").join(unit),
        );
    }
    let write = |path: &str, text: &str| std::fs::write(tree.join(path), text).unwrap();
    write("lib/systemd/system/checks.service", UNIT);
    write("etc/os-release", "ID=test\n");
    write("etc/machine-id", "");
    write("etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
    write("bundle/config.json", &bundle_config().to_string());
    write("bundle/notify.json", &notifying_config().to_string());
    place_busybox(&tree.join("bin"));
    place_busybox(&tree.join("bundle/rootfs/bin"));
    for applet in APPLETS.into_iter().filter(|a| *a != "sh") {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
        symlink("busybox", tree.join("bundle/rootfs/bin").join(applet)).unwrap();
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    copy(&here.join("systemd.sh"), &tree.join("checks"));
    copy(&here.join("systemd-init"), &tree.join("init"));
    strip(env!("CARGO_BIN_EXE_carob-oci"), &tree.join("bin/carob-oci"));
    archive(&tree, &work.0.join("systemd.cpio"))
}

/// The program and what ldd says that it loads, links followed.
pub(crate) fn with_libraries(program: &Path) -> Vec<PathBuf> {
    assert!(
        program.exists(),
        "no {}: {}",
        program.display(),
        super::SETUP
    );
    let output = Command::new(in_path("ldd")).arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|w| w.starts_with('/'));
    let mut all: Vec<PathBuf> = libraries.map(PathBuf::from).collect();
    all.push(program.to_owned());
    all
}
