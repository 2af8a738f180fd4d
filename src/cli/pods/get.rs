//! `carob get`, and all of `carob get pods`.

use clap::Args;
use jiff::Timestamp;

use crate::cli::face::{Face, say, warn, warn_of_unattended};
use crate::cli::show::custom::{CustomColumns, SortKey};
use crate::cli::show::object::{self, Named, What};
use crate::cli::show::output::{self, Format};
use crate::cli::show::rows::{self, Columns};
use crate::cli::show::table::Table;
use crate::cli::show::watching::{Happened, Watching};
use crate::cli::{Verb, objects};
use crate::manifest::{self, Selector};
use crate::pod::client::{self, Detail, View};
use crate::pod::verbs::fields::FieldSelector;
use crate::pod::watch::{Change, Watcher};
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// `pods`, `cm NAME...`, `pod/NAME...` or several kinds: `pods,cm`. The kinds are pods,
    /// configmaps (cm), secrets, persistentvolumeclaims (pvc), namespaces (ns)
    #[arg(required = true, value_name = "KIND [NAME]")]
    what: Vec<String>,
    /// Those of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// wide, json, yaml, name, jsonpath=TEMPLATE, jsonpath-file=FILE,
    /// custom-columns=HEADER:PATH,... or custom-columns-file=FILE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// Go on with a row for each change
    #[arg(short, long)]
    watch: bool,
    /// As --watch, without what is there at the beginning
    #[arg(long)]
    watch_only: bool,
    /// With --watch: say what has happened, ADDED, MODIFIED or DELETED
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    output_watch_events: bool,
    /// Only those with these labels: a=b, a!=b, a in (b,c), a, !a
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only those with these values: status.phase=Running, metadata.name!=web; type=Opaque of
    /// Secrets; and others
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
    /// Order them by a field: .metadata.creationTimestamp
    #[arg(long, value_name = "JSONPATH")]
    sort_by: Option<String>,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
    /// A column more, of the labels
    #[arg(long)]
    show_labels: bool,
    /// A column for each of these labels
    #[arg(short = 'L', long, value_name = "LABELS", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// One that is not there is no error
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    ignore_not_found: bool,
}

/// Which Pods are meant, where no names are given.
pub(crate) struct Selection {
    labels: Option<Selector>,
    fields: Option<FieldSelector>,
    node: String,
}

impl Selection {
    pub(crate) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self> {
        Ok(Selection {
            labels: labels.map(manifest::parse_selector).transpose()?,
            fields: fields
                .map(|text| FieldSelector::parse(text, None))
                .transpose()?,
            node: node_name(),
        })
    }

    /// # Errors
    /// There are names as well.
    pub(crate) fn without_names(&self, names: &[String], all_namespaces: bool) -> Result<()> {
        let selects = all_namespaces || self.labels.is_some() || self.fields.is_some();
        without_names(selects, names)
    }

    pub(crate) fn matches(&self, view: &View) -> bool {
        let (labels, fields) = (self.labels.as_ref(), self.fields.as_ref());
        labels.is_none_or(|s| s.matches(&view.pod.labels))
            && fields.is_none_or(|f| f.matches(view, &self.node))
    }
}

fn without_names(selects: bool, names: &[String]) -> Result<()> {
    match selects && !names.is_empty() {
        true => Err(Error::usage(
            "names cannot go with --all-namespaces, --selector or --field-selector",
        )),
        false => Ok(()),
    }
}

impl Verb for Get {
    const NAME: &'static str = "get";
    const ABOUT: &'static str = "List Pods and what belongs to them, or show one";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob get pods -o wide\n\
        \x20 carob get pod web -o jsonpath={.status.podIP}\n\
        \x20 carob get pods -A -w\n\
        \x20 carob get pods,configmaps,secrets\n\
        \x20 carob get secret web -o jsonpath={.data.password}\n\
        \x20 carob get pods --field-selector=status.phase!=Running -L app\n\
        \x20 carob get pods --sort-by=.metadata.creationTimestamp\n\
        \x20 carob get pods -o custom-columns=NAME:.metadata.name,IP:.status.podIP";

