//! What everybody does first: apply, look, talk, delete.

use crate::root::{Root, script_pod};

#[test]
fn a_pod_from_manifest_to_deletion() {
    let root = Root::new();
    let pod = script_pod(
        "one",
        "Never",
        1,
        "echo hello $HOSTNAME\necho oops >&2\nexit 3",
    );
    assert_eq!(root.apply(&pod).ok(), "pod/one created\n");
    root.carob(&[
        "wait",
        "pod/one",
        "--for=jsonpath={.status.phase}=Failed",
        "--timeout=10s",
    ])
    .ok();
    let logs = root.carob(&["logs", "one"]).ok();
    assert!(
        logs.contains("hello one\n") && logs.contains("oops\n"),
        "{logs}"
    );
    let ended = ".status.containerStatuses[0].state.terminated";
    assert_eq!(root.field("one", &format!("{ended}.exitCode")), "3");
    assert_eq!(root.field("one", &format!("{ended}.reason")), "Error");
    assert_eq!(
        root.carob(&["delete", "pod", "one"]).ok(),
        "pod \"one\" deleted from default namespace\n"
    );
    root.carob(&["get", "pod", "one"]).fails(4, "not found");
    // The end of each root replays them: that these are there shows that it has some.
    assert!(root.replay() > 5, "{} facts", root.replay());
}
