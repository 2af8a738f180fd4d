//! The environment of containers, as it is inside them: `valueFrom`, `envFrom`, and what
//! waits for a ConfigMap or a Secret.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::root::{Root, kill_9, pod, sh, slack, until};

const IDLE: &str = "exec sleep 1000";

const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: map}
data: {COLOR: blue, size: '7', odd.key-1: o}
binaryData: {BIN: /w==}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {PASSWORD: p4ssw0rd-in-clear, COLOR: red}
---
";

fn with(env: Value, env_from: Value) -> Value {
    json!({"env": env, "envFrom": env_from})
}

fn spec(containers: Value) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": containers})
}

/// The variables of a container's first process.
fn environ(root: &Root, pod: &str, container: &str) -> BTreeMap<String, String> {
    let pid = root.pid(pod, container);
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let pairs = text
        .split_terminator('\0')
        .map(|e| e.split_once('=').unwrap());
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[track_caller]
fn has(env: &BTreeMap<String, String>, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(
            env.get(*name).map(String::as_str),
            *value,
            "{name}: {env:#?}"
        );
    }
}

/// Waits until a container of the Pod `p` waits with this message.
#[track_caller]
fn waits_with(root: &Root, container: &str, text: &str) {
    let path = format!(".status.containerStatuses[?(@.name=='{container}')].state.waiting.message");
    until(|| {
        let message = root.field("p", &path);
        if message.contains(text) {
            Ok(())
        } else {
            Err(message)
        }
    })
    .unwrap();
}

#[test]
fn values_come_from_objects_in_kubernetes_order() {
    let root = Root::new();
    let key = |kind: &str, name: &str, key: &str, optional: bool| json!({(kind): {"name": name, "key": key, "optional": optional}});
    let env = json!([
        {"name": "ONE", "valueFrom": key("configMapKeyRef", "map", "size", false)},
        {"name": "TWO", "value": "$(ONE)$(PASSWORD)-$(P_size)-$(NONE)"},
        {"name": "size", "value": "over"},
        {"name": "GONE", "valueFrom": key("secretKeyRef", "secret", "nope", true)},
        {"name": "GONE_TOO", "valueFrom": key("configMapKeyRef", "nope", "k", true)},
        {"name": "DISK", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "1Mi"}}},
        {"name": "HOST_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}},
        {"name": "with space", "value": "taken"},
    ]);
    let from = json!([
        {"configMapRef": {"name": "map"}},
        {"secretRef": {"name": "secret"}},
        {"prefix": "P_", "configMapRef": {"name": "map"}},
        {"configMapRef": {"name": "nope", "optional": true}},
    ]);
    let mut container = sh("main", "", with(env, from));
    // A shell drops variables whose names it cannot have.
    container["command"] = json!(["sleep", "1000"]);
    let manifest = pod("p", spec(json!([container])));
    root.feed(&["apply", "-f", "-"], &format!("{OBJECTS}{manifest}"))
        .ok();
    let env = environ(&root, "p", "main");
    has(
        &env,
        &[
            // The later source over the earlier one.
            ("COLOR", Some("red")),
            ("size", Some("over")),
            ("P_size", Some("7")),
            ("odd.key-1", Some("o")),
            // What is binary is for files.
            ("BIN", None),
            ("ONE", Some("7")),
            ("TWO", Some("7p4ssw0rd-in-clear-7-$(NONE)")),
            ("GONE", None),
            ("GONE_TOO", None),
            ("with space", Some("taken")),
        ],
    );
    assert!(env["DISK"].parse::<u64>().unwrap() > 0);
    assert!(!env["HOST_IPS"].is_empty());
    let described = root.carob(&["describe", "pod", "p"]).ok();
    assert!(
        described.contains("ConfigMap with prefix 'P_'"),
        "{described}"
    );
    assert!(!described.contains("p4ssw0rd"), "{described}");
}

