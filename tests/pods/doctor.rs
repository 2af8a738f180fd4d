//! `carob doctor`: what it finds on this machine, and where something is taken away.

use std::process::Command;

use serde_json::Value;

use crate::denied::{Denial, without};
use crate::root::Root;

/// The exit code and the answer in JSON.
fn doctor(command: &mut Command) -> (i32, Value) {
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let answer = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{said}"));
    (out.status.code().unwrap(), answer)
}

/// In new namespaces of `kinds`, after `before` in a shell.
fn doctor_after(root: &Root, kinds: &[&str], before: &str) -> (i32, Value) {
    let (program, dir) = (env!("CARGO_BIN_EXE_carob"), root.dir().display());
    let script = format!("{before} && exec {program} --root {dir} doctor -o json");
    let mut command = Command::new("unshare");
    doctor(command.args(kinds).args(["sh", "-c", &script]))
}

#[track_caller]
fn says(answer: &Value, check: &str, status: &str, text: &str, mend: &str) {
    let all = answer["findings"].as_array().unwrap();
    let found = all.iter().find(|f| f["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {answer:#}"));
    let has = |key: &str, part: &str| found[key].as_str().unwrap_or_default().contains(part);
    assert!(
        found["status"] == status && has("text", text) && has("mend", mend),
        "{answer:#}"
    );
}

#[test]
fn a_machine_that_is_able() {
    let root = Root::empty();
    let (code, answer) = doctor(&mut root.command(&["doctor", "-o", "json"]));
    assert_eq!(
        (code, &answer["able"]),
        (0, &Value::Bool(true)),
        "{answer:#}"
    );
    for check in [
        "kernel",
        "rights",
        "cgroups",
        "overlayfs",
        "namespaces",
        "links",
        "seccomp",
    ] {
        says(&answer, check, "Ok", "", "");
    }
    let table = root.carob(&["doctor"]).ok();
    assert!(table.starts_with("CHECK "), "{table}");
}

#[test]
fn what_the_kernel_lacks() {
    let root = Root::empty();
    for (call, check, text) in [
        ("openat2", "kernel", "openat2(2)"),
        ("fsopen", "overlayfs", "fsopen"),
        ("unshare", "namespaces", "unshare(CLONE_NEWNS)"),
    ] {
        let mut command = root.command(&["doctor", "-o", "json"]);
        let (code, answer) = without(&[Denial::of(call)], || doctor(&mut command));
        assert_eq!(code, 1, "{answer:#}");
        says(&answer, check, "Failed", text, "");
    }
}

#[test]
fn what_is_not_allowed_here() {
    let root = Root::empty();
    // The sysctl is the user namespace's own.
    let (code, answer) = doctor_after(
        &root,
        &["--user", "--map-root-user"],
        "echo 0 > /proc/sys/user/max_uts_namespaces",
    );
    assert_eq!(code, 1);
    says(
        &answer,
        "namespaces",
        "Failed",
        "CLONE_NEWUTS",
        "user.max_uts_namespaces",
    );
}

#[test]
fn places_without_room() {
    let root = Root::empty();
    let dir = root.dir().display();
    let mount = format!("mount -t tmpfs -o ro none {dir}");
    let (code, answer) = doctor_after(&root, &["--mount"], &mount);
    assert_eq!(code, 1, "{answer:#}");
    says(&answer, "state", "Failed", "read-only", "--root DIR");
    let mount = format!("mount -t tmpfs -o size=1m none {dir}");
    let (code, answer) = doctor_after(&root, &["--mount"], &mount);
    assert_eq!(code, 0, "{answer:#}");
    says(&answer, "data", "Warning", "1 MiB", "carob system df");
}

#[test]
fn cgroups_that_cannot_be_written() {
    let root = Root::empty();
    let remount = "for d in $(awk '$3 == \"cgroup2\" {print $2}' /proc/mounts); do \
                   mount -o remount,bind,ro $d; done";
    let (code, answer) = doctor_after(&root, &["--mount"], remount);
    assert_eq!(code, 1, "{answer:#}");
    says(&answer, "cgroups", "Failed", "EROFS", "");
}
