//! Why a Pod is not Ready: one cause, the container or place that it is about, and what mends
//! it. [`super::trouble`] says the same of a container that has failed.
//!
//! Of several causes the first in the order of a Pod's life is said: its record, its end, its
//! sandbox, its init containers, its containers, their probes.

use jiff::Timestamp;
use serde::Serialize;

use super::client::View;
use super::state::{Event, Now, Running, State};
use super::status::Phase;
use super::trouble;
use crate::pod::limits;
use crate::pod::reason::Reason;
use crate::spec::{Container, Pod, ProbeKind, VolumeSource};
use crate::store::Layout;

/// One paragraph, in parts.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    pub namespace: String,
    pub name: String,
    /// A word for programs, one of [`Cause`].
    pub cause: Cause,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What is so, and since when.
    pub text: String,
    /// What to do; `None`: nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Cause {
    /// All containers are ready.
    Ready,
    /// All have ended with success.
    Completed,
    /// The record of the Pod cannot be read.
    RecordDamaged,
    Terminating,
    Paused,
    /// The Pod as a whole has failed: a deadline, the machine's shutdown.
    PodFailed,
    /// Its network, volumes or cgroup cannot be made.
    SandboxFailed,
    SandboxPending,
    /// All containers are being started over, by a restart rule.
    RestartingAll,
    /// A container has failed, cannot be started, or waits for its next restart.
    ContainerFailed,
    ImagePending,
    InitContainerRuns,
    PostStartHookRuns,
    StartupProbe,
    ReadinessProbe,
    ContainerPending,
    /// It is Ready, but the resources that its manifest asks for are not given.
    PodResizePending,
    /// It is Ready, and its resources are being changed where it runs.
    PodResizeInProgress,
}

impl Cause {
    /// Whether somebody should do something, or wait.
    pub(crate) fn is_well(self) -> bool {
        matches!(self, Cause::Ready | Cause::Completed)
    }
}

impl Why {
    /// As one paragraph.
    pub(crate) fn paragraph(&self) -> String {
        format!("pod {}: {}", self.name, self.text)
    }
}

/// Why the Pod is as it is now.
pub(crate) fn of(layout: &Layout, view: &View, now: Timestamp) -> Why {
    let found = Found::of(layout, view, now);
    Why {
        namespace: view.pod.namespace.clone(),
        name: view.pod.name.clone(),
        cause: found.cause,
        container: found.container,
        text: found.text,
        mend: found.mend,
    }
}

struct Found {
    cause: Cause,
    container: Option<String>,
    text: String,
    mend: Option<String>,
}

impl Found {
    fn new(cause: Cause, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Found {
            cause,
            container: None,
            text: text.into(),
            mend: Some(mend.into()),
        }
    }

    fn at(mut self, container: &str) -> Self {
        self.container = Some(container.to_owned());
        self
    }

    fn of(layout: &Layout, view: &View, now: Timestamp) -> Self {
        let pod = &view.pod;
        let Some(state) = &view.state else {
            let text = "its monitor has not begun yet";
            return Found::new(Cause::SandboxPending, text, describe(pod));
        };
        of_the_pod(pod, state, now)
            .or_else(|| of_what_failed(layout, view))
            .or_else(|| of_what_is_awaited(pod, state, now))
            .or_else(|| of_a_resize(view, state))
            .unwrap_or_else(|| of_what_is_well(layout, view))
    }
}

fn describe(pod: &Pod) -> String {
    format!("carob describe pod {}", pod.as_arguments())
}

