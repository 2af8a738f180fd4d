//! Namespaces: those that were made, and those that are there because something is in them.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::json;

use super::delete::{self, Grace};
use crate::object;
use crate::pod::claims;
use crate::pod::client::{self, Detail, View};
use crate::spec::{Object, ObjectKind};
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// The one that cannot be deleted.
const DEFAULT: &str = "default";

/// All, by name. One whose deletion waited for Pods that have ended since is removed.
pub(crate) fn list(layout: &Layout) -> Result<Vec<Object>> {
    for kept in object::list(layout, ObjectKind::Namespace, None)? {
        if kept.deletion.is_some() && !has_pods(layout, &kept.name)? {
            empty(layout, &kept.name)?;
        }
    }
    // As old as the oldest that is in it.
    let mut oldest = BTreeMap::from([(DEFAULT.to_owned(), age_of_root(layout))]);
    let mut add = |namespace: String, created: Timestamp| {
        let entry = oldest.entry(namespace).or_insert(created);
        *entry = created.min(*entry);
    };
    for view in client::list_with(layout, None, Detail::Summary)? {
        add(view.pod.namespace, view.pod.created);
    }
    for kind in namespaced() {
        for object in object::list(layout, kind, None)? {
            add(object.namespace, object.created);
        }
    }
    let named = |(name, created): (String, Timestamp)| (name.clone(), implied(&name, created));
    let mut all: BTreeMap<String, Object> = oldest.into_iter().map(named).collect();
    for kept in object::list(layout, ObjectKind::Namespace, None)? {
        all.insert(kept.name.clone(), kept);
    }
    Ok(all.into_values().collect())
}

/// # Errors
/// [`Kind::NotFound`]: it was not made, and nothing is in it.
pub(crate) fn find(layout: &Layout, name: &str) -> Result<Object> {
    let mut all = list(layout)?;
    all.retain(|o| o.name == name);
    match all.pop() {
        Some(found) => Ok(found),
        None => object::get(layout, ObjectKind::Namespace, "", name),
    }
}

/// Deletes it and everything in it: Pods with their grace, then what they had used. What was
/// begun and did not come to its end is done by the next deletion.
///
/// Without `wait` the namespace stays, and takes nothing new, until its Pods have ended and
/// somebody looks.
pub(crate) fn delete(
    layout: &Layout,
    name: &str,
    grace: Grace,
    wait: bool,
    until: Option<Instant>,
) -> Result<()> {
    check_may_go(name)?;
    let kept = find(layout, name)?;
    // From then on nothing new comes into it. One that was not made is written down for that.
    let ends = |live: &Object| Object {
        deletion: live.deletion.or(Some(Timestamp::now())),
        ..live.clone()
    };
    let made = match kept.uid.is_empty() {
        true => ends(&Object {
            uid: object::new_uid()?,
            created: Timestamp::now(),
            ..kept
        }),
        false => kept,
    };
    object::apply(layout, &made, false, |live| Ok(ends(live)))?;
    // A Pod that is just being made is there when this is over.
    drop(client::lock_names(layout)?);
    end_pods(layout, name, grace, wait, until)?;
    empty(layout, name)
}

fn has_pods(layout: &Layout, name: &str) -> Result<bool> {
    let views = client::list_with(layout, Some(name), Detail::Summary)?;
    Ok(!views.is_empty())
}

/// Removes what is in it beside Pods; and the namespace itself, unless Pods end in it still.
fn empty(layout: &Layout, name: &str) -> Result<()> {
    for kind in namespaced() {
        for object in object::list(layout, kind, Some(name))? {
            match kind {
                // One that a Pod uses goes with the Pod.
                ObjectKind::PersistentVolumeClaim => gone(claims::delete(layout, &object))?,
                _ => gone(object::remove(layout, kind, name, &object.name, None))?,
            }
        }
    }
    match has_pods(layout, name)? {
        true => Ok(()),
        false => gone(object::remove(
            layout,
            ObjectKind::Namespace,
            "",
            name,
            None,
        )),
    }
}

pub(crate) fn check_may_go(name: &str) -> Result<()> {
    match name == DEFAULT {
        true => Err(Error::conflict(
            "namespaces \"default\" is forbidden: this namespace may not be deleted",
        )
        .hint("carob delete pods --all deletes the Pods that are in it")),
        false => Ok(()),
    }
}

fn end_pods(
    layout: &Layout,
    name: &str,
    grace: Grace,
    wait: bool,
    until: Option<Instant>,
) -> Result<()> {
    let views = client::list(layout, Some(name))?;
    let mut ending: Vec<(View, _)> = vec![];
    let mut first = None;
    for view in views {
        match delete::begin(layout, &view, grace) {
            Ok(connection) => ending.push((view, connection)),
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => drop(first.get_or_insert(e)),
        }
    }
    for (view, connection) in ending.into_iter().filter(|_| wait) {
        if let Err(e) = delete::end(layout, &view, connection, grace, until) {
            first.get_or_insert(e);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Another deletion may have been faster.
fn gone<T>(removed: Result<T>) -> Result<()> {
    match removed {
        Err(e) if e.kind() != Kind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What comes last is removed first.
fn namespaced() -> impl Iterator<Item = ObjectKind> {
    let all = ObjectKind::ALL.into_iter().rev();
    all.filter(|kind| kind.is_namespaced())
}

/// Since when there is a place for its data; now, where there is none yet.
fn age_of_root(layout: &Layout) -> Timestamp {
    let made = std::fs::metadata(&layout.data).and_then(|m| m.created().or_else(|_| m.modified()));
    let made = made.ok().and_then(|at| Timestamp::try_from(at).ok());
    let seconds = made.unwrap_or_else(Timestamp::now).as_second();
    Timestamp::from_second(seconds).unwrap_or_default()
}

fn implied(name: &str, created: Timestamp) -> Object {
    Object {
        version: Object::VERSION,
        kind: ObjectKind::Namespace,
        namespace: String::new(),
        name: name.to_owned(),
        uid: String::new(),
        created,
        resource_version: 0,
        owner: None,
        deletion: None,
        capacity: None,
        manifest: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}),
        applied: None,
    }
}
