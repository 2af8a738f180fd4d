//! A log filesystem without room: what containers write is dropped and counted, or waits
//! where that is asked for.

use serde_json::{Value, json};

use crate::full::Small;
use crate::root::{Root, pod, sh, until};

const LINES: usize = 20_000;

/// Writes lines of 20 bytes when it is told to, and one more at the end.
fn writer(end: &str) -> String {
    format!(
        "echo ready; until [ -e /tmp/write ]; do usleep 10000; done; \
         awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%019d\\n\", i }}'; touch /tmp/written; \
         until [ -e /tmp/end ]; do usleep 10000; done; echo over; {end}"
    )
}

fn manifest(script: &str, container: Value, annotations: Value) -> String {
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", script, container)],
    });
    let mut pod: Value = serde_json::from_str(&pod("p", spec)).unwrap();
    pod["metadata"]["annotations"] = annotations;
    pod.to_string()
}

fn has_written(root: &Root) -> bool {
    let look = root.carob(&["exec", "p", "--", "test", "-e", "/tmp/written"]);
    look.code == 0
}

/// Whether a child of the container's shell waits in write(2): proc_pid_syscall(5).
fn is_in_write(root: &Root) -> bool {
    let pid = root.pid("p", "main");
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let write = format!("{} ", libc::SYS_write);
    children.split_whitespace().any(|child| {
        let call = std::fs::read_to_string(format!("/proc/{child}/syscall"));
        call.is_ok_and(|call| call.starts_with(&write))
    })
}

#[track_caller]
fn writes_on(root: &Root) {
    root.sh("p", "touch /tmp/write");
    let written = until(|| match has_written(root) {
        true => Ok(()),
        false => Err(()),
    });
    assert_eq!(written, Ok(()), "the container stands still");
}

/// The last event of this reason, as `describe` shows it.
fn event(root: &Root, reason: &str) -> String {
    let said = root.carob(&["describe", "pod", "p"]).ok();
    let line = said.lines().rfind(|l| l.contains(reason));
    line.unwrap_or_default().to_owned()
}

/// The number before ` lines (`.
fn count(text: &str) -> usize {
    let (before, _) = text.split_once(" lines (").unwrap_or_default();
    let number = before.rsplit(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

#[test]
fn a_full_log_filesystem_stops_no_container_and_what_was_dropped_is_counted() {
    for tty in [false, true] {
        let root = Root::new();
        let log = Small::mount(&root, "log", &[("size", "4m")]);
        let container = json!({"tty": tty});
        root.apply(&manifest(&writer("exec sleep 1000"), container, json!({})))
            .ok();
        root.says("p", "main", "ready");
        log.fill(false);
        writes_on(&root);
        let told = until(|| match event(&root, "FailedLogging") {
            e if e.contains("ENOSPC") && e.contains("main") => Ok(()),
            e => Err(e),
        });
        assert_eq!(told, Ok(()));
        log.free();
        // Also of a container that writes nothing more.
        let all = until(|| {
            let text = root.carob(&["logs", "p"]).ok();
            let notices: Vec<&str> = text.lines().filter(|l| l.contains("carob: ")).collect();
            let dropped: usize = notices.iter().map(|l| count(l)).sum();
            let logged = text.lines().count() - notices.len();
            let named = notices.iter().all(|l| l.contains("ENOSPC"));
            let told = count(&event(&root, "DroppedOutput"));
            match (dropped + logged, named, told) {
                (all, true, told) if all == LINES + 1 && dropped > 0 && told == dropped => Ok(()),
                other => Err((other, dropped)),
            }
        });
        assert_eq!(all, Ok(()));
        root.sh("p", "touch /tmp/end");
        root.says("p", "main", "over");
    }
}

#[test]
fn what_was_dropped_before_a_container_ends_is_said_in_an_event() {
    let root = Root::new();
    let log = Small::mount(&root, "log", &[("size", "128k")]);
    root.apply(&manifest(&writer("exit 3"), json!({}), json!({})))
        .ok();
    root.says("p", "main", "ready");
    log.fill(false);
    writes_on(&root);
    root.sh(
        "p",
        "(usleep 100000; touch /tmp/end) </dev/null >/dev/null 2>&1 &",
    );
    root.becomes("p", ".status.phase", "Failed");
    let ended = ".status.containerStatuses[0].state.terminated.exitCode";
    assert_eq!(root.field("p", ended), "3");
    let dropped = count(&event(&root, "DroppedOutput"));
    assert!(dropped > LINES - 4096 / 60, "{dropped}");
}

#[test]
fn a_log_that_cannot_be_made_yet_begins_when_it_can() {
    let root = Root::new();
    let log = Small::mount(&root, "log", &[("nr_inodes", "16")]);
    log.fill(true);
    let script =
        "echo first; until [ -e /tmp/end ]; do usleep 10000; done; echo over; exec sleep 1000";
    root.apply(&manifest(script, json!({}), json!({}))).ok();
    root.becomes("p", ".status.phase", "Running");
    let told = until(|| match event(&root, "FailedLogging") {
        e if e.contains("ENOSPC") => Ok(()),
        e => Err(e),
    });
    assert_eq!(told, Ok(()));
    log.free();
    root.sh("p", "touch /tmp/end");
    root.says("p", "main", "over");
    let text = root.carob(&["logs", "p"]).ok();
    assert!(text.contains("carob: 1 line (6 bytes)"), "{text}");
}

#[test]
fn with_the_annotation_a_container_waits_for_room_and_loses_nothing() {
    let root = Root::new();
    let log = Small::mount(&root, "log", &[("size", "4m")]);
    let annotations = json!({"carob/when-log-full": "block"});
    root.apply(&manifest(
        &writer("exec sleep 1000"),
        json!({}),
        annotations,
    ))
    .ok();
    root.says("p", "main", "ready");
    log.fill(false);
    root.sh("p", "touch /tmp/write");
    let told = until(|| match event(&root, "FailedLogging") {
        e if e.contains("ENOSPC") => Ok(()),
        e => Err(e),
    });
    assert_eq!(told, Ok(()));
    let stands = until(|| match is_in_write(&root) {
        true => Ok(()),
        false => Err(()),
    });
    assert_eq!(stands, Ok(()), "no process waits in write(2)");
    assert!(!has_written(&root));
    log.free();
    writes_on(&root);
    root.sh("p", "touch /tmp/end");
    root.says("p", "main", "over");
    let text = root.carob(&["logs", "p"]).ok();
    assert_eq!(text.lines().count(), LINES + 2);
    assert_eq!(event(&root, "DroppedOutput"), "");
}

#[test]
fn an_annotation_of_carobs_own_is_checked() {
    let root = Root::empty();
    let validate = |annotations| {
        let text = manifest("true", json!({}), annotations);
        root.feed(&["validate", "-f", "-"], &text)
    };
    validate(json!({"carob/when-log-full": "drop"})).ok();
    validate(json!({"carob/when-log-full": "wait"}))
        .fails(3, "supported values: \"drop\", \"block\"");
    validate(json!({"carob/when-logs-full": "block"})).fails(3, "it knows carob/when-log-full");
}
