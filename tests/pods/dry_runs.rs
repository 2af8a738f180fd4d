//! `--dry-run`, and the flags of kubectl's that scripts give to `apply` and its like.

use serde_json::{Value, json};

use crate::root::{Root, pod, sh};

fn map(name: &str, more: Value) -> String {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let fields = more.as_object().unwrap().clone();
    map.as_object_mut().unwrap().extend(fields);
    map.to_string()
}

fn data(root: &Root, name: &str) -> String {
    let args = ["get", "cm", name, "-o", "jsonpath={.data}"];
    root.carob(&args).ok()
}

#[test]
fn a_server_dry_run_merges_checks_and_writes_nothing() {
    let root = Root::empty();
    let apply = |text: &str| root.feed(&["apply", "-f", "-", "--dry-run=server"], text);
    let one = map("c", json!({"data": {"a": "1", "b": "1"}}));
    assert_eq!(apply(&one).ok(), "configmap/c created (server dry run)\n");
    root.carob(&["get", "cm", "c"]).fails(4, "not found");
    root.apply(&one).ok();
    root.carob(&["label", "cm", "c", "by=hand"]).ok();
    assert_eq!(apply(&one).ok(), "configmap/c unchanged (server dry run)\n");
    let two = map("c", json!({"data": {"a": "2"}}));
    assert_eq!(
        apply(&two).ok(),
        "configmap/c configured (server dry run)\n"
    );
    // What apply would remove is gone, what another has set stays.
    let args = ["apply", "-f", "-", "--dry-run=server", "-o", "json"];
    let merged: Value = serde_json::from_str(&root.feed(&args, &two).ok()).unwrap();
    assert_eq!(merged["data"], json!({"a": "2"}));
    assert_eq!(merged["metadata"]["labels"]["by"], "hand");
    assert_eq!(data(&root, "c"), r#"{"a":"1","b":"1"}"#);
    // As the one that is there allows.
    root.apply(&map("f", json!({"immutable": true, "data": {"a": "1"}})))
        .ok();
    let other = map("f", json!({"immutable": true, "data": {"a": "2"}}));
    apply(&other).fails(3, "field is immutable when `immutable` is set");
    let forced = root.feed(&["apply", "-f", "-", "--dry-run=server", "--force"], &other);
    assert_eq!(forced.ok(), "configmap/f replaced (server dry run)\n");
    assert_eq!(data(&root, "f"), r#"{"a":"1"}"#);
    root.feed(&["replace", "-f", "-", "--dry-run=server"], &other)
        .fails(3, "field is immutable");
    root.feed(&["create", "-f", "-", "--dry-run=server"], &one)
        .fails(5, "already exists");
    // What is there is known to root without a server, too.
    let client = |text: &str| {
        root.feed(&["apply", "-f", "-", "--dry-run=client"], text)
            .ok()
    };
    assert_eq!(client(&two), "configmap/c configured (dry run)\n");
    let new = map("n", json!({}));
    assert_eq!(client(&new), "configmap/n created (dry run)\n");
    let labelled = ["label", "cm", "c", "x=y", "--dry-run=server"];
    let said = root.carob(&labelled).ok();
    assert_eq!(said, "configmap/c labeled (server dry run)\n");
    root.carob(&["get", "cm", "-l", "x=y", "-o", "name"]).ok();
    let labels = root.carob(&["label", "cm", "c", "--list"]).ok();
    assert_eq!(labels, "by=hand\n");
}

#[test]
fn pods_would_be_made_changed_and_deleted() {
    let root = Root::new();
    let with = |label: &str, script: &str| {
        let spec = json!({"containers": [sh("c", script, json!({}))],
            "terminationGracePeriodSeconds": 0});
        let mut pod: Value = serde_json::from_str(&pod("p", spec)).unwrap();
        pod["metadata"]["labels"] = json!({"a": label});
        pod.to_string()
    };
    let dry = |args: &[&str], text: &str| {
        let all = [&["apply", "-f", "-", "--dry-run=server"], args].concat();
        root.feed(&all, text)
    };
    let one = with("1", "exec sleep 1000");
    assert_eq!(dry(&[], &one).ok(), "pod/p created (server dry run)\n");
    root.carob(&["get", "pod", "p"]).fails(4, "not found");
    root.apply(&one).ok();
    let uid = root.uid("p");
    assert_eq!(dry(&[], &one).ok(), "pod/p unchanged (server dry run)\n");
    let two = with("2", "exec sleep 1000");
    let shown = dry(&["-o", "json"], &two).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["metadata"]["labels"]["a"], "2");
    assert_eq!(shown["metadata"]["uid"], uid.as_str());
    assert_eq!(shown["status"]["phase"], "Running");
    assert_eq!(root.field("p", ".metadata.labels.a"), "1");
    let other = with("1", "exec sleep 2000");
    dry(&[], &other).fails(5, "cannot be changed in: spec.containers[0].command");
    let said = dry(&["--force"], &other).ok();
    assert_eq!(said, "pod/p replaced (server dry run)\n");
    root.carob(&["run", "p", "--image", "busybox", "--dry-run=server"])
        .fails(5, "already exists");

    let delete = |args: &[&str]| root.carob(&[&["delete"], args].concat());
    root.apply(&map("c", json!({}))).ok();
    let said = delete(&["pod/p", "cm/c", "--dry-run=client"]).ok();
    assert_eq!(
        said,
        "pod \"p\" deleted (dry run) from default namespace\n\
         configmap \"c\" deleted (dry run) from default namespace\n"
    );
    let said = delete(&["pod", "p", "--force", "--dry-run=server"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert_eq!(
        said.stdout,
        "pod \"p\" force deleted (server dry run) from default namespace\n"
    );
    assert_eq!(
        delete(&["cm", "c", "--dry-run=server", "-o", "name"]).ok(),
        "configmap/c\n"
    );
    delete(&["ns", "default", "--dry-run=server"]).fails(5, "may not be deleted");
    delete(&["cm", "no", "--dry-run=server"]).fails(4, "not found");
    assert_eq!(root.uid("p"), uid);
    root.carob(&["get", "cm", "c"]).ok();
}

#[test]
fn what_cannot_be_changed_is_made_anew_by_force() {
    let root = Root::empty();
    root.apply(&map("f", json!({"immutable": true, "data": {"a": "1"}})))
        .ok();
    let uid = || {
        let args = ["get", "cm", "f", "-o", "jsonpath={.metadata.uid}"];
        root.carob(&args).ok()
    };
    let first = uid();
    let other = map("f", json!({"immutable": true, "data": {"a": "2"}}));
    root.apply(&other).fails(3, "immutable");
    let said = root.feed(&["apply", "--force", "-f", "-"], &other).ok();
    assert_eq!(said, "configmap/f replaced\n");
    assert_eq!(data(&root, "f"), r#"{"a":"2"}"#);
    assert_ne!(uid(), first);
    // What can be changed is changed, and stays the same object.
    let second = uid();
    let open = map(
        "f",
        json!({"immutable": true, "data": {"a": "2"}, "metadata": {"name": "f",
        "labels": {"a": "b"}}}),
    );
    let said = root.feed(&["apply", "--force", "-f", "-"], &open).ok();
    assert_eq!((said.as_str(), uid()), ("configmap/f configured\n", second));
    let claim = |mode: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}})
        .to_string()
    };
    root.apply(&claim("ReadWriteOnce")).ok();
    root.apply(&claim("ReadWriteMany")).fails(3, "immutable");
    let said = root.feed(&["apply", "--force", "-f", "-"], &claim("ReadWriteMany"));
    assert_eq!(said.ok(), "persistentvolumeclaim/d replaced\n");
}

