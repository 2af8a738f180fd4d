//! Roots whose records somebody has removed below running Pods.

use std::process::Command;

use crate::root::{Root, alive, script_pod, until};

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
