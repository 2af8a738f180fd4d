//! `carob debug`: ephemeral containers.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, alive, kill_9, pod, sh, until};

const IDLE: &str = "echo here > /marker; echo ready; trap 'exit 0' TERM; sleep 1000 & wait";

fn spec(extra: &Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 3,
        "containers": [sh("main", IDLE, json!({}))],
    });
    if let Value::Object(extra) = extra {
        spec.as_object_mut().unwrap().extend(extra.clone());
    }
    spec
}

fn start(extra: Value) -> Root {
    let root = Root::new();
    root.apply(&pod("p", spec(&extra))).ok();
    root.says("p", "main", "ready");
    root
}

/// What a command in a debug container says.
#[track_caller]
fn says(root: &Root, flags: &[&str], script: &str) -> String {
    let mut args = vec!["debug", "p", "--image", IMAGE, "--attach", "-q"];
    args.extend(flags);
    args.extend(["--", "sh", "-c", script]);
    root.carob(&args).ok()
}

#[test]
fn it_sees_the_processes_and_files_of_its_target() {
    let root = start(json!({}));
    let seen = says(
        &root,
        &["--target", "main"],
        "cat /proc/1/root/marker; tr '\\0' ' ' < /proc/1/cmdline | cut -c 1-5; hostname",
    );
    assert_eq!(seen, "here\nsh -c\np\n");
    // Without a target it is alone, in the Pod's network.
    let seen = says(
        &root,
        &[],
        "cat /proc/1/cmdline | tr '\\0' ' ' | cut -c 1-5; ls /marker 2>&1; true",
    );
    assert!(
        seen.starts_with("sh -c\n") && seen.contains("No such file"),
        "{seen}"
    );
    let nets = "readlink /proc/self/ns/net";
    assert_eq!(says(&root, &[], nets), root.sh("p", nets));
    // The Pod is as it was.
    assert_eq!(
        root.field("p", ".status.containerStatuses[0].restartCount"),
        "0"
    );
    assert_eq!(
        root.field("p", ".status.conditions[?(@.type=='Ready')].status"),
        "True"
    );
    let table = root.carob(&["get", "pods"]).ok();
    assert!(table.contains("1/1"), "{table}");
}

#[test]
fn it_is_recorded_and_shown_as_on_a_cluster() {
    let root = start(json!({}));
    let image = IMAGE;
    let ran = root.carob(&[
        "debug",
        "pod/p",
        "--image",
        image,
        "-c",
        "look",
        "--target",
        "main",
        "--attach",
        "--",
        "sh",
        "-c",
        "echo out; exit 3",
    ]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "out\n"), "{ran:?}");
    root.becomes(
        "p",
        ".status.ephemeralContainerStatuses[0].state.terminated.exitCode",
        "3",
    );
    assert_eq!(
        root.field("p", ".spec.ephemeralContainers[0].targetContainerName"),
        "main"
    );
    assert_eq!(root.carob(&["logs", "p", "-c", "look"]).ok(), "out\n");
    let described = root.carob(&["describe", "pod", "p"]).ok();
    assert!(described.contains("Ephemeral Containers:"), "{described}");
    // It does not run again, and cannot be changed or taken away.
    root.carob(&["debug", "p", "--image", image, "-c", "look"])
        .fails(5, "is there already");
    root.carob(&["debug", "p", "--image", image, "-c", "main"])
        .fails(5, "is there already");
    root.carob(&["restart", "p"]).ok();
    assert_eq!(
        root.field("p", ".status.ephemeralContainerStatuses[0].restartCount"),
        "0"
    );
    // The manifest that was applied says nothing of it.
    assert_eq!(
        root.apply(&pod("p", spec(&json!({})))).ok(),
        "pod/p unchanged\n"
    );
    assert_eq!(root.field("p", ".spec.ephemeralContainers[0].name"), "look");
    let patch = r#"[{"op": "remove", "path": "/spec/ephemeralContainers"}]"#;
    root.carob(&["patch", "pod", "p", "--type", "json", "-p", patch])
        .fails(5, "spec.ephemeralContainers");
}

