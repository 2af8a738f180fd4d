//! Many Pods in one root. How many hundreds, and at what cost, `hack/bench many` says.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::net::IpAddr;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::json;

use crate::root::{Root, pod, sh};

/// Each with an address of its own and a memory limit, which is watched.
#[test]
fn pods_start_side_by_side() {
    const PODS: usize = 20;
    let root = Root::new();
    let manifest: Vec<String> = (0..PODS)
        .map(|i| {
            let limit = json!({"resources": {"limits": {"memory": "32Mi"}}});
            let container = sh(
                "main",
                "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
                limit,
            );
            pod(&format!("p{i}"), json!({"containers": [container]}))
        })
        .collect();
    root.apply(&manifest.join("\n---\n")).ok();
    let rows = root
        .carob(&["get", "pods", "--no-headers", "-o", "wide"])
        .ok();
    assert_eq!(
        rows.lines().filter(|l| l.contains(" Running ")).count(),
        PODS,
        "{rows}"
    );
    let field = "jsonpath={range .items[*]}{.status.podIP}{\"\\n\"}{end}";
    let addresses = root.carob(&["get", "pods", "-o", field]).ok();
    let distinct: BTreeSet<IpAddr> = addresses.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(distinct.len(), PODS);

    root.carob(&["delete", "pods", "--all"]).ok();
    assert_eq!(root.carob(&["get", "pods"]).ok(), "");
}

/// Runs in the mount namespace that is pinned at a path.
fn inside<T: Send + 'static>(pin: &Path, run: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = std::fs::File::open(pin).unwrap();
    let thread = std::thread::spawn(move || {
        // A thread that shares its root directory with others may not change its
        // mount namespace: setns(2).
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNS).unwrap();
        run()
    });
    thread.join().unwrap()
}

fn points(table: &str) -> BTreeSet<String> {
    let points = table.lines().filter_map(|l| l.split(' ').nth(4));
    points.map(str::to_owned).collect()
}

/// A container's mount namespace is copied from one that has nothing of the host's
/// tree, of other Pods least of all; and without that one from the host's.
#[test]
fn containers_copy_the_bare_mount_namespace() {
    let root = Root::new();
    let start = |name: &str| -> String {
        let spec = json!({"containers": [sh("main", "sleep 1000", json!({}))],
                          "terminationGracePeriodSeconds": 0});
        root.apply(&pod(name, spec)).ok();
        root.sh(name, "cat /proc/self/mountinfo")
    };
    let (dir, pin) = (root.dir().join("run/bare"), root.dir().join("run/bare/mnt"));
    let bare = || {
        points(&inside(&pin, || {
            read_to_string("/proc/thread-self/mountinfo").unwrap()
        }))
    };
    let expected = ["/", "/dev", "/proc"].map(str::to_owned).into();
    let first = start("a");
    assert_eq!(bare(), expected);

    // What is changed in it is found in the next container: a null device that masks.
    inside(&pin, || {
        let (tmpfs, none) = (Some("tmpfs"), None::<&str>);
        mount(Some("marked"), "/dev", tmpfs, MsFlags::empty(), none).unwrap();
        let device = nix::sys::stat::makedev(1, 3);
        mknod(
            "/dev/null",
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            device,
        )
        .unwrap();
    });
    assert!(!first.contains(" - tmpfs marked "));
    assert!(start("b").contains(" - tmpfs marked "));

    umount2(&pin, MntFlags::MNT_DETACH).unwrap();
    let made_anew = start("c");
    assert_eq!(bare(), expected);
    assert!(!made_anew.contains(" - tmpfs marked "));

    // A file in its place: it cannot be made.
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "").unwrap();
    assert_eq!(points(&start("d")), points(&first));
    std::fs::remove_file(&dir).unwrap();
}
