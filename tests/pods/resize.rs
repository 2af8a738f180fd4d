//! Resources that change in place, as the cgroups have them.

use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::root::{Root, alive, kill_9, pod, sh, until};

/// A file of the cgroup of a container's first process, or (`above`) of the Pod's, with v1's
/// name and v2's.
fn cgroup_file(root: &Root, container: &str, above: bool, v1: &str, v2: &str) -> String {
    let pid = root.pid("p", container);
    let controller = v1.split('.').next().unwrap();
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let find = |wanted: &str| {
        let line = text.lines().find_map(|l| {
            let (list, path) = l.split_once(':')?.1.split_once(':')?;
            list.split(',').any(|c| c == wanted).then_some(path)
        });
        line.map(|path| path.trim_start_matches('/').to_owned())
    };
    let (path, file) = match find(controller) {
        Some(path) => (format!("/sys/fs/cgroup/{controller}/{path}"), v1),
        None => (format!("/sys/fs/cgroup/{}", find("").unwrap()), v2),
    };
    let path = match above {
        true => path.rsplit_once('/').unwrap().0.to_owned(),
        false => path,
    };
    format!("{path}/{file}")
}

fn cgroup(root: &Root, container: &str, above: bool, v1: &str, v2: &str) -> String {
    let path = cgroup_file(root, container, above, v1, v2);
    let text = std::fs::read_to_string(path).unwrap();
    text.trim().to_owned()
}

fn memory(root: &Root, container: &str, above: bool) -> u64 {
    let text = cgroup(
        root,
        container,
        above,
        "memory.limit_in_bytes",
        "memory.max",
    );
    text.parse().unwrap_or(u64::MAX) >> 20
}

/// Hundredths of a CPU.
fn quota(root: &Root, container: &str, above: bool) -> u64 {
    let text = cgroup(root, container, above, "cpu.cfs_quota_us", "cpu.max");
    text.split(' ').next().unwrap().parse().unwrap_or(0) / 1000
}

fn resources(cpu: &str, memory: &str) -> Value {
    let both = json!({"cpu": cpu, "memory": memory});
    json!({"limits": both, "requests": both})
}

fn two(a: Value, extra: Value) -> String {
    let mut first = json!({ "resources": a });
    first
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    pod(
        "p",
        json!({
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                sh("a", "exec sleep 1000", first),
                sh("b", "exec sleep 1000", json!({"resources": resources("100m", "32Mi")})),
            ],
        }),
    )
}

fn over(root: &Root) {
    let conditions = ".status.conditions[*].type";
    let is = until(|| {
        let is = root.field("p", conditions);
        if is.contains("Resize") {
            Err(is)
        } else {
            Ok(())
        }
    });
    is.unwrap();
}

#[test]
fn limits_go_up_and_down_in_place() {
    let root = Root::new();
    root.apply(&two(resources("200m", "64Mi"), json!({}))).ok();
    let pids = [root.pid("p", "a"), root.pid("p", "b")];
    let is = |container, above| {
        (
            quota(&root, container, above),
            memory(&root, container, above),
        )
    };
    assert_eq!((is("a", false), is("a", true)), ((20, 64), (30, 96)));
    for (cpu, mib, mine, both) in [
        ("500m", "128Mi", (50, 128), (60, 160)),
        ("100m", "48Mi", (10, 48), (20, 80)),
    ] {
        let text = two(resources(cpu, mib), json!({}));
        assert_eq!(root.apply(&text).ok(), "pod/p configured\n");
        over(&root);
        assert_eq!((is("a", false), is("a", true)), (mine, both), "{cpu}");
        assert_eq!(is("b", false), (10, 32));
        let status = ".status.containerStatuses[0]";
        assert_eq!(
            root.field("p", &format!("{status}.resources.limits.memory")),
            mib
        );
        assert_eq!(
            root.field("p", &format!("{status}.allocatedResources.cpu")),
            cpu
        );
        assert_eq!(root.apply(&text).ok(), "pod/p unchanged\n");
    }
    assert_eq!([root.pid("p", "a"), root.pid("p", "b")], pids);
    assert!(pids.into_iter().all(alive));
    let said = root.carob(&["describe", "pod", "p"]).ok();
    assert!(said.contains("ResizeCompleted"), "{said}");
    // The next attempt has it, too.
    root.carob(&["restart", "p", "-c", "a"]).ok();
    assert_eq!(is("a", false), (10, 48));
}

