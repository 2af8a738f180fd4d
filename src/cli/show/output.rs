//! Where bytes leave the program on purpose: stdout, with every error noticed.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::cli::show::jsonpath::Template;
use crate::cli::show::yaml;
use crate::plain::{escape_json, strip_styles};
use crate::{Context, Error, Result};

/// `-o` of the verbs that show objects.
#[derive(Debug)]
pub(crate) enum Format {
    Table { wide: bool },
    Json,
    Yaml,
    Name,
    JsonPath(Template),
}

impl Format {
    /// `None` is the verb's own table or sentence.
    pub(crate) fn parse(word: Option<&str>) -> Result<Self> {
        Ok(match word {
            None => Format::Table { wide: false },
            Some("wide") => Format::Table { wide: true },
            Some("json") => Format::Json,
            Some("yaml") => Format::Yaml,
            Some("name") => Format::Name,
            Some(w) => match w.split_once('=') {
                Some(("jsonpath", template)) => Format::JsonPath(Template::parse(template)?),
                Some(("jsonpath-file", file)) => {
                    let read = std::fs::read_to_string(file).map_err(|e| unread(e, file))?;
                    Format::JsonPath(Template::parse(read.trim_end_matches('\n'))?)
                }
                _ => return Err(unknown(w)),
            },
        })
    }

    /// Prints what is not a table: one object as it is, several as a v1 List.
    pub(crate) fn print(&self, mut objects: Vec<Value>, as_list: bool) -> Result<()> {
        if let Format::Name = self {
            let names: String = objects
                .iter()
                .map(|o| {
                    let kind = o["kind"].as_str().unwrap_or("Pod").to_ascii_lowercase();
                    let name = o["metadata"]["name"].as_str().unwrap_or_default();
                    format!("{kind}/{name}\n")
                })
                .collect();
            return text(&names, false);
        }
        let mut object = match objects.pop() {
            Some(one) if objects.is_empty() && !as_list => one,
            last => {
                objects.extend(last);
                json!({
                    "apiVersion": "v1",
                    "kind": "List",
                    "metadata": {"resourceVersion": ""},
                    "items": objects,
                })
            }
        };
        object.sort_all_objects();
        self.print_value(&object)
    }

    /// Prints one value that is no Pod.
    pub(crate) fn print_value(&self, value: &Value) -> Result<()> {
        match self {
            Format::Yaml => text(&yaml::emit(value), false),
            Format::JsonPath(t) => raw(&t.render(value)?),
            _ => text(&pretty(value), false),
        }
    }
}

/// A file that the command line names and that cannot be read.
pub(crate) fn unread(e: std::io::Error, file: &str) -> Error {
    Error::of_file(e, format!("read the file {file}"))
}

/// Of a value of `-o` that is no format here.
fn unknown(word: &str) -> Error {
    const FORMATS: &str = "wide, json, yaml, name, jsonpath=TEMPLATE, jsonpath-file=FILE; of get \
                           also custom-columns=HEADER:PATH,... and custom-columns-file=FILE";
    let name = word.split('=').next().unwrap_or_default();
    match name {
        "jsonpath" | "jsonpath-file" => {
            Error::usage("template format specified but no template given")
                .hint("write it as in -o jsonpath={.metadata.name} or -o jsonpath-file=FILE")
        }
        "go-template" | "go-template-file" | "template" | "templatefile" => Error::usage(format!(
            "the output format {name} is not there: carob has no Go templates"
        ))
        .hint(
            "write it as jsonpath=TEMPLATE, with {range ...}{end} for lists; or as a program \
               that reads -o json",
        ),
        "custom-columns" | "custom-columns-file" => {
            Error::usage(format!("the output format {name} is for `carob get` alone"))
                .hint("carob get KIND NAME -o custom-columns=HEADER:PATH,...")
        }
        _ => Error::usage(format!("unknown output format {word:?}"))
            .hint(format!("the formats are: {FORMATS}")),
    }
}

/// Four blanks a level, as kubectl does.
pub(crate) fn pretty(value: &Value) -> String {
    use serde::Serialize;
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut s = serde_json::Serializer::with_formatter(&mut out, format);
    // Writing a Value into memory cannot be refused.
    if value.serialize(&mut s).is_err() {
        return String::new();
    }
    out.push(b'\n');
    let text = String::from_utf8(out).unwrap_or_default();
    escape_json(&text).into_owned()
}

pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Writes text to stdout whole; styles are left in it only if asked.
pub(crate) fn text(s: &str, styled: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if styled {
        out.write_all(s.as_bytes())
    } else {
        out.write_all(strip_styles(s).as_bytes())
    }
    .and_then(|()| out.flush())
    .context("write(stdout)")
}

/// Values for a program, as they are; for a person's terminal as [`text`].
fn raw(s: &str) -> Result<()> {
    text(s, !stdout_is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn formats() {
        assert!(matches!(
            Format::parse(None),
            Ok(Format::Table { wide: false })
        ));
        assert!(matches!(
            Format::parse(Some("wide")),
            Ok(Format::Table { wide: true })
        ));
        assert!(matches!(
            Format::parse(Some("jsonpath={.a}")),
            Ok(Format::JsonPath(_))
        ));
        for (word, text) in [
            ("xml", "unknown output format"),
            ("jsonpath", "no template given"),
            ("go-template={{.kind}}", "no Go templates"),
            ("custom-columns=A:.a", "for `carob get` alone"),
        ] {
            let e = Format::parse(Some(word)).unwrap_err();
            assert!(e.to_string().contains(text), "{e}");
            assert_eq!(e.kind(), Kind::Usage);
        }
        let e = Format::parse(Some("jsonpath-file=/no/such")).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
        assert!(Format::parse(Some("jsonpath={.a")).is_err());
    }

    #[test]
    fn json_is_indented_as_kubectl_does() {
        assert_eq!(
            pretty(&json!({"a": [1]})),
            "{\n    \"a\": [\n        1\n    ]\n}\n"
        );
    }
}
