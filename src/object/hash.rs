//! kubectl's `--append-hash`: a suffix of the name that changes with what the object holds.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Of a v1 ConfigMap or Secret: ten characters.
pub(crate) fn suffix(object: &Value) -> String {
    let (mut hashed, empty) = (Map::new(), Value::Object(Map::new()));
    let mut take =
        |field: &str, value: &Value| drop(hashed.insert(field.to_owned(), value.clone()));
    if object["binaryData"].is_object() {
        take("binaryData", &object["binaryData"]);
    }
    take(
        "data",
        match object["data"].is_object() {
            true => &object["data"],
            false => &empty,
        },
    );
    if object["immutable"].is_boolean() {
        take("immutable", &object["immutable"]);
    }
    take("kind", &object["kind"]);
    take("name", &object["metadata"]["name"]);
    if object["kind"] == "Secret" {
        let none = Value::from("");
        take("type", object.get("type").unwrap_or(&none));
    }
    let mut hashed = Value::Object(hashed);
    hashed.sort_all_objects();
    let digest = Sha256::digest(go_json(&hashed));
    let hex = digest.iter().take(5).map(|b| format!("{b:02x}"));
    // No vowels, and no digits that look like letters.
    let safe = |c: char| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    hex.collect::<String>().chars().map(safe).collect()
}

/// As Go's encoding/json writes it, which makes the text safe in HTML too.
pub(crate) fn go_json(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What kubectl 1.32 prints.
    #[test]
    fn as_kubectl_hashes() {
        for (object, suffix_of_kubectl) in [
            (
                json!({"kind": "ConfigMap", "metadata": {"name": "c"}, "binaryData": {"k": "//4="},
                    "data": {"a": "1", "t": "hi\n"}}),
                "cgf9bkh599",
            ),
            (
                json!({"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "MQ=="}}),
                "hbhk6tkb4h",
            ),
        ] {
            assert_eq!(suffix(&object), suffix_of_kubectl, "{object}");
        }
        assert_eq!(
            go_json(&json!({"a": "<&>"})),
            r#"{"a":"\u003c\u0026\u003e"}"#
        );
    }
}
