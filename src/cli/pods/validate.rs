//! `carob validate`: what would become of each field, without doing anything.

use clap::Args;
use serde_json::json;

use crate::cli::face::Face;
use crate::cli::show::output::{self, Format};
use crate::cli::show::table::Table;
use crate::cli::{Verb, pods::files};
use crate::manifest::{self, FieldVerdict, Verdict};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// A manifest, a directory of them, or - for stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<String>,
    /// Directories with those below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Problems alone
    #[arg(short, long)]
    quiet: bool,
    /// json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Validate {
    const NAME: &'static str = "validate";
    const ABOUT: &'static str = "Check manifests, and say what becomes of each field";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob validate -f web.yaml\n\
        \x20 carob validate -f - -o json <web.yaml";

    fn needs_root(&self) -> bool {
        false
    }

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let sources = files::sources(&self.filename, self.recursive)?;
        let (parsed, fault) = manifest::examine(&sources, face.only_namespace())?;
        if !matches!(format, Format::Table { .. }) {
            let pods: Vec<String> = parsed
                .pods
                .iter()
                .map(|p| format!("{}/{}", p.namespace, p.name))
                .collect();
            let objects = parsed.objects.iter().map(|o| match o.namespace.as_str() {
                "" => o.reference(),
                namespace => format!("{}/{namespace}/{}", o.kind.singular(), o.name),
            });
            let objects: Vec<String> = objects.collect();
            format.print_value(&json!({
                "valid": fault.is_none(),
                "pods": pods,
                "objects": objects,
                "fields": parsed.verdicts,
                "notes": parsed.notes,
                "problems": fault.as_ref().map(Error::get_problems).unwrap_or_default(),
            }))?;
            return fault.map_or(Ok(0), Err);
        }
        if self.quiet || parsed.verdicts.is_empty() {
            return fault.map_or(Ok(0), Err);
        }
        let mut table = Table::default();
        table.row(["WHERE", "FIELD", "ANSWER", "WHY"]);
        for v in &parsed.verdicts {
            let place = match v.line {
                0 => v.source.clone(),
                n => format!("{}:{n}", v.source),
            };
            table.row([place.as_str(), &v.field, answer(v.verdict), &v.why]);
        }
        let text = format!("{}{}\n", table.take(), summary(&parsed.verdicts));
        output::text(&text, false)?;
        fault.map_or(Ok(0), Err)
    }
}

/// One line for who does not read the table.
fn summary(verdicts: &[FieldVerdict]) -> String {
    let answers = [
        Verdict::Honoured,
        Verdict::NoEffect,
        Verdict::Refused,
        Verdict::Invalid,
    ];
    let count = |answer| verdicts.iter().filter(|v| v.verdict == answer).count();
    let counts: Vec<String> = answers
        .into_iter()
        .filter(|a| count(*a) > 0)
        .map(|a| format!("{} {}", count(a), answer(a)))
        .collect();
    let fields = match verdicts.len() {
        1 => "1 field".to_owned(),
        n => format!("{n} fields"),
    };
    match counts.len() {
        1 => format!("{fields}, all {}", answer(verdicts[0].verdict)),
        _ => format!("{fields}: {}", counts.join(", ")),
    }
}

fn answer(v: Verdict) -> &'static str {
    match v {
        Verdict::Honoured => "honoured",
        Verdict::NoEffect => "no effect",
        Verdict::Refused => "refused",
        Verdict::Invalid => "invalid",
    }
}
