//! `carob describe`: everything about a Pod, laid out as kubectl does.

mod container;
mod volumes;

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::face::{Face, warn_of_unattended};
use crate::cli::objects::describe as describe_object;
use crate::cli::objects::get::{self as get_any, Item};
use crate::cli::pods::{events, get};
use crate::cli::show::object::{self, Named, What};
use crate::cli::{Verb, show::age, show::output};
use crate::manifest;
use crate::pod::claims;
use crate::pod::client::{self, View};
use crate::pod::state::Event;
use crate::pod::trouble;
use crate::spec::ObjectKind;
use crate::{Error, Ignored, Result};

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// `pod NAME...`, `cm/NAME...`, or a kind for all of it
    #[arg(required = true, value_name = "KIND [NAME]")]
    what: Vec<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

impl Verb for Describe {
    const NAME: &'static str = "describe";
    const ABOUT: &'static str = "Show everything that is known of a Pod or another object";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob describe pod web\n\
        \x20 carob describe pods -l app=web";

    fn run(self, face: &Face) -> Result<u8> {
        let resources = object::resources_of(Self::NAME, &self.what)?;
        let [
            Named {
                what: What::Pod,
                names,
            },
        ] = resources.as_slice()
        else {
            return self.any(face, &resources);
        };
        let views = match (names.is_empty(), &self.selector) {
            (false, Some(_)) => return Err(Error::usage("names cannot go with --selector")),
            (false, None) => face.find_all(names)?,
            (true, selector) => {
                let selector = selector
                    .as_deref()
                    .map(manifest::parse_selector)
                    .transpose()?;
                let mut all = client::list(&face.layout, Some(&face.namespace))?;
                all.retain(|v| selector.as_ref().is_none_or(|s| s.matches(&v.pod.labels)));
                warn_of_unattended(&all);
                all
            }
        };
        let texts: Vec<String> = views.iter().map(|v| page(face, v)).collect();
        output::text(&texts.join("\n\n"), false)?;
        Ok(0)
    }
}

impl Describe {
    /// Of kinds other than Pods, or of several.
    fn any(&self, face: &Face, resources: &[Named]) -> Result<u8> {
        let selector = self.selector.as_deref().map(manifest::parse_selector);
        let selector = selector.transpose()?;
        let (mut items, mut missing) = (vec![], vec![]);
        for named in resources {
            if named.names.is_empty() {
                let namespace = Some(face.namespace.as_str());
                items.extend(get_any::all_of(
                    face,
                    named.what,
                    namespace,
                    selector.as_ref(),
                )?);
            } else if selector.is_some() {
                return Err(Error::usage("names cannot go with --selector"));
            }
            for name in &named.names {
                match get_any::one(face, named.what, name) {
                    Ok(item) => items.push(item),
                    Err(e) => missing.push(e),
                }
            }
        }
        let mut texts = vec![];
        for item in get_any::whole_ones(face, items, &mut missing) {
            texts.push(match &item {
                Item::Pod(view) => page(face, view),
                Item::Object(object) => {
                    let users = match object.kind {
                        ObjectKind::PersistentVolumeClaim => claims::users(&face.layout, object)?,
                        _ => vec![],
                    };
                    describe_object::describe(object, &users)
                }
            });
        }
        output::text(&texts.join("\n\n"), false)?;
        face.first_of(missing).map(|()| 0)
    }
}

fn page(face: &Face, view: &View) -> String {
    let said = |c: &str, previous| trouble::last_line(&face.layout, view, c, previous);
    describe(view, &get::node_name(), Timestamp::now(), &said)
}

/// A page of `key: value` lines, of which those that stand together are aligned.
#[derive(Default)]
struct Page {
    text: String,
    /// Lines whose values are still to be aligned: depth, key, value.
    block: Vec<(usize, String, String)>,
}

impl Page {
    fn pair(&mut self, depth: usize, key: &str, value: impl Into<String>) {
        self.block
            .push((depth, format!("{key}:"), one_line(&value.into())));
    }

    /// More lines below the last value.
    fn more(&mut self, value: impl Into<String>) {
        self.block.push((0, String::new(), one_line(&value.into())));
    }

    /// Several values of one key, one a line.
    fn list(&mut self, depth: usize, key: &str, values: Vec<String>) {
        let mut values = values.into_iter();
        self.pair(depth, key, values.next().unwrap_or_else(|| "<none>".into()));
        values.for_each(|v| self.more(v));
    }

    /// A line by itself; ends the alignment of those before.
    fn line(&mut self, depth: usize, text: &str) {
        self.flush();
        writeln!(self.text, "{}{text}", "  ".repeat(depth)).ignored("a String takes every text");
    }

    fn flush(&mut self) {
        let width = self
            .block
            .iter()
            .map(|(depth, key, _)| depth * 2 + key.chars().count())
            .max()
            .unwrap_or(0)
            + 2;
        for (depth, key, value) in self.block.drain(..) {
            let head = format!("{}{key}", "  ".repeat(depth));
            let line = format!("{head:<width$}{value}");
            writeln!(self.text, "{}", line.trim_end()).ignored("a String takes every text");
        }
    }

