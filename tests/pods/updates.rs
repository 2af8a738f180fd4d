//! What of a Pod changes in place.

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, kill_9, pod, sh};

const OTHER: &str = "localhost/carob/other:1";

fn root() -> Root {
    let root = Root::new();
    root.carob(&["tag", IMAGE, OTHER]).ok();
    root
}

/// Two containers, of which the first counts its attempts in a volume that they share.
fn counting(image: &str, extra: Value) -> String {
    let script = "echo x >> /data/n; echo begun; exec sleep 1000";
    let mounts = json!({"image": image, "volumeMounts": [{"name": "d", "mountPath": "/data"}]});
    let mut spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("a", script, mounts), sh("b", "exec sleep 1000", json!({}))],
        "volumes": [{"name": "d", "emptyDir": {}}],
    });
    if let (Some(spec), Value::Object(extra)) = (spec.as_object_mut(), extra) {
        spec.extend(extra);
    }
    pod("p", spec)
}

#[test]
fn a_corrected_image_starts() {
    let root = root();
    let wrong =
        counting("localhost/carob/nope:1", json!({})).replace("\"IfNotPresent\"", "\"Never\"");
    let right = wrong.replace("localhost/carob/nope:1", OTHER);
    root.apply(&wrong).fails(8, "localhost/carob/nope:1");
    let uid = root.field("p", ".metadata.uid");
    assert_eq!(root.apply(&right).ok(), "pod/p configured\n");
    assert_eq!(root.field("p", ".metadata.uid"), uid);
    assert_eq!(root.field("p", ".status.phase"), "Running");
    assert_eq!(root.field("p", ".spec.containers[0].image"), OTHER);
    assert_eq!(
        root.field("p", ".status.containerStatuses[*].restartCount"),
        "0 0"
    );
    assert_eq!(root.apply(&right).ok(), "pod/p unchanged\n");
}

#[test]
fn a_corrected_image_of_an_init_container_starts() {
    let root = root();
    let with = |image: &str| {
        let init = sh(
            "init",
            "true",
            json!({"image": image, "imagePullPolicy": "Never"}),
        );
        counting(IMAGE, json!({"initContainers": [init]}))
    };
    root.apply(&with("localhost/carob/nope:1"))
        .fails(8, "nope:1");
    assert_eq!(root.apply(&with(IMAGE)).ok(), "pod/p configured\n");
    assert_eq!(root.field("p", ".status.phase"), "Running");
    // One that is over stays so.
    assert_eq!(root.apply(&with(OTHER)).ok(), "pod/p configured\n");
    let status = ".status.initContainerStatuses[0]";
    assert_eq!(root.field("p", &format!("{status}.restartCount")), "0");
}

#[test]
fn a_running_container_is_made_anew_of_another_image() {
    let root = root();
    root.apply(&counting(IMAGE, json!({}))).ok();
    let uid = root.field("p", ".metadata.uid");
    let other = root.pid("p", "b");
    root.apply(&counting(OTHER, json!({}))).ok();
    // Whatever the restart policy says; apply has waited for it.
    let restarts = || root.field("p", ".status.containerStatuses[*].restartCount");
    assert_eq!(restarts(), "1 0");
    root.says("p", "a", "begun");
    assert_eq!(root.sh("p", "cat /data/n"), "x\nx\n");
    assert_eq!(root.field("p", ".metadata.uid"), uid);
    assert_eq!(root.pid("p", "b"), other);
    let said = root.carob(&["describe", "pod", "p"]).ok();
    let event = "Container a definition changed, will be restarted";
    assert!(said.contains(event), "{said}");
    // Its monitor knows, also one that was not there.
    kill_9(root.monitor_pid("p"));
    assert_eq!(
        root.apply(&counting(IMAGE, json!({}))).ok(),
        "pod/p configured\n"
    );
    assert_eq!(restarts(), "2 0");
    // Something else may not change, and the image is not what is in the way.
    let refused = counting(OTHER, json!({"terminationGracePeriodSeconds": 7}));
    root.apply(&refused).fails(
        5,
        "cannot be changed in: spec.terminationGracePeriodSeconds\n",
    );
}

#[test]
fn a_deadline_comes_later() {
    let root = root();
    root.apply(&counting(IMAGE, json!({}))).ok();
    let late = counting(IMAGE, json!({"activeDeadlineSeconds": 1}));
    let ran = root.feed(&["apply", "--wait=false", "-f", "-"], &late);
    assert_eq!(ran.ok(), "pod/p configured\n");
    root.becomes("p", ".status.reason", "DeadlineExceeded");
    let image = counting(OTHER, json!({"activeDeadlineSeconds": 1}));
    root.apply(&image).fails(5, "has ended");
}
