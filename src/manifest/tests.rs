//! Whole manifests through the whole way.

use super::*;
use crate::pod::spec::*;

fn source(text: &str) -> Vec<Source> {
    vec![Source {
        name: "a.yaml".into(),
        bytes: text.as_bytes().to_vec(),
    }]
}

fn good(text: &str) -> Parsed {
    parse(&source(text), None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn problems(text: &str) -> Vec<String> {
    match parse(&source(text), None) {
        Ok(_) => Vec::new(),
        Err(e) => e.get_problems().iter().map(Problem::to_string).collect(),
    }
}

/// A Pod with one container, and these lines in its spec and its container.
fn pod_with(spec: &str, container: &str) -> String {
    let indent =
        |text: &str, by: &str| -> String { text.lines().map(|l| format!("{by}{l}\n")).collect() };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n{}  containers:\n  - name: app\n    image: app:1\n{}",
        indent(spec, "  "),
        indent(container, "    ")
    )
}

#[test]
fn smallest() {
    let parsed = good(&pod_with("", ""));
    let p = &parsed.pods[0];
    dbg!(p);
}
