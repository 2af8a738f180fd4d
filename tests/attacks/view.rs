//! T7: what a container sees of the host's cgroups (runc CVE-2023-25809); T11: who
//! may come near the state, and whether there is a socket without a place.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::bundle::Bundle;

/// Each hierarchy that is shown begins at the container's own cgroup, and none can
/// be written to: with a cgroup namespace and without.
#[test]
fn cgroups_of_the_host_t7() {
    for own_namespace in [true, false] {
        let b = Bundle::new();
        // A directory of the host's own making in each hierarchy.
        let show = "for d in $(awk '/ - cgroup/ {print $5}' /proc/self/mountinfo); do \
                    grep -q \"^$$\\$\" $d/cgroup.procs 2>/dev/null || grep -qx 1 $d/cgroup.procs || echo foreign:$d; \
                    mkdir $d/made 2>/dev/null && { echo made:$d; rmdir $d/made; }; \
                    echo $$ 2>/dev/null > $d/cgroup.procs && echo wrote:$d; done; echo alive";
        b.sh(show, |c| {
            if !own_namespace {
                let n = c["linux"]["namespaces"].as_array_mut().unwrap();
                n.retain(|n| n["type"] != "cgroup");
            }
        });
        let ran = b.oci(&["run", "box"]);
        assert_eq!(
            ran.stdout, "alive\n",
            "own namespace {own_namespace}: {ran:?}"
        );
    }
}

/// From a process that comes later, by every file there is.
#[test]
fn no_file_of_a_cgroup_is_written_t7() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let own = b.oci(&["exec", "box", "cat", "/proc/self/cgroup"]).ok();
    assert!(own.lines().all(|l| l.ends_with(":/")), "{own}");
    let write = "for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name release_agent -o -name tasks); \
                 do echo 1 > $f && echo wrote $f; done; mkdir /sys/fs/cgroup/x && echo made; \
                 find /sys/fs/cgroup -name 'carob*' | grep .";
    let wrote = b.oci(&["exec", "box", "sh", "-c", write]).stdout;
    assert_eq!(wrote, "");
    b.oci(&["delete", "--force", "box"]).ok();
}

#[test]
fn state_is_root_s_alone_t11() {
    let b = Bundle::new();
    let sockets = || {
        let all = fs::read_to_string("/proc/net/unix").unwrap();
        let abstract_ones = all.lines().filter_map(|l| l.split_whitespace().nth(7));
        let mut ours: Vec<String> = abstract_ones
            .filter(|n| n.starts_with('@') && (n.contains("carob") || n.contains("box")))
            .map(str::to_owned)
            .collect();
        ours.sort();
        ours
    };
    let before = sockets();
    b.sh("sleep 20", |_| {});
    for step in ["create", "start"] {
        b.oci(&[step, "box"]).ok();
        assert_eq!(sockets(), before, "{step}");
        let mut dirs = vec![b.dir().join("state")];
        while let Some(dir) = dirs.pop() {
            let m = fs::metadata(&dir).unwrap();
            assert_eq!((m.uid(), m.gid()), (0, 0), "{dir:?}");
            // Nobody else may look for names in it, whatever is below.
            assert_eq!(m.mode() & 0o066, 0, "{step}: {dir:?}: {:o}", m.mode());
            for e in fs::read_dir(&dir).unwrap().flatten() {
                let m = e.metadata().unwrap();
                assert_eq!(
                    m.mode() & 0o002,
                    0,
                    "{step}: {:?}: {:o}",
                    e.path(),
                    m.mode()
                );
                if m.is_dir() {
                    dirs.push(e.path());
                }
                assert!(
                    !m.file_type().is_socket() || m.mode() & 0o022 == 0,
                    "{:?}",
                    e.path()
                );
            }
        }
    }
    b.oci(&["delete", "--force", "box"]).ok();
}
