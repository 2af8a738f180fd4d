//! What runs again, when, and what is said of it.

use serde_json::{Value, json};

use crate::root::{Root, pod, sh};

/// Counts its runs in a volume, and in the log.
const COUNT: &str = "n=$(cat /data/n || echo 0); echo $((n+1)) > /data/n; echo run $n;";

fn main_status(field: &str) -> String {
    format!(".status.containerStatuses[0].{field}")
}

fn data() -> Value {
    json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]})
}

fn counting(policy: &str, then: &str) -> String {
    pod(
        "p",
        json!({
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 1,
            "containers": [sh("main", &format!("{COUNT} {then}"), data())],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }),
    )
}

#[test]
fn always_restarts_at_once_and_then_backs_off() {
    let root = Root::new();
    root.apply(&counting("Always", "exit 3")).ok();
    root.becomes(
        "p",
        &main_status("state.waiting.reason"),
        "CrashLoopBackOff",
    );
    assert_eq!(root.field("p", &main_status("restartCount")), "1");
    assert_eq!(
        root.field("p", &main_status("lastState.terminated.exitCode")),
        "3"
    );
    assert_eq!(root.field("p", ".status.phase"), "Running");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("CrashLoopBackOff"), "{row}");
    assert!(root.carob(&["logs", "p"]).ok().contains("run 1\n"));
}

#[test]
fn always_restarts_after_success_too() {
    let root = Root::new();
    root.apply(&counting("Always", "exit 0")).ok();
    root.becomes(
        "p",
        &main_status("state.waiting.reason"),
        "CrashLoopBackOff",
    );
    assert_eq!(
        root.field("p", &main_status("lastState.terminated.reason")),
        "Completed"
    );
}

#[test]
fn the_log_and_the_end_of_the_attempt_before_can_be_asked_for() {
    let root = Root::new();
    root.apply(&counting("OnFailure", "[ $n = 0 ] && exit 5; sleep 1000"))
        .ok();
    root.says("p", "main", "run 1\n");
    assert!(!root.carob(&["logs", "p"]).ok().contains("run 0"));
    let before = root.carob(&["logs", "p", "-p"]).ok();
    assert!(before.contains("run 0\n"), "{before}");
    assert!(!before.contains("run 1"), "{before}");
    assert_eq!(root.field("p", &main_status("restartCount")), "1");
    assert_eq!(
        root.field("p", &main_status("lastState.terminated.exitCode")),
        "5"
    );
    assert_ne!(root.field("p", &main_status("state.running.startedAt")), "");
}

#[test]
fn on_failure_restarts_until_success() {
    let root = Root::new();
    root.apply(&counting("OnFailure", "[ $n = 1 ]")).ok();
    root.becomes("p", ".status.phase", "Succeeded");
    assert_eq!(root.field("p", &main_status("restartCount")), "1");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("Completed"), "{row}");
}

#[test]
fn never_does_not_restart() {
    let root = Root::new();
    root.apply(&counting("Never", "exit 3")).ok();
    root.becomes("p", ".status.phase", "Failed");
    assert_eq!(root.field("p", &main_status("restartCount")), "0");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("Error"), "{row}");
    root.carob(&["logs", "p", "-p"])
        .fails(4, "previous terminated container");
}

#[test]
fn init_containers_run_in_order_and_each_to_its_end() {
    let root = Root::new();
    let init = |name: &str| {
        let script =
            format!("echo {name} begins >> /data/o; sleep 0.1; echo {name} ends >> /data/o");
        sh(name, &script, data())
    };
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [init("zeta"), init("alpha")],
        "containers": [sh("main", "cat /data/o", data())],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    root.apply(&pod("p", spec)).ok();
    root.becomes("p", ".status.phase", "Succeeded");
    assert_eq!(
        root.carob(&["logs", "p", "-c", "main"]).ok(),
        "zeta begins\nzeta ends\nalpha begins\nalpha ends\n"
    );
}

#[test]
fn an_init_container_that_fails_fails_the_pod_under_never() {
    let root = Root::new();
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [sh("first", "echo no; exit 4", json!({}))],
        "containers": [sh("main", "echo unreachable", json!({}))],
    });
    let ran = root.apply(&pod("p", spec));
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("first"), "{}", ran.stderr);
    root.becomes("p", ".status.phase", "Failed");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("Init:Error"), "{row}");
    assert_eq!(root.carob(&["logs", "p", "-c", "first"]).ok(), "no\n");
    assert_eq!(
        root.field("p", ".status.containerStatuses[0].state.waiting.reason"),
        "PodInitializing"
    );
}

