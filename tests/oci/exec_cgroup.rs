//! Which cgroup `exec` joins when the container's first process is in another one than
//! the container's own, as it is where an init system runs in the container.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::bundle::Bundle;

/// The hierarchy of v2: beside v1, or alone.
fn v2() -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let beside = root.join("unified");
    match beside.join("cgroup.procs").exists() {
        true => beside,
        false => root.to_owned(),
    }
}

/// The cgroup of an exec's process, from the root of the container's cgroup namespace.
fn joined(b: &Bundle) -> String {
    let text = b.oci(&["exec", "box", "cat", "/proc/self/cgroup"]).ok();
    let line = text.lines().find_map(|l| l.strip_prefix("0::"));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn exec_joins_the_container_s_own_cgroup_where_a_process_can_be_in_it() {
    let b = Bundle::new();
    b.sh("sleep 60", |c| {
        // For a controller that v1 never has here: its cgroups can be told to enable it.
        c["linux"]["resources"]["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 0}]);
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let own = v2().join(b.name());
    let pid = b.state("box")["pid"].to_string();
    fs::create_dir(own.join("init")).unwrap();
    fs::write(own.join("init/cgroup.procs"), &pid).unwrap();
    assert_eq!(joined(&b), "/");
    // From here on the kernel answers EBUSY to a process that would join it.
    fs::write(own.join("cgroup.subtree_control"), "+hugetlb").unwrap();
    assert_eq!(joined(&b), "/init");
    // With --cgroup it is that cgroup or none.
    b.oci(&["exec", "--cgroup", "/", "box", "true"])
        .fails(255, "EBUSY");
    b.oci(&["delete", "--force", "box"]).ok();
}

#[test]
fn exec_joins_the_first_process_where_the_container_s_own_cgroup_is_gone() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["run", "--detach", "box"]).ok();
    let (own, other) = (v2().join(b.name()), format!("{}-other", b.name()));
    let pid = b.state("box")["pid"].to_string();
    fs::create_dir(v2().join(&other)).unwrap();
    fs::write(v2().join(&other).join("cgroup.procs"), &pid).unwrap();
    fs::remove_dir(&own).unwrap();
    assert_eq!(joined(&b), format!("/../{other}"));
    b.oci(&["delete", "--force", "box"]).ok();
    fs::remove_dir(v2().join(&other)).unwrap();
}
