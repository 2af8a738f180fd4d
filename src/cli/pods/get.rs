//! `carob get pods`.

use clap::Args;
use jiff::Timestamp;

use crate::cli::face::{Face, say, warn_of_unattended};
use crate::cli::show::output::{self, Format};
use crate::cli::show::rows::Columns;
use crate::cli::show::table::Table;
use crate::cli::{Verb, show::object};
use crate::manifest;
use crate::pod::client::{self, Detail, View};
use crate::pod::watch::{Change, Watcher};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// `pods`, `pods NAME...` or `pod/NAME...`
    #[arg(required = true, value_name = "KIND [NAME]")]
    what: Vec<String>,
    /// The Pods of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// wide, json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// Go on with a row for each change
    #[arg(short, long)]
    watch: bool,
    /// Only Pods with these labels: a=b, a!=b, a in (b,c), a, !a
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
    /// A column more, of the labels
    #[arg(long)]
    show_labels: bool,
}

impl Verb for Get {
    const NAME: &'static str = "get";
    const ABOUT: &'static str = "List Pods, or show one";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob get pods -o wide\n\
        \x20 carob get pod web -o jsonpath={.status.podIP}\n\
        \x20 carob get pods -A -w";

    fn run(self, face: &Face) -> Result<u8> {
        let names = object::names_of(Self::NAME, &self.what)?;
        let format = Format::parse(self.output.as_deref())?;
        let selector = self
            .selector
            .as_deref()
            .map(manifest::parse_selector)
            .transpose()?;
        if !names.is_empty() && (self.all_namespaces || selector.is_some()) {
            return Err(Error::usage(
                "names cannot go with --all-namespaces or --selector",
            ));
        }
        let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
        let wanted = |v: &View| {
            (names.is_empty() || names.contains(&v.pod.name))
                && selector.as_ref().is_none_or(|s| s.matches(&v.pod.labels))
        };
        let columns = Columns {
            namespace: self.all_namespaces,
            wide: matches!(format, Format::Table { wide: true }),
            labels: self.show_labels,
            node: node_name(),
        };
        let mut printer = Printer {
            table: Table::default(),
            columns,
            head: !self.no_headers,
            format,
        };
        if self.watch {
            return follow(face, namespace, &names, &wanted, &mut printer);
        }

        let mut missing = vec![];
        let views = if names.is_empty() {
            let detail = match printer.format {
                Format::Table { .. } | Format::Name => Detail::Summary,
                _ => Detail::Whole,
            };
            let mut all = client::list_with(&face.layout, namespace, detail)?;
            all.retain(|v| wanted(v));
            all
        } else {
            // Those that exist are shown whatever the others do.
            let mut found = vec![];
            for n in &names {
                match client::find(&face.layout, &face.namespace, n) {
                    Ok(v) => found.push(v),
                    Err(e) => missing.push(e),
                }
            }
            found
        };
        warn_of_unattended(&views);
        let as_list = names.len() != 1;
        match printer.format {
            Format::Table { .. } if views.is_empty() && missing.is_empty() => {
                say(&match namespace {
                    Some(ns) => format!("No resources found in {ns} namespace."),
                    None => "No resources found".to_owned(),
                })
            }
            _ if views.is_empty() && !missing.is_empty() => {}
            Format::Table { .. } => printer.rows(&views)?,
            _ => {
                let objects = views.iter().map(object::v1).collect();
                printer.format.print(objects, as_list)?;
            }
        }
        face.first_of(missing).map(|()| 0)
    }
}

struct Printer {
    table: Table,
    columns: Columns,
    head: bool,
    format: Format,
}

impl Printer {
    fn rows(&mut self, views: &[View]) -> Result<()> {
        if std::mem::take(&mut self.head) {
            self.table.row(self.columns.head());
        }
        let now = Timestamp::now();
        for v in views {
            self.table.row(self.columns.row(v, now));
        }
        output::text(&self.table.take(), false)
    }

    fn show(&mut self, views: &[View]) -> Result<()> {
        match self.format {
            Format::Table { .. } if views.is_empty() => Ok(()),
            Format::Table { .. } => self.rows(views),
            _ => views
                .iter()
                .try_for_each(|v| self.format.print(vec![object::v1(v)], false)),
        }
    }
}

fn follow(
    face: &Face,
    namespace: Option<&str>,
    names: &[String],
    wanted: &dyn Fn(&View) -> bool,
    printer: &mut Printer,
) -> Result<u8> {
    let mut watcher = Watcher::new(&face.layout, namespace)?;
    let mut changes = watcher.refresh()?;
    if changes.is_empty() && !names.is_empty() {
        // The names' own error, if they are still missing.
        face.find_all(names)?;
    }
    // A row that says the same as the one before it says nothing.
    let mut shown = std::collections::BTreeMap::new();
    loop {
        let mut views = vec![];
        for change in changes {
            match change {
                Change::Seen(v) | Change::Gone(v) if !wanted(&v) => {}
                Change::Gone(v) => {
                    shown.remove(&v.pod.uid);
                }
                Change::Seen(v) => {
                    let status = v.status();
                    let deleting = v.state.as_ref().is_some_and(|s| s.deletion.is_some());
                    let wide = printer.columns.wide;
                    let key = (
                        crate::cli::show::rows::summarize(&v.pod, &status, deleting),
                        status.pod_ip.filter(|_| wide),
                    );
                    let before = shown.insert(v.pod.uid.clone(), key);
                    let table = matches!(printer.format, Format::Table { .. });
                    if !table || before.as_ref() != shown.get(&v.pod.uid) {
                        views.push(v);
                    }
                }
            }
        }
        printer.show(&views)?;
        changes = watcher.wait(None)?;
    }
}

/// What `kubectl get -o wide` shows as NODE: this machine.
pub(crate) fn node_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|n| n.into_string().ok())
        .unwrap_or_default()
}