#[test]
fn without_an_image_it_is_busybox() {
    let root = start(json!({}));
    // The one that is here is enough, although its tag is `latest`.
    root.carob(&["tag", IMAGE, "busybox"]).ok();
    let ran = root.carob(&[
        "debug", "p", "-c", "look", "--attach", "-q", "--", "echo", "x",
    ]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "x\n"), "{ran:?}");
    let added = |field: &str| root.field("p", &format!(".spec.ephemeralContainers[0].{field}"));
    assert_eq!(added("image"), "busybox");
    assert_eq!(added("imagePullPolicy"), "IfNotPresent");
    root.carob(&["debug", "p", "-c", "never", "--image-pull-policy", "Never"])
        .ok();
    root.carob(&["rmi", "-f", "busybox"]);
    // Of another repository, before a registry is asked.
    let ran = root.carob(&["debug", "p", "-c", "local", "--attach", "--", "echo", "x"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "x\n"), "{ran:?}");
    let said = format!("Defaulting debug image to {IMAGE}.\n");
    assert!(ran.stderr.contains(&said), "{ran:?}");
    let ran = root.carob(&[
        "debug",
        "p",
        "--image",
        "localhost/no:1",
        "--image-pull-policy",
        "Never",
    ]);
    let ran = ran.fails(8, "ErrImageNeverPull");
    assert!(
        ran.stderr.contains("hint: name another image with --image"),
        "{ran:?}"
    );
}

#[test]
fn what_cannot_be_is_said() {
    let root = start(json!({}));
    root.carob(&["debug", "p", "--image", IMAGE, "--target", "nope"])
        .fails(3, "no such container");
    root.carob(&["debug", "nope", "--image", IMAGE])
        .fails(4, "not found");
    root.carob(&["debug", "p", "--image", IMAGE, "--env", "=x"])
        .fails(2, "expected NAME=VALUE");
    root.carob(&[
        "debug",
        "p",
        "--image",
        "localhost/no:1",
        "--image-pull-policy",
        "Never",
    ])
    .fails(8, "ErrImageNeverPull");
    let made = json!({"ephemeralContainers": [{"name": "e", "image": IMAGE}]});
    root.apply(&pod("q", spec(&made)))
        .fails(3, "cannot be set on create");
    let over = json!({"restartPolicy": "Never", "containers": [sh("main", "true", json!({}))]});
    root.apply(&pod("over", over)).ok();
    root.becomes("over", ".status.phase", "Succeeded");
    root.carob(&["debug", "over", "--image", IMAGE])
        .fails(5, "has ended");
}

#[test]
fn profiles_give_what_their_names_say() {
    let root = start(json!({}));
    let effective = |profile: &str| {
        let text = says(
            &root,
            &["--profile", profile],
            "grep CapEff /proc/self/status",
        );
        u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let (ptrace, net_admin, sys_admin) = (1 << 19, 1 << 12, 1 << 21);
    let (general, baseline) = (effective("general"), effective("baseline"));
    assert_eq!(general & !baseline, ptrace);
    assert_eq!(effective("netadmin") & !baseline, net_admin);
    assert_ne!(effective("sysadmin") & sys_admin, 0);
    root.carob(&["debug", "p", "--image", IMAGE, "--profile", "restricted"])
        .fails(7, "runAsNonRoot");
}

#[test]
fn a_session_outlives_the_monitor() {
    let root = start(json!({}));
    let args = [
        "debug", "p", "-i", "-q", "--image", IMAGE, "-c", "look", "--", "sh",
    ];
    let mut session = root
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"echo $((40 + 2)) > /said\n").unwrap();
    let said = || root.carob(&["exec", "p", "-c", "look", "--", "cat", "/said"]);
    let got = until(|| match said() {
        ran if ran.stdout == "42\n" => Ok(()),
        ran => Err(ran),
    });
    got.unwrap();
    let pid = root.pid("p", "look");
    kill_9(root.monitor_pid("p"));
    // The next monitor has it as it was.
    assert_eq!(said().ok(), "42\n");
    assert_eq!(root.pid("p", "look"), pid);
    drop(stdin);
    let end = session.wait_with_output().unwrap();
    assert!(!end.status.success(), "{end:?}");
    let began = std::time::Instant::now();
    root.carob(&["delete", "pod", "p"]).ok();
    assert!(!alive(pid));
    assert!(began.elapsed() < crate::root::slack(std::time::Duration::from_secs(6)));
}

#[test]
fn input_and_output_are_the_containers() {
    let root = start(json!({}));
    let mut args = vec![
        "debug",
        "p",
        "-i",
        "-q",
        "--image",
        IMAGE,
        "--env",
        "GREETING=hi",
    ];
    args.extend(["--", "sh"]);
    let said = root.feed(&args, "echo $GREETING; echo err >&2; exit 4\n");
    assert_eq!((said.code, said.stdout.as_str()), (4, "hi\n"), "{said:?}");
    assert!(said.stderr.contains("err"), "{said:?}");
}
