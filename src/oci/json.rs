//! JSON of others, and where in it an error is: serde_json knows the line and the
//! column, a person wants the field. The place is looked for only when there is an
//! error.

use std::io::Read;

use serde::de::DeserializeOwned;

use super::strict::Strict;
use crate::{Error, Result};

/// The most that is read of a file, bytes.
const MOST: u64 = 16 << 20;

pub(crate) fn read<T: DeserializeOwned>(from: impl Read) -> Result<T> {
    parse(&read_bytes(from)?)
}

/// # Errors
/// [`crate::Kind::Invalid`] if there is more than 16 MiB.
pub(crate) fn read_bytes(from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MOST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST {
        true => Err(Error::invalid(format!("more than {MOST} bytes"))),
        false => Ok(bytes),
    }
}

/// # Errors
/// [`crate::Kind::Invalid`], as in `linux.resources.pids.limit: invalid type: ...`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let parsed = T::deserialize(Strict(&mut parser));
    let parsed = parsed.and_then(|value| parser.end().map(|()| value));
    parsed.map_err(|e| {
        let place = (e.line(), e.column());
        let text = e.to_string();
        let what = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(what, _)| what);
        let path = path_at(bytes, place, e.is_data());
        let (line, column) = place;
        Error::invalid(match path.is_empty() {
            true => format!("{what} (line {line}, column {column})"),
            false => format!("{path}: {what} (line {line}, column {column})"),
        })
    })
}

/// One level of nesting.
enum Level {
    Object(String),
    Array(usize),
}

/// The field that a place (1-based line, bytes of the line that were read) is in.
/// `in_value`: what was read is well formed, and of the wrong type.
fn path_at(bytes: &[u8], (line, column): (usize, usize), in_value: bool) -> String {
    let mut starts = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n');
    let start = match line {
        0 | 1 => 0,
        n => starts.nth(n - 2).map_or(bytes.len(), |(i, _)| i + 1),
    };
    let end = (start + column.saturating_sub(1)).min(bytes.len());
    let mut levels: Vec<Level> = Vec::new();
    let mut i = 0;
    let mut key_is_next = false;
    while i < end {
        match bytes[i] {
            b'"' => {
                let (text, next) = string_at(bytes, i, end);
                if key_is_next && let Some(Level::Object(key)) = levels.last_mut() {
                    *key = text;
                }
                key_is_next = false;
                i = next;
                continue;
            }
            b'{' => {
                levels.push(Level::Object(String::new()));
                key_is_next = true;
            }
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Array(n)) => *n += 1,
                Some(Level::Object(_)) => key_is_next = true,
                None => {}
            },
            _ => {}
        }
        i += 1;
    }
    // A list or an object in the wrong place is told by what is before it.
    match (bytes.get(end), levels.last_mut()) {
        (Some(b'['), _) if in_value => levels.push(Level::Array(0)),
        (Some(b','), Some(Level::Array(n))) if in_value => *n += 1,
        _ => {}
    }
    // What an object lacks is told at its end: the last key is not to blame.
    if bytes.get(end) == Some(&b'}')
        && let Some(Level::Object(key)) = levels.last_mut()
        && !value_ends_at(bytes, end)
    {
        key.clear();
    }
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object(key) if key.is_empty() => {}
            Level::Object(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key);
            }
            Level::Array(n) => path.push_str(&format!("[{n}]")),
        }
    }
    path
}

/// Whether a number or word ends right here, which is told a byte late.
fn value_ends_at(bytes: &[u8], end: usize) -> bool {
    end > 0 && (bytes[end - 1].is_ascii_alphanumeric())
}

/// The string that begins at `at`, and where it has ended.
fn string_at(bytes: &[u8], at: usize, end: usize) -> (String, usize) {
    let mut i = at + 1;
    while i < end {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => break,
            _ => i += 1,
        }
    }
    let stop = i.min(end);
    let text = String::from_utf8_lossy(&bytes[(at + 1).min(stop)..stop]).into_owned();
    (text, stop + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::config::Config;

    fn fault(text: &str) -> String {
        parse::<Config>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn names_the_field() {
        for (text, field) in [
            (r#"{"ociVersion": 3}"#, "ociVersion: "),
            (
                r#"{"process": {"cwd": "/", "user": {"uid": "x"}}}"#,
                "process.user.uid: ",
            ),
            (
                r#"{"linux": {"namespaces": [{"type": "pid"}, {"type": "nope"}]}}"#,
                "linux.namespaces[1].type: ",
            ),
            (
                r#"{"linux": {"resources": {"pids": {"limit": "many"}}}}"#,
                "linux.resources.pids.limit: ",
            ),
            (
                r#"{"process": {"cwd": "/", "user": {}, "args": ["a",[]]}}"#,
                "process.args[1]: ",
            ),
            (
                r#"{"process": {"cwd": "/", "user": {}, "args": [{}, "a"]}}"#,
                "process.args[0]: ",
            ),
            (
                r#"{"process": {"cwd": "/", "user": {}, "args": ["a", 3]}}"#,
                "process.args[1]: ",
            ),
            (r#"{"annotations": []}"#, "annotations: "),
            (
                r#"{"mounts": [{"type": "proc"}]}"#,
                "mounts[0]: missing field `destination`",
            ),
        ] {
            let e = fault(text);
            assert!(e.starts_with(field), "{e}");
        }
    }

    #[test]
    fn survives_what_is_no_json() {
        for text in ["", "{", "[[[", "\"\\", "{\"a\": \"", "nul", "{\"a\\\"b\":}"] {
            assert!(!fault(text).is_empty());
        }
    }
}
