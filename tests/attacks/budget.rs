//! T10: what has no end (cri-o CVE-2022-1708; containerd CVE-2026-53495,
//! GHSA-rp3h-jf77-q9p4).

use std::time::{Duration, Instant};

use serde_json::json;

use super::bundle::Bundle;
use super::host::outcome;

/// A child in the background that keeps stdout keeps nobody.
#[test]
fn a_background_child_keeps_nobody_t10() {
    let b = Bundle::new();
    let begun = Instant::now();
    b.sh("sleep 60", |c| {
        c["hooks"] = json!({
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 8 & true"]}],
            "poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 8 & true"]}],
        });
    });
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let ran = b.oci(&["exec", "box", "sh", "-c", "sleep 60 & echo alive"]);
    assert!(outcome("exec", &ran));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    b.oci(&["delete", "--force", "box"]).ok();
}

/// Output of a hook is shown when it fails, and is not kept whole.
#[test]
fn a_hook_that_says_too_much_t10() {
    super::works();
    let b = Bundle::new();
    b.sh("echo alive", |c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh",
            "args": ["sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' x; exit 1"]}]});
    });
    let ran = b.oci(&["run", "box"]);
    assert!(!outcome("hook", &ran));
    assert!(
        !super::ours() || ran.stderr.len() < 20_000,
        "{} bytes",
        ran.stderr.len()
    );
}

/// A hook that does not end has its time, if it was given one.
#[test]
fn a_hook_that_does_not_end_t10() {
    super::works();
    let b = Bundle::new();
    let begun = Instant::now();
    b.sh("echo alive", |c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "15"], "timeout": 1}]});
    });
    let ran = b.oci(&["run", "box"]);
    assert!(!outcome("hook", &ran));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    b.oci(&["delete", "--force", "box"]).ok();
}

/// config.json is a file that somebody else writes.
#[test]
fn a_configuration_without_end_t10() {
    let b = Bundle::new();
    let path = b.dir().join("config.json");
    b.sh("true", |_| {});
    let good = std::fs::read_to_string(&path).unwrap();
    for (name, text) in [
        (
            "nested",
            format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)),
        ),
        ("nested objects", "{\"a\":".repeat(100_000)),
        ("cut off", good[..good.len() / 2].to_owned()),
        ("empty", String::new()),
    ] {
        std::fs::write(&path, text).unwrap();
        let ran = b.oci(&["create", "box"]);
        outcome(name, &ran);
        assert_ne!(ran.code, 0, "{name}");
    }
    let ran = std::process::Command::new("truncate")
        .args(["-s", "1T", path.to_str().unwrap()])
        .status();
    assert!(ran.unwrap().success());
    // Peers would read until memory ends.
    if super::ours() {
        let ran = b.oci(&["create", "box"]);
        outcome("endless", &ran);
        assert_ne!(ran.code, 0);
    }
}

/// The program of a startContainer hook is the image's, and its end may never come:
/// who deletes the container does not wait for it.
#[test]
fn a_start_hook_that_does_not_end_t10() {
    super::works();
    let b = Bundle::new();
    b.sh("echo alive", |c| {
        let script = "touch /in-hook; exec sleep 30";
        c["root"]["readonly"] = false.into();
        c["hooks"] = json!({"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}
        ]});
    });
    b.oci(&["create", "box"]).ok();
    let mut start = std::process::Command::new(b.runtime())
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(["start", "box"])
        .spawn()
        .unwrap();
    let in_hook = b.dir().join("rootfs/in-hook");
    let end = Instant::now() + Duration::from_secs(10);
    while !in_hook.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(in_hook.exists(), "the hook has not begun");
    assert!(start.try_wait().unwrap().is_none());
    let begun = Instant::now();
    b.oci(&["delete", "--force", "box"]).ok();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    start.wait().unwrap();
}
