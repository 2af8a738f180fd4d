//! ConfigMaps, Secrets and namespaces: the verbs that make, show, change and delete them.

use serde_json::{Value, json};

use crate::root::{Root, pod, sh, until};

fn map(name: &str, data: Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
        .to_string()
}

fn secret(name: &str, data: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
        .to_string()
}

fn path(root: &Root, what: &str, path: &str) -> String {
    let (kind, name) = what.split_once('/').unwrap();
    let format = format!("jsonpath={{{path}}}");
    root.carob(&["get", kind, name, "-o", &format]).ok()
}

#[test]
fn several_documents_are_made_in_their_order() {
    let root = Root::new();
    let sleeps = json!({"terminationGracePeriodSeconds": 0,
        "containers": [sh("a", "exec sleep 1000", json!({}))]});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        serde_json::from_str::<Value>(&secret("s", json!({"p": "hunter2"}))).unwrap(),
        serde_json::from_str::<Value>(&map("c", json!({"a": "1"}))).unwrap(),
    ]});
    let whole = format!("{}\n---\n{list}\n---\n{namespace}\n", pod("p", sleeps));
    let dry = root.feed(&["apply", "-f", "-", "--dry-run=client"], &whole);
    assert_eq!(
        dry.ok(),
        "namespace/shop created (dry run)\nconfigmap/c created (dry run)\n\
         secret/s created (dry run)\npod/p created (dry run)\n"
    );
    assert_eq!(
        root.apply(&whole).ok(),
        "namespace/shop created\nconfigmap/c created\nsecret/s created\npod/p created\n"
    );
    assert_eq!(
        root.apply(&whole).ok(),
        "namespace/shop unchanged\nconfigmap/c unchanged\nsecret/s unchanged\npod/p unchanged\n"
    );
    let changed = whole.replace(r#""a":"1""#, r#""a":"2""#);
    let names = root
        .feed(&["apply", "-f", "-", "-o", "name"], &changed)
        .ok();
    assert_eq!(names, "namespace/shop\nconfigmap/c\nsecret/s\npod/p\n");
    assert_eq!(path(&root, "cm/c", ".data.a"), "2");
    assert_eq!(path(&root, "cm/c", ".metadata.resourceVersion"), "2");
    let table = root.carob(&["get", "pods,cm,secrets"]).ok();
    for row in ["pod/p ", "configmap/c ", "secret/s ", "Opaque"] {
        assert!(table.contains(row), "{row}: {table}");
    }
    let asked = ["get", "pods,cm", "-o", "name", "--sort-by=.metadata.name"];
    assert_eq!(root.carob(&asked).ok(), "pod/p\nconfigmap/c\n");
    assert_eq!(
        root.feed(&["delete", "-f", "-"], &whole).ok(),
        "pod \"p\" deleted from default namespace\nsecret \"s\" deleted from default namespace\n\
         configmap \"c\" deleted from default namespace\nnamespace \"shop\" deleted\n"
    );
    assert_eq!(
        root.carob(&["get", "cm,secret", "-A", "-o", "name"]).ok(),
        ""
    );
}

