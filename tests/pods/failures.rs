//! Failures that users meet, and what carob says of each.
//!
//! `failures/*.txt` is a table. A case begins with its name. The command follows, without
//! `carob --root DIR`, then what its standard input is, then the exit code, then parts of
//! standard error:
//!
//! ```text
//! == a volume's name is misspelt
//! $ apply -f -
//! apiVersion: v1
//! ...
//! -- 3
//! Not found: "dta": did you mean "data"?
//! ```
//!
//! `-- N` is the command's exit code. Each line below is a part of standard error: the cause,
//! the place, and, where there is one, the command or the words that mend it. A case without
//! such lines makes what later cases use.
//!
//! The cases of a file share a root and run in their order: one may use the Pods of those
//! before it.

use crate::root::Root;

const FILES: &[(&str, &str)] = &[
    ("manifests", include_str!("failures/manifests.txt")),
    ("pods", include_str!("failures/pods.txt")),
    ("verbs", include_str!("failures/verbs.txt")),
];

struct Case {
    name: &'static str,
    command: &'static str,
    input: &'static str,
    end: &'static str,
    parts: Vec<&'static str>,
}

fn cases(file: &str, text: &'static str) -> Vec<Case> {
    // What stands before the first case is the file's heading.
    let cases = text.split("\n== ").skip(1);
    cases
        .map(|case| {
            let (head, end) = case
                .split_once("\n-- ")
                .unwrap_or_else(|| panic!("failures/{file}.txt: {case}: there is no end"));
            let mut head = head.splitn(3, '\n');
            let name = head.next().unwrap_or_default();
            let command = head.next().and_then(|line| line.strip_prefix("$ "));
            let mut end = end.lines().filter(|line| !line.is_empty());
            Case {
                name,
                command: command.unwrap_or_default(),
                input: head.next().unwrap_or_default(),
                end: end.next().unwrap_or_default(),
                parts: end.collect(),
            }
        })
        .collect()
}

/// What came out otherwise than the case says.
fn differences(root: &Root, case: &Case) -> Vec<String> {
    let args: Vec<&str> = case.command.split_whitespace().collect();
    let ran = root.feed(&args, case.input);
    let mut wrong = Vec::new();
    if ran.code.to_string() != case.end {
        wrong.push(format!("exits with {}, not {}", ran.code, case.end));
    }
    let missing = case
        .parts
        .iter()
        .filter(|part| !ran.stderr.contains(**part));
    wrong.extend(missing.map(|part| format!("does not say {part:?}")));
    if !wrong.is_empty() {
        wrong.push(format!("it says: {}", ran.stderr));
    }
    wrong
}

#[track_caller]
fn check(file: &str) {
    let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
    let root = Root::new();
    let mut wrong = Vec::new();
    for case in cases(file, text) {
        let found = differences(&root, &case).into_iter();
        wrong.extend(found.map(|difference| format!("{}: {difference}", case.name)));
    }
    assert!(
        wrong.is_empty(),
        "failures/{file}.txt:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn failures_of_manifests_have_their_text() {
    check("manifests");
}

#[test]
fn failures_of_pods_have_their_text() {
    check("pods");
}

#[test]
fn failures_of_verbs_have_their_text() {
    check("verbs");
}

#[test]
fn each_case_has_a_name_of_its_own_and_something_to_look_for() {
    let mut names = std::collections::HashSet::new();
    for (file, text) in FILES {
        for case in cases(file, text) {
            assert!(names.insert(case.name), "{file}: {:?} twice", case.name);
            assert!(!case.command.is_empty(), "{file}: {:?}", case.name);
            let looks = !case.parts.is_empty() || case.end == "0";
            assert!(looks, "{file}: {:?}", case.name);
        }
    }
}
