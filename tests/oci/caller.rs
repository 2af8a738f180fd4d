//! What a container must not have from the shell that its engine was started from,
//! where the specification is silent.

use std::process::Command;

use serde_json::json;

use super::bundle::Bundle;

const LOOK: &str = "grep Cpus_allowed_list /proc/self/status";

fn pinned(b: &Bundle, umask: &str, args: &[&str]) -> String {
    let out = Command::new("bash")
        .args([
            "-c",
            &format!("umask {umask}; exec taskset -c 0 \"$0\" \"$@\""),
        ])
        .arg(b.runtime())
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(args)
        .current_dir(b.dir())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn cpus_and_umask_are_not_the_callers() {
    let b = Bundle::new();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find(|l| l.starts_with("Cpus_allowed_list"))
        .unwrap();
    let script = format!("{LOOK}; stat -c '%a %n' /new /new/work /made; exec sleep 1000");
    for umask in ["077", "000"] {
        b.sh(&script, |c| {
            c["root"]["readonly"] = false.into();
            c["process"]["cwd"] = "/new/work".into();
            let tmpfs = json!({"destination": "/made/tmpfs", "type": "tmpfs", "source": "tmpfs"});
            c["mounts"].as_array_mut().unwrap().push(tmpfs);
        });
        let log = std::fs::File::create(b.dir().join("log")).unwrap();
        let made = Command::new("bash")
            .args([
                "-c",
                &format!("umask {umask}; exec taskset -c 0 \"$0\" \"$@\""),
            ])
            .arg(b.runtime())
            .arg("--root")
            .arg(b.dir().join("state"))
            .args(["run", "-d", "box"])
            .current_dir(b.dir())
            .stdout(log)
            .status();
        assert!(made.unwrap().success());
        let said = || std::fs::read_to_string(b.dir().join("log")).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while said().lines().count() < 4 {
            assert!(std::time::Instant::now() < end, "{}", said());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let want = format!("{own}\n755 /new\n755 /new/work\n755 /made\n");
        assert_eq!(said(), want, "umask {umask}");
        let exec = pinned(&b, umask, &["exec", "box", "sh", "-c", LOOK]);
        assert_eq!(exec, format!("{own}\n"), "exec");
        b.oci(&["delete", "--force", "box"]).ok();
        for made in ["new", "made"] {
            std::fs::remove_dir_all(b.dir().join("rootfs").join(made)).unwrap();
        }
    }
}

#[test]
fn an_exec_with_cpus_of_its_own_keeps_them() {
    let b = Bundle::new();
    b.sh("exec sleep 1000", |_| {});
    b.oci(&["run", "-d", "box"]).ok();
    for affinity in [json!({"initial": "0"}), json!({"final": "0"})] {
        let process = json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", LOOK],
            "env": ["PATH=/bin"], "execCPUAffinity": affinity,
        });
        let path = b.dir().join("process.json");
        std::fs::write(&path, process.to_string()).unwrap();
        let said = b.oci(&["exec", "--process", path.to_str().unwrap(), "box"]);
        assert_eq!(said.ok(), "Cpus_allowed_list:\t0\n");
    }
    b.oci(&["delete", "--force", "box"]).ok();
}
