//! The suite on whole Debian machines: `hack/machines` boots each of them once, and
//! all that is named here runs in it one after the other. Its lines are passed on,
//! so that `--nocapture` shows a machine at work.
//!
//! What is known to fail on a machine, and why, stands in `machines/known.txt`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[path = "shared/places.rs"]
mod places;
use places::Places;

/// One: a machine has as many processors as this one, and two of them made its tests late.
static PLACES: Places = Places::new(1);

/// What depends on the machine: its mounts, cgroups, network, kernel. An emulated
/// processor takes twenty times as long as a real one, so that the whole programs are
/// left to `hack/machines NAME pods`.
const DEBIAN_12: [&str; 6] = [
    "demo",
    "pods basics:: many:: network:: propagation:: security:: sub_paths::",
    "pods steer::a_paused_pod_stands probes::ready probes::a_container_that_is_not resize:: \
     cp::a_directory cp::no_link",
    "oci a_life_verb_by_verb mount hooks",
    "attacks _t3 _t7",
    "lib linux::",
];

/// Objects and volumes, on a machine of its own, beside the other.
const OBJECTS: [&str; 3] = [
    "pods claims::a_claim_outlives claim_sizes::a_block_claim claim_sizes::the_size \
     hugepages::containers quotas:: env::a_container_waits projected::changes_of_objects \
     projected::a_container_that_swaps",
    "script tests/machines/secrets.sh",
    "script tests/machines/nfs.sh",
];

#[test]
fn debian_12() {
    run("debian-12", &DEBIAN_12);
}

#[test]
fn debian_12_objects() {
    run("debian-12", &OBJECTS);
}

/// What is here of volumes is not on Debian 12 again: /tmp is a tmpfs, with nosuid and nodev.
#[test]
fn the_newest_kernel() {
    let tests = "pods basics:: network:: propagation:: shared_processes:: volumes:: \
                 --skip image_volumes::";
    run("debian-13-backports", &["demo", tests]);
}

#[test]
fn the_neighbours() {
    // Some 45 checks; the script's own status says whether it came to its end.
    let script = ["--script", "tests/machines/neighbours.sh"];
    let passed = run_any("debian-12-neighbours", &script);
    assert!(passed.len() > 40, "{passed:?}");
}

#[test]
fn pods_outlive_sessions_and_what_is_done_to_systemd() {
    let script = ["--reboots", "--script", "tests/machines/systemd.sh"];
    let passed = run_any("debian-12", &script);
    assert_eq!(passed.len(), 44, "{passed:?}");
}

#[test]
fn apparmor() {
    let script = ["--script", "tests/machines/lsm-apparmor.sh"];
    let passed = run_any("debian-12", &script);
    assert_eq!(passed.len(), 28, "{passed:?}");
}

#[test]
fn hardened_settings() {
    let script = ["--script", "tests/machines/hardened.sh"];
    let passed = run_any("debian-12", &script);
    assert_eq!(passed.len(), 41, "{passed:?}");
}

#[test]
fn selinux() {
    let passed = run_any(
        "debian-13",
        &[
            "--append",
            "security=selinux selinux=1",
            "--script",
            "tests/machines/lsm-selinux.sh",
        ],
    );
    assert_eq!(passed.len(), 27, "{passed:?}");
}

#[track_caller]
fn run(machine: &str, tests: &[&str]) {
    let passed = run_any(machine, tests);
    assert_eq!(passed.len(), tests.len(), "{machine}: passed: {passed:?}");
}

/// The checks that passed; all have to.
#[track_caller]
fn run_any(machine: &str, arguments: &[&str]) -> Vec<String> {
    let _place = PLACES.take();
    let mut child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/machines"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg(machine)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hack/machines starts");
    let mut failed = Vec::new();
    let mut passed = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8_lossy(&line.expect("reading from hack/machines")).into_owned();
        println!("{machine}: {line}");
        if let Some(what) = line.strip_prefix("CHECK ok ") {
            passed.push(what.to_owned());
        } else if let Some(what) = line.strip_prefix("CHECK FAILED ") {
            failed.push(what.to_owned());
        }
    }
    let status = child.wait().unwrap();
    assert!(
        status.success() && failed.is_empty(),
        "{machine}: {status}; passed: {passed:?}; failed: {failed:#?}\n\
         `hack/machines {machine} TEST` runs one of them, `hack/machines {machine} --shell` \
         gives a shell there"
    );
    passed
}
