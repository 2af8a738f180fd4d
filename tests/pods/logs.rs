//! Logs over several files, from a time, from the end, and while they grow.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::root::{Root, pod, script_pod, sh};

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

/// A Pod of two containers with the label `app=x`.
fn labelled(name: &str, script: &str) -> String {
    let other = sh("other", "echo other", json!({}));
    let containers = json!([sh("main", script, json!({})), other]);
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": containers,
    });
    pod(name, spec).replace(
        "\"metadata\":{",
        "\"metadata\":{\"labels\":{\"app\":\"x\"},",
    )
}

#[test]
fn of_every_pod_that_is_selected() {
    let root = Root::new();
    let count = "for i in $(seq 12); do echo $i; done";
    root.apply(&labelled("a", count)).ok();
    root.apply(&labelled("b", "echo from b; sleep 1; echo late b"))
        .ok();
    root.apply(&script_pod("c", "Never", 0, "echo from c")).ok();
    let logs = |args: &[&str]| root.carob(&[&["logs", "-l", "app=x"], args].concat());
    // Until each has said all.
    let followed = logs(&["-f", "-c", "main"]).ok();
    assert_eq!(followed.lines().count(), 12, "{followed}");
    assert!(
        followed.starts_with("3\n") && followed.ends_with("late b\n"),
        "{followed}"
    );
    assert_eq!(logs(&["-c", "main", "--tail=1"]).ok(), "12\nlate b\n");
    assert_eq!(logs(&["-c", "main", "--tail=-1"]).ok().lines().count(), 14);
    assert_eq!(
        logs(&["--prefix", "--all-containers", "--tail=1"]).ok(),
        "[pod/a/main] 12\n[pod/a/other] other\n[pod/b/main] late b\n[pod/b/other] other\n"
    );
    let first = logs(&["--tail=1"]);
    assert_eq!(
        first.stderr,
        "Defaulted container \"main\" out of: main, other\n".repeat(2)
    );
    // What one Pod cannot give does not keep the others from it.
    let previous = logs(&["-p", "-c", "main"]);
    assert_eq!(previous.stdout, "");
    let missing = logs(&["-c", "none"]);
    assert_eq!(
        missing
            .stderr
            .matches("container \"none\" not found")
            .count(),
        2
    );
    missing.fails(4, "none");
    logs(&["-f", "--all-containers", "--max-log-requests=3"]).fails(
        2,
        "there are 4 logs to follow, and --max-log-requests allows 3",
    );
    logs(&["a"]).fails(2, "cannot be used with");
    root.carob(&["logs"]).fails(2, "POD");
    let none = root.carob(&["logs", "-l", "app=y"]);
    assert_eq!(none.stderr, "No resources found in default namespace.\n");
    none.ok();
}

#[test]
fn the_attempt_before_of_every_pod_that_is_selected() {
    let root = Root::new();
    let script = "if [ -e /data/n ]; then echo second; exec sleep 1000; fi\n\
        touch /data/n; echo first; exit 1";
    for name in ["a", "b"] {
        let mount = json!({"volumeMounts": [{"name": "d", "mountPath": "/data"}]});
        let spec = json!({
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", script, mount)],
            "volumes": [{"name": "d", "emptyDir": {}}],
        });
        root.apply(&pod(name, spec));
    }
    for name in ["a", "b"] {
        root.says(name, "main", "second");
        root.carob(&["label", "pod", name, "app=x"]).ok();
    }
    let said = root.carob(&["logs", "-l", "app=x", "-p", "--prefix"]).ok();
    assert_eq!(said, "[pod/a/main] first\n[pod/b/main] first\n");
    let since = "--since-time=2020-01-01T00:00:00Z";
    let said = root.carob(&["logs", "-l", "app=x", since]).ok();
    assert_eq!(said, "second\nsecond\n");
}