#[test]
fn tables_have_kubectls_columns() {
    let root = Root::empty();
    root.apply(&map("c", json!({"a": "1", "b": "2"}))).ok();
    root.apply(&secret("s", json!({"p": "x"}))).ok();
    root.carob(&["label", "cm", "c", "app=web"]).ok();
    let rows = |args: &[&str]| -> Vec<String> {
        let text = root.carob(&[&["get"], args].concat()).ok();
        let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut = |line: String| match line.rsplit_once(' ') {
            Some((rest, age)) if age.ends_with('s') && age.len() < 4 => rest.to_owned(),
            _ => line,
        };
        text.lines().map(row).map(cut).collect()
    };
    assert_eq!(rows(&["cm"]), ["NAME DATA AGE", "c 2"]);
    assert_eq!(
        rows(&["configmaps", "-A"]),
        ["NAMESPACE NAME DATA AGE", "default c 2"]
    );
    assert_eq!(rows(&["secrets"]), ["NAME TYPE DATA AGE", "s Opaque 1"]);
    // As old as the root, or as what is in it.
    assert_eq!(rows(&["ns"]), ["NAME STATUS AGE", "default Active"]);
    let made = path(&root, "ns/default", ".metadata.creationTimestamp");
    assert!(made.ends_with('Z'), "{made}");
    assert_eq!(rows(&["cm", "--no-headers", "-l", "app=web"]), ["c 2"]);
    assert_eq!(
        rows(&["cm", "-L", "app"])[1].split(' ').next_back(),
        Some("web")
    );
    assert!(rows(&["cm", "--show-labels"])[1].ends_with("app=web"));
    let columns = "custom-columns=N:.metadata.name,P:.data.p";
    assert_eq!(rows(&["secret", "-o", columns]), ["N P", "s eA=="]);
    assert_eq!(rows(&["cm", "--field-selector=metadata.name!=c"]), [""; 0]);
    root.carob(&["get", "cm", "--field-selector=status.phase=x"])
        .fails(2, "status.phase");
    root.carob(&["get", "pods", "--field-selector=type=Opaque"])
        .fails(2, "type");
    let fields =
        |what: &str, fields: &str| rows(&[what, "--no-headers", "--field-selector", fields]);
    assert_eq!(fields("secrets", "type=Opaque"), ["s Opaque 1"]);
    assert_eq!(fields("secrets", "type!=Opaque"), [""; 0]);
    assert_eq!(fields("ns", "status.phase=Active"), ["default Active"]);
    assert_eq!(fields("cm", "metadata.namespace=other"), [""; 0]);
    root.carob(&["get", "cm", "-o", "go-template={{.kind}}"])
        .fails(2, "no Go templates");
    root.carob(&["get", "cm", "-o", "xml"])
        .fails(2, "custom-columns-file=FILE");
    let template = root.dir().join("template");
    std::fs::write(&template, "{.items[*].metadata.name}\n").unwrap();
    let file = format!("jsonpath-file={}", template.display());
    assert_eq!(root.carob(&["get", "cm", "-o", &file]).ok().trim(), "c");
    root.carob(&["get", "cm", "-o", "jsonpath-file=/no/such"])
        .fails(4, "No such file");
    let none = root.carob(&["get", "secrets", "-n", "other"]);
    assert_eq!(none.stderr, "No resources found in other namespace.\n");
    root.carob(&["get", "cm", "none"])
        .fails(4, "configmaps \"none\" not found");
    root.carob(&["get", "cm", "none", "--ignore-not-found"])
        .ok();
    root.carob(&["get", "deploy"])
        .fails(2, "the kinds are: pods,");
    root.carob(&["get", "cm,pods", "-w"])
        .fails(2, "you may only specify a single resource type");
}

