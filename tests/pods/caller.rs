//! What a Pod must not have from the shell that it was made from: umask, limits, CPUs,
//! priority.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;

use crate::root::{Ran, Root, kill_9, pod, sh, text_file};

/// A shell with all that a container might have from it, then `carob`. Soft limits
/// alone: hard ones are raised with CAP_SYS_RESOURCE only.
fn from_a_strange_shell(root: &Root, umask: &str, args: &[&str], stdin: Stdio) -> Ran {
    let script = format!(
        "umask {umask}; ulimit -S -n 77; ulimit -S -f 1000; ulimit -S -s 1024; ulimit -S -c 0; \
         exec nice -n 7 ionice -c 3 taskset -c 0 \"$0\" \"$@\""
    );
    let ran = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_carob"), "--root"])
        .arg(root.dir())
        .args(args)
        .stdin(stdin)
        .output()
        .unwrap();
    ran.into()
}

const LOOK: &str = "cat /proc/self/limits; umask; grep Cpus_allowed_list /proc/self/status; \
                    cut -d ' ' -f 19 /proc/self/stat; ionice";

fn manifest(root: &Root, name: &str) -> String {
    let host = root.dir().join(format!("host-{name}"));
    let host = |path: &str, kind: &str| json!({"path": host.join(path), "type": kind});
    let mounts = json!({
        "workingDir": "/new/work",
        "securityContext": {"runAsUser": 1000},
        "volumeMounts": [
            {"name": "dir", "mountPath": "/made/dir"},
            {"name": "file", "mountPath": "/made/file"},
            {"name": "empty", "mountPath": "/made/empty"},
        ],
    });
    pod(
        name,
        json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", &format!("({LOOK}); exec sleep 1000"), mounts)],
            "volumes": [
                {"name": "dir", "hostPath": host("a/dir", "DirectoryOrCreate")},
                {"name": "file", "hostPath": host("a/file", "FileOrCreate")},
                {"name": "empty", "emptyDir": {}},
            ],
        }),
    )
}

#[test]
fn nothing_of_the_callers_shell_reaches_a_container() {
    let root = Root::new();
    root.apply(&manifest(&root, "plain")).ok();
    root.says("plain", "main", "none");
    let plain = root.carob(&["logs", "plain"]).ok();
    // Fixed values, not only the same ones; a hard limit as far as it is allowed.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let files = plain.lines().find(|l| l.starts_with("Max open files"));
    let files: Vec<&str> = files.unwrap().split_whitespace().collect();
    let allowed = hard.min(1 << 20).to_string();
    assert!(["1048576", &allowed].contains(&files[3]), "{plain}");
    assert_eq!(files[3], files[4], "{plain}");
    for line in [
        "Max stack size            8388608",
        "Max file size             unlimited",
        "0022\n",
    ] {
        assert!(plain.contains(line), "{line:?} in {plain}");
    }

    for umask in ["077", "000"] {
        let text = text_file(&root, "pod.json", &manifest(&root, "strange"));
        from_a_strange_shell(&root, umask, &["apply", "-f", "-"], text.into()).ok();
        root.says("strange", "main", "none");
        assert_eq!(root.carob(&["logs", "strange"]).ok(), plain);
        let modes = "stat -c '%a %n' /new /new/work /made /made/empty /made/dir /made/file";
        assert_eq!(
            root.sh("strange", modes),
            "755 /new\n755 /new/work\n755 /made\n777 /made/empty\n755 /made/dir\n644 /made/file\n"
        );
        let above = std::fs::metadata(root.dir().join("host-strange/a")).unwrap();
        assert_eq!(above.permissions().mode() & 0o7777, 0o755);

        // A command from another shell starts the next monitor, whose restarts and
        // execs are the same.
        kill_9(root.monitor_pid("strange"));
        from_a_strange_shell(&root, umask, &["get", "pods"], Stdio::null()).ok();
        assert_eq!(root.sh("strange", LOOK), plain, "exec by the next monitor");
        kill_9(root.pid("strange", "main"));
        let restarts = ".status.containerStatuses[0].restartCount";
        root.becomes("strange", restarts, "1");
        root.says("strange", "main", "none");
        let again = root.carob(&["logs", "strange"]).ok();
        assert_eq!(again, plain, "a restart by the next monitor");
        root.carob(&["delete", "pod", "strange"]).ok();
        std::fs::remove_dir_all(root.dir().join("host-strange/a")).unwrap();
    }
}
