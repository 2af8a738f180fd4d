//! Secrets that systemd-creds(1) encrypts on the disk: who still sees them, what a lost key
//! does, and commands that are killed half way.
//!
//! The machine's own key is left alone: each root has one beside it, which the variable of
//! systemd names when the root's key is made. Later commands and monitors know it by that.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::root::{Ran, Root, kill_9, pod, sh, until};

const CLEAR: &str = "only-in-clear-where-it-belongs-7d1e";

fn secret(name: &str, value: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"k": value}})
    .to_string()
}

fn machine_key(root: &Root) -> PathBuf {
    root.dir().join("machine.key")
}

fn encrypt(root: &Root) -> Ran {
    let mut command = root.command(&["system", "secrets", "encrypted", "--with-key=host"]);
    command.env("SYSTEMD_CREDENTIAL_SECRET", machine_key(root));
    root.feed_to(command, "")
}

fn record(root: &Root, name: &str) -> PathBuf {
    root.dir().join("data/objects/secrets/default").join(name)
}

/// Regular files below a directory that hold the text, or more that begins with it, in clear
/// or in base64.
fn holders(dir: &Path, text: &str) -> Vec<PathBuf> {
    let whole_groups = &text[..text.len() / 3 * 3];
    let forms = [text.to_owned(), STANDARD.encode(whole_groups)];
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                let has = |form: &String| bytes.windows(form.len()).any(|w| w == form.as_bytes());
                if forms.iter().any(has) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

fn value(root: &Root, name: &str) -> String {
    let path = "jsonpath={.data.k}";
    let text = root.carob(&["get", "secret", name, "-o", path]).ok();
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// A Pod with the Secret `s` in a variable and in a volume.
fn user(name: &str) -> String {
    let more = json!({
        "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", "exec sleep 1000", more)],
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
    });
    pod(name, spec)
}

#[test]
fn pods_and_commands_see_what_the_disk_does_not() {
    let root = Root::new();
    root.apply(&secret("s", CLEAR)).ok();
    root.apply(&user("p")).ok();
    let volumes = root.dir().join("run/pods").join(root.uid("p"));
    let on_disk = |text: &str| {
        let mut found = holders(root.dir(), text);
        found.retain(|at| !at.starts_with(volumes.join("projected")));
        found
    };
    assert_eq!(on_disk(CLEAR), [record(&root, "s")]);
    assert_eq!(
        root.carob(&["system", "secrets"]).said(),
        "plain: 1 Secrets, 0 of them encrypted"
    );

    // What a writer that was killed has left is in clear, too.
    let left = record(&root, "s").with_file_name(".new");
    std::fs::write(&left, CLEAR).unwrap();
    assert_eq!(
        encrypt(&root).said(),
        "encrypted: 1 Secrets, all encrypted, with the key host"
    );
    assert!(!left.exists());
    assert_eq!(on_disk(CLEAR), Vec::<PathBuf>::new());
    assert_eq!(value(&root, "s"), CLEAR);
    let version = [
        "get",
        "secret",
        "s",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
    ];
    assert_eq!(root.carob(&version).ok(), "1");
    let described = root.carob(&["describe", "secret", "s"]).ok();
    assert!(described.contains("k:  35 bytes"), "{described}");
    let state = root.carob(&["system", "secrets", "-o", "json"]).ok();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (&state["secrets"], &state["encrypted"], &state["plain"]),
        (&json!("encrypted"), &json!(1), &json!(0))
    );

    // Every way to write one.
    let next = format!("{CLEAR}-next");
    root.apply(&secret("s", &next)).ok();
    let read = || root.sh("p", "cat /v/k");
    until(|| if read() == next { Ok(()) } else { Err(read()) }).unwrap();
    root.carob(&["label", "secret", "s", "a=b"]).ok();
    root.carob(&[
        "patch",
        "secret",
        "s",
        "-p",
        r#"{"stringData":{"more":"x"}}"#,
    ])
    .ok();
    let literal = format!("--from-literal=k={CLEAR}");
    root.carob(&["create", "secret", "generic", "t", &literal])
        .ok();
    assert_eq!(
        (value(&root, "s"), value(&root, "t")),
        (next, CLEAR.to_owned())
    );
    assert_eq!(on_disk(CLEAR), Vec::<PathBuf>::new());
    let table = root
        .carob(&["get", "secrets", "-l", "a=b", "--no-headers"])
        .ok();
    let row: Vec<&str> = table.split_whitespace().take(3).collect();
    assert_eq!(row, ["s", "Opaque", "2"]);

    // The next monitor reads the variables of a container that runs from the Secret again.
    kill_9(root.monitor_pid("p"));
    assert_eq!(root.sh("p", "echo $K").trim(), format!("{CLEAR}-next"));

    assert_eq!(
        root.carob(&["system", "secrets", "plain"]).said(),
        "plain: 2 Secrets, 0 of them encrypted"
    );
    assert!(!root.dir().join("data/objects.key").exists());
    assert_eq!(on_disk(CLEAR).len(), 2);
    assert_eq!(value(&root, "t"), CLEAR);
}

