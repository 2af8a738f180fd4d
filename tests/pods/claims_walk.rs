//! Claims with many files: a Pod's fsGroup is given to them in a child of the monitor, which
//! answers meanwhile.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::claims::{claim, entries, no_claim_is_left, with_claim};
use crate::root::{Root, alive, kill_9, until};

const GROUP: u32 = 4242;

/// A claim `data` that no Pod has, with so many files. Its directory.
fn large_claim(root: &Root, files: usize) -> PathBuf {
    let manifest = format!(
        "{}{}",
        claim("data", "ReadWriteOnce"),
        with_claim("p", "data")
    );
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    root.carob(&["delete", "pod", "p", "--now"]).ok();
    let claims = root.dir().join("data/claims");
    let dir = claims.join(&entries(root, "data/claims")[0]);
    const EACH: usize = 200;
    for n in 0..files.div_ceil(EACH) {
        let below = dir.join(format!("d{n}"));
        std::fs::create_dir(&below).unwrap();
        for n in 0..EACH {
            std::fs::write(below.join(format!("f{n}")), "").unwrap();
        }
    }
    dir
}

fn with_group() -> String {
    let mut value: Value = serde_json::from_str(&with_claim("p", "data")).unwrap();
    value["spec"]["securityContext"] = json!({"fsGroup": GROUP});
    value.to_string()
}

fn group(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().gid()
}

/// How many files and directories are not the group's yet.
fn others(dir: &Path) -> usize {
    let mut count = usize::from(group(dir) != GROUP);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        count += match path.is_dir() {
            true => others(&path),
            false => usize::from(group(&path) != GROUP),
        };
    }
    count
}

/// The monitors of the root and their children that are no containers, each with its parent.
pub(crate) fn monitors(root: &Root) -> Vec<(i32, i32)> {
    let dir = root.dir().to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest);
        let parent = rest.and_then(|r| r.split(' ').nth(1)?.parse().ok());
        if line.starts_with("carob\0monitor\0") && line.contains(&format!("{dir}\0")) {
            found.extend(parent.map(|parent| (pid, parent)));
        }
    }
    found
}

/// Stops the child that gives the claim to the group, in the middle. The child and the
/// monitor.
fn stop_walk(root: &Root, dir: &Path) -> (i32, i32) {
    // The monitor has other children for moments; this one has directories of the claim open.
    let walks = |pid: i32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let mut links = fds.into_iter().flatten().flatten().map(|e| e.path());
        links.any(|link| std::fs::read_link(link).is_ok_and(|to| to.starts_with(dir)))
    };
    until(|| {
        let all = monitors(root);
        for (child, monitor) in &all {
            let process = Pid::from_raw(*child);
            if !all.iter().any(|(pid, _)| pid == monitor) || kill(process, Signal::SIGSTOP).is_err()
            {
                continue;
            }
            if walks(*child) {
                return Ok((*child, *monitor));
            }
            let _ = kill(process, Signal::SIGCONT);
        }
        Err(all)
    })
    .unwrap()
}

#[test]
fn a_monitor_answers_while_a_claim_is_given_to_its_group() {
    let root = Root::new();
    let dir = large_claim(&root, 20_000);
    root.feed(&["apply", "--wait=false", "-f", "-"], &with_group())
        .ok();
    let (child, _) = stop_walk(&root, &dir);
    let begun = Instant::now();
    assert!(others(&dir) > 0, "the walk was over before it was stopped");
    assert_eq!(root.field("p", ".status.phase"), "Pending");
    let why = root.carob(&["why", "p"]).ok();
    assert!(why.contains("its sandbox is being made"), "{why}");
    root.carob(&["exec", "p", "--", "true"])
        .fails(125, "is not running: ContainerCreating");
    let pods = root.carob(&["get", "pods"]).ok();
    assert!(pods.contains("ContainerCreating"), "{pods}");
    // What is said first is said after a second.
    let second = Duration::from_millis(1100);
    std::thread::sleep(second.saturating_sub(begun.elapsed()));
    kill(Pid::from_raw(child), Signal::SIGCONT).unwrap();
    root.becomes("p", ".status.conditions[?(@.type=='Ready')].status", "True");
    assert_eq!(others(&dir), 0);
    let said = root.carob(&["describe", "pod", "p"]).ok();
    let event = "Setting volume ownership for volume v to group 4242, processed ";
    assert!(
        said.contains("VolumePermissionChangeInProgress") && said.contains(event),
        "{said}"
    );
}

#[test]
fn a_pod_is_deleted_while_its_claim_is_given_to_its_group() {
    let root = Root::new();
    let dir = large_claim(&root, 20_000);
    root.feed(&["apply", "--wait=false", "-f", "-"], &with_group())
        .ok();
    let (child, monitor) = stop_walk(&root, &dir);
    root.carob(&["delete", "pod", "p"]).ok();
    until(|| {
        if alive(child) || alive(monitor) {
            Err(())
        } else {
            Ok(())
        }
    })
    .unwrap();
    // The directory itself is the last: the next walk is a whole one, whatever its policy.
    assert_ne!(group(&dir), GROUP);
    assert!(root.carob(&["get", "pvc"]).ok().contains("Bound"));
    root.feed(&["apply", "-f", "-"], &with_group()).ok();
    assert_eq!(others(&dir), 0);
    // The claim goes with its last Pod, whatever that does.
    root.carob(&["delete", "pod", "p"]).ok();
    root.feed(&["apply", "--wait=false", "-f", "-"], &with_group())
        .ok();
    let (child, _) = stop_walk(&root, &dir);
    root.carob(&["delete", "pvc", "data"]).ok();
    assert!(root.carob(&["get", "pvc"]).ok().contains("Terminating"));
    root.carob(&["delete", "pod", "p"]).ok();
    no_claim_is_left(&root);
    assert!(!alive(child));
}

#[test]
fn a_monitor_is_killed_while_a_claim_is_given_to_its_group() {
    let root = Root::new();
    let dir = large_claim(&root, 10_000);
    for step in 0..6 {
        root.feed(&["apply", "--wait=false", "-f", "-"], &with_group())
            .ok();
        let (child, monitor) = stop_walk(&root, &dir);
        kill(Pid::from_raw(child), Signal::SIGCONT).unwrap();
        std::thread::sleep(Duration::from_millis(20 * step));
        kill_9(monitor);
        until(|| if alive(child) { Err(()) } else { Ok(()) }).unwrap();
        root.becomes("p", ".status.conditions[?(@.type=='Ready')].status", "True");
        assert_eq!(others(&dir), 0, "step {step}");
        root.carob(&["delete", "pod", "p", "--now"]).ok();
        std::os::unix::fs::chown(&dir, None, Some(0)).unwrap();
        std::os::unix::fs::chown(dir.join("d0/f0"), None, Some(0)).unwrap();
    }
}
