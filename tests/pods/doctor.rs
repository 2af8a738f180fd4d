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

/// Of the first finding of a check.
#[track_caller]
fn part<'a>(answer: &'a Value, check: &str, key: &str) -> &'a str {
    let all = answer["findings"].as_array().unwrap();
    let found = all.iter().find(|f| f["check"] == check);
    found.and_then(|f| f[key].as_str()).unwrap_or_default()
}

/// In a network namespace of the test's own.
#[test]
fn firewalls_that_drop_what_is_forwarded() {
    let root = Root::empty();
    let wall = "nft add table inet wall && nft 'add chain inet wall fw \
                { type filter hook forward priority 0; policy drop; }'";
    let after = |before: &str| doctor_after(&root, &["--net"], before);

    let (_, answer) = after("true");
    says(&answer, "firewall", "Ok", "no nftables chain", "");

    // carob will put rules there itself.
    let (code, answer) = after(wall);
    assert_eq!(code, 0, "{answer:#}");
    says(&answer, "firewall", "Ok", "inet wall fw", "");
    let text = part(&answer, "firewall", "text");
    let bridge = text.split(' ').find(|w| w.starts_with("cb"));
    let bridge = bridge.unwrap_or_else(|| panic!("{answer:#}"));

    // A Pod's link is there, and the rules are not.
    let pods = format!(
        "ip link add {bridge} type bridge && ip link add p0 type veth peer name p1 && \
         ip link set p0 master {bridge}"
    );
    for (drops, verb) in [
        (wall.to_owned(), "nft add rule inet wall fw"),
        (
            format!(
                "{} && nft add rule inet wall fw reject",
                wall.replace("drop", "accept")
            ),
            "nft insert rule inet wall fw handle ",
        ),
    ] {
        let before = format!("{drops} && {pods}");
        let (code, answer) = after(&before);
        assert_eq!(code, 0, "{answer:#}");
        says(&answer, "firewall", "Warning", "inet wall fw", verb);
        // The hint does what it says.
        let mend = part(&answer, "firewall", "mend").replace("; ", " && ");
        let (_, answer) = after(&format!("{before} && {mend}"));
        says(&answer, "firewall", "Ok", "rules of carob let", "");
    }

    let iptables = "nft add table ip filter && nft 'add chain ip filter FORWARD \
                    { type filter hook forward priority 0; policy drop; }'";
    let (_, answer) = after(&format!("{iptables} && {pods}"));
    says(
        &answer,
        "firewall",
        "Warning",
        "ip filter FORWARD",
        "iptables -A FORWARD -i",
    );
}

/// Sysctls of the test's own user namespace.
#[test]
fn limits_of_a_user_namespace() {
    let root = Root::empty();
    let after = |before: &str| doctor_after(&root, &["--user", "--map-root-user"], before).1;
    for name in ["net", "pid", "mnt"] {
        let answer = after(&format!("echo 8 > /proc/sys/user/max_{name}_namespaces"));
        let text = format!("/proc/sys/user/max_{name}_namespaces is 8");
        let mend = format!("sysctl -w user.max_{name}_namespaces=");
        says(&answer, "limits", "Warning", &text, &mend);
    }
    let answer = after("echo 0 > /proc/sys/user/max_inotify_instances");
    let mend = "sysctl -w fs.inotify.max_user_instances=";
    says(&answer, "limits", "Warning", "inotify_init1: EMFILE", mend);
    // Without CAP_SYS_RESOURCE of the host, a hard limit stays as low as it is.
    let answer = after("ulimit -n 100");
    says(
        &answer,
        "limits",
        "Warning",
        "RLIMIT_NOFILE is 100",
        "LimitNOFILE=",
    );
}

/// These sysctls are the whole machine's, so that a file of the test's is mounted over
/// them, in a mount namespace of its own.
#[test]
fn limits_of_the_machine() {
    let root = Root::empty();
    let dir = root.dir().display();
    for name in ["pid_max", "threads-max"] {
        let path = format!("/proc/sys/kernel/{name}");
        let mount = format!("echo 1 > {dir}/limit && mount --bind {dir}/limit {path}");
        let (code, answer) = doctor_after(&root, &["--mount"], &mount);
        assert_eq!(code, 0, "{answer:#}");
        let text = format!("{path} is 1, and the machine has");
        let mend = format!("sysctl -w kernel.{name}=");
        says(&answer, "limits", "Warning", &text, &mend);
    }
}

/// The monitor raises a low limit by itself where it may: this caller has
/// CAP_SYS_RESOURCE or not, and the shell says which.
#[test]
fn a_limit_that_is_raised_where_that_is_allowed() {
    let root = Root::empty();
    let raised = Command::new("sh")
        .args(["-c", "ulimit -n 100 && ulimit -Hn 1024"])
        .output()
        .unwrap();
    let (_, answer) = doctor_after(&root, &["--mount"], "ulimit -n 100");
    let status = match raised.status.success() {
        true => "Ok",
        false => "Warning",
    };
    says(&answer, "limits", status, "", "");
}
