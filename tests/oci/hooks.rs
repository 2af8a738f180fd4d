//! What hooks find: their environment, their directory; and what becomes of one that
//! fails.

use std::fs;

use serde_json::{Value, json};

use super::bundle::Bundle;

const OUTSIDE: [&str; 5] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "poststart",
    "poststop",
];

/// A shell with this script, found without PATH.
fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// Of a hook that says nothing of it, the runtime's own; inside, the program's, with a HOME
/// that was found for it.
#[test]
fn the_environment_of_hooks() {
    let b = Bundle::new();
    let log = b.dir().join("log");
    fs::create_dir(&log).unwrap();
    let own = format!("PATH={} ", std::env::var("PATH").unwrap());
    let inside = "A=inside ".to_owned();
    for (env, outside, inside) in [
        (None, own, inside),
        (Some(json!([])), String::new(), String::new()),
        (
            Some(json!(["PATH=/x", "A=b=c", "=d"])),
            "PATH=/x ".into(),
            "A=b=c ".into(),
        ),
    ] {
        let hook = |dir: &str, kind: &str| {
            // As it is handed on. Busybox makes up a PATH.
            let mut hook = shell(&format!("/bin/cat /proc/self/environ > {dir}/{kind}"));
            if let Some(env) = &env {
                hook["env"] = env.clone();
            }
            json!([hook])
        };
        b.sh("true", |c| {
            c["process"]["env"] = json!(["PATH=/bin", "A=inside"]);
            for kind in OUTSIDE {
                c["hooks"][kind] = hook(log.to_str().unwrap(), kind);
            }
            c["hooks"]["startContainer"] = hook("/tmp", "startContainer");
            c["mounts"].as_array_mut().unwrap().push(json!({
                "destination": "/tmp", "type": "bind", "source": log, "options": ["bind"]
            }));
        });
        b.oci(&["run", "box"]).ok();
        if env.is_none() {
            let text = fs::read_to_string(log.join("startContainer")).unwrap();
            assert!(text.contains("HOME=/root\0"), "{text:?}");
        }
        for (kinds, name, said) in [
            (&OUTSIDE[..], "PATH=", &outside),
            (&["startContainer"], "A=", &inside),
        ] {
            for kind in kinds {
                let text = fs::read_to_string(log.join(kind)).unwrap();
                let text = text.replace('\0', " ");
                match said.is_empty() {
                    true => assert!(!text.contains(name), "{kind}: {text}"),
                    false => assert!(text.contains(&**said), "{kind}: {text}"),
                }
            }
        }
    }
}

/// As runc has it, and what its own hooks rely on: relative paths lead into the root.
#[test]
fn create_container_hooks_start_in_the_root() {
    let b = Bundle::new();
    b.sh("cat /made", |c| {
        c["hooks"]["createContainer"] = json!([shell("echo here > ./made && pwd")]);
    });
    assert_eq!(b.oci(&["run", "box"]).ok(), "here\n");
}

/// runtime.md, "Lifecycle", step 9: the container is stopped and destroyed, and poststop
/// hooks run.
#[test]
fn a_poststart_hook_that_fails_ends_the_container() {
    let b = Bundle::new();
    let log = b.dir().join("log");
    let config = |poststop: &str| {
        let note = shell(&format!("echo poststop >> {}", log.display()));
        b.sh("sleep 60", |c| {
            c["hooks"]["poststart"] = json!([shell("echo no; exit 3")]);
            c["hooks"]["poststop"] = json!([shell(poststop), note]);
        });
    };
    config("true");
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).fails(1, "hooks.poststart[0]");
    b.oci(&["state", "box"]).fails(1, "does not exist");
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n");
    b.oci(&["run", "--detach", "box"])
        .fails(1, "hooks.poststart[0]");
    b.oci(&["state", "box"]).fails(1, "does not exist");
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n".repeat(2));
    config("exit 4");
    b.oci(&["run", "box"]).fails(1, "hooks.poststop[0]");
    assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n".repeat(3));
}
