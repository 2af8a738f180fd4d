//! T8: text that is more than text to somebody (cri-o CVE-2022-0811,
//! CVE-2022-4318; containerd CVE-2026-53488).

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::host::{Canary, outcome};
use super::ours;

#[test]
fn ids_are_names_t8() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    b.sh("true", |_| {});
    let up = format!("../../../../../..{}/made", canary.dir.display());
    let long = "x".repeat(2000);
    for id in [
        &*up,
        "..",
        ".",
        "",
        "a/b",
        "/box",
        "a\nb",
        "a b",
        "../canary/dir",
        "ü",
        &long,
    ] {
        for verb in ["create", "start", "state", "kill", "delete", "exec"] {
            let ran = b.oci(&[verb, "--", id]);
            outcome(id, &ran);
            assert_ne!(ran.code, 0, "{verb} {id:?}: {ran:?}");
            let force = b.oci(&["delete", "--force", id]);
            outcome(id, &force);
        }
        canary.is_untouched(id);
    }
}

#[test]
fn paths_of_cgroups_t8() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let name = b.name().to_owned();
    let cases = [
        format!("/../../../..{}/made", canary.dir.display()),
        format!("../../../../{name}"),
        format!("/{name}/../../../{name}"),
        format!("{name}/a\nb"),
        format!("/{name}/\u{1}"),
        "/..".into(),
        "/".into(),
        "/.".into(),
        format!("/{name}/{}", "x".repeat(300)),
    ];
    for path in cases {
        b.sh("cat /proc/self/cgroup; echo alive", |c| {
            c["linux"]["cgroupsPath"] = path.clone().into();
        });
        let ran = b.oci(&["run", "box"]);
        outcome(&path, &ran);
        canary.is_untouched(&path);
        assert!(!Path::new("/sys/fs/made").exists(), "{path:?}");
        b.oci(&["delete", "--force", "box"]).ok();
    }
    remove_cgroups(&name);
}

/// The parents that a runtime makes and leaves.
fn remove_cgroups(name: &str) {
    fn below(dir: &Path, name: &str) {
        for e in fs::read_dir(dir).into_iter().flatten().flatten() {
            if e.file_type().is_ok_and(|t| t.is_dir()) {
                let path = e.path();
                below(&path, name);
                // The last of them is what the canary's own path begins with.
                if path.to_string_lossy().contains(name) || e.file_name() == "tmp" {
                    let _ = fs::remove_dir(&path);
                }
            }
        }
    }
    below(Path::new("/sys/fs/cgroup"), name);
}

type Change = fn(&mut Value);

/// A NUL byte ends a string for the kernel, not for who has checked it; a newline
/// begins another line for who reads it.
#[test]
fn bytes_that_end_something_t8() {
    let cases: [(&str, Change, bool); 14] = [
        (
            "NUL in args",
            |c| c["process"]["args"] = json!(["/bin/sh\0x", "-c", "echo alive"]),
            false,
        ),
        (
            "NUL in an argument",
            |c| c["process"]["args"][2] = "echo alive\0; true".into(),
            false,
        ),
        (
            "NUL in env",
            |c| c["process"]["env"] = json!(["PATH=/bin", "A=b\0C=d"]),
            false,
        ),
        (
            "NUL in cwd",
            |c| c["process"]["cwd"] = "/\0tmp".into(),
            false,
        ),
        (
            "NUL in a target",
            |c| c["mounts"][0]["destination"] = "/proc\0x".into(),
            false,
        ),
        (
            "NUL in a source",
            |c| {
                let m = json!({"destination": "/mnt", "type": "bind", "source": "/etc\0x", "options": ["rbind"]});
                c["mounts"].as_array_mut().unwrap().push(m);
            },
            false,
        ),
        (
            "NUL in an option",
            |c| c["mounts"][1]["options"] = json!(["mode=755\0,size=1"]),
            false,
        ),
        (
            "NUL in root.path",
            |c| c["root"]["path"] = "rootfs\0/etc".into(),
            false,
        ),
        (
            "NUL in a hook",
            |c| c["hooks"] = json!({"prestart": [{"path": "/bin/true\0x"}]}),
            false,
        ),
        (
            "NUL in a hook's env",
            |c| c["hooks"] = json!({"prestart": [{"path": "/bin/true", "env": ["A=\0"]}]}),
            false,
        ),
        (
            "newline in the hostname",
            |c| c["hostname"] = "a\nb".into(),
            false,
        ),
        (
            "long hostname",
            |c| c["hostname"] = "x".repeat(300).into(),
            false,
        ),
        (
            "newline in an option",
            |c| c["mounts"][1]["options"] = json!(["mode=755\nsize=1"]),
            false,
        ),
        (
            "newline in env",
            |c| c["process"]["env"] = json!(["PATH=/bin", "A=b\nLD_PRELOAD=x"]),
            true,
        ),
    ];
    for (name, change, runs) in cases {
        let b = Bundle::new();
        let canary = Canary::new(&b);
        b.sh("test -z \"$LD_PRELOAD$C\" && echo alive", change);
        let ran = b.oci(&["run", "box"]);
        let alive = outcome(name, &ran);
        if ours() {
            assert_eq!(alive, runs, "{name}: {ran:?}");
        } else if alive && !runs {
            eprintln!("{name}: runs");
        }
        b.oci(&["delete", "--force", "box"]).ok();
        canary.is_untouched(name);
    }
}

/// Annotations are told, and told as they are; none turns into anything.
#[test]
fn annotations_are_only_text_t8() {
    let b = Bundle::new();
    let text = "a\nb\",\"pid\":1,\"x\":\"\u{1b}[2J\0";
    let annotations = json!({
        "plain": text,
        "run.oci.keep_original_groups": "1",
        "run.oci.handler": "wasm",
        "run.oci.systemd.subgroup": "../x",
        "org.systemd.property.ExecStart": "'/bin/true'",
        "run.oci.hooks.stdout": "/hook-wrote",
        "run.oci.mount_context_type": "context",
    });
    b.sh("sleep 20", |c| c["annotations"] = annotations.clone());
    b.oci(&["create", "box"]).ok();
    let state = b.state("box");
    assert_eq!(state["annotations"]["plain"], text);
    assert!(state["pid"].as_i64().is_some_and(|p| p > 1));
    b.oci(&["delete", "--force", "box"]).ok();
    assert!(!Path::new("/hook-wrote").exists());
}