/// What kubectl and the API server say of versions, uids and what is immutable.
#[test]
fn preconditions() {
    let root = Root::empty();
    root.apply(&map("c", json!({"a": "1"}))).ok();
    let old = root.carob(&["get", "cm", "c", "-o", "json"]).ok();
    assert_eq!(
        root.feed(
            &["replace", "-f", "-"],
            &old.replace(r#""a": "1""#, r#""a": "2""#)
        )
        .ok(),
        "configmap/c replaced\n"
    );
    assert_eq!(path(&root, "cm/c", ".data.a"), "2");
    root.feed(&["replace", "-f", "-"], &old)
        .fails(5, "the object has been modified");
    root.apply(&old).fails(5, "the object has been modified");
    root.feed(&["create", "-f", "-"], &old)
        .fails(5, "configmaps \"c\" already exists");
    let uid = path(&root, "cm/c", ".metadata.uid");
    let other = old
        .replace(&uid, "another")
        .replace("resourceVersion", "selfLink");
    root.feed(&["replace", "-f", "-"], &other)
        .fails(5, "UID in precondition: another");
    root.feed(&["replace", "-f", "-"], &map("none", json!({})))
        .fails(4, "configmaps \"none\" not found");
    let forced = root.feed(
        &["replace", "-f", "-", "--force"],
        &map("c", json!({"b": "1"})),
    );
    assert_eq!(forced.ok(), "configmap/c replaced\n");
    assert_ne!(path(&root, "cm/c", ".metadata.uid"), uid);
    assert_eq!(path(&root, "cm/c", ".data"), r#"{"b":"1"}"#);

    let merge = ["patch", "cm", "c", "--type=merge", "-p"];
    let patch = |text: &str| root.carob(&[&merge[..], &[text]].concat());
    assert_eq!(
        patch(r#"{"immutable": true}"#).ok(),
        "configmap/c patched\n"
    );
    assert_eq!(
        patch(r#"{"immutable": true}"#).ok(),
        "configmap/c patched (no change)\n"
    );
    patch(r#"{"data": {"b": "2"}}"#).fails(3, "data: field is immutable when `immutable` is set");
    patch(r#"{"immutable": false}"#).fails(3, "immutable: field is immutable");
    root.apply(&map("c", json!({"b": "2"})))
        .fails(3, "data: field is immutable when `immutable` is set");
    assert_eq!(
        patch(r#"{"metadata": {"labels": {"a": "b"}}}"#).ok(),
        "configmap/c patched\n"
    );
    patch(r#"{"metadata": {"resourceVersion": "1"}}"#).fails(5, "has been modified");
    root.apply(&secret("s", json!({"a": "1"}))).ok();
    root.carob(&["patch", "secret", "s", "-p", r#"{"type": "x"}"#])
        .fails(3, "type: field is immutable");
}

#[test]
fn labels_annotations_and_edits() {
    let root = Root::empty();
    root.apply(&map("c", json!({"a": "1"}))).ok();
    root.apply(&secret("s", json!({"a": "1"}))).ok();
    let run = |args: &[&str]| root.carob(args).ok();
    assert_eq!(run(&["label", "cm", "c", "a=b"]), "configmap/c labeled\n");
    root.carob(&["label", "cm", "c", "a=c"])
        .fails(5, "--overwrite is false");
    assert_eq!(
        run(&["label", "cm/c", "secret/s", "a=c", "--overwrite"]),
        "configmap/c labeled\nsecret/s labeled\n"
    );
    assert_eq!(
        run(&["annotate", "cm", "--all", "n=v"]),
        "configmap/c annotated\n"
    );
    assert_eq!(run(&["label", "cm", "c", "--list"]), "a=c\n");
    assert_eq!(run(&["label", "cm", "c", "a-"]), "configmap/c unlabeled\n");
    // What others have set stays, as with Pods.
    root.apply(&map("c", json!({"a": "2"}))).ok();
    assert_eq!(path(&root, "cm/c", ".metadata.annotations.n"), "v");

    let edit = |script: &str, what: &str| {
        let file = root.dir().join("editor");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut command = root.command(&["edit", what]);
        command.env("KUBE_EDITOR", format!("sh {}", file.display()));
        // A copy of what was refused stays there.
        command.env("TMPDIR", root.dir());
        root.feed_to(command, "")
    };
    assert_eq!(
        edit("sed -i 's/a: \"2\"/a: \"3\"/' \"$1\"", "cm/c").ok(),
        "configmap/c edited\n"
    );
    assert_eq!(path(&root, "cm/c", ".data.a"), "3");
    assert_eq!(edit("true", "cm/c").ok(), "");
    // What another writer has done meanwhile stays.
    let script = format!(
        "{} --root {} label cm c z=y >/dev/null; sed -i 's/\"3\"/\"4\"/' \"$1\"",
        env!("CARGO_BIN_EXE_carob"),
        root.dir().display()
    );
    assert_eq!(edit(&script, "cm/c").ok(), "configmap/c edited\n");
    assert_eq!(path(&root, "cm/c", ".data.a"), "4");
    assert_eq!(path(&root, "cm/c", ".metadata.labels.z"), "y");
    edit("sed -i 's/name: c/name: d/' \"$1\"", "cm/c").fails(5, "cannot be changed");
}

/// The bytes of a Secret are in what shows them by name of a format, and nowhere else.
#[test]
fn a_secret_is_shown_only_where_it_is_asked_for() {
    let root = Root::empty();
    let text = secret("s", json!({"password": "hunter2", "other": "x"}));
    root.apply(&text).ok();
    let last = "kubectl.kubernetes.io/last-applied-configuration";
    root.carob(&["annotate", "secret", "s", &format!("{last}={text}")])
        .ok();
    let mut said = String::new();
    let mut see = |args: &[&str], input: &str| {
        let ran = root.feed(args, input);
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
        ran
    };
    see(&["get", "secrets", "-o", "wide"], "").ok();
    let page = see(&["describe", "secret", "s"], "").ok();
    assert!(
        page.contains("password:  7 bytes") && page.contains("Annotations:  <none>"),
        "{page}"
    );
    see(&["annotate", "secret", "s", "--list"], "").ok();
    see(&["annotate", "secret", "s", &format!("{last}=y")], "");
    see(
        &[
            "patch",
            "secret",
            "s",
            "-p",
            r#"{"data": {"password": "hunter2!"}}"#,
        ],
        "",
    )
    .fails(3, "data.password: is not base64");
    let changed = text
        .replace("hunter2", "hunter22")
        .replace("\"x\"", "\"y\"");
    let diff = see(&["diff", "-f", "-"], &changed).fails(1, "-  password: '*** (before)'");
    assert!(
        diff.stdout.contains("+  other: '*** (after)'"),
        "{}",
        diff.stdout
    );
    for wrong in [
        json!({"stringData": {"password": ["hunter2"]}}),
        json!({"data": "hunter2"}),
        json!({"data": {"password": "hunter2!"}}),
        json!({"type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": "\"hunter2\""}}),
    ] {
        let mut whole = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}});
        whole
            .as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        for verb in ["apply", "create", "replace", "validate", "diff"] {
            let ran = see(&[verb, "-f", "-"], &whole.to_string());
            assert_ne!(ran.code, 0, "{verb} {whole}");
        }
    }
    // A number is no string; it is not quoted back.
    let number = "apiVersion: v1\nkind: Secret\nmetadata: {name: t}\nstringData: {p: 1234567}\n";
    let ran = see(&["apply", "-f", "-"], number).fails(3, "stringData.p: expected a string");
    assert!(!ran.stderr.contains("1234567"));
    see(
        &[
            "create",
            "secret",
            "generic",
            "t",
            "--from-literal",
            "hunter2",
        ],
        "",
    )
    .fails(2, "expected key=value");
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(path(&root, "secret/s", ".data.password"), "aHVudGVyMg==");
}

#[test]
fn bad_input() {
    let root = Root::empty();
    for (data, fault) in [
        (json!({"a/b": "x"}), "a valid config key must consist of"),
        (json!({"..": "x"}), "must not start with '..'"),
        (json!({"..a": "x"}), "must not start with '..'"),
        (json!({"": "x"}), "a valid config key must consist of"),
        (
            json!({"k".repeat(254): "x"}),
            "must be no more than 253 characters",
        ),
        (json!({"a": "x".repeat(1024 * 1024 + 1)}), "Too long"),
    ] {
        for text in [map("c", data.clone()), secret("s", data.clone())] {
            root.apply(&text).fails(3, fault);
        }
    }
    let long = "n".repeat(253);
    root.apply(&map(&long, json!({"a": "x".repeat(1024 * 1024)})))
        .ok();
    assert_eq!(
        root.carob(&["get", "cm", "-o", "name"]).ok(),
        format!("configmap/{long}\n")
    );
    root.apply(&map(&"n".repeat(254), json!({})))
        .fails(3, "253 characters");
    let keys = (0..10_000).map(|i| (format!("key-{i}"), "v".into()));
    let many = Value::Object(keys.collect());
    root.apply(&map("many", many.clone())).ok();
    root.apply(&secret("many", many)).ok();
    let table = root
        .carob(&["get", "cm,secret", "many", "--no-headers"])
        .ok();
    assert_eq!(table.matches(" 10000 ").count(), 2, "{table}");
    root.carob(&["delete", "cm,secret", "--all"]).ok();
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let root = Root::new();
    let sleeps = json!({"terminationGracePeriodSeconds": 0,
        "containers": [sh("a", "exec sleep 1000", json!({}))]});
    let names = || root.carob(&["get", "ns", "-o", "name"]).ok();
    assert_eq!(names(), "namespace/default\n");
    assert_eq!(
        root.carob(&["create", "namespace", "kept"]).ok(),
        "namespace/kept created\n"
    );
    root.carob(&["create", "ns", "kept"])
        .fails(5, "already exists");
    for namespace in ["kept", "used"] {
        root.feed(
            &["apply", "-n", namespace, "-f", "-"],
            &pod("p", sleeps.clone()),
        )
        .ok();
        root.feed(&["apply", "-n", namespace, "-f", "-"], &map("c", json!({})))
            .ok();
        root.feed(
            &["apply", "-n", namespace, "-f", "-"],
            &secret("s", json!({})),
        )
        .ok();
    }
    assert_eq!(
        names(),
        "namespace/default\nnamespace/kept\nnamespace/used\n"
    );
    let page = root.carob(&["describe", "ns", "kept"]).ok();
    assert!(page.contains("Status:       Active"), "{page}");
    root.carob(&["delete", "ns", "default"])
        .fails(5, "this namespace may not be deleted");
    root.carob(&["delete", "ns", "none"])
        .fails(4, "namespaces \"none\" not found");
    for namespace in ["kept", "used"] {
        let line = format!("namespace {namespace:?} deleted\n");
        assert_eq!(root.carob(&["delete", "ns", namespace]).ok(), line);
        let left = root.carob(&["get", "pods,cm,secrets", "-n", namespace, "-o", "name"]);
        assert_eq!(left.ok(), "");
    }
    assert_eq!(names(), "namespace/default\n");
}

/// A command that goes on, and the lines that it writes.
struct Watch(
    std::process::Child,
    std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
);

impl Watch {
    fn begin(root: &Root, args: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = root
            .command(args)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watch(child, lines)
    }

    fn next(&mut self) -> String {
        let line = self.1.next().unwrap().unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn nothing_new_comes_into_a_namespace_that_is_being_deleted() {
    let root = Root::new();
    let held = json!({"terminationGracePeriodSeconds": 1000,
        "containers": [sh("a", "trap '' TERM; while :; do sleep 1; done", json!({}))]});
    for namespace in ["made", "used"] {
        if namespace == "made" {
            root.carob(&["create", "ns", "made"]).ok();
        }
        let apply = |text: &str| root.feed(&["apply", "-n", namespace, "-f", "-"], text);
        apply(&pod("p", held.clone())).ok();
        apply(&map("old", json!({}))).ok();
        let mut deletion = root
            .command(&["delete", "ns", namespace])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        until(|| {
            let rows = root.carob(&["get", "ns", namespace]).ok();
            match rows.contains("Terminating") {
                true => Ok(()),
                false => Err(rows),
            }
        })
        .unwrap();
        let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: new}\nspec: \
                     {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
        let new = [
            ("pods", pod("new", held.clone())),
            ("configmaps", map("new", json!({}))),
            ("secrets", secret("new", json!({}))),
            ("persistentvolumeclaims", claim.to_owned()),
        ];
        for (kind, text) in new {
            let refusal = format!(
                "{kind} \"new\" is forbidden: unable to create new content in namespace \
                 {namespace} because it is being terminated"
            );
            apply(&text).fails(5, &refusal);
            root.feed(&["create", "-n", namespace, "-f", "-"], &text)
                .fails(5, &refusal);
        }
        // What is there may be changed until it goes.
        apply(&map("old", json!({"a": "b"}))).ok();
        let force = [
            "delete",
            "pod",
            "p",
            "-n",
            namespace,
            "--force",
            "--grace-period=0",
        ];
        root.carob(&force).ok();
        assert!(deletion.wait().unwrap().success());
        root.carob(&["get", "ns", namespace]).fails(4, "not found");
        apply(&map("new", json!({}))).ok();
        root.carob(&["delete", "ns", namespace]).ok();
    }
}

#[test]
fn errors_come_in_the_order_of_what_was_asked() {
    let root = Root::empty();
    let ran = root.carob(&["get", "cm", "a", "b", "c"]);
    let named: Vec<&str> = ran
        .stderr
        .lines()
        .filter_map(|l| l.strip_prefix("error: configmaps \""))
        .filter_map(|l| l.split('"').next())
        .collect();
    assert_eq!((ran.code, named), (4, vec!["a", "b", "c"]), "{ran:?}");
}

/// As the controller of a cluster does it, once the last Pod has ended.
#[test]
fn a_namespace_that_nobody_waits_for_ends_with_its_pods() {
    let root = Root::new();
    let deaf = json!({"terminationGracePeriodSeconds": 2,
        "containers": [sh("a", "trap '' TERM; while :; do sleep 0.1; done", json!({}))]});
    root.feed(&["apply", "-n", "x", "-f", "-"], &pod("p", deaf))
        .ok();
    root.carob(&["delete", "ns", "x", "--wait=false"]).ok();
    let row = root.carob(&["get", "ns", "x", "--no-headers"]).ok();
    assert!(row.contains("Terminating"), "{row}");
    for dry_run in ["none", "server"] {
        let dry_run = format!("--dry-run={dry_run}");
        root.feed(
            &["apply", "-n", "x", &dry_run, "-f", "-"],
            &map("c", json!({})),
        )
        .fails(5, "because it is being terminated");
    }
    root.carob(&["wait", "ns/x", "--for=delete"]).ok();
    root.carob(&["get", "ns", "x"]).fails(4, "not found");
    root.feed(&["apply", "-n", "x", "-f", "-"], &map("c", json!({})))
        .ok();
}

#[test]
fn a_watch_of_names() {
    let root = Root::empty();
    root.apply(&map("a", json!({}))).ok();
    let args = ["get", "cm", "-w", "--output-watch-events", "-o", "name"];
    assert_eq!(Watch::begin(&root, &args).next(), "configmap/a");
}

#[test]
fn a_watch_shows_each_change() {
    let root = Root::empty();
    root.apply(&map("a", json!({}))).ok();
    let line = "jsonpath={.metadata.name}{.data.k}{\"\\n\"}";
    let mut watch = Watch::begin(&root, &["get", "cm", "-A", "-w", "-o", line]);
    assert_eq!(watch.next(), "a");
    root.apply(&map("a", json!({"k": "1"}))).ok();
    assert_eq!(watch.next(), "a1");
    root.feed(
        &["apply", "-n", "fresh", "-f", "-"],
        &map("b", json!({"k": "2"})),
    )
    .ok();
    assert_eq!(watch.next(), "b2");
    // What has gone is shown as it was.
    root.carob(&["delete", "cm", "a"]).ok();
    assert_eq!(watch.next(), "a1");
    root.apply(&map("a", json!({"k": "3"}))).ok();
    assert_eq!(watch.next(), "a3");
}

#[test]
fn a_watch_says_what_has_happened() {
    let root = Root::empty();
    root.apply(&map("a", json!({}))).ok();
    let mut all = Watch::begin(&root, &["get", "cm", "-w", "--output-watch-events"]);
    assert_eq!(all.next(), "EVENT NAME DATA AGE");
    assert!(all.next().starts_with("ADDED a 0 "));
    let mut later = Watch::begin(
        &root,
        &[
            "get",
            "cm",
            "--watch-only",
            "--output-watch-events",
            "-o",
            "json",
        ],
    );
    // Its first look is over when it sleeps in poll(2).
    let sleeps = |pid: u32| {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall"));
        call.is_ok_and(|c| c.starts_with(&format!("{} ", libc::SYS_poll)))
    };
    while !sleeps(later.0.id()) {
        std::thread::yield_now();
    }
    root.apply(&map("b", json!({"k": "1"}))).ok();
    root.carob(&["delete", "cm", "a"]).ok();
    assert!(all.next().starts_with("ADDED b 1 "));
    assert!(all.next().starts_with("DELETED a 0 "));
    let mut text = String::new();
    while serde_json::from_str::<Value>(&text).is_err() {
        text.push_str(&later.next());
    }
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["metadata"]["name"], "b");
    root.carob(&["get", "cm", "--output-watch-events"])
        .fails(2, "--watch or --watch-only");
    // A namespace that is there because something is in it.
    let mut spaces = Watch::begin(&root, &["get", "ns", "-w", "--no-headers"]);
    assert!(spaces.next().starts_with("default Active "));
    root.feed(&["apply", "-n", "shop", "-f", "-"], &map("c", json!({})))
        .ok();
    assert!(spaces.next().starts_with("shop Active "));
}

/// As `kubectl wait` does of any kind.
#[test]
fn what_is_waited_for_comes_changes_and_goes() {
    let root = Root::empty();
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: d}\nspec:\n  \
                 accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Mi}}\n";
    root.apply(claim).ok();
    let wait = |args: &[&str]| root.carob(&[&["wait"], args].concat());
    let bound = wait(&["pvc/d", "--for=jsonpath={.status.phase}=Bound"]).ok();
    assert_eq!(bound, "persistentvolumeclaim/d condition met\n");
    let wide = root.carob(&["get", "pvc", "-o", "wide"]).ok();
    assert!(wide.lines().next().unwrap().ends_with("AGE   VOLUMEMODE"));
    assert!(wide.lines().nth(1).unwrap().ends_with("Filesystem"));
    wait(&["cm/x", "--for=delete"]).ok();
    wait(&["cm/x", "--for=jsonpath={.data.a}"]).fails(4, "configmaps \"x\" not found");
    wait(&["cm/x", "--for=create", "--timeout=0s"])
        .fails(6, "timed out waiting for the condition on configmaps/x");
    wait(&["cm", "--all", "--for=jsonpath={.data.a}"]).fails(4, "no matching resources");
    wait(&["cm", "--for=delete"]).fails(2, "no ConfigMap is named");
    wait(&["deploy/x", "--for=delete"]).fails(2, "there is no kind \"deploy\"");
    wait(&["ns/default", "--for=delete", "--timeout=0s"]).fails(6, "namespaces/default");

    let begin = |args: &[&str]| Watch::begin(&root, &[&["wait"], args].concat());
    let mut comes = begin(&["cm/x", "secret/y", "--for=create"]);
    let mut space = begin(&["ns/shop", "--for=create"]);
    root.apply(&map("x", json!({"a": "1"}))).ok();
    assert_eq!(comes.next(), "configmap/x condition met");
    let mut changes = begin(&["cm/x", "--for=jsonpath={.data.a}=2"]);
    let mut goes = begin(&["cm/x", "--for=delete"]);
    root.apply(&map("x", json!({"a": "2"}))).ok();
    assert_eq!(changes.next(), "configmap/x condition met");
    root.apply(&secret("y", json!({"p": "1"}))).ok();
    assert_eq!(comes.next(), "secret/y condition met");
    root.feed(&["apply", "-n", "shop", "-f", "-"], &map("c", json!({})))
        .ok();
    assert_eq!(space.next(), "namespace/shop condition met");
    let mut emptied = begin(&["ns/shop", "--for=delete"]);
    root.carob(&["delete", "cm", "c", "-n", "shop"]).ok();
    assert_eq!(emptied.next(), "namespace/shop condition met");
    root.carob(&["delete", "cm", "x"]).ok();
    assert_eq!(goes.next(), "configmap/x condition met");
}

/// Objects other than Pods have no events.
#[test]
fn events_of_objects() {
    let root = Root::empty();
    root.apply(&map("a", json!({}))).ok();
    let none = root.carob(&["events", "--for", "cm/a"]);
    assert_eq!(none.stderr, "No events found in default namespace.\n");
    root.carob(&["events", "--for", "cm/b"])
        .fails(4, "configmaps \"b\" not found");
    let list = root.carob(&["events", "--for", "cm/a", "-o", "json"]).ok();
    assert_eq!(
        serde_json::from_str::<Value>(&list).unwrap()["items"],
        json!([])
    );
}

/// Objects of a namespace are files of a directory: none leads to another.
#[test]
fn a_namespace_is_no_path() {
    let root = Root::new();
    root.carob(&["create", "secret", "generic", "s", "--from-literal=a=b"])
        .ok();
    for verb in ["get", "delete", "describe"] {
        root.carob(&[verb, "configmap", "s", "-n", "../secrets/default"])
            .fails(2, "namespace \"../secrets/default\"");
    }
    root.carob(&["get", "secret", "s"]).ok();
}
