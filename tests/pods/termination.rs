//! How a Pod ends, with clocks. Lower bounds are exact: the clock starts before
//! the request does. Upper bounds leave room for a busy machine.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::root::{Root, alive, kill_9, pod, sh, slack, until};

const IGNORES: &str = "trap '' TERM; echo ready; while :; do sleep 1; done";
const OBEYS: &str = "trap 'exit 0' TERM; echo ready; sleep 1000 & wait";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Applies a Pod `p` of this one container and waits until it is ready to be
/// signalled: the first process of a pid namespace is deaf before it has set its
/// handlers.
fn start(root: &Root, grace: u64, container: Value) {
    let spec = json!({
        "terminationGracePeriodSeconds": grace,
        "containers": [container],
        "volumes": [{"name": "out", "hostPath": {"path": root.dir().join("out"), "type": "DirectoryOrCreate"}}],
    });
    root.apply(&pod("p", spec)).ok();
    root.says("p", "main", "ready");
}

fn out() -> Value {
    json!([{"name": "out", "mountPath": "/out"}])
}

/// How long a command takes that is to succeed.
#[track_caller]
fn time(root: &Root, args: &[&str]) -> Duration {
    let begun = Instant::now();
    root.carob(args).ok();
    begun.elapsed()
}

/// At least `least`, and no more longer than `more` on an idle machine.
#[track_caller]
fn within(took: Duration, least: Duration, more: Duration) {
    assert!(took >= least && took < least + slack(more), "{took:?}");
}

#[test]
fn who_ignores_term_is_killed_at_the_end_of_the_grace_period() {
    let root = Root::new();
    start(&root, 1, sh("main", IGNORES, json!({})));
    let pid = root.pid("p", "main");
    let begun = Instant::now();
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    while alive(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    within(took, seconds(1), seconds(3));
    root.carob(&["wait", "pod/p", "--for=delete", "--timeout=5s"])
        .ok();
}

#[test]
fn who_exits_on_term_ends_the_deletion_at_once() {
    let root = Root::new();
    start(&root, 30, sh("main", OBEYS, json!({})));
    let took = time(&root, &["delete", "pod", "p"]);
    within(took, seconds(0), seconds(2));
    root.carob(&["get", "pod", "p"]).fails(4, "not found");
}

#[test]
fn a_prestop_command_comes_before_term() {
    let root = Root::new();
    let hook = "echo hook >> /out/order; sleep 0.3; echo over >> /out/order";
    let c = sh(
        "main",
        "trap 'echo term >> /out/order; exit 0' TERM; echo ready; sleep 1000 & wait",
        json!({"volumeMounts": out(), "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}}}),
    );
    start(&root, 30, c);
    let took = time(&root, &["delete", "pod", "p"]);
    within(took, seconds(0), seconds(3));
    let order = std::fs::read_to_string(root.dir().join("out/order")).unwrap();
    assert_eq!(order, "hook\nover\nterm\n");
}

#[test]
fn a_prestop_command_that_overruns_gets_two_seconds_once() {
    let root = Root::new();
    let c = sh(
        "main",
        "trap 'echo >> /out/term' TERM; echo ready; while :; do sleep 0.1; done",
        json!({"volumeMounts": out(), "lifecycle": {"preStop": {"exec": {"command": ["sleep", "60"]}}}}),
    );
    start(&root, 1, c);
    let wall = SystemTime::now();
    let took = time(&root, &["delete", "pod", "p"]);
    within(took, seconds(3), seconds(3));
    let term = std::fs::metadata(root.dir().join("out/term")).expect("TERM came before KILL");
    let at = term.modified().unwrap().duration_since(wall).unwrap();
    within(at, seconds(1), seconds(2));
}

#[test]
fn a_prestop_sleep_is_waited_for() {
    let root = Root::new();
    let c = sh(
        "main",
        OBEYS,
        json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}),
    );
    start(&root, 30, c);
    let took = time(&root, &["delete", "pod", "p"]);
    within(took, seconds(1), seconds(3));
}

#[test]
fn no_grace_without_force_is_one_second() {
    let root = Root::new();
    start(&root, 30, sh("main", IGNORES, json!({})));
    let begun = Instant::now();
    let ran = root.carob(&["delete", "pod", "p", "--grace-period=0"]);
    let took = begun.elapsed();
    assert!(ran.stderr.contains("--force"), "{}", ran.stderr);
    ran.ok();
    within(took, seconds(1), seconds(3));
}

#[test]
fn a_forced_deletion_frees_the_name_while_the_old_pod_dies() {
    let root = Root::new();
    start(&root, 30, sh("main", IGNORES, json!({})));
    let (old, old_uid) = (root.pid("p", "main"), root.field("p", ".metadata.uid"));
    let begun = Instant::now();
    let args = ["delete", "pod", "p", "--grace-period=0", "--force"];
    root.carob(&args).ok();
    let spec = json!({"containers": [sh("main", OBEYS, json!({}))]});
    root.apply(&pod("p", spec)).ok();
    let (new, new_uid) = (root.pid("p", "main"), root.field("p", ".metadata.uid"));
    assert!(old_uid != new_uid);
    assert!(alive(new));
    assert!(
        alive(old) || begun.elapsed() > seconds(2),
        "its two seconds were cut short"
    );
    while alive(old) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    within(took, seconds(2), seconds(3));
    let gone = until(|| {
        let left: Vec<_> = root
            .left()
            .into_iter()
            .filter(|l| l.contains(&old_uid))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    gone.unwrap();
    assert!(alive(new));
    assert_eq!(root.field("p", ".status.phase"), "Running");
    root.carob(&["exec", "p", "--", "true"]).ok();
}

#[test]
fn sidecars_stop_last_and_in_reverse_order() {
    let root = Root::new();
    let script = |name: &str, pause: &str| {
        format!(
            "trap 'sleep {pause}; echo {name} >> /out/order; exit 0' TERM; echo ready; sleep 1000 & wait"
        )
    };
    let mounts = json!({"volumeMounts": out()});
    let sidecar = json!({"volumeMounts": out(), "restartPolicy": "Always"});
    let spec = json!({
        "initContainers": [
            sh("one", &script("one", "0"), sidecar.clone()),
            sh("two", &script("two", "0.2"), sidecar),
        ],
        "containers": [
            sh("main", &script("main", "0.3"), mounts.clone()),
            sh("other", &script("other", "0"), mounts),
        ],
        "volumes": [{"name": "out", "hostPath": {"path": root.dir().join("out"), "type": "DirectoryOrCreate"}}],
    });
    root.apply(&pod("p", spec)).ok();
    for name in ["one", "two", "main", "other"] {
        root.says("p", name, "ready");
    }
    let took = time(&root, &["delete", "pod", "p"]);
    within(took, seconds(0), seconds(5));
    let order = std::fs::read_to_string(root.dir().join("out/order")).unwrap();
    assert_eq!(order, "other\nmain\ntwo\none\n");
}

#[test]
fn a_sidecar_that_ends_before_its_turn_serves_again() {
    let root = Root::new();
    let proxy = "echo up >> /out/log; trap 'echo term >> /out/log; exit 0' TERM; \
                 while [ ! -e /out/die ]; do sleep 0.1; done; rm /out/die; exit 1";
    let hook = "echo hook >> /out/log";
    // It asks the sidecar to end, and waits for its return.
    let main = "trap 'touch /out/die; while [ $(grep -c up /out/log) -lt 2 ]; do sleep 0.1; done; \
                echo main >> /out/log; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let mut side = sh(
        "side",
        proxy,
        json!({"volumeMounts": out(), "restartPolicy": "Always"}),
    );
    side["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", hook]}}});
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 20,
        "initContainers": [side],
        "containers": [sh("main", main, json!({"volumeMounts": out()}))],
        "volumes": [{"name": "out", "hostPath": {"path": root.dir().join("out"), "type": "DirectoryOrCreate"}}],
    });
    root.apply(&pod("p", spec)).ok();
    root.says("p", "main", "ready");
    root.carob(&["delete", "pod", "p"]).ok();
    let log = std::fs::read_to_string(root.dir().join("out/log")).unwrap();
    assert_eq!(log, "up\nhook\nup\nmain\nterm\n");
}