    fn run(self, face: &Face) -> Result<u8> {
        let resources = object::resources_of(Self::NAME, &self.what)?;
        let custom = self.output.as_deref().map(CustomColumns::of_format);
        let custom = custom.transpose()?.flatten();
        let format = match custom {
            Some(_) => Format::Table { wide: false },
            None => Format::parse(self.output.as_deref())?,
        };
        let sort_key = self.sort_by.as_deref().map(SortKey::parse).transpose()?;
        let names = resources.iter().flat_map(|n| n.names.clone());
        let names: Vec<String> = names.collect();
        let (labels, fields) = (self.selector.as_deref(), self.field_selector.as_deref());
        let selects = self.all_namespaces || labels.is_some() || fields.is_some();
        without_names(selects, &names)?;
        let watch = Watching {
            only: self.watch_only,
            events: self.output_watch_events,
        };
        let watches = self.watch || self.watch_only;
        if watch.events && !watches {
            return Err(Error::usage(
                "--output-watch-events option can only be used with --watch or --watch-only",
            ));
        }
        let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
        let columns = Columns {
            namespace: self.all_namespaces,
            wide: matches!(format, Format::Table { wide: true }),
            label_columns: self.label_columns,
            labels: self.show_labels,
            node: node_name(),
        };
        let prefixed = self.what.first().is_some_and(|word| word == "all");
        // Of Pods alone no more is read than is shown, and their states are watched.
        let pods_alone = matches!(
            resources.as_slice(),
            [Named {
                what: What::Pod,
                ..
            }]
        );
        if !pods_alone || (prefixed && !watches) {
            let asked = objects::get::Asked {
                all_namespaces: self.all_namespaces,
                format,
                custom,
                columns,
                head: !self.no_headers,
                sort: sort_key,
                labels: labels.map(manifest::parse_selector).transpose()?,
                fields: self.field_selector,
                ignore_not_found: self.ignore_not_found,
                prefixed,
                watch,
            };
            return match watches {
                true => objects::get::follow(face, &asked, &resources),
                false => objects::get::get(face, &asked, &resources),
            };
        }
        let selection = Selection::parse(labels, fields)?;
        let wanted =
            |v: &View| (names.is_empty() || names.contains(&v.pod.name)) && selection.matches(v);
        let mut printer = Printer {
            table: Table::default(),
            columns,
            custom,
            head: !self.no_headers,
            format,
            watch,
        };
        if watches {
            if sort_key.is_some() {
                warn("with --watch, --sort-by has no effect");
            }
            return follow(face, namespace, &names, &wanted, &mut printer);
        }
        let once = Once {
            namespace,
            names: &names,
            sort: sort_key,
            ignore_not_found: self.ignore_not_found,
        };
        once.show(face, &wanted, printer)
    }
}

/// How Pods are listed that are not watched.
struct Once<'a> {
    namespace: Option<&'a str>,
    names: &'a [String],
    sort: Option<SortKey>,
    ignore_not_found: bool,
}

