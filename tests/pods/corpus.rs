//! The corpus: manifests with the verdict of each, one file of `corpus/` a subject.
//!
//! A case begins with its name. The manifest follows, then the verdict, then what makes
//! the verdict exact:
//!
//! ```text
//! == a list that is null
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: p}
//! spec: {nodeName: n1, volumes: null, containers: [{name: c, image: "i:1"}]}
//! -- accepted
//! /spec/volumes = absent
//! /spec/containers/0/imagePullPolicy = "IfNotPresent"
//! note: spec.nodeName: there is one machine
//! ```
//!
//! - `accepted`: each line is a JSON pointer (RFC 6901) into the v1 object that comes out (of
//!   several the last, which is the Pod), with its value in JSON or `absent`, or a part of a warning. There are no more warnings
//!   than these.
//! - `refused`: a cluster does not run this either. Each line is a part of one problem, as
//!   `path: message`. There are no more problems than these.
//! - `unsupported`: a cluster takes this and carob does not yet. Lines as with `refused`.
//!
//! A verdict is Kubernetes', or what docs/fields.md says. Where carob differs from both, carob
//! is mended; a case does not record the difference.

use std::collections::HashSet;

use serde_json::Value;

use crate::root::{Ran, Root};

const FILES: &[(&str, &str)] = &[
    ("commands", include_str!("corpus/commands.txt")),
    ("containers", include_str!("corpus/containers.txt")),
    ("env", include_str!("corpus/env.txt")),
    ("forms", include_str!("corpus/forms.txt")),
    ("kinds", include_str!("corpus/kinds.txt")),
    ("lifecycle", include_str!("corpus/lifecycle.txt")),
    ("metadata", include_str!("corpus/metadata.txt")),
    ("network", include_str!("corpus/network.txt")),
    ("no_effect", include_str!("corpus/no_effect.txt")),
    ("ports", include_str!("corpus/ports.txt")),
    ("resources", include_str!("corpus/resources.txt")),
    ("scheduling", include_str!("corpus/scheduling.txt")),
    ("security", include_str!("corpus/security.txt")),
    ("volumes", include_str!("corpus/volumes.txt")),
];

struct Case {
    file: &'static str,
    name: &'static str,
    manifest: String,
    verdict: &'static str,
    lines: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(file, text) in FILES {
        // What stands before the first case is the file's heading.
        for case in text.split("\n== ").skip(1) {
            let (name, rest) = case.split_once('\n').unwrap_or((case, ""));
            let (manifest, end) = rest
                .split_once("\n-- ")
                .unwrap_or_else(|| panic!("corpus/{file}.txt: {name}: there is no verdict"));
            let mut lines = end.lines().filter(|l| !l.is_empty());
            cases.push(Case {
                file,
                name,
                manifest: format!("{manifest}\n"),
                verdict: lines.next().unwrap_or_default(),
                lines: lines.collect(),
            });
        }
    }
    cases
}

/// What came out otherwise than the case says.
fn differences(case: &Case, ran: &Ran) -> Vec<String> {
    match (case.verdict, ran.code) {
        ("accepted", 0) => accepted(case, ran),
        ("refused", 3) | ("unsupported", 9) => refused(case, ran),
        ("accepted" | "refused" | "unsupported", code) => {
            let said = format!("{}{}", ran.stdout, ran.stderr);
            vec![format!(
                "is {}, and carob exits with {code}: {said}",
                case.verdict
            )]
        }
        (other, _) => vec![format!("there is no verdict {other:?}")],
    }
}

