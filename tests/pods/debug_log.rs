//! `--log-level` and CAROB_LOG: what a command says of its steps.

use serde_json::json;

use crate::root::{Root, pod, sh, until};

const SECRET: &str = "Tr0ub4dor";

/// The lines of the log in a text, each in its form.
pub(crate) fn lines(text: &str) -> Vec<&str> {
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

/// Where each of these texts is in a line, in this order.
#[track_caller]
fn in_order(lines: &[&str], wanted: &[&str]) {
    let mut rest = lines.iter();
    for text in wanted {
        let found = rest.any(|line| line.contains(text));
        assert!(found, "no {text:?} after those before it in: {lines:#?}");
    }
}

fn fds_of(pid: i32) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    links.map(|l| l.display().to_string()).collect()
}

#[test]
fn the_steps_of_a_start_are_shown_in_their_order_and_no_secret() {
    let root = Root::new();
    let command = root.command(&["--log-level", "trace", "apply", "-f", "-"]);
    let ran = root.feed_to(command, &secretive("loud"));
    assert_eq!((ran.code, &*ran.stdout), (0, "pod/loud created\n"));
    let said = lines(&ran.stderr);
    in_order(
        &said,
        &[
            " info cli: carob ",
            " debug pod::monitor::start: start the monitor",
            " debug pod::monitor: action: MakeSandbox",
            "sandbox: cgroup",
            "sandbox: namespaces",
            "sandbox: network",
            "fact: SandboxMade ips=[",
            "action: Start container=\"main\"",
            "fact: Image container=\"main\"",
            " is cloned",
            "mount at /proc",
            "mount at /etc/hosts",
            "change to the container's root",
            "become user 0:0",
            "execute \"/bin/sh\"",
            "fact: Started container=\"main\"",
            "action: RunHook container=\"main\" hook=\"PostStart\" check=...",
            "fact: HookEnded container=\"main\" hook=\"PostStart\" result=Ok(null)",
        ],
    );

    let traced = |call: &str| said.iter().any(|line| line.contains(call));
    for call in [
        " trace linux::mount: open_tree(\"/proc/self/exe\", OPEN_TREE_CLONE) = ",
        " trace linux::cgroup: mkdir(\"",
        " trace linux::cgroup::io: write(\"",
        " trace linux::namespace: unshare(CLONE_NEW",
        " trace linux::mount: umount2(\"",
        " trace linux::netlink: RTM_NEWADDR(",
        " trace linux::netlink: NFT_MSG_NEWTABLE(",
        " trace sys::process: clone3(",
        " trace linux::mount: fsconfig(\"overlay\", \"source\", \"overlay\") = 0",
        " trace linux::mount: pivot_root(\".\", \".\") = 0",
        " trace container::process: setresuid(0) = 0",
        " trace store::record: write the record ",
    ] {
        assert!(traced(call), "no {call:?} in {said:#?}");
    }

    // The monitor goes on, in a file that is root's alone and goes with the Pod.
    root.carob(&["exec", "loud", "--", "true", SECRET]).ok();
    let dir = root.dir().join("run/pods").join(root.uid("loud"));
    let file = dir.join("monitor.log");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(lines(&written).len() > 20, "{written}");
    for text in [&ran.stderr, &written] {
        assert!(!text.contains(SECRET), "{text}");
    }
    // The monitor has it open, and no process of the container has.
    let is_log = |fd: &String| fd.ends_with("/monitor.log");
    assert!(fds_of(root.monitor_pid("loud")).iter().any(is_log));
    let fds = fds_of(root.pid("loud", "main"));
    assert!(!fds.iter().any(is_log), "{fds:?}");
    let inside = root.sh("loud", "ls -l /proc/self/fd/ /proc/1/fd/; env");
    assert!(!inside.contains("monitor.log") && !inside.contains("CAROB_LOG"));

    // A later command shows its own lines and not the old ones.
    let again = root.command(&["--log-level", "debug", "apply", "-f", "-"]);
    let ran = root.feed_to(again, &secretive("loud"));
    assert_eq!(ran.stdout, "pod/loud unchanged\n");
    let old = |line: &&str| line.contains("MakeSandbox");
    assert!(!lines(&ran.stderr).iter().any(old), "{}", ran.stderr);
    root.carob(&["delete", "pod", "loud", "--now"]).ok();
    assert!(!dir.exists());
}

#[test]
fn the_last_lines_of_a_failure_say_what_failed() {
    let root = Root::new();
    let mut spec: serde_json::Value = serde_json::from_str(&secretive("broken")).unwrap();
    spec["spec"]["containers"][0]["command"] = json!(["/no/such/program"]);
    let command = root.command(&["--log-level", "debug", "apply", "-f", "-"]);
    let ran = root.feed_to(command, &spec.to_string());
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    let said: Vec<&str> = ran.stderr.lines().collect();
    in_order(
        &said,
        &[
            "enter the working directory",
            "fact: NotStarted container=\"main\" error=",
            "apply ends: pod broken: container main: ",
            "error: pod broken: container main: ",
        ],
    );
}

#[test]
fn the_last_line_of_a_hang_says_what_is_waited_for() {
    let root = Root::new();
    root.carob(&["get", "pods"]).ok();
    let lock = root.dir().join("run/names.lock");
    let held = carob::inside::store::Lock::acquire(&lock).unwrap();
    let manifest = root.dir().join("pod.yaml");
    std::fs::write(&manifest, secretive("held")).unwrap();
    let said = root.dir().join("said");
    let mut apply = root.command(&["--log-level", "debug", "apply", "-f"]);
    apply
        .arg(&manifest)
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap());
    let mut apply = apply.spawn().unwrap();
    let wanted = format!("wait for the lock {}\n", lock.display());
    let last = until(|| {
        let text = std::fs::read_to_string(&said).unwrap();
        match text.ends_with(&wanted) {
            true => Ok(()),
            false => Err(text),
        }
    });
    drop(held);
    assert!(apply.wait().unwrap().success());
    assert_eq!(last, Ok(()));
}
