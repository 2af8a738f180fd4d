//! What subPath and subPathExpr make in a volume, and what becomes of those that
//! cannot be mounted.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use serde_json::{Value, json};

use crate::root::{Root, pod, sh};

const SLEEP: &str = "exec sleep 1000";

fn mounts(list: Value) -> Value {
    json!({"volumeMounts": list, "env": [{"name": "NAME", "value": "by/name"}]})
}

#[test]
fn a_sub_path_that_is_made_has_the_volumes_mode_owner_and_group() {
    let root = Root::new();
    let host = root.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    chown(&host, Some(1000), Some(1234)).unwrap();
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o750)).unwrap();
    let manifest = |group: Value| {
        let mut security = json!({"runAsUser": 1000});
        if group.is_number() {
            security["fsGroup"] = group;
        }
        let list = mounts(json!([
            {"name": "disk", "mountPath": "/disk", "subPath": "a/b"},
            {"name": "mem", "mountPath": "/mem", "subPath": "a"},
            {"name": "disk", "mountPath": "/expr", "subPathExpr": "$(NAME)"},
            {"name": "host", "mountPath": "/host", "subPath": "deep/est"},
        ]));
        // All of them at once: a directory that another container makes meanwhile.
        let containers: Vec<Value> = (0..4)
            .map(|i| sh(&format!("c{i}"), SLEEP, list.clone()))
            .collect();
        pod(
            "p",
            json!({
                "terminationGracePeriodSeconds": 0,
                "securityContext": security,
                "containers": containers,
                "volumes": [
                    {"name": "disk", "emptyDir": {}},
                    {"name": "mem", "emptyDir": {"medium": "Memory"}},
                    {"name": "host", "hostPath": {"path": host.to_str().unwrap()}},
                ],
            }),
        )
    };
    let look = "touch /disk/f /mem/f /expr/f /host/f && stat -c '%a %u %g' /disk /mem /expr /host";
    for (group, want) in [
        (Value::Null, "777 0 0\n777 0 0\n777 0 0\n750 1000 1234\n"),
        (
            json!(3000),
            "2777 0 3000\n2777 0 3000\n2777 0 3000\n750 1000 1234\n",
        ),
    ] {
        // The mode is not the caller's affair.
        let applied = std::process::Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_carob"))
            .arg("--root")
            .arg(root.dir())
            .args(["apply", "-f", "-"])
            .stdin(crate::root::text_file(&root, "pod.json", &manifest(group)))
            .output()
            .unwrap();
        let applied: crate::root::Ran = applied.into();
        applied.ok();
        for c in ["c0", "c3"] {
            let said = root.carob(&["exec", "p", "-c", c, "--", "sh", "-c", look]);
            assert_eq!(said.ok(), want);
        }
        let parent = std::fs::metadata(host.join("deep")).unwrap();
        let is = (parent.mode() & 0o7777, parent.uid(), parent.gid());
        assert_eq!(is, (0o750, 1000, 1234), "a parent that was missing too");
        std::fs::remove_dir_all(host.join("deep")).unwrap();
        root.carob(&["delete", "pod", "p"]).ok();
    }
}

#[test]
fn a_sub_path_that_leads_out_is_tried_until_it_does_not() {
    let root = Root::new();
    let host = root.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    symlink("..", host.join("sub")).unwrap();
    let list = json!([{"name": "v", "mountPath": "/v", "subPath": "sub"}]);
    root.apply(&pod(
        "p",
        json!({
            "restartPolicy": "Never",
            "containers": [sh("main", "ls /v", mounts(list))],
            "volumes": [{"name": "v", "hostPath": {"path": host.to_str().unwrap()}}],
        }),
    ))
    .fails(7, "leads out of it");
    let status = |field: &str| format!(".status.containerStatuses[0].{field}");
    let reason = root.field("p", &status("state.waiting.reason"));
    assert_eq!(reason, "CreateContainerConfigError");
    assert_eq!(root.field("p", ".status.phase"), "Pending");
    std::fs::remove_file(host.join("sub")).unwrap();
    let end = crate::root::until(|| match root.field("p", ".status.phase") {
        phase if phase == "Succeeded" => Ok(()),
        phase => Err(phase),
    });
    end.unwrap();
    assert_eq!(root.field("p", &status("restartCount")), "0");
}
