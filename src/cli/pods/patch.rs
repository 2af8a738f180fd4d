//! `carob patch`.

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::show::object;
use crate::cli::show::output::{self, Format};
use crate::manifest::patch::PatchKind;
use crate::manifest::{self, Source};
use crate::pod::client::View;
use crate::pod::verbs::change::change;
use crate::spec::Pod;
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Patch {
    /// `pod NAME` or `pod/NAME`
    #[arg(required = true, value_name = "KIND NAME")]
    words: Vec<String>,
    /// The patch, in JSON or YAML
    #[arg(short, long, value_name = "PATCH", conflicts_with = "patch_file")]
    patch: Option<String>,
    /// A file with the patch; - for stdin
    #[arg(long, value_name = "FILE", required_unless_present = "patch")]
    patch_file: Option<String>,
    /// strategic: lists by their keys; merge: RFC 7386; json: RFC 6902
    #[arg(long = "type", value_name = "KIND", default_value = "strategic", value_parser = ["json", "merge", "strategic"])]
    kind: String,
    /// client, server: say what would be done, and do nothing
    #[arg(long, value_name = "none|client|server", num_args = 0..=1, default_value = "none", default_missing_value = "client", require_equals = true, value_parser = ["none", "client", "server"])]
    dry_run: String,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Patch {
    const NAME: &'static str = "patch";
    const ABOUT: &'static str = "Change fields of a Pod that is there";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob patch pod web --patch-file=more-memory.yaml\n\
        \x20 carob patch pod/web --type=json --patch-file=image.json --dry-run=server -o yaml";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let source = match (&self.patch, &self.patch_file) {
            (Some(text), _) => Source {
                name: "--patch".into(),
                bytes: text.clone().into_bytes(),
            },
            (None, Some(file)) => only(manifest::read(file)?)?,
            (None, None) => return Err(Error::usage("there is no patch")),
        };
        let patch = manifest::parse_patch(&source)?;
        let kind = match self.kind.as_str() {
            "json" => PatchKind::Json,
            "merge" => PatchKind::Merge,
            _ => PatchKind::Strategic,
        };
        let names = object::names_of(Self::NAME, &self.words)?;
        if names.is_empty() {
            return Err(Error::usage("no Pod is named").hint("write it as in pod/NAME"));
        }
        let dry = self.dry_run != "none";
        let note = match self.dry_run.as_str() {
            "client" => " (dry run)",
            "server" => " (server dry run)",
            _ => "",
        };
        let (mut shown, mut errors) = (vec![], vec![]);
        for name in &names {
            let done = face.find(name).and_then(|view| {
                let make = |live: &Pod| manifest::patched(live, &patch, kind);
                let changed = change(&face.layout, &view, &make, dry)?;
                Ok((view, changed))
            });
            match (done, &format) {
                (Ok((_, changed)), Format::Table { .. }) => {
                    let word = match changed.changed {
                        true => "patched",
                        false => "patched (no change)",
                    };
                    output::text(&format!("pod/{} {word}{note}\n", changed.pod.name), false)?;
                }
                (Ok((view, changed)), _) => shown.push(object::v1(&View {
                    pod: changed.pod,
                    ..view
                })),
                (Err(e), _) => errors.push(e),
            }
        }
        if !shown.is_empty() {
            format.print(shown, names.len() > 1)?;
        }
        face.first_of(errors).map(|()| 0)
    }
}

fn only(mut sources: Vec<Source>) -> Result<Source> {
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => Err(Error::usage("--patch-file names one file")),
    }
}