fn accepted(case: &Case, ran: &Ran) -> Vec<String> {
    // Of the List itself there are cases too.
    let whole = case
        .lines
        .iter()
        .any(|l| l.starts_with("/items") || l.contains("\"List\""));
    let object: Value = match serde_json::from_str::<Value>(&ran.stdout) {
        Ok(mut object) if object["kind"] == "List" && !whole => {
            let items = object["items"].as_array_mut();
            items.and_then(Vec::pop).unwrap_or_default()
        }
        Ok(object) => object,
        Err(e) => return vec![format!("no object comes out: {e}: {}", ran.stdout)],
    };
    let mut wrong = Vec::new();
    let mut notes = Vec::new();
    for line in &case.lines {
        if let Some(note) = line.strip_prefix("note: ") {
            notes.push(note);
        } else if let Some((pointer, value)) = line.split_once(" = ") {
            let found = object.pointer(pointer);
            let wanted = (value != "absent").then(|| serde_json::from_str::<Value>(value));
            let same = match (&wanted, found) {
                (None, None) => true,
                (Some(Ok(wanted)), Some(found)) => wanted == found,
                _ => false,
            };
            if !same {
                let found = found.map_or_else(|| "absent".to_owned(), Value::to_string);
                wrong.push(format!("{pointer} is {found}, not {value}"));
            }
        } else {
            wrong.push(format!("is no line of an accepted case: {line:?}"));
        }
    }
    let said = ran.stderr.lines().filter(|l| l.starts_with("warning: "));
    wrong.extend(parts("warning", &notes, &said.collect::<Vec<_>>()));
    wrong
}

fn refused(case: &Case, ran: &Ran) -> Vec<String> {
    let last = ran.stderr.lines().last().unwrap_or_default();
    let error: Value = match serde_json::from_str(last) {
        Ok(error) => error,
        Err(e) => return vec![format!("the error is no JSON: {e}: {}", ran.stderr)],
    };
    let error = &error["error"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problems: Vec<String> = match error["problems"].as_array() {
        Some(problems) => problems
            .iter()
            .map(|p| match text(&p["field"]) {
                field if field.is_empty() => text(&p["message"]),
                field => format!("{field}: {}", text(&p["message"])),
            })
            .collect(),
        None => vec![text(&error["message"])],
    };
    let problems: Vec<&str> = problems.iter().map(String::as_str).collect();
    parts("problem", &case.lines, &problems)
}

/// Each of `wanted` has to be a part of one of `said`, and there have to be as many.
fn parts(what: &str, wanted: &[&str], said: &[&str]) -> Vec<String> {
    let missing = wanted
        .iter()
        .filter(|part| !said.iter().any(|s| s.contains(**part)));
    let mut wrong: Vec<String> = missing
        .map(|part| format!("no {what} says {part:?}: {said:#?}"))
        .collect();
    if wrong.is_empty() && wanted.len() != said.len() {
        let (wanted, there) = (wanted.len(), said.len());
        wrong.push(format!(
            "{what}s: the case lists {wanted}, and there are {there}: {said:#?}"
        ));
    }
    wrong
}

#[test]
fn each_manifest_of_the_corpus_has_its_verdict() {
    let root = Root::empty();
    let cases = cases();
    assert!(cases.len() >= 120, "only {} cases", cases.len());
    let mut names = HashSet::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let here = format!("corpus/{}.txt: {}", case.file, case.name);
        if !names.insert(case.name) {
            wrong.push(format!("{here}: another case has this name"));
        }
        let args = ["apply", "--dry-run=client", "-f", "-", "-o", "json"];
        let ran = root.feed(&args, &case.manifest);
        let found = differences(case, &ran).into_iter();
        wrong.extend(found.map(|difference| format!("{here}: {difference}")));
    }
    assert!(
        wrong.is_empty(),
        "{} differences in {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert_eq!(root.carob(&["get", "pods", "-A", "-o", "name"]).ok(), "");
}

/// PowerShell's `>` writes UTF-16. A case is text, so that this one is here.
#[test]
fn manifests_may_be_utf16_with_a_byte_order_mark() {
    let root = Root::empty();
    let manifest = "\u{feff}apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {a: é😀}}\n\
                    spec: {containers: [{name: c, image: 'i:1'}]}\n";
    let big: Vec<u8> = manifest.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let little: Vec<u8> = manifest.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes) in [("big", big), ("little", little)] {
        let file = root.dir().join(format!("{name}.yaml"));
        std::fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap();
        let args = ["apply", "--dry-run=client", "-o", "json", "-f", file];
        let object: Value = serde_json::from_str(&root.carob(&args).ok()).unwrap();
        assert_eq!(object["metadata"]["annotations"]["a"], "é😀", "{name}");
        std::fs::remove_file(file).unwrap();
    }
}
