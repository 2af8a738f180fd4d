//! Huge pages: what containers get, what bounds them, and Pods that wait for them. Each test
//! reserves the pages that it needs and gives them back.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, pod, sh, until};

const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// The machine's pages of 2 MiB, for one test at a time.
struct Pages {
    before: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Pages {
    fn of_machine() -> Pages {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Pages {
            before: reserved(),
            _alone: alone,
        }
    }

    /// So many more than there were.
    fn reserve(&self, more: u64) {
        let wanted = self.before + more;
        std::fs::write(RESERVED, wanted.to_string()).unwrap();
        assert_eq!(
            reserved(),
            wanted,
            "the kernel has no {more} pages of 2 MiB"
        );
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        std::fs::write(RESERVED, self.before.to_string()).unwrap();
    }
}

fn reserved() -> u64 {
    let text = std::fs::read_to_string(RESERVED).unwrap();
    text.trim().parse().unwrap()
}

fn resources(pages: &str) -> Value {
    json!({"limits": {"memory": "64Mi", "hugepages-2Mi": pages}})
}

/// A limit of the hugetlb controller, of the cgroup of a container's first process, or of the
/// cgroup above, which is its Pod's.
fn limit(root: &Root, container: &str, above: bool, page: &str) -> String {
    let cgroups = format!("/proc/{}/cgroup", root.pid("p", container));
    let cgroups = std::fs::read_to_string(cgroups).unwrap();
    let find = |controller: &str| {
        let all = cgroups
            .lines()
            .filter_map(|l| l.split_once(':')?.1.split_once("/"));
        let mut found = all.filter(|(list, _)| list.trim_end_matches(':') == controller);
        found.next().map(|(_, path)| path.to_owned())
    };
    let v2 = match Path::new("/sys/fs/cgroup/unified").exists() {
        true => "/sys/fs/cgroup/unified",
        false => "/sys/fs/cgroup",
    };
    let (path, file) = match find("hugetlb") {
        Some(path) => (format!("/sys/fs/cgroup/hugetlb/{path}"), "limit_in_bytes"),
        None => (format!("{v2}/{}", find("").unwrap()), "max"),
    };
    let path = Path::new(&path);
    let path = if above { path.parent().unwrap() } else { path };
    let file = path.join(format!("hugetlb.{page}.{file}"));
    let text = std::fs::read_to_string(&file);
    text.unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        .trim()
        .to_owned()
}

#[test]
fn containers_use_the_pages_that_they_have_and_no_others() {
    let pages = Pages::of_machine();
    pages.reserve(6);
    let root = Root::new();
    let mounts = json!([{"name": "huge", "mountPath": "/huge"}]);
    let env = |name: &str, resource: &str, divisor: &str| {
        json!({"name": name, "valueFrom": {"resourceFieldRef":
            {"resource": resource, "divisor": divisor}}})
    };
    let container = |name: &str, resources: Value| {
        let env = [
            env("LIMIT", "limits.hugepages-2Mi", "1Mi"),
            env("REQUEST", "requests.hugepages-2Mi", "0"),
            env("OTHER", "limits.hugepages-1Gi", "1"),
        ];
        let extra = json!({"volumeMounts": mounts, "resources": resources, "env": env});
        sh(name, "exec sleep 1000", extra)
    };
    let downward = json!({"name": "info", "downwardAPI": {"items": [{"path": "limit",
        "resourceFieldRef": {"containerName": "a", "resource": "limits.hugepages-2Mi",
            "divisor": "1Ki"}}]}});
    let mut first = container("a", resources("4Mi"));
    let more = json!({"name": "info", "mountPath": "/info"});
    first["volumeMounts"].as_array_mut().unwrap().push(more);
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"fsGroup": 4242, "runAsUser": 1234},
        "containers": [
            first,
            container("b", resources("2Mi")),
            container("c", json!({"limits": {"memory": "64Mi"}})),
        ],
        "volumes": [
            {"name": "huge", "emptyDir": {"medium": "HugePages", "mode": 0o770}},
            downward,
        ],
    });
    root.apply(&pod("p", spec)).ok();
    let inside = |container: &str, script: &str| {
        let args = ["exec", "p", "-c", container, "--", "sh", "-c", script];
        root.carob(&args).ok()
    };
    let mounts = inside("a", "grep ' /huge ' /proc/mounts");
    for word in ["hugetlbfs", "pagesize=2M", "nosuid", "nodev"] {
        assert!(mounts.contains(word), "{word}: {mounts}");
    }
    assert_eq!(inside("a", "stat -c '%g %a' /huge"), "4242 2770\n");
    let said = inside("a", "echo $LIMIT $REQUEST $OTHER; cat /info/limit");
    assert_eq!(said, "4 4194304 0\n4096");
    assert_eq!(inside("c", "echo $LIMIT $OTHER"), "0 0\n");

    // A container's own limit, with pages and room left that are others'.
    let take = |container: &str, file: &str, size: &str| {
        let script = format!("fallocate -l {size} /huge/{file} 2>&1 || rm /huge/{file}");
        inside(container, &script)
    };
    assert_eq!(take("a", "one", "4M"), "");
    let said = take("a", "two", "2M");
    assert!(said.contains("No space left"), "{said}");
    let said = take("c", "three", "2M");
    assert!(said.contains("No space left"), "{said}");
    assert_eq!(take("b", "four", "2M"), "");
    assert_eq!(
        inside("c", "stat -c %s /huge/one /huge/four"),
        "4194304\n2097152\n"
    );

    for (container, above, page, bytes) in [
        ("a", false, "2MB", "4194304"),
        ("a", false, "2MB.rsvd", "4194304"),
        ("b", false, "2MB", "2097152"),
        ("c", false, "2MB", "0"),
        ("c", true, "2MB", "6291456"),
        ("c", true, "2MB.rsvd", "6291456"),
    ] {
        assert_eq!(
            limit(&root, container, above, page),
            bytes,
            "{container} {above} {page}"
        );
    }
    let given = r#"{"hugepages-2Mi":"4Mi","memory":"64Mi"}"#;
    for field in [
        "resources.limits",
        "resources.requests",
        "allocatedResources",
    ] {
        assert_eq!(
            root.field("p", &format!(".status.containerStatuses[0].{field}")),
            given,
            "{field}"
        );
    }
    let described = root.carob(&["describe", "pod", "p"]).ok();
    for text in ["hugepages-2Mi:  4Mi", "Medium:     HugePages\n"] {
        assert!(described.contains(text), "{text}: {described}");
    }
    // A debug container has none.
    let script = "exec sleep 1000";
    let debug = [
        "debug", "p", "--image", IMAGE, "-c", "d", "--", "sh", "-c", script,
    ];
    root.carob(&debug).ok();
    let running = ".status.ephemeralContainerStatuses[0].state.running.startedAt";
    let runs = until(|| match root.field("p", running).is_empty() {
        true => Err(()),
        false => Ok(()),
    });
    runs.expect("the debug container runs");
    assert_eq!(limit(&root, "d", false, "2MB"), "0");
}

