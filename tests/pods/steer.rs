//! What a user does with a Pod that runs: restart, pause, resume.

use std::time::Duration;

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, alive, kill_9, pod, sh, until};

const TICKS: &str = "trap 'echo asked to end; exit 0' TERM; \
                     n=0; while :; do n=$((n+1)); echo $n > /tick; sleep 0.05; done";

fn of(policy: &str, extra: Value) -> String {
    let spec = json!({
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 2,
        "initContainers": [sh("init", "echo x >> /data/inits", json!({
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }))],
        "containers": [sh("main", TICKS, extra), sh("other", "exec sleep 1000", json!({}))],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    pod("p", spec)
}

fn mounted() -> Value {
    json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]})
}

fn restarts(root: &Root) -> String {
    let of = |name: &str| {
        let path = format!(".status.containerStatuses[?(@.name=='{name}')].restartCount");
        root.field("p", &path)
    };
    format!("{} {}", of("main"), of("other"))
}

#[test]
fn a_restart_makes_containers_anew_and_keeps_what_they_share() {
    let root = Root::new();
    root.apply(&of("Never", mounted())).ok();
    let (ip, other) = (root.field("p", ".status.podIP"), root.pid("p", "other"));
    root.sh("p", "touch /data/kept /lost");
    assert_eq!(
        root.carob(&["restart", "pod/p", "-c", "main"]).ok(),
        "pod/p restarted\n"
    );
    assert_eq!(restarts(&root), "1 0");
    assert_eq!(
        root.sh("p", "ls /data /lost 2>/dev/null | xargs"),
        "/data: inits kept\n"
    );
    assert!(
        root.carob(&["logs", "p", "-c", "main", "-p"])
            .ok()
            .contains("asked to end")
    );
    assert!(alive(other));
    root.carob(&["restart", "p"]).ok();
    assert_eq!(restarts(&root), "2 1");
    assert_eq!(root.field("p", ".status.podIP"), ip);
    // No init container has run again.
    assert_eq!(root.sh("p", "cat /data/inits"), "x\n");
    root.carob(&["restart", "p", "-c", "init"])
        .fails(5, "is an init container");
    root.carob(&["restart", "p", "-c", "nope"])
        .fails(4, "it has: main, other");
    root.carob(&["restart", "nope"]).fails(4, "not found");
}

#[test]
fn a_restart_of_a_pod_that_has_ended_is_refused() {
    let root = Root::new();
    let spec = json!({"restartPolicy": "Never", "containers": [sh("main", "true", json!({}))]});
    root.apply(&pod("p", spec)).ok();
    root.becomes("p", ".status.phase", "Succeeded");
    root.carob(&["restart", "p"]).fails(5, "has ended");
}

/// Whether the container's script goes on.
fn goes_on(root: &Root) -> bool {
    let tick = || std::fs::read_to_string(format!("/proc/{}/root/tick", root.pid("p", "main")));
    let before = tick().unwrap_or_default();
    std::thread::sleep(Duration::from_millis(400));
    tick().unwrap_or_default() != before
}

#[test]
fn a_paused_pod_stands_still_until_it_is_resumed() {
    let root = Root::new();
    root.apply(&of("Always", json!({}))).ok();
    assert!(goes_on(&root));
    assert_eq!(root.carob(&["pause", "p"]).ok(), "pod/p paused\n");
    assert!(!goes_on(&root));
    let ready = ".status.conditions[?(@.type=='Ready')].reason";
    assert_eq!(root.field("p", ready), "PodPaused");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("Paused"), "{row}");
    root.carob(&["exec", "p", "--", "true"])
        .fails(125, "is paused");
    root.carob(&["restart", "p"]).fails(5, "is paused");
    root.carob(&["debug", "p", "--image", IMAGE])
        .fails(5, "is paused");
    // What is applied waits with the Pod, and the command does not.
    root.carob(&["tag", IMAGE, "localhost/other:1"]).ok();
    let other = of("Always", json!({"image": "localhost/other:1"}));
    root.apply(&other).fails(5, "is paused");
    root.carob(&["pause", "p"]).ok();
    assert_eq!(root.carob(&["resume", "p"]).ok(), "pod/p resumed\n");
    assert_eq!(root.apply(&other).ok(), "pod/p unchanged\n");
    assert!(goes_on(&root));
    root.carob(&["resume", "p"]).ok();
    root.carob(&["exec", "p", "--", "true"]).ok();
    root.carob(&["wait", "pod/p", "--for=condition=Ready", "--timeout=10s"])
        .ok();
}

#[test]
fn a_paused_pod_is_deleted_with_its_grace() {
    let root = Root::new();
    let hook = json!({"exec": {"command": ["sh", "-c", "echo hook > /data/hook"]}});
    let mut extra = mounted();
    extra["lifecycle"] = json!({"preStop": hook});
    let mut manifest: Value = serde_json::from_str(&of("Always", extra)).unwrap();
    let out = root.dir().join("out");
    manifest["spec"]["volumes"][0] =
        json!({"name": "data", "hostPath": {"path": out, "type": "DirectoryOrCreate"}});
    root.apply(&manifest.to_string()).ok();
    root.carob(&["pause", "p"]).ok();
    root.carob(&["delete", "pod", "p"]).ok();
    assert_eq!(std::fs::read_to_string(out.join("hook")).unwrap(), "hook\n");
}

#[test]
fn a_next_monitor_leaves_a_pod_paused() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 1,
    }});
    root.apply(&of("Always", probe)).ok();
    root.carob(&["pause", "p"]).ok();
    kill_9(root.monitor_pid("p"));
    let ready = ".status.conditions[?(@.type=='Ready')].reason";
    assert_eq!(root.field("p", ready), "PodPaused");
    assert!(!goes_on(&root));
    // A probe would time out.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(restarts(&root), "0 0");
    root.carob(&["resume", "p"]).ok();
    until(|| if goes_on(&root) { Ok(()) } else { Err(()) }).unwrap();
    assert_eq!(restarts(&root), "0 0");
}

#[test]
fn a_rule_by_exit_code_restarts_all_containers() {
    let root = Root::new();
    let main = sh(
        "main",
        "[ -e /data/again ] && exec sleep 1000; touch /data/again; sleep 0.3; exit 88",
        json!({
            "restartPolicy": "Never",
            "restartPolicyRules": [
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}},
            ],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }),
    );
    let init = sh("init", "echo x >> /data/inits", mounted());
    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["touch", "/data/hook"]}}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [init],
        "containers": [main, sh("other", "exec sleep 1000", hook)],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    root.apply(&pod("p", spec)).ok();
    let ip = root.field("p", ".status.podIP");
    until(|| match restarts(&root).as_str() {
        "1 1" => Ok(()),
        other => Err(other.to_owned()),
    })
    .unwrap();
    root.becomes("p", ".status.conditions[?(@.type=='Ready')].status", "True");
    assert_eq!(
        root.sh("p", "ls /data | xargs; cat /data/inits"),
        "again inits\nx\nx\n"
    );
    assert_eq!(root.field("p", ".status.podIP"), ip);
    let last = ".status.containerStatuses[?(@.name=='main')].lastState.terminated.exitCode";
    assert_eq!(root.field("p", last), "88");
    let init = ".status.initContainerStatuses[0].restartCount";
    assert_eq!(root.field("p", init), "1");
}
