//! As tests/pods/kernels.rs, of `carob-oci`.

use super::bundle::Bundle;
use super::denied::{Denial, newer_than_least, without};

fn a_life(b: &Bundle) {
    b.sh("exit 42", |_| {});
    assert_eq!(b.oci(&["run", "box"]).code, 42);
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let inside = b.oci(&["exec", "box", "sh", "-c", "id -u; exit 7"]);
    assert_eq!(
        (inside.code, inside.stdout.as_str()),
        (7, "0\n"),
        "{inside:?}"
    );
    b.oci(&["pause", "box"]).ok();
    b.oci(&["resume", "box"]).ok();
    b.oci(&["update", "--pids-limit", "20", "box"]).ok();
    b.oci(&["kill", "box", "KILL"]).ok();
    b.becomes("box", "stopped");
    b.oci(&["delete", "box"]).ok();
}

#[test]
fn a_container_lives_without_what_is_newer_than_the_oldest_kernel() {
    // Removed outside: Rust's library removes no directory where statx(2), which it has
    // seen to work, is refused.
    let b = Bundle::new();
    without(&newer_than_least(), || a_life(&b));
    for call in ["faccessat2", "copy_file_range", "statx", "renameat2"] {
        eprintln!("without {call}");
        let b = Bundle::new();
        without(&[Denial::of(call)], || a_life(&b));
    }
}

#[test]
fn what_cannot_be_done_without_is_named_by_one_error() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["run", "--detach", "there"]).ok();
    for (call, name) in [
        ("mount_setattr", "mount_setattr(2) (since Linux 5.12)"),
        (
            "close_range",
            "close_range(2) with CLOSE_RANGE_CLOEXEC (since Linux 5.11)",
        ),
        (
            "clone3",
            "clone3(2) with CLONE_INTO_CGROUP (since Linux 5.7)",
        ),
        ("openat2", "openat2(2) (since Linux 5.6)"),
    ] {
        without(&[Denial::of(call)], || {
            for verb in ["create", "run"] {
                let refused = b.oci(&[verb, "box"]).fails(1, name);
                assert_eq!(
                    refused.stderr.matches("carob-oci:").count(),
                    1,
                    "{refused:?}"
                );
            }
            b.oci(&["exec", "there", "true"]).fails(255, name);
            // What makes nothing does not mind.
            assert_eq!(b.state("there")["status"], "running");
            b.oci(&["state", "box"]).fails(1, "does not exist");
            b.oci(&["features"]).ok();
        });
    }
    without(&[Denial::of("clone3")], || {
        b.oci(&["delete", "--force", "there"]).ok()
    });
}
