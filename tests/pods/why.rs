//! `carob why`: failures made on purpose, each answered with cause, place and mend.

use serde_json::{Value, json};

use crate::root::{Root, pod, sh, until};

const IDLE: &str = "exec sleep 1000";

/// The answer for one Pod.
fn why(root: &Root, name: &str) -> Value {
    let text = root.carob(&["why", name, "-o", "json"]).ok();
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["items"][0].clone()
}

/// A Pod with this spec, and what is said of it in the end: the cause, the container if one
/// is to blame, and words of the text and of the mend.
#[track_caller]
fn answered(name: &str, spec: Value, cause: &str, container: &str, text: &str, mend: &str) -> Root {
    let root = Root::new();
    let manifest = pod(name, spec);
    root.feed(&["apply", "--wait=false", "-f", "-"], &manifest)
        .ok();
    says(&root, name, cause, container, text, mend);
    root
}

#[track_caller]
fn says(root: &Root, name: &str, cause: &str, container: &str, text: &str, mend: &str) {
    let holds = until(|| {
        let answer = why(root, name);
        let part = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let is = part("cause") == cause
            && part("container") == container
            && part("text").contains(text)
            && part("mend").contains(mend);
        if is { Ok(()) } else { Err(answer) }
    });
    holds.unwrap_or_else(|answer| panic!("{name}: {answer:#}"));
}

fn one(script: &str, extra: Value) -> Value {
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [sh("main", script, extra)]})
}

fn always(script: &str, extra: Value) -> Value {
    let mut spec = one(script, extra);
    spec["restartPolicy"] = "Always".into();
    spec
}

#[test]
fn nothing_is_wrong() {
    let root = answered("p", one(IDLE, json!({})), "Ready", "", "is Ready since", "");
    let said = root.carob(&["why"]);
    assert!(
        said.stderr.contains("1 Pods, none waits or has failed"),
        "{said:?}"
    );
    answered(
        "p",
        one("true", json!({})),
        "Completed",
        "",
        "has ended, with success",
        "",
    );
}

#[test]
fn a_container_that_fails() {
    let failed = "ContainerFailed";
    answered(
        "p",
        one("echo boom; exit 3", json!({})),
        failed,
        "main",
        "exit code 3; its last line: boom",
        "carob logs p",
    );
    answered(
        "p",
        always("echo boom; exit 3", json!({})),
        failed,
        "main",
        "CrashLoopBackOff (exit code 3",
        "carob logs -p p",
    );
    let mut spec = one(IDLE, json!({}));
    spec["containers"][0]["command"] = json!(["/no/such"]);
    answered(
        "p",
        spec,
        failed,
        "main",
        "StartError",
        "carob describe pod p",
    );
    let mut spec = one(IDLE, json!({}));
    spec["containers"][0]["image"] = "localhost/none:1".into();
    spec["containers"][0]["imagePullPolicy"] = "Never".into();
    answered(
        "p",
        spec,
        failed,
        "main",
        "ErrImageNeverPull",
        "load -i FILE brings it, or set another imagePullPolicy",
    );
    answered(
        "p",
        one(IDLE, json!({"securityContext": {"runAsNonRoot": true}})),
        failed,
        "main",
        "container has runAsNonRoot and image will run as root",
        "set securityContext.runAsUser to a number that is not 0",
    );
    let limits = json!({"resources": {"limits": {"memory": "16Mi"}}});
    answered(
        "p",
        one(
            "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo $x",
            limits,
        ),
        failed,
        "main",
        "OOMKilled",
        "raise that in the manifest",
    );
    let read_only = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    answered(
        "p",
        one(
            "touch /data/x 2>/dev/null || { echo /data/x: Read-only file system; exit 1; }",
            read_only,
        ),
        failed,
        "main",
        "Read-only file system",
        "mount an emptyDir",
    );
    let user = json!({"securityContext": {"runAsUser": 1000}});
    answered(
        "p",
        one("echo 'bind: Permission denied'; exit 1", user),
        failed,
        "main",
        "bind: Permission denied",
        "ip_unprivileged_port_start",
    );
    answered(
        "p",
        one("echo '/x: No space left on device'; exit 1", json!({})),
        failed,
        "main",
        "No space left",
        "raise emptyDir.sizeLimit",
    );
    answered(
        "p",
        always("exit 0", json!({})),
        failed,
        "main",
        "CrashLoopBackOff (exit code 0",
        "restartPolicy OnFailure or Never",
    );
}