#[test]
fn a_container_waits_for_its_object_and_starts_when_it_comes() {
    let root = Root::new();
    let env = json!([{"name": "P", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "PASSWORD"}}}]);
    let waiting = sh("waits", IDLE, with(env, json!([])));
    let from = json!([{"configMapRef": {"name": "map"}}]);
    let other = sh("waits-too", IDLE, with(json!([]), from));
    let manifest = pod(
        "p",
        spec(json!([waiting, other, sh("runs", IDLE, json!({}))])),
    );
    let applied = root.feed(&["apply", "-f", "-"], &manifest);
    assert_ne!(applied.code, 0);
    assert!(
        applied.stderr.contains("secret \"secret\" not found"),
        "{applied:?}"
    );
    let path = ".status.containerStatuses[?(@.name=='waits')].state.waiting.reason";
    root.becomes("p", path, "CreateContainerConfigError");
    root.becomes(
        "p",
        ".status.containerStatuses[?(@.name=='runs')].ready",
        "true",
    );
    // What mends it is a hint, and stands there once.
    let why = root.carob(&["why", "p"]);
    let text = "CreateContainerConfigError: env P: secret \"secret\" not found\n";
    assert!(why.stdout.ends_with(text), "{why:?}");
    assert!(
        why.stderr.contains("hint: apply one of that name"),
        "{why:?}"
    );
    // The back-off is 10 s: what wakes it is the object.
    let begun = std::time::Instant::now();
    root.feed(&["apply", "-f", "-"], OBJECTS.trim_end_matches("---\n"))
        .ok();
    root.becomes("p", ".status.conditions[?(@.type=='Ready')].status", "True");
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    has(
        &environ(&root, "p", "waits"),
        &[("P", Some("p4ssw0rd-in-clear"))],
    );
    has(
        &environ(&root, "p", "waits-too"),
        &[("COLOR", Some("blue"))],
    );
    let restarts = root.field("p", ".status.containerStatuses[*].restartCount");
    assert_eq!(restarts, "0 0 0");
}

#[test]
fn a_key_that_is_missing_and_one_that_is_no_text() {
    let root = Root::new();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {bytes: /w==}\n---\n";
    let of = |key: &str| json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}]);
    let containers = json!([
        sh("missing", IDLE, with(of("nope"), json!([]))),
        sh("bytes", IDLE, with(of("bytes"), json!([]))),
    ]);
    let manifest = pod("p", spec(containers));
    root.feed(
        &["apply", "--wait=false", "-f", "-"],
        &format!("{secret}{manifest}"),
    )
    .ok();
    for (container, text) in [
        ("missing", "couldn't find key nope in Secret default/s"),
        ("bytes", "key bytes of secret/s is not UTF-8"),
    ] {
        waits_with(&root, container, text);
    }
}

