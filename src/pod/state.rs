//! What the monitor has seen: the record `state.json`.
//!
//! The monitor alone writes it, at each change, before the change that it names
//! is made where that is possible. Everybody may read it. The v1 PodStatus is
//! computed from it and the spec ([`super::status`]), never stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::pod::reason::Reason;
use crate::spec::{Bounds, ProbeKind, Resources};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub version: u32,
    /// /proc/sys/kernel/random/boot_id of the boot that made the Pod.
    pub boot_id: String,
    /// The monitor that wrote this.
    pub monitor_pid: i32,
    /// When the sandbox stood and containers could be made.
    pub sandbox_ready: Option<Timestamp>,
    pub start_time: Option<Timestamp>,
    /// The Pod's addresses; empty while there is no network. The host's own with
    /// hostNetwork.
    pub ips: Vec<std::net::IpAddr>,
    pub host_ip: Option<std::net::IpAddr>,
    /// Why the sandbox could not be made, if it could not.
    pub sandbox_error: Option<Failure>,
    pub deletion: Option<Deletion>,
    /// Why the whole Pod failed (`DeadlineExceeded`, ...).
    pub failed: Option<Failure>,
    /// The Pod's processes stand still since then.
    #[serde(default)]
    pub paused: Option<Timestamp>,
    /// How often all containers have been started over, by a restart rule.
    #[serde(default)]
    pub round: u32,
    /// All containers are being ended, to be started over.
    #[serde(default)]
    pub starting_over: Option<StartingOver>,
    /// What the Pod's cgroup was given last.
    #[serde(default)]
    pub bounds: Option<Bounds>,
    #[serde(default)]
    pub resize: Resize,
    /// By name, init containers and others.
    pub containers: BTreeMap<String, ContainerState>,
    /// Last change of each condition that is not computed from the above.
    pub conditions: BTreeMap<String, ConditionRecord>,
    /// Why a record of the Pod cannot be read: then nothing else here is known.
    #[serde(default)]
    pub damaged: Option<String>,
    /// The newest last; bounded by [`State::MAX_EVENTS`].
    pub events: Vec<Event>,
}

impl State {
    pub(crate) const VERSION: u32 = 1;
    pub(crate) const MAX_EVENTS: usize = 100;
    /// Bytes that are set aside for it on its filesystem, so that a Pod's end is written
    /// down when that is full: enough for all but the events.
    pub(crate) const RESERVED: u64 = 16 << 10;

    /// Of a Pod that has begun then.
    #[cfg(test)]
    pub(crate) fn sample(begun: Timestamp, containers: BTreeMap<String, ContainerState>) -> Self {
        State {
            version: State::VERSION,
            boot_id: String::new(),
            monitor_pid: 1,
            sandbox_ready: Some(begun),
            start_time: Some(begun),
            ips: vec!["10.88.0.2".parse().unwrap()],
            host_ip: Some("192.0.2.1".parse().unwrap()),
            sandbox_error: None,
            deletion: None,
            failed: None,
            round: 0,
            starting_over: None,
            bounds: None,
            resize: Default::default(),
            paused: None,
            containers,
            damaged: None,
            conditions: BTreeMap::new(),
            events: vec![],
        }
    }

    /// Whether a container has run since all were started over.
    pub(crate) fn has_begun(&self, c: &ContainerState) -> bool {
        c.round == self.round && (c.last.is_some() || !matches!(c.now, Now::Waiting { .. }))
    }
}

