//! What the files of a downwardAPI source say of the Pod (pkg/fieldpath and
//! pkg/api/v1/resource of Kubernetes).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::content::Facts;
use crate::spec::{DownwardValue, Pod};
use crate::{Error, Result};

pub(super) fn value(facts: Facts<'_>, value: &DownwardValue) -> Result<String> {
    match value {
        DownwardValue::Field(path) => field(facts.pod, path)
            .ok_or_else(|| Error::invalid(format!("fieldRef {path}: no such field"))),
        DownwardValue::Resource {
            container,
            resource,
            divisor,
        } => (facts.pod.spec.container(container))
            .and_then(|c| c.resources.named(resource, facts.node))
            .map(|v| v.div_ceil((*divisor).max(1)).to_string())
            .ok_or_else(|| {
                let text = format!("resourceFieldRef {resource} of {container:?}: there is none");
                Error::invalid(text)
            }),
    }
}

fn field(pod: &Pod, path: &str) -> Option<String> {
    match path {
        "metadata.labels" => Some(lines(&pod.labels)),
        "metadata.annotations" => Some(lines(&pod.annotations)),
        _ => pod.metadata_field(path),
    }
}

/// `key="value"`, a line each, the value as Go's %q quotes it.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// strconv.Quote of Go.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let short = match c {
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{b}' => "\\v",
            '\\' => "\\\\",
            '"' => "\\\"",
            _ => "",
        };
        let number = u32::from(c);
        let written = match c {
            _ if !short.is_empty() => write!(out, "{short}"),
            ' ' => write!(out, " "),
            _ if number < 0x20 || number == 0x7f => write!(out, "\\x{number:02x}"),
            // As Rust sees what can be shown, which is as Go sees it but for the versions of
            // Unicode that the two know.
            _ if c.escape_debug().count() == 1 || c == '\'' => write!(out, "{c}"),
            _ if number > 0xffff => write!(out, "\\U{number:08x}"),
            _ => write!(out, "\\u{number:04x}"),
        };
        debug_assert!(written.is_ok(), "a String takes all that is written");
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_does() {
        for (text, want) in [
            ("plain", r#""plain""#),
            ("it's", r#""it's""#),
            ("a \"b\" \\", r#""a \"b\" \\""#),
            ("1\n2\t3\r", r#""1\n2\t3\r""#),
            ("\u{1}\u{7f}\u{7}", r#""\x01\x7f\a""#),
            ("grüße", "\"grüße\""),
            ("\u{200b}\u{a0}", r#""\u200b\u00a0""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quote(text), want, "{text:?}");
        }
    }
}
