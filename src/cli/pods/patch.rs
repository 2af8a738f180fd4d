//! `carob patch`.

use clap::Args;
use serde_json::Value;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::objects::made;
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::object::{self, What};
use crate::cli::show::output::{self, Format};
use crate::manifest::patch::PatchKind;
use crate::manifest::{self, Source};
use crate::object::update;
use crate::pod::client::View;
use crate::pod::verbs::change::change;
use crate::spec::{Object, Pod};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Patch {
    /// `pod NAME`, `cm NAME` or `secret/NAME`
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
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Patch {
    const NAME: &'static str = "patch";
    const ABOUT: &'static str = "Change fields of what is there";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob patch pod web -p '{\"spec\":{\"activeDeadlineSeconds\":600}}'\n\
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
        let resources = object::named_ones(Self::NAME, &self.words)?;
        let one = resources.iter().map(|n| n.names.len()).sum::<usize>() == 1;
        let dry = self.dry_run.is_any();
        let note = self.dry_run.note();
        let (mut shown, mut errors) = (vec![], vec![]);
        for (what, name) in object::each(&resources) {
            let done = patch_one(face, what, name, &patch, kind, dry);
            match (done, &format) {
                (Ok((_, changed)), Format::Table { .. }) => {
                    let word = match changed {
                        true => "patched",
                        false => "patched (no change)",
                    };
                    let line = format!("{}/{name} {word}{note}\n", what.singular());
                    output::text(&line, false)?;
                }
                (Ok((value, _)), _) => shown.push(value),
                (Err(e), _) => errors.push(e),
            }
        }
        if !shown.is_empty() {
            format.print(shown, !one)?;
        }
        face.first_of(errors).map(|()| 0)
    }
}

/// What it is then, and whether that is another than before.
fn patch_one(
    face: &Face,
    what: What,
    name: &str,
    patch: &Value,
    kind: PatchKind,
    dry: bool,
) -> Result<(Value, bool)> {
    if let What::Object(of) = what {
        let act = |live: &Object| manifest::patched_object(live, patch, kind);
        let namespace = what.namespace(&face.namespace);
        let (object, changed) = update(&face.layout, of, namespace, name, dry, act)?;
        return Ok((made::expanded(face, object, dry).v1(), changed));
    }
    let view = face.find(name)?;
    let make = |live: &Pod| manifest::patched(live, patch, kind);
    let changed = change(&face.layout, &view, &make, dry)?;
    let pod = changed.pod;
    Ok((object::v1(&View { pod, ..view }), changed.changed))
}

fn only(mut sources: Vec<Source>) -> Result<Source> {
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => Err(Error::usage("--patch-file names one file")),
    }
}
