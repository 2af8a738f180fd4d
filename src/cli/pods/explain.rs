//! `carob explain`: what Kubernetes says of a field, and what carob does with it. The form is
//! kubectl's, with carob's answers added.

use clap::Args;
use serde_json::Value;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::show::output;
use crate::manifest::explain::{self, Described, Explained};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// A kind, or a field of one: `pods`, `pods.spec.containers.image`
    #[arg(value_name = "KIND[.FIELD...]")]
    what: String,
    /// The names and types of the fields of fields too, without descriptions
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    recursive: bool,
    /// Of this version of the API: v1
    #[arg(long, value_name = "VERSION")]
    api_version: Option<String>,
    /// plaintext or json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["plaintext", "json"])]
    output: Option<String>,
}

impl Verb for Explain {
    const NAME: &'static str = "explain";
    const ABOUT: &'static str = "Describe a field of a manifest, and what becomes of it here";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob explain pods.spec.containers.livenessProbe\n\
        \x20 carob explain pod.spec --recursive\n\
        \x20 carob explain pod.spec.restartPolicy -o json";

    fn needs_root(&self) -> bool {
        false
    }

    fn run(self, _: &Face) -> Result<u8> {
        let version = self.api_version.as_deref();
        let explained = explain::explain(&self.what, version, self.recursive)?;
        let text = match self.output.as_deref() {
            Some("json") => {
                let value: Value = serde_json::to_value(&explained)
                    .map_err(|e| Error::failed(format!("{}: to JSON: {e}", self.what)))?;
                format!("{value:#}\n")
            }
            _ => plain_text(&explained, self.recursive),
        };
        output::text(&text, false)?;
        Ok(0)
    }
}

/// kubectl's template, with `CAROB:` and `carob:` added.
fn plain_text(explained: &Explained, recursive: bool) -> String {
    let Explained { what, path, .. } = explained;
    let mut text = String::new();
    if !explained.group.is_empty() {
        text += &format!("GROUP:      {}\n", explained.group);
    }
    text += &format!(
        "KIND:       {}\nVERSION:    {}\n\n",
        explained.kind, explained.version
    );
    if !path.is_empty() {
        text += &format!("FIELD: {} <{}>\n", what.name, what.type_name);
        if !what.values.is_empty() {
            let values = what.values.iter().map(|v| quoted(v));
            text += "ENUM:\n";
            text += &values.map(|v| format!("    {v}\n")).collect::<String>();
        }
        text += "\n";
    }
    let description = match what.description.as_str() {
        "" => "<empty>",
        some => some,
    };
    text += &format!("DESCRIPTION:\n{}\n", wrapped(description, 76, 4));
    if let Some(answer) = &what.carob {
        text += &format!("CAROB:\n{}\n", wrapped(&answer.text, 76, 4));
    }
    if !what.fields.is_empty() {
        text += "FIELDS:\n";
        list(&what.fields, 1, recursive, &mut text);
    }
    text
}

fn list(fields: &[Described], level: usize, recursive: bool, text: &mut String) {
    let indent = 2 * level;
    for field in fields {
        *text += &format!("{:indent$}{}\t<{}>", "", field.name, field.type_name);
        if field.required {
            *text += " -required-";
        }
        let answer = field.carob.as_ref();
        if recursive && let Some(a) = answer.filter(|a| !TAKEN.contains(&a.answer)) {
            *text += &format!(" ({})", a.answer);
        }
        if !field.values.is_empty() {
            let mut values: Vec<_> = field.values.iter().take(4).map(|v| quoted(v)).collect();
            if field.values.len() > 4 {
                values.push("....");
            }
            *text += &format!("\n{:indent$}enum: {}", "", values.join(", "));
        }
        *text += "\n";
        if recursive {
            list(&field.fields, level + 1, recursive, text);
            continue;
        }
        let description = match field.description.as_str() {
            "" => "<no description>",
            some => some,
        };
        *text += &wrapped(description, 78 - indent, indent + 2);
        if let Some(answer) = answer {
            *text += &wrapped(&format!("carob: {}", answer.text), 78 - indent, indent + 2);
        }
        *text += "\n";
    }
}

/// Answers that a list of names does without.
const TAKEN: [&str; 2] = ["honoured", "by field"];

fn quoted(value: &str) -> &str {
    match value {
        "" => r#""""#,
        value => value,
    }
}

