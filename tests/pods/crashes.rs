//! kill -9 of `carob apply` and of monitors, at any moment.

use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::root::{Root, alive, kill_9, pod, script_pod, sh, slack, tag_of, until};

const SLEEPS: &str = "trap 'exit 0' TERM; echo ready; sleep 1000 & wait";

/// Kills the Pod's monitor and waits until it is dead.
fn kill_monitor(root: &Root, pod: &str) {
    kill_and_wait(root.monitor_pid(pod));
}

fn kill_and_wait(pid: i32) {
    kill_9(pid);
    while alive(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn nothing_left(root: &Root, of: &str) {
    let left = until(|| {
        let left = root.left();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    left.unwrap_or_else(|l| panic!("{of}: {l:#?}"));
}

#[test]
fn an_apply_that_is_killed_leaves_no_pod_or_one_that_can_be_deleted() {
    let root = Root::new();
    let file = root.dir().join("pod.yaml");
    std::fs::write(&file, script_pod("p", "Never", 1, SLEEPS)).unwrap();
    let args = ["apply", "-f", file.to_str().unwrap()];
    let begun = Instant::now();
    root.carob(&args).ok();
    let whole = begun.elapsed();
    root.carob(&["delete", "pod", "p"]).ok();
    const STEPS: u32 = 24;
    for step in 0..=STEPS {
        let mut apply = root
            .command(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let delay = whole * step / STEPS;
        std::thread::sleep(delay);
        apply.kill().unwrap();
        apply.wait().unwrap();
        let listed = root.carob(&["get", "pods", "-o", "name"]).ok();
        match listed.as_str() {
            "" => {}
            "pod/p\n" => drop(root.carob(&["delete", "pod", "p", "--now"]).ok()),
            other => panic!("{other}"),
        }
        nothing_left(&root, &format!("killed after {delay:?}, {listed:?}"));
    }
}

#[test]
fn containers_outlive_their_monitors_and_their_log_has_no_hole() {
    let root = Root::new();
    let script = "trap 'exit 0' TERM; i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i; \
                  usleep 2000; done; echo over; sleep 1000 & wait";
    root.apply(&script_pod("p", "Never", 1, script)).ok();
    let pid = root.pid("p", "main");
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(150));
        kill_monitor(&root, "p");
        // Output waits for a while.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(root.field("p", ".status.phase"), "Running");
        assert_eq!(root.pid("p", "main"), pid);
        assert!(alive(pid));
    }
    root.says("p", "main", "over");
    let log = root.carob(&["logs", "p"]).ok();
    let mut want: String = (1..=600).map(|i| format!("{i}\n")).collect();
    want.push_str("over\n");
    if log != want {
        let wrong = log.lines().zip(want.lines()).find(|(l, w)| l != w);
        panic!("{} lines, first wrong: {wrong:?}", log.lines().count());
    }
    assert_eq!(
        root.field("p", ".status.containerStatuses[0].restartCount"),
        "0"
    );
}

/// Lets the Pod's container end, which waits for /tmp/go. A moment later, from behind: its
/// end would take a `touch` along that has not ended.
fn go(root: &Root) {
    let touch = "(usleep 100000; touch /tmp/go) </dev/null >/dev/null 2>&1 &";
    root.carob(&["exec", "p", "--", "sh", "-c", touch]).ok();
}

/// Whether a pidfd tells how a process ended that its parent has reaped: Linux 6.15.
fn pidfds_tell() -> bool {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let pidfd = carob::inside::sys::pidfd_open(pid).unwrap();
    child.wait().unwrap();
    matches!(
        carob::inside::sys::pidfd_exit_status(pidfd.as_fd()),
        Ok(Some(_))
    )
}

/// Of a container that ended with 7 and was not its monitor's child: what its status may
/// say on this kernel.
#[track_caller]
fn assert_seven(code: &str, reason: &str) {
    let unknown = (code, reason) == ("137", "ContainerStatusUnknown");
    let known = (code, reason) == ("7", "Error");
    assert!(known || unknown && !pidfds_tell(), "{code} {reason}");
}

#[test]
fn an_adopted_container_tells_how_it_ends() {
    let root = Root::new();
    let script = "until [ -e /tmp/go ]; do usleep 10000; done; exit 7";
    root.apply(&script_pod("p", "Never", 1, script)).ok();
    kill_monitor(&root, "p");
    go(&root);
    root.becomes("p", ".status.phase", "Failed");
    let ended = ".status.containerStatuses[0].state.terminated";
    let [code, reason] = ["exitCode", "reason"].map(|f| root.field("p", &format!("{ended}.{f}")));
    assert_seven(&code, &reason);
}

#[test]
fn an_end_that_no_monitor_saw_is_told_or_said_to_be_unknown() {
    let root = Root::new();
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do usleep 10000; done";
    root.apply(&script_pod("p", "Never", 1, script)).ok();
    root.says("p", "main", "ready");
    let pid = root.pid("p", "main");
    kill_monitor(&root, "p");
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    while alive(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
    root.becomes("p", ".status.phase", "Failed");
    let ended = ".status.containerStatuses[0].state.terminated";
    let told = (
        root.field("p", &format!("{ended}.exitCode")),
        root.field("p", &format!("{ended}.reason")),
    );
    let known = told == ("7".into(), "Error".into());
    let unknown = told == ("137".into(), "ContainerStatusUnknown".into());
    assert!(known || unknown, "{told:?}");
    // The last words are lost with the last process that had the FIFO open.
    let log = root.carob(&["logs", "p"]).ok();
    assert!(log.starts_with("ready\n"), "{log}");
}

/// The record's pid may be somebody else's by the time it is read.
#[test]
fn a_pid_that_is_another_process_by_now_is_left_alone() {
    let root = Root::new();
    root.apply(&script_pod("p", "Never", 0, SLEEPS)).ok();
    root.says("p", "main", "ready");
    let own = root.pid("p", "main");
    kill_monitor(&root, "p");
    kill_and_wait(own);
    let mut stranger = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let state = root
        .dir()
        .join("run/pods")
        .join(root.uid("p"))
        .join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pid = &mut record["containers"]["main"]["now"]["Running"]["pid"];
    assert_eq!(*pid, own);
    *pid = stranger.id().into();
    std::fs::write(&state, record.to_string()).unwrap();

    root.becomes("p", ".status.phase", "Failed");
    root.carob(&[
        "delete",
        "pod",
        "p",
        "--grace-period=0",
        "--force",
        "--wait",
    ])
    .ok();
    assert!(alive(stranger.id() as i32));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn an_adopted_container_takes_commands_and_ends_on_term() {
    let root = Root::new();
    root.apply(&script_pod("p", "Always", 30, SLEEPS)).ok();
    root.says("p", "main", "ready");
    kill_monitor(&root, "p");
    let said = root.carob(&["exec", "p", "--", "sh", "-c", "hostname; id -u; exit 9"]);
    assert_eq!((said.code, said.stdout.as_str()), (9, "p\n0\n"), "{said:?}");
    kill_monitor(&root, "p");
    let begun = Instant::now();
    root.carob(&["delete", "pod", "p"]).ok();
    assert!(begun.elapsed() < crate::root::slack(Duration::from_secs(3)));
}

#[test]
fn an_adopted_container_is_restarted_as_any_other() {
    let root = Root::new();
    let script = "echo ready; until [ -e /tmp/go ]; do usleep 10000; done; exit 7";
    root.apply(&script_pod("p", "Always", 1, script)).ok();
    kill_monitor(&root, "p");
    go(&root);
    root.becomes("p", ".status.containerStatuses[0].restartCount", "1");
    let last = ".status.containerStatuses[0].lastState.terminated";
    let [code, reason] = ["exitCode", "reason"].map(|f| root.field("p", &format!("{last}.{f}")));
    assert_seven(&code, &reason);
    root.becomes("p", ".status.phase", "Running");
}

#[test]
fn a_grace_period_goes_on_across_monitors() {
    let root = Root::new();
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let grace = Duration::from_secs(8);
    root.apply(&script_pod("p", "Always", 8, script)).ok();
    root.says("p", "main", "ready");
    let pid = root.pid("p", "main");
    let begun = Instant::now();
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    let mut last_start = begun;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(600));
        kill_monitor(&root, "p");
        last_start = Instant::now();
        root.carob(&["get", "pods"]).ok();
    }
    while alive(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    // To the millisecond, as records have times. Not from the last monitor's start, however
    // slow the machine is.
    let anew = last_start - begun + grace;
    assert!(
        took >= grace - Duration::from_millis(10) && took < anew,
        "{took:?}, a new grace period would end after {anew:?}"
    );
    root.carob(&["wait", "pod/p", "--for=delete", "--timeout=5s"])
        .ok();
}

/// A hook of the container that writes a line to `/out/hooks`, and takes its time.
fn slow_hook(seconds: u32) -> serde_json::Value {
    let script = format!("echo begun >> /out/hooks; sleep {seconds}; echo over >> /out/hooks");
    json!({"exec": {"command": ["sh", "-c", script]}})
}

fn with_hooks(root: &Root, grace: u32, lifecycle: serde_json::Value) {
    let out = root.dir().join("out");
    let container = json!({
        "lifecycle": lifecycle,
        "volumeMounts": [{"name": "out", "mountPath": "/out"}],
    });
    let spec = json!({
        "terminationGracePeriodSeconds": grace,
        "containers": [sh("main", SLEEPS, container)],
        "volumes": [{"name": "out", "hostPath": {"path": out, "type": "DirectoryOrCreate"}}],
    });
    root.feed(&["apply", "--wait=false", "-f", "-"], &pod("p", spec))
        .ok();
}

fn hooks(root: &Root) -> String {
    std::fs::read_to_string(root.dir().join("out/hooks")).unwrap_or_default()
}

fn hook_begins(root: &Root, times: usize) {
    let seen = until(|| match hooks(root) {
        text if text.matches("begun").count() >= times => Ok(()),
        text => Err(text),
    });
    seen.unwrap();
}

/// As in a kubelet that is started again: the hook runs on, nobody waits for it, and it is
/// not run a second time.
#[test]
fn a_monitor_killed_in_a_post_start_hook() {
    let root = Root::new();
    with_hooks(&root, 1, json!({"postStart": slow_hook(2)}));
    hook_begins(&root, 1);
    let pid = root.pid("p", "main");
    kill_monitor(&root, "p");
    root.becomes("p", ".status.containerStatuses[0].started", "true");
    root.becomes("p", ".status.conditions[?(@.type=='Ready')].status", "True");
    assert_eq!(root.pid("p", "main"), pid);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(hooks(&root), "begun\nover\n");
    assert_eq!(
        root.field("p", ".status.containerStatuses[0].restartCount"),
        "0"
    );
}

/// The hook begins again, in what is left of the grace period.
#[test]
fn a_monitor_killed_in_a_pre_stop_hook() {
    let root = Root::new();
    with_hooks(&root, 4, json!({"preStop": slow_hook(60)}));
    root.says("p", "main", "ready");
    let begun = Instant::now();
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    hook_begins(&root, 1);
    std::thread::sleep(Duration::from_secs(1));
    kill_monitor(&root, "p");
    root.carob(&["get", "pods"]).ok();
    hook_begins(&root, 2);
    root.carob(&["wait", "pod/p", "--for=delete", "--timeout=20s"])
        .ok();
    let took = begun.elapsed();
    // The grace period and, since the hook has used it up, 2 seconds for TERM.
    let least = Duration::from_secs(4);
    assert!(
        took >= least && took < least + slack(Duration::from_secs(4)),
        "{took:?}"
    );
    assert!(!hooks(&root).contains("over"));
}

/// The delay counts from the end of the container, not from the start of the monitor.
#[test]
fn a_monitor_killed_in_a_back_off() {
    let root = Root::new();
    root.feed(
        &["apply", "--wait=false", "-f", "-"],
        &script_pod("p", "Always", 1, "exit 3"),
    )
    .ok();
    root.becomes(
        "p",
        ".status.containerStatuses[0].state.waiting.reason",
        "CrashLoopBackOff",
    );
    root.becomes("p", ".status.containerStatuses[0].restartCount", "1");
    let ended = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    kill_monitor(&root, "p");
    let count = || root.field("p", ".status.containerStatuses[0].restartCount");
    while count() == "1" {
        assert!(ended.elapsed() < slack(Duration::from_secs(14)));
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = ended.elapsed();
    assert!(took >= Duration::from_secs(9), "{took:?}");
    // And the next one is twice as long.
    root.becomes(
        "p",
        ".status.containerStatuses[0].state.waiting.reason",
        "CrashLoopBackOff",
    );
    let message = root.field("p", ".status.containerStatuses[0].state.waiting.message");
    assert!(message.starts_with("back-off 20s"), "{message}");
}

#[test]
fn a_monitor_killed_while_its_pod_ends_is_followed_by_one_that_ends_it() {
    let root = Root::new();
    let manifest = script_pod("p", "Always", 1, SLEEPS);
    for step in 0..25 {
        root.apply(&manifest).ok();
        root.says("p", "main", "ready");
        let monitor = root.monitor_pid("p");
        let mut delete = root
            .command(&["delete", "pod", "p"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(2) * step);
        kill_and_wait(monitor);
        let status = delete.wait().unwrap();
        let listed = root.carob(&["get", "pods", "-o", "name"]).ok();
        assert_eq!(listed, "", "step {step}, delete: {status}");
        nothing_left(&root, &format!("step {step}, delete: {status}"));
    }
}

#[test]
fn a_monitor_killed_before_its_pod_stands_is_followed_by_one_that_makes_it() {
    let root = Root::new();
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "initContainers": [sh("first", "true", json!({}))],
        "containers": [sh("main", SLEEPS, json!({})), sh("other", SLEEPS, json!({}))],
    });
    let manifest = pod("p", spec);
    for step in 0..20 {
        root.feed(&["apply", "--wait=false", "-f", "-"], &manifest)
            .ok();
        std::thread::sleep(Duration::from_millis(2) * step);
        // Known only once it has written its record.
        let dir = std::fs::read_dir(root.dir().join("run/pods"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let pid = until(|| {
            let state = std::fs::read(dir.join("state.json")).map_err(drop)?;
            let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
            state["monitor_pid"].as_i64().ok_or(())
        });
        kill_and_wait(pid.unwrap() as i32);
        if step % 2 == 0 {
            root.says("p", "main", "ready");
            root.says("p", "other", "ready");
            assert_eq!(
                root.field("p", ".status.containerStatuses[*].restartCount"),
                "0 0",
                "step {step}"
            );
        }
        root.carob(&["delete", "pod", "p"]).ok();
        nothing_left(&root, &format!("step {step}"));
    }
}

#[test]
fn systemd_oomd_is_told_not_to_choose_the_monitors() {
    let root = Root::new();
    root.apply(&script_pod("p", "Never", 1, SLEEPS)).ok();
    let cgroup = format!("carob-{}/monitor", tag_of(root.dir()));
    let v2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(|top| std::path::Path::new(top).join(&cgroup));
    let dir = v2.iter().find(|dir| dir.exists()).unwrap();
    let dir = std::fs::File::open(dir).unwrap();
    let value = carob::inside::sys::fgetxattr(dir, c"user.oomd_omit");
    assert_eq!(value.unwrap(), b"1");
}

/// ConfigMaps, Secrets and namespaces: a record is the old one or the new one, and a writer
/// that dies leaves the next one nothing to stumble over.
#[test]
fn objects_outlive_writers_that_are_killed() {
    let root = Root::empty();
    let manifest = |n: u32| {
        // Large enough for a write to take a while.
        let value = format!("{n} ").repeat(50_000);
        let object = |kind: &str, field: &str| {
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "o"},
                field: {"a": value, "b": value}})
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "o", "labels": {"n": n.to_string()}}});
        let items = [
            namespace,
            object("ConfigMap", "data"),
            object("Secret", "stringData"),
        ];
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    };
    let file = root.dir().join("objects.json");
    let file = file.to_str().unwrap();
    let apply = ["apply", "-f", file];
    let delete = ["delete", "-f", file, "--ignore-not-found"];
    let kinds = ["namespace", "configmap", "secret"];
    // What there is of each kind, by the number that it was made with.
    let kept = |kind: &str| -> Option<u32> {
        let ran = root.carob(&["get", kind, "o", "-o", "json", "--ignore-not-found"]);
        let text = ran.ok();
        if text.is_empty() {
            return None;
        }
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        if kind == "namespace" {
            return object["metadata"]["labels"]["n"]
                .as_str()
                .unwrap()
                .parse()
                .ok();
        }
        // Both values are of one change.
        let (a, b) = (&object["data"]["a"], &object["data"]["b"]);
        assert_eq!(a, b);
        let text = a.as_str().unwrap();
        let first = match kind {
            "secret" => match &text[..2] {
                "MS" => "1",
                "Mi" => "2",
                other => panic!("{other}"),
            },
            _ => &text[..1],
        };
        first.parse().ok()
    };
    let run_and_kill = |args: &[&str], after: Duration| {
        let mut child = root
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    };
    std::fs::write(file, manifest(1)).unwrap();
    let begun = Instant::now();
    root.carob(&apply).ok();
    let whole = begun.elapsed();
    const STEPS: u32 = 16;
    for step in 0..=STEPS {
        let after = whole * step / STEPS;
        // An update: each is as before or as after.
        std::fs::write(file, manifest(1)).unwrap();
        root.carob(&apply).ok();
        std::fs::write(file, manifest(2)).unwrap();
        run_and_kill(&apply, after);
        for kind in kinds {
            assert!(
                matches!(kept(kind), Some(1 | 2)),
                "{kind} killed after {after:?}"
            );
        }
        root.carob(&apply).ok();
        assert_eq!(kinds.map(kept), [Some(2); 3], "killed after {after:?}");
        // A deletion: each is there or is not.
        run_and_kill(&delete, after);
        for kind in kinds {
            assert!(
                matches!(kept(kind), None | Some(2)),
                "{kind} killed after {after:?}"
            );
        }
        root.carob(&delete).ok();
        assert_eq!(kinds.map(kept), [None; 3], "killed after {after:?}");
        // The first one.
        run_and_kill(&apply, after);
        for kind in kinds {
            assert!(
                matches!(kept(kind), None | Some(2)),
                "{kind} killed after {after:?}"
            );
        }
        root.carob(&apply).ok();
        root.carob(&delete).ok();
    }
    let mut left = vec![];
    let mut dirs = vec![root.dir().join("data/objects")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => left.push(path),
            }
        }
    }
    assert!(left.is_empty(), "{left:?}");
}
