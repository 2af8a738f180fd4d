//! T3, T4, T6, T7, T10, T11: what a process in a container has of its runtime.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Outside;
use super::bundle::Bundle;

/// T3. runc CVE-2016-9962 and CVE-2024-21626.
#[test]
fn no_fd_and_no_directory_of_the_runtime() {
    let b = Bundle::new();
    let outside = Outside::of(&b);
    let log = b.dir().join("hook");
    // The list itself is read through one more.
    let list = format!("echo $(ls /proc/self/fd) >> {}", log.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", list]}]);
    b.sh("exec sleep 60", |c| {
        for kind in ["createRuntime", "createContainer", "poststart"] {
            c["hooks"][kind] = hook.clone();
        }
    });
    b.oci(&["create", "box"]).ok();
    let hook_had = std::fs::read_to_string(&log).unwrap();
    assert_eq!(hook_had, "0 1 2 3\n0 1 2 3\n");
    b.oci(&["start", "box"]).ok();
    for _ in 0..20 {
        let look = "ls /proc/1/fd | tr '\\n' ' '; readlink /proc/1/cwd; ls /proc/self/fd | tr '\\n' ' '; pwd";
        let seen = b.oci(&["exec", "box", "sh", "-c", look]).ok();
        assert_eq!(seen, "0 1 2 /\n0 1 2 3 /\n");
    }
    for n in 3..14 {
        let cwd = format!("/proc/self/fd/{n}");
        let spy = format!(
            "cat ../../../../../../../..{0} .{0}; ls -a ..",
            outside.path("file")
        );
        let seen = b.oci(&["exec", "--cwd", &cwd, "box", "sh", "-c", &spy]);
        assert!(
            !seen.stdout.contains("secret") && !seen.stdout.contains("boot"),
            "{cwd}: {seen:?}"
        );
    }
    b.oci(&["delete", "--force", "box"]).ok();
    for n in 3..14 {
        b.sh(
            &format!(
                "cat ../../../../../../../..{}; ls -a ..",
                outside.path("file")
            ),
            |c| {
                c["process"]["cwd"] = format!("/proc/self/fd/{n}").into();
            },
        );
        let seen = b.oci(&["run", "box"]);
        assert!(
            !seen.stdout.contains("secret") && !seen.stdout.contains("boot"),
            "{n}: {seen:?}"
        );
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// T4. runc CVE-2019-5736.
#[test]
fn the_runtimes_program_cannot_be_written_to() {
    let b = Bundle::new();
    let before = std::fs::read(b.runtime()).unwrap();
    let spy = "while :; do for p in /proc/[0-9]*; do \
               case $(readlink $p/exe) in /bin/busybox|'') ;; *) echo x >> $p/exe;; esac; done; done 2>/dev/null";
    b.sh(spy, |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let rootfs = b.dir().join("rootfs");
    std::fs::write(rootfs.join("bin/itself"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(
        rootfs.join("bin/itself"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    for _ in 0..25 {
        b.oci(&["exec", "box", "true"]).ok();
        b.oci(&["exec", "box", "/bin/itself"]);
        b.oci(&["exec", "box", "/proc/self/exe", "--version"]);
    }
    b.oci(&["delete", "--force", "box"]).ok();
    // A program that is running is busy; now it is not.
    assert!(
        std::fs::read(b.runtime()).unwrap() == before,
        "it was written to"
    );
    for args in [
        json!(["/proc/self/exe", "features"]),
        json!(["/bin/itself"]),
    ] {
        b.config(|c| c["process"]["args"] = args);
        // It may run itself once more, from where nobody can write to it.
        b.oci(&["run", "box"]);
        b.oci(&["delete", "--force", "box"]).ok();
    }
    assert!(std::fs::read(b.runtime()).unwrap() == before);
}

fn status(text: &str, field: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{field}:\t")));
    u64::from_str_radix(
        line.unwrap_or_else(|| panic!("no {field} in {text:?}"))
            .trim(),
        16,
    )
    .unwrap()
}

/// T6. capabilities(7): what a program has after its exec, from what was asked for.
#[test]
fn capabilities_are_those_asked_for() {
    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    let names = |set: u64| -> Value {
        let all = [(CHOWN, "CAP_CHOWN"), (KILL, "CAP_KILL")];
        all.iter()
            .filter(|(bit, _)| set & bit != 0)
            .map(|(_, n)| *n)
            .collect()
    };
    let b = Bundle::new();
    let both = CHOWN | KILL;
    for (bounding, permitted, inheritable, ambient) in [
        (0, 0, 0, 0),
        (both, 0, 0, 0),
        (both, both, 0, 0),
        (both, KILL, KILL, 0),
        (both, both, KILL, KILL),
        (KILL, KILL, KILL, KILL),
    ] {
        for uid in [0, 1000] {
            let capabilities = json!({
                "bounding": names(bounding), "permitted": names(permitted),
                "effective": names(permitted), "inheritable": names(inheritable),
                "ambient": names(ambient),
            });
            b.sh("exec cat /proc/self/status", |c| {
                c["process"]["capabilities"] = capabilities.clone();
                c["process"]["user"] = json!({"uid": uid, "gid": uid, "additionalGids": [7]});
                c["process"]["noNewPrivileges"] = false.into();
            });
            let first = b.oci(&["run", "box"]).ok();
            b.sh("exec sleep 60", |_| {});
            b.oci(&["create", "box"]).ok();
            b.oci(&["start", "box"]).ok();
            let process = json!({
                "args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
                "user": {"uid": uid, "gid": uid, "additionalGids": [7]}, "capabilities": capabilities,
            });
            let file = b.dir().join("process.json");
            std::fs::write(&file, process.to_string()).unwrap();
            let later = b
                .oci(&["exec", "--process", file.to_str().unwrap(), "box"])
                .ok();
            b.oci(&["delete", "--force", "box"]).ok();
            for (who, text) in [("first", first), ("exec", later)] {
                let what = format!(
                    "{who} uid {uid} of {bounding:x} {permitted:x} {inheritable:x} {ambient:x}: {text}"
                );
                let has = |field| status(&text, field);
                // root's exec gives it all that the bounding set lets through.
                let permitted = if uid == 0 {
                    bounding | inheritable
                } else {
                    ambient
                };
                assert_eq!(has("CapBnd"), bounding, "{what}");
                assert_eq!(has("CapPrm"), permitted, "{what}");
                assert_eq!(has("CapEff"), permitted, "{what}");
                assert_eq!(has("CapInh"), inheritable, "{what}");
                assert_eq!(has("CapAmb"), ambient, "{what}");
                assert!(text.contains("\nGroups:\t7 \n"), "{what}");
            }
        }
    }
}

/// T7. runc CVE-2023-25809.
#[test]
fn the_hosts_cgroups_are_neither_seen_nor_written() {
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

/// T10. cri-o CVE-2022-1708: whoever is left behind with the hook's output.
#[test]
fn a_hooks_child_holds_nobody_up() {
    let b = Bundle::new();
    b.sh("true", |c| {
        c["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "sleep 9 & echo left"]}]);
    });
    let began = Instant::now();
    b.oci(&["run", "box"]).ok();
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// T11. containerd CVE-2020-15257 and CVE-2024-25621.
#[test]
fn what_is_kept_is_roots_alone() {
    let abstract_sockets = || {
        let text = std::fs::read_to_string("/proc/net/unix").unwrap();
        text.lines()
            .filter(|l| l.contains('@') && l.contains("carob"))
            .count()
    };
    let before = abstract_sockets();
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    assert_eq!(abstract_sockets(), before);
    let state = b.dir().join("state");
    let found = Command::new("find")
        .arg(&state)
        .args(["-perm", "/077", "-not", "-type", "l"])
        .output()
        .unwrap();
    let loose = String::from_utf8_lossy(&found.stdout).into_owned();
    // What lies in a directory that is closed need not be closed itself.
    let open = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o077 != 0;
    assert!(!open(&state) || !open(&state.join("box")), "{loose}");
    b.oci(&["start", "box"]).ok();
    assert_eq!(abstract_sockets(), before);
    b.oci(&["delete", "--force", "box"]).ok();
}
