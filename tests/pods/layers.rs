//! Pods whose image's layers are files that the kernel mounts, as Linux can from 6.12
//! on. Where it cannot, that it is said.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::root::{IMAGE, Root, images, kill_9, pod, sh};

const SLEEPS: &str = "echo ready; exec sleep 1000";

/// `None` on an older kernel, which refuses.
fn erofs_root() -> Option<Root> {
    let root = Root::on_disk();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next().unwrap().parse::<u32>().unwrap();
    if (number(), number()) < (6, 12) {
        root.carob(&["system", "layers", "erofs"])
            .fails(1, "Linux 6.12");
        return None;
    }
    root.carob(&["system", "layers", "erofs"]).ok();
    load(&root);
    Some(root)
}

fn load(root: &Root) {
    let image = images().join("busybox.tar");
    root.carob(&["load", "-i", image.to_str().unwrap()]).ok();
}

fn sleeping(name: &str) -> String {
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", SLEEPS, json!({}))],
    });
    pod(name, spec)
}

/// Where layers of this root are mounted.
fn mounted(root: &Root) -> Vec<String> {
    let below = format!("{}/run/layers/", root.dir().display());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = table.lines().filter_map(|l| l.split(' ').nth(4));
    at.filter(|at| at.starts_with(&below))
        .map(str::to_owned)
        .collect()
}

fn files(root: &Root) -> Vec<PathBuf> {
    let dir = root.dir().join("data/images/layers");
    let all = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.extension().is_some_and(|e| e == "erofs"))
        .collect()
}

#[test]
fn pods_share_what_is_mounted_and_leave_nothing() {
    let _alone = crate::abandoned::alone();
    let Some(root) = erofs_root() else { return };
    let layers = files(&root);
    assert!(!layers.is_empty() && layers.iter().all(|l| l.is_file()));
    assert_eq!(mounted(&root), [""; 0], "before there is a Pod");
    for name in ["one", "two"] {
        root.apply(&sleeping(name)).ok();
        root.says(name, "main", "ready");
    }
    assert_eq!(mounted(&root).len(), layers.len(), "once for both");
    // Written to, removed, and of one filesystem, as tar sees it.
    let script = "echo x >>/etc/passwd && tail -n1 /etc/passwd; \
                  n=$(stat -c %i /bin/busybox); touch /bin/busybox; \
                  [ $n = $(stat -c %i /bin/busybox) ] && echo same; \
                  stat -c %d / /bin /bin/busybox /bin/sh /etc/passwd | sort -u | wc -l; \
                  rm /etc/passwd; ls /etc/passwd 2>&1; echo done";
    assert_eq!(
        root.sh("one", script),
        "x\nsame\n1\nls: /etc/passwd: No such file or directory\ndone\n"
    );
    assert!(root.sh("two", "cat /etc/passwd").contains("root"));
    root.carob(&["rmi", IMAGE]).fails(5, "in use");
    root.carob(&["system", "prune", "-a"]).ok();
    root.carob(&["delete", "pod", "one"]).ok();
    assert_eq!(mounted(&root).len(), layers.len(), "the other has them");
    root.sh("two", "ls /bin/busybox");
    root.carob(&["delete", "pod", "two"]).ok();
    assert_eq!(mounted(&root), [""; 0]);
    assert!(!root.dir().join("run/layers").exists());
    root.carob(&["system", "check"]).ok();
    root.carob(&["rmi", IMAGE]).ok();
    assert_eq!(
        fs::read_dir(root.dir().join("data/images/layers"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn mounts_outlive_nobody_that_is_killed() {
    let Some(root) = erofs_root() else { return };
    for name in ["one", "two"] {
        root.apply(&sleeping(name)).ok();
        root.says(name, "main", "ready");
    }
    // Unmounted by others: the next one mounts them again.
    for at in mounted(&root) {
        nix::mount::umount2(at.as_str(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    root.sh("one", "ls /bin/busybox");
    root.apply(&sleeping("three")).ok();
    root.says("three", "main", "ready");
    assert_eq!(mounted(&root).len(), files(&root).len());
    kill_9(root.monitor_pid("one"));
    kill_9(root.monitor_pid("three"));
    for name in ["one", "two", "three"] {
        root.carob(&["delete", "pod", name]).ok();
    }
    assert_eq!(mounted(&root), [""; 0]);
}

#[test]
fn the_setting_is_for_layers_to_come() {
    let Some(root) = erofs_root() else { return };
    assert_eq!(root.carob(&["system", "layers"]).ok(), "erofs\n");
    assert_eq!(root.carob(&["system", "layers", "dir"]).ok(), "dir\n");
    let before = files(&root).len();
    load(&root);
    assert_eq!(files(&root).len(), before, "they are here");
    root.apply(&sleeping("p")).ok();
    root.says("p", "main", "ready");
    root.carob(&["delete", "pod", "p"]).ok();
    root.carob(&["rmi", IMAGE]).ok();
    load(&root);
    assert!(files(&root).is_empty());
    root.carob(&["system", "df", "erofs"])
        .fails(2, "system layers");
    // A memory filesystem's files cannot be mounted; it is said at once.
    let shm = PathBuf::from(format!("/dev/shm/carob-layers-{}", std::process::id()));
    let refused = root.carob(&["--root", shm.to_str().unwrap(), "system", "layers", "erofs"]);
    fs::remove_dir_all(&shm).unwrap();
    refused.fails(1, "tmpfs");
}
