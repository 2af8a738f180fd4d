//! `carob label` and `carob annotate`.

use clap::Args;

use crate::cli::face::{Face, say};
use crate::cli::objects::describe;
use crate::cli::objects::get::{self, Item};
use crate::cli::pods::files;
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::output::{self, Format};
use crate::cli::{Verb, show::object};
use crate::manifest;
use crate::pod::client::View;
use crate::pod::verbs::metadata::{self, Change, Done, Map};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// `pod NAME...`, `cm/NAME...`, or a kind with -l or --all; then KEY=VALUE to set and
    /// KEY- to remove
    #[arg(
        required_unless_present = "filename",
        value_name = "KIND [NAME] KEY=VALUE|KEY-"
    )]
    words: Vec<String>,
    /// Those that these manifests name
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<String>,
    /// Directories of -f with those below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// A key may get another value
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    overwrite: bool,
    /// Show what is set, and change nothing
    #[arg(long)]
    list: bool,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Every one of the namespace
    #[arg(long)]
    all: bool,
    /// With --all or -l: those of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Label {
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Args, Debug)]
pub(crate) struct Annotate {
    #[command(flatten)]
    arguments: Arguments,
}

impl Verb for Label {
    const NAME: &'static str = "label";
    const ABOUT: &'static str = "Set or remove labels";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob label pod web tier=front env-\n\
        \x20 carob label pods --all env=test --overwrite\n\
        \x20 carob label pod web --list";

    fn run(self, face: &Face) -> Result<u8> {
        self.arguments.run(face, Self::NAME, Map::Labels)
    }
}

impl Verb for Annotate {
    const NAME: &'static str = "annotate";
    const ABOUT: &'static str = "Set or remove annotations";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob annotate pod web owner=me note-\n\
        \x20 carob annotate pods -l app=web carob/first-probes=periodic --overwrite";

    fn run(self, face: &Face) -> Result<u8> {
        self.arguments.run(face, Self::NAME, Map::Annotations)
    }
}

impl Arguments {
    fn run(self, face: &Face, verb: &str, map: Map) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let (objects, changes) = split(&self.words)?;
        let change = parse(changes, map, self.overwrite)?;
        match (self.list, changes.is_empty()) {
            (true, false) => {
                return Err(Error::usage(
                    "--list changes nothing: leave KEY=VALUE and KEY- out",
                ));
            }
            (false, true) => {
                return Err(
                    Error::usage("there is nothing to set or to remove").hint(format!(
                        "carob {verb} pod NAME KEY=VALUE sets, KEY- removes, --list shows"
                    )),
                );
            }
            _ => {}
        }
        let (items, mut errors) = self.find(face, verb, objects)?;
        let one = items.len() + errors.len() == 1;
        let dry_run = self.dry_run.is_any();
        let mut shown = vec![];
        for item in items {
            if self.list {
                match format {
                    Format::Table { .. } => list(&item, map, one)?,
                    _ => shown.push(item.v1()),
                }
                continue;
            }
            match change_one(face, &item, map, &change, dry_run) {
                Ok(changed) => match format {
                    Format::Table { .. } => say_changed(&changed, map, self.dry_run.note())?,
                    _ => shown.push(changed.item.v1()),
                },
                // One that cannot be changed is no reason to leave out those that follow.
                Err(e) => errors.push(e),
            }
        }
        if !shown.is_empty() {
            format.print(shown, !one)?;
        }
        face.first_of(errors).map(|()| 0)
    }

    /// What is meant, and the errors of what is not there.
    fn find(&self, face: &Face, verb: &str, words: &[String]) -> Result<(Vec<Item>, Vec<Error>)> {
        let many = self.all || self.selector.is_some();
        if !self.filename.is_empty() {
            if !words.is_empty() || many {
                return Err(Error::usage("-f cannot go with names, --all or --selector"));
            }
            return self.find_in_files(face);
        }
        let resources = object::resources_of(verb, words)?;
        match (resources.iter().all(|n| n.names.is_empty()), many) {
            (true, false) => {
                return Err(object::nothing_named(&resources)
                    .hint("name Pods or other objects, or give --all or -l LABELS"));
            }
            (false, true) => {
                return Err(Error::usage("names cannot go with --all or --selector"));
            }
            _ if self.all_namespaces && !many => {
                return Err(Error::usage("--all-namespaces needs --all or --selector"));
            }
            _ => {}
        }
        let (mut items, mut errors) = (vec![], vec![]);
        if many {
            let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
            let selector = self.selector.as_deref().map(manifest::parse_selector);
            let selector = selector.transpose()?;
            for named in &resources {
                items.extend(get::all_of(face, named.what, namespace, selector.as_ref())?);
            }
            if items.is_empty() {
                say("No resources found");
            }
        }
        for (what, name) in object::each(&resources) {
            match get::one(face, what, name) {
                Ok(item) => items.push(item),
                Err(e) => errors.push(e),
            }
        }
        Ok((items, errors))
    }
}

impl Arguments {
    fn find_in_files(&self, face: &Face) -> Result<(Vec<Item>, Vec<Error>)> {
        let (mut items, mut errors) = (vec![], vec![]);
        for (what, namespace, name) in files::named(face, &self.filename, self.recursive)? {
            match get::one_in(face, what, &namespace, &name) {
                Ok(item) => items.push(item),
                Err(e) => errors.push(e),
            }
        }
        Ok((items, errors))
    }
}