/// Each line broken at blanks where it is longer than `width`, and moved in.
fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut all = String::new();
    let mut end = |line: &str| {
        let line = line.trim_end();
        match line.is_empty() {
            true => all.push('\n'),
            false => all += &format!("{:indent$}{line}\n", ""),
        }
    };
    for line in text.trim_end().lines() {
        let mut written = String::new();
        let mut length = 0;
        for piece in line.split_inclusive(|c: char| c.is_whitespace()) {
            let word = piece.trim_end().chars().count();
            if length > 0 && length + word > width {
                end(&written);
                written.clear();
                length = 0;
            }
            written += piece;
            length += piece.chars().count();
        }
        end(&written);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(what: &str, recursive: bool) -> String {
        plain_text(&explain::explain(what, None, recursive).unwrap(), recursive)
    }

    #[test]
    fn a_field_has_the_form_of_kubectl() {
        let text = shown("pods.spec.containers.ports.protocol", false);
        assert_eq!(
            text,
            "KIND:       Pod\nVERSION:    v1\n\n\
             FIELD: protocol <string>\nENUM:\n    SCTP\n    TCP\n    UDP\n\n\
             DESCRIPTION:\n    Protocol for port. Must be UDP, TCP, or SCTP. Defaults to \"TCP\".\n\n\
             CAROB:\n    honoured\n\n"
        );
    }

    #[test]
    fn a_structure_lists_its_fields() {
        let text = shown("po.spec.containers[0].ports", false);
        for part in [
            "\nFIELD: ports <[]ContainerPort>\n\nDESCRIPTION:\n    List of ports to expose",
            // That of the items.
            "\n    ContainerPort represents a network port in a single container.\n\n\
             CAROB:\n    each field of it has an answer of its own\n\n\
             FIELDS:\n  containerPort\t<integer> -required-\n    Number of port",
            "\n    carob: honoured\n\n  hostIP\t<string>\n",
            "\n  protocol\t<string>\n  enum: SCTP, TCP, UDP\n    Protocol for port.",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn recursive_lists_names() {
        let text = shown("pod", true);
        for part in [
            "FIELDS:\n  apiVersion\t<string>\n  kind\t<string>\n  metadata\t<ObjectMeta>\n    \
             annotations\t<map[string]string>\n",
            "\n  spec\t<PodSpec>\n    activeDeadlineSeconds\t<integer>\n    affinity\t<Affinity> (no effect)\n",
            "\n    containers\t<[]Container> -required-\n      args\t<[]string>\n",
            "\n      imagePullPolicy\t<string>\n      enum: Always, IfNotPresent, Never\n",
            "\n      azureFile\t<AzureFileVolumeSource> (refused)\n",
            "\n        type\t<string>\n        enum: \"\", BlockDevice, CharDevice, Directory, ....\n",
            "\n        limits\t<map[string]Quantity>\n",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn keys_of_a_map_have_answers() {
        let text = shown("pod.spec.containers.resources.limits", false);
        assert!(
            text.contains("CAROB:\n    cpu honoured; hugepages-1Gi honoured;")
                && text.contains("memory honoured; others refused: so far"),
            "{text}"
        );
    }

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("ab cd ef", 5, 2), "  ab cd\n  ef\n");
        assert_eq!(
            wrapped("abcdefgh ij\n\n  k\n", 5, 0),
            "abcdefgh\nij\n\n  k\n"
        );
    }

    #[test]
    fn faults_name_the_nearest() {
        for (what, error, hint) in [
            (
                "pods.spec.contianers",
                r#"pod.spec: there is no field "contianers""#,
                "did you mean `carob explain pod.spec.containers`?",
            ),
            (
                "pod.zebra",
                r#"pod: there is no field "zebra""#,
                "`carob explain pod` lists the fields that there are",
            ),
            (
                "pod.spec.hostname.a",
                r#"pod.spec.hostname: there is no field "a""#,
                "pod.spec.hostname is no structure: it has no fields",
            ),
            (
                "pod.",
                r#"pod: there is no field """#,
                "`carob explain pod` lists the fields that there are",
            ),
            (
                "pds",
                r#"there is no kind "pds" here"#,
                "did you mean `carob explain pods`?",
            ),
            (
                "gateways",
                r#"there is no kind "gateways" here"#,
                "the kinds are: ",
            ),
        ] {
            let e = explain::explain(what, None, false).unwrap_err();
            assert_eq!(e.kind(), crate::Kind::Usage, "{what}");
            assert_eq!(e.to_string(), error, "{what}");
            let mend = e.get_hint().unwrap_or_default();
            assert!(mend.starts_with(hint), "{what}: {mend}");
        }
        let e = explain::explain("pod", Some("v2"), false).unwrap_err();
        assert_eq!(e.kind(), crate::Kind::Usage);
        assert!(explain::explain("pod", Some("v1"), false).is_ok());
    }
}
