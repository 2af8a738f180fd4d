//! Strategic merge patch: lists of objects are merged by a key, and directives say what else
//! is meant: `$patch` (replace, delete, merge), `$retainKeys`, `$deleteFromPrimitiveList/FIELD`,
//! `$setElementOrder/FIELD`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::schema::{self, Keys, below, key_of};
use super::shown;
use crate::{Error, Result};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

pub(super) fn apply(value: &Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else {
        return Err(Error::invalid(
            "a strategic merge patch is an object, such as \
             {\"metadata\": {\"labels\": {\"a\": \"b\"}}}",
        ));
    };
    let empty = Map::new();
    let merged = object(value.as_object().unwrap_or(&empty), patch, "")?;
    Ok(Value::Object(merged.unwrap_or_default()))
}

fn wrong(path: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("strategic merge patch: {path}: {what}"))
}

/// `None`: it is to be deleted.
fn object(
    old: &Map<String, Value>,
    patch: &Map<String, Value>,
    path: &str,
) -> Result<Option<Map<String, Value>>> {
    let mut merged = match patch.get(DIRECTIVE).map(Value::as_str) {
        None | Some(Some("merge")) => old.clone(),
        Some(Some("replace")) => Map::new(),
        Some(Some("delete")) => return Ok(None),
        Some(_) => return Err(wrong(path, "$patch is replace, delete or merge")),
    };
    if let Some(keep) = patch.get(RETAIN) {
        let keep = keep
            .as_array()
            .ok_or_else(|| wrong(path, "$retainKeys is a list"))?;
        merged.retain(|k, _| keep.iter().any(|name| name == k));
    }
    for (key, gone) in patch {
        let Some(field) = key.strip_prefix(DELETE) else {
            continue;
        };
        let gone = gone
            .as_array()
            .ok_or_else(|| wrong(path, "its value is a list"))?;
        if let Some(Value::Array(items)) = merged.get_mut(field) {
            let gone: HashSet<&Value> = gone.iter().collect();
            items.retain(|item| !gone.contains(item));
        }
    }
    for (key, change) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        let at = below(path, key);
        let was = merged.get(key);
        let new = match change {
            Value::Null => None,
            Value::Object(change) => {
                let empty = Map::new();
                let was = was.and_then(Value::as_object).unwrap_or(&empty);
                object(was, change, &at)?.map(Value::Object)
            }
            Value::Array(change) => {
                let was = was.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                Some(Value::Array(match schema::keys(&at) {
                    Some(keys) => list(was, change, keys, &at)?,
                    None => change.clone(),
                }))
            }
            other => Some(other.clone()),
        };
        match new {
            Some(new) => drop(merged.insert(key.clone(), new)),
            None => drop(merged.shift_remove(key)),
        }
    }
    for (key, order) in patch {
        match key.strip_prefix(ORDER) {
            Some(field) => {
                let at = below(path, field);
                let order = order
                    .as_array()
                    .ok_or_else(|| wrong(&at, "its order is a list"))?;
                let keys = schema::keys(&at).unwrap_or(&[]);
                if let Some(Value::Array(items)) = merged.get_mut(field) {
                    sort(items, order, keys);
                }
            }
            None if key.starts_with('$')
                && key != DIRECTIVE
                && key != RETAIN
                && !key.starts_with(DELETE) =>
            {
                return Err(wrong(path, format!("there is no directive {key:?}")));
            }
            None => {}
        }
    }
    Ok(Some(merged))
}

fn list(old: &[Value], patch: &[Value], keys: Keys, path: &str) -> Result<Vec<Value>> {
    let directive = |item: &Value| {
        item.get(DIRECTIVE)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let replaces = |item: &Value| {
        let bare = item.as_object().is_some_and(|m| m.len() == 1);
        bare && directive(item).as_deref() == Some("replace")
    };
    if patch.iter().any(replaces) {
        return Ok(patch.iter().filter(|i| !replaces(i)).cloned().collect());
    }
    let mut merged: Vec<Option<Value>> = old.iter().cloned().map(Some).collect();
    // The first one of a key is the last here.
    let mut places: HashMap<Vec<Value>, Vec<usize>> = HashMap::new();
    for (i, item) in old.iter().enumerate().rev() {
        if let Some(key) = key_of(item, keys) {
            places.entry(key).or_default().push(i);
        }
    }
    for item in patch {
        let key = key_of(item, keys).ok_or_else(|| {
            let what = format!("an item has no {}: {}", keys.join(", "), shown(item));
            wrong(path, what)
        })?;
        let places = places.entry(key).or_default();
        let at = places.last().copied();
        let new = match item {
            Value::Object(change) => {
                let empty = Map::new();
                let was = at.and_then(|i| merged[i].as_ref()?.as_object());
                object(was.unwrap_or(&empty), change, path)?.map(Value::Object)
            }
            item => Some(item.clone()),
        };
        match (new, at) {
            (Some(new), Some(i)) => merged[i] = Some(new),
            (Some(new), None) => {
                places.push(merged.len());
                merged.push(Some(new));
            }
            (None, Some(i)) => {
                merged[i] = None;
                places.pop();
            }
            (None, None) => {}
        }
    }
    Ok(merged.into_iter().flatten().collect())
}

/// Those that `order` names take its order among the places that they have.
pub(super) fn sort(items: &mut [Value], order: &[Value], keys: Keys) {
    let mut places = HashMap::new();
    for (i, item) in order.iter().enumerate() {
        if let Some(key) = key_of(item, keys) {
            places.entry(key).or_insert(i);
        }
    }
    let place = |item: &Value| places.get(&key_of(item, keys)?).copied();
    let (slots, mut sorted): (Vec<usize>, Vec<_>) = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| Some((i, (place(item)?, item.clone()))))
        .unzip();
    sorted.sort_by_key(|(place, _)| *place);
    for (slot, (_, item)) in slots.into_iter().zip(sorted) {
        items[slot] = item;
    }
}
