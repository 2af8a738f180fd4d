//! One document to the Pods in it: its kind, its items, and the way of each
//! through answer, decode, default and check.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use super::report::{Origin, Report};
use super::server::{check_namespace, without_status};
use super::tree::{Key, Node, Path, Value, quote};
use super::verdicts::{self, Answer};
use super::{FieldVerdict, Verdict, decode, defaults, fields, kinds, objects, pod};
use crate::error::Problem;
use crate::nearest::nearest;
use crate::spec::{self, ObjectKind, Pod};

/// What came of one object.
pub(super) struct Outcome<'a> {
    pub report: Report<'a>,
    pub verdicts: Vec<FieldVerdict>,
    /// Where the object is, for remarks about it as a whole.
    pub place: Place,
    /// Absent where there are faults.
    pub pod: Option<Pod>,
    /// It is no Pod, but this.
    pub object: Option<spec::Object>,
    /// Its kind has no effect here.
    pub ignored: bool,
}

pub(super) struct Place {
    pub line: usize,
    pub field: String,
}

/// An object and its place in its document.
pub(super) struct Object {
    node: Node,
    base: Path,
}

impl Object {
    /// Of which object the manifest speaks.
    pub(super) fn given_uid(&self) -> Option<&str> {
        let uid = self.node.get("metadata")?.get("uid")?.as_str()?;
        (!uid.is_empty()).then_some(uid)
    }
}

/// The objects of a document: itself, or the items of a List, in which there may be more
/// Lists. With what is wrong about the Lists themselves; these problems have no source set.
pub(super) fn objects(document: Node) -> (Vec<Object>, Vec<Problem>) {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    expand(document, Path::default(), &mut objects, &mut problems);
    (objects, problems)
}

/// The tree's depth bounds the recursion.
fn expand(mut node: Node, base: Path, objects: &mut Vec<Object>, problems: &mut Vec<Problem>) {
    let Some((version, kind)) = item_type(&node) else {
        objects.push(Object { node, base });
        return;
    };
    let line = node.line;
    let items = node.take("items");
    problems.extend(list_problems(&node, &base));
    let base = base.key("items");
    let items = match items {
        Some((_, node)) if node.is_null() => Vec::new(),
        Some((key, node)) => match node.value {
            Value::Seq(items) => items,
            _ => {
                let message = format!("expected a list, found {}", node.describe());
                problems.push(problem(key.line, &base, message));
                Vec::new()
            }
        },
        None => {
            problems.push(problem(line, &base, "Required value"));
            Vec::new()
        }
    };
    for (i, mut node) in items.into_iter().enumerate() {
        // The API leaves out of a PodList's items what is the same for all.
        if !kind.is_empty() {
            set_if_missing(&mut node, "apiVersion", &version);
            set_if_missing(&mut node, "kind", &kind);
        }
        expand(node, base.index(i), objects, problems);
    }
}

/// If this is a List: what an item of it is that does not say so itself. The kind is empty
/// for a plain List, and that of a PodList is Pod. As for kubectl, any kind is a list whose
/// name ends in List and that has items.
fn item_type(node: &Node) -> Option<(String, String)> {
    let text = |field| node.get(field).and_then(Node::as_str);
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let of = kind.strip_suffix("List")?;
    let known =
        version == "v1" && (matches!(of, "" | "Pod") || ObjectKind::of_manifest(of).is_some());
    let is_list = known || (!of.is_empty() && node.get("items").is_some());
    is_list.then(|| (version.to_owned(), of.to_owned()))
}

/// Fields that a List does not have.
fn list_problems(list: &Node, base: &Path) -> Vec<Problem> {
    const FIELDS: &[&str] = &["apiVersion", "items", "kind", "metadata"];
    let Value::Map(entries) = &list.value else {
        return Vec::new();
    };
    let unknown = entries
        .iter()
        .filter(|(key, _)| !FIELDS.contains(&key.name.as_str()));
    unknown
        .map(|(key, _)| {
            let message = decode::unknown_field(&key.name, FIELDS);
            problem(key.line, &base.key(&key.name), message)
        })
        .collect()
}

