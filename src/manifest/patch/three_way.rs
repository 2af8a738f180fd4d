//! What `apply` makes of a Pod that is there, as kubectl does: fields that the manifest has
//! are as it says; fields that the manifest before had and this one has not go; all others
//! (defaults, what `label` and `patch` have added) stay.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::schema::{self, Keys, below, key_of};
use super::strategic::sort;

/// `applied`: the manifest before, null where there was none; `wanted`: the new one; both as
/// they were written. `live`: the Pod as it is.
pub(crate) fn three_way(applied: &Value, wanted: &Value, live: &Value) -> Value {
    value(applied, wanted, live, "")
}

fn value(applied: &Value, wanted: &Value, live: &Value, path: &str) -> Value {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let empty = Map::new();
            let applied = applied.as_object().unwrap_or(&empty);
            Value::Object(object(applied, wanted, live, path))
        }
        (Value::Array(wanted), Value::Array(live)) => {
            let applied = applied.as_array().map_or(&[][..], Vec::as_slice);
            match schema::keys(path).map(|keys| telling(path, keys)) {
                Some(keys) if are_told_apart(&[applied, wanted, live], keys) => {
                    Value::Array(list(applied, wanted, live, keys, path))
                }
                _ => Value::Array(wanted.clone()),
            }
        }
        _ => wanted.clone(),
    }
}

fn object(
    applied: &Map<String, Value>,
    wanted: &Map<String, Value>,
    live: &Map<String, Value>,
    path: &str,
) -> Map<String, Value> {
    let mut merged = live.clone();
    merged.retain(|k, _| wanted.get(k).is_some_and(|v| !v.is_null()) || !applied.contains_key(k));
    for (key, new) in wanted.iter().filter(|(_, v)| !v.is_null()) {
        let none = Value::Null;
        let (before, now) = (
            applied.get(key).unwrap_or(&none),
            live.get(key).unwrap_or(&none),
        );
        merged.insert(key.clone(), value(before, new, now, &below(path, key)));
    }
    merged
}

/// kubectl takes the same port of TCP and of UDP for one; here they are two.
pub(super) fn telling(path: &str, keys: Keys) -> Keys {
    match path.ends_with("ontainers.ports") {
        true => &["containerPort", "protocol"],
        false => keys,
    }
}

pub(super) fn are_told_apart(lists: &[&[Value]], keys: Keys) -> bool {
    lists.iter().all(|list| {
        let mut seen = HashSet::new();
        let mut found = list.iter().map(|item| telling_key(item, keys));
        found.all(|key| key.is_some_and(|key| seen.insert(key)))
    })
}

pub(super) fn telling_key(item: &Value, keys: Keys) -> Option<Vec<Value>> {
    if let ["containerPort", "protocol"] = keys {
        let protocol = item.get("protocol").cloned().unwrap_or("TCP".into());
        return Some(vec![item.get("containerPort")?.clone(), protocol]);
    }
    key_of(item, keys)
}

/// Where each item of a list is.
pub(super) fn by_key(list: &[Value], keys: Keys) -> HashMap<Option<Vec<Value>>, usize> {
    let all = list.iter().enumerate();
    all.map(|(i, item)| (telling_key(item, keys), i)).collect()
}

fn list(applied: &[Value], wanted: &[Value], live: &[Value], keys: Keys, path: &str) -> Vec<Value> {
    let (in_applied, in_wanted) = (by_key(applied, keys), by_key(wanted, keys));
    let kept = |item: &&Value| {
        let key = telling_key(item, keys);
        in_wanted.contains_key(&key) || !in_applied.contains_key(&key)
    };
    let mut merged: Vec<Value> = live.iter().filter(kept).cloned().collect();
    let in_merged = by_key(&merged, keys);
    let none = Value::Null;
    for new in wanted {
        let key = telling_key(new, keys);
        let before = in_applied.get(&key).map_or(&none, |i| &applied[*i]);
        match in_merged.get(&key).map(|i| &mut merged[*i]) {
            Some(now) => {
                *now = value(before, new, now, path);
                if let (true, Value::Object(now), Value::Object(new)) =
                    (schema::retains_keys(path), now, new)
                {
                    now.retain(|k, _| new.contains_key(k));
                }
            }
            None => merged.push(new.clone()),
        }
    }
    sort(&mut merged, wanted, keys);
    merged
}
