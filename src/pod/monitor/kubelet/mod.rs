//! What a kubelet does with a Pod, decided and not done.
//!
//! [`Kubelet`] is told [`Fact`]s, each with the time at which it became known, and says
//! which [`Action`]s follow. It asks neither the kernel nor the clock, so that each rule
//! is tested as a table, minutes of back-off included, and a recorded run can be replayed
//! ([`trace`]). The engine around it (`super::Monitor`) has the processes and files.
//!
//! After each fact the same three steps are made: the fact changes the state
//! ([`Kubelet::take`]), deadlines that have passed do ([`Kubelet::fire`]), and then
//! [`Kubelet::advance`] says what is to be done in the state that there is. That last step
//! looks at the state alone: a fact that is told twice, or late, does no harm.
//!
//! A new rule is a fact, action or timer in [`fact`], an arm in `take` or `fire`, words for
//! it in `tests/words.rs` and a table in `tests/`; the engine's side of an action is
//! `Monitor::execute`.
//!
//! A file each: [`order`] (which container runs when), [`start`] and [`end`] (of one
//! container), [`probe`], [`start_over`] (of all containers), [`pause`], [`termination`] (of
//! containers and of the Pod), [`sandbox`], [`update`], [`resize`], [`volumes`] (their sizes), [`awaited`] (what clients wait for),
//! [`backoff`].

mod awaited;
pub(crate) mod backoff;
mod end;
mod fact;
pub(crate) mod order;
pub(crate) mod pause;
mod probe;
mod resize;
mod sandbox;
mod start;
mod start_over;
mod termination;
pub(crate) mod trace;
mod update;
mod volumes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use nix::errno::Errno;

use crate::Error;
use crate::pod::reason::Reason;
use crate::pod::state::{ConditionRecord, ContainerState, Event, Failure, Now, Running, State};
use crate::pod::status;
use crate::spec::{Container, Pod, ProbeKind, VolumeSource};

use fact::Timer;
pub(crate) use fact::{Action, Answer, Fact, HookKind, Moment, ResizeStep, Warning};
use probe::Prober;
use resize::Resizing;
use termination::{EarlyHook, Removal, Stop, Termination};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Kubelet {
    /// With what its containers may have, which is not what the record asks for while a
    /// resize is pending.
    pod: Pod,
    resizing: Resizing,
    state: State,
    courses: BTreeMap<String, Course>,
    timers: BTreeMap<Timer, Duration>,
    termination: Option<Termination>,
    removal: Option<Removal>,
    /// All that an earlier monitor had left has been taken over, or there was nothing.
    adopted: bool,
    /// The sandbox is being made.
    making_sandbox: bool,
    /// The last pause between two tries to make it.
    sandbox_pause: Option<Duration>,
    /// Since when the Pod stands still, on the clock of this monitor.
    paused_at: Option<Duration>,
    /// Volumes are being measured.
    measuring_volumes: bool,
    /// At least so long before that is done again.
    volumes_pause: Duration,
    /// The state has changed since it was last asked for.
    changed: bool,
    actions: Vec<Action>,
}

/// What is known of a container beside its record.
#[derive(Debug, Default)]
struct Course {
    stage: Stage,
    stop: Option<Stop>,
    early_hook: Option<EarlyHook>,
    /// The delay before the next restart but the one that is waited for.
    backoff: Option<Duration>,
    /// The last delay between two tries to make an attempt (of its image, say).
    pause: Option<Duration>,
    /// When the next attempt may be made, on the clock.
    retry_at: Option<Duration>,
    /// When the process started, on the clock.
    started_at: Option<Duration>,
    /// What execve(2) said of the program of the last attempt: the record has it as
    /// words alone.
    exec_errno: Option<Errno>,
    /// What the last postStart hook or startup probe failed with, until one succeeds, and
    /// the event's reason.
    start_failure: Option<(Reason, Error)>,
    /// Of the container that runs.
    probers: BTreeMap<ProbeKind, Prober>,
    /// The attempt that is being started has been killed.
    killed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// This image, as the spec names it.
    Pulling(String),
    Starting,
    Running,
}

impl Kubelet {
    /// For a Pod whose monitor begins with this state. The first fact is
    /// [`Fact::Begun`].
    pub(crate) fn new(mut pod: Pod, state: State) -> Self {
        let resizing = Resizing::begin(&mut pod, &state);
        let courses = pod
            .spec
            .every_container()
            .map(|c| (c.name.clone(), Course::default()))
            .collect();
        Kubelet {
            pod,
            resizing,
            state,
            courses,
            timers: BTreeMap::new(),
            termination: None,
            removal: None,
            adopted: false,
            making_sandbox: false,
            sandbox_pause: None,
            paused_at: None,
            measuring_volumes: false,
            volumes_pause: Duration::ZERO,
            changed: true,
            actions: Vec::new(),
        }
    }

