//! JSON patch (RFC 6902) with JSON pointers (RFC 6901).

use serde_json::Value;

use crate::{Error, Result};

/// More than any Pod needs; each may copy all that there is.
const MOST_OPERATIONS: usize = 10_000;
/// Bytes of the result, as JSON: copies of copies grow without end.
const MOST_BYTES: usize = 3 << 20;
/// Objects and lists in each other: what copies and moves put below each other is gone through
/// by functions that call themselves. A manifest may have 64.
const MOST_DEPTH: usize = 256;

pub(super) fn apply(value: &Value, patch: &Value) -> Result<Value> {
    let Value::Array(operations) = patch else {
        return Err(Error::invalid(
            "a JSON patch is a list of operations, such as [{\"op\": \"remove\", \"path\": \"/a\"}]",
        ));
    };
    if operations.len() > MOST_OPERATIONS {
        return Err(Error::invalid(format!(
            "the JSON patch has {} operations; at most {MOST_OPERATIONS} are possible",
            operations.len()
        )));
    }
    let mut patched = value.clone();
    let mut copied = 0;
    for (i, operation) in operations.iter().enumerate() {
        copied += one(&mut patched, operation)
            .map_err(|e| e.push_context(format!("operation {i} of the JSON patch")))?;
        if copied > MOST_BYTES {
            return Err(Error::invalid("the JSON patch copies more than 3 MiB"));
        }
    }
    Ok(patched)
}

/// Returns the bytes that it has copied.
fn one(value: &mut Value, operation: &Value) -> Result<usize> {
    let text = |name: &str| {
        operation[name]
            .as_str()
            .ok_or_else(|| Error::invalid(format!("{name:?} is missing, or no text")))
    };
    let wanted = || {
        operation
            .get("value")
            .cloned()
            .ok_or_else(|| Error::invalid("\"value\" is missing"))
    };
    let (op, path) = (text("op")?, text("path")?);
    let to = parse(path)?;
    match op {
        "add" => add(value, &to, path, wanted()?)?,
        "remove" => drop(remove(value, &to, path)?),
        "replace" => *find(value, &to, path)? = wanted()?,
        "move" => {
            let from = text("from")?;
            let parts = parse(from)?;
            if to.len() > parts.len() && to.starts_with(&parts) {
                return Err(Error::invalid(format!(
                    "{from:?} cannot be moved into itself, {path:?}"
                )));
            }
            let moved = remove(value, &parts, from)?;
            add(value, &to, path, moved)?;
        }
        "copy" => {
            let from = text("from")?;
            let copy = find(value, &parse(from)?, from)?.clone();
            let size = copy.to_string().len();
            add(value, &to, path, copy)?;
            return Ok(size);
        }
        "test" => {
            let is = find(value, &to, path)?;
            let wanted = wanted()?;
            if !same(is, &wanted) {
                // The value may be a Secret's.
                return Err(Error::invalid(format!(
                    "test of {path:?}: the value there is another"
                )));
            }
        }
        other => {
            return Err(Error::invalid(format!("there is no operation {other:?}"))
                .hint("the operations are add, remove, replace, move, copy, test"));
        }
    }
    Ok(0)
}

/// Numbers are the same by their value: 1 and 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn parse(path: &str) -> Result<Vec<String>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Error::invalid(format!("path {path:?} has to begin with /")));
    };
    let parts = rest.split('/');
    Ok(parts
        .map(|p| p.replace("~1", "/").replace("~0", "~"))
        .collect())
}

fn missing(path: &str) -> Error {
    Error::invalid(format!("there is nothing at {path:?}"))
}

/// An index without sign or leading zero.
fn index(part: &str, most: usize) -> Option<usize> {
    let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
    part.parse().ok().filter(|i| plain && *i <= most)
}

fn find<'v>(value: &'v mut Value, parts: &[String], path: &str) -> Result<&'v mut Value> {
    let mut at = value;
    for part in parts {
        at = match at {
            Value::Object(map) => map.get_mut(part),
            Value::Array(items) => index(part, usize::MAX).and_then(|i| items.get_mut(i)),
            _ => None,
        }
        .ok_or_else(|| missing(path))?;
    }
    Ok(at)
}

fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Object(map) => map.values().map(depth).max(),
        Value::Array(items) => items.iter().map(depth).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

fn add(value: &mut Value, parts: &[String], path: &str, new: Value) -> Result<()> {
    if parts.len() + depth(&new) > MOST_DEPTH {
        return Err(Error::invalid(format!(
            "it makes objects in each other, more than {MOST_DEPTH} deep"
        )));
    }
    let Some((last, above)) = parts.split_last() else {
        *value = new;
        return Ok(());
    };
    match find(value, above, path)? {
        Value::Object(map) => drop(map.insert(last.clone(), new)),
        Value::Array(items) if last == "-" => items.push(new),
        Value::Array(items) => {
            let i = index(last, items.len()).ok_or_else(|| missing(path))?;
            items.insert(i, new);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(value: &mut Value, parts: &[String], path: &str) -> Result<Value> {
    let Some((last, above)) = parts.split_last() else {
        return Ok(value.take());
    };
    match find(value, above, path)? {
        Value::Object(map) => map.shift_remove(last),
        Value::Array(items) => index(last, usize::MAX)
            .filter(|i| *i < items.len())
            .map(|i| items.remove(i)),
        _ => None,
    }
    .ok_or_else(|| missing(path))
}