#[test]
fn a_second_deletion_shortens_and_never_lengthens() {
    let root = Root::new();
    start(&root, 30, sh("main", IGNORES, json!({})));
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    let took = time(&root, &["delete", "pod", "p", "--grace-period=1"]);
    within(took, seconds(1), seconds(3));

    start(&root, 1, sh("main", IGNORES, json!({})));
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    let took = time(&root, &["delete", "pod", "p", "--grace-period=30"]);
    within(took, seconds(0), seconds(4));
}

#[test]
fn without_waiting_the_pod_is_seen_terminating() {
    let root = Root::new();
    start(&root, 1, sh("main", IGNORES, json!({})));
    let took = time(&root, &["delete", "pod", "p", "--wait=false"]);
    within(took, seconds(0), seconds(1));
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("Terminating"), "{row}");
    assert_ne!(root.field("p", ".metadata.deletionTimestamp"), "");
    assert_eq!(root.field("p", ".metadata.deletionGracePeriodSeconds"), "1");
    root.carob(&["wait", "pod/p", "--for=delete", "--timeout=10s"])
        .ok();
    root.carob(&["get", "pod", "p"]).fails(4, "not found");
}

#[test]
fn the_stop_signal_can_be_another() {
    let root = Root::new();
    let c = sh(
        "main",
        "trap 'exit 0' USR1; echo ready; sleep 1000 & wait",
        json!({"lifecycle": {"stopSignal": "SIGUSR1"}}),
    );
    let spec = json!({"os": {"name": "linux"}, "containers": [c]});
    root.apply(&pod("p", spec)).ok();
    root.says("p", "main", "ready");
    let took = time(&root, &["delete", "pod", "p"]);
    within(took, seconds(0), seconds(3));
}