/// Whether a file below the directory has these bytes. Devices and pipes are passed over.
fn files_with(dir: &Path, bytes: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&entry.path(), bytes, found);
        } else if kind.is_file() {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            if text.windows(bytes.len()).any(|w| w == bytes.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

#[test]
fn the_value_of_a_secret_is_on_no_disk_and_survives_the_monitor() {
    let root = Root::new();
    let from = json!([{"secretRef": {"name": "secret"}}]);
    let env =
        json!([{"name": "URL", "value": "db://$(PASSWORD)@host"}, {"name": "PLAIN", "value": "x"}]);
    let mut container = sh("main", IDLE, with(env, from));
    container["args"] = json!(["$(URL)", "$(PLAIN)"]);
    let manifest = pod("p", spec(json!([container])));
    root.feed(&["apply", "-f", "-"], &format!("{OBJECTS}{manifest}"))
        .ok();
    let uid = root.uid("p");
    let config = root
        .dir()
        .join(format!("run/pods/{uid}/containers/main/0/config.json"));
    let config: Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let process = config["process"].to_string();
    assert!(
        process.contains("PLAIN=x") && process.contains("$(URL)"),
        "{process}"
    );
    assert_eq!(
        config["annotations"]["carob/secret-env"],
        "COLOR PASSWORD URL"
    );
    for bytes in ["p4ssw0rd-in-clear", "cDRzc3cwcmQtaW4tY2xlYXI"] {
        let mut found = Vec::new();
        files_with(root.dir(), bytes, &mut found);
        let own = |path: &String| path.contains("/objects/secrets/default/secret");
        assert!(found.iter().all(own), "{bytes}: {found:?}");
    }
    has(
        &environ(&root, "p", "main"),
        &[("URL", Some("db://p4ssw0rd-in-clear@host"))],
    );
    let inside = || root.sh("p", "echo $PASSWORD $URL $PLAIN");
    assert_eq!(
        inside().trim(),
        "p4ssw0rd-in-clear db://p4ssw0rd-in-clear@host x"
    );
    kill_9(root.monitor_pid("p"));
    assert_eq!(
        inside().trim(),
        "p4ssw0rd-in-clear db://p4ssw0rd-in-clear@host x"
    );
    // The monitor and the commands have none of it in their own environment.
    let environ = std::fs::read(format!("/proc/{}/environ", root.monitor_pid("p"))).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("p4ssw0rd"));
}

#[test]
fn a_file_that_an_init_container_writes() {
    let root = Root::new();
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let script = "printf \"A='one'\\nB='two\\nlines'\\n\" > /v/a.env; ln -s /etc/passwd /v/link; \
                  ln -s /v/nothing /v/away; mkfifo /v/fifo";
    let file = |name: &str, path: &str, key: &str, optional: bool| {
        json!({"name": name, "valueFrom": {"fileKeyRef": {
            "volumeName": "v", "path": path, "key": key, "optional": optional}}})
    };
    let good = json!([
        file("A", "a.env", "A", false),
        file("LINES", "a.env", "B", false),
        file("NONE", "a.env", "C", true),
        file("NO_FILE", "b.env", "C", true),
        // A link of the container's leads to nothing of the host.
        file("LINK", "link", "root", true),
        file("FIFO", "fifo", "A", true),
    ]);
    let bad = json!([file("A", "a.env", "C", false)]);
    let manifest = pod(
        "p",
        json!({"terminationGracePeriodSeconds": 1, "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [sh("init", script, mount)],
        "containers": [
            sh("main", IDLE, with(good, json!([]))),
            sh("waits", IDLE, with(bad, json!([]))),
        ]}),
    );
    root.feed(&["apply", "--wait=false", "-f", "-"], &manifest)
        .ok();
    root.becomes(
        "p",
        ".status.containerStatuses[?(@.name=='main')].ready",
        "true",
    );
    has(
        &environ(&root, "p", "main"),
        &[
            ("A", Some("one")),
            ("LINES", Some("two\nlines")),
            ("NONE", None),
            ("NO_FILE", None),
            ("LINK", None),
            ("FIFO", None),
        ],
    );
    waits_with(
        &root,
        "waits",
        "there is no key C in file a.env of volume v",
    );
}

/// 1000 characters, ten times over at each of nine steps: a manifest of 2 KB.
#[test]
fn variables_that_name_each_other_do_not_grow_without_end() {
    let root = Root::new();
    let mut env = vec![json!({"name": "V0", "value": "x".repeat(1000)})];
    for i in 1..10 {
        let value = format!("$(V{})", i - 1).repeat(10);
        env.push(json!({"name": format!("V{i}"), "value": value}));
    }
    let long = sh("long", IDLE, with(json!(env), json!([])));
    let mut word = sh("word", IDLE, with(json!(env[..3]), json!([])));
    word["args"] = json!(["$(V2)$(V2)"]);
    let manifest = pod("p", spec(json!([long, word])));
    root.feed(&["apply", "--wait=false", "-f", "-"], &manifest)
        .ok();
    for (container, text) in [
        ("long", "env V3: it has more than 131071 bytes"),
        (
            "word",
            "word 4 of the command: it has more than 131071 bytes",
        ),
    ] {
        waits_with(&root, container, text);
    }
    root.carob(&["delete", "pod", "p"]).ok();
}

/// A process that writes a file may hold a lease on it, which an open(2) would wait for.
#[test]
fn a_lease_on_a_file_of_variables_holds_nobody_up() {
    // F_SETLEASE, F_WRLCK; it ends with its standard input. perl is part of every Debian.
    const HOLDER: &str = "open($f, '+<', $ARGV[0]) or die $!; $SIG{IO} = 'IGNORE'; \
                          for (1..500) { $held = fcntl($f, 1024, 1) and last; \
                          select(undef, undef, undef, 0.01) } $held or die $!; \
                          $| = 1; print 'held'; <STDIN>";
    let root = Root::new();
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let script = "echo \"A='one'\" > /v/a.env; until [ -e /v/go ]; do sleep 0.1; done";
    let env = json!([{"name": "A", "valueFrom": {"fileKeyRef": {
        "volumeName": "v", "path": "a.env", "key": "A"}}}]);
    let manifest = pod(
        "p",
        json!({"terminationGracePeriodSeconds": 1, "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [sh("init", script, mount)],
            "containers": [sh("main", IDLE, with(env, json!([])))]}),
    );
    root.feed(&["apply", "--wait=false", "-f", "-"], &manifest)
        .ok();
    let volume = root
        .dir()
        .join(format!("data/pods/{}/volumes/v", root.uid("p")));
    let file = volume.join("a.env");
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    until(|| match text().as_str() {
        "A='one'\n" => Ok(()),
        other => Err(other.to_owned()),
    })
    .unwrap();
    let mut holder = std::process::Command::new("perl")
        .args(["-e", HOLDER])
        .arg(&file)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("perl runs");
    let mut word = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let begun = std::time::Instant::now();
    std::fs::write(volume.join("go"), "").unwrap();
    waits_with(&root, "main", "a process has a lease on it (F_SETLEASE");
    // /proc/sys/fs/lease-break-time: 45 s.
    assert!(begun.elapsed() < slack(std::time::Duration::from_secs(20)));
    // Its standard input ends, and so does it.
    holder.wait().unwrap();
    root.becomes("p", ".status.containerStatuses[0].ready", "true");
    has(&environ(&root, "p", "main"), &[("A", Some("one"))]);
}
