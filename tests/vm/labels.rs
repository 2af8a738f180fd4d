//! Labels of processes and mounts where the kernel has SELinux or AppArmor, one at
//! a time. `labels.sh` does the checks there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Work, archive, copy, in_path, place_busybox, run, strip};

pub(crate) const SELINUX: &str = "lsm=selinux selinux=1 enforcing=0";
pub(crate) const APPARMOR: &str = "lsm=apparmor apparmor=1";

fn config(change: impl FnOnce(&mut Value)) -> String {
    let kinds = ["pid", "mount", "ipc", "uts", "network", "cgroup"];
    let mount = |target: &str, kind: &str| json!({"destination": target, "type": kind});
    let mut config = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {
            "args": ["/bin/sleep", "1000"],
            "cwd": "/",
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        },
        "mounts": [
            mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/dev/pts", "devpts"),
            mount("/dev/mqueue", "mqueue"), mount("/tmp", "tmpfs"),
        ],
        "linux": {"namespaces": kinds.map(|k| json!({"type": k}))},
    });
    change(&mut config);
    config.to_string()
}

/// `system` is "selinux" or "apparmor".
pub(crate) fn initramfs(work: &Work, system: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    let tree = work.0.join("tree");
    for dir in ["bin", "labels", "bundle/rootfs/bin", "bundle/rootfs/proc"] {
        std::fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for bin in ["bin", "bundle/rootfs/bin"] {
        place_busybox(&tree.join(bin));
    }
    for applet in ["sleep", "cat", "grep"] {
        let link = tree.join("bundle/rootfs/bin").join(applet);
        std::os::unix::fs::symlink("busybox", link).unwrap();
    }
    strip(env!("CARGO_BIN_EXE_carob-oci"), &tree.join("bin/carob-oci"));
    copy(&here.join("labels.sh"), &tree.join("init"));
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tree.join("init"), executable).unwrap();

    let (right, wrong) = match system {
        "selinux" => (
            config(|c| {
                c["process"]["selinuxLabel"] = "system_u:system_r:box_t".into();
                c["linux"]["mountLabel"] = "system_u:object_r:box_mount_t".into();
            }),
            config(|c| c["process"]["selinuxLabel"] = "system_u:system_r:nobody_t".into()),
        ),
        _ => (
            config(|c| {
                c["process"]["apparmorProfile"] = "carob-box".into();
                c["process"]["noNewPrivileges"] = true.into();
            }),
            config(|c| c["process"]["apparmorProfile"] = "nobody".into()),
        ),
    };
    std::fs::write(tree.join(format!("labels/{system}.json")), right).unwrap();
    std::fs::write(tree.join("labels/wrong.json"), wrong).unwrap();
    let policy = tree.join(format!("labels/{system}.policy"));
    let source = here.join(format!("{system}.conf"));
    match system {
        "selinux" => run(Command::new(in_path("checkpolicy"))
            .args(["-U", "allow", "-c", "33", "-o"])
            .args([&policy, &source])),
        _ => run(Command::new(in_path("apparmor_parser"))
            .args(["--skip-kernel-load", "--skip-cache", "--ofile"])
            .args([&policy, &source])),
    }
    archive(&tree, &work.0.join("initramfs"))
}