#[test]
fn a_shutdown_ends_containers_and_keeps_their_pods() {
    let root = Root::new();
    let hook = "echo hook >> /out/order";
    let main = sh(
        "main",
        "trap 'sleep 1; echo main >> /out/order; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
        json!({"volumeMounts": out(), "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}}}),
    );
    let sidecar = sh(
        "sidecar",
        "trap 'echo sidecar >> /out/order; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
        json!({"volumeMounts": out(), "restartPolicy": "Always"}),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "initContainers": [sidecar],
        "containers": [main],
        "volumes": [{"name": "out", "hostPath": {"path": root.dir().join("out"), "type": "DirectoryOrCreate"}}],
    });
    root.apply(&pod("works", spec)).ok();
    let one = |script: &str, grace: u64, policy: &str| {
        json!({
            "terminationGracePeriodSeconds": grace,
            "restartPolicy": policy,
            "containers": [sh("main", script, json!({}))],
        })
    };
    root.apply(&pod("deaf", one(IGNORES, 2, "Always"))).ok();
    root.apply(&pod("done", one("exit 0", 2, "Never"))).ok();
    for (p, c) in [("works", "main"), ("works", "sidecar"), ("deaf", "main")] {
        root.says(p, c, "ready");
    }
    root.becomes("done", ".status.phase", "Succeeded");
    let broken = root.dir().join("run/pods/broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("pod.json"), "{").unwrap();

    // A Pod whose record cannot be read is reported, and the others end.
    let begun = Instant::now();
    let ran = root.carob(&["system", "shutdown"]);
    let took = begun.elapsed();
    std::fs::remove_dir_all(&broken).unwrap();
    ran.fails(1, "pod broken: ");
    // All at the same time, each with its own grace period.
    within(took, seconds(2), seconds(8));
    let order = std::fs::read_to_string(root.dir().join("out/order")).unwrap();
    assert_eq!(order, "hook\nmain\nsidecar\n");
    for (p, reason, code) in [("works", "Terminated", "0"), ("deaf", "Terminated", "137")] {
        assert_eq!(root.field(p, ".status.phase"), "Failed", "{p}");
        assert_eq!(root.field(p, ".status.reason"), reason, "{p}");
        let path = ".status.containerStatuses[0].state.terminated.exitCode";
        assert_eq!(root.field(p, path), code, "{p}");
    }
    assert_eq!(root.field("done", ".status.phase"), "Succeeded");
    assert!(
        root.carob(&["logs", "works", "-c", "main"])
            .ok()
            .contains("ready")
    );
    let again = time(&root, &["system", "shutdown"]);
    within(again, seconds(0), seconds(2));
    // A new monitor does not start what has ended.
    let monitor = root.monitor_pid("works");
    kill_9(monitor);
    root.becomes("works", ".status.phase", "Failed");
    let path = ".status.containerStatuses[0].restartCount";
    assert_eq!(root.field("works", path), "0");
    time(&root, &["delete", "pods", "--all"]);
}

/// A Pod with so many sidecars and one container that all ignore TERM.
fn stubborn(sidecars: usize, grace: u32) -> String {
    let script = IGNORES;
    let sidecar = |i| {
        sh(
            &format!("side{i}"),
            script,
            json!({"restartPolicy": "Always"}),
        )
    };
    pod(
        "p",
        json!({
            "terminationGracePeriodSeconds": grace,
            "initContainers": (0..sidecars).map(sidecar).collect::<Vec<_>>(),
            "containers": [sh("main", script, json!({}))],
        }),
    )
}

#[test]
fn a_deletion_takes_the_grace_period_and_two_seconds_however_many_sidecars() {
    let root = Root::new();
    for (grace, args, least) in [
        (3, &[][..], 5),
        (0, &[], 2),
        (30, &["--grace-period=1"], 3),
        (30, &["--grace-period=0", "--force", "--wait=true"], 2),
    ] {
        root.apply(&stubborn(5, grace)).ok();
        let took = time(&root, &[&["delete", "pod", "p"], args].concat());
        within(took, seconds(least), seconds(2));
    }
}

#[test]
fn a_stopped_monitor_is_told_of_and_replaced_by_force() {
    let root = Root::new();
    root.apply(&stubborn(1, 30)).ok();
    let pid = root.pid("p", "main");
    let monitor = root.monitor_pid("p");
    let stop = nix::sys::signal::Signal::SIGSTOP;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), stop).unwrap();
    root.carob(&["delete", "pod", "p"])
        .fails(1, "is stopped (SIGSTOP)");
    assert!(alive(pid) && alive(monitor));
    let begin = Instant::now();
    root.carob(&[
        "delete",
        "pod",
        "p",
        "--grace-period=0",
        "--force",
        "--wait=true",
    ])
    .ok();
    assert!(!alive(pid) && !alive(monitor));
    assert!(begin.elapsed().as_secs() < 8, "{:?}", begin.elapsed());
}
