//! What `edit` makes of a Pod, as kubectl does: only what was changed in the editor is changed,
//! so that what others have changed meanwhile stays.

use serde_json::Value;

use super::schema::{self, below};
use super::strategic::sort;
use super::three_way::{are_told_apart, by_key, telling, telling_key};

/// `before` and `after`: what the editor was given, and gave back. `live`: what is there now.
pub(crate) fn rebase(before: &Value, after: &Value, live: &Value) -> Value {
    value(before, after, live, "")
}

fn value(before: &Value, after: &Value, live: &Value, path: &str) -> Value {
    if before == after {
        return live.clone();
    }
    match (before, after, live) {
        (Value::Object(before), Value::Object(after), Value::Object(live)) => {
            let mut merged = live.clone();
            merged.retain(|k, _| after.contains_key(k) || !before.contains_key(k));
            for (key, new) in after {
                let (old, now) = (before.get(key), live.get(key));
                match (old, now) {
                    (Some(old), None) if old == new => {}
                    (Some(old), Some(now)) => {
                        let new = value(old, new, now, &below(path, key));
                        merged.insert(key.clone(), new);
                    }
                    _ => drop(merged.insert(key.clone(), new.clone())),
                }
            }
            Value::Object(merged)
        }
        (Value::Array(before), Value::Array(after), Value::Array(live)) => {
            match schema::keys(path).map(|keys| telling(path, keys)) {
                Some(keys) if are_told_apart(&[before, after, live], keys) => {
                    let [in_before, in_after, in_live] =
                        [before, after, live].map(|l| by_key(l, keys));
                    let mut merged = Vec::new();
                    for item in live {
                        let key = telling_key(item, keys);
                        match (in_before.get(&key), in_after.get(&key)) {
                            (Some(old), Some(new)) => {
                                merged.push(value(&before[*old], &after[*new], item, path));
                            }
                            (None, Some(new)) => merged.push(after[*new].clone()),
                            (Some(_), None) => {}
                            (None, None) => merged.push(item.clone()),
                        }
                    }
                    for item in after {
                        let key = telling_key(item, keys);
                        let is_gone = in_before.get(&key).is_some_and(|i| before[*i] == *item);
                        if !in_live.contains_key(&key) && !is_gone {
                            merged.push(item.clone());
                        }
                    }
                    sort(&mut merged, after, keys);
                    Value::Array(merged)
                }
                _ => Value::Array(after.clone()),
            }
        }
        _ => after.clone(),
    }
}
