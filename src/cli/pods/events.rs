//! `carob events`.

use clap::Args;
use jiff::Timestamp;

use crate::cli::face::{Face, say, warn_of_unattended};
use crate::cli::objects::get::{self, Item};
use crate::cli::pods::get::node_name;
use crate::cli::show::object::{self, What};
use crate::cli::show::output::{self, Format};
use crate::cli::show::table::Table;
use crate::cli::{Verb, show::age};
use crate::pod::client;
use crate::pod::state::Event;
use crate::pod::verbs::events::{self, About, Listed, Wanted};
use crate::pod::watch::{Change, Watcher};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Events {
    /// The events of the Pods of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only the events of this Pod; other objects have none
    #[arg(long = "for", value_name = "KIND/NAME")]
    about: Option<String>,
    /// Only events of these types
    #[arg(long, value_name = "Normal,Warning", value_delimiter = ',')]
    types: Vec<String>,
    /// Go on with a row for each event that is new or is seen again
    #[arg(short, long)]
    watch: bool,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
}

fn wanted(types: &[String]) -> Result<Wanted> {
    let (mut normal, mut warnings) = (false, false);
    for word in types {
        match word.to_ascii_lowercase().as_str() {
            "normal" => normal = true,
            "warning" => warnings = true,
            _ => {
                return Err(
                    Error::usage(format!("--types: there is no type {word:?} of events"))
                        .hint("the types are: Normal, Warning"),
                );
            }
        }
    }
    Ok(match (normal, warnings) {
        (true, false) => Wanted::Normal,
        (false, true) => Wanted::Warnings,
        _ => Wanted::All,
    })
}

impl Verb for Events {
    const NAME: &'static str = "events";
    const ABOUT: &'static str = "List what has happened to Pods";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob events --for pod/web\n\
        \x20 carob events -A --types=Warning -w";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        if let Format::Table { wide: true } = format {
            return Err(Error::usage("events has no output format \"wide\"")
                .hint("the formats are: json, yaml, name, jsonpath=TEMPLATE"));
        }
        let about = self.about.as_deref().map(|w| object::one_of(Self::NAME, w));
        let about = about.transpose()?;
        let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
        let whose = match &about {
            None => About::AllPods,
            Some((What::Pod, name)) => About::Pod(name.clone()),
            Some((What::Object(_), _)) => About::Another,
        };
        let mut events = events::Events::new(whose, wanted(&self.types)?);
        let mut printer = Printer {
            table: Table::default(),
            head: !self.no_headers,
            namespace: self.all_namespaces,
            format,
        };
        if self.watch {
            return follow(face, namespace, &mut events, &mut printer);
        }
        let views = match &about {
            // Events go with their Pod: of what is not there, there are none to come.
            Some((what, name)) if !self.all_namespaces => match get::one(face, *what, name)? {
                Item::Pod(view) => vec![*view],
                Item::Object(_) => vec![],
            },
            _ => {
                let all = client::list(&face.layout, namespace)?;
                warn_of_unattended(&all);
                all
            }
        };
        let listed = events.news(&views);
        match printer.format {
            Format::Table { .. } if listed.is_empty() => say(&match namespace {
                Some(ns) => format!("No events found in {ns} namespace."),
                None => "No events found.".to_owned(),
            }),
            Format::Table { .. } => printer.rows(&listed)?,
            _ => {
                let objects = listed.iter().map(v1).collect();
                printer.format.print(objects, true)?;
            }
        }
        Ok(0)
    }
}

fn follow(
    face: &Face,
    namespace: Option<&str>,
    events: &mut events::Events,
    printer: &mut Printer,
) -> Result<u8> {
    let mut watcher = Watcher::new(&face.layout, namespace)?;
    let mut changes = watcher.refresh()?;
    loop {
        let (mut seen, mut gone) = (vec![], vec![]);
        for change in changes {
            match change {
                Change::Seen(view) => seen.push(view),
                Change::Gone(view) => gone.push(view.pod.uid),
            }
        }
        let listed = events.news(&seen);
        gone.iter().for_each(|uid| events.forget(uid));
        match printer.format {
            Format::Table { .. } if listed.is_empty() => {}
            Format::Table { .. } => printer.rows(&listed)?,
            _ => listed
                .iter()
                .try_for_each(|l| printer.format.print(vec![v1(l)], false))?,
        }
        changes = watcher.wait(None)?;
    }
}

struct Printer {
    table: Table,
    head: bool,
    /// With a column of namespaces.
    namespace: bool,
    format: Format,
}

impl Printer {
    fn rows(&mut self, listed: &[Listed]) -> Result<()> {
        let namespace = |name: &str| self.namespace.then(|| name.to_owned());
        let words = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned);
        if std::mem::take(&mut self.head) {
            self.table
                .row(namespace("NAMESPACE").into_iter().chain(words));
        }
        let now = Timestamp::now();
        for Listed {
            namespace: ns,
            pod,
            event,
            ..
        } in listed
        {
            let row = [
                last_seen(event, now),
                kind(event).to_owned(),
                event.reason.to_string(),
                format!("Pod/{pod}"),
                event.message.trim().to_owned(),
            ];
            self.table.row(namespace(ns).into_iter().chain(row));
        }
        output::text(&self.table.take(), false)
    }
}

/// `5s`, or `5s (x3 over 2m)`.
pub(crate) fn last_seen(event: &Event, now: Timestamp) -> String {
    let last = age::since(event.last, now);
    match event.count {
        0 | 1 => last,
        n => format!("{last} (x{n} over {})", age::since(event.first, now)),
    }
}

pub(crate) fn kind(event: &Event) -> &'static str {
    match event.warning {
        true => "Warning",
        false => "Normal",
    }
}

fn v1(listed: &Listed) -> serde_json::Value {
    object::v1_event(listed, kind(&listed.event), &node_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_words_of_any_case() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            wanted(&words)
        };
        for (words, want) in [
            (&[][..], Wanted::All),
            (&["warning"], Wanted::Warnings),
            (&["Normal", "NORMAL"], Wanted::Normal),
            (&["Normal", "Warning"], Wanted::All),
        ] {
            assert_eq!(of(words).unwrap(), want, "{words:?}");
        }
        assert!(of(&["Error"]).is_err());
        assert!(of(&[""]).is_err());
    }
}