impl Once<'_> {
    fn show(self, face: &Face, wanted: &dyn Fn(&View) -> bool, mut printer: Printer) -> Result<u8> {
        let (names, namespace) = (self.names, self.namespace);
        let mut missing = vec![];
        let mut views = if names.is_empty() {
            let mut all = client::list_with(&face.layout, namespace, printer.detail(&self.sort))?;
            all.retain(|v| wanted(v));
            all
        } else {
            // Those that exist are shown whatever the others do.
            let mut found = vec![];
            for n in names {
                match client::find(&face.layout, &face.namespace, n) {
                    Ok(v) => found.push(v),
                    Err(e) if e.kind() == Kind::NotFound && self.ignore_not_found => {}
                    Err(e) => missing.push(e),
                }
            }
            found
        };
        warn_of_unattended(&views);
        if let Some(key) = self.sort {
            key.sort(&mut views, object::v1)?;
        }
        let as_list = names.len() != 1;
        match printer.format {
            Format::Table { .. } if views.is_empty() && names.is_empty() => say(&match namespace {
                Some(ns) => format!("No resources found in {ns} namespace."),
                None => "No resources found".to_owned(),
            }),
            _ if views.is_empty() && !names.is_empty() => {}
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
    /// Instead of `columns`.
    custom: Option<CustomColumns>,
    head: bool,
    format: Format,
    watch: Watching,
}

impl Printer {
    /// How much of a record is shown.
    fn detail(&self, sort_key: &Option<SortKey>) -> Detail {
        match self.format {
            _ if self.custom.is_some() || sort_key.is_some() => Detail::Whole,
            Format::Table { .. } | Format::Name => Detail::Summary,
            _ => Detail::Whole,
        }
    }

    fn rows(&mut self, views: &[View]) -> Result<()> {
        if std::mem::take(&mut self.head) {
            self.table.row(self.head_cells());
        }
        let now = Timestamp::now();
        for v in views {
            self.table.row(self.cells(v, now)?);
        }
        output::text(&self.table.take(), false)
    }

    fn head_cells(&self) -> Vec<String> {
        match &self.custom {
            Some(custom) => custom.head(),
            None => self.columns.head(),
        }
    }

    fn cells(&self, view: &View, now: Timestamp) -> Result<Vec<String>> {
        match &self.custom {
            Some(custom) => custom.row(&object::v1(view)),
            None => Ok(self.columns.row(view, now)),
        }
    }

    /// What a watch has told of.
    fn show(&mut self, news: &[(Happened, View)]) -> Result<()> {
        let Format::Table { .. } = self.format else {
            return news.iter().try_for_each(|(happened, v)| {
                let value = self.watch.value(&self.format, *happened, object::v1(v));
                self.format.print(vec![value], false)
            });
        };
        if news.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.head) {
            self.table.row(self.watch.head(self.head_cells()));
        }
        let now = Timestamp::now();
        for (happened, v) in news {
            let cells = self.cells(v, now)?;
            self.table.row(self.watch.row(*happened, cells));
        }
        output::text(&self.table.take(), false)
    }

    /// What a row says of a Pod, without what changes with time alone.
    fn said(&self, view: &View) -> Result<String> {
        if let Some(custom) = &self.custom {
            return Ok(format!("{:?}", custom.row(&object::v1(view))?));
        }
        let status = view.status();
        let deleting = view.state.as_ref().is_some_and(|s| s.deletion.is_some());
        let summary = rows::summarize(&view.pod, &status, deleting);
        let ip = status.pod_ip.filter(|_| self.columns.wide);
        Ok(format!(
            "{:?}",
            (summary, ip, self.columns.label_cells(&view.pod.labels))
        ))
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
    let table = matches!(printer.format, Format::Table { .. });
    let mut silent = printer.watch.only;
    loop {
        let mut news = vec![];
        for change in changes {
            match change {
                Change::Seen(v) if wanted(&v) => {
                    let said = match table {
                        true => printer.said(&v)?,
                        false => String::new(),
                    };
                    let before = shown.insert(v.pod.uid.clone(), said.clone());
                    let happened = match &before {
                        None => Happened::Added,
                        Some(_) => Happened::Modified,
                    };
                    if !table || before != Some(said) {
                        news.push((happened, v));
                    }
                }
                // When it is wanted again, it has a row again. The end of a Pod has been
                // shown by then, so that only the event is news.
                Change::Seen(v) | Change::Gone(v) => {
                    let before = shown.remove(&v.pod.uid);
                    if before.is_some() && printer.watch.events {
                        news.push((Happened::Deleted, v));
                    }
                }
            }
        }
        if !std::mem::take(&mut silent) {
            printer.show(&news)?;
        }
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
