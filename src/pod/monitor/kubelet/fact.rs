//! What the engine tells the kubelet and what the kubelet tells the engine, as plain data
//! that can be written to a file ([`super::trace`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::pod::reason::Reason;
use crate::pod::state::User;
use crate::spec::{Bounds, Check, Node, Pod, ProbeKind, Resources};

/// A point in time, on two clocks: deadlines are measured on the one that nobody can set,
/// records have the date.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// CLOCK_MONOTONIC: since the machine's boot.
    pub clock: Duration,
    pub date: Timestamp,
}

impl Moment {
    /// How long ago a date was; nothing if it lies ahead.
    pub(crate) fn since(&self, date: Timestamp) -> Duration {
        Duration::try_from(self.date.duration_since(date)).unwrap_or_default()
    }
}

/// Something that has happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fact {
    /// A deadline may have passed.
    Time,
    /// The monitor has begun. `refusal`: why this host may not run the Pod.
    Begun {
        refusal: Option<String>,
        #[serde(default)]
        node: Option<Node>,
    },
    SandboxMade {
        ips: Vec<IpAddr>,
        host_ip: Option<IpAddr>,
        warnings: Vec<Warning>,
    },
    SandboxFailed {
        /// Of the event: what was being made.
        reason: Reason,
        error: Error,
    },
    /// What an earlier monitor had made is not whole any more.
    SandboxLost {
        error: Error,
    },
    /// All that an earlier monitor had left has been looked at.
    Adopted,
    /// The image is being pulled: the container's own, or that of its volume.
    Pulling {
        container: String,
        #[serde(default)]
        volume: Option<String>,
    },
    Pulled {
        image: String,
    },
    /// The image is there, and so are those of volumes, by the volumes' names: the container
    /// is being made of them.
    Image {
        container: String,
        id: String,
        name: Option<String>,
        #[serde(default)]
        volumes: BTreeMap<String, String>,
    },
    ImageMissing {
        container: String,
        #[serde(default)]
        volume: Option<String>,
        error: Error,
    },
    /// The number of the attempt that is being made.
    Attempt {
        container: String,
        number: u32,
    },
    /// The attempt never became the container's program.
    NotStarted {
        container: String,
        error: Error,
    },
    Started {
        container: String,
        pid: i32,
        /// Field 22 of /proc/PID/stat.
        pid_start: u64,
        user: Option<User>,
    },
    /// The container that an earlier monitor started still runs.
    Survived {
        container: String,
    },
    Ended {
        container: String,
        /// As wait(2) has it; `None`: nobody saw how.
        status: Option<i32>,
        oom_killed: bool,
        /// The termination message.
        message: String,
    },
    /// What a hook did is over.
    HookEnded {
        container: String,
        hook: HookKind,
        result: Result<(), Error>,
    },
    /// A probe has been answered, which [`Action::CancelProbe`] has not forgotten.
    Probed {
        container: String,
        probe: ProbeKind,
        answer: Answer,
    },
    /// The Pod's record has been changed, in what may change.
    Changed {
        pod: Box<Pod>,
    },
    /// A ConfigMap or a Secret that the Pod names has come, changed or gone.
    ObjectsChanged,
    /// What [`Action::MeasureMemory`] has found, in bytes.
    MemoryUsed {
        containers: BTreeMap<String, u64>,
        pod: Option<u64>,
    },
    /// So many steps of [`Action::Resize`] have been done, and what the next one failed with.
    Resized {
        steps: usize,
        error: Option<Error>,
    },
    /// What [`Action::MeasureVolumes`] has found, in bytes.
    VolumesUsed {
        volumes: BTreeMap<String, u64>,
        /// Why of these less was counted than there is, or nothing.
        not_whole: BTreeMap<String, String>,
        took: Duration,
    },
    /// A user wants these containers to be made anew.
    Restart {
        containers: Vec<String>,
    },
    /// A user wants the Pod to stand still.
    Paused,
    /// And to go on.
    Resumed,
    /// A client wants to know how the Pod stands now.
    Asked,
    Delete {
        grace: Duration,
        force: bool,
    },
    /// The machine goes down.
    ShutDown,
    /// Not everything of a deleted Pod could be removed.
    NotRemoved {
        errors: Vec<Error>,
    },
    /// An event that is the engine's own to tell.
    Event(Warning),
    /// The same, in the place of one with the same reason and beginning: a number in it
    /// has grown.
    EventGrew {
        reason: Reason,
        beginning: String,
        rest: String,
    },
}

/// What a probe has led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// `warning`: what is remarkable about it nevertheless.
    Success { warning: Option<String> },
    /// Why.
    Failure(String),
    /// The question could not be put.
    Error(Error),
}

/// An event, before its time and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warning {
    /// Else it is Normal.
    pub warns: bool,
    pub reason: Reason,
    pub message: String,
}

/// Something to be done now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Take over what an earlier monitor has left; ends with [`Fact::Adopted`] or
    /// [`Fact::SandboxLost`].
    Adopt,
    /// Remove what is there of a sandbox and make it anew.
    MakeSandbox,
    /// Find the container's image, pull it if need be, and start a new attempt.
    Start {
        container: String,
    },
    CancelPull {
        container: String,
    },
    /// Kill an attempt that has not become the container's program.
    KillStarting {
        container: String,
    },
    /// Send the signal that asks for an end: this one, else the image's, else TERM.
    Stop {
        container: String,
        signal: Option<i32>,
    },
    /// Kill all processes of the container.
    Kill {
        container: String,
    },
    /// Do what a hook asks for; ends with [`Fact::HookEnded`].
    RunHook {
        container: String,
        hook: HookKind,
        check: Check,
    },
    /// Put a probe's question to the container; ends with [`Fact::Probed`].
    Probe {
        container: String,
        probe: ProbeKind,
    },
    /// Forget the question: no answer is wanted any more.
    CancelProbe {
        container: String,
        probe: ProbeKind,
    },
    /// Say how much memory these containers use, and the Pod; ends with
    /// [`Fact::MemoryUsed`].
    MeasureMemory {
        containers: Vec<String>,
    },
    /// Give cgroups other limits, in this order; ends with [`Fact::Resized`].
    Resize {
        steps: Vec<ResizeStep>,
    },
    /// Say how much of the disk these volumes take; more than this many bytes is too much of
    /// each. Ends with [`Fact::VolumesUsed`].
    MeasureVolumes {
        volumes: BTreeMap<String, u64>,
    },
    /// Let all processes of the Pod stand still.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Tell the clients that are attached to the container, and end what ran beside it.
    TellEnd {
        container: String,
        exit_code: i32,
    },
    /// Remove all that there is of the Pod, and end.
    Remove,
}

/// What one cgroup is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ResizeStep {
    Pod(Bounds),
    Container { name: String, resources: Resources },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum HookKind {
    PostStart,
    PreStop,
}

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// activeDeadlineSeconds. Before all others: what fails the Pod makes them idle.
    Deadline,
    /// The Pod's grace period is over.
    Grace,
    /// A container's back-off is over.
    Retry(String),
    /// A container's grace period is over, or its hook's.
    Stop(String),
    /// A sleep hook's.
    HookSleep(String, HookKind),
    /// A probe is due.
    Probe(String, ProbeKind),
    /// A probe's answer is.
    Answer(String, ProbeKind),
    /// The pause before all containers are started over is over.
    StartOver,
    /// A resize is tried again.
    Resize,
    /// The sandbox is tried again.
    Sandbox,
    /// What could not be removed is tried again.
    Removal,
    /// Volumes are measured.
    Volumes,
}