    pub(crate) fn pod(&self) -> &Pod {
        &self.pod
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether the Pod, or all that runs of it, is being ended.
    pub(crate) fn terminates(&self) -> bool {
        self.termination.is_some()
    }

    /// Takes a fact; what is to be done now, in this order.
    pub(crate) fn step(&mut self, at: Moment, fact: Fact) -> Vec<Action> {
        self.take(at, fact);
        self.fire(at);
        self.advance(at);
        std::mem::take(&mut self.actions)
    }

    /// When [`Fact::Time`] is to be told at the latest, on the clock.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let stands = self.state.paused.is_some();
        self.timers.values().min().copied().filter(|_| !stands)
    }

    /// Whether the state has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Brings the times of the conditions' last changes up to date, before the state is
    /// written down.
    pub(crate) fn note_conditions(&mut self, at: Moment) {
        for (name, status) in status::conditions(&self.pod, &self.state) {
            let since = at.date;
            let record = ConditionRecord { status, since };
            match self.state.conditions.get_mut(name) {
                Some(old) if old.status == status => {}
                Some(old) => *old = record,
                None => drop(self.state.conditions.insert(name.to_owned(), record)),
            }
        }
    }

    fn take(&mut self, at: Moment, fact: Fact) {
        match fact {
            Fact::Time => {}
            Fact::Begun { refusal, node } => {
                self.begin(at, refusal);
                self.resizing.node = node;
                self.admit_resize(at);
            }
            Fact::SandboxMade {
                ips,
                host_ip,
                warnings,
            } => self.sandbox_made(at, ips, host_ip, warnings),
            Fact::SandboxFailed { reason, error } => self.sandbox_failed(at, reason, error),
            Fact::SandboxLost { error } => self.sandbox_lost(at, &error),
            Fact::Adopted => self.adopted(at),
            Fact::Pulling { container, volume } => self.pulling(at, &container, volume.as_deref()),
            Fact::Pulled { image } => {
                let text = format!("Successfully pulled image {image:?}");
                self.event(at, false, Reason::Pulled, text);
            }
            Fact::Image {
                container,
                id,
                name,
                volumes,
            } => self.image_found(&container, id, name, volumes),
            Fact::ImageMissing {
                container,
                volume,
                error,
            } => self.image_missing(at, &container, volume.as_deref(), error),
            Fact::Attempt { container, number } => self.attempt_begins(&container, number),
            Fact::NotStarted { container, error } => self.not_started(at, &container, error),
            Fact::Started {
                container,
                pid,
                pid_start,
                user,
            } => self.started(at, &container, (pid, pid_start), user),
            Fact::Survived { container } => self.survived(at, &container),
            Fact::Ended {
                container,
                status,
                oom_killed,
                message,
            } => self.ended(at, &container, status, oom_killed, message),
            Fact::HookEnded {
                container,
                hook,
                result,
            } => self.hook_ended(at, &container, hook, result),
            Fact::Probed {
                container,
                probe,
                answer,
            } => self.probed(at, &container, probe, answer),
            Fact::Changed { pod } => self.pod_changed(at, *pod),
            Fact::ObjectsChanged => self.objects_changed(at),
            Fact::MemoryUsed { containers, pod } => self.memory_used(at, &containers, pod),
            Fact::Resized { steps, error } => self.resized(at, steps, error),
            Fact::VolumesUsed {
                volumes,
                not_whole,
                took,
            } => self.volumes_used(at, &volumes, &not_whole, took),
            Fact::Restart { containers } => self.restart(at, &containers),
            Fact::Paused => self.pause(at),
            Fact::Resumed => self.resume(at),
            Fact::Asked => self.hurry_sandbox(at),
            Fact::Delete { grace, force } => self.delete(at, grace, force),
            Fact::ShutDown => self.shut_down(at),
            Fact::NotRemoved { errors } => self.not_removed(at, &errors),
            Fact::Event(w) => self.event(at, w.warns, w.reason, w.message),
            Fact::EventGrew {
                reason,
                beginning,
                rest,
            } => self.event_grew(at, reason, &beginning, &rest),
        }
    }

