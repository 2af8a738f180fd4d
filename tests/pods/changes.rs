//! The verbs that change a Pod that is there: apply's merge, create, replace, patch, edit,
//! diff.

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, pod, sh};

fn web(extra: Value) -> String {
    let mut whole = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"mine": "1", "old": "1"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("a", "exec sleep 1000", json!({}))],
        },
    });
    if let Value::Object(extra) = extra {
        for (key, value) in extra {
            whole[key] = value;
        }
    }
    whole.to_string()
}

fn labelled(labels: Value) -> String {
    web(json!({"metadata": {"name": "p", "labels": labels}}))
}

#[test]
fn apply_keeps_what_others_have_set_and_takes_its_own_away() {
    let root = Root::new();
    root.apply(&web(json!({}))).ok();
    root.carob(&["label", "pod", "p", "theirs=2"]).ok();
    root.carob(&["annotate", "pod", "p", "note=x"]).ok();
    assert_eq!(root.apply(&web(json!({}))).ok(), "pod/p unchanged\n");
    root.apply(&labelled(json!({"mine": "9"}))).ok();
    let labels: Value = serde_json::from_str(&root.field("p", ".metadata.labels")).unwrap();
    assert_eq!(labels, json!({"mine": "9", "theirs": "2"}));
    assert_eq!(root.field("p", ".metadata.annotations.note"), "x");
    // A limit alone is the request too, and both go up.
    let of = |cpu: &str| {
        let limits = json!({"resources": {"limits": {"cpu": cpu, "memory": "64Mi"}}});
        pod(
            "q",
            json!({"terminationGracePeriodSeconds": 0, "containers": [sh("a", "exec sleep 1000", limits)]}),
        )
    };
    root.apply(&of("100m")).ok();
    assert_eq!(root.apply(&of("200m")).ok(), "pod/q configured\n");
    assert_eq!(
        root.field("q", ".spec.containers[0].resources.requests.cpu"),
        "200m"
    );
}

#[test]
fn create_and_replace() {
    let root = Root::new();
    let text = web(json!({}));
    root.feed(&["replace", "-f", "-"], &text)
        .fails(4, "pods \"p\" not found");
    let dry = root.feed(&["create", "-f", "-", "--dry-run=server"], &text);
    assert_eq!(dry.ok(), "pod/p created (server dry run)\n");
    assert_eq!(
        root.feed(&["create", "-f", "-"], &text).ok(),
        "pod/p created\n"
    );
    root.feed(&["create", "-f", "-"], &text)
        .fails(5, "already exists");
    root.carob(&["label", "pod", "p", "theirs=2"]).ok();
    let uid = root.field("p", ".metadata.uid");
    assert_eq!(
        root.feed(&["replace", "-f", "-"], &text).ok(),
        "pod/p replaced\n"
    );
    // Nothing stays that the manifest has not.
    assert_eq!(root.field("p", ".metadata.labels.theirs"), "");
    let other = text.replace("sleep 1000", "sleep 2000");
    root.feed(&["replace", "-f", "-"], &other)
        .fails(5, "cannot be changed in: spec.containers[0].command[2]");
    assert_eq!(root.field("p", ".metadata.uid"), uid);
    let forced = root.feed(
        &["replace", "-f", "-", "--force", "--grace-period=0"],
        &other,
    );
    assert_eq!(forced.ok(), "pod/p replaced\n");
    assert_ne!(root.field("p", ".metadata.uid"), uid);
}