fn problem(line: usize, field: &Path, message: impl Into<String>) -> Problem {
    Problem {
        source: String::new(),
        line,
        field: field.to_string(),
        message: message.into(),
    }
}

fn set_if_missing(node: &mut Node, name: &str, text: &str) {
    let line = node.line;
    if let Value::Map(entries) = &mut node.value
        && !entries.iter().any(|(k, _)| k.name == name)
    {
        let name = name.to_owned();
        let value = Node::new(line, 0, Value::Str(text.to_owned()));
        entries.push((Key { name, line }, value));
    }
}

/// Takes one object all the way. `uid` and `created` are what its Pod gets.
pub(super) fn check_object<'a>(
    object: &'a mut Object,
    origin: &Origin<'a>,
    uid: &str,
    created: Timestamp,
) -> Outcome<'a> {
    let service_account = take_service_account_volume(&mut object.node);
    let kept = objects::kind_of(&object.node);
    let answers = match kept {
        Some(kind) => objects::answer(kind, &object.node),
        None => verdicts::answer(&object.node, &fields::rule),
    };
    let object = &*object;
    let base = object.base.clone();
    let mut outcome = Outcome {
        place: Place {
            line: object.node.line,
            field: base.to_string(),
        },
        report: Report::new(origin.source, &object.node, base),
        verdicts: Vec::new(),
        pod: None,
        object: None,
        ignored: false,
    };
    let verdict = |r: &Report<'_>, path: &Path, line, verdict, why: &str| FieldVerdict {
        source: origin.source.to_owned(),
        document: origin.document,
        line,
        field: r.full(path),
        verdict,
        why: why.to_owned(),
    };
    if let Some((kind, why)) = kinds::without_effect(&object.node) {
        let (r, path) = (&mut outcome.report, Path::default().key("kind"));
        r.no_effect(&path, format!("{kind}: {why}"));
        let line = object.node.line_of(&path);
        let v = verdict(r, &path, line, Verdict::NoEffect, why);
        outcome.verdicts.push(v);
        outcome.ignored = true;
        return outcome;
    }
    if kept.is_none() && !check_header(&mut outcome.report, &object.node) {
        return outcome;
    }
    let r = &mut outcome.report;
    for (path, line) in service_account {
        let why = "the token of a service account; there is no API server here";
        r.no_effect_at(&path, line, why);
        let v = verdict(r, &path, line, Verdict::NoEffect, why);
        outcome.verdicts.push(v);
    }
    for found in answers {
        let (v, why) = match found.answer {
            Answer::Honoured => (Verdict::Honoured, ""),
            Answer::NoEffect(why) => {
                r.no_effect_at(&found.path, found.line, why);
                (Verdict::NoEffect, why)
            }
            Answer::Refused(why) => {
                r.refused(&found.path, why);
                (Verdict::Refused, why)
            }
        };
        let v = verdict(r, &found.path, found.line, v, why);
        outcome.verdicts.push(v);
    }
    if let Some(kind) = kept {
        outcome.object = objects::read(r, kind, &object.node, origin, uid, created);
        return outcome;
    }
    let (typed, faults) = decode::decode::<core::Pod>(&without_status(&object.node));
    faults.into_iter().for_each(|f| r.fault(f));
    let Some(mut typed) = typed else {
        return outcome;
    };
    check_namespace(r, origin.namespace, typed.metadata.namespace.as_deref());
    let namespace = origin.namespace.unwrap_or("default");
    defaults::fill_requests(&mut typed);
    let applied = serde_json::to_value(&typed).ok();
    defaults::fill(&mut typed, namespace, uid, created);
    let lowered = pod::lower(r, &typed, uid, created);
    if r.problems.is_empty() {
        outcome.pod = Some(Pod { applied, ..lowered });
    }
    outcome
}

/// What can be handed in.
const KINDS: [&str; 6] = [
    "Pod",
    "List",
    "Namespace",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
];

