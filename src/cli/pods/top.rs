//! `carob top`: CPU and memory that Pods and containers use.

use std::cmp::Reverse;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::Verb;
use crate::cli::face::{Face, say, warn_of_unattended};
use crate::cli::pods::get::Selection;
use crate::cli::show::output::{self, Format};
use crate::cli::show::table::Table;
use crate::cli::show::{age, object};
use crate::linux::cgroup::{Pressure, Pressures};
use crate::pod::client;
use crate::pod::verbs::top::{PodUse, Used, measure};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// `pods [NAME...]` or `containers [NAME...]`
    #[arg(required = true, value_name = "KIND [NAME]")]
    what: Vec<String>,
    /// The Pods of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// A row for each container
    #[arg(long)]
    containers: bool,
    /// cpu or memory: the largest first
    #[arg(long, value_name = "FIELD", value_parser = ["cpu", "memory"])]
    sort_by: Option<String>,
    /// Only Pods with these labels: a=b, a!=b, a in (b,c), a, !a
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only Pods with these values: spec.nodeName=NAME, metadata.name!=web and others
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
    /// A row with the sum
    #[arg(long)]
    sum: bool,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
    /// How long CPU time is measured
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    interval: String,
    /// wide, json, yaml or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Top {
    const NAME: &'static str = "top";
    const ABOUT: &'static str = "Show the CPU and memory that Pods use";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob top pods\n\
        \x20 carob top pods -A --sort-by=memory\n\
        \x20 carob top containers web -o wide";

    fn run(mut self, face: &Face) -> Result<u8> {
        if let Some(kind) = self.what.first_mut()
            && matches!(kind.as_str(), "container" | "containers")
        {
            *kind = "pods".to_owned();
            self.containers = true;
        }
        let names = object::names_of(Self::NAME, &self.what)?;
        let format = Format::parse(self.output.as_deref())?;
        if let Format::Name = format {
            return Err(Error::usage(
                "top prints its table, wide, json, yaml or jsonpath=TEMPLATE",
            ));
        }
        let interval = age::parse(&self.interval)?;
        if interval.is_zero() {
            return Err(Error::usage(
                "--interval: CPU time cannot be measured in 0s",
            ));
        }
        let selection = Selection::parse(self.selector.as_deref(), self.field_selector.as_deref())?;
        selection.without_names(&names, self.all_namespaces)?;
        let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
        let views = match names.is_empty() {
            false => face.find_all(&names)?,
            true => {
                let detail = client::Detail::Summary;
                let mut all = client::list_with(&face.layout, namespace, detail)?;
                all.retain(|v| selection.matches(v));
                warn_of_unattended(&all);
                all
            }
        };
        let mut pods = measure(&face.layout, &views, interval)?;
        let missing = names.iter().find(|n| pods.iter().all(|p| p.name != **n));
        let missing = missing.map(|name| {
            Error::conflict(format!("pod {name:?} has no running container"))
                .hint(format!("carob get pod {name} -n {}", face.namespace))
        });
        self.sort(&mut pods);
        match format {
            Format::Table { .. } if pods.is_empty() && missing.is_none() => say(&match namespace {
                Some(ns) => format!("No resources found in {ns} namespace."),
                None => "No resources found".to_owned(),
            }),
            Format::Table { .. } if pods.is_empty() => {}
            Format::Table { wide } => output::text(&self.table(&pods, wide), false)?,
            _ if pods.is_empty() && missing.is_some() => {}
            _ => {
                let window = format!("{}ms", interval.as_millis());
                let objects = pods.iter().map(|p| metrics(p, &window)).collect();
                format.print(objects, names.len() != 1)?;
            }
        }
        missing.map_or(Ok(0), Err)
    }
}

impl Top {
    fn sort(&self, pods: &mut [PodUse]) {
        let key = |used: Used| match self.sort_by.as_deref() {
            Some("cpu") => Reverse(used.nanocores),
            Some(_) => Reverse(used.memory),
            None => Reverse(0),
        };
        // Stable: those that are alike stay in the order of their names.
        pods.sort_by_key(|p| key(p.used()));
        for pod in pods {
            pod.containers.sort_by_key(|c| key(c.used));
        }
    }

    fn table(&self, pods: &[PodUse], wide: bool) -> String {
        let mut table = Table::default();
        let mut row = |namespace: &str, names: &[&str], rest: Vec<String>| {
            let namespace = self.all_namespaces.then_some(namespace);
            let names = namespace.iter().chain(names).map(|s| (*s).to_owned());
            table.row(names.chain(rest));
        };
        if !self.no_headers {
            let mut rest = vec!["CPU(cores)".to_owned(), "MEMORY(bytes)".to_owned()];
            if wide {
                let pressures = ["CPU(stalled)", "MEMORY(stalled)", "IO(stalled)"];
                rest.extend(pressures.map(str::to_owned));
            }
            let names: &[&str] = match self.containers {
                true => &["POD", "NAME"],
                false => &["NAME"],
            };
            row("NAMESPACE", names, rest);
        }
        let cells = |used: Used, pressure: &Pressures| {
            let mut cells = amounts(used);
            if wide {
                let stalled = [pressure.cpu, pressure.memory, pressure.io].map(percent);
                cells.extend(stalled);
            }
            cells
        };
        for pod in pods {
            match self.containers {
                true => pod.containers.iter().for_each(|c| {
                    let rest = cells(c.used, &c.pressure);
                    row(&pod.namespace, &[&pod.name, &c.name], rest);
                }),
                false => row(
                    &pod.namespace,
                    &[&pod.name],
                    cells(pod.used(), &pod.pressure),
                ),
            }
        }
        if self.sum {
            let names: &[&str] = if self.containers { &["", ""] } else { &[""] };
            row("", names, vec!["________".into(), "________".into()]);
            let sum = Used::sum(pods.iter().map(PodUse::used));
            row("", names, amounts(sum));
        }
        table.take()
    }
}

/// In kubectl's units: thousandths of a core, rounded up, and whole MiB.
fn amounts(used: Used) -> Vec<String> {
    vec![
        format!("{}m", used.nanocores.div_ceil(1_000_000)),
        format!("{}Mi", used.memory >> 20),
    ]
}

fn percent(pressure: Option<Pressure>) -> String {
    match pressure {
        Some(p) => format!("{:.2}%", p.some.avg10),
        None => "<none>".to_owned(),
    }
}

/// PodMetrics of metrics.k8s.io/v1beta1, and the pressure beside.
fn metrics(pod: &PodUse, window: &str) -> Value {
    let usage = |used: Used| {
        json!({
            "cpu": format!("{}n", used.nanocores),
            "memory": format!("{}Ki", used.memory >> 10),
        })
    };
    let containers = pod.containers.iter();
    let containers: Vec<Value> = containers
        .map(|c| json!({"name": c.name, "usage": usage(c.used), "pressure": c.pressure}))
        .collect();
    let mut metadata = json!({"name": pod.name, "namespace": pod.namespace});
    if !pod.labels.is_empty() {
        metadata["labels"] = json!(pod.labels);
    }
    json!({
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetrics",
        "metadata": metadata,
        "timestamp": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "window": window,
        "containers": containers,
        "pressure": pod.pressure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_kubectls() {
        let of = |nanocores, memory| amounts(Used { nanocores, memory }).join(" ");
        assert_eq!(of(0, 0), "0m 0Mi");
        assert_eq!(of(1, (1 << 20) - 1), "1m 0Mi");
        assert_eq!(of(1_500_000_000, 300 << 20), "1500m 300Mi");
    }
}
