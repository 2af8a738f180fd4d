//! A Pod that is there, as a manifest or a patch makes it: the next record of the same Pod.

use serde_json::Value;

use super::patch::{self, PatchKind};
use super::{Source, pod_from_value, yaml};
use crate::spec::Pod;
use crate::{Error, Result};

/// What `apply` makes of it.
pub(crate) fn merged(live: &Pod, given: &Pod) -> Result<Pod> {
    let none = Value::Null;
    let value = patch::three_way(
        live.applied.as_ref().unwrap_or(&none),
        given.applied.as_ref().unwrap_or(&given.manifest),
        &live.manifest,
    );
    Ok(Pod {
        applied: given.applied.clone(),
        ..checked(live, &value)?
    })
}

/// What `replace` makes of it: nothing stays that the manifest has not.
pub(crate) fn replacement(live: &Pod, given: &Pod) -> Result<Pod> {
    same_name(live, given)?;
    Ok(Pod {
        uid: live.uid.clone(),
        created: live.created,
        applied: given.applied.clone().or_else(|| live.applied.clone()),
        ..given.clone()
    })
}

/// What `edit` makes of it: `before` and `after` are the texts of the editor.
pub(crate) fn edited(live: &Pod, before: &Source, after: &Source) -> Result<Pod> {
    let (before, after) = (parse_patch(before)?, parse_patch(after)?);
    checked(live, &patch::rebase(&before, &after, &live.manifest))
}

pub(crate) fn patched(live: &Pod, change: &Value, kind: PatchKind) -> Result<Pod> {
    checked(live, &patch::patch(&live.manifest, change, kind)?)
}

/// A patch in JSON or YAML.
pub(crate) fn parse_patch(source: &Source) -> Result<Value> {
    let (documents, problems) = yaml::parse_documents(&source.bytes);
    if let Some(p) = problems.first() {
        return Err(Error::invalid(format!(
            "{}:{}: {}",
            source.name, p.line, p.message
        )));
    }
    match documents.as_slice() {
        [one] => Ok(one.to_json()),
        [] => Err(Error::invalid(format!(
            "{}: there is nothing in it",
            source.name
        ))),
        _ => Err(Error::invalid(format!(
            "{}: it has to be one document",
            source.name
        ))),
    }
}

/// With one ephemeral container more: what a cluster's subresource `ephemeralcontainers` does.
pub(crate) fn with_ephemeral(live: &Pod, container: &Value) -> Result<Pod> {
    let mut value = live.manifest.clone();
    match &mut value["spec"]["ephemeralContainers"] {
        Value::Array(list) => list.push(container.clone()),
        none => *none = Value::Array(vec![container.clone()]),
    }
    checked(live, &value)
}

fn checked(live: &Pod, value: &Value) -> Result<Pod> {
    let parsed = pod_from_value(value, "", Some(&live.namespace))?;
    let [pod] = parsed.pods.as_slice() else {
        return Err(Error::invalid("it would be no Pod any more"));
    };
    same_name(live, pod)?;
    Ok(Pod {
        uid: live.uid.clone(),
        created: live.created,
        applied: live.applied.clone(),
        ..pod.clone()
    })
}

fn same_name(live: &Pod, new: &Pod) -> Result<()> {
    if (&live.name, &live.namespace) == (&new.name, &new.namespace) {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "pods {:?}: the name and the namespace of a Pod cannot be changed",
        live.name
    )))
}
