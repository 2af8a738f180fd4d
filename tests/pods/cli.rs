//! The verbs that look, wait, change and delete: kubectl's output and our exit
//! codes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::root::{IMAGE, Root, script_pod};

fn sleeper(name: &str, labels: &str) -> String {
    script_pod(name, "Never", 0, "echo begun; exec sleep 1000")
        .replace("\nspec:", &format!("\n  labels: {{{labels}}}\nspec:"))
}

#[test]
fn get_in_every_form() {
    let root = Root::new();
    root.apply(&sleeper("a", "app: x")).ok();
    let other = sleeper("b", "app: z").replace("  name: b\n", "  name: b\n  namespace: other\n");
    root.apply(&other).ok();
    let get = |args: &[&str]| root.carob(&[&["get"], args].concat()).ok();
    let table = get(&["pods"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(rows[1][..4], ["a", "1/1", "Running", "0"]);
    assert_eq!(rows.len(), 2);
    let wide = get(&["pods", "-o", "wide"]);
    assert!(
        wide.contains("NODE") && wide.contains(&root.field("a", ".status.podIP")),
        "{wide}"
    );
    let all = get(&["pods", "-A"]);
    assert!(
        all.starts_with("NAMESPACE") && all.contains("other") && all.contains("default"),
        "{all}"
    );
    assert_eq!(get(&["pods", "-A", "-o", "name"]), "pod/a\npod/b\n");
    assert_eq!(get(&["pods", "-A", "-l", "app=z", "-o", "name"]), "pod/b\n");
    assert_eq!(
        get(&["pods", "-A", "-l", "app in (x,w)", "-o", "name"]),
        "pod/a\n"
    );
    assert_eq!(
        get(&[
            "pods",
            "-n",
            "other",
            "-o",
            "jsonpath={.items[*].metadata.name}"
        ]),
        "b"
    );
    let json: serde_json::Value = serde_json::from_str(&get(&["pod", "a", "-o", "json"])).unwrap();
    assert_eq!(json["status"]["phase"], "Running");
    assert_eq!(json["kind"], "Pod");
    let list: serde_json::Value = serde_json::from_str(&get(&["pods", "-o", "json"])).unwrap();
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&"List".into(), 1)
    );
    let yaml = get(&["pod/a", "-o", "yaml"]);
    assert!(yaml.contains("  phase: Running\n"), "{yaml}");
    // What is printed can be applied again.
    assert_eq!(
        root.feed(&["apply", "-f", "-"], &yaml).ok(),
        "pod/a unchanged\n"
    );
    let text = root.carob(&["describe", "pod", "a"]).ok();
    for part in [
        "Name:",
        "Status:",
        "Running",
        "Containers:",
        IMAGE,
        "Conditions:",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn get_watch_tells_of_changes() {
    let root = Root::new();
    root.apply(&sleeper("a", "app: x")).ok();
    let mut watch = root
        .command(&["get", "pods", "-w"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, said) = channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().try_for_each(|l| lines.send(l.unwrap())));
    let mut seen = Vec::new();
    let mut until = |text: &str| {
        while !seen.last().is_some_and(|l: &String| l.contains(text)) {
            match said.recv_timeout(Duration::from_secs(10)) {
                Ok(line) => seen.push(line),
                Err(_) => panic!("no {text:?} in {seen:?}"),
            }
        }
    };
    until("NAME");
    until("Running");
    root.apply(&script_pod("b", "Never", 0, "true")).ok();
    until("Completed");
    root.carob(&["delete", "pod", "a"]).ok();
    until("Terminating");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn wait_for_this_and_that() {
    let root = Root::new();
    root.apply(&sleeper("a", "app: x")).ok();
    let wait = |args: &[&str]| root.carob(&[&["wait", "pod/a"], args].concat());
    let met = "pod/a condition met\n";
    assert_eq!(wait(&["--for=condition=Ready"]).ok(), met);
    assert_eq!(wait(&["--for=jsonpath={.status.phase}=Running"]).ok(), met);
    wait(&["--for=condition=Ready=false", "--timeout=50ms"]).fails(6, "timed out");
    wait(&["--for=delete", "--timeout=0s"]).fails(6, "timed out");
    let gone = root
        .command(&["wait", "pod/a", "--for=delete"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    root.carob(&["delete", "pod", "a", "--wait=false"]).ok();
    assert!(gone.wait_with_output().unwrap().status.success());
    wait(&["--for=delete"]).ok();
    wait(&["--for=condition=Ready", "--timeout=0s"]).fails(4, "not found");
}

#[test]
fn apply_again() {
    let root = Root::new();
    let first = sleeper("a", "app: x");
    assert_eq!(root.apply(&first).ok(), "pod/a created\n");
    assert_eq!(root.apply(&first).ok(), "pod/a unchanged\n");
    let uid = root.field("a", ".metadata.uid");
    assert_eq!(
        root.apply(&sleeper("a", "app: z")).ok(),
        "pod/a configured\n"
    );
    assert_eq!(root.field("a", ".metadata.labels.app"), "z");
    assert_eq!(root.field("a", ".metadata.uid"), uid);
    let changed = first.replace("sleep 1000", "sleep 2000");
    root.apply(&changed).fails(5, "spec.containers[0].command");
    assert_eq!(root.field("a", ".metadata.uid"), uid);
    assert_eq!(
        root.feed(&["apply", "--force", "-f", "-"], &changed).ok(),
        "pod/a replaced\n"
    );
    assert_ne!(root.field("a", ".metadata.uid"), uid);
    assert!(
        root.sh("a", "tr '\\0' ' ' </proc/1/cmdline")
            .contains("2000")
    );
}

#[test]
fn many_at_once() {
    let root = Root::new();
    let dir = root.dir().join("manifests");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("1.yaml"), sleeper("a", "app: x")).unwrap();
    let two = format!("{}---\n{}", sleeper("b", "app: x"), sleeper("c", "app: z"));
    std::fs::write(dir.join("2.yml"), two).unwrap();
    std::fs::write(dir.join("note.txt"), "not a manifest").unwrap();
    let dir = dir.to_str().unwrap();
    let names = || root.carob(&["get", "pods", "-o", "name"]).ok();
    let made = root.carob(&["apply", "-f", dir]).ok();
    assert_eq!(made, "pod/a created\npod/b created\npod/c created\n");
    root.carob(&["delete", "pods", "-l", "app=x"]).ok();
    assert_eq!(names(), "pod/c\n");
    root.carob(&["delete", "-f", dir]).fails(4, "not found");
    assert_eq!(names(), "");
    root.carob(&["delete", "-f", dir, "--ignore-not-found"])
        .ok();
    root.carob(&["apply", "-f", dir]).ok();
    root.carob(&["delete", "pods", "-A", "--all"]).ok();
    assert_eq!(names(), "");
    root.carob(&["delete", "pods", "-A"]).fails(2, "--all");
}

#[test]
fn logs_in_short() {
    let root = Root::new();
    let pod = script_pod("l", "Never", 0, "for i in 1 2 3 4; do echo line $i; done");
    root.apply(&pod).ok();
    root.carob(&["wait", "pod/l", "--for=jsonpath={.status.phase}=Succeeded"])
        .ok();
    let logs = |args: &[&str]| root.carob(&[&["logs", "l"], args].concat());
    assert_eq!(logs(&[]).ok(), "line 1\nline 2\nline 3\nline 4\n");
    assert_eq!(logs(&["--tail=2"]).ok(), "line 3\nline 4\n");
    assert_eq!(logs(&["--tail=0"]).ok(), "");
    assert_eq!(logs(&["-f"]).ok().lines().count(), 4);
    let stamped = logs(&["--timestamps", "--tail=1"]).ok();
    assert!(
        stamped.starts_with("20") && stamped.ends_with("Z line 4\n"),
        "{stamped}"
    );
    assert_eq!(
        logs(&["--since=1h", "--all-containers"])
            .ok()
            .lines()
            .count(),
        4
    );
    logs(&["-c", "none"]).fails(4, "none");
}

#[test]
fn validate_version_completion() {
    let root = Root::empty();
    let text = root
        .feed(&["validate", "-f", "-"], &sleeper("a", "app: x"))
        .ok();
    assert!(text.contains("honoured"), "{text}");
    root.feed(&["validate", "-f", "-"], "kind: Pod\n")
        .fails(3, "apiVersion");
    let json = root
        .feed(
            &["validate", "-f", "-", "-o", "json"],
            &sleeper("a", "app: x"),
        )
        .ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["valid"], true);
    let version = root.carob(&["version", "-o", "json"]).ok();
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    assert!(
        version.to_string().contains(env!("CARGO_PKG_VERSION")),
        "{version}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(root.carob(&["completion", shell]).ok().contains("carob"));
    }
    root.carob(&["completion", "csh"]).fails(2, "csh");
}
