//! The verbs that look, wait, change and delete: kubectl's output and our exit
//! codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::root::{IMAGE, Ran, Root, images, pod, script_pod, sh};

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
fn get_selects_sorts_and_has_columns() {
    let root = Root::new();
    root.apply(&sleeper("web-10", "app: x, tier: front")).ok();
    root.apply(&script_pod("web-9", "Never", 0, "true")).ok();
    root.becomes("web-9", ".status.phase", "Succeeded");
    let get = |args: &[&str]| root.carob(&[&["get", "pods"], args].concat());
    let names = |args: &[&str]| get(&[args, &["-o", "name"]].concat()).ok();
    let fields = |text: &str| names(&["--field-selector", text]);
    assert_eq!(fields("status.phase=Running"), "pod/web-10\n");
    assert_eq!(fields("status.phase!=Running"), "pod/web-9\n");
    assert_eq!(
        fields("metadata.name==web-9,spec.restartPolicy=Never"),
        "pod/web-9\n"
    );
    let ip = root.field("web-10", ".status.podIP");
    assert_eq!(fields(&format!("status.podIP={ip}")), "pod/web-10\n");
    let node = nix::unistd::gethostname().unwrap();
    let node = format!("spec.nodeName={}", node.to_str().unwrap());
    assert_eq!(fields(&node).lines().count(), 2);
    assert_eq!(
        names(&[
            "-l",
            "app=x",
            "--field-selector=metadata.namespace=default",
            "-A"
        ]),
        "pod/web-10\n"
    );
    get(&["--field-selector=spec.foo=a"]).fails(2, "\"spec.foo\" is not supported");
    get(&["web-9", "--field-selector=metadata.name=a"]).fails(2, "names cannot go with");

    assert_eq!(names(&[]), "pod/web-10\npod/web-9\n");
    assert_eq!(
        names(&["--sort-by=.metadata.name"]),
        "pod/web-9\npod/web-10\n"
    );
    let table = get(&["--sort-by={.status.phase}", "--no-headers"]).ok();
    let first: Vec<&str> = table
        .lines()
        .map(|l| l.split(' ').next().unwrap())
        .collect();
    assert_eq!(first, ["web-10", "web-9"]);
    get(&["--sort-by=.none"]).fails(2, "no Pod has a field \".none\"");

    let columns =
        "custom-columns=NAME:.metadata.name,PHASE:.status.phase,TIER:.metadata.labels.tier";
    assert_eq!(
        get(&["-o", columns, "--sort-by=metadata.name"]).ok(),
        "NAME     PHASE       TIER\nweb-9    Succeeded   <none>\nweb-10   Running     front\n"
    );
    assert_eq!(
        get(&[
            "web-10",
            "--no-headers",
            "-o",
            "custom-columns=I:.spec.containers[*].image"
        ])
        .ok(),
        format!("{IMAGE}\n")
    );
    get(&["-o", "custom-columns=NAME"]).fails(2, "\"NAME\" is no column");
    let file = root.dir().join("columns");
    std::fs::write(&file, "NAME PHASE\n.metadata.name .status.phase\n").unwrap();
    let from_file = format!("custom-columns-file={}", file.display());
    assert_eq!(
        get(&["web-9", "-o", &from_file]).ok(),
        "NAME    PHASE\nweb-9   Succeeded\n"
    );

    let labels = get(&["-L", "tier,app", "--show-labels"]).ok();
    let rows: Vec<Vec<&str>> = labels
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][5..], ["TIER", "APP", "LABELS"]);
    assert_eq!(rows[1][5..], ["front", "x", "app=x,tier=front"]);
    assert_eq!(rows[2][5..], ["<none>"]);

    get(&["none"]).fails(4, "not found");
    let none = get(&["none", "--ignore-not-found"]);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", ""));
    none.ok();
}

