//! Manifests: bytes to Pods that are checked and defaulted.
//!
//! The way of the data, a file each:
//!
//! 1. [`yaml`]: bytes to trees ([`tree`]) in which each value knows its line.
//! 2. [`document`]: a tree to the objects in it, by apiVersion and kind.
//! 3. [`fields`]: for each field that is set, the answer of one table: honoured,
//!    without effect, or refused.
//! 4. [`decode`]: a tree to Kubernetes' own type; unknown fields, wrong types.
//! 5. [`defaults`]: what the API server fills in.
//! 6. [`pod`], `metadata`, `container`, `security`, `volumes`, `resources`: to our own
//!    [`crate::spec`], checking as the API server does; `scheduling`: checks of what
//!    goes no further.
//!
//! ConfigMaps, Secrets and the other kinds that are kept beside Pods go the same way, by
//! [`objects`].
//!
//! [`explain`] tells of each field what Kubernetes says of it and what carob does with it.
//!
//! Every fault of every document is found in one reading, with its field's path
//! and line. Nothing here touches the system beyond reading the sources and
//! some randomness for uids, and nothing needs a privilege.

mod api;
mod around;
mod build;
mod change;
mod container;
mod decode;
mod defaults;
mod devices;
mod document;
mod env;
mod ephemeral;
pub(crate) mod explain;
pub(crate) mod fields;
mod json;
mod kinds;
mod lifecycle;
mod metadata;
mod names;
mod objects;
pub(crate) mod patch;
mod pod;
mod probe;
mod projected;
mod report;
mod resources;
mod restart;
mod scheduling;
mod security;
mod selector;
mod server;
mod settle;
mod source;
mod tree;
mod verdicts;
mod volumes;
mod yaml;

use std::collections::HashMap;
use std::io::Read;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use change::{edited, merged, parse_patch, patched, replacement, with_ephemeral};
pub(crate) use metadata::{check_annotation, check_label};
pub(crate) use names::check_variable;
pub(crate) use objects::{edited_object, merged_object, patched_object, replaced_object};
pub(crate) use report::Note;
pub(crate) use selector::{Selector, parse_selector};
pub use settle::check_settled;
pub(crate) use source::{Source, missing_hint, read};

use crate::error::Problem;
pub(crate) use crate::spec::quantity::{self, Quantity};
use crate::spec::{Object, ObjectKind, Pod};
use crate::{Context, Error, Kind, Result};
use document::Outcome;
use report::Origin;
use tree::Node;

/// What a reading found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    /// In the order of the sources and documents.
    pub pods: Vec<Pod>,
    /// What carob keeps beside them, in the order in which it is to be made.
    pub objects: Vec<Object>,
    /// The uids that manifests name, by the uid that the object has here.
    pub given_uids: HashMap<String, String>,
    /// What is worth saying: fields without effect, likely mistakes.
    pub notes: Vec<Note>,
    /// The answer for each field that is set, for `validate`.
    pub verdicts: Vec<FieldVerdict>,
    /// Objects of kinds that have no effect here; each has its note.
    pub ignored: usize,
}

/// What became of one field of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FieldVerdict {
    pub source: String,
    /// 0-based, among the documents of the source that are not empty.
    pub document: usize,
    pub line: usize,
    /// The path, as in `spec.containers[0].image`.
    pub field: String,
    pub verdict: Verdict,
    /// Why it has no effect or is refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Honoured,
    NoEffect,
    Refused,
    /// Known here, but not with this value.
    Invalid,
}

/// Reads every document of every source. `namespace` is what `-n` said: a Pod
/// that names another is a fault, one that names none goes there; without it
/// such a Pod goes to `default`.
///
/// The error holds every fault as [`Error::get_problems`]. Its kind is
/// [`Kind::Invalid`], or [`Kind::Unsupported`] where a cluster would take all.
pub(crate) fn parse(sources: &[Source], namespace: Option<&str>) -> Result<Parsed> {
    let (parsed, fault) = examine(sources, namespace)?;
    fault.map_or(Ok(parsed), Err)
}

/// As [`parse`], for who wants to see the answers also where there are faults:
/// with what was found comes the error that `parse` would have ended with.
pub(crate) fn examine(
    sources: &[Source],
    namespace: Option<&str>,
) -> Result<(Parsed, Option<Error>)> {
    let mut reading = Reading::new(namespace)?;
    for source in sources {
        let (documents, problems) = yaml::parse_documents(&source.bytes);
        for (i, document) in documents.into_iter().enumerate() {
            reading.document(&source.name, i, document)?;
        }
        reading
            .problems
            .extend(problems.into_iter().map(|p| Problem {
                source: source.name.clone(),
                ..p
            }));
    }
    let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
    Ok(reading.finish(&names.join(", ")))
}

/// The same checks for an object that was put together by a program.
/// `source` is what messages call it; it may be empty.
pub(crate) fn pod_from_value(
    value: &serde_json::Value,
    source: &str,
    namespace: Option<&str>,
) -> Result<Parsed> {
    let mut reading = Reading::new(namespace)?;
    reading.document(source, 0, Node::from_json(value))?;
    let (parsed, fault) = reading.finish(source);
    fault.map_or(Ok(parsed), Err)
}

