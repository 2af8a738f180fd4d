//! Who owns a container's cgroup, and which cgroup the process of an `exec` joins where the
//! container's first process has left the container's own, as an init system does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Makes the root filesystem that of root in a user namespace whose ids begin at 100000.
fn give_rootfs(b: &Bundle) {
    let script = "chown -R 100000:100000 rootfs && chmod 755 .";
    let given = Command::new("sh")
        .args(["-c", script])
        .current_dir(b.dir())
        .status();
    assert!(given.unwrap().success());
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

/// config-linux.md, "Cgroup ownership". In v1, and beside it, nothing is given away.
#[test]
fn a_container_that_is_to_manage_its_cgroups_owns_its_own() {
    let b = Bundle::new();
    give_rootfs(&b);
    let owner = |file: &str| fs::metadata(v2().join(b.name()).join(file)).unwrap().uid();
    let is_pure = v2() == Path::new("/sys/fs/cgroup");
    for (mode, uid, expected) in [("rw", 0, 100_000), ("rw", 7, 100_007), ("ro", 0, 0)] {
        b.sh("sleep 60", |c| {
            let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.push(json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                c["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            }
            c["process"]["user"]["uid"] = uid.into();
            let mounts = c["mounts"].as_array_mut().unwrap();
            let cgroups = mounts.iter_mut().find(|m| m["type"] == "cgroup").unwrap();
            cgroups["options"] = json!(["nosuid", "noexec", "nodev", mode]);
        });
        b.oci(&["run", "--detach", "box"]).ok();
        let expected = if is_pure { expected } else { 0 };
        assert_eq!(owner("."), expected, "{mode} {uid}");
        assert_eq!(owner("cgroup.procs"), expected);
        assert_eq!(owner("cgroup.subtree_control"), expected);
        // Its limits are not its own.
        assert_eq!(owner("cgroup.max.depth"), 0);
        if is_pure && uid == 0 {
            let made = b.oci(&["exec", "box", "mkdir", "/sys/fs/cgroup/below"]);
            assert_eq!(made.code == 0, mode == "rw", "{made:?}");
        }
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// With the mount option nsdelegate, which systemd sets, a process in the cgroup namespace
/// of one container can put none into the cgroup of another.
#[test]
fn a_container_in_the_user_and_cgroup_namespaces_of_another() {
    let b = Bundle::new();
    give_rootfs(&b);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    b.sh("sleep 60", |c| {
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map.clone();
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let pid = b.state("box")["pid"].to_string();
    b.sh(
        "readlink /proc/self/ns/cgroup; cat /proc/self/cgroup",
        |c| {
            c["linux"]["cgroupsPath"] = format!("/{}-second", b.name()).into();
            let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.push(json!({"type": "user"}));
            for n in kinds.iter_mut().filter(|n| n["type"] != "mount") {
                let file = match n["type"].as_str().unwrap() {
                    "network" => "net",
                    kind => kind,
                };
                n["path"] = format!("/proc/{pid}/ns/{file}").into();
            }
        },
    );
    let said = b.oci(&["run", "second"]).ok();
    let namespace = fs::read_link(format!("/proc/{pid}/ns/cgroup")).unwrap();
    assert!(said.starts_with(namespace.to_str().unwrap()), "{said}");
    // Its own cgroup is beside the root of the namespace.
    let second = format!("0::/../{}-second\n", b.name());
    assert!(said.contains(&second), "{said}");
    b.oci(&["delete", "--force", "box"]).ok();
}