#[test]
fn a_container_restarts_where_its_policy_says_so() {
    let root = Root::new();
    let policy = json!({"resizePolicy": [
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
    ]});
    let of = |cpu, memory| two(resources(cpu, memory), policy.clone());
    root.apply(&of("200m", "64Mi")).ok();
    let restarts = || root.field("p", ".status.containerStatuses[*].restartCount");
    root.apply(&of("300m", "64Mi")).ok();
    over(&root);
    assert_eq!((restarts().as_str(), quota(&root, "a", false)), ("0 0", 30));
    root.apply(&of("300m", "40Mi")).ok();
    over(&root);
    assert_eq!(
        (restarts().as_str(), memory(&root, "a", false)),
        ("1 0", 40)
    );
    assert_eq!(memory(&root, "a", true), 72);
    let said = root.carob(&["describe", "pod", "p"]).ok();
    assert!(
        said.contains("Container a resize requires restart"),
        "{said}"
    );
}

#[test]
fn a_limit_below_what_is_in_use_waits() {
    let root = Root::new();
    // What it holds is in a tmpfs, which counts as its own and cannot be dropped.
    let of = |limit: &str| {
        let script =
            "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; echo full; exec sleep 1000";
        let c = json!({"resources": resources("200m", limit)});
        pod(
            "p",
            json!({"terminationGracePeriodSeconds": 0, "containers": [sh("a", script, c)]}),
        )
    };
    root.apply(&of("96Mi")).ok();
    root.says("p", "a", "full");
    root.apply(&of("20Mi")).ok();
    let condition =
        |what: &str| format!(".status.conditions[?(@.type=='PodResizeInProgress')].{what}");
    root.becomes("p", &condition("reason"), "Error");
    let why = root.field("p", &condition("message"));
    assert!(
        why.contains("\"a\" memory limit (20971520) below current usage"),
        "{why}"
    );
    assert_eq!(memory(&root, "a", false), 96);
    assert_eq!(
        root.field("p", ".status.containerStatuses[0].resources.limits.memory"),
        "96Mi"
    );
    // A next monitor knows of it.
    kill_9(root.monitor_pid("p"));
    root.sh("p", "rm /dev/shm/x");
    over(&root);
    assert_eq!(
        (memory(&root, "a", false), memory(&root, "a", true)),
        (20, 20)
    );
    assert_eq!(
        root.field("p", ".status.containerStatuses[0].restartCount"),
        "0"
    );
}

/// The monitor dies in the middle: some cgroups have what they are to have, others have not,
/// and nothing of it is recorded.
#[test]
fn a_monitor_that_is_killed_between_two_cgroups_leaves_no_half_resize() {
    let root = Root::new();
    let of = |mib: &str| {
        let c = json!({"resources": resources("100m", mib)});
        let both = [
            sh("a", "exec sleep 1000", c.clone()),
            sh("b", "exec sleep 1000", c),
        ];
        pod(
            "p",
            json!({"terminationGracePeriodSeconds": 0, "containers": both}),
        )
    };
    root.apply(&of("64Mi")).ok();
    let pids = [root.pid("p", "a"), root.pid("p", "b")];
    // Asked for now: each command that looks at a Pod without a monitor starts one.
    let (v1, v2) = ("memory.limit_in_bytes", "memory.max");
    let files = [("a", true), ("a", false), ("b", false)]
        .map(|(container, above)| cgroup_file(&root, container, above, v1, v2));
    let is = || {
        files.clone().map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            text.trim().parse::<u64>().unwrap() >> 20
        })
    };
    let [_, a, b] = &files;
    for (mib, stopped_at, between, end) in [
        // More: the Pod's cgroup goes first.
        ("128Mi", b, [256, 128, 64], [256, 128, 128]),
        // Less: it goes last.
        ("32Mi", b, [256, 32, 128], [64, 32, 32]),
        ("64Mi", a, [128, 32, 32], [128, 64, 64]),
    ] {
        let monitor = root.monitor_pid("p");
        let children = stop_at_write(&root, monitor, stopped_at, &of(mib));
        assert_eq!(is(), between, "{mib}");
        kill_9(monitor);
        for mut child in children {
            child.wait().unwrap();
        }
        over(&root);
        assert_eq!(is(), end, "{mib}");
        assert_ne!(root.monitor_pid("p"), monitor);
        let recorded = ".status.containerStatuses[*].resources.limits.memory";
        assert_eq!(root.field("p", recorded), format!("{mib} {mib}"));
    }
    assert_eq!([root.pid("p", "a"), root.pid("p", "b")], pids);
    let restarts = root.field("p", ".status.containerStatuses[*].restartCount");
    assert_eq!(restarts, "0 0");
}