#[test]
fn what_comes_before_the_containers() {
    let mut spec = one(IDLE, json!({}));
    spec["initContainers"] = json!([sh("init", IDLE, json!({}))]);
    answered(
        "p",
        spec.clone(),
        "InitContainerRuns",
        "init",
        "init container init runs since",
        "carob logs p -c init",
    );
    spec["initContainers"] = json!([sh("init", "echo no database; exit 1", json!({}))]);
    answered(
        "p",
        spec,
        "ContainerFailed",
        "init",
        "no database",
        "carob logs p -c init",
    );
    let hook = json!({"lifecycle": {"postStart": {"sleep": {"seconds": 1}}}});
    let mut spec = one(IDLE, hook);
    spec["containers"][0]["lifecycle"]["postStart"] =
        json!({"exec": {"command": ["sleep", "1000"]}});
    answered(
        "p",
        spec,
        "PostStartHookRuns",
        "main",
        "postStart hook of container main",
        "",
    );
}

#[test]
fn probes() {
    let startup = json!({"startupProbe": {"tcpSocket": {"port": 80}, "failureThreshold": 100}});
    answered(
        "p",
        one(IDLE, startup),
        "StartupProbe",
        "main",
        "startup probe (tcp-socket :80) does not succeed yet",
        "carob logs p",
    );
    let readiness = json!({"readinessProbe": {
        "exec": {"command": ["cat", "/nope"]}, "periodSeconds": 1, "failureThreshold": 1,
    }});
    answered(
        "p",
        one(IDLE, readiness),
        "ReadinessProbe",
        "main",
        "does not succeed: the command ended with 1: cat: can't open '/nope'",
        "what the probe asks",
    );
    let liveness = json!({"livenessProbe": {
        "exec": {"command": ["cat", "/nope"]}, "periodSeconds": 1, "failureThreshold": 1,
    }});
    answered(
        "p",
        always(IDLE, liveness),
        "ContainerFailed",
        "main",
        "Liveness probe failed: container main: the command ended with 1: cat",
        "carob logs",
    );
}

#[test]
fn the_pod_as_a_whole() {
    let root = answered("p", one(IDLE, json!({})), "Ready", "", "", "");
    root.carob(&["pause", "p"]).ok();
    says(
        &root,
        "p",
        "Paused",
        "",
        "is paused since",
        "carob resume p",
    );
    root.carob(&["resume", "p"]).ok();
    drop(root);
    let mut spec = one("trap '' TERM; while :; do sleep 1; done", json!({}));
    spec["terminationGracePeriodSeconds"] = 100.into();
    let root = answered("p", spec, "Ready", "", "", "");
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    says(
        &root,
        "p",
        "Terminating",
        "",
        "with a grace period of 100 s; has not ended: main (pid",
        "--grace-period=0 --force",
    );
    let said = root.carob(&["why"]);
    assert!(said.stdout.contains("pod p: is being deleted"), "{said:?}");
    root.carob(&[
        "delete",
        "pod",
        "p",
        "--grace-period=0",
        "--force",
        "--wait=true",
    ])
    .ok();
    let mut spec = one(IDLE, json!({}));
    spec["activeDeadlineSeconds"] = 1.into();
    answered(
        "p",
        spec,
        "PodFailed",
        "",
        "DeadlineExceeded",
        "apply its manifest again",
    );
}

#[test]
fn resources_that_cannot_be_changed_in_place() {
    let root = Root::new();
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; echo full; sleep 1000";
    let of = |limit: &str| {
        let limits = json!({"cpu": "100m", "memory": limit});
        let both = json!({"resources": {"limits": limits, "requests": limits}});
        pod("p", always(script, both))
    };
    root.apply(&of("96Mi")).ok();
    root.says("p", "main", "full");
    root.apply(&of("20Mi")).ok();
    says(
        &root,
        "p",
        "PodResizeInProgress",
        "main",
        "memory limit (20971520) below current usage",
        "ask for more than 20Mi for container main",
    );
    let said = root.carob(&["why"]);
    assert!(said.stdout.contains("pod p: its resources"), "{said:?}");
    root.apply(&of("8000Gi")).ok();
    says(
        &root,
        "p",
        "PodResizePending",
        "main",
        "Infeasible: Node didn't have enough capacity: memory, requested: 8589934592000",
        "ask for less than this machine has",
    );
    root.apply(&of("96Mi")).ok();
    says(&root, "p", "Ready", "", "is Ready since", "");
}

#[test]
fn a_sandbox_that_cannot_be_made() {
    let root = Root::new();
    let port = json!({"ports": [{"containerPort": 80, "hostPort": 47113}]});
    root.apply(&pod("a", one(IDLE, port.clone()))).ok();
    root.feed(
        &["apply", "--wait=false", "-f", "-"],
        &pod("b", one(IDLE, port)),
    )
    .ok();
    says(&root, "b", "SandboxFailed", "", "47113", "");
    root.carob(&["why", "nope"]).fails(4, "not found");
}