#[test]
fn get_watch_shows_labels_that_change() {
    let root = Root::new();
    root.apply(&sleeper("a", "app: x")).ok();
    let mut watch = root
        .command(&[
            "get",
            "pods",
            "-w",
            "-L",
            "app",
            "--no-headers",
            "-l",
            "app",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    let mut last = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(last(), "x");
    root.carob(&["label", "pod", "a", "app=y", "--overwrite"])
        .ok();
    assert_eq!(last(), "y");
    // Without the label it is not wanted; with it, it is new.
    root.carob(&["label", "pod", "a", "app-"]).ok();
    // Another value: a watch may see both changes as one.
    root.carob(&["label", "pod", "a", "app=z"]).ok();
    assert_eq!(last(), "z");
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
    // One that is in the way keeps none of the others from being made.
    root.apply(&sleeper("b", "app: x").replace("1000", "2000"))
        .ok();
    let ran = root
        .carob(&["apply", "-f", dir])
        .fails(5, "spec.containers[0].command");
    assert_eq!(ran.stdout, "pod/a created\npod/c created\n");
    root.carob(&["delete", "-f", dir]).ok();
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
    let last = text.lines().last().unwrap();
    assert!(last.ends_with(" fields, all honoured"), "{text}");
    let more = sleeper("a", "app: x").replace("spec:", "spec:\n  nodeName: n1\n  hostUsers: false");
    let said = root.feed(&["validate", "-f", "-"], &more);
    assert!(
        said.stdout.ends_with(" honoured, 1 no effect, 1 refused\n"),
        "{}",
        said.stdout
    );
    root.feed(&["validate", "-q", "-f", "-"], &more)
        .fails(9, "hostUsers");
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

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn selectors() {
    let root = Root::new();
    for (name, labels) in [
        ("a", "app: x, tier: front"),
        ("b", "app: z"),
        ("c", "other: w"),
    ] {
        let pod = sleeper(name, labels);
        root.feed(&["apply", "--wait=false", "-f", "-"], &pod).ok();
    }
    for (selector, want) in [
        ("app=x", "a"),
        ("app==z", "b"),
        ("app!=x", "b c"),
        ("app", "a b"),
        ("!app", "c"),
        ("app in (x, z)", "a b"),
        ("app notin (x)", "b c"),
        ("app=x,tier=front", "a"),
        ("app=x,tier!=front", ""),
        ("app,!tier", "b"),
    ] {
        let got = root.carob(&[
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].metadata.name}",
            "-l",
            selector,
        ]);
        assert_eq!(got.ok(), want, "{selector}");
    }
    root.carob(&["get", "pods", "-l", "app in x"])
        .fails(2, "app in x");
    root.carob(&["get", "pods", "a", "-l", "app"])
        .fails(2, "--selector");
    let labels = root
        .carob(&["get", "pods", "--show-labels", "--no-headers"])
        .ok();
    assert!(
        labels.lines().next().unwrap().ends_with("app=x,tier=front"),
        "{labels}"
    );
}

#[test]
fn names_that_are_there_and_names_that_are_not() {
    let root = Root::new();
    root.apply(&sleeper("a", "app: x")).ok();
    let ran = root
        .carob(&["get", "pods", "a", "none", "-o", "json"])
        .fails(4, "");
    let list = json(&ran.stdout);
    assert_eq!(list["kind"], "List");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let error = json(&ran.stderr);
    assert_eq!(error["error"]["reason"], "NotFound");
    assert_eq!(error["error"]["exitCode"], 4);
    // Nothing found is no table.
    let ran = root.carob(&["get", "pods", "b", "c"]).fails(4, "\"b\"");
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("\"c\""), "{}", ran.stderr);
    let ran = root.carob(&["delete", "pod", "a", "b"]).fails(4, "\"b\"");
    assert_eq!(ran.stdout, "pod \"a\" deleted from default namespace\n");
    for (line, code) in [
        (&["get", "svc"][..], 2),
        (&["get", "pod/a", "b"], 2),
        (&["logs", "none"], 4),
        (&["describe", "pod", "none"], 4),
        (&["exec", "none", "--", "true"], 125),
        (&["attach", "none"], 125),
        (&["exec", "none"], 2),
        (&["apply", "-f", "/nonexistent.yaml"], 4),
        (&["load", "-i", "/nonexistent.tar"], 4),
        (&["rmi", "none"], 4),
    ] {
        root.carob(line).fails(code, "");
    }
}