    fn fire(&mut self, at: Moment) {
        if self.state.paused.is_some() {
            return;
        }
        let due: Vec<Timer> = self
            .timers
            .iter()
            .filter(|(_, when)| **when <= at.clock)
            .map(|(t, _)| t.clone())
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            match timer {
                // `advance` sees that the time has come.
                Timer::Retry(_) | Timer::Grace | Timer::StartOver | Timer::Resize => {}
                Timer::Stop(name) => self.stop_deadline(at, &name),
                Timer::HookSleep(name, hook) => self.hook_ended(at, &name, hook, Ok(())),
                Timer::Probe(name, kind) => self.ask(at, &name, kind),
                Timer::Answer(name, kind) => self.probe_timed_out(at, &name, kind),
                Timer::Sandbox => self.try_sandbox(at),
                Timer::Deadline => self.deadline_passed(at),
                Timer::Removal => self.remove(),
                Timer::Volumes => self.measure_volumes(),
            }
        }
    }

    /// Takes the next steps.
    fn advance(&mut self, at: Moment) {
        if self.termination.is_some() {
            return self.advance_termination(at);
        }
        let stands = self.state.damaged.is_some() || self.state.paused.is_some();
        if self.state.sandbox_ready.is_none() || stands || !self.adopted {
            return;
        }
        if self.advance_start_over(at) {
            return;
        }
        let decision = order::decide(&self.pod.spec, &self.state);
        if decision.over {
            self.end(at);
            return self.advance_termination(at);
        }
        self.watch_volumes(at);
        self.advance_resize(at);
        self.stop_replaced(at);
        for name in decision.start {
            let course = self.course(&name);
            let waits = course.retry_at.is_some_and(|when| when > at.clock);
            if course.stage == Stage::Idle && !waits && course.stop.is_none() {
                self.begin_attempt(&name);
            }
        }
    }

    fn event(&mut self, at: Moment, warning: bool, reason: Reason, message: impl Into<String>) {
        let mut message = message.into();
        truncate(&mut message, EVENT_MESSAGE);
        self.changed = true;
        let same = |e: &&mut Event| e.reason == reason && e.message == message;
        if let Some(known) = self.state.events.iter_mut().find(same) {
            known.count += 1;
            known.last = at.date;
            return;
        }
        if self.state.events.len() >= State::MAX_EVENTS {
            self.state.events.remove(0);
        }
        self.state.events.push(Event {
            warning,
            reason,
            message,
            first: at.date,
            last: at.date,
            count: 1,
        });
    }

    fn event_grew(&mut self, at: Moment, reason: Reason, beginning: &str, rest: &str) {
        let message = format!("{beginning}{rest}");
        let same = |e: &&mut Event| e.reason == reason && e.message.starts_with(beginning);
        if let Some(known) = self.state.events.iter_mut().find(same) {
            known.message.clone_from(&message);
            truncate(&mut known.message, EVENT_MESSAGE);
        }
        self.event(at, true, reason, message);
    }

    /// Ends the Pod as failed.
    fn fail(&mut self, at: Moment, reason: Reason, message: &str) {
        self.event(at, true, reason, message);
        self.state.failed = Some(Failure::new(reason, message));
    }

    /// A container's record, to be changed.
    fn record_of(&mut self, name: &str) -> &mut ContainerState {
        self.changed = true;
        self.state.containers.entry(name.to_owned()).or_default()
    }

    fn course(&mut self, name: &str) -> &mut Course {
        self.courses.entry(name.to_owned()).or_default()
    }

    fn stage(&self, name: &str) -> Stage {
        self.courses
            .get(name)
            .map_or(Stage::Idle, |c| c.stage.clone())
    }

    fn names(&self) -> Vec<String> {
        self.courses.keys().cloned().collect()
    }

    fn spec_of(&self, name: &str) -> Container {
        self.pod.spec.container(name).cloned().unwrap_or_default()
    }

    /// The record of a container that runs.
    pub(crate) fn running(&self, name: &str) -> Option<&Running> {
        match &self.state.containers.get(name)?.now {
            Now::Running(r) => Some(r),
            _ => None,
        }
    }

    /// The same, to be changed.
    fn running_record(&mut self, name: &str) -> Option<&mut Running> {
        match &mut self.record_of(name).now {
            Now::Running(r) => Some(r),
            _ => None,
        }
    }

    /// The image of a container, or of a volume of its, as the spec names it.
    fn image_of(&self, name: &str, volume: Option<&str>) -> String {
        match volume {
            None => self.spec_of(name).image,
            Some(volume) => match self.pod.spec.volume(volume).map(|v| &v.source) {
                Some(VolumeSource::Image { reference, .. }) => reference.clone(),
                _ => String::new(),
            },
        }
    }

    fn is_init(&self, name: &str) -> bool {
        self.pod.spec.init_containers.iter().any(|c| c.name == name)
    }
}

/// Bytes of an event's message: as much as an API server takes.
const EVENT_MESSAGE: usize = 1024;

/// Cuts text to so many bytes, between characters.
pub(crate) fn truncate(text: &mut String, bytes: usize) {
    let cut = (0..=bytes.min(text.len())).rfind(|i| text.is_char_boundary(*i));
    text.truncate(cut.unwrap_or(0));
}

/// An error and its hint as the message of a status or an event.
pub(crate) fn message_of(e: &Error) -> String {
    let mut text = match e.get_hint() {
        Some(hint) => format!("{e} ({hint})"),
        None => e.to_string(),
    };
    truncate(&mut text, 4096);
    text
}

/// The first state of a container: ordinary ones wait for the init containers.
pub(crate) fn waiting_for(pod: &Pod, name: &str) -> ContainerState {
    let first = pod.spec.all_containers().next().map(|c| c.name.as_str());
    let mut state = ContainerState::default();
    let waits = first != Some(name) && !pod.spec.is_ephemeral(name);
    if !pod.spec.init_containers.is_empty() && waits {
        state.now = Now::waiting(Reason::PodInitializing, "");
    }
    state
}

/// 64 hex digits, as other tools expect; they follow from the attempt.
pub(crate) fn container_id(uid: &str, name: &str, attempt: u32) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("{uid}/{name}/{attempt}"));
    hash.iter().map(|b| format!("{b:02x}")).collect()
}
