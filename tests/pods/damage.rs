//! Records that cannot be read: of one Pod, and never a harm to another.

use std::path::PathBuf;

use crate::root::{Root, alive, kill_9, script_pod, until};

const STATUS: &str = "{.status.phase} {.status.reason}";

fn sleeper(name: &str) -> String {
    script_pod(name, "Always", 0, "exec sleep 1000")
}

/// A Pod `good` and a Pod `bad`, the latter's record by this name, and the pid of its
/// container.
fn two(root: &Root, record: &str) -> (PathBuf, i32) {
    root.apply(&sleeper("good")).ok();
    root.apply(&sleeper("bad")).ok();
    let dir = root.dir().join("run/pods").join(root.uid("bad"));
    (dir.join(record), root.pid("bad", "main"))
}

fn spoil(record: &PathBuf, with: Option<&str>, monitor: i32) {
    // A monitor that lives writes its state at each change.
    kill_9(monitor);
    match with {
        Some(text) => std::fs::write(record, text).unwrap(),
        None => std::fs::remove_file(record).unwrap(),
    }
}

fn status(root: &Root, pod: &str) -> String {
    let format = format!("jsonpath={STATUS}");
    root.carob(&["get", "pod", pod, "-o", &format]).ok()
}

#[track_caller]
fn is_shown_and_goes(root: &Root, pid: i32, text: &str) {
    let table = root.carob(&["get", "pods", "-A"]).ok();
    let row = |name: &str| table.lines().find(|l| l.contains(name)).unwrap().to_owned();
    assert!(row("good").contains("Running"), "{table}");
    assert!(row("bad").contains("RecordDamaged"), "{table}");
    assert_eq!(status(root, "bad"), "Unknown RecordDamaged");
    let said = root.carob(&["describe", "pod", "bad"]).ok();
    assert!(said.contains(text), "{text:?} in {said}");
    assert!(alive(pid), "its container goes on");
    // The others' verbs.
    root.carob(&["wait", "pod/good", "--for=condition=Ready"])
        .ok();
    root.apply(&sleeper("good")).ok();
    root.apply(&sleeper("more")).ok();
    root.carob(&["system", "df"]).ok();
    root.apply(&sleeper("bad")).fails(5, "cannot be read");
    root.carob(&["image-prune", "--all"])
        .fails(5, "carob delete pod bad");
    let gone = root.carob(&["delete", "pods", "--all"]).ok();
    for name in ["good", "bad", "more"] {
        assert!(gone.contains(&format!("pod {name:?} deleted")), "{gone}");
    }
    assert!(!alive(pid));
    // The monitors go last.
    let left = until(|| match root.left() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    assert_eq!(left, Ok(()));
}

#[test]
fn a_pod_whose_record_is_damaged_is_shown_and_deleted() {
    let root = Root::new();
    for (with, text) in [
        (Some("{"), "pod.json is damaged"),
        (Some(""), "pod.json is damaged"),
        (
            Some("{\"version\": 2}"),
            "pod.json has version 2, this carob reads 1",
        ),
        (None, "pod.json"),
    ] {
        let (record, pid) = two(&root, "pod.json");
        spoil(&record, with, root.monitor_pid("bad"));
        is_shown_and_goes(&root, pid, text);
    }
}

#[test]
fn a_state_that_is_damaged_is_not_taken_for_a_new_one() {
    let root = Root::new();
    for (with, text) in [
        ("{", "state.json is damaged"),
        ("", "state.json is damaged"),
        (
            "{\"version\": 2}",
            "state.json has version 2, this carob reads 1",
        ),
    ] {
        let (record, pid) = two(&root, "state.json");
        spoil(&record, Some(with), root.monitor_pid("bad"));
        is_shown_and_goes(&root, pid, text);
    }
}

#[test]
fn a_monitor_that_lives_needs_no_record() {
    let root = Root::new();
    let (record, pid) = two(&root, "state.json");
    std::fs::write(&record, "{").unwrap();
    assert_eq!(status(&root, "bad"), "Running ");
    assert!(root.carob(&["logs", "bad"]).ok().is_empty());
    std::fs::write(record.with_file_name("pod.json"), "{").unwrap();
    assert_eq!(status(&root, "bad"), "Unknown RecordDamaged");
    root.carob(&["delete", "pod", "bad"]).ok();
    assert!(!alive(pid));
}

#[test]
fn apply_force_replaces_a_pod_whose_record_is_damaged() {
    let root = Root::new();
    let (record, pid) = two(&root, "pod.json");
    spoil(&record, Some("{"), root.monitor_pid("bad"));
    root.feed(&["apply", "--force", "-f", "-"], &sleeper("bad"))
        .ok();
    assert!(!alive(pid));
    assert_eq!(status(&root, "bad"), "Running ");
}
