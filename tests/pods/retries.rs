//! A Pod whose sandbox cannot be made starts as soon as it can.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::root::{Root, kill_9, pod, sh, until};

const RUNS: &str = "{.status.phase}";

fn with_socket(root: &Root) -> (std::path::PathBuf, String) {
    let socket = root.dir().join("late.sock");
    let volume = json!({"path": socket.to_str().unwrap(), "type": "Socket"});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", "exec sleep 1000", json!({}))],
        "volumes": [{"name": "v", "hostPath": volume}],
    });
    (socket, pod("p", spec))
}

#[track_caller]
fn runs(root: &Root) {
    let phase = || {
        root.carob(&["get", "pod", "p", "-o", &format!("jsonpath={RUNS}")])
            .ok()
    };
    let end = until(|| match phase() {
        p if p == "Running" => Ok(()),
        p => Err(p),
    });
    assert_eq!(end, Ok(()));
}

/// Waits until the event of the failure is counted like this.
#[track_caller]
fn fails_until(root: &Root, count: &str) {
    let counted = until(|| {
        let said = root.carob(&["describe", "pod", "p"]).ok();
        // The last one is the event's.
        let line = said.lines().rfind(|l| l.contains("FailedMount"));
        match line {
            Some(line) if line.contains(count) => Ok(()),
            _ => Err(said),
        }
    });
    assert_eq!(counted, Ok(()));
}

#[test]
fn a_volume_that_comes_later_is_waited_for() {
    let root = Root::new();
    let (socket, manifest) = with_socket(&root);
    root.apply(&manifest).fails(7, "late.sock: does not exist");
    assert_eq!(root.field("p", ".status.reason"), "FailedMount");
    assert_eq!(root.field("p", ".status.phase"), "Pending");
    // In words, with the hint.
    let message = root.field("p", ".status.message");
    assert!(
        message.starts_with("volume v: hostPath ")
            && message.contains("late.sock: does not exist (start the program that listens at "),
        "{message}"
    );
    let said = root.carob(&["describe", "pod", "p"]).ok();
    assert!(said.contains(&message), "{said}");
    // Told again, and counted; applying it again asks for the state of now.
    root.apply(&manifest).fails(7, "late.sock: does not exist");
    fails_until(&root, "(x");
    let _socket = UnixListener::bind(socket).unwrap();
    runs(&root);
    root.carob(&["delete", "pod", "p"]).ok();
}

#[test]
fn applying_again_tries_at_once() {
    let root = Root::new();
    let (socket, manifest) = with_socket(&root);
    root.apply(&manifest).fails(7, "late.sock: does not exist");
    // After the third failure the next try is 4 s away.
    fails_until(&root, "(x3");
    let _socket = UnixListener::bind(socket).unwrap();
    root.apply(&manifest).ok();
    assert_eq!(root.field("p", ".status.phase"), "Running");
    kill_9(root.monitor_pid("p"));
    runs(&root);
}

#[test]
fn a_host_port_is_waited_for() {
    let root = Root::new();
    let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let number = port.local_addr().unwrap().port();
    let ports = json!({"ports": [{"containerPort": 80, "hostPort": number}]});
    root.apply(&pod(
        "p",
        json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", "exec sleep 1000", ports)],
        }),
    ));
    assert_eq!(root.field("p", ".status.reason"), "FailedCreatePodSandBox");
    drop(port);
    runs(&root);
    // Its namespaces are those of the try that worked.
    let ip: Value = root.field("p", ".status.podIP").into();
    let seen = root.sh("p", "ip -4 -o addr show | grep -v ' lo '; hostname");
    assert!(
        seen.contains(ip.as_str().unwrap()) && seen.ends_with("p\n"),
        "{seen}"
    );
}

#[test]
fn a_pod_without_a_sandbox_is_deleted_and_its_deadline_passes() {
    let root = Root::new();
    let (_, manifest) = with_socket(&root);
    let deadline = manifest.replace(
        "\"containers\"",
        "\"activeDeadlineSeconds\":3,\"containers\"",
    );
    root.apply(&deadline).fails(7, "late.sock");
    root.becomes("p", ".status.reason", "DeadlineExceeded");
    assert_eq!(root.field("p", ".status.phase"), "Failed");
    root.carob(&["delete", "pod", "p"]).ok();
    root.apply(&manifest).fails(7, "late.sock");
    root.carob(&["delete", "pod", "p"]).ok();
}
