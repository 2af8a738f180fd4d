//! Which container should run now: pure decisions, as a kubelet makes them.
//!
//! Sources: Kubernetes' documentation, "Pod Lifecycle", "Init Containers",
//! "Sidecar Containers".

use std::time::Duration;

use crate::pod::spec::{Container, Pod, RestartPolicy};
use crate::pod::state::{Now, State};

/// Back-off between restarts: the first delay, the longest, and how long a
/// container has to run for the delay to be the first again.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(10);
pub const BACKOFF_MOST: Duration = Duration::from_secs(300);
pub const BACKOFF_RESET: Duration = Duration::from_secs(600);

/// What is to be done about the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Containers that should run and do not: the caller honours back-off.
    pub start: Vec<String>,
    /// Sidecars that nothing needs any more.
    pub stop: Vec<String>,
    /// Nothing will run again.
    pub over: bool,
}

/// Whether a container whose last attempt ended with `exit_code` runs again.
pub fn restarts(pod: &Pod, c: &Container, exit_code: i32) -> bool {
    let is_init = pod.spec.init_containers.iter().any(|i| i.name == c.name);
    match pod.spec.restart_policy {
        _ if c.sidecar => true,
        // "Always" means "on failure" to an init container, which ends to succeed.
        RestartPolicy::Always => !is_init || exit_code != 0,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// What should be done in this state, were there no deletion.
pub fn decide(pod: &Pod, state: &State) -> Decision {
    let mut decision = Decision {
        start: Vec::new(),
        stop: Vec::new(),
        over: false,
    };
    let now = |c: &Container| state.containers.get(&c.name).map(|s| &s.now);
    let wants = |c: &Container| match now(c) {
        Some(Now::Running(_)) => false,
        Some(Now::Ended(e)) => restarts(pod, c, e.exit_code),
        // Waiting: for the first time, or after an end that it restarts from.
        _ => true,
    };
    let mut over = state.failed.is_some();
    for c in &pod.spec.init_containers {
        if over {
            break;
        }
        match now(c) {
            Some(Now::Ended(e)) if !c.sidecar && e.exit_code == 0 => {}
            Some(Now::Ended(e)) if !restarts(pod, c, e.exit_code) => over = true,
            Some(Now::Running(r)) if c.sidecar && r.started => {}
            _ => {
                if wants(c) {
                    decision.start.push(c.name.clone());
                }
                // A sidecar that ran before restarts beside the others.
                let ran = state
                    .containers
                    .get(&c.name)
                    .is_some_and(|s| s.last.is_some());
                if !(c.sidecar && ran) {
                    return decision;
                }
            }
        }
    }
    if !over {
        decision.start.extend(
            pod.spec
                .containers
                .iter()
                .filter(|c| wants(c))
                .map(|c| c.name.clone()),
        );
        over = pod
            .spec
            .containers
            .iter()
            .all(|c| matches!(now(c), Some(Now::Ended(e)) if !restarts(pod, c, e.exit_code)));
    }
    if over {
        decision.start.clear();
        decision.stop = pod
            .spec
            .all_containers()
            .filter(|c| matches!(now(c), Some(Now::Running(_))))
            .map(|c| c.name.clone())
            .collect();
    }
    decision.over = over;
    decision
}

/// The delay after one of `before` (`None`: the first).
pub fn next_backoff(before: Option<Duration>) -> Duration {
    before.map_or(BACKOFF_FIRST, |b| (b * 2).min(BACKOFF_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_five_minutes() {
        let mut delays = Vec::new();
        let mut last = None;
        for _ in 0..7 {
            last = Some(next_backoff(last));
            delays.push(last.unwrap().as_secs());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }
}