#[test]
fn what_is_encrypted_fits_no_other_secret_and_no_other_key() {
    let root = Root::empty();
    for name in ["a", "b", "c"] {
        root.apply(&secret(name, name)).ok();
    }
    encrypt(&root).ok();
    // The whole record, and its sealed part in another's.
    std::fs::copy(record(&root, "a"), record(&root, "b")).unwrap();
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(record(&root, name)).unwrap()).unwrap()
    };
    let mut c = read("c");
    c["sealed"] = read("a")["sealed"].clone();
    std::fs::write(record(&root, "c"), c.to_string()).unwrap();
    for name in ["b", "c"] {
        root.carob(&["get", "secret", name, "-o", "yaml"])
            .fails(1, "what is encrypted was changed, or is another Secret's");
    }
    // The others are shown all the same, and the exit status tells.
    let all = root.carob(&["get", "secrets", "-o", "jsonpath={.items[*].data.k}"]);
    assert_eq!((all.code, all.stdout.as_str()), (1, "YQ=="));
    assert_eq!(
        root.carob(&["get", "secrets", "-o", "name"])
            .ok()
            .lines()
            .count(),
        3
    );
    root.carob(&["system", "secrets", "plain"])
        .fails(1, "2 Secrets stay as they are");
    let doctor = root.carob(&["doctor"]);
    assert!(
        doctor.stdout.contains("not all of them are in clear"),
        "{doctor:?}"
    );
    root.carob(&["delete", "secret", "b", "c"]).ok();
    root.carob(&["system", "secrets", "plain"]).ok();

    // Another key in the place of a lost one hides nothing.
    encrypt(&root).ok();
    let key = root.dir().join("data/objects.key");
    std::fs::remove_file(&key).unwrap();
    root.carob(&["get", "secret", "a", "-o", "yaml"])
        .fails(1, "data/objects.key is not there or is another one");
    encrypt(&root).fails(1, "data/objects.key is not there or is another one");
    assert!(!key.exists());
    // Nothing new is written in clear, and nobody is told that all is plain.
    root.apply(&secret("d", CLEAR))
        .fails(1, "data/objects.key is not there or is another one");
    assert_eq!(holders(root.dir(), CLEAR), Vec::<PathBuf>::new());
    root.carob(&["system", "secrets", "plain"])
        .fails(1, "secret default/a: ");
    let doctor = root.carob(&["doctor"]);
    assert!(doctor.stdout.contains("data/objects.key"), "{doctor:?}");
    root.carob(&["delete", "secret", "a"]).ok();
    root.carob(&["system", "secrets", "plain"]).ok();
    root.apply(&secret("d", "plain again")).ok();
    encrypt(&root).ok();
}