    /// Rows below a head and a rule, as kubectl shows conditions and events.
    fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) {
        self.flush();
        let mut table = crate::cli::show::table::Table::default();
        let cells = |list: &[&str]| -> Vec<String> {
            let mut row: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            row[0].insert_str(0, "  ");
            row
        };
        table.row(cells(head));
        if head.len() > 2 {
            let rule: Vec<String> = head.iter().map(|h| "-".repeat(h.len())).collect();
            table.row(cells(&rule.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        for mut row in rows {
            if let Some(first) = row.first_mut() {
                first.insert_str(0, "  ");
            }
            table.row(row);
        }
        self.text.push_str(&table.take());
    }
}

/// A value's own lines must not look like lines of the page.
fn one_line(value: &str) -> String {
    value.replace('\n', "\\n")
}

/// The last line that a container wrote; with true, in the attempt before, as
/// `carob logs -p` has it.
type Said<'a> = &'a dyn Fn(&str, bool) -> Option<String>;

fn describe(view: &View, node: &str, now: Timestamp, said: Said) -> String {
    let pod = &view.pod;
    let status = view.status();
    let mut p = Page::default();
    let pairs = |map: &std::collections::BTreeMap<String, String>, by: &str| -> Vec<String> {
        map.iter().map(|(k, v)| format!("{k}{by}{v}")).collect()
    };
    p.pair(0, "Name", &pod.name);
    p.pair(0, "Namespace", &pod.namespace);
    let host = status.host_ip.clone();
    p.pair(
        0,
        "Node",
        host.map_or(node.to_owned(), |ip| format!("{node}/{ip}")),
    );
    if let Some(t) = view.state.as_ref().and_then(|s| s.start_time) {
        p.pair(0, "Start Time", rfc1123(t));
    }
    p.list(0, "Labels", pairs(&pod.labels, "="));
    p.list(0, "Annotations", pairs(&pod.annotations, ": "));
    match view.state.as_ref().and_then(|s| s.deletion.as_ref()) {
        Some(d) if !status.phase.is_terminal() => {
            let lasts = age::since(d.requested, now);
            p.pair(0, "Status", format!("Terminating (lasts {lasts})"));
            p.pair(
                0,
                "Termination Grace Period",
                format!("{}s", d.grace_period),
            );
        }
        _ => p.pair(0, "Status", status.phase.name()),
    }
    if let Some(r) = &status.reason {
        p.pair(0, "Reason", r);
    }
    if let Some(m) = &status.message {
        p.pair(0, "Message", m);
    }
    p.pair(0, "IP", status.pod_ip.clone().unwrap_or_default());
    p.flush();
    if status.pod_ips.is_empty() {
        p.line(0, "IPs:  <none>");
    } else {
        p.line(0, "IPs:");
        for a in &status.pod_ips {
            p.pair(1, "IP", &a.ip);
        }
        p.flush();
    }
    for (title, list, seen) in [
        (
            "Init Containers:",
            &pod.spec.init_containers,
            &status.init_container_statuses,
        ),
        (
            "Containers:",
            &pod.spec.containers,
            &status.container_statuses,
        ),
        (
            "Ephemeral Containers:",
            &pod.spec.ephemeral_containers,
            &status.ephemeral_container_statuses,
        ),
    ] {
        if list.is_empty() {
            continue;
        }
        p.line(0, title);
        for (c, s) in list.iter().zip(seen) {
            container::container(&mut p, c, s, &manifest_of(view, &c.name), said);
        }
    }
    p.line(0, "Conditions:");
    let conditions = status
        .conditions
        .iter()
        .map(|c| vec![c.kind.to_owned(), c.status.to_owned()])
        .collect();
    p.table(&["Type", "Status"], conditions);
    volumes::volumes(&mut p, &pod.spec.volumes);
    let qos = format!("{:?}", status.qos_class);
    p.pair(0, "QoS Class", qos);
    p.flush();
    events(&mut p, view.state.as_ref().map_or(&[], |s| &s.events), now);
    p.text
}

/// The container as it was given: quantities in the user's own words.
fn manifest_of(view: &View, name: &str) -> Value {
    let spec = &view.pod.manifest["spec"];
    ["initContainers", "containers"]
        .iter()
        .filter_map(|k| spec[k].as_array())
        .flatten()
        .find(|c| c["name"] == name)
        .cloned()
        .unwrap_or_default()
}

fn events(p: &mut Page, list: &[Event], now: Timestamp) {
    if list.is_empty() {
        p.line(0, "Events:  <none>");
        return;
    }
    p.line(0, "Events:");
    let rows = list
        .iter()
        .map(|e| {
            vec![
                events::kind(e).to_owned(),
                e.reason.to_string(),
                events::last_seen(e, now),
                "carob".to_owned(),
                e.message.trim().replace('\n', "\\n"),
            ]
        })
        .collect();
    p.table(&["Type", "Reason", "Age", "From", "Message"], rows);
}

fn rfc1123(t: Timestamp) -> String {
    t.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// The status' own text of a time, for people.
fn time(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), rfc1123)
}

#[cfg(test)]
mod tests;