fn of_the_pod(pod: &Pod, state: &State, now: Timestamp) -> Option<Found> {
    if let Some(why) = &state.damaged {
        let text = format!("its record cannot be read: {why}; what runs goes on");
        let mend = format!(
            "carob delete pod {}, and apply its manifest again",
            pod.as_arguments()
        );
        return Some(Found::new(Cause::RecordDamaged, text, mend));
    }
    if let Some(deletion) = &state.deletion {
        let since = ago(now, deletion.requested);
        let grace = deletion.grace_period;
        let mut text = format!("is being deleted since {since}, with a grace period of {grace} s");
        let runs: Vec<String> = running(pod, state)
            .map(|(c, r)| format!("{} (pid {})", c.name, r.pid))
            .collect();
        let stays = last_event(state, |e| e.reason == Reason::FailedKillPod);
        match (runs.is_empty(), stays) {
            (false, _) => text = format!("{text}; has not ended: {}", runs.join(", ")),
            (true, Some(e)) => text = format!("{text}; cannot be removed: {}", e.message),
            (true, None) => text = format!("{text}; its containers have ended"),
        }
        let mend = format!(
            "wait, or end it at once: carob delete pod {} --grace-period=0 --force",
            pod.as_arguments()
        );
        return Some(Found::new(Cause::Terminating, text, mend));
    }
    if let Some(since) = state.paused {
        let text = format!("is paused since {}", ago(now, since));
        let mend = format!("carob resume {}", pod.as_arguments());
        return Some(Found::new(Cause::Paused, text, mend));
    }
    if let Some(f) = &state.failed {
        let text = format!("has failed: {}: {}", f.reason, f.message);
        let mend = "delete it and apply its manifest again";
        return Some(Found::new(Cause::PodFailed, text, mend));
    }
    if let Some(f) = &state.sandbox_error {
        let mend = f.error.as_ref().and_then(|e| e.get_hint());
        let mend = mend.map_or_else(|| describe(pod), str::to_owned);
        let message = match &f.error {
            Some(e) => e.to_string(),
            None => f.message.clone(),
        };
        let what = match f.reason {
            Reason::FailedMount => "its volumes cannot be mounted",
            Reason::FailedScheduling => "this machine has less than the Pod requests",
            _ => "its sandbox cannot be made",
        };
        let text = format!("{what}, and this is tried again: {message}");
        return Some(Found::new(Cause::SandboxFailed, text, mend));
    }
    if state.sandbox_ready.is_none() {
        let mut text = "its sandbox is being made".to_owned();
        // The last of its events, and so about this try.
        let given = state.events.iter().max_by_key(|e| e.last);
        let given = given.filter(|e| e.reason == Reason::VolumePermissionChangeInProgress);
        if let Some(e) = given {
            text = format!("{text}: {} ({} ago)", e.message, ago(now, e.last));
        }
        return Some(Found::new(Cause::SandboxPending, text, describe(pod)));
    }
    state.starting_over.as_ref().map(|_| {
        let text = "a restart rule starts all its containers over";
        Found::new(Cause::RestartingAll, text, describe(pod))
    })
}

fn of_what_failed(layout: &Layout, view: &View) -> Option<Found> {
    let t = trouble::of(layout, view)?;
    let mut text = t.text();
    // What has ended it, where that was no decision of its own.
    if let Some(state) = &view.state
        && let Some(e) = probe_event(state, &t.container, &["Liveness", "Startup"])
    {
        text = format!("{text}; {}", e.message);
    }
    Some(Found::new(Cause::ContainerFailed, text, t.mend).at(&t.container))
}

/// The first container, in the order of their start, that is not there yet.
fn of_what_is_awaited(pod: &Pod, state: &State, now: Timestamp) -> Option<Found> {
    pod.spec.all_containers().find_map(|c| {
        let name = &c.name;
        let is_init = !c.sidecar && pod.spec.init_containers.iter().any(|i| i.name == *name);
        let seen = state.containers.get(name)?;
        let found = match &seen.now {
            Now::Running(r) if is_init => {
                let text = format!("init container {name} runs since {}", ago(now, r.since));
                Found::new(
                    Cause::InitContainerRuns,
                    text,
                    pod.logs_command(name, false),
                )
            }
            Now::Running(r) if r.in_hook => {
                let since = ago(now, r.since);
                let text = format!("the postStart hook of container {name} runs since {since}");
                Found::new(Cause::PostStartHookRuns, text, describe(pod))
            }
            Now::Running(r) if !r.started => of_a_probe(pod, state, c, ProbeKind::Startup, r, now)?,
            Now::Running(r) if !r.ready => of_a_probe(pod, state, c, ProbeKind::Readiness, r, now)?,
            Now::Running(_) | Now::Ended(_) => return None,
            Now::Waiting { reason, .. } if *reason == Reason::PodInitializing => return None,
            Now::Waiting { .. } if seen.image_id.is_none() => {
                let image = &c.image;
                let mut text = format!("container {name} waits for its image {image}");
                for m in &c.mounts {
                    let source = pod.spec.volume(&m.volume).map(|v| &v.source);
                    if let Some(VolumeSource::Image { reference, .. }) = source {
                        text += &format!(", or {reference} of its volume {}", m.volume);
                    }
                }
                Found::new(Cause::ImagePending, text, describe(pod))
            }
            Now::Waiting { .. } => {
                let text = format!("container {name} is being started");
                Found::new(Cause::ContainerPending, text, describe(pod))
            }
        };
        Some(found.at(name))
    })
}

/// A container whose probe has not succeeded, or does not any more.
fn of_a_probe(
    pod: &Pod,
    state: &State,
    c: &Container,
    kind: ProbeKind,
    running: &Running,
    now: Timestamp,
) -> Option<Found> {
    let probe = c.probe(kind)?;
    let name = &c.name;
    let cause = match kind {
        ProbeKind::Startup => Cause::StartupProbe,
        _ => Cause::ReadinessProbe,
    };
    let word = kind.name().to_lowercase();
    let since = ago(now, running.since);
    let mut text = format!(
        "container {name} runs since {since}, but its {word} probe ({}) does not succeed",
        probe.check
    );
    match probe_event(state, name, &[kind.name()]) {
        Some(e) => {
            let answer = e.message.split_once(&format!("container {name}: "));
            let answer = answer.map_or(e.message.as_str(), |(_, answer)| answer);
            text = format!(
                "{text}: {answer} (x{}, last {} ago)",
                e.count,
                ago(now, e.last)
            );
        }
        // Early probes are no events.
        None => text = format!("{text} yet"),
    }
    let mend = format!(
        "see what it says, {}, and what the probe asks: {}",
        pod.logs_command(name, false),
        describe(pod)
    );
    Some(Found::new(cause, text, mend))
}

