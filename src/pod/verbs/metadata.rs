//! Changes labels and annotations of an object that is there, by kubectl's rules.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::object;
use crate::pod::client::{self, View};
use crate::spec::{AppArmor, Object, ObjectKind, Pod};
use crate::store::Layout;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    Labels,
    Annotations,
}

impl Map {
    /// The field of a Pod's metadata.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Map::Labels => "labels",
            Map::Annotations => "annotations",
        }
    }

    pub(crate) fn of(self, pod: &Pod) -> &BTreeMap<String, String> {
        match self {
            Map::Labels => &pod.labels,
            Map::Annotations => &pod.annotations,
        }
    }

    fn of_mut(self, pod: &mut Pod) -> &mut BTreeMap<String, String> {
        match self {
            Map::Labels => &mut pod.labels,
            Map::Annotations => &mut pod.annotations,
        }
    }
}

/// What is asked for. Keys and values are checked by the caller.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Change {
    pub set: BTreeMap<String, String>,
    pub remove: BTreeSet<String>,
    /// A key may get another value.
    pub overwrite: bool,
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Nothing,
    Set,
    /// Keys were removed, and none was set.
    Removed,
}

#[derive(Debug)]
pub(crate) struct Changed {
    pub pod: Pod,
    pub done: Done,
    /// Keys to be removed that the Pod does not have.
    pub absent: Vec<String>,
}

/// Changes the Pod, in one step; `dry_run`: only says what would come of it.
///
/// # Errors
/// [`Kind::Conflict`](crate::Kind::Conflict): a key has another value and may not be
/// overwritten, or an annotation is one that cannot change. Then nothing is changed.
pub(crate) fn change(
    layout: &Layout,
    view: &View,
    map: Map,
    change: &Change,
    dry_run: bool,
) -> Result<Changed> {
    let mut outcome = (Done::Nothing, vec![]);
    let mut act = |pod: &mut Pod| {
        outcome = apply(pod, map, change)?;
        Ok(outcome.0 != Done::Nothing)
    };
    let pod = if dry_run {
        let mut pod = view.pod.clone();
        act(&mut pod)?;
        pod
    } else {
        client::change(layout, &view.pod.uid, act)?
    };
    let (done, absent) = outcome;
    Ok(Changed { pod, done, absent })
}

fn apply(pod: &mut Pod, map: Map, change: &Change) -> Result<(Done, Vec<String>)> {
    let name = format!("pods {:?}", pod.name);
    let decided = decide(map.of(pod), &name, change)?;
    if map == Map::Annotations
        && let Some(key) = decided.touched.iter().find(|key| is_fixed(key))
    {
        return Err(Error::conflict(format!(
            "{name}: the annotation {key} of a Pod that exists cannot be changed"
        ))
        .hint("change the manifest, then carob apply --force -f FILE"));
    }
    if decided.done != Done::Nothing {
        check_size(&name, map, &decided.entries)?;
        *map.of_mut(pod) = decided.entries;
        show(pod, map);
    }
    Ok((decided.done, decided.absent))
}

/// As [`change`], of an object that is no Pod.
pub(crate) fn change_object(
    layout: &Layout,
    (kind, namespace, name): (ObjectKind, &str, &str),
    map: Map,
    change: &Change,
    dry_run: bool,
) -> Result<ChangedObject> {
    let full = format!("{} {name:?}", kind.plural());
    let outcome = RefCell::new((Done::Nothing, vec![]));
    let act = |live: &Object| {
        let decided = decide(&live.metadata(map.field()), &full, change)?;
        check_size(&full, map, &decided.entries)?;
        *outcome.borrow_mut() = (decided.done, decided.absent);
        let mut new = live.clone();
        set(&mut new.manifest, map, &decided.entries);
        Ok(new)
    };
    let (object, _) = object::update(layout, kind, namespace, name, dry_run, act)?;
    let (done, absent) = outcome.into_inner();
    Ok(ChangedObject {
        object,
        done,
        absent,
    })
}

/// As [`Changed`].
#[derive(Debug)]
pub(crate) struct ChangedObject {
    pub object: Object,
    pub done: Done,
    pub absent: Vec<String>,
}

/// What is to become of labels or annotations.
struct Decided {
    entries: BTreeMap<String, String>,
    done: Done,
    absent: Vec<String>,
    /// Keys that are set to another value, or go.
    touched: Vec<String>,
}

/// kubectl writes a whole Secret into it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `name`: of the object, for errors.
fn decide(now: &BTreeMap<String, String>, name: &str, change: &Change) -> Result<Decided> {
    let mut problems = vec![];
    for (key, value) in &change.set {
        match now.get(key) {
            Some(other) if other != value && !change.overwrite => {
                let other = match key == LAST_APPLIED {
                    true => "",
                    false => other,
                };
                problems.push(format!(
                    "'{key}' already has a value ({other}), and --overwrite is false"
                ));
            }
            _ => {}
        }
    }
    if !problems.is_empty() {
        let text = format!("{name}: {}", problems.join("; "));
        return Err(Error::conflict(text).hint("--overwrite gives the key the new value"));
    }
    let differs = |(key, value): &(&String, &String)| now.get(*key) != Some(*value);
    let set: Vec<&String> = change.set.iter().filter(differs).map(|(k, _)| k).collect();
    let (removed, absent): (Vec<&String>, Vec<&String>) =
        change.remove.iter().partition(|key| now.contains_key(*key));
    let done = match (set.is_empty(), removed.is_empty()) {
        (true, true) => Done::Nothing,
        (true, false) => Done::Removed,
        (false, _) => Done::Set,
    };
    let mut entries = now.clone();
    entries.extend(change.set.clone());
    entries.retain(|key, _| !change.remove.contains(key));
    Ok(Decided {
        entries,
        done,
        absent: absent.into_iter().cloned().collect(),
        touched: set.into_iter().chain(removed).cloned().collect(),
    })
}