/// What is wrong with the name of a namespace. Directories are called so.
pub(crate) fn check_namespace(name: &str) -> Result<()> {
    names::dns_label(name).map_err(|why| {
        let message = format!("namespace {}: {why}", tree::quote(name));
        Error::new(Kind::Usage, message)
    })
}

struct Reading<'a> {
    namespace: Option<&'a str>,
    created: Timestamp,
    parsed: Parsed,
    problems: Vec<Problem>,
    unsupported: usize,
    /// Names that were given, and where.
    taken: HashMap<(&'static str, String, String), String>,
}

impl<'a> Reading<'a> {
    fn new(namespace: Option<&'a str>) -> Result<Self> {
        namespace.map_or(Ok(()), check_namespace)?;
        // A record, as the API, counts whole seconds.
        let now = Timestamp::now().as_second();
        Ok(Reading {
            namespace,
            created: Timestamp::from_second(now).unwrap_or_default(),
            parsed: Parsed::default(),
            problems: Vec::new(),
            unsupported: 0,
            taken: HashMap::new(),
        })
    }

    fn document(&mut self, source: &str, document: usize, node: Node) -> Result<()> {
        let origin = Origin {
            source,
            document,
            namespace: self.namespace,
        };
        let (objects, problems) = document::objects(node);
        self.problems.extend(problems.into_iter().map(|p| Problem {
            source: source.to_owned(),
            ..p
        }));
        for mut object in objects {
            self.object(&mut object, &origin)?;
        }
        Ok(())
    }

    fn object(&mut self, object: &mut document::Object, origin: &Origin<'_>) -> Result<()> {
        let uid = new_uid()?;
        let given = object.given_uid().map(str::to_owned);
        let outcome = document::check_object(object, origin, &uid, self.created);
        let Outcome {
            mut report,
            verdicts,
            place,
            pod,
            object,
            ignored,
        } = outcome;
        self.parsed.ignored += usize::from(ignored);
        // The steps find them in their own order; people read from the top.
        report.problems.sort_by_key(|p| p.line);
        report.notes.sort_by_key(|n| n.line);
        self.unsupported += report.unsupported;
        self.problems.extend(report.problems);
        let claim = object
            .as_ref()
            .filter(|o| o.kind == ObjectKind::PersistentVolumeClaim);
        for note in &mut report.notes {
            note.claim = claim.map(|o| o.uid.clone());
        }
        self.parsed.notes.extend(report.notes);
        self.parsed.verdicts.extend(verdicts);
        let (kind, namespace, name) = match (&pod, &object) {
            (Some(pod), _) => ("Pod", &pod.namespace, &pod.name),
            (_, Some(object)) => (object.kind.kind(), &object.namespace, &object.name),
            _ => return Ok(()),
        };
        let here = format!("{}:{}", origin.source, place.line);
        let key = (kind, namespace.clone(), name.clone());
        if let Some(first) = self.taken.insert(key, here) {
            let place_of = match namespace.as_str() {
                "" => name.clone(),
                namespace => format!("{namespace}/{name}"),
            };
            self.problems.push(Problem {
                source: origin.source.to_owned(),
                line: place.line,
                field: place.field,
                message: format!("{kind} {place_of} is given twice: first at {first}"),
            });
        }
        if let (Some(object), Some(given)) = (&object, given) {
            self.parsed.given_uids.insert(object.uid.clone(), given);
        }
        self.parsed.pods.extend(pod);
        self.parsed.objects.extend(object);
        Ok(())
    }

    fn finish(mut self, names: &str) -> (Parsed, Option<Error>) {
        self.parsed.objects.sort_by_key(|o| o.kind);
        if self.problems.is_empty() {
            let parsed = &self.parsed;
            let nothing =
                parsed.pods.is_empty() && parsed.objects.is_empty() && parsed.ignored == 0;
            let fault = nothing.then(|| match names {
                "-" => Error::invalid("standard input holds no manifest")
                    .hint("write it into the pipe, or name a file: -f FILE"),
                _ => Error::invalid(format!("there is no object in {names}"))
                    .hint("write a Pod into it (apiVersion: v1, kind: Pod), or name another file: -f FILE"),
            });
            return (self.parsed, fault);
        }
        for v in &mut self.parsed.verdicts {
            let same =
                |p: &&Problem| p.source == v.source && p.line == v.line && p.field == v.field;
            if v.verdict != Verdict::Refused
                && let Some(p) = self.problems.iter().find(same)
            {
                v.verdict = Verdict::Invalid;
                v.why.clone_from(&p.message);
            }
        }
        let only_unsupported = self.unsupported == self.problems.len();
        let mut error = Error::problems(self.problems);
        if only_unsupported {
            error = error.with_kind(Kind::Unsupported);
        }
        (self.parsed, Some(error))
    }
}

/// A random UUID (RFC 9562, version 4) in lower case.
fn new_uid() -> Result<String> {
    let mut b = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut b))
        .context("read(/dev/urandom)")?;
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
    let [p1, p2, p3, p4, p5] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|r| &hex[r]);
    Ok(format!("{p1}-{p2}-{p3}-{p4}-{p5}"))
}

#[cfg(test)]
mod container_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