#[test]
fn patches_of_three_kinds() {
    let root = Root::new();
    root.apply(&web(json!({}))).ok();
    let patch = |args: &[&str]| root.carob(&[&["patch", "pod", "p"], args].concat());
    let strategic =
        r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"1m"}}}]}}"#;
    // BestEffort would become Burstable.
    patch(&["-p", strategic]).fails(5, "QOS Class may not change");
    let yaml = "metadata: {labels: {b: c, old: null}}";
    let dry = patch(&["-p", yaml, "--dry-run=server"]);
    assert_eq!(dry.ok(), "pod/p patched (server dry run)\n");
    assert_eq!(root.field("p", ".metadata.labels.old"), "1");
    assert_eq!(patch(&["-p", yaml]).ok(), "pod/p patched\n");
    assert_eq!(patch(&["-p", yaml]).ok(), "pod/p patched (no change)\n");
    assert_eq!(root.field("p", ".metadata.labels.b"), "c");
    assert_eq!(root.field("p", ".metadata.labels.old"), "");
    let json = r#"[{"op":"test","path":"/metadata/labels/b","value":"c"},{"op":"remove","path":"/metadata/labels/b"}]"#;
    assert_eq!(
        patch(&["--type", "json", "-p", json]).ok(),
        "pod/p patched\n"
    );
    patch(&["--type", "json", "-p", json]).fails(3, "nothing at \"/metadata/labels/b\"");
    let merge = r#"{"spec":{"activeDeadlineSeconds":9000}}"#;
    let file = root.dir().join("patch.json");
    std::fs::write(&file, merge).unwrap();
    let out = patch(&[
        "--type=merge",
        "--patch-file",
        file.to_str().unwrap(),
        "-o",
        "name",
    ]);
    assert_eq!(out.ok(), "pod/p\n");
    assert_eq!(root.field("p", ".spec.activeDeadlineSeconds"), "9000");
    patch(&["-p", r#"{"spec":{"hostname":"h"}}"#]).fails(5, "cannot be changed in: spec.hostname");
    patch(&["-p", r#"{"spec":{"frob":1}}"#]).fails(3, "frob");
    patch(&["-p", r#"{"metadata":{"name":"q"}}"#]).fails(5, "cannot be changed");
}

#[test]
fn an_edit_is_saved_refused_or_cancelled() {
    let root = Root::new();
    root.apply(&web(json!({}))).ok();
    let edit = |editor: &str| {
        let mut c = root.command(&["edit", "pod", "p"]);
        c.env("KUBE_EDITOR", editor).env("TMPDIR", root.dir());
        root.feed_to(c, "")
    };
    let ran = edit("true");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("Edit cancelled, no changes made."),
        "{ran:?}"
    );
    assert_eq!(
        edit("sed -i 's/mine: .*/mine: edited/'").ok(),
        "pod/p edited\n"
    );
    assert_eq!(root.field("p", ".metadata.labels.mine"), "edited");
    // What somebody else changes meanwhile stays.
    let label = root.command(&["label", "pod", "p", "theirs=1"]);
    let words = std::iter::once(label.get_program()).chain(label.get_args());
    let label: Vec<_> = words.map(|w| w.to_str().unwrap()).collect();
    let editor = format!(
        "{} >/dev/null; sed -i 's/mine: .*/mine: again/'",
        label.join(" ")
    );
    assert_eq!(edit(&editor).ok(), "pod/p edited\n");
    let labels = root.field("p", ".metadata.labels");
    assert!(
        labels.contains(r#""mine":"again""#) && labels.contains(r#""theirs":"1""#),
        "{labels}"
    );
    // The second time the editor leaves the error as it is, and the copy is kept.
    let ran = edit("sed -i 's/restartPolicy: Always/restartPolicy: Sometimes/'")
        .fails(3, "restartPolicy");
    let (_, copy) = ran
        .stderr
        .split_once("a copy of your changes is in ")
        .unwrap();
    let text = std::fs::read_to_string(copy.trim()).unwrap();
    assert!(text.contains("# pods \"p\" was not valid:\n# * "), "{text}");
    assert!(text.contains("restartPolicy: Sometimes"), "{text}");
    edit("false").fails(1, "the editor \"false\" failed");
}

/// Labels, patches of two kinds, applies and a debug container, all at the same time.
#[test]
fn writers_at_the_same_time_lose_nothing() {
    let root = Root::new();
    root.apply(&web(json!({}))).ok();
    let of = |i: usize| match i % 3 {
        0 => vec![
            "label".to_owned(),
            "pod".into(),
            "p".into(),
            format!("k{i}=v"),
        ],
        kind => {
            let (kind, patch) = match kind {
                1 => (
                    "merge",
                    json!({"metadata": {"labels": {format!("k{i}"): "v"}}}),
                ),
                _ => {
                    let path = format!("/metadata/labels/k{i}");
                    ("json", json!([{"op": "add", "path": path, "value": "v"}]))
                }
            };
            let words = ["patch", "pod", "p", "--type", kind, "-p"].map(str::to_owned);
            words.into_iter().chain([patch.to_string()]).collect()
        }
    };
    let debug = ["debug", "p", "--image", IMAGE, "-c", "look", "--", "true"];
    std::thread::scope(|threads| {
        for i in 0..12 {
            let root = &root;
            threads.spawn(move || {
                let words = of(i);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                root.carob(&words).ok()
            });
        }
        threads.spawn(|| root.carob(&debug).ok());
        threads.spawn(|| root.apply(&web(json!({}))).ok());
    });
    let labels = root.field("p", ".metadata.labels");
    for i in 0..12 {
        assert!(labels.contains(&format!("\"k{i}\":\"v\"")), "{i}: {labels}");
    }
    assert_eq!(root.field("p", ".spec.ephemeralContainers[*].name"), "look");
}

#[test]
fn a_diff_has_an_exit_code() {
    let root = Root::new();
    let diff = |text: &str| root.feed(&["diff", "-f", "-"], text);
    let new = diff(&web(json!({})));
    assert_eq!(new.code, 1, "{new:?}");
    assert!(new.stdout.contains("+  name: p\n"), "{new:?}");
    root.apply(&web(json!({}))).ok();
    assert_eq!(diff(&web(json!({}))).ok(), "");
    let changed = diff(&labelled(json!({"mine": "2", "old": "1"})));
    assert_eq!(changed.code, 1, "{changed:?}");
    assert!(
        changed
            .stdout
            .starts_with("--- LIVE/v1.Pod.default.p\n+++ MERGED/v1.Pod.default.p\n@@ -")
    );
    let lines: Vec<&str> = changed
        .stdout
        .lines()
        .skip(2)
        .filter(|l| l.starts_with(['-', '+']))
        .collect();
    assert_eq!(lines, ["-    mine: \"1\"", "+    mine: \"2\""]);
    let wrong = diff("kind: Pod");
    assert!(wrong.code > 1, "{wrong:?}");
    let mut c = root.command(&["diff", "-f", "-"]);
    c.env("KUBECTL_EXTERNAL_DIFF", "diff -r -q")
        .env("TMPDIR", root.dir());
    let ran = root.feed_to(c, &labelled(json!({"mine": "2"})));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout.contains("MERGED/v1.Pod.default.p differ"),
        "{ran:?}"
    );
}
