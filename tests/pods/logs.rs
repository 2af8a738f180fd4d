//! Logs over several files, from a time, from the end, and while they grow.

use std::process::Stdio;
use std::time::Duration;

use crate::root::{Root, script_pod};

/// Lines of 100 bytes, each a record of 145: some two files and a half.
const LINES: usize = 180_000;

fn many() -> String {
    format!(
        "awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%099d\\n\", i }}'\n\
         echo over\nsleep 0.1\n"
    )
}

#[track_caller]
fn complete(text: &str) {
    let mut n = 0;
    for line in text.lines().filter(|l| *l != "over") {
        n += 1;
        assert_eq!(line.parse(), Ok(n), "after {} lines", n - 1);
    }
    assert_eq!(n, LINES);
}

#[test]
fn rotated_logs_are_read_and_followed_without_loss() {
    let root = Root::new();
    root.apply(&script_pod("p", "Never", 1, &many())).ok();
    let follow = root
        .command(&["logs", "-f", "p"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let followed = follow.wait_with_output().unwrap();
    assert!(followed.status.success());
    complete(&String::from_utf8(followed.stdout).unwrap());
    complete(&root.carob(&["logs", "p"]).ok());
    let uid = root.field("p", ".metadata.uid");
    let dir = root.dir().join(format!("log/default_p_{uid}/main"));
    let files = std::fs::read_dir(dir).unwrap().count();
    assert!(files > 1, "{files} files: nothing was rotated");
    let tail = root.carob(&["logs", "p", "--tail", "100001"]).ok();
    assert_eq!(tail.lines().count(), 100_001);
    assert_eq!(
        tail.lines().next().unwrap().parse(),
        Ok(LINES - 100_000 + 1)
    );
}

#[test]
fn from_a_time_from_the_end_and_with_times() {
    let root = Root::new();
    let script = "echo one; echo two >&2; sleep 1.2; while :; do echo three; usleep 100000; done";
    let threes = |args: &[&str]| {
        let said = root.carob(&[&["logs", "p"], args].concat()).ok();
        assert!(said.starts_with("three\n"), "{args:?}: {said:?}");
        assert!(said.lines().all(|l| l == "three"), "{args:?}: {said:?}");
    };
    root.apply(&script_pod("p", "Never", 1, script)).ok();
    root.says("p", "main", "three");
    assert_eq!(root.carob(&["logs", "p", "--tail", "1"]).ok(), "three\n");
    assert_eq!(root.carob(&["logs", "p", "--tail=0"]).ok(), "");
    threes(&["--since=1s"]);
    let timed = root.carob(&["logs", "p", "--timestamps"]).ok();
    let mut before = None;
    for line in timed.lines() {
        let time: jiff::Timestamp = line.split_once(' ').unwrap().0.parse().unwrap();
        assert!(before.is_none_or(|b| b <= time), "{timed}");
        before = Some(time);
    }
    let third = timed.lines().nth(2).unwrap().split_once(' ').unwrap();
    assert_eq!(third.1, "three");
    let since = format!("--since-time={}", third.0);
    threes(&[&since]);
}

#[test]
fn following_ends_with_the_container_and_shows_its_last_words() {
    let root = Root::new();
    let script = "echo one; sleep 0.5; echo two; printf three";
    root.apply(&script_pod("p", "Never", 1, script)).ok();
    let begun = std::time::Instant::now();
    let text = root.carob(&["logs", "-f", "p"]).ok();
    assert_eq!(text, "one\ntwo\nthree");
    assert!(begun.elapsed() < crate::root::slack(Duration::from_secs(5)));
}
