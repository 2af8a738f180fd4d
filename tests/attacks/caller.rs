//! What is the caller's and not the container's: its keys (T3); what it asks for in
//! directories that are not only its own, and keeps of what resists (T11).

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use super::bundle::Bundle;
use super::host::{Canary, SECRET};
use super::ours;
use super::rootfs::bind;

/// keyctl(2)'s number.
const KEYCTL: i64 = libc::SYS_keyctl;

/// Two sessions are two keyrings: in the first process, in one more, with a terminal's
/// worth of ways in.
#[test]
fn keys_of_the_caller_t3() {
    super::works();
    let b = Bundle::new();
    for dir in ["lib", "lib64"] {
        symlink(format!("usr/{dir}"), b.dir().join("rootfs").join(dir)).unwrap();
    }
    fs::create_dir(b.dir().join("rootfs/usr")).unwrap();
    // KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING.
    let show = format!("print syscall({KEYCTL}, 0, -3, 0), qq(\\n)");
    // KEYCTL_JOIN_SESSION_KEYRING.
    let caller = format!("$| = 1; syscall({KEYCTL}, 1, 0); {show}; exec @ARGV or die");
    let oci = |args: &[&str]| {
        let out = Command::new("perl")
            .args(["-e", &caller, b.runtime().to_str().unwrap(), "--root"])
            .arg(b.dir().join("state"))
            .args(args)
            .current_dir(b.dir())
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        let ids: Vec<i64> = text.lines().map(|l| l.parse().unwrap()).collect();
        assert_eq!(ids.len(), 2, "{args:?}: {text}");
        ids
    };
    for user_namespace in [false, true] {
        let perl = |script: &str| json!(["/usr/bin/perl", "-e", script]);
        let config = |script: String| {
            b.config(|c| {
                c["process"]["args"] = perl(&script);
                bind(c, "/usr", "/usr");
                if user_namespace {
                    let list = c["linux"]["namespaces"].as_array_mut().unwrap();
                    list.push(json!({"type": "user"}));
                    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                    c["linux"]["uidMappings"] = map.clone();
                    c["linux"]["gidMappings"] = map;
                }
            });
        };
        config(show.clone());
        let ids = oci(&["run", "box"]);
        assert_ne!(ids[0], ids[1], "user namespace {user_namespace}");
        config("sleep 60".into());
        b.oci(&["create", "box"]).ok();
        b.oci(&["start", "box"]).ok();
        let ids = oci(&["exec", "box", "/usr/bin/perl", "-e", &show]);
        assert_ne!(ids[0], ids[1], "exec, user namespace {user_namespace}");
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// Whoever may write to the directory of a PID file makes links there.
#[test]
fn a_pid_file_beside_links_t11() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let dir = b.dir().join("pids");
    fs::create_dir(&dir).unwrap();
    let file = canary.dir.join("file");
    let pid_file = dir.join("pid");
    b.sh("sleep 60", |_| {});
    for verb in [&["create", "box"][..], &["exec", "--detach", "box", "true"]] {
        for name in ["pid", ".pid", "pid.tmp", ".pid.tmp"] {
            let _ = fs::remove_file(dir.join(name));
            symlink(&file, dir.join(name)).unwrap();
        }
        let mut args = vec![verb[0], "--pid-file", pid_file.to_str().unwrap()];
        args.extend(&verb[1..]);
        let ran = b.oci(&args);
        assert_eq!(fs::read_to_string(&file).unwrap(), SECRET, "{verb:?}");
        canary.is_untouched(verb[0]);
        if ours() {
            assert_eq!(ran.code, 0, "{ran:?}");
            assert!(!pid_file.is_symlink());
            fs::read_to_string(&pid_file)
                .unwrap()
                .parse::<i32>()
                .unwrap();
        }
    }
    b.oci(&["delete", "--force", "box"]).ok();
}

/// A `create` that is killed, wherever it is: what there is can be deleted, and nothing
/// of it is left.
#[test]
fn a_create_that_is_killed_t11() {
    super::works();
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    for n in 0..60 {
        let mut create = Command::new(b.runtime())
            .arg("--root")
            .arg(b.dir().join("state"))
            .args(["create", "box"])
            .current_dir(b.dir())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(n * 333));
        create.kill().unwrap();
        create.wait().unwrap();
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// A process that does not die today (here: frozen) can be ended tomorrow: what leads
/// to it is not forgotten.
#[test]
fn what_resists_is_not_forgotten_t11() {
    let freezer = std::path::Path::new("/sys/fs/cgroup/freezer");
    if !ours() || !freezer.is_dir() {
        return;
    }
    let b = Bundle::new();
    b.sh("sleep 60", |c| {
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|n| n["type"] != "pid");
    });
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let pid_file = b.dir().join("pid");
    let flags = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap()];
    b.oci(&[&flags[..], &["box", "sleep", "60"]].concat()).ok();
    let below = freezer.join(b.name()).join("below");
    fs::create_dir(&below).unwrap();
    let pid = fs::read_to_string(&pid_file).unwrap();
    fs::write(below.join("cgroup.procs"), &pid).unwrap();
    fs::write(below.join("freezer.state"), "FROZEN").unwrap();
    let refused = b.oci(&["delete", "--force", "box"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(b.state("box")["status"], "stopped");
    fs::write(below.join("freezer.state"), "THAWED").unwrap();
    b.oci(&["delete", "--force", "box"]).ok();
}