/// How far a change of resources is that runs in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resize {
    /// Why it is not done: the condition PodResizePending.
    #[serde(default)]
    pub pending: Option<Failure>,
    /// It is being done: the condition PodResizeInProgress. What keeps it from its end, where
    /// something does.
    #[serde(default)]
    pub in_progress: Option<String>,
    /// The container whose resources cannot be written; `None` with an error: the Pod's own.
    #[serde(default)]
    pub stuck_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartingOver {
    /// All have ended.
    pub ended: bool,
    /// Nothing is started before.
    pub not_before: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConditionRecord {
    pub status: bool,
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub reason: Reason,
    pub message: String,
    /// The error itself, where one is the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: &str) -> Self {
        Failure {
            reason,
            message: message.to_owned(),
            error: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deletion {
    pub requested: Timestamp,
    /// Seconds that were granted.
    pub grace_period: u64,
}

/// As `kubectl describe` shows them: Normal or Warning, a reason, a text, how
/// often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub warning: bool,
    pub reason: Reason,
    pub message: String,
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    pub now: Now,
    /// How the attempt before ended.
    pub last: Option<Ended>,
    /// Attempts made so far less one is not the restart count: an attempt whose
    /// container never ran does not count.
    pub restart_count: u32,
    /// The number of the current attempt's bundle and log file, from 0.
    pub attempt: u32,
    /// It is to be made anew because a user wants that, whatever its restart policy.
    #[serde(default)]
    pub restart_wanted: bool,
    /// [`State::round`] of that attempt.
    #[serde(default)]
    pub round: u32,
    /// The image as the spec named it when the attempt began.
    #[serde(default)]
    pub image: Option<String>,
    /// What the container may have, where the spec asks for something else that it does not
    /// get (yet).
    #[serde(default)]
    pub allocated: Option<Resources>,
    /// What its cgroup was given last.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// The image's ID, once known.
    pub image_id: Option<String>,
    /// The image's canonical name, once known.
    pub image_name: Option<String>,
    /// The IDs of the images that are volumes of it, by the volumes' names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volume_images: BTreeMap<String, String>,
    /// Seconds from the last end to the next attempt, while that is waited for
    /// (`CrashLoopBackOff`).
    #[serde(default)]
    pub backoff: Option<u64>,
    /// The user that the first process of the last attempt that ran started with.
    #[serde(default)]
    pub user: Option<User>,
    /// What mends what it waits for: the end of that message, in brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// v1 LinuxContainerUser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// With `gid`.
    pub supplemental_groups: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Now {
    Waiting { reason: Reason, message: String },
    Running(Running),
    Ended(Ended),
}

impl Now {
    pub(crate) fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Now::Waiting {
            reason,
            message: message.into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub id: String,
    /// In the host's pid namespace.
    pub pid: i32,
    /// Field 22 of /proc/<pid>/stat: tells a reused pid from the process.
    pub pid_start: u64,
    pub since: Timestamp,
    /// The postStart hook is over, and the startup probe has succeeded, where there are such.
    pub started: bool,
    /// The postStart hook runs.
    #[serde(default)]
    pub in_hook: bool,
    /// It has started, and the readiness probe agrees, where there is one.
    #[serde(default)]
    pub ready: bool,
    /// What each probe has answered last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<ProbeKind, ProbeRecord>,
}

/// Answers of a probe that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbeRecord {
    pub success: bool,
    /// How many such have come in a row, up to as many as decide something.
    pub in_a_row: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub id: String,
    /// 0..255; 128 + n for signal n.
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub reason: Reason,
    pub message: String,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
}

impl ContainerState {
    /// The IDs of all images that it needs.
    pub(crate) fn images(&self) -> impl Iterator<Item = &String> {
        self.image_id.iter().chain(self.volume_images.values())
    }

    /// What it waits for, without what mends it, and that, where both are known.
    pub(crate) fn waits_for(&self) -> Option<(&str, &str)> {
        let mend = self.mend.as_deref()?;
        match &self.now {
            Now::Waiting { message, .. } => {
                let text = message.strip_suffix(&format!(" ({mend})"))?;
                Some((text, mend))
            }
            _ => None,
        }
    }

    /// Before another state takes the place of an end: the end is the last one from then on.
    pub(crate) fn keep_end(&mut self) {
        if let Now::Ended(ended) = &self.now {
            self.last = Some(ended.clone());
        }
    }
}

impl Default for ContainerState {
    fn default() -> Self {
        ContainerState {
            now: Now::Waiting {
                reason: Reason::ContainerCreating,
                message: String::new(),
            },
            last: None,
            restart_count: 0,
            attempt: 0,
            restart_wanted: false,
            round: 0,
            image: None,
            allocated: None,
            resources: None,
            image_id: None,
            image_name: None,
            volume_images: BTreeMap::new(),
            backoff: None,
            user: None,
            mend: None,
        }
    }
}