fn check_size(name: &str, map: Map, entries: &BTreeMap<String, String>) -> Result<()> {
    let size: usize = entries.iter().map(|(k, v)| k.len() + v.len()).sum();
    match map == Map::Annotations && size > Pod::ANNOTATIONS_MAX {
        true => Err(Error::invalid(format!(
            "{name}: metadata.annotations: Too long: {size} bytes; at most {} are possible",
            Pod::ANNOTATIONS_MAX
        ))),
        false => Ok(()),
    }
}

/// Those that the API server lets nobody change: what they say was done when the Pod was made.
fn is_fixed(key: &str) -> bool {
    key.starts_with(AppArmor::ANNOTATION) || key == "kubernetes.io/config.mirror"
}

/// The manifest says the same.
fn show(pod: &mut Pod, map: Map) {
    let entries = map.of(pod).clone();
    set(&mut pod.manifest, map, &entries);
}

fn set(manifest: &mut Value, map: Map, entries: &BTreeMap<String, String>) {
    if !manifest["metadata"].is_object() {
        manifest["metadata"] = json!({});
    }
    if let Value::Object(metadata) = &mut manifest["metadata"] {
        match entries.is_empty() {
            true => drop(metadata.shift_remove(map.field())),
            false => drop(metadata.insert(map.field().into(), json!(entries))),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::Kind;
    use crate::spec::Spec;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn entries(pairs: Pairs) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    fn pod(pairs: Pairs) -> Pod {
        Pod {
            version: Pod::VERSION,
            uid: "u".into(),
            namespace: "ns".into(),
            name: "web".into(),
            labels: entries(pairs),
            annotations: entries(pairs),
            created: Timestamp::UNIX_EPOCH,
            spec: Spec::default(),
            applied: None,
            manifest: json!({"metadata": {"name": "web", "labels": entries(pairs)}}),
        }
    }

    fn change(set: Pairs, remove: &[&str], overwrite: bool) -> Change {
        Change {
            set: entries(set),
            remove: remove.iter().map(|k| (*k).to_owned()).collect(),
            overwrite,
        }
    }

    #[test]
    fn labels_are_set_and_removed() {
        let before: Pairs = &[("a", "1"), ("b", "2")];
        let cases: &[(Pairs, &[&str], bool, Done, Pairs)] = &[
            (
                &[("c", "3")],
                &[],
                false,
                Done::Set,
                &[("a", "1"), ("b", "2"), ("c", "3")],
            ),
            (&[("a", "1")], &[], false, Done::Nothing, before),
            (
                &[("a", "9")],
                &[],
                true,
                Done::Set,
                &[("a", "9"), ("b", "2")],
            ),
            (&[], &["a"], false, Done::Removed, &[("b", "2")]),
            (&[], &["a", "b"], false, Done::Removed, &[]),
            (&[], &["x"], false, Done::Nothing, before),
            (
                &[("c", "")],
                &["a"],
                false,
                Done::Set,
                &[("b", "2"), ("c", "")],
            ),
            (&[("a", "1")], &["b"], false, Done::Removed, &[("a", "1")]),
        ];
        for (set, remove, overwrite, done, after) in cases {
            let mut pod = pod(before);
            let change = change(set, remove, *overwrite);
            let (is, _) = apply(&mut pod, Map::Labels, &change).unwrap();
            assert_eq!((is, &pod.labels), (*done, &entries(after)), "{change:?}");
            let shown = &pod.manifest["metadata"]["labels"];
            let want = match after.is_empty() {
                true => Value::Null,
                false => json!(entries(after)),
            };
            assert_eq!(*shown, want, "{change:?}");
            assert_eq!(pod.annotations, entries(before));
        }
    }

    #[test]
    fn another_value_needs_to_be_asked_for() {
        let mut pod = pod(&[("a", "1"), ("b", "2")]);
        let before = pod.clone();
        let e = apply(
            &mut pod,
            Map::Labels,
            &change(&[("a", "2"), ("b", "3"), ("c", "4")], &[], false),
        )
        .unwrap_err();
        assert_eq!(e.kind(), Kind::Conflict);
        assert_eq!(
            e.to_string(),
            "pods \"web\": 'a' already has a value (1), and --overwrite is false; 'b' already has \
             a value (2), and --overwrite is false"
        );
        assert_eq!(pod, before);
        let (_, absent) = apply(&mut pod, Map::Labels, &change(&[], &["x", "a"], false)).unwrap();
        assert_eq!(absent, ["x"]);
    }

    #[test]
    fn some_annotations_stay() {
        let app_armor = "container.apparmor.security.beta.kubernetes.io/main";
        let mirror = "kubernetes.io/config.mirror";
        let with: Pairs = &[(app_armor, "unconfined"), (mirror, "x")];
        for wrong in [
            change(&[(app_armor, "runtime/default")], &[], true),
            change(&[(mirror, "y")], &[], true),
            change(&[], &[app_armor], false),
        ] {
            let e = apply(&mut pod(with), Map::Annotations, &wrong).unwrap_err();
            assert_eq!(e.kind(), Kind::Conflict, "{wrong:?}");
        }
        let fits = change(&[(app_armor, "unconfined"), ("a", "b")], &[], false);
        assert_eq!(
            apply(&mut pod(with), Map::Annotations, &fits).unwrap().0,
            Done::Set
        );
        let long = "x".repeat(Pod::ANNOTATIONS_MAX);
        let e = apply(
            &mut pod(with),
            Map::Annotations,
            &change(&[("a", &long)], &[], false),
        )
        .unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
    }
}
