//! Filesystems without room, read-only ones, processes without fds: Pods are looked at
//! and deleted all the same, and no exit code is lost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use carob::inside::linux::open_dir;
use carob::inside::linux::{Mount, unmount};
use serde_json::json;
use std::os::fd::AsFd;

use crate::root::{Root, alive, kill_9, pod, script_pod, sh, until};

/// Ends with 3 when it is told to.
const ENDS: &str = "echo ready; until [ -e /tmp/go ]; do usleep 10000; done; exit 3";
const SLEEPS: &str = "trap 'exit 0' TERM; echo ready; sleep 1000 & wait";
const ENDED: &str = ".status.containerStatuses[0].state.terminated";

/// A tmpfs of a root's own at one of its directories. When it is dropped the root's Pods
/// are deleted first, which nothing can be in the way of any more.
pub(crate) struct Small<'r> {
    root: &'r Root,
    at: PathBuf,
}

impl<'r> Small<'r> {
    pub(crate) fn mount(root: &'r Root, sub: &str, options: &[(&str, &str)]) -> Self {
        let at = match sub {
            "" => root.dir().to_owned(),
            sub => root.dir().join(sub),
        };
        std::fs::create_dir_all(&at).unwrap();
        Mount::new("tmpfs", options, 0)
            .and_then(|m| m.attach(open_dir(&at)?.as_fd()))
            .unwrap();
        Small { root, at }
    }

    /// Takes all the room, and all inodes with `files`. Called again it takes what has
    /// become free since, as by a monitor that was just replacing a record.
    pub(crate) fn fill(&self, files: bool) {
        std::fs::create_dir_all(self.at.join("fill")).unwrap();
        let path = |n: u32| self.at.join(format!("fill/{n}"));
        let mut append = std::fs::File::options();
        append.create(true).append(true);
        for n in 0.. {
            let Ok(mut file) = append.open(path(n)) else {
                break;
            };
            while !files && file.write_all(&[1; 4096]).is_ok() {}
            if !files {
                break;
            }
        }
    }

    pub(crate) fn free(&self) {
        let _ = std::fs::remove_dir_all(self.at.join("fill"));
    }

