//! The objects that carob keeps beside Pods: ConfigMaps, Secrets, claims, namespaces. A tree
//! becomes a [`spec::Object`], whose manifest is the v1 object as people see it.

mod change;
pub(super) mod claim;
mod data;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use change::{edited_object, merged_object, patched_object, replaced_object};

use super::report::{Origin, Report};
use super::server::{check_namespace, without_status};
use super::tree::Node;
use super::verdicts::{self, Found};
use super::{decode, fields, metadata};
use crate::spec::{self, ObjectKind};

/// Which kind of kept object this is, if it is one.
pub(super) fn kind_of(node: &Node) -> Option<ObjectKind> {
    let text = |field| node.get(field).and_then(Node::as_str);
    match text("apiVersion") {
        Some("v1") => ObjectKind::of_manifest(text("kind")?),
        _ => None,
    }
}

/// The answer for each field that is set.
pub(super) fn answer(kind: ObjectKind, node: &Node) -> Vec<Found> {
    verdicts::answer(node, &|pattern| fields::rule_of(kind, pattern))
}

/// Reads one. `None` where there are faults, which are in the report then.
pub(super) fn read(
    r: &mut Report<'_>,
    kind: ObjectKind,
    node: &Node,
    origin: &Origin<'_>,
    uid: &str,
    created: Timestamp,
) -> Option<spec::Object> {
    let node = &without_status(node);
    let read = match kind {
        ObjectKind::Namespace => {
            typed::<core::Namespace>(r, node, |n| &n.metadata, |_, _| {}, |_| {})
        }
        ObjectKind::ConfigMap => {
            data::check_base64(r, node, "binaryData");
            typed::<core::ConfigMap>(r, node, |c| &c.metadata, data::config_map, |_| {})
        }
        ObjectKind::Secret => {
            data::check_texts(r, node);
            data::check_base64(r, node, "data");
            typed::<core::Secret>(r, node, |s| &s.metadata, data::secret, data::default_type)
        }
        ObjectKind::PersistentVolumeClaim => typed::<core::PersistentVolumeClaim>(
            r,
            node,
            |c| &c.metadata,
            claim::claim,
            claim::defaults,
        ),
    };
    let Read {
        meta,
        mut applied,
        mut manifest,
    } = read?;
    let name = meta.name.clone().unwrap_or_default();
    let given = meta.namespace.as_deref().filter(|ns| !ns.is_empty());
    let namespace = match kind.is_namespaced() {
        true => {
            check_namespace(r, origin.namespace, given);
            given.or(origin.namespace).unwrap_or("default").to_owned()
        }
        false => String::new(),
    };
    metadata::check_object(r, &meta, kind, &name, &namespace);
    if !r.problems.is_empty() {
        return None;
    }
    shown(&mut manifest);
    shown(&mut applied);
    Some(spec::Object {
        version: spec::Object::VERSION,
        kind,
        namespace,
        name,
        uid: uid.to_owned(),
        created,
        resource_version: given_version(&meta),
        owner: None,
        deletion: None,
        capacity: None,
        manifest,
        applied: Some(applied),
    })
}

/// What a manifest says of an object that is there: only that version is to be replaced.
fn given_version(meta: &ObjectMeta) -> u64 {
    let text = meta.resource_version.as_deref().unwrap_or_default();
    text.parse().unwrap_or(0)
}

struct Read {
    meta: ObjectMeta,
    /// Without defaults.
    applied: Value,
    manifest: Value,
}

/// Kubernetes' own type of it, checked and brought to one form by `check`, then defaulted.
fn typed<T: DeserializeOwned + Serialize>(
    r: &mut Report<'_>,
    node: &Node,
    meta: impl Fn(&T) -> &ObjectMeta,
    check: impl Fn(&mut Report<'_>, &mut T),
    default: impl Fn(&mut T),
) -> Option<Read> {
    if !r.problems.is_empty() {
        return None;
    }
    let (typed, faults) = decode::decode::<T>(node);
    faults.into_iter().for_each(|f| r.fault(f));
    let mut typed = typed.filter(|_| r.problems.is_empty())?;
    check(r, &mut typed);
    let applied = serde_json::to_value(&typed).ok()?;
    default(&mut typed);
    Some(Read {
        meta: meta(&typed).clone(),
        applied,
        manifest: serde_json::to_value(&typed).ok()?,
    })
}

/// Leaves out of the metadata what the record has in fields of its own, and a server's notes.
fn shown(manifest: &mut Value) {
    const OWN: [&str; 11] = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "generateName",
        "selfLink",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        // Nothing goes with what a manifest of a cluster says of its owner.
        "ownerReferences",
    ];
    if let Some(meta) = manifest["metadata"].as_object_mut() {
        meta.retain(|field, _| !OWN.contains(&field.as_str()));
    }
    if let Some(object) = manifest.as_object_mut() {
        object.shift_remove("status");
    }
    // A place for labels and annotations that are added later.
    if manifest["metadata"].is_null() {
        manifest["metadata"] = Value::Object(serde_json::Map::new());
    }
}

#[cfg(test)]
mod tests;
