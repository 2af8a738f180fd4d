//! The faults and remarks about one object, each with its place.

use serde::{Deserialize, Serialize};

use super::decode::Fault;
use super::tree::{Node, Path, quote};
use crate::error::Problem;

/// Where an object comes from.
pub(super) struct Origin<'a> {
    pub source: &'a str,
    /// 0-based, among those of the source that are not empty.
    pub document: usize,
    /// What `-n` said, if it was given.
    pub namespace: Option<&'a str>,
}

/// Something worth saying about a manifest that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub source: String,
    /// 1-based; 0 where it is not known.
    pub line: usize,
    pub field: String,
    pub message: String,
    pub verdict: NoteKind,
    /// The uid of the claim that it is about, if it is about one.
    #[serde(skip)]
    pub claim: Option<String>,
}

impl Note {
    pub(crate) fn is_warning(&self) -> bool {
        self.verdict == NoteKind::Warning
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NoteKind {
    /// The field is accepted and does nothing here.
    NoEffect,
    /// Accepted and done, but probably not what was meant.
    Warning,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let problem = Problem {
            source: self.source.clone(),
            line: self.line,
            field: self.field.clone(),
            message: self.message.clone(),
        };
        problem.fmt(f)
    }
}

/// What the API server says of a value that is none of a list.
pub(super) fn unknown_value(value: &str, supported: &[&str]) -> String {
    let names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    format!(
        "Unsupported value: {}: supported values: {}",
        quote(value),
        names.join(", ")
    )
}

/// Collects what the checks find in one object.
pub(super) struct Report<'a> {
    source: &'a str,
    root: &'a Node,
    /// Where the object is in its document: `items[2]` in a List.
    base: Path,
    /// Places of wrong type: what a check would say of their stand-ins is noise.
    faulty: Vec<Path>,
    pub problems: Vec<Problem>,
    /// How many of the problems are about what carob does not support.
    pub unsupported: usize,
    pub notes: Vec<Note>,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: &'a str, root: &'a Node, base: Path) -> Self {
        Report {
            source,
            root,
            base,
            faulty: Vec::new(),
            problems: Vec::new(),
            unsupported: 0,
            notes: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, path: &Path, message: impl Into<String>) {
        if self.faulty.iter().any(|bad| path.is_within(bad)) {
            return;
        }
        let line = self.root.line_of(path);
        self.push(path, line, message.into());
    }

    fn push(&mut self, path: &Path, line: usize, message: String) {
        self.problems.push(Problem {
            source: self.source.to_owned(),
            line,
            field: self.full(path),
            message,
        });
    }

    /// The path from the document's root.
    pub(super) fn full(&self, path: &Path) -> String {
        match (self.base.depth(), path.depth()) {
            (0, _) => path.to_string(),
            (_, 0) => self.base.to_string(),
            _ => format!("{}.{path}", self.base),
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.push(&fault.path, fault.line, fault.message);
        self.faulty.push(fault.path);
    }

    /// Whether the manifest itself says something there.
    pub(super) fn is_set(&self, path: &Path) -> bool {
        self.root.find(path).is_some_and(|node| !node.is_null())
    }

    pub(super) fn invalid(&mut self, path: &Path, value: &str, why: impl std::fmt::Display) {
        self.problem(path, format!("Invalid value: {}: {why}", quote(value)));
    }

    pub(super) fn invalid_number(&mut self, path: &Path, value: i64, why: impl std::fmt::Display) {
        self.problem(path, format!("Invalid value: {value}: {why}"));
    }

    /// Notes the syntax check's answer, if it is a fault.
    pub(super) fn check(&mut self, path: &Path, value: &str, check: Result<(), String>) {
        if let Err(why) = check {
            self.invalid(path, value, why);
        }
    }

    pub(super) fn required(&mut self, path: &Path, hint: &str) {
        let message = if hint.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {hint}")
        };
        self.problem(path, message);
    }

    pub(super) fn unknown_value(&mut self, path: &Path, value: &str, supported: &[&str]) {
        self.problem(path, unknown_value(value, supported));
    }

    pub(super) fn duplicate(&mut self, path: &Path, value: &str) {
        self.problem(path, format!("Duplicate value: {}", quote(value)));
    }

    pub(super) fn forbidden(&mut self, path: &Path, why: &str) {
        self.problem(path, format!("Forbidden: {why}"));
    }

    /// Valid for Kubernetes, refused here.
    pub(super) fn refused(&mut self, path: &Path, why: impl Into<String>) {
        let before = self.problems.len();
        self.problem(path, why);
        self.unsupported += self.problems.len() - before;
    }

    pub(super) fn warn(&mut self, path: &Path, message: impl Into<String>) {
        self.note(path, NoteKind::Warning, message.into());
    }

    pub(super) fn no_effect(&mut self, path: &Path, message: impl Into<String>) {
        self.note(path, NoteKind::NoEffect, message.into());
    }

    /// As [`Report::no_effect`], of something that is no longer in the tree.
    pub(super) fn no_effect_at(&mut self, path: &Path, line: usize, message: impl Into<String>) {
        self.note_at(path, line, NoteKind::NoEffect, message.into());
    }

    fn note(&mut self, path: &Path, verdict: NoteKind, message: String) {
        self.note_at(path, self.root.line_of(path), verdict, message);
    }

    fn note_at(&mut self, path: &Path, line: usize, verdict: NoteKind, message: String) {
        self.notes.push(Note {
            source: self.source.to_owned(),
            line,
            field: self.full(path),
            message,
            verdict,
            claim: None,
        });
    }

    /// The words of a choice, or a fault and `None`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        path: &Path,
        value: Option<&str>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let value = value?;
        let found = choices.iter().find(|(name, _)| *name == value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.unknown_value(path, value, &names);
        }
        found.map(|(_, t)| *t)
    }
}
