//! `carob top`: what Pods use, with kubectl's columns.

use serde_json::{Value, json};

use crate::root::{Root, pod, sh};

fn labeled(name: &str, label: &str, containers: Vec<Value>) -> String {
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": containers,
    });
    let mut manifest: Value = serde_json::from_str(&pod(name, spec)).unwrap();
    manifest["metadata"]["labels"] = json!({"app": label});
    manifest.to_string()
}

fn root() -> Root {
    let root = Root::new();
    let idle = || sh("idle", "exec sleep 1000", json!({}));
    let busy = sh("busy", "while :; do :; done", json!({}));
    // Anonymous memory, and a file that is read once and not again.
    let fat = "head -c 60000000 /dev/zero > /file; cat /file > /dev/null; \
               x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; exec sleep 1000 < /dev/null";
    root.apply(&labeled("a", "x", vec![idle(), busy])).ok();
    root.apply(&labeled("b", "y", vec![idle()])).ok();
    root.apply(&labeled("done", "x", vec![sh("main", "true", json!({}))]))
        .ok();
    root.apply(&labeled("fat", "z", vec![sh("main", fat, json!({}))]))
        .ok();
    root.becomes("done", ".status.phase", "Succeeded");
    root
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let words = |l: &str| l.split_whitespace().map(str::to_owned).collect();
    text.lines().map(words).collect()
}

fn millicores(cell: &str) -> u64 {
    cell.strip_suffix('m').unwrap().parse().unwrap()
}

fn mib(cell: &str) -> u64 {
    cell.strip_suffix("Mi").unwrap().parse().unwrap()
}

#[test]
fn pods_and_containers_are_shown_with_what_they_use() {
    let root = root();
    root.says("fat", "main", "ready");
    let text = root.carob(&["top", "pods"]).ok();
    let table = rows(&text);
    assert_eq!(table[0], ["NAME", "CPU(cores)", "MEMORY(bytes)"]);
    let names: Vec<&str> = table[1..].iter().map(|r| r[0].as_str()).collect();
    assert_eq!(names, ["a", "b", "fat"], "{text}");
    assert!(millicores(&table[1][1]) > 20, "{text}");
    assert!(millicores(&table[2][1]) < 20, "{text}");
    assert!(mib(&table[2][2]) < 20, "{text}");
    // The file's pages do not count, but for those that are active.
    assert!(mib(&table[3][2]) < 50, "{text}");

    let table = rows(
        &root
            .carob(&["top", "containers", "a", "--sort-by=cpu"])
            .ok(),
    );
    assert_eq!(table[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
    let names: Vec<&str> = table[1..].iter().map(|r| r[1].as_str()).collect();
    assert_eq!(names, ["busy", "idle"]);
    let same = rows(
        &root
            .carob(&["top", "pod/a", "--containers", "--no-headers"])
            .ok(),
    );
    assert_eq!((same.len(), same[0][1].as_str()), (2, "idle"));

    let table = rows(
        &root
            .carob(&["top", "po", "-l", "app in (x,y)", "-A", "--sum"])
            .ok(),
    );
    assert_eq!(table[0][0], "NAMESPACE");
    assert_eq!(table.len(), 5);
    assert_eq!(table[3], ["________", "________"]);
    let sum = millicores(&table[1][2]) + millicores(&table[2][2]);
    assert!(millicores(&table[4][0]).abs_diff(sum) <= 1);
    let table = rows(&root.carob(&["top", "pods", "-o", "wide"]).ok());
    assert_eq!(
        table[0][3..],
        ["CPU(stalled)", "MEMORY(stalled)", "IO(stalled)"]
    );
    for cell in &table[1][3..] {
        assert!(cell.ends_with('%') || cell == "<none>", "{cell}");
    }
}

#[test]
fn metrics_have_kubernetes_form() {
    let root = root();
    let text = root
        .carob(&["top", "pod", "a", "-o", "json", "--interval=1s"])
        .ok();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["apiVersion"], "metrics.k8s.io/v1beta1");
    assert_eq!(value["kind"], "PodMetrics");
    assert_eq!(
        value["metadata"],
        json!({"name": "a", "namespace": "default", "labels": {"app": "x"}})
    );
    assert_eq!(value["window"], "1000ms");
    let busy = &value["containers"][1];
    assert_eq!(busy["name"], "busy");
    let cpu = busy["usage"]["cpu"]
        .as_str()
        .unwrap()
        .strip_suffix('n')
        .unwrap();
    let cpu: u64 = cpu.parse().unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert!((20_000_000..=1_100_000_000 * cpus).contains(&cpu), "{text}");
    assert!(busy["usage"]["memory"].as_str().unwrap().ends_with("Ki"));
    let list = root.carob(&["top", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(list.ok(), "a b fat");

    root.carob(&["pause", "a"]).ok();
    let table = rows(&root.carob(&["top", "pods", "a", "--no-headers"]).ok());
    assert_eq!(millicores(&table[0][1]), 0, "{table:?}");
    root.carob(&["top", "pods", "done"])
        .fails(5, "pod \"done\" has no running container");
    root.carob(&["top", "pods", "nope"]).fails(4, "not found");
    root.carob(&["top", "nodes"]).fails(2, "no kind \"nodes\"");
    root.carob(&["top", "pods", "--interval=0s"])
        .fails(2, "--interval");
    root.carob(&["top", "pods", "a", "-l", "app=x"])
        .fails(2, "names cannot go with");
    let none = root.carob(&["top", "pods", "-n", "other"]);
    assert!(
        none.stderr
            .contains("No resources found in other namespace."),
        "{none:?}"
    );
}