/// The conditions PodResizePending and PodResizeInProgress of a Pod that is well otherwise.
fn of_a_resize(view: &View, state: &State) -> Option<Found> {
    if view.status().phase.is_terminal() {
        return None;
    }
    let pod = &view.pod;
    let arguments = pod.as_arguments();
    let apply = "and apply the manifest again";
    if let Some(f) = &state.resize.pending {
        let text = format!(
            "runs on with the resources that it had; those asked for now are {}: {}",
            f.reason, f.message
        );
        let mend = match f.reason {
            Reason::Infeasible => format!(
                "ask for less than this machine has, {apply}: carob get pod {arguments} -o yaml \
                 shows what is asked for"
            ),
            _ => format!(
                "wait, or delete Pods that are not needed: {}",
                describe(pod)
            ),
        };
        let mut differ = state
            .containers
            .iter()
            .filter(|(_, c)| c.allocated.is_some());
        let found = Found::new(Cause::PodResizePending, text, mend);
        return Some(match (differ.next(), differ.next()) {
            (Some((name, _)), None) => found.at(name),
            _ => found,
        });
    }
    let why = state.resize.in_progress.as_ref()?;
    if why.is_empty() {
        let text = "its resources are being changed where it runs";
        return Some(Found::new(Cause::PodResizeInProgress, text, describe(pod)));
    }
    let text = format!(
        "its resources cannot be changed as it runs, which is tried again every 5 s: {why}"
    );
    let stuck_at = state.resize.stuck_at.as_ref();
    let lowered = stuck_at.and_then(|name| pod.spec.container(name)?.resources.memory_limit);
    let mend = match (stuck_at, lowered) {
        (Some(name), Some(limit)) if why.contains("below current usage") => format!(
            "ask for more than {} for container {name}, {apply}, or restart it, so that it begins \
             with less: carob restart {arguments} -c {name}",
            limits::bytes(limit)
        ),
        _ => describe(pod),
    };
    let found = Found::new(Cause::PodResizeInProgress, text, mend);
    Some(match stuck_at {
        Some(name) => found.at(name),
        None => found,
    })
}

fn of_what_is_well(layout: &Layout, view: &View) -> Found {
    let status = view.status();
    let (cause, mut text) = match status.phase {
        Phase::Succeeded => (Cause::Completed, "has ended, with success".to_owned()),
        _ => {
            let since = status.conditions.iter().find(|c| c.kind == "Ready");
            let since = since.and_then(|c| c.last_transition_time.clone());
            let since = since.map(|s| format!(" since {s}")).unwrap_or_default();
            (Cause::Ready, format!("is Ready{since}"))
        }
    };
    for c in status
        .container_statuses
        .iter()
        .filter(|c| c.restart_count > 0)
    {
        let times = match c.restart_count {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        text = format!("{text}; container {} was restarted {times}", c.name);
        if let Some(t) = &c.last_state.terminated {
            text = format!("{text}, the last time after {} ({})", t.reason, t.exit_code);
            let line = trouble::last_line(layout, view, &c.name, true);
            if let Some(line) = line.filter(|_| t.exit_code != 0) {
                text = format!("{text}: {line}");
            }
        }
    }
    Found {
        cause,
        container: None,
        text,
        mend: None,
    }
}

fn running<'a>(
    pod: &'a Pod,
    state: &'a State,
) -> impl Iterator<Item = (&'a Container, &'a Running)> {
    pod.spec
        .all_containers()
        .filter_map(|c| match &state.containers.get(&c.name)?.now {
            Now::Running(r) => Some((c, r)),
            _ => None,
        })
}

fn last_event(state: &State, is_it: impl Fn(&Event) -> bool) -> Option<&Event> {
    state
        .events
        .iter()
        .filter(|e| is_it(e))
        .max_by_key(|e| e.last)
}

/// The last failure of one of these probes of a container.
fn probe_event<'a>(state: &'a State, container: &str, kinds: &[&str]) -> Option<&'a Event> {
    let of_it = format!(": container {container}: ");
    last_event(state, |e| {
        e.reason == Reason::Unhealthy
            && e.message.contains(&of_it)
            && kinds.iter().any(|kind| e.message.starts_with(kind))
    })
}

/// How long ago, in one unit.
fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let then = |s: i64| Timestamp::from_second(1_000_000 - s).unwrap();
        for (seconds, text) in [
            (-5, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (200_000, "2 days"),
        ] {
            assert_eq!(ago(now, then(seconds)), text);
        }
    }
}
