//! T6: each capability set is what was asked for, in the first process and in one
//! more, as root and as somebody else, and so are the groups (runc CVE-2022-29162;
//! containerd CVE-2023-25173).

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::ours;

const NET: u64 = 1 << 13;
const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;

/// Capabilities by their bits.
fn names(bits: u64) -> Value {
    let all = [
        (NET, "CAP_NET_RAW"),
        (CHOWN, "CAP_CHOWN"),
        (KILL, "CAP_KILL"),
    ];
    all.into_iter()
        .filter(|(b, _)| bits & b != 0)
        .map(|(_, n)| n)
        .collect()
}

/// Inheritable, permitted, effective, bounding, ambient: as the kernel shows them.
type Sets = [u64; 5];

/// What the program has: capabilities(7), "Transformation of capabilities during
/// execve()", of a file that has none.
fn after_exec([inheritable, permitted, _, bounding, ambient]: Sets, root: bool, nnp: bool) -> Sets {
    let ambient = ambient & permitted & inheritable;
    match root {
        true => {
            let mut all = inheritable | bounding;
            if nnp {
                all &= permitted;
            }
            [inheritable, all, all, bounding, ambient]
        }
        false => [inheritable, ambient, ambient, bounding, ambient],
    }
}

fn shown(status: &str) -> Sets {
    let names = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    names.map(|n| {
        let line = status.lines().find_map(|l| l.strip_prefix(n));
        u64::from_str_radix(line.unwrap_or_else(|| panic!("{status}")).trim(), 16).unwrap()
    })
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.unwrap_or("")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn process(sets: Sets, uid: u32, nnp: bool, args: &[&str]) -> Value {
    let [inheritable, permitted, effective, bounding, ambient] = sets.map(names);
    json!({
        "args": args, "cwd": "/", "env": ["PATH=/bin"], "noNewPrivileges": nnp,
        "user": {"uid": uid, "gid": uid, "additionalGids": if uid == 0 { json!([]) } else { json!([10, 20]) }},
        "capabilities": {"inheritable": inheritable, "permitted": permitted,
            "effective": effective, "bounding": bounding, "ambient": ambient},
    })
}

#[test]
fn sets_are_what_was_asked_for_t6() {
    let all = NET | CHOWN | KILL;
    let matrix: [Sets; 6] = [
        [0, 0, 0, 0, 0],
        [0, all, all, all, 0],
        [0, NET, NET, all, 0],
        [0, all, 0, NET, 0],
        [NET, NET | CHOWN, NET, all, 0],
        [NET, NET | CHOWN, NET, all, NET],
    ];
    let b = Bundle::new();
    let show = ["cat", "/proc/self/status"];
    for uid in [0, 1000] {
        for nnp in [false, true] {
            b.config(|c| c["process"] = process(matrix[1], 0, false, &["sleep", "60"]));
            b.oci(&["create", "box"]).ok();
            b.oci(&["start", "box"]).ok();
            for sets in matrix {
                let case = format!("{sets:x?} uid {uid} no_new_privs {nnp}");
                let check = |status: &str, by: &str| {
                    let want = after_exec(sets, uid == 0, nnp);
                    assert_eq!(shown(status), want, "{case}: {by}: {status}");
                    let id = format!("{uid} {uid} {uid} {uid}");
                    assert_eq!(field(status, "Uid:"), id, "{case}: {by}");
                    assert_eq!(field(status, "Gid:"), id, "{case}: {by}");
                    let groups = if uid == 0 { "" } else { "10 20" };
                    // Some add the primary one.
                    let has = field(status, "Groups:");
                    let has = has.trim_start_matches(&format!("{uid}")).trim().to_owned();
                    assert_eq!(has, groups, "{case}: {by}");
                    let flag = u8::from(nnp).to_string();
                    assert_eq!(field(status, "NoNewPrivs:"), flag, "{case}: {by}");
                };
                let file = b.dir().join("process.json");
                std::fs::write(&file, process(sets, uid, nnp, &show).to_string()).unwrap();
                let ran = b.oci(&["exec", "--process", file.to_str().unwrap(), "box"]);
                check(&ran.ok(), "exec");
            }
            b.oci(&["delete", "--force", "box"]).ok();
            for sets in matrix {
                b.config(|c| c["process"] = process(sets, uid, nnp, &show));
                let case = format!("{sets:x?} uid {uid} no_new_privs {nnp}");
                let status = b.oci(&["run", "box"]).ok();
                assert_eq!(
                    shown(&status),
                    after_exec(sets, uid == 0, nnp),
                    "{case}: init"
                );
            }
        }
    }
}

/// A process that inherits a capability would get it back from a file that has it.
#[test]
fn nothing_is_inherited_from_the_caller_t6() {
    let b = Bundle::new();
    b.config(|c| {
        let p = &mut c["process"];
        p["args"] = json!(["cat", "/proc/self/status"]);
        p["capabilities"] =
            json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    });
    let status = b.oci(&["run", "box"]).ok();
    let [inheritable, permitted, _, bounding, ambient] = shown(&status);
    assert_eq!(
        (inheritable, permitted, bounding, ambient),
        (0, KILL, KILL, 0)
    );
    // No sets at all: none, and not the caller's.
    b.config(|c| {
        c["process"]["args"] = json!(["cat", "/proc/self/status"]);
        c["process"].as_object_mut().unwrap().remove("capabilities");
    });
    let ran = b.oci(&["run", "box"]);
    if ours() || ran.code == 0 {
        assert_eq!(shown(&ran.ok()), [0; 5]);
    }
    // `--cap` gives what it says.
    b.config(|c| {
        c["process"]["args"] = json!(["sleep", "60"]);
        c["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    });
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let status = b.oci(&[
        "exec",
        "--cap",
        "CAP_NET_RAW",
        "--user",
        "1000",
        "box",
        "cat",
        "/proc/self/status",
    ]);
    let [inheritable, permitted, effective, _, _] = shown(&status.ok());
    assert_eq!(inheritable, 0);
    eprintln!("exec --cap as uid 1000: permitted {permitted:x} effective {effective:x}");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// A startContainer hook runs a program of the image's: it has what the container's own
/// program has, and no more.
#[test]
fn hooks_inside_have_the_program_s_rights_t6() {
    super::works();
    let b = Bundle::new();
    let show = "grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/self/status";
    b.sh(&format!("{show}; echo --; cat /hook/status"), |c| {
        super::rootfs::bind(c, b.dir().join("hook").to_str().unwrap(), "/hook");
        c["process"]["noNewPrivileges"] = true.into();
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
        let script = format!("{show} > /hook/status");
        c["hooks"] = json!({"startContainer":
            [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]});
    });
    std::fs::create_dir(b.dir().join("hook")).unwrap();
    let shown = b.oci(&["run", "box"]).ok();
    let (program, hook) = shown.split_once("--\n").unwrap();
    assert!(program.contains("NoNewPrivs:\t1") && program.contains("Seccomp:\t2"));
    assert_eq!(program, hook);
}
