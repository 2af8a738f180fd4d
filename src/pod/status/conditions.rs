//! The conditions of a Pod.

use super::{Condition, Phase, init_passed, initialized, is_init, is_ready, phase, rfc3339};
use crate::pod::reason::Reason;
use crate::pod::state::State;
use crate::spec::Pod;

/// Name and status of each condition, for the monitor, which keeps the time of
/// each one's last change in [`State::conditions`].
pub(crate) fn conditions(pod: &Pod, state: &State) -> Vec<(&'static str, bool)> {
    judge(pod, Some(state))
        .into_iter()
        .map(|v| (v.kind, v.holds))
        .collect()
}

/// One condition before the time of its last change is known.
pub(super) struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes(kind: &'static str) -> Self {
        Verdict {
            kind,
            holds: true,
            reason: None,
            message: None,
        }
    }

    fn no(kind: &'static str, reason: Option<&'static str>, message: Option<String>) -> Self {
        Verdict {
            kind,
            holds: false,
            reason,
            message,
        }
    }

    pub(super) fn published(self, pod: &Pod, state: Option<&State>) -> Condition {
        // A record that says otherwise is of before the change: no time is
        // better than a wrong one. Before any record there is the creation.
        let since = match state {
            Some(s) => s
                .conditions
                .get(self.kind)
                .filter(|r| r.status == self.holds)
                .map(|r| r.since),
            None => Some(pod.created),
        };
        Condition {
            kind: self.kind,
            status: if self.holds { "True" } else { "False" },
            last_transition_time: since.map(rfc3339),
            reason: self.reason,
            message: self.message,
        }
    }
}

/// The condition of a Pod that stands still. Kubernetes has none.
pub(crate) const PAUSED: &str = "carob/Paused";

pub(super) fn judge(pod: &Pod, state: Option<&State>) -> Vec<Verdict> {
    const SANDBOX: &str = "PodReadyToStartContainers";
    const INITIALIZED: &str = "Initialized";
    const READY: &str = "Ready";
    const CONTAINERS: &str = "ContainersReady";

    let phase = phase(pod, state);
    let stood = state.is_some_and(|s| s.sandbox_ready.is_some());
    let sandbox = if stood && !phase.is_terminal() {
        Verdict::yes(SANDBOX)
    } else {
        Verdict::no(SANDBOX, None, None)
    };

    let initialized = if phase == Phase::Succeeded {
        Verdict {
            reason: Some("PodCompleted"),
            ..Verdict::yes(INITIALIZED)
        }
    } else if initialized(pod, state) {
        Verdict::yes(INITIALIZED)
    } else {
        let open: Vec<&str> = pod
            .spec
            .init_containers
            .iter()
            .filter(|c| !init_passed(state, c))
            .map(|c| c.name.as_str())
            .collect();
        Verdict::no(
            INITIALIZED,
            Some("ContainersNotInitialized"),
            Some(format!(
                "containers with incomplete status: [{}]",
                open.join(" ")
            )),
        )
    };

    let not_ready: Vec<&str> = pod
        .spec
        .all_containers()
        .filter(|c| c.sidecar || !is_init(pod, c))
        .filter(|c| !is_ready(state, c))
        .map(|c| c.name.as_str())
        .collect();
    let containers = |kind| match phase {
        Phase::Succeeded => Verdict::no(kind, Some("PodCompleted"), None),
        Phase::Failed => Verdict::no(kind, Some("PodFailed"), None),
        _ if not_ready.is_empty() => Verdict::yes(kind),
        _ => Verdict::no(
            kind,
            Some("ContainersNotReady"),
            Some(format!(
                "containers with unready status: [{}]",
                not_ready.join(" ")
            )),
        ),
    };
    let mut ready = containers(READY);
    if ready.holds && state.is_some_and(|s| s.paused.is_some()) {
        ready = Verdict::no(READY, Some("PodPaused"), None);
    }
    if ready.holds && state.is_some_and(|s| s.deletion.is_some()) {
        // It goes on serving, but nobody should be sent to it any more.
        ready = Verdict::no(READY, Some("PodTerminating"), None);
    }
    let mut verdicts = vec![
        sandbox,
        initialized,
        ready,
        containers(CONTAINERS),
        Verdict::yes("PodScheduled"),
    ];
    if state.is_some_and(|s| s.paused.is_some()) {
        verdicts.push(Verdict::yes(PAUSED));
    }
    let resize = state.map(|s| s.resize.clone()).unwrap_or_default();
    if let Some(f) = resize.pending {
        verdicts.push(Verdict {
            reason: Some(Reason::Infeasible.as_str()),
            message: Some(f.message),
            ..Verdict::yes("PodResizePending")
        });
    }
    if let Some(why) = resize.in_progress {
        let stuck = !why.is_empty();
        verdicts.push(Verdict {
            reason: stuck.then_some(Reason::Error.as_str()),
            message: stuck.then_some(why),
            ..Verdict::yes("PodResizeInProgress")
        });
    }
    if state.is_some_and(|s| s.starting_over.as_ref().is_some_and(|o| !o.ended)) {
        verdicts.push(Verdict::yes("AllContainersRestarting"));
    }
    verdicts
}