    /// What is left of the root's Pods: nothing, or this panics.
    #[track_caller]
    fn nothing_left(&self) {
        let at = format!(" {} ", self.at.display());
        let left = until(|| {
            let mut left = self.root.left();
            left.retain(|l| !(l.starts_with("mount ") && l.contains(&at)));
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        left.unwrap_or_else(|l| panic!("{l:#?}"));
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        self.free();
        self.root.kill_all(&["--wait"]);
        if !std::thread::panicking() {
            self.nothing_left();
        }
        let _ = unmount(&self.at);
    }
}

/// Tells the container of a Pod made of [`ENDS`] to end, from behind: `exec` ends with it.
fn go(root: &Root, pod: &str) {
    let touch = "(usleep 100000; touch /tmp/go) </dev/null >/dev/null 2>&1 &";
    root.carob(&["exec", pod, "--", "sh", "-c", touch]).ok();
}

#[track_caller]
fn ends_with_three(root: &Root, pod: &str) {
    go(root, pod);
    root.becomes(pod, ".status.phase", "Failed");
    assert_eq!(root.field(pod, &format!("{ENDED}.exitCode")), "3");
}

fn apply(root: &Root, name: &str, script: &str) {
    root.apply(&script_pod(name, "Never", 1, script)).ok();
    root.says(name, "main", "ready");
}

fn pod_dir(root: &Root, pod: &str) -> PathBuf {
    root.dir().join("run/pods").join(root.uid(pod))
}

/// What the monitor has written, whatever it knows.
fn recorded(root: &Root, pod: &str) -> String {
    std::fs::read_to_string(pod_dir(root, pod).join("state.json")).unwrap()
}

fn temporaries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().flatten();
    let names = names.map(|e| e.file_name().into_string().unwrap());
    names.filter(|n| n.contains("tmp")).collect()
}

#[test]
fn a_full_run_keeps_no_exit_code_from_being_recorded_and_no_pod_from_going() {
    let root = Root::empty();
    let run = Small::mount(&root, "run", &[("size", "192k")]);
    root.load_image();
    apply(&root, "ends", ENDS);
    apply(&root, "waits", SLEEPS);
    apply(&root, "forced", SLEEPS);
    run.fill(false);
    ends_with_three(&root, "ends");
    // Written down, so that the next monitor knows it.
    kill_9(root.monitor_pid("ends"));
    assert_eq!(root.field("ends", &format!("{ENDED}.exitCode")), "3");
    let said = root.carob(&["describe", "pod", "ends"]).ok();
    assert!(said.contains("Exit Code:"), "{said}");
    assert!(temporaries(&pod_dir(&root, "ends")).is_empty());

    let pid = root.pid("waits", "main");
    root.carob(&["delete", "pod", "waits"]).ok();
    assert!(!alive(pid));
    root.carob(&["delete", "pod", "forced", "--force", "--wait"])
        .ok();
    root.carob(&["delete", "pods", "--all"]).ok();
    run.nothing_left();
}

#[test]
fn what_cannot_be_recorded_is_known_to_the_monitor_and_recorded_later() {
    let root = Root::empty();
    let run = Small::mount(&root, "run", &[("size", "192k")]);
    root.load_image();
    apply(&root, "ends", ENDS);
    apply(&root, "waits", SLEEPS);
    for pod in ["ends", "waits"] {
        std::fs::remove_file(pod_dir(&root, pod).join("state.json.spare")).unwrap();
    }
    run.fill(false);
    let monitor = root.monitor_pid("ends");
    ends_with_three(&root, "ends");
    assert!(recorded(&root, "ends").contains("Running"), "it had room");
    let table = root.carob(&["get", "pods"]).ok();
    assert!(table.contains("Error"), "{table}");
    let said = root.carob(&["describe", "pod", "ends"]).ok();
    assert!(said.contains("FailedRecord"), "{said}");
    assert!(said.contains("ENOSPC"), "{said}");
    root.carob(&["delete", "pod", "waits"]).ok();

    run.free();
    let written = until(|| match recorded(&root, "ends") {
        text if text.contains("\"exit_code\":3") => Ok(()),
        text => Err(text),
    });
    assert_eq!(written, Ok(()));
    assert!(alive(monitor), "it has written that itself");
    kill_9(monitor);
    assert_eq!(root.field("ends", &format!("{ENDED}.exitCode")), "3");
}

#[test]
fn a_container_is_not_started_without_a_record_and_starts_when_there_is_room() {
    let root = Root::empty();
    let run = Small::mount(&root, "run", &[("size", "192k")]);
    root.load_image();
    let script = "echo ready; until [ -e /tmp/go ]; do usleep 10000; done; exit 3";
    root.apply(&script_pod("p", "OnFailure", 1, script)).ok();
    root.says("p", "main", "ready");
    run.fill(false);
    go(&root, "p");
    let refused = until(|| {
        run.fill(false);
        let waiting = ".status.containerStatuses[0].state.waiting.reason";
        match root.field("p", waiting).as_str() {
            "CreateContainerError" => Ok(()),
            _ => Err(root.carob(&["describe", "pod", "p"])),
        }
    });
    assert_eq!(refused.map_err(|said| format!("{said:?}")), Ok(()));
    run.free();
    root.becomes("p", ".status.phase", "Running");
    root.becomes("p", ".status.containerStatuses[0].restartCount", "1");
}

#[test]
fn pods_and_images_go_from_a_disk_that_is_full() {
    let root = Root::empty();
    // State, data and logs on one disk.
    let disk = Small::mount(&root, "", &[("size", "24m")]);
    root.load_image();
    apply(&root, "p", SLEEPS);
    disk.fill(false);
    root.carob(&["delete", "pod", "p"]).ok();
    let images = root.carob(&["images", "-q"]).ok();
    let rmi = root.carob(&["rmi", crate::root::IMAGE]).ok();
    assert!(rmi.contains("Deleted:"), "{rmi}");
    assert_eq!(root.carob(&["images", "-q"]).ok(), "", "{images}");
    root.carob(&["system", "check"]).ok();
}

#[test]
fn an_image_goes_from_a_disk_without_a_free_inode_or_a_reserve() {
    for prune in [false, true] {
        let root = Root::empty();
        let disk = Small::mount(&root, "data", &[("size", "24m"), ("nr_inodes", "4k")]);
        root.load_image();
        std::fs::remove_file(root.dir().join("data/images/index.json.spare")).unwrap();
        disk.fill(true);
        match prune {
            true => root.carob(&["image-prune", "--all"]).ok(),
            false => root.carob(&["rmi", crate::root::IMAGE]).ok(),
        };
        assert_eq!(root.carob(&["images", "-q"]).ok(), "");
        root.carob(&["system", "check"]).ok();
        let layers = root.dir().join("data/images/layers");
        assert_eq!(std::fs::read_dir(layers).unwrap().count(), 0);
    }
}

fn limit_files(pid: i32, most: u64) {
    let limit = format!("--nofile={most}:4096");
    let limited = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &limit])
        .status();
    assert!(limited.unwrap().success());
}

#[test]
fn a_monitor_without_fds_answers() {
    let root = Root::new();
    apply(&root, "p", SLEEPS);
    let monitor = root.monitor_pid("p");
    let is_open = |n: &u64| std::fs::symlink_metadata(format!("/proc/{monitor}/fd/{n}")).is_ok();
    limit_files(monitor, (0..).find(|n| !is_open(n)).unwrap());
    for _ in 0..3 {
        let follow = Command::new("timeout")
            .args(["30", env!("CARGO_BIN_EXE_carob"), "--root"])
            .arg(root.dir())
            .args(["logs", "-f", "--limit-bytes=5", "p"])
            .output();
        let follow: crate::root::Ran = follow.unwrap().into();
        assert_eq!(follow.ok(), "ready");
    }
    limit_files(monitor, 4096);
    assert_eq!(root.monitor_pid("p"), monitor);
    root.carob(&["delete", "pod", "p"]).ok();
}

