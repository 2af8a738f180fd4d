//! Older kernels: what is newer than the oldest one that is supported is denied, and
//! everything works all the same; what carob cannot do without is denied, and one error
//! says so. docs/kernels.md.

use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::json;

use crate::denied::{Denial, newer_than_least, no_pidfd_info, without};
use crate::root::{IMAGE, Root, alive, kill_9, pod, script_pod, sh, until};

/// Waits for /tmp/go and ends with 7.
const WAITS: &str = "echo ready; until [ -e /tmp/go ]; do usleep 10000; done; exit 7";

/// A Pod's life: started with volumes and limits, entered, logged, ended with its own
/// exit code, deleted. Returns what the container had mounted.
fn a_life(root: &Root) -> String {
    let manifest = pod(
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "initContainers": [sh("first", "echo made > /data/file", json!({
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}))],
            "containers": [
                sh("main", WAITS, json!({
                    "resources": {"limits": {"memory": "64Mi", "cpu": "1"}},
                    "securityContext": {"readOnlyRootFilesystem": true},
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/data"},
                        {"name": "tmp", "mountPath": "/tmp"},
                        {"name": "data", "mountPath": "/part", "subPath": "a/b"},
                    ],
                })),
                sh("other", "trap 'exit 3' TERM; echo ready; sleep 1000 & wait", json!({})),
            ],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {"medium": "Memory"}},
            ],
        }),
    );
    root.apply(&manifest).ok();
    root.says("p", "main", "ready");
    let inside = root.carob(&[
        "exec",
        "p",
        "-c",
        "main",
        "--",
        "sh",
        "-c",
        "cat /data/file; exit 9",
    ]);
    assert_eq!(
        (inside.code, inside.stdout.as_str()),
        (9, "made\n"),
        "{inside:?}"
    );
    let mounts = root.carob(&["exec", "p", "-c", "main", "--", "cat", "/proc/self/mounts"]);
    let mounts = mounts.ok();
    let go = "(usleep 100000; touch /tmp/go) </dev/null >/dev/null 2>&1 &";
    root.carob(&["exec", "p", "-c", "main", "--", "sh", "-c", go])
        .ok();
    let code = ".status.containerStatuses[?(@.name==\"main\")].state.terminated.exitCode";
    root.becomes("p", code, "7");
    root.carob(&["delete", "pod", "p"]).ok();
    let left = until(|| {
        let left = root.left();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    left.expect("nothing is left");
    mounts
}

#[test]
fn a_pod_lives_without_what_is_newer_than_the_oldest_kernel() {
    let all = newer_than_least();
    // Removed outside: Rust's library removes no directory where statx(2), which it has
    // seen to work, is refused.
    let root = Root::new();
    let mounts = without(&all, || a_life(&root));
    assert!(mounts.contains("overlay / overlay"), "{mounts}");
    // Others are done without too, such as those that glibc and Rust's library try.
    for call in ["faccessat2", "copy_file_range", "statx", "renameat2"] {
        eprintln!("without {call}");
        let root = Root::new();
        without(&[Denial::of(call)], || a_life(&root));
    }
}

/// A process that is not the monitor's child, as after a monitor's death, tells how it
/// ended since Linux 6.15 only.
#[test]
fn an_adopted_container_ends_as_unknown_where_pidfds_do_not_tell() {
    without(&[no_pidfd_info()], || {
        let own = carob::inside::sys::pidfd_open(nix::unistd::getpid()).unwrap();
        let told = carob::inside::sys::pidfd_exit_status(own.as_fd());
        assert_eq!(told, Err(nix::errno::Errno::ENOTTY));
        let root = Root::new();
        root.apply(&script_pod("p", "Never", 1, WAITS)).ok();
        root.says("p", "main", "ready");
        let monitor = root.monitor_pid("p");
        kill_9(monitor);
        while alive(monitor) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let go = "(usleep 100000; touch /tmp/go) </dev/null >/dev/null 2>&1 &";
        root.carob(&["exec", "p", "--", "sh", "-c", go]).ok();
        root.becomes("p", ".status.phase", "Failed");
        let ended = ".status.containerStatuses[0].state.terminated";
        let told = ["exitCode", "reason"].map(|f| root.field("p", &format!("{ended}.{f}")));
        // Whether its parent has reaped it by the time that the monitor looks is chance.
        let known = told == ["7", "Error"];
        assert!(
            known || told == ["137", "ContainerStatusUnknown"],
            "{told:?}"
        );
        root.carob(&["delete", "pod", "p"]).ok();
    });
}

/// Overlays are made by mount(2) before Linux 6.8. On newer kernels too where a path is
/// longer than what fsconfig(2) takes, 255 bytes.
#[test]
fn a_pod_lives_on_an_overlay_made_by_mount() {
    let mounts = a_life(&Root::deep(&"a long name, ".repeat(18)));
    let root = mounts.lines().find(|l| l.starts_with("overlay / "));
    // As it was given, and not a layer at a time.
    let root = root.unwrap();
    assert!(
        root.contains(",lowerdir=") && !root.contains("lowerdir+="),
        "{root}"
    );
}

#[test]
fn what_cannot_be_done_without_is_named_by_one_error() {
    let root = Root::new();
    let manifest = script_pod("p", "Never", 1, "exit 0");
    for (call, text) in [
        (
            "mount_setattr",
            "does not have mount_setattr(2) (since Linux 5.12)\n",
        ),
        (
            "close_range",
            "does not have close_range(2) with CLOSE_RANGE_CLOEXEC (since Linux 5.11)\n",
        ),
        (
            "clone3",
            "does not have clone3(2) with CLONE_INTO_CGROUP (since Linux 5.7)\n",
        ),
        ("openat2", "does not have openat2(2) (since Linux 5.6)\n"),
    ] {
        without(&[Denial::of(call)], || {
            let refused = root.apply(&manifest).fails(9, text);
            let errors = refused.stderr.matches("error:").count();
            assert_eq!(errors, 1, "{refused:?}");
            let image = crate::root::images().join("busybox.tar");
            root.carob(&["load", "-i", image.to_str().unwrap()])
                .fails(9, text);
            let run = ["run", "q", "--image", IMAGE, "-i", "--rm", "--", "true"];
            root.carob(&run).fails(125, text);
            // What only looks does not mind.
            assert_eq!(root.carob(&["get", "pods", "-o", "name"]).ok(), "");
            root.carob(&["images"]).ok();
            let json = root.feed(&["apply", "-o", "json", "-f", "-"], &manifest);
            json.fails(9, "\"reason\":\"Unsupported\"");
        });
    }
    // Any other call that is needed is an error of that call.
    without(&[Denial::of("fsopen")], || {
        root.apply(&manifest).fails(9, "ENOSYS");
    });
}
