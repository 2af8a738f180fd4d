//! `--log-level` and CAROB_LOG: what a command says of its steps.

use serde_json::json;

use crate::root::{Root, pod, sh};

const SECRET: &str = "Tr0ub4dor";

/// The lines of the log in a text, each in its form.
pub fn lines(text: &str) -> Vec<&str> {
    for line in text.lines() {
        let mut words = line.split(' ');
        let time = words.next().unwrap_or_default();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        let pid = words.next().unwrap_or_default();
        assert!(pid.parse::<u32>().is_ok(), "{line}");
        let level = words.next().unwrap_or_default();
        assert!(
            ["error", "warn", "info", "debug", "trace"].contains(&level),
            "{line}"
        );
    }
    text.lines().collect()
}

/// A Pod whose containers are given secrets in every way.
fn secretive(name: &str) -> String {
    let extra = json!({
        "env": [{"name": "PASSWORD", "value": SECRET}],
        "args": [SECRET, "$(PASSWORD)"],
        "lifecycle": {"postStart": {"exec": {"command": ["true", "$(PASSWORD)", SECRET]}}},
    });
    pod(
        name,
        json!({
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "containers": [sh("main", "exec sleep 1000", extra)],
        }),
    )
}

#[test]
fn a_command_says_nothing_unless_it_is_asked() {
    let root = Root::new();
    let ran = root.apply(&secretive("quiet"));
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    let run = root.dir().join("run/pods").join(root.uid("quiet"));
    assert!(!run.join("monitor.log").exists());

    let ran = root.carob(&["--log-level", "debug", "get", "pods"]);
    let said = lines(&ran.stderr);
    assert!(said[0].contains(" info cli: carob "), "{said:?}");
    assert!(said.last().unwrap().ends_with("get ends: exit code 0"));
    let mut by_variable = root.command(&["get", "pods"]);
    by_variable.env("CAROB_LOG", "debug");
    let output = by_variable.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(lines(&text).len(), said.len(), "{text}");
    // The flag wins.
    by_variable.args(["--log-level", "error"]);
    assert!(by_variable.output().unwrap().stderr.is_empty());
}

#[test]
fn a_wrong_level_is_a_usage_error_that_lists_them() {
    let root = Root::empty();
    root.carob(&["--log-level", "loud", "get", "pods"])
        .fails(2, "error, warn, info, debug, trace");
    let mut by_variable = root.command(&["get", "pods"]);
    by_variable.env("CAROB_LOG", "loud");
    let output = by_variable.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("CAROB_LOG: \"loud\": no level of the log")
            && text.contains("error, warn, info, debug or trace"),
        "{text}"
    );
}
