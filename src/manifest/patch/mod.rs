//! Changes of a Pod's manifest as data: JSON patch ([`pointer`], RFC 6902), merge patch
//! (RFC 7386, here), strategic merge patch with Kubernetes' keys for Pods ([`strategic`]),
//! the three-way merge of `apply` ([`three_way`]) and that of `edit` ([`rebase`]). Pure; a result is checked as any
//! manifest is.

mod pointer;
mod rebase;
mod schema;
mod strategic;
mod three_way;

use serde_json::{Map, Value};

pub(crate) use rebase::rebase;
pub(crate) use three_way::three_way;

use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
}

/// The value as the patch makes it.
///
/// # Errors
/// [`crate::Kind::Invalid`]: the patch is none of its kind, or does not fit the value. A test
/// of a JSON patch that fails is one.
pub(crate) fn patch(value: &Value, patch: &Value, kind: PatchKind) -> Result<Value> {
    match kind {
        PatchKind::Json => pointer::apply(value, patch),
        PatchKind::Merge => Ok(merge(value, patch)),
        PatchKind::Strategic => strategic::apply(value, patch),
    }
}

/// RFC 7386: null takes away, an object goes into an object, anything else replaces.
fn merge(value: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = match value {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    for (key, change) in patch {
        match change {
            Value::Null => drop(merged.shift_remove(key)),
            change => {
                let old = merged.get(key).unwrap_or(&Value::Null);
                let new = merge(old, change);
                merged.insert(key.clone(), new);
            }
        }
    }
    Value::Object(merged)
}

/// A value in an error.
fn shown(value: &Value) -> String {
    const MOST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