/// Whether this is a v1 Pod; if it is not, there is nothing more to say.
fn check_header(r: &mut Report<'_>, node: &Node) -> bool {
    let root = Path::default();
    if !matches!(node.value, Value::Map(_)) {
        let message = format!(
            "expected an object (apiVersion, kind, ...), found {}",
            node.describe()
        );
        r.problem(&root, message);
        return false;
    }
    let text = |field: &str| node.get(field).and_then(Node::text).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    for (field, value) in [("apiVersion", version), ("kind", kind)] {
        if value.is_empty() {
            let wanted = match (field, version, kind) {
                ("apiVersion", _, "Pod" | "List") => "add the line `apiVersion: v1`",
                ("apiVersion", ..) => "add the line `apiVersion: ...`; a Pod's is v1",
                (_, "v1" | "", _) => "add the line `kind: Pod`",
                _ => "add the line `kind: ...`; carob takes kind: Pod of apiVersion: v1",
            };
            r.required(&root.key(field), wanted);
        }
    }
    if version.is_empty() || kind.is_empty() {
        return false;
    }
    let known = kinds::refused(kind);
    match (version, kind) {
        ("v1", "Pod") => return true,
        (_, "Pod" | "List" | "PodList") => {
            let message = format!("{kind} of {}: the version here is v1", quote(version));
            r.problem(&root.key("apiVersion"), message);
        }
        (_, kind) => match (known, nearest(kind, KINDS)) {
            (Some(way), _) => r.refused(&root.key("kind"), format!("{kind}: {way}")),
            (None, Some(near)) => {
                let message = format!("no kind {} here: did you mean {near:?}?", quote(kind));
                r.problem(&root.key("kind"), message);
            }
            (None, None) => {
                let message = format!("{} of {version} is not supported", quote(kind));
                r.refused(&root.key("kind"), message);
            }
        },
    }
    false
}

/// A cluster adds to each Pod a volume with the token of its service account,
/// and mounts it in each container. `kubectl get -o yaml` shows both. They are
/// taken out, with the places where they were.
fn take_service_account_volume(node: &mut Node) -> Vec<(Path, usize)> {
    let mut taken = Vec::new();
    let path = Path::default().key("spec");
    let Some(spec) = node.get_mut("spec") else {
        return taken;
    };
    let mut names = Vec::new();
    retain(spec, "volumes", &path, &mut taken, |volume| {
        let name = volume
            .get("name")
            .and_then(Node::as_str)
            .unwrap_or_default();
        let sources = volume.get("projected").and_then(|p| p.get("sources"));
        let has_token = sources.is_some_and(|s| {
            s.items()
                .iter()
                .any(|s| s.get("serviceAccountToken").is_some())
        });
        let is_it = has_token && name.starts_with("kube-api-access-");
        if is_it {
            names.push(name.to_owned());
        }
        !is_it
    });
    if names.is_empty() {
        return taken;
    }
    for list in ["initContainers", "containers"] {
        let Some(Value::Seq(containers)) = spec.get_mut(list).map(|l| &mut l.value) else {
            continue;
        };
        for (i, container) in containers.iter_mut().enumerate() {
            let path = path.key(list).index(i);
            retain(container, "volumeMounts", &path, &mut taken, |mount| {
                let name = mount.get("name").and_then(Node::as_str);
                !name.is_some_and(|n| names.iter().any(|gone| gone == n))
            });
        }
    }
    taken
}

fn retain(
    node: &mut Node,
    field: &str,
    path: &Path,
    taken: &mut Vec<(Path, usize)>,
    mut keep: impl FnMut(&Node) -> bool,
) {
    let Some(Value::Seq(items)) = node.get_mut(field).map(|n| &mut n.value) else {
        return;
    };
    let path = path.key(field);
    let mut i = 0;
    items.retain(|item| {
        let kept = keep(item);
        if !kept {
            taken.push((path.index(i), item.line));
        }
        i += 1;
        kept
    });
}