#[test]
fn a_pod_without_huge_pages_may_take_none() {
    let pages = Pages::of_machine();
    pages.reserve(1);
    let root = Root::new();
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("a", "exec sleep 1000", json!({}))],
    });
    root.apply(&pod("p", spec)).ok();
    assert_eq!(limit(&root, "a", true, "2MB"), "0");
}

#[test]
fn a_size_limit_bounds_a_volume_of_huge_pages() {
    let pages = Pages::of_machine();
    pages.reserve(3);
    let root = Root::new();
    let mounts = json!([{"name": "huge", "mountPath": "/huge"}]);
    let extra = json!({"resources": resources("6Mi"), "volumeMounts": mounts});
    let volume = json!({"medium": "HugePages-2Mi", "sizeLimit": "4Mi"});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("a", "exec sleep 1000", extra)],
        "volumes": [{"name": "huge", "emptyDir": volume}],
    });
    root.apply(&pod("p", spec)).ok();
    root.sh("p", "fallocate -l 4M /huge/f");
    let said = root.sh("p", "fallocate -l 2M /huge/g 2>&1; true");
    assert!(said.contains("No space left"), "{said}");
    assert_eq!(root.sh("p", "stat -c %a /huge"), "777\n");
    // What it cannot be changed to where it runs.
    let patch = r#"{"spec":{"containers":[{"name":"a","resources":{"limits":
        {"hugepages-2Mi":"4Mi"},"requests":{"hugepages-2Mi":"4Mi"}}}]}}"#;
    let text = "only cpu and memory resources are mutable";
    root.carob(&["patch", "pod", "p", "-p", patch])
        .fails(5, text);
}

#[test]
fn a_pod_waits_for_pages_that_the_machine_does_not_have() {
    let pages = Pages::of_machine();
    let root = Root::new();
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("a", "exec sleep 1000", json!({"resources": resources("4Mi")}))],
    });
    let args = ["apply", "--wait=false", "-f", "-"];
    let manifest = pod("p", spec);
    root.feed(&args, &manifest).ok();
    root.becomes("p", ".status.phase", "Pending");
    let text = "Insufficient hugepages-2Mi: the Pod asks for 2 pages";
    let told = until(|| {
        let events = root.carob(&["events"]).ok();
        let told = events.contains("FailedScheduling") && events.contains(text);
        if told { Ok(()) } else { Err(events) }
    });
    told.unwrap_or_else(|events| panic!("{events}"));
    let why = root.carob(&["why", "p"]);
    let why = format!("{}{}", why.stdout, why.stderr);
    for text in ["less than the Pod requests", text, "nr_hugepages"] {
        assert!(why.contains(text), "{text}: {why}");
    }
    pages.reserve(2);
    // It is tried again after a pause, or now, since somebody waits for it.
    root.apply(&manifest).ok();
    root.becomes("p", ".status.phase", "Running");
}

/// As a kubelet's reason and message.
#[test]
fn a_volume_without_a_request_is_not_mounted() {
    let root = Root::new();
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("a", "exec sleep 1000", json!({}))],
        "volumes": [{"name": "huge", "emptyDir": {"medium": "HugePages"}}],
    });
    let args = ["apply", "--wait=false", "-f", "-"];
    let said = root.feed(&args, &pod("p", spec)).stderr;
    let text = "there is no resource request for huge pages";
    assert!(said.contains(text), "{said}");
    let told = until(|| {
        let events = root.carob(&["events"]).ok();
        let told = events.contains("FailedMount") && events.contains(text);
        if told { Ok(()) } else { Err(events) }
    });
    told.unwrap_or_else(|events| panic!("{events}"));
}
