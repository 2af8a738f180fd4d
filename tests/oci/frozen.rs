//! Cgroups that are frozen, and containers that are created and not started.

use std::fs;
use std::path::{Path, PathBuf};

use super::bundle::Bundle;

/// A hierarchy that can freeze: where it is, the file, what is written to freeze.
type Freezer = (PathBuf, &'static str, [&'static str; 2]);

fn freezers() -> Vec<Freezer> {
    let root = Path::new("/sys/fs/cgroup");
    let v2 = |dir: PathBuf| (dir, "cgroup.freeze", ["0", "1"]);
    let known = [
        (root.join("freezer"), "freezer.state", ["THAWED", "FROZEN"]),
        v2(root.join("unified")),
        v2(root.to_owned()),
    ];
    let there = |f: &Freezer| f.0.join("cgroup.procs").exists();
    let found: Vec<Freezer> = known.into_iter().filter(there).collect();
    assert!(!found.is_empty(), "no freezer is mounted");
    found
}

/// A cgroup of one hierarchy, frozen; removed when dropped.
struct Frozen {
    dir: PathBuf,
    file: &'static str,
    thawed: &'static str,
}

impl Frozen {
    fn new((place, file, [thawed, frozen]): Freezer, name: &str) -> Frozen {
        let dir = place.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(file), frozen).unwrap();
        Frozen { dir, file, thawed }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join(self.file), self.thawed);
        let _ = fs::remove_dir(&self.dir);
    }
}

#[test]
fn a_frozen_cgroup_is_an_error_at_once() {
    let b = Bundle::new();
    for freezer in freezers() {
        let frozen = Frozen::new(freezer, b.name());
        for path in [format!("/{}", b.name()), format!("/{}/below", b.name())] {
            b.sh("true", |c| c["linux"]["cgroupsPath"] = path.as_str().into());
            for verb in ["create", "run"] {
                b.oci(&[verb, "box"]).fails(1, "is frozen");
                b.oci(&["state", "box"]).fails(1, "does not exist");
            }
            // It is not the container's to remove.
            assert!(frozen.dir.exists() && !frozen.dir.join("below").exists());
        }
    }
}

/// `start` and `exec` would wait for a process that does not run.
#[test]
fn verbs_in_a_cgroup_that_is_frozen_from_above() {
    let b = Bundle::new();
    let path = format!("/{}-above/{}", b.name(), b.name());
    b.sh("sleep 60", |c| c["linux"]["cgroupsPath"] = path.into());
    let above = format!("{}-above", b.name());
    b.oci(&["create", "box"]).ok();
    let set = |on: bool| {
        for (place, file, words) in freezers() {
            fs::write(place.join(&above).join(file), words[usize::from(on)]).unwrap();
        }
    };
    set(true);
    b.oci(&["start", "box"]).fails(1, "is frozen");
    set(false);
    b.oci(&["start", "box"]).ok();
    b.becomes("box", "running");
    set(true);
    let ran = b.oci(&["exec", "box", "true"]);
    assert_eq!(ran.code, 255, "{ran:?}");
    // v1's freezer.state tells of what is above it too.
    let told = ["is frozen", "in a paused container"];
    assert!(told.iter().any(|t| ran.stderr.contains(t)), "{ran:?}");
    set(false);
    b.oci(&["delete", "--force", "box"]).ok();
    // `delete` leaves the directories above the container's.
    for dir in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(dir.path().join(&above));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&above));
}

/// The kernel spares the first process of a pid namespace a signal that it does not
/// handle; an engine that stops a created container would wait its whole grace period.
#[test]
fn a_signal_ends_a_created_container() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    for signal in ["TERM", "INT", "HUP", "USR1", "RTMIN+3"] {
        b.oci(&["create", "box"]).ok();
        // What does nothing to a process by default does nothing here.
        for harmless in ["CHLD", "WINCH", "CONT", "URG"] {
            b.oci(&["kill", "box", harmless]).ok();
        }
        assert_eq!(b.state("box")["status"], "created");
        b.oci(&["kill", "box", signal]).ok();
        b.becomes("box", "stopped");
        b.oci(&["delete", "box"]).ok();
    }
    // The program has the default effects again.
    b.sh("trap 'exit 7' TERM; kill -USR1 $$; kill -TERM $$", |_| {});
    assert_eq!(b.oci(&["run", "box"]).code, 7);
}
