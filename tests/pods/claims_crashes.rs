//! kill -9 of what makes, binds and removes claims, at many moments: nothing is half, nothing
//! is left, and the next command goes on.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::claims::{IDLE, claim, entries, no_claim_is_left, with_claim, with_volume};
use crate::claims_walk::monitors;
use crate::root::{Root, kill_9, until};

const STEPS: u32 = 12;
const READY: &str = ".status.conditions[?(@.type=='Ready')].status";

/// Runs a command for this long, and kills it if it has not ended by then.
fn cut_short(root: &Root, args: &[&str], after: Duration) {
    let mut command = root.command(args);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Kills the monitors of the root after this long.
fn kill_monitors(root: &Root, after: Duration) {
    std::thread::sleep(after);
    // One that has just been made is none yet: it gets the name with its program.
    until(|| {
        let left = monitors(root);
        for (pid, _) in &left {
            kill_9(*pid);
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(left),
        }
    })
    .unwrap();
}

fn took(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

fn list(root: &Root) -> Vec<Value> {
    let json = root.carob(&["get", "pvc", "-o", "json"]).ok();
    let value: Value = serde_json::from_str(&json).unwrap();
    value["items"].as_array().unwrap().clone()
}

/// Lists Pods until none is left: each look goes on with what a monitor has left.
#[track_caller]
fn no_pod_is_left(root: &Root) {
    until(|| {
        let pods = root.carob(&["get", "pods", "-o", "name"]).ok();
        let left = root.left();
        match pods.is_empty() && left.is_empty() {
            true => Ok(()),
            false => Err((pods, left)),
        }
    })
    .unwrap();
}

/// The claim's directory with some files, without a Pod that would make it.
fn fill(root: &Root, files: usize) -> PathBuf {
    let uid = list(root)[0]["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let dir = root.dir().join("data/claims").join(uid);
    for n in 0..files.div_ceil(100) {
        std::fs::create_dir_all(dir.join(format!("d{n}"))).unwrap();
    }
    for n in 0..files {
        std::fs::write(dir.join(format!("d{}/f{n}", n / 100)), "x").unwrap();
    }
    dir
}

fn count(dir: &std::path::Path) -> usize {
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
    below
        .map(|e| match e.path().is_dir() {
            true => count(&e.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn an_apply_or_a_deletion_of_a_claim_is_killed() {
    const FILES: usize = 600;
    let root = Root::empty();
    let text = claim("data", "ReadWriteOncePod");
    let file = root.dir().join("claim.yaml");
    std::fs::write(&file, text.trim_end_matches("---\n")).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap()];
    let delete = ["delete", "pvc", "data"];
    let applying = took(|| drop(root.carob(&apply).ok()));
    fill(&root, FILES);
    let deleting = took(|| drop(root.carob(&delete).ok()));
    for step in 0..=STEPS {
        cut_short(&root, &apply, applying * step / STEPS);
        for one in list(&root) {
            assert_eq!(one["metadata"]["name"], "data");
            assert_eq!(one["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
        }
        root.carob(&apply).ok();
        assert_eq!(list(&root).len(), 1);
        let dir = fill(&root, FILES);
        cut_short(&root, &delete, deleting * step / STEPS);
        match list(&root).as_slice() {
            [] => assert_eq!(entries(&root, "data/claims"), [""; 0]),
            [one] if one["metadata"]["deletionTimestamp"].is_null() => {
                assert_eq!(count(&dir), FILES);
            }
            [_] => {}
            more => panic!("{more:?}"),
        }
        // Whichever comes next goes on with it: what is applied is another claim.
        if step % 2 == 0 {
            root.carob(&apply).ok();
            let all = list(&root);
            assert_eq!(all.len(), 1);
            assert!(all[0]["metadata"]["deletionTimestamp"].is_null());
            root.carob(&delete).ok();
        } else {
            root.carob(&["delete", "pvc", "data", "--ignore-not-found"])
                .ok();
        }
        assert_eq!(entries(&root, "data/claims"), [""; 0], "step {step}");
        let records = entries(&root, "data/objects/persistentvolumeclaims/default");
        assert_eq!(records, [""; 0], "step {step}");
    }
}

#[test]
fn a_monitor_is_killed_while_it_binds_a_claim() {
    let root = Root::new();
    let mode = "ReadWriteOncePod";
    root.feed(
        &["apply", "-f", "-"],
        claim("data", mode).trim_end_matches("---\n"),
    )
    .ok();
    let apply = |wait: &str| {
        let args = ["apply", wait, "-f", "-"];
        root.feed(&args, &with_claim("p", "data")).ok();
    };
    let whole = took(|| apply("--wait=true"));
    let uid = list(&root)[0]["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    root.sh("p", "echo 0 > /v/file");
    root.carob(&["delete", "pod", "p", "--now"]).ok();
    for step in 0..STEPS {
        // A claim of its own each second time: then the directory is made, too.
        if step % 2 == 0 {
            std::fs::remove_dir_all(root.dir().join("data/claims").join(&uid)).unwrap();
        }
        apply("--wait=false");
        kill_monitors(&root, whole * step / STEPS);
        root.becomes("p", READY, "True");
        let holder = format!("{uid}.holder");
        assert_eq!(
            entries(&root, "data/claims"),
            [uid.as_str(), &holder],
            "step {step}"
        );
        root.sh("p", "echo x >> /v/file");
        root.carob(&["delete", "pod", "p", "--now"]).ok();
        no_pod_is_left(&root);
        assert_eq!(entries(&root, "data/claims"), [uid.as_str()], "step {step}");
        assert!(
            root.dir()
                .join("data/claims")
                .join(&uid)
                .join("file")
                .exists()
        );
    }
    root.carob(&["delete", "pvc", "data"]).ok();
    assert_eq!(entries(&root, "data/claims"), [""; 0]);
}

#[test]
fn a_monitor_is_killed_while_it_removes_a_deleted_claim() {
    let root = Root::new();
    let mut whole = Duration::ZERO;
    for step in 0..=STEPS {
        let manifest = format!(
            "{}{}",
            claim("data", "ReadWriteOncePod"),
            with_claim("p", "data")
        );
        root.feed(&["apply", "-f", "-"], &manifest).ok();
        fill(&root, 1000);
        root.carob(&["delete", "pvc", "data"]).ok();
        assert_eq!(list(&root).len(), 1);
        if whole.is_zero() {
            whole = took(|| drop(root.carob(&["delete", "pod", "p", "--now"]).ok()));
        } else {
            root.carob(&["delete", "pod", "p", "--now", "--wait=false"])
                .ok();
            kill_monitors(&root, whole * step / STEPS);
        }
        no_pod_is_left(&root);
        no_claim_is_left(&root);
        assert_eq!(list(&root), [Value::Null; 0], "step {step}");
    }
}

#[test]
fn a_monitor_is_killed_while_an_ephemeral_claim_comes_and_goes() {
    let root = Root::new();
    let template = json!({"ephemeral": {"volumeClaimTemplate": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}});
    let manifest = with_volume("p", template, IDLE);
    let starting = took(|| drop(root.feed(&["apply", "-f", "-"], &manifest).ok()));
    let ending = took(|| drop(root.carob(&["delete", "pod", "p", "--now"]).ok()));
    for step in 0..STEPS {
        root.feed(&["apply", "--wait=false", "-f", "-"], &manifest)
            .ok();
        kill_monitors(&root, starting * step / STEPS);
        root.becomes("p", READY, "True");
        let all = list(&root);
        assert_eq!(all.len(), 1, "{all:?}");
        let uid = all[0]["metadata"]["uid"].as_str().unwrap();
        assert_eq!(entries(&root, "data/claims"), [uid]);
        root.carob(&["delete", "pod", "p", "--now", "--wait=false"])
            .ok();
        kill_monitors(&root, ending * step / STEPS);
        no_pod_is_left(&root);
        no_claim_is_left(&root);
        assert_eq!(list(&root), [Value::Null; 0], "step {step}");
    }
}