/// Applies a manifest, and stops the Pod's monitor where it would write to this file. What
/// is returned ends with the monitor.
fn stop_at_write(root: &Root, monitor: i32, file: &str, manifest: &str) -> [Child; 2] {
    let trace = root.dir().join("trace");
    let strace = Command::new("strace")
        .args(["-e", "trace=write", "-P", file])
        .args(["-e", "inject=write:error=EIO:signal=STOP:when=1"])
        .args(["-o", trace.to_str().unwrap(), "-p", &monitor.to_string()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("strace: `hack/setup test` installs it");
    let status = format!("/proc/{monitor}/status");
    let traced = until(|| {
        let text = std::fs::read_to_string(&status).unwrap();
        match text.contains("TracerPid:\t0\n") {
            true => Err(text),
            false => Ok(()),
        }
    });
    traced.unwrap();
    let path = root.dir().join("pod.json");
    std::fs::write(&path, manifest).unwrap();
    // It waits for the monitor's answer.
    let apply = root
        .command(&["apply", "--wait=false", "-f", path.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let stopped = until(|| {
        let text = std::fs::read_to_string(&trace).unwrap();
        match text.contains("stopped by SIGSTOP") {
            true => Ok(()),
            false => Err(text),
        }
    });
    stopped.unwrap();
    std::fs::remove_file(&trace).unwrap();
    [strace, apply]
}

#[test]
fn what_no_cluster_resizes_is_refused() {
    let root = Root::new();
    root.apply(&two(resources("200m", "64Mi"), json!({}))).ok();
    let burstable = json!({"limits": {"cpu": "300m", "memory": "64Mi"}, "requests": {"cpu": "200m", "memory": "64Mi"}});
    root.apply(&two(burstable, json!({})))
        .fails(5, "Pod QOS Class may not change");
    root.apply(&two(json!({}), json!({})))
        .fails(5, "resource limits cannot be removed");
    let policy =
        json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]});
    root.apply(&two(resources("200m", "64Mi"), policy))
        .fails(5, "cannot be changed in: spec.containers[0].resizePolicy");
    assert_eq!(memory(&root, "a", false), 64);
    // No machine has so much.
    root.apply(&two(resources("200m", "8000Gi"), json!({})))
        .ok();
    let condition = ".status.conditions[?(@.type=='PodResizePending')]";
    root.becomes("p", &format!("{condition}.reason"), "Infeasible");
    assert_eq!(memory(&root, "a", false), 64);
    root.apply(&two(resources("200m", "65Mi"), json!({}))).ok();
    over(&root);
    assert_eq!(memory(&root, "a", false), 65);
}

#[test]
fn tolerations_may_come_and_other_fields_are_named() {
    let root = Root::new();
    let of = |extra: Value| {
        let mut spec = json!({"containers": [sh("a", "exec sleep 1000", json!({}))], "terminationGracePeriodSeconds": 0});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        pod("p", spec)
    };
    root.apply(&of(json!({}))).ok();
    let more = of(json!({"tolerations": [{"key": "a", "operator": "Exists"}]}));
    assert_eq!(root.apply(&more).ok(), "pod/p configured\n");
    root.apply(&of(json!({}))).fails(5, "spec.tolerations");
    root.apply(&of(json!({"nodeSelector": {"a": "b"}, "hostname": "h"})))
        .fails(5, "spec.nodeSelector");
}