/// The same answers as `kubectl label --local -o jsonpath=...` gave.
#[test]
fn jsonpath_as_in_kubectl() {
    let root = Root::new();
    let containers: Vec<Value> = ["one", "two", "three"]
        .iter()
        .map(|n| sh(n, "exec sleep 1000", json!({})))
        .collect();
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": containers});
    root.apply(&pod("p", spec)).ok();
    for (template, want) in [
        ("{.spec.containers[-1].name}", "three"),
        ("{.spec.containers[-1:].name}", "three"),
        ("{.spec.containers[-2:].name}", "two three"),
        ("{.spec.containers[0:2].name}", "one two"),
        ("{.spec.containers[1:].name}", "two three"),
        ("{.spec.containers[::2].name}", "one three"),
        ("{.spec.containers[0,2].name}", "one three"),
        ("{.spec.containers[?(@.name==\"two\")].name}", "two"),
        (
            "{.status.containerStatuses[?(@.ready==true)].name}",
            "one two three",
        ),
        ("{.status.conditions[?(@.type==\"Ready\")].status}", "True"),
        (
            "{range .spec.containers[*]}{.name}{\"\\t\"}{end}",
            "one\ttwo\tthree\t",
        ),
        ("{.metadata['name','namespace']}", "p default"),
        ("x{.kind}y", "xPody"),
        ("{@.kind}{$.kind}", "PodPod"),
        ("{.nothing.at.all}", ""),
        ("{.spec.containers[9].name}", ""),
    ] {
        let got = root.carob(&["get", "pod", "p", "-o", &format!("jsonpath={template}")]);
        assert_eq!(got.ok(), want, "{template}");
    }
    root.carob(&["get", "pod", "p", "-o", "jsonpath={.a"])
        .fails(2, "jsonpath");
}

