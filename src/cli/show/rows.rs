//! The rows of `get pods`: READY, STATUS and RESTARTS as `kubectl get` sums a
//! Pod's status up, told here from the same v1 fields.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cli::show::age;
use crate::pod::client::View;
use crate::pod::reason::Reason;
use crate::pod::status::{Condition, ContainerStatus, PAUSED, Phase, PodStatus};
use crate::spec::Pod;

/// One Pod in four words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Ready containers, and all that should be: sidecars count.
    pub ready: (usize, usize),
    pub status: String,
    pub restarts: u32,
    /// When the latest of the restarted containers had ended.
    pub last_restart: Option<Timestamp>,
}

pub(crate) fn summarize(pod: &Pod, status: &PodStatus, deleting: bool) -> Summary {
    let is_sidecar = |name: &str| {
        pod.spec
            .init_containers
            .iter()
            .any(|c| c.sidecar && c.name == name)
    };
    let mut sidecars = Restarts::default();
    let mut inits = Restarts::default();
    let mut ready = 0;
    let mut pending = None;
    for (i, c) in status.init_container_statuses.iter().enumerate() {
        inits.count(c);
        if is_sidecar(&c.name) {
            sidecars.count(c);
        }
        let waiting = c.state.waiting.as_ref().map(|w| w.reason);
        let what = match &c.state.terminated {
            Some(t) if t.exit_code == 0 => continue,
            _ if is_sidecar(&c.name) && c.started => {
                ready += usize::from(c.ready);
                continue;
            }
            Some(t) => t.reason.to_string(),
            None => match waiting.filter(|w| *w != Reason::PodInitializing) {
                Some(reason) => reason.to_string(),
                None => format!("{i}/{}", pod.spec.init_containers.len()),
            },
        };
        // The first that has not passed is the one that all wait for.
        pending = Some(format!("Init:{what}"));
        break;
    }

    let mut word = status
        .reason
        .clone()
        .unwrap_or_else(|| status.phase.name().to_owned());
    let mut restarts = inits;
    if let Some(p) = &pending {
        word.clone_from(p);
    }
    if pending.is_none() || holds(&status.conditions, "Initialized") {
        restarts = sidecars;
        let mut running = false;
        // From the last to the first: the first container has the last word.
        for c in status.container_statuses.iter().rev() {
            restarts.count(c);
            if let Some(w) = &c.state.waiting {
                word = w.reason.to_string();
            } else if let Some(t) = &c.state.terminated {
                word = t.reason.to_string();
            } else if c.ready && c.state.running.is_some() {
                running = true;
                ready += 1;
            }
        }
        if word == Reason::Completed.as_str() && running {
            word = match holds(&status.conditions, "Ready") {
                true => "Running".into(),
                false => "NotReady".into(),
            };
        }
    }
    if status.phase == Phase::Unknown {
        word = status.reason.clone().unwrap_or(word);
    }
    if holds(&status.conditions, PAUSED) {
        word = "Paused".into();
    }
    if deleting && !status.phase.is_terminal() {
        word = "Terminating".into();
    }
    let total = pod.spec.containers.len()
        + pod
            .spec
            .init_containers
            .iter()
            .filter(|c| c.sidecar)
            .count();
    Summary {
        ready: (ready, total),
        status: word,
        restarts: restarts.number,
        last_restart: restarts.last,
    }
}

fn holds(conditions: &[Condition], kind: &str) -> bool {
    conditions
        .iter()
        .any(|c| c.kind == kind && c.status == "True")
}

#[derive(Clone, Copy, Default)]
struct Restarts {
    number: u32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn count(&mut self, c: &ContainerStatus) {
        self.number = self.number.saturating_add(c.restart_count);
        self.last = self
            .last
            .max(c.last_state.terminated.as_ref().map(|t| t.finished));
    }
}

/// What the columns are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub namespace: bool,
    pub wide: bool,
    /// Labels with a column each.
    pub label_columns: Vec<String>,
    /// All labels, in one.
    pub labels: bool,
    /// This machine's name: the NODE column.
    pub node: String,
}

impl Columns {
    pub(crate) fn head(&self) -> Vec<String> {
        let mut head = vec![];
        if self.namespace {
            head.push("NAMESPACE");
        }
        head.extend(["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        if self.wide {
            head.extend(["IP", "NODE"]);
        }
        let mut head: Vec<String> = head.into_iter().map(Into::into).collect();
        head.extend(self.label_heads());
        head
    }

    pub(crate) fn label_heads(&self) -> Vec<String> {
        // As kubectl has it: of example.com/app the name alone.
        let name = |key: &String| key.rsplit('/').next().unwrap_or(key).to_uppercase();
        let columns = self.label_columns.iter().map(name);
        columns
            .chain(self.labels.then(|| "LABELS".to_owned()))
            .collect()
    }

    pub(crate) fn row(&self, view: &View, now: Timestamp) -> Vec<String> {
        let pod = &view.pod;
        let status = view.status();
        let deleting = view.state.as_ref().is_some_and(|s| s.deletion.is_some());
        let s = summarize(pod, &status, deleting);
        let mut row = vec![];
        if self.namespace {
            row.push(pod.namespace.clone());
        }
        row.extend([
            pod.name.clone(),
            format!("{}/{}", s.ready.0, s.ready.1),
            s.status,
            match s.last_restart {
                Some(t) if s.restarts > 0 => format!("{} ({})", s.restarts, age::ago(t, now)),
                _ => s.restarts.to_string(),
            },
            age::since(pod.created, now),
        ]);
        if self.wide {
            row.push(status.pod_ip.unwrap_or_else(|| "<none>".into()));
            row.push(self.node.clone());
        }
        row.extend(self.label_cells(&pod.labels));
        row
    }

    /// The columns of labels.
    pub(crate) fn label_cells(&self, labels: &BTreeMap<String, String>) -> Vec<String> {
        let value = |key: &String| labels.get(key).cloned().unwrap_or_default();
        let columns = self.label_columns.iter().map(value);
        columns.chain(self.labels.then(|| pairs(labels))).collect()
    }
}

/// `a=b,c=d`.
pub(crate) fn pairs(map: &BTreeMap<String, String>) -> String {
    if map.is_empty() {
        return "<none>".into();
    }
    let all: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
    all.join(",")
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
