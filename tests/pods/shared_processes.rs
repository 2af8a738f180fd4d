//! Pods with `shareProcessNamespace`.

use serde_json::{Value, json};

use crate::root::{Root, alive, kill_9, pod, sh, until};

/// Two containers; `main` obeys TERM, and `extra` is what each of them has more.
fn spec(policy: &str, extra: &Value) -> Value {
    let obeys = "trap 'exit 0' TERM; echo ready; sleep 1000 & wait";
    json!({
        "shareProcessNamespace": true,
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 5,
        "containers": [
            sh("main", obeys, extra.clone()),
            sh("other", "exec sleep 2000", json!({})),
        ],
    })
}

fn start(policy: &str) -> Root {
    let root = Root::new();
    root.apply(&pod("p", spec(policy, &json!({})))).ok();
    root.says("p", "main", "ready");
    root
}

/// The pid of the Pod's first process, in the host's pid namespace.
fn first_process(root: &Root) -> i32 {
    let main = root.pid("p", "main");
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let of_pod = namespace(main);
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.into_iter()
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"/pause\0") && namespace(*pid) == of_pod
        })
        .expect("no first process")
}

#[test]
fn containers_see_each_other_and_a_first_process_of_nobodys() {
    let root = start("Always");
    let seen = root.sh("p", "ps -o args");
    assert!(
        seen.contains("sleep 2000") && seen.contains("/pause"),
        "{seen}"
    );
    assert_eq!(
        root.sh("p", "tr '\\0' ' ' < /proc/1/cmdline").trim(),
        "/pause of-a-pod"
    );
    // A signal from one to the other: its program ends, and its container is started again.
    let other = root.pid("p", "other");
    root.sh(
        "p",
        "kill -9 $(pidof sleep | tr ' ' '\\n' | while read p; do \
                  grep -q 2000 /proc/$p/cmdline && echo $p; done)",
    );
    root.becomes(
        "p",
        ".status.containerStatuses[?(@.name=='other')].restartCount",
        "1",
    );
    assert!(!alive(other));
    root.carob(&["delete", "pod", "p"]).ok();
}

#[test]
fn the_first_process_has_nothing_to_take() {
    let root = start("Always");
    let pid = first_process(&root);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':')
            .unwrap()
            .1
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(field("Uid:"), "65535 65535 65535 65535");
    assert_eq!(field("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set).trim_start_matches('0'), "", "{set}");
    }
    assert_eq!(
        (field("NoNewPrivs"), field("Seccomp:")),
        ("1".into(), "2".into())
    );
    let root_dir: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/root"))
        .unwrap()
        .collect();
    assert!(root_dir.is_empty(), "{root_dir:?}");
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
    {
        use std::os::unix::fs::MetadataExt;
        let to = std::fs::metadata(fd.path()).unwrap();
        assert_eq!(to.rdev(), nix::libc::makedev(1, 3), "not the null device");
    }
    // Nothing of the monitor's memory, and no name of the host.
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(environ.is_empty(), "{environ:?}");
    // From inside, as root: not its root directory, not its program.
    let looks = root.sh(
        "p",
        "ls /proc/1/root /proc/1/exe 2>&1 | sed 's/.*: //' | sort -u",
    );
    assert!(looks.contains("Permission denied"), "{looks}");
    // And it does not end by a signal from inside.
    root.sh("p", "kill -9 1; kill 1; kill -HUP 1; true");
    let cgroup = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/cgroup")).unwrap();
    assert_ne!(cgroup(&pid.to_string()), cgroup("self"));
    assert!(alive(pid));
}

#[test]
fn what_a_container_leaves_behind_ends_with_it_and_orphans_are_reaped() {
    let root = Root::new();
    let leaves =
        "(sleep 3000 &) ; (sleep 0.1 &) ; sleep 0.5; touch /done; echo ready; exec sleep 4000";
    let spec = json!({
        "shareProcessNamespace": true,
        "restartPolicy": "Always",
        "containers": [sh("main", leaves, json!({})), sh("watch", "exec sleep 1000", json!({}))],
    });
    root.apply(&pod("p", spec)).ok();
    root.says("p", "main", "ready");
    let states = root
        .carob(&["exec", "p", "-c", "watch", "--", "ps", "-o", "stat,args"])
        .ok();
    assert!(states.contains("sleep 3000"), "{states}");
    assert!(
        !states.lines().any(|l| l.trim().starts_with('Z')),
        "{states}"
    );
    // Its daemon is a child of the Pod's first process: its container's end ends it.
    root.carob(&["restart", "p", "-c", "main"]).ok();
    root.says("p", "main", "ready");
    let states = root
        .carob(&["exec", "p", "-c", "watch", "--", "ps", "-o", "args"])
        .ok();
    assert_eq!(states.matches("sleep 3000").count(), 1, "{states}");
}

#[test]
fn the_first_process_outlives_monitors_and_a_killed_one_is_replaced() {
    let root = start("Always");
    let first = first_process(&root);
    kill_9(root.monitor_pid("p"));
    assert_eq!(root.sh("p", "echo in"), "in\n");
    root.carob(&["restart", "p", "-c", "other"]).ok();
    assert_eq!(first_process(&root), first);
    let (main, other) = (root.pid("p", "main"), root.pid("p", "other"));
    kill_9(first);
    let again = until(
        || match root.field("p", ".status.containerStatuses[*].restartCount") {
            counts if counts == "1 2" => Ok(()),
            counts => Err(counts),
        },
    );
    again.unwrap();
    assert!(!alive(main) && !alive(other));
    root.says("p", "main", "ready");
    assert_ne!(first_process(&root), first);
    let seen = root.sh("p", "ps -o args");
    assert!(seen.contains("sleep 2000"), "{seen}");
    root.carob(&["delete", "pod", "p"]).ok();
}
