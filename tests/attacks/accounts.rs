//! T1, T9, T10: the image's users, and who `--user` becomes (crun CVE-2026-30892;
//! containerd CVE-2024-40635, CVE-2026-47262).

use serde_json::json;

use super::bundle::Bundle;
use super::host::outcome;
use super::ours;
use super::rootfs::spoil;

/// The files that name users are the image's, and read by the runtime.
#[test]
fn accounts_that_are_no_files_t1() {
    super::works();
    for (name, script) in [
        ("FIFO", "rm etc/passwd; mkfifo etc/passwd etc/group"),
        (
            "device",
            "rm etc/passwd; mknod etc/passwd c 1 5; mknod etc/group c 1 5",
        ),
        (
            "endless",
            "truncate -s 1T etc/passwd; truncate -s 1T etc/group",
        ),
        (
            "one line",
            "head -c 20000000 /dev/zero | tr '\\0' x > etc/passwd",
        ),
        ("directory", "rm etc/passwd; mkdir etc/passwd etc/group"),
        (
            "link",
            "ln -sf /proc/self/fd/0 etc/passwd; ln -sf ../../../../../etc/group etc/group",
        ),
        ("whole etc", "rm -r etc; ln -s /proc/self etc"),
    ] {
        let b = Bundle::new();
        spoil(&b, script);
        b.sh("echo alive; sleep 20", |c| {
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        let made = b.oci(&["create", "box"]);
        outcome(name, &made);
        if made.code == 0 {
            b.oci(&["start", "box"]).ok();
            for args in [
                &[
                    "exec",
                    "--user",
                    "1000:1000",
                    "box",
                    "grep",
                    "^Uid:",
                    "/proc/self/status",
                ][..],
                &["exec", "--user", "root", "box", "true"],
                &[
                    "exec",
                    "--user",
                    "nobody",
                    "box",
                    "grep",
                    "^Uid:",
                    "/proc/self/status",
                ],
            ] {
                let ran = b.oci(args);
                outcome(name, &ran);
                assert!(
                    args[2] != "nobody" || !ran.stdout.contains("\t0"),
                    "{name}: {ran:?}"
                );
                if ours() && args[2] == "1000:1000" && name != "endless" && name != "one line" {
                    assert_eq!(ran.stdout, "Uid:\t1000\t1000\t1000\t1000\n", "{name}");
                }
            }
        }
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// `exec -u 1` that is root's, and what is no number at all.
#[test]
fn users_of_exec_t9() {
    let b = Bundle::new();
    spoil(
        &b,
        "printf 'root:x:0:0::/:/bin/sh\\n1:x:0:0::/:/bin/sh\\nminus:x:-1:-1::/:\\nbig:x:4294967296:0::/:\\nmax:x:4294967295:0::/:\\n' > etc/passwd",
    );
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let uid = |user: &str| {
        let show = [
            "exec",
            "--user",
            user,
            "box",
            "grep",
            "^Uid:",
            "/proc/self/status",
        ];
        let ran = b.oci(&show);
        outcome(user, &ran);
        ran.stdout.split_whitespace().nth(1).map(str::to_owned)
    };
    assert_eq!(uid("1").as_deref(), Some("1"));
    assert_eq!(uid("1000:7").as_deref(), Some("1000"));
    assert_eq!(uid("0").as_deref(), Some("0"));
    assert_eq!(uid("2147483647:1").as_deref(), Some("2147483647"));
    for user in [
        "-1",
        "4294967295",
        "4294967296",
        "4294967297",
        "18446744073709551616",
        "minus",
        "big",
        "max",
        "1x",
        " 1",
        "0x1",
        "1:x",
        "1:-1",
        "1:4294967296",
        "4294967296:0",
        "1e3",
        "1 ",
        "+1",
        "1\n0",
    ] {
        let found = uid(user);
        assert!(found.as_deref() != Some("0"), "{user:?} is root");
        if ours() {
            assert_eq!(found, None, "{user:?}");
        }
    }
    for cgroup in ["../..", "/../../..", "..", "a/../../.."] {
        let ran = b.oci(&["exec", "--cgroup", cgroup, "box", "echo", "alive"]);
        let alive = outcome(cgroup, &ran);
        assert!(!ours() || !alive, "{cgroup}");
    }
    b.oci(&["delete", "--force", "box"]).ok();
}