#[test]
fn containers_for_which_there_are_no_fds_wait_and_their_pod_goes() {
    let root = Root::new();
    let containers = (0..8).map(|n| sh(&format!("c{n}"), SLEEPS, json!({})));
    let containers: Vec<_> = containers.collect();
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": containers});
    let manifest = root.dir().join("pod.yaml");
    std::fs::write(&manifest, pod("p", spec)).unwrap();
    // A monitor with CAP_SYS_RESOURCE would raise the limit.
    let applied = Command::new("setpriv")
        .args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"])
        .args(["prlimit", "--nofile=40:40", env!("CARGO_BIN_EXE_carob")])
        .arg("--root")
        .arg(root.dir())
        .args(["apply", "-f"])
        .arg(manifest)
        .output();
    let applied: crate::root::Ran = applied.unwrap().into();
    applied.fails(7, "EMFILE");
    // `apply` returns at the first of them, when others may still be on their way.
    let table = until(|| {
        let table = root.carob(&["get", "pods"]).ok();
        match table.contains("CreateContainerError") {
            true => Ok(()),
            false => Err(table),
        }
    });
    table.unwrap_or_else(|table| panic!("{table}"));
    root.carob(&["delete", "pod", "p"]).ok();
    let data = root.dir().join("data/pods");
    assert_eq!(std::fs::read_dir(data).unwrap().count(), 0);
}

/// Runs `carob` in a mount namespace where mounts of a filesystem type, or at a
/// directory and what of the root is mounted below, are read-only.
fn read_only(root: &Root, which: &str, command: &str) -> crate::root::Ran {
    let script = format!(
        "mount --make-rprivate / || exit 99\n\
         awk '{which} {{ print $2 }}' /proc/self/mounts | while read -r at; do\n  \
         mount -o remount,bind,ro \"$at\" || exit 99\ndone || exit 99\n\
         exec \"$0\" --root \"$1\" {command}"
    );
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_carob")])
        .arg(root.dir())
        .env_remove("CAROB_ROOT")
        .output();
    let ran: crate::root::Ran = ran.unwrap().into();
    assert_ne!(ran.code, 99, "{ran:?}");
    ran
}

const CGROUPS: &str = "$3 ~ /^cgroup/";

#[test]
fn a_read_only_run_hides_nothing() {
    let root = Root::empty();
    let run = Small::mount(&root, "run", &[]);
    root.load_image();
    apply(&root, "p", SLEEPS);
    let own = format!("$2 == \"{0}\" || $2 == \"{0}/pods\"", run.at.display());
    let carob = |command: &str| read_only(&root, &own, command);
    let is_looked_at = || {
        let said = carob("describe pod p").ok();
        assert!(said.contains("Running"), "{said}");
        assert_eq!(carob("logs p").ok(), "ready\n");
        carob("wait pod/p --for=condition=Ready --timeout=5s").ok();
    };
    let table = carob("get pods");
    assert_eq!(table.stderr, "");
    assert!(table.ok().contains("Running"));
    is_looked_at();

    // Nor without a monitor, which cannot be started.
    let pid = root.pid("p", "main");
    kill_9(root.monitor_pid("p"));
    // Its lock is free once it has ended, a moment after the signal.
    let warning = "pod p: it has no monitor, and none can be started";
    let table = until(|| match carob("get pods") {
        table if table.stderr.contains(warning) => Ok(table),
        table => Err(table),
    });
    assert!(table.unwrap().ok().contains("Running"));
    is_looked_at();
    kill_9(pid);
    let ended = until(|| match carob("get pods").ok() {
        table if table.contains("ContainerStatusUnknown") => Ok(()),
        table => Err(table),
    });
    assert_eq!(ended, Ok(()));
    carob("delete pod p").fails(1, "EROFS");
}

#[test]
fn read_only_cgroups_hide_nothing_and_leave_no_pod_that_was_not_made() {
    let root = Root::new();
    apply(&root, "p", SLEEPS);
    kill_9(root.monitor_pid("p"));
    let carob = |command: &str| read_only(&root, CGROUPS, command);
    // The monitor's lock is free once it has ended, a moment after the signal; no new one can
    // be started.
    let table = until(|| match carob("get pods") {
        table if table.stderr.contains("EROFS") => Ok(table),
        table => Err(table),
    });
    assert!(table.unwrap().ok().contains("Running"));
    assert_eq!(carob("logs p").ok(), "ready\n");
    assert!(carob("describe pod p").ok().contains("Running"));

    let other = root.dir().join("other.yaml");
    std::fs::write(&other, script_pod("other", "Never", 1, SLEEPS)).unwrap();
    carob(&format!("apply -f {}", other.display())).fails(1, "EROFS");
    assert_eq!(root.carob(&["get", "pods", "-o", "name"]).ok(), "pod/p\n");
    root.becomes("p", ".status.phase", "Running");
}