#[test]
fn a_lost_key_of_the_machine_holds_up_what_needs_it_alone() {
    let root = Root::new();
    root.apply(&secret("s", CLEAR)).ok();
    root.apply(&secret("t", CLEAR)).ok();
    encrypt(&root).ok();
    let (key, away) = (machine_key(&root), root.dir().join("away"));
    std::fs::rename(&key, &away).unwrap();

    let lost = root.carob(&["get", "secret", "s", "-o", "yaml"]);
    let lost = lost.fails(1, "secret \"s\": decrypt the key in");
    for part in [
        "No such file or directory",
        "machine.key",
        "carob system secrets plain",
    ] {
        assert!(lost.stderr.contains(part), "{part}: {}", lost.stderr);
    }
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}"#;
    root.apply(map).ok();
    root.carob(&["get", "secrets,cm"]).ok();
    root.apply(&secret("u", CLEAR))
        .fails(1, "decrypt the key in");
    root.carob(&["system", "secrets", "plain"])
        .fails(1, "decrypt the key in");
    assert_eq!(
        root.carob(&["system", "secrets"]).said(),
        "encrypted: 2 Secrets, all encrypted, with the key host"
    );
    let doctor = root.carob(&["doctor"]);
    assert!(doctor.stdout.contains("decrypt the key in"), "{doctor:?}");
    root.carob(&["delete", "secret", "t"]).ok();

    // A Pod waits for it, and starts when the key is back.
    let file = root.dir().join("p.json");
    std::fs::write(&file, user("p")).unwrap();
    let apply = ["apply", "--wait=false", "-f", file.to_str().unwrap()];
    root.carob(&apply).ok();
    let why = || root.carob(&["why", "p"]).stdout;
    until(|| match why().contains("decrypt the key in") {
        true => Ok(()),
        false => Err(why()),
    })
    .unwrap();
    std::fs::rename(&away, &key).unwrap();
    root.becomes("p", ".status.phase", "Running");
    assert_eq!(
        root.sh("p", "cat /v/k; echo \" $K\"").trim(),
        format!("{CLEAR} {CLEAR}")
    );

    // The way out where it stays lost.
    std::fs::remove_file(&key).unwrap();
    root.carob(&["delete", "pod", "p"]).ok();
    root.carob(&["delete", "secret", "s"]).ok();
    root.carob(&["system", "secrets", "plain"]).ok();
    root.apply(&secret("s", "anew")).ok();
    assert_eq!(value(&root, "s"), "anew");
}

#[test]
fn commands_that_are_killed_lose_nothing() {
    let root = Root::empty();
    let names: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
    for name in &names {
        root.apply(&secret(name, &format!("{CLEAR}-{name}"))).ok();
    }
    encrypt(&root).ok();
    let form = |form: &str| {
        let mut command = root.command(&["system", "secrets", form]);
        command.env("SYSTEMD_CREDENTIAL_SECRET", machine_key(&root));
        command.stdout(std::process::Stdio::null());
        command
    };
    let begun = Instant::now();
    form("plain").status().unwrap();
    form("encrypted").status().unwrap();
    let one = begun.elapsed() / 2;
    for n in 0..16_u32 {
        let way = ["plain", "encrypted"][n as usize % 2];
        let mut child = form(way).spawn().unwrap();
        std::thread::sleep(one * (n + 1) / 16);
        kill_9(child.id() as i32);
        child.wait().unwrap();
        let name = &names[n as usize % names.len()];
        assert_eq!(value(&root, name), format!("{CLEAR}-{name}"), "{n}");
        if n % 3 == 0 {
            root.apply(&secret(name, &format!("{CLEAR}-{name}"))).ok();
        }
    }
    // Readers at the same time see nothing else.
    std::thread::scope(|s| {
        let reader = s.spawn(|| {
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                assert_eq!(value(&root, "s3"), format!("{CLEAR}-s3"));
            }
        });
        while !reader.is_finished() {
            for way in ["plain", "encrypted"] {
                assert!(form(way).status().unwrap().success());
            }
        }
    });
    encrypt(&root).ok();
    assert_eq!(holders(root.dir(), CLEAR), Vec::<PathBuf>::new());
    for name in &names {
        assert_eq!(value(&root, name), format!("{CLEAR}-{name}"));
    }
    let dir = record(&root, "s0").parent().unwrap().to_owned();
    let files = std::fs::read_dir(dir).unwrap().count();
    assert_eq!(files, names.len());
}
