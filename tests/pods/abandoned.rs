//! Roots whose records somebody has removed below running Pods.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use crate::root::{Root, alive, kill_9, script_pod, tag_of, until};

/// What one test abandons, another one's `system prune` would remove.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

const SLEEPS: &str = "trap 'exit 0' TERM; echo ready; sleep 1000 & wait";

/// Two Pods, and the pids of their containers.
fn two(root: &Root) -> [i32; 2] {
    ["a", "b"].map(|name| {
        root.apply(&script_pod(name, "Always", 2, SLEEPS)).ok();
        root.says(name, "main", "ready");
        root.pid(name, "main")
    })
}

fn rm_rf(root: &Root, what: &str) {
    // It complains of the places where something is mounted.
    let _ = Command::new("rm")
        .arg("-rf")
        .arg(root.dir().join(what))
        .output()
        .unwrap();
}

#[track_caller]
fn nothing_left(root: &Root) {
    let left = until(|| match root.left() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    left.unwrap_or_else(|l| panic!("{l:#?}"));
}

#[test]
fn pods_whose_record_is_removed_end_and_leave_nothing() {
    for what in ["run", "run/pods", ""] {
        let root = Root::new();
        let pids = two(&root);
        rm_rf(&root, what);
        nothing_left(&root);
        assert!(!pids.into_iter().any(alive));
        std::fs::create_dir_all(root.dir()).unwrap();
    }
}

#[test]
fn a_root_is_used_again_at_once_after_its_records_were_removed() {
    let root = Root::new();
    two(&root);
    rm_rf(&root, "run");
    root.apply(&script_pod("c", "Always", 2, SLEEPS)).ok();
    root.says("c", "main", "ready");
    let reaches = "wget -q -T 5 -O - http://127.0.0.1:1 2>&1; ip -4 -o addr show eth0";
    assert!(root.sh("c", reaches).contains("inet "));
    root.carob(&["delete", "pod", "c"]).ok();
    nothing_left(&root);
}

/// What the kernel holds of the root.
fn objects(root: &Root) -> Vec<String> {
    let mut left = root.left();
    left.retain(|l| !l.starts_with("file "));
    left
}

#[track_caller]
fn nothing_left_but_files(root: &Root) {
    let left = until(|| match objects(root) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    left.unwrap_or_else(|l| panic!("{l:#?}"));
}

fn kill_monitor(root: &Root, pod: &str) {
    let monitor = root.monitor_pid(pod);
    kill_9(monitor);
    while alive(monitor) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Two Pods whose monitors are dead and whose records are gone.
fn abandon(root: &Root) -> [i32; 2] {
    let pids = two(root);
    for pod in ["a", "b"] {
        kill_monitor(root, pod);
    }
    rm_rf(root, "run");
    assert!(pids.into_iter().all(alive));
    pids
}

#[test]
fn what_a_root_without_records_has_left_is_shown_and_removed() {
    let _alone = alone();
    // By the root's own commands, and by another root's.
    for own in [true, false] {
        let root = Root::new();
        let other = Root::empty();
        let pids = abandon(&root);
        root.carob(&["system", "check"])
            .fails(1, "carob system prune");
        let told = other.carob(&["system", "check"]).ok();
        let dir = root.dir().to_str().unwrap();
        let line = told.lines().find(|l| l.contains(dir)).unwrap_or_default();
        let tag = tag_of(root.dir());
        for part in [
            " processes (",
            &format!("cgroup carob-{tag}"),
            &format!("carob_{tag}"),
        ] {
            assert!(line.contains(part), "{told}");
        }
        let by = if own { &root } else { &other };
        let pruned = by.carob(&["system", "prune"]).ok();
        assert!(pruned.contains(&format!("Removed: root {dir}")), "{pruned}");
        assert!(!pids.into_iter().any(alive));
        nothing_left_but_files(&root);
        root.carob(&["system", "check"]).ok();
        let volumes = Command::new("find")
            .arg(root.dir().join("data/pods"))
            .args(["-name", "containers", "-o", "-name", "volumes"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&volumes.stdout), "");
        rm_rf(&root, "");
    }
}

#[test]
fn a_root_with_a_record_or_a_monitor_is_alive() {
    let _alone = alone();
    let root = Root::new();
    let other = Root::empty();
    let pids = two(&root);
    // `a` has a monitor and `b` a record.
    kill_monitor(&root, "b");
    let dir = root.dir().to_str().unwrap();
    let told = other.carob(&["system", "check"]).ok();
    assert!(!told.contains(dir), "{told}");
    let pruned = other.carob(&["system", "prune"]).ok();
    assert!(!pruned.contains(dir), "{pruned}");
    kill_monitor(&root, "a");
    other.carob(&["system", "prune"]).ok();
    assert!(pids.into_iter().all(alive));
    for pod in ["a", "b"] {
        assert_eq!(root.field(pod, ".status.phase"), "Running");
        assert_eq!(
            root.field(pod, ".status.containerStatuses[0].restartCount"),
            "0"
        );
    }
    let reaches = root.sh("a", "ip -4 -o addr show eth0");
    assert!(reaches.contains("inet "), "{reaches}");
}

/// The last one first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4));
    let below = points.map(PathBuf::from).filter(|p| p.starts_with(dir));
    below.collect::<Vec<_>>().into_iter().rev().collect()
}

#[test]
fn a_root_of_which_nothing_tells_where_it_is_keeps_its_processes() {
    let _alone = alone();
    let root = Root::new();
    let other = Root::empty();
    let pids = abandon(&root);
    // Which there are differs between kernels.
    for dir in mounts_below(root.dir()) {
        carob::inside::linux::unmount(&dir).unwrap();
    }
    let tag = tag_of(root.dir());
    let pruned = other.carob(&["system", "prune"]);
    let kept = format!("root with the tag {tag} is left alone");
    assert!(pruned.stderr.contains(&kept), "{pruned:?}");
    assert!(pids.into_iter().all(alive));
    // When they have ended, so have their network namespaces, and nothing is in use.
    pids.into_iter().for_each(kill_9);
    let removed = until(|| {
        let pruned = other.carob(&["system", "prune"]).ok();
        match objects(&root) {
            left if left.is_empty() => Ok(()),
            left => Err((pruned, left)),
        }
    });
    assert_eq!(removed, Ok(()));
    rm_rf(&root, "");
}
