//! What the files of a downwardAPI source say of the Pod (pkg/fieldpath and
//! pkg/api/v1/resource of Kubernetes).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::content::Facts;
use crate::spec::{DownwardValue, Node, Pod, Spec};
use crate::{Error, Result};

pub(super) fn value(facts: Facts<'_>, value: &DownwardValue) -> Result<String> {
    match value {
        DownwardValue::Field(path) => field(facts.pod, path)
            .ok_or_else(|| Error::invalid(format!("fieldRef {path}: no such field"))),
        DownwardValue::Resource {
            container,
            resource,
            divisor,
        } => self::resource(&facts.pod.spec, facts.node, container, resource)
            .map(|v| v.div_ceil((*divisor).max(1)).to_string())
            .ok_or_else(|| {
                let text = format!("resourceFieldRef {resource} of {container:?}: there is none");
                Error::invalid(text)
            }),
    }
}

fn field(pod: &Pod, path: &str) -> Option<String> {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &pod.labels,
            "metadata.annotations" => &pod.annotations,
            _ => return None,
        };
        return Some(map.get(key).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid.clone(),
        "metadata.labels" => lines(&pod.labels),
        "metadata.annotations" => lines(&pod.annotations),
        _ => return None,
    })
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

/// In thousandths of a CPU, or in bytes.
fn resource(spec: &Spec, node: Node, container: &str, resource: &str) -> Option<u64> {
    let r = spec.container(container)?.resources;
    Some(match resource {
        "limits.cpu" => r.cpu_limit.unwrap_or(node.cpu),
        "limits.memory" => r.memory_limit.unwrap_or(node.memory),
        "requests.cpu" => r.cpu_request.or(r.cpu_limit).unwrap_or(0),
        "requests.memory" => r.memory_request.or(r.memory_limit).unwrap_or(0),
        _ => return None,
    })
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
