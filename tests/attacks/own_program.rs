//! T4: the runtime's own program, reached from inside by /proc/<pid>/exe (runc
//! CVE-2019-5736).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bundle::Bundle;
use super::rootfs::spoil;

/// A copy of the runtime that may be lost, and what it was.
fn copy(b: &Bundle) -> (PathBuf, Vec<u8>) {
    let bytes = std::fs::read(b.runtime()).unwrap();
    let to = b.dir().join("a-runtime");
    std::fs::write(&to, &bytes).unwrap();
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
    (to, bytes)
}

fn call(b: &Bundle, runtime: &Path, args: &[&str]) -> i32 {
    let file = |name| std::fs::File::create(b.dir().join(name)).unwrap();
    let status = Command::new("timeout")
        .args(["-k", "1", "10"])
        .arg(runtime)
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(args)
        .current_dir(b.dir())
        .stdin(std::process::Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .status();
    status.unwrap().code().unwrap_or(-1)
}

#[test]
fn the_program_cannot_be_written_to_from_inside_t4() {
    let b = Bundle::new();
    let (runtime, before) = copy(&b);
    // Whoever executes /proc/self/exe runs the runtime: its fd is taken, and
    // written to once nothing executes it any more.
    b.sh(
        "touch /ready; while :; do for p in /proc/[1-9]*; do test ${p##*/} = 1 || { \
         exec 8<$p/exe && readlink /proc/self/fd/8 | grep -q runtime && { echo got >> /got; \
         for i in 1 2 3 4 5 6 7 8; do (echo '#!/bin/false' > /proc/self/fd/8) && echo wrote >> /got; sleep 0.02; done; }; \
         exec 8<&-; } 2>/dev/null; done; done",
        |c| c["root"]["readonly"] = false.into(),
    );
    assert_eq!(call(&b, &runtime, &["create", "box"]), 0);
    assert_eq!(call(&b, &runtime, &["start", "box"]), 0);
    spoil(
        &b,
        "ln -s /proc/self/exe exe; printf '#!/proc/self/exe\\n' > script; chmod 755 script",
    );
    for n in 0..30 {
        let command = ["/bin/true", "/exe", "/script", "/proc/self/exe"][n % 4];
        // What comes of it is the container's affair.
        let _ = call(&b, &runtime, &["exec", "box", command]);
        assert!(
            std::fs::read(&runtime).unwrap() == before,
            "{command}: overwritten"
        );
    }
    let got = std::fs::read_to_string(b.dir().join("rootfs/got")).unwrap_or_default();
    assert!(!got.contains("wrote"), "{got}");
    b.oci(&["delete", "--force", "box"]).ok();
    assert!(std::fs::read(&runtime).unwrap() == before, "overwritten");
}

/// An image whose entrypoint is the runtime itself, in its own words.
#[test]
fn an_entrypoint_that_is_the_runtime_t4() {
    super::works();
    let b = Bundle::new();
    let (runtime, before) = copy(&b);
    spoil(
        &b,
        "ln -s /proc/self/exe exe; printf '#!/proc/self/exe\\n' > script; chmod 755 script",
    );
    for entry in ["/proc/self/exe", "/exe", "/script", "/proc/1/exe"] {
        // With the runtime's own arguments it may do what it can in there.
        b.config(|c| {
            c["process"]["args"] = serde_json::json!([entry, "--version"]);
            c["root"]["readonly"] = false.into();
        });
        let code = call(&b, &runtime, &["run", "box"]);
        assert!(code != 124 && code != 137, "{entry}: hangs");
        assert!(std::fs::read(&runtime).unwrap() == before, "{entry}");
        b.oci(&["delete", "--force", "box"]);
    }
}
