//! What a kubelet would say of a Pod: the v1 PodStatus, computed.
//!
//! Pure: the spec and what the monitor has seen go in, the status comes out;
//! nothing here is stored and nothing asks the kernel or the clock. The rules
//! are those of the Kubernetes API's documentation of phase, conditions and
//! container states.

mod conditions;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::pod::reason::Reason;
use crate::pod::state::{ContainerState, Ended, Now, State, User};
use crate::spec::{Container, Pod, QosClass, Resources};

use conditions::judge;
pub(crate) use conditions::{PAUSED, conditions};

/// v1 PodStatus.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub conditions: Vec<Condition>,
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    #[serde(rename = "hostIPs", skip_serializing_if = "Vec::is_empty")]
    pub host_ips: Vec<Address>,
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    pub container_statuses: Vec<ContainerStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
    pub qos_class: QosClass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    /// The Pod's record cannot be read.
    Unknown,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Unknown => "Unknown",
        }
    }

    /// Nothing of the Pod will run any more.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Address {
    pub ip: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerStatus {
    pub name: String,
    pub state: StateOf,
    pub last_state: StateOf,
    pub ready: bool,
    pub started: bool,
    pub restart_count: u32,
    pub image: String,
    #[serde(rename = "imageID")]
    pub image_id: String,
    #[serde(rename = "containerID", skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// What it may have: requests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allocated_resources: BTreeMap<&'static str, String>,
    /// What its cgroup was given.
    #[serde(skip_serializing_if = "ResourcesOf::is_empty")]
    pub resources: ResourcesOf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<ContainerUser>,
}

/// v1 ResourceRequirements.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ResourcesOf {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<&'static str, String>,
}

impl ResourcesOf {
    fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }

    fn of(r: Resources) -> Self {
        let map = |cpu: Option<u64>, memory: Option<u64>| {
            let cpu = cpu.map(|n| ("cpu", cpu_quantity(n)));
            let memory = memory.map(|n| ("memory", memory_quantity(n)));
            let pages = r.hugepages.each();
            let pages = pages.map(|(size, n)| (size.resource(), memory_quantity(n)));
            cpu.into_iter().chain(memory).chain(pages).collect()
        };
        ResourcesOf {
            limits: map(r.cpu_limit, r.memory_limit),
            requests: map(r.cpu_request, r.memory_request),
        }
    }
}

fn cpu_quantity(millis: u64) -> String {
    match millis % 1000 {
        0 => (millis / 1000).to_string(),
        _ => format!("{millis}m"),
    }
}

