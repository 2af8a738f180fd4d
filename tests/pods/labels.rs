//! `carob label` and `carob annotate`.

use std::process::Stdio;

use crate::root::{Ran, Root, kill_9, script_pod};

fn root_with(names: &[&str]) -> Root {
    let root = Root::new();
    for name in names {
        root.apply(&script_pod(name, "Never", 0, "exec sleep 1000"))
            .ok();
    }
    root
}

fn label(root: &Root, args: &[&str]) -> Ran {
    root.carob(&[&["label"], args].concat())
}

#[test]
fn labels_come_change_and_go() {
    let root = root_with(&["web"]);
    let pid = root.pid("web", "main");
    let label = |args: &[&str]| label(&root, args);
    let is = |key: &str| root.field("web", &format!(".metadata.labels.{key}"));
    assert_eq!(
        label(&["pod", "web", "app=x", "tier=front"]).ok(),
        "pod/web labeled\n"
    );
    assert_eq!((is("app"), is("tier")), ("x".into(), "front".into()));
    assert_eq!(label(&["pod/web", "app=x"]).ok(), "pod/web not labeled\n");
    let refused = label(&["pod", "web", "app=y", "new=1"]);
    refused.fails(
        5,
        "'app' already has a value (x), and --overwrite is false\n",
    );
    assert_eq!((is("app"), is("new")), ("x".into(), String::new()));
    assert_eq!(
        label(&["pod", "web", "app=y", "--overwrite", "--dry-run=client"]).ok(),
        "pod/web labeled (dry run)\n"
    );
    assert_eq!(is("app"), "x");
    let changed = label(&["pod", "web", "app=y", "tier-", "--overwrite"]);
    assert_eq!(changed.ok(), "pod/web labeled\n");
    assert_eq!((is("app"), is("tier")), ("y".into(), String::new()));
    assert_eq!(label(&["pod", "web", "--list"]).ok(), "app=y\n");
    assert_eq!(
        label(&["pod", "web", "app-", "gone-"]).ok(),
        "label \"gone\" not found.\npod/web unlabeled\n"
    );
    assert_eq!(root.field("web", ".metadata.labels"), "");
    // The container has not noticed; its monitor has, and its successor will.
    label(&["pod", "web", "app=z"]).ok();
    kill_9(root.monitor_pid("web"));
    assert_eq!(
        root.carob(&["get", "pods", "-l", "app=z", "-o", "name"])
            .ok(),
        "pod/web\n"
    );
    assert_eq!(label(&["pod", "web", "app-"]).ok(), "pod/web unlabeled\n");
    assert_eq!(root.pid("web", "main"), pid);
    let shown = label(&["pod", "web", "a=b", "-o", "jsonpath={.metadata.labels.a}"]);
    assert_eq!(shown.ok(), "b");

    label(&["pod", "none", "a=b"]).fails(4, "pods \"none\" not found");
    label(&["pod", "web"]).fails(2, "nothing to set or to remove");
    label(&["pods", "a=b"]).fails(2, "no Pod is named");
    label(&["pod", "web", "a=b c"]).fails(3, "metadata.labels: Invalid value: \"b c\"");
    label(&["pod", "web", "a=b", "a-"]).fails(2, "at the same time");
    label(&["pod", "a=b", "web"]).fails(2, "before what is to be changed");
}

#[test]
fn many_pods_get_a_label() {
    let root = root_with(&["a", "b"]);
    let label = |args: &[&str]| label(&root, args);
    label(&["pod", "a", "app=x"]).ok();
    assert_eq!(
        label(&["pods", "--all", "env=test"]).ok(),
        "pod/a labeled\npod/b labeled\n"
    );
    assert_eq!(
        label(&["pods", "-l", "app=x", "env-"]).ok(),
        "pod/a unlabeled\n"
    );
    // One that cannot be changed does not keep the others from it.
    let some = label(&["pods", "--all", "env=prod"]);
    assert_eq!(some.stdout, "pod/a labeled\n");
    some.fails(5, "pods \"b\": 'env' already has a value (test)");
    let listed = label(&["pods", "--all", "--list"]);
    assert_eq!(listed.stdout, " app=x\n env=prod\n env=test\n");
    assert_eq!(
        listed.stderr,
        "Listing labels for Pod./a:\nListing labels for Pod./b:\n"
    );
    let none = label(&["pods", "-l", "app=y", "a=b"]);
    assert_eq!(
        (none.stderr.as_str(), none.stdout.as_str()),
        ("No resources found\n", "")
    );
    none.ok();
}

#[test]
fn annotations_are_checked_as_in_a_manifest() {
    let root = root_with(&["web"]);
    let annotate = |args: &[&str]| root.carob(&[&["annotate", "pod", "web"], args].concat());
    assert_eq!(
        annotate(&["note=a = b", "x/y=z"]).ok(),
        "pod/web annotated\n"
    );
    assert_eq!(root.field("web", ".metadata.annotations.note"), "a = b");
    annotate(&["note=c"]).fails(5, "'note' already has a value (a = b)");
    assert_eq!(annotate(&["note-", "x/y-"]).ok(), "pod/web annotated\n");
    assert_eq!(root.field("web", ".metadata.annotations"), "");
    annotate(&["carob/when-log-full=no"]).fails(3, "supported values: \"drop\", \"block\"");
    annotate(&["carob/other=x"]).fails(3, "carob knows no such annotation");
    annotate(&["carob/when-log-full=block"]).ok();
    let app_armor = "container.apparmor.security.beta.kubernetes.io/main=unconfined";
    annotate(&[app_armor]).fails(5, "cannot be changed");
    // What is there is what a manifest that is applied again is compared with.
    let yaml = root.carob(&["get", "pod", "web", "-o", "yaml"]).ok();
    assert_eq!(root.apply(&yaml).ok(), "pod/web unchanged\n");
    let plain = script_pod("web", "Never", 0, "exec sleep 1000");
    assert_eq!(root.apply(&plain).ok(), "pod/web configured\n");
    assert_eq!(root.field("web", ".metadata.annotations"), "");
}

#[test]
fn a_wait_notices_a_label() {
    let root = root_with(&["web"]);
    let waits = root
        .command(&["wait", "pod/web", "--for=jsonpath={.metadata.labels.app}=x"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    label(&root, &["pod", "web", "app=w"]).ok();
    label(&root, &["pod", "web", "app=x", "--overwrite"]).ok();
    let said = waits.wait_with_output().unwrap();
    assert_eq!(said.stdout, b"pod/web condition met\n");
}