/// What has come of a change.
struct Changed {
    item: Item,
    done: Done,
    absent: Vec<String>,
}

fn change_one(
    face: &Face,
    item: &Item,
    map: Map,
    change: &Change,
    dry_run: bool,
) -> Result<Changed> {
    Ok(match item {
        Item::Pod(view) => {
            let changed = metadata::change(&face.layout, view, map, change, dry_run)?;
            let view = View {
                pod: changed.pod,
                ..(**view).clone()
            };
            Changed {
                item: Item::Pod(Box::new(view)),
                done: changed.done,
                absent: changed.absent,
            }
        }
        Item::Object(o) => {
            let key = (o.kind, o.namespace.as_str(), o.name.as_str());
            let changed = metadata::change_object(&face.layout, key, map, change, dry_run)?;
            Changed {
                item: Item::Object(Box::new(changed.object)),
                done: changed.done,
                absent: changed.absent,
            }
        }
    })
}

fn is_change(word: &str) -> bool {
    word.contains('=') || word.ends_with('-')
}

/// The words that name Pods, and those that name changes.
fn split(words: &[String]) -> Result<(&[String], &[String])> {
    let at = words.iter().position(|w| is_change(w));
    let (objects, changes) = words.split_at(at.unwrap_or(words.len()));
    match changes.iter().find(|w| !is_change(w)) {
        None => Ok((objects, changes)),
        Some(word) => Err(Error::usage(format!(
            "{word:?}: all objects must be named before what is to be changed"
        ))
        .hint("a change is KEY=VALUE, or KEY- to remove")),
    }
}

fn parse(words: &[String], map: Map, overwrite: bool) -> Result<Change> {
    let mut change = Change {
        overwrite,
        ..Change::default()
    };
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => {
                match map {
                    Map::Labels => manifest::check_label(key, value)?,
                    Map::Annotations => manifest::check_annotation(key, value)?,
                }
                change.set.insert(key.into(), value.into());
            }
            None => drop(change.remove.insert(word.trim_end_matches('-').into())),
        }
    }
    match change.set.keys().find(|k| change.remove.contains(*k)) {
        Some(key) => Err(Error::usage(format!(
            "{key:?} cannot be set and removed at the same time"
        ))),
        None => Ok(change),
    }
}

fn list(item: &Item, map: Map, one: bool) -> Result<()> {
    let indent = match one {
        true => "",
        false => {
            let kind = item.kind();
            say(&format!(
                "Listing {} for {kind}./{}:",
                map.field(),
                item.name()
            ));
            " "
        }
    };
    let entries = match item {
        Item::Pod(view) => map.of(&view.pod).clone(),
        Item::Object(object) => describe::public(object, map.field()),
    };
    let lines: String = entries
        .iter()
        .map(|(k, v)| format!("{indent}{k}={}\n", v.replace('\n', "\\n")))
        .collect();
    output::text(&lines, false)
}

fn say_changed(changed: &Changed, map: Map, note: &str) -> Result<()> {
    let mut text = String::new();
    if map == Map::Labels {
        let absent = changed.absent.iter();
        text.extend(absent.map(|key| format!("label {key:?} not found.\n")));
    }
    let word = match (map, changed.done) {
        // As kubectl has it, whether there was anything to do or not.
        (Map::Annotations, _) => "annotated",
        (Map::Labels, Done::Set) => "labeled",
        (Map::Labels, Done::Removed) => "unlabeled",
        (Map::Labels, Done::Nothing) => "not labeled",
    };
    let kind = changed.item.kind().to_lowercase();
    let name = changed.item.name();
    text.push_str(&format!("{kind}/{name} {word}{note}\n"));
    output::text(&text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn pods_come_before_changes() {
        for (line, objects, changes) in [
            ("pod web a=b", "pod web", "a=b"),
            ("pod web a- b=", "pod web", "a- b="),
            ("pod/web", "pod/web", ""),
            ("pods a=b", "pods", "a=b"),
        ] {
            let line = words(line);
            let is = split(&line).unwrap();
            assert_eq!(is, (&words(objects)[..], &words(changes)[..]));
        }
        assert!(split(&words("pod a=b web")).is_err());
    }

    #[test]
    fn changes() {
        let change = parse(&words("a=b c- d= a=e"), Map::Labels, false).unwrap();
        let set: Vec<(&str, &str)> = change.set.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(set, [("a", "e"), ("d", "")]);
        assert!(change.remove.iter().eq(["c"]));
        let change = parse(&["a=b = c".to_owned()], Map::Annotations, false).unwrap();
        assert_eq!(change.set["a"], "b = c");
        for (line, map) in [
            ("a=b a-", Map::Labels),
            ("a=b=c", Map::Labels),
            ("=b", Map::Labels),
            ("a/b/c=d", Map::Annotations),
            ("carob/when-log-full=no", Map::Annotations),
            ("carob/other=no", Map::Annotations),
            (
                "controller.kubernetes.io/pod-deletion-cost=x",
                Map::Annotations,
            ),
        ] {
            assert!(parse(&words(line), map, true).is_err(), "{line}");
        }
    }
}