fn memory_quantity(bytes: u64) -> String {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let fits = |(_, shift): &&(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match units.iter().find(fits) {
        Some((suffix, shift)) => format!("{}{suffix}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// v1 ContainerUser.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ContainerUser {
    pub linux: User,
}

/// v1 ContainerState: at most one of them is set, none at all for the last
/// state of a container that never ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct StateOf {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningSince>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Waiting {
    pub reason: Reason,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunningSince {
    pub started_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Terminated {
    pub exit_code: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub reason: Reason,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    pub finished_at: String,
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// For arithmetic; the API has the text alone.
    #[serde(skip)]
    pub finished: Timestamp,
}

/// v1 Time: RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `None` for the state stands for a monitor that has not written yet.
pub(crate) fn of(pod: &Pod, state: Option<&State>) -> PodStatus {
    let phase = phase(pod, state);
    let init_done = initialized(pod, state);
    let statuses = |list: &[Container], init: bool| -> Vec<ContainerStatus> {
        list.iter()
            .map(|c| container_status(pod, state, c, init, init_done))
            .collect()
    };
    let addresses = |list: &[std::net::IpAddr]| -> Vec<Address> {
        list.iter()
            .map(|ip| Address { ip: ip.to_string() })
            .collect()
    };
    let failure = state.and_then(|s| s.failed.as_ref().or(s.sandbox_error.as_ref()));
    let damaged = state.and_then(|s| s.damaged.as_ref());
    let pod_ips = addresses(state.map(|s| s.ips.as_slice()).unwrap_or_default());
    let host_ips = addresses(
        &state
            .and_then(|s| s.host_ip)
            .into_iter()
            .collect::<Vec<_>>(),
    );
    PodStatus {
        phase,
        reason: match damaged {
            Some(_) => Some(Reason::RecordDamaged.to_string()),
            None => failure.map(|f| f.reason.to_string()),
        },
        message: damaged.or(failure.map(|f| &f.message)).cloned(),
        conditions: judge(pod, state)
            .into_iter()
            .map(|v| v.published(pod, state))
            .collect(),
        host_ip: host_ips.first().map(|a| a.ip.clone()),
        host_ips,
        pod_ip: pod_ips.first().map(|a| a.ip.clone()),
        pod_ips,
        start_time: state.and_then(|s| s.start_time).map(rfc3339),
        init_container_statuses: statuses(&pod.spec.init_containers, true),
        container_statuses: statuses(&pod.spec.containers, false),
        ephemeral_container_statuses: statuses(&pod.spec.ephemeral_containers, false),
        qos_class: pod.spec.qos_class(),
    }
}

fn is_init(pod: &Pod, c: &Container) -> bool {
    pod.spec.init_containers.iter().any(|i| i.name == c.name)
}

fn seen<'a>(state: Option<&'a State>, c: &Container) -> Option<&'a ContainerState> {
    state.and_then(|s| s.containers.get(&c.name))
}

fn is_started(state: Option<&State>, c: &Container) -> bool {
    matches!(seen(state, c).map(|s| &s.now), Some(Now::Running(r)) if r.started)
}

/// An ordinary init container is "ready" when it has succeeded.
fn is_ready(state: Option<&State>, c: &Container) -> bool {
    matches!(seen(state, c).map(|s| &s.now), Some(Now::Running(r)) if r.started && r.ready)
}

fn has_succeeded(state: Option<&State>, c: &Container) -> bool {
    matches!(seen(state, c).map(|s| &s.now), Some(Now::Ended(e)) if e.exit_code == 0)
}

fn init_passed(state: Option<&State>, c: &Container) -> bool {
    if c.sidecar {
        is_started(state, c)
    } else {
        has_succeeded(state, c)
    }
}

/// Whether an ordinary container ever ran: from then on the Pod stays
/// initialized, whatever becomes of a sidecar.
fn any_ordinary_ran(pod: &Pod, state: Option<&State>) -> bool {
    pod.spec.containers.iter().any(|c| match seen(state, c) {
        Some(s) => state.is_some_and(|state| state.has_begun(s)),
        None => false,
    })
}

fn initialized(pod: &Pod, state: Option<&State>) -> bool {
    any_ordinary_ran(pod, state)
        || pod
            .spec
            .init_containers
            .iter()
            .all(|c| init_passed(state, c))
}

/// The API's phase. A sidecar keeps a Pod Running while it runs; how it ended
/// says nothing about the Pod's success.
pub(crate) fn phase(pod: &Pod, state: Option<&State>) -> Phase {
    if state.is_some_and(|s| s.damaged.is_some()) {
        return Phase::Unknown;
    }
    if state.is_some_and(|s| s.failed.is_some()) {
        return Phase::Failed;
    }
    let spec = &pod.spec;
    let deleting = state.is_some_and(|s| s.deletion.is_some());
    let began = any_ordinary_ran(pod, state);

    if !began {
        let mut pending = false;
        for c in spec.init_containers.iter().filter(|c| !c.sidecar) {
            match seen(state, c).map(|s| &s.now) {
                Some(Now::Ended(e)) if e.exit_code == 0 => {}
                Some(Now::Ended(e)) if deleting || !spec.restarts(c, e.exit_code) => {
                    return Phase::Failed;
                }
                _ => pending = true,
            }
        }
        if pending {
            return Phase::Pending;
        }
    }

    let (mut waiting, mut running, mut ended, mut succeeded) = (0, 0, 0, 0);
    let mut again = false;
    for c in &spec.containers {
        match seen(state, c) {
            None => waiting += 1,
            Some(s) => match &s.now {
                Now::Running(_) => running += 1,
                Now::Ended(e) => {
                    ended += 1;
                    succeeded += usize::from(e.exit_code == 0);
                    again |= spec.restarts(c, e.exit_code);
                }
                Now::Waiting { .. } if s.last.is_some() => {
                    ended += 1;
                    again = true;
                }
                Now::Waiting { .. } => waiting += 1,
            },
        }
    }
    let sidecar_runs = spec
        .init_containers
        .iter()
        .filter(|c| c.sidecar)
        .any(|c| matches!(seen(state, c).map(|s| &s.now), Some(Now::Running(_))));

    if waiting > 0 {
        return Phase::Pending;
    }
    if running > 0 || sidecar_runs {
        return Phase::Running;
    }
    match ended == succeeded {
        _ if ended == 0 => Phase::Pending,
        true if deleting => Phase::Succeeded,
        false if deleting => Phase::Failed,
        // By its policy, or because its image was changed.
        _ if again => Phase::Running,
        true => Phase::Succeeded,
        false => Phase::Failed,
    }
}

fn container_status(
    pod: &Pod,
    state: Option<&State>,
    c: &Container,
    init: bool,
    init_done: bool,
) -> ContainerStatus {
    let fresh = ContainerState::default();
    let s = seen(state, c).unwrap_or(&fresh);
    let allocated = s.allocated.unwrap_or(c.resources);
    let mut now = state_of(&s.now);
    if let Some(w) = &mut now.waiting
        && w.reason == Reason::ContainerCreating
        && !pod.spec.init_containers.is_empty()
        && (init || !init_done)
    {
        // Its turn has not come; the API has a reason of its own for that.
        w.reason = Reason::PodInitializing;
    }
    let id = match &s.now {
        Now::Running(r) => Some(&r.id),
        Now::Ended(e) => Some(&e.id),
        Now::Waiting { .. } => s.last.as_ref().map(|e| &e.id),
    };
    ContainerStatus {
        name: c.name.clone(),
        ready: if init && !c.sidecar {
            has_succeeded(state, c)
        } else {
            is_ready(state, c)
        },
        started: is_started(state, c),
        state: now,
        last_state: StateOf {
            terminated: s.last.as_ref().map(terminated),
            ..StateOf::default()
        },
        restart_count: s.restart_count,
        image: s.image_name.clone().unwrap_or_else(|| c.image.clone()),
        image_id: s.image_id.clone().unwrap_or_default(),
        container_id: id.filter(|i| !i.is_empty()).map(|i| format!("carob://{i}")),
        allocated_resources: ResourcesOf::of(allocated).requests,
        resources: ResourcesOf::of(match &s.now {
            Now::Running(_) => s.resources.unwrap_or(allocated),
            _ => allocated,
        }),
        user: s.user.clone().map(|linux| ContainerUser { linux }),
    }
}

fn state_of(now: &Now) -> StateOf {
    let mut s = StateOf::default();
    match now {
        Now::Waiting { reason, message } => {
            s.waiting = Some(Waiting {
                reason: *reason,
                message: message.clone(),
            });
        }
        Now::Running(r) => {
            s.running = Some(RunningSince {
                started_at: rfc3339(r.since),
            });
        }
        Now::Ended(e) => s.terminated = Some(terminated(e)),
    }
    s
}

fn terminated(e: &Ended) -> Terminated {
    Terminated {
        exit_code: e.exit_code,
        signal: e.signal,
        reason: e.reason,
        message: e.message.clone(),
        started_at: e.started.map(rfc3339),
        finished_at: rfc3339(e.finished),
        container_id: format!("carob://{}", e.id),
        finished: e.finished,
    }
}

#[cfg(test)]
mod tests;