#[test]
fn flags_of_kubectls_that_scripts_give() {
    let root = Root::empty();
    let text = map("c", json!({"data": {"a": "1"}}));
    let apply = |args: &[&str]| root.feed(&[&["apply", "-f", "-"], args].concat(), &text);
    let given = [
        "--server-side",
        "--force-conflicts",
        "--field-manager=ci",
        "--validate=false",
    ];
    assert_eq!(apply(&given).ok(), "configmap/c created\n");
    for value in ["true", "strict", "warn", "ignore"] {
        apply(&[&format!("--validate={value}")]).ok();
    }
    apply(&["--validate=perhaps"]).fails(2, "perhaps");
    apply(&["--force-conflicts"]).fails(2, "--force-conflicts only works with --server-side");
    apply(&["--server-side", "--force"]).fails(2, "--force cannot be used with --server-side");
    apply(&["--server-side", "--dry-run=client"]).fails(2, "did you mean --dry-run=server");
    apply(&["--server-side", "--dry-run=server"]).ok();
    for args in [&["--prune", "-l", "a=b"][..], &["--prune", "--all"]] {
        apply(args).fails(2, "apply has no --prune: it deletes nothing");
    }
    apply(&["-l", "a=b"]).fails(2, "apply has no --selector");
    // What is saved so is what a later apply may take away again.
    let args = ["replace", "-f", "-", "--save-config", "--field-manager=ci"];
    root.feed(&args, &map("c", json!({"data": {"a": "1", "b": "1"}})))
        .ok();
    apply(&[]).ok();
    assert_eq!(data(&root, "c"), r#"{"a":"1"}"#);
    // Those that manifests name are labelled together.
    let file = root.dir().join("two.yaml");
    std::fs::write(&file, format!("{text}\n---\n{}", map("d", json!({})))).unwrap();
    root.apply(&map("d", json!({}))).ok();
    let file = file.to_str().unwrap();
    let said = root.carob(&["label", "-f", file, "x=y"]).ok();
    assert_eq!(said, "configmap/c labeled\nconfigmap/d labeled\n");
    let said = root.carob(&["annotate", "-f", file, "x-"]).ok();
    assert_eq!(said, "configmap/c annotated\nconfigmap/d annotated\n");
    root.carob(&["label", "-f", file, "cm", "c", "x=y"])
        .fails(2, "-f cannot go with names");
    root.carob(&["label"]).fails(2, "required");
}

/// kubectl's exit codes: 0 without a difference, 1 with one, more for an error.
#[test]
fn a_diff_of_a_new_secret_shows_no_value() {
    let root = Root::empty();
    let secret = |value: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "stringData": {"p": value, "q": "same"}})
        .to_string()
    };
    let diff = |text: &str| root.feed(&["diff", "-f", "-"], text);
    let new = diff(&secret("hunter2"));
    assert_eq!((new.code, new.stderr.as_str()), (1, ""));
    let lines: Vec<&str> = new.stdout.lines().collect();
    let changes = lines.iter().filter(|l| !l.starts_with(['+', '@']));
    assert_eq!(
        changes.collect::<Vec<_>>(),
        [&"--- LIVE/v1.Secret.default.s"]
    );
    assert!(lines.contains(&"+  p: '***'"), "{}", new.stdout);
    assert!(lines.contains(&"+  q: '***'"), "{}", new.stdout);
    assert!(!new.stdout.contains("annotations"), "{}", new.stdout);
    root.apply(&secret("hunter2")).ok();
    let none = diff(&secret("hunter2"));
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    let changed = diff(&secret("hunter3"));
    assert_eq!(changed.code, 1);
    for line in ["-  p: '*** (before)'", "+  p: '*** (after)'", "   q: '***'"] {
        assert!(
            changed.stdout.lines().any(|l| l == line),
            "{}",
            changed.stdout
        );
    }
    assert_eq!(diff("kind: Secret").code, 125);
    assert_eq!(root.carob(&["diff", "-f", "/no/such"]).code, 125);
    assert_eq!(root.carob(&["diff"]).code, 2);
}