#[test]
fn an_init_container_that_fails_is_restarted_under_always() {
    let root = Root::new();
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "initContainers": [sh("first", &format!("{COUNT} [ $n = 1 ]"), data())],
        "containers": [sh("main", "echo here; sleep 1000", data())],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    // Whether apply waits for the second try or tells of the first is its matter.
    root.apply(&pod("p", spec));
    root.says("p", "main", "here");
    assert_eq!(
        root.field("p", ".status.initContainerStatuses[0].restartCount"),
        "1"
    );
    assert_eq!(
        root.field(
            "p",
            ".status.initContainerStatuses[0].state.terminated.exitCode"
        ),
        "0"
    );
}

#[test]
fn a_sidecar_does_not_keep_a_pod_from_completing() {
    let root = Root::new();
    let sidecar = "trap 'exit 0' TERM; (usleep 200000; touch /data/ready; sleep 1000) & wait";
    let side = json!({
        "restartPolicy": "Always",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let spec = json!({
        "restartPolicy": "OnFailure",
        "initContainers": [sh("side", sidecar, side)],
        "containers": [sh("main", "until [ -e /data/ready ]; do usleep 10000; done", data())],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    root.apply(&pod("p", spec)).ok();
    root.becomes("p", ".status.phase", "Succeeded");
    root.becomes(
        "p",
        ".status.initContainerStatuses[0].state.terminated.exitCode",
        "0",
    );
    // It was not started anew to be stopped again.
    let restarts = ".status.initContainerStatuses[0].restartCount";
    assert_eq!(root.field("p", restarts), "0");
}

#[test]
fn a_container_over_its_memory_limit_is_oomkilled() {
    let root = Root::new();
    // In a child: the container dies as a whole all the same.
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [sh("main", "tail /dev/zero; sleep 1000", json!({"resources": {"limits": {"memory": "16Mi"}}}))],
    });
    root.apply(&pod("p", spec)).ok();
    root.becomes("p", ".status.phase", "Failed");
    assert_eq!(
        root.field("p", &main_status("state.terminated.reason")),
        "OOMKilled"
    );
    assert_eq!(
        root.field("p", &main_status("state.terminated.exitCode")),
        "137"
    );
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("OOMKilled"), "{row}");
}

/// A container whose postStart hook fails is killed, and has not been started.
#[test]
fn apply_fails_with_a_post_start_hook() {
    let root = Root::new();
    let hook = |words: &[&str]| json!({"lifecycle": {"postStart": {"exec": {"command": words}}}});
    let with = |name: &str, policy: &str, words: &[&str]| {
        let spec = json!({
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", "exec sleep 1000", hook(words))],
        });
        pod(name, spec)
    };
    let missing = with("a", "Always", &["nope"]);
    let failed = "container main: FailedPostStartHook: ";
    root.apply(&missing)
        .fails(7, failed)
        .fails(7, "\"nope\": executable file not found");
    root.apply(&missing).fails(7, failed);
    root.apply(&with("b", "Never", &["sh", "-c", "exit 3"]))
        .fails(7, failed)
        .fails(7, "the command ended with 3");
    root.becomes("b", ".status.phase", "Failed");
    root.apply(&with("c", "Always", &["true"])).ok();
}

/// What has been started and crashes is no start to wait for, and no secret.
#[test]
fn apply_of_a_crashing_pod_says_so_and_returns() {
    let root = Root::new();
    let crash = pod(
        "crash",
        json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", "echo begun; echo no configuration >&2; echo; exit 3", json!({}))],
        }),
    );
    root.apply(&crash).ok();
    let reason = main_status("state.waiting.reason");
    root.becomes("crash", &reason, "CrashLoopBackOff");
    // The back-off lasts 10 seconds.
    let again = root.feed(&["apply", "--timeout=5s", "-f", "-"], &crash);
    let said = "warning: pod crash: container main: CrashLoopBackOff (exit code 3, 1 restart); \
                its last line: no configuration\nhint: carob logs -p crash\n";
    assert_eq!(again.stderr, said);
    assert_eq!(again.ok(), "pod/crash unchanged\n");
    let ready = ["wait", "pod/crash", "--for=condition=Ready", "--timeout=0s"];
    root.carob(&ready)
        .fails(6, "CrashLoopBackOff (exit code 3, 1 restart)")
        .fails(6, "hint: carob logs -p crash\n");
    let described = root.carob(&["describe", "pod", "crash"]).ok();
    assert!(
        described.contains("Last Line:    no configuration\n"),
        "{described}"
    );
}