#[test]
fn run_makes_a_pod() {
    let root = Root::new();
    let run = |args: &[&str]| root.carob(&[&["run", "r", "--image", IMAGE], args].concat());
    let made = run(&[
        "--env",
        "A=1",
        "--env=B=$(A)2",
        "--port=80",
        "--labels=x=y",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "echo $A $B",
    ]);
    // The image has no entrypoint: what follows is what runs.
    assert_eq!(made.ok(), "pod/r created\n");
    root.says("r", "r", "1 12\n");
    let spec = json(&root.carob(&["get", "pod", "r", "-o", "json"]).ok());
    assert_eq!(
        spec["spec"]["containers"][0]["ports"][0]["containerPort"],
        80
    );
    assert_eq!(spec["metadata"]["labels"], json!({"x": "y"}));
    run(&[]).fails(5, "already exists");
    root.carob(&["delete", "pod", "r"]).ok();

    // Without a terminal nobody gets one, and nothing is left of the try.
    for args in [&["-it"][..], &["-it", "--rm"]] {
        run(args).fails(2, "Unable to use a TTY");
    }
    run(&["--rm"]).fails(2, "attached");
    run(&["--env", "=x"]).fails(2, "--env");
    run(&["--restart=Sometimes"]).fails(2, "Sometimes");
    root.carob(&["run", "R_r", "--image", IMAGE])
        .fails(3, "metadata.name");
    root.carob(&["run", "r"]).fails(2, "--image");
    root.carob(&["get", "pod", "r"]).fails(4, "not found");
    let dry = run(&["--dry-run=client", "-o", "json", "--", "true"]).ok();
    assert_eq!(json(&dry)["spec"]["containers"][0]["args"], json!(["true"]));
    root.carob(&["get", "pod", "r"]).fails(4, "not found");

    // Attached, the exit code is the container's, or says why there is none.
    for (command, code) in [
        (&["sh", "-c", "exit 9"][..], 9),
        (&["/nonexistent"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let ran = run(&[&["--rm", "--attach", "--restart=Never", "--"], command].concat());
        assert_eq!(ran.code, code, "{command:?}: {ran:?}");
        root.carob(&["get", "pod", "r"]).fails(4, "not found");
    }
    root.carob(&[
        "run",
        "r",
        "--image=localhost/none:1",
        "--image-pull-policy=Never",
        "--rm",
        "--attach",
    ])
    .fails(125, "ErrImageNeverPull");
}

#[test]
fn attach_in_short() {
    let root = Root::new();
    root.apply(&script_pod(
        "p",
        "Never",
        0,
        "until [ -e /go ]; do echo tick; usleep 10000; done; echo end; exit 5",
    ))
    .ok();
    let mut attach = root
        .command(&["attach", "p"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(attach.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    root.sh("p", "touch /go");
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(attach.wait().unwrap().code(), Some(5));
    assert_eq!(first, "tick\n");
    assert_eq!(rest.replace("tick\n", ""), "end\n");
    root.carob(&["attach", "p"]).fails(125, "not running");
    root.carob(&["attach", "-it", "p"])
        .fails(2, "Unable to use a TTY");
    root.carob(&["attach", "p", "-c", "none"])
        .fails(125, "its containers are: main");
    root.apply(&sleeper("s", "app: x")).ok();
    root.feed(&["attach", "-i", "s"], "x")
        .fails(125, "stdin: true");
}

#[test]
fn delete_in_every_form() {
    let root = Root::new();
    let deaf = |name| {
        script_pod(
            name,
            "Never",
            30,
            "trap '' TERM; echo deaf; while :; do sleep 1; done",
        )
    };
    for name in ["a", "b", "c"] {
        root.apply(&deaf(name)).ok();
        root.says(name, "main", "deaf");
    }
    let began = Instant::now();
    // Asked for, and not waited for.
    root.carob(&["delete", "pod", "a", "--wait=false"]).ok();
    assert!(began.elapsed() < crate::root::slack(Duration::from_secs(5)));
    let a = json(&root.carob(&["get", "pod", "a", "-o", "json"]).ok());
    assert_eq!(a["metadata"]["deletionGracePeriodSeconds"], 30);
    // A shorter grace is taken over.
    root.carob(&["delete", "pod", "a", "--now"]).ok();
    root.carob(&["get", "pod", "a"]).fails(4, "not found");
    let b = root
        .carob(&["delete", "pod", "b", "--now", "-o", "json"])
        .ok();
    let b = json(&b);
    assert_eq!(b["metadata"]["deletionGracePeriodSeconds"], 1);
    assert!(b["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(
        root.carob(&["delete", "pod", "c", "--now", "-o", "name"])
            .ok(),
        "pod/c\n"
    );
    assert!(began.elapsed() < crate::root::slack(Duration::from_secs(20)));
    root.carob(&["delete", "pod", "a", "--now", "--grace-period=3"])
        .fails(2, "--now");
    root.carob(&["delete", "pod"]).fails(2, "no Pod is named");
    let gone = root
        .carob(&["delete", "pod", "a", "-o", "json"])
        .fails(4, "");
    assert_eq!(json(&gone.stderr)["error"]["exitCode"], 4);
}

#[test]
fn json_of_what_changes_things() {
    let root = Root::empty();
    let archive = images().join("busybox.tar");
    let archive = archive.to_str().unwrap();
    let loaded = json(&root.carob(&["load", "-i", archive, "-o", "json"]).ok());
    assert_eq!(loaded[0]["names"][0], IMAGE);
    let listed = json(&root.carob(&["images", "-o", "json"]).ok());
    assert_eq!(listed, loaded);
    let applied = root
        .feed(&["apply", "-f", "-", "-o", "json"], &sleeper("a", "app: x"))
        .ok();
    assert_eq!(json(&applied)["status"]["phase"], "Running");
    let ran = root.carob(&["rmi", IMAGE, "-o", "json"]).fails(5, "");
    assert_eq!(json(&ran.stderr)["error"]["reason"], "Conflict");
    root.carob(&["delete", "pod", "a"]).ok();
    let removed = json(&root.carob(&["rmi", IMAGE, "-o", "json"]).ok());
    assert_eq!(
        removed,
        json!({"untagged": [IMAGE], "deleted": [loaded[0]["id"]]})
    );
    // Nobody listens on port 1.
    let ran = root
        .carob(&["pull", "127.0.0.1:1/none", "-o", "json"])
        .fails(8, "");
    // Steps first, a JSON object a line; the error is the last.
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let [step, error] = lines[..] else {
        panic!("{}", ran.stderr)
    };
    assert_eq!(json(step)["event"], "resolving");
    assert_eq!(json(error)["error"]["reason"], "Image");
    let ran = root
        .feed(&["apply", "-f", "-", "-o", "json"], "kind: Pod\n")
        .fails(3, "");
    assert_eq!(
        json(&ran.stderr)["error"]["problems"][0]["field"],
        "apiVersion"
    );
}

#[test]
fn validate_answers_beside_the_faults() {
    let root = Root::empty();
    let manifest = sleeper("a", "app: x").replace(
        "    imagePullPolicy: IfNotPresent\n",
        "    imagePullPolicy: Sometimes\n    securityContext: {windowsOptions: {hostProcess: true}}\n    imgae: x\n",
    ) + "  nodeName: node1\n";
    let ran = root
        .feed(&["validate", "-f", "-"], &manifest)
        .fails(3, "did you mean \"image\"?");
    let row = |field: &str| -> String {
        let line = ran
            .stdout
            .lines()
            .find(|l| l.contains(&format!(" {field} ")));
        line.unwrap_or_else(|| panic!("no {field} in {}", ran.stdout))
            .to_owned()
    };
    assert!(row("metadata.name").ends_with("honoured"));
    assert!(row("spec.containers[0].imagePullPolicy").contains("invalid"));
    assert!(row("spec.containers[0].securityContext.windowsOptions").contains("refused"));
    assert!(row("spec.nodeName").contains("no effect"));
    let ran = root
        .feed(&["validate", "-f", "-", "-o", "json"], &manifest)
        .fails(3, "");
    let answer = json(&ran.stdout);
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["problems"].as_array().unwrap().len(), 3);
    assert_eq!(json(&ran.stderr)["error"]["reason"], "Invalid");
}

#[test]
fn the_name_alone_shows_what_there_is() {
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_carob"))
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stdout.is_empty());
    let text = String::from_utf8(ran.stderr).unwrap();
    assert!(
        text.contains("Usage: carob") && text.contains("apply"),
        "{text}"
    );
    let root = Root::empty();
    root.carob(&["gett", "pods"])
        .fails(2, "did you mean `carob get`?");
    root.carob(&["get", "pods", "--outptu=json"])
        .fails(2, "--output");
    for verb in ["apply", "get", "exec", "delete"] {
        assert!(root.carob(&[verb, "--help"]).ok().contains("Usage: carob"));
    }
}

/// A program that asked for JSON reads each line of stderr as such.
#[test]
fn each_of_several_errors_is_json_where_json_is_asked_for() {
    let root = Root::new();
    root.apply(&script_pod("there", "Never", 0, "exec sleep 1000"))
        .ok();
    for verb in [
        &["delete", "pod", "one", "two", "-o", "json"][..],
        &["get", "pods", "one", "two", "there", "-o", "json"],
        &["rmi", "one", "two", "-o", "json"],
        &["pin", "one", "two", "-o", "json"],
    ] {
        let ran = root.carob(verb);
        assert_ne!(ran.code, 0, "{verb:?}");
        let errors: Vec<Value> = ran
            .stderr
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{verb:?}: {l:?}: {e}")))
            .collect();
        assert_eq!(errors.len(), 2, "{ran:?}");
        assert!(
            errors.iter().all(|e| e["error"]["reason"] == "NotFound"),
            "{errors:?}"
        );
    }
}

/// docs/exit-codes.md: verbs that end with a process's own status do so with 125 for a
/// failure of carob's.
/// What people have written into annotations, for programs and for terminals.
#[test]
fn control_characters_are_escaped_for_programs() {
    let root = Root::new();
    let hostile = "\u{9b}31mred\u{85}\u{7f}\x1b]0;title\x07\u{202e}end";
    let mut manifest: Value = serde_json::from_str(&pod(
        "p",
        json!({"containers": [sh("a", "true", json!({}))], "restartPolicy": "Never"}),
    ))
    .unwrap();
    manifest["metadata"]["annotations"] = json!({"said": hostile});
    let written = manifest.to_string();
    let escaped = written.chars().map(|c| match c.is_control() {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    });
    root.apply(&escaped.collect::<String>()).ok();
    let get = |form: &str| root.carob(&["get", "pod", "p", "-o", form]).ok();
    let raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    for form in ["json", "yaml"] {
        let text = get(form);
        assert!(!text.contains(raw), "{form}: {text:?}");
        assert!(
            root.feed(&["validate", "-q", "-f", "-"], &text).code == 0,
            "{form}"
        );
        // It is the same when it is read again.
        let again = root.feed(&["replace", "-f", "-"], &text).ok();
        assert_eq!(again, "pod/p replaced\n");
        // A program gets it as it is.
        assert_eq!(
            get("jsonpath={.metadata.annotations.said}"),
            hostile,
            "{form}"
        );
    }
    assert_eq!(
        json(&get("json"))["metadata"]["annotations"]["said"],
        hostile
    );
    let ran = root.carob(&["get", "pod", "a\u{9b}b", "-o", "json"]);
    let told = ran.stderr.trim_end();
    assert!(!told.contains(raw), "{told:?}");
    assert_eq!(json(told)["error"]["reason"], "NotFound");
}

#[test]
fn without_root_each_verb_ends_with_its_documented_code() {
    let root = Root::new();
    for (args, code) in [
        (&["exec", "web", "--", "true"][..], 125),
        (&["attach", "web"], 125),
        (&["get", "pods"], 10),
        (&["delete", "pod", "web"], 10),
    ] {
        let carob = root.command(args);
        let ran: Ran = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(carob.get_program())
            .args(carob.get_args())
            .output()
            .unwrap()
            .into();
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("needs root"), "{args:?}: {ran:?}");
    }
}

/// What people's files hold beside their Pods.
#[test]
fn a_service_account_beside_a_pod_is_a_note() {
    let root = Root::new();
    let beside = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: shop}\n---\n";
    let ran = root.apply(&format!("{beside}{}", sleeper("a", "app: x")));
    assert!(
        ran.stderr
            .contains("ServiceAccount: there is no API server"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), "pod/a created\n");
    let ran = root.apply(beside);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    root.feed(&["delete", "-f", "-"], beside).ok();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    root.apply(service).fails(9, "publish a port by hostPort");
    root.carob(&["delete", "pod", "a", "--now"]).ok();
}

#[test]
fn an_empty_namespace_is_the_default_one() {
    let root = Root::new();
    let pod = sleeper("a", "app: x");
    assert_eq!(
        root.feed(&["apply", "-n", "", "-f", "-"], &pod).ok(),
        "pod/a created\n"
    );
    let names = root.carob(&["get", "pods", "-n", "", "-o", "name"]).ok();
    assert_eq!(names, "pod/a\n");
}

#[test]
fn requests_beyond_the_machine_are_said() {
    let root = Root::new();
    let pod = sleeper("a", "app: x").replace(
        "    command:",
        "    resources: {requests: {cpu: 10000, memory: 1Pi}}\n    command:",
    );
    let ran = root.apply(&pod);
    let said = [
        "pod a: it requests 10000 CPUs",
        "it requests 1073741824 MiB",
    ];
    for text in said {
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    ran.ok();
}

/// So that a hint can be typed as it stands, and a mistyped root is told from an empty one.
#[test]
fn a_root_is_named_in_hints_and_said_not_to_exist() {
    let root = Root::empty();
    let dir = root.dir().display();
    let carob = |args: &[&str], root: &std::path::Path| -> crate::root::Ran {
        let mut carob = std::process::Command::new(env!("CARGO_BIN_EXE_carob"));
        carob.args(args).arg("--root").arg(root);
        carob.output().unwrap().into()
    };
    carob(&["logs", "none"], root.dir()).fails(
        4,
        &format!("hint: `carob --root {dir} get pods -n default` lists"),
    );
    let none = root.dir().join("none");
    let ran = carob(&["get", "pods"], &none);
    let warning = format!("warning: --root {} does not exist", none.display());
    assert!(ran.stderr.starts_with(&warning), "{ran:?}");
    assert_eq!(ran.ok(), "");
}