/// One cause, one exit code: docs/exit-codes.md.
#[test]
fn mistakes_of_newcomers() {
    let root = Root::empty();
    let create = |args: &[&str]| root.carob(&[&["create"], args].concat());
    create(&["cm", "x", "--from-literal=a"])
        .fails(2, "invalid literal source a, expected key=value");
    create(&["secret", "generic", "x", "--from-literal=a"])
        .fails(2, "invalid literal source, expected key=value");
    for flag in ["--from-file=/no/such", "--from-env-file=/no/such"] {
        create(&["cm", "x", flag]).fails(4, "No such file");
    }
    create(&["secret", "tls", "x", "--cert=/no/such", "--key=/no/such"]).fails(4, "No such file");
    create(&["-f", "/no/such"]).fails(4, "No such file");
    let wrong = map("c", json!({"stringData": {"a": "b"}}));
    root.apply(&wrong).fails(
        3,
        "stringData is of a Secret; a ConfigMap has its texts in data",
    );
    let kind = map("c", json!({})).replace("ConfigMap", "Configmap");
    root.apply(&kind).fails(3, "did you mean \"ConfigMap\"?");
    let empty = json!({"containers": [sh("c", "true", json!({}))], "affinity": {},
        "tolerations": [], "nodeSelector": {}, "priorityClassName": "", "schedulerName": ""});
    let said = root.feed(&["apply", "--dry-run=client", "-f", "-"], &pod("p", empty));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let set = json!({"containers": [sh("c", "true", json!({}))], "nodeSelector": {"a": "b"}});
    let said = root.feed(&["apply", "--dry-run=client", "-f", "-"], &pod("p", set));
    assert!(said.stderr.contains("spec.nodeSelector"), "{said:?}");
}
