//! Which container should run now: pure decisions, as a kubelet makes them.
//!
//! Sources: Kubernetes' documentation, "Pod Lifecycle", "Init Containers",
//! "Sidecar Containers".

use crate::pod::state::{Now, State};
use crate::spec::{Container, Spec};

/// What is to be done about the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Containers that should run and do not: the caller honours back-off.
    pub start: Vec<String>,
    /// Nothing will run again.
    pub over: bool,
}

/// What should be done in this state, were there no deletion.
pub(crate) fn decide(spec: &Spec, state: &State) -> Decision {
    let mut decision = Decision {
        start: Vec::new(),
        over: false,
    };
    let now = |c: &Container| state.containers.get(&c.name).map(|s| &s.now);
    let began = |c: &Container| {
        let s = state.containers.get(&c.name);
        s.is_some_and(|s| state.has_begun(s))
    };
    let wants = |c: &Container| match now(c) {
        Some(Now::Running(_)) => false,
        Some(Now::Ended(e)) => spec.restarts(c, e.exit_code),
        // Waiting: for the first time, or after an end that it restarts from.
        _ => true,
    };
    let done = |c: &Container| is_done(spec, state, c);
    // Asked first: a sidecar that was stopped because all others were done must not
    // come back for it.
    let mut over = state.failed.is_some() || spec.containers.iter().all(done);
    let mut blocked = over;
    for (i, c) in spec.init_containers.iter().enumerate() {
        if blocked {
            break;
        }
        match now(c) {
            Some(Now::Ended(e)) if !c.sidecar && e.exit_code == 0 && done(c) => {}
            Some(Now::Running(r)) if c.sidecar && r.started => {}
            _ if done(c) => {
                over = true;
                blocked = true;
            }
            _ => {
                if wants(c) {
                    decision.start.push(c.name.clone());
                }
                // A sidecar that let the next one begin restarts beside it.
                let later = &spec.init_containers[i + 1..];
                blocked = !(c.sidecar && later.iter().chain(&spec.containers).any(began));
            }
        }
    }
    if !blocked {
        let containers = spec.containers.iter();
        decision
            .start
            .extend(containers.filter(|c| wants(c)).map(|c| c.name.clone()));
    }
    // They are there to look at what does not start.
    let ephemeral = spec.ephemeral_containers.iter();
    decision
        .start
        .extend(ephemeral.filter(|c| wants(c)).map(|c| c.name.clone()));
    if over {
        decision.start.clear();
    }
    decision.over = over;
    decision
}

/// Whether the container has ended and will not run again.
pub(super) fn is_done(spec: &Spec, state: &State, c: &Container) -> bool {
    let now = state.containers.get(&c.name).map(|s| &s.now);
    matches!(now, Some(Now::Ended(e)) if !spec.restarts(c, e.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::reason::Reason;
    use crate::pod::state::{ContainerState, Ended, Running};
    use crate::spec::RestartPolicy;

    fn container(name: &str, sidecar: bool) -> Container {
        Container {
            name: name.into(),
            sidecar,
            ..Container::default()
        }
    }

    fn running() -> Now {
        Now::Running(Running {
            id: String::new(),
            pid: 1,
            pid_start: 1,
            since: jiff::Timestamp::UNIX_EPOCH,
            started: true,
            in_hook: false,
            ready: true,
            probes: Default::default(),
        })
    }

    fn ended(exit_code: i32) -> Now {
        Now::Ended(Ended {
            id: String::new(),
            exit_code,
            signal: None,
            reason: Reason::Completed,
            message: String::new(),
            started: None,
            finished: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    /// A Pod of the sidecar `side`, the init container `init` and the container
    /// `main`, in these states; what starts and whether it is over.
    fn decision(policy: RestartPolicy, side: Now, init: Now, main: Now) -> (String, bool) {
        let spec = Spec {
            restart_policy: policy,
            init_containers: vec![container("side", true), container("init", false)],
            containers: vec![container("main", false)],
            ..Spec::default()
        };
        let mut state = State::default();
        for (name, now) in [("side", side), ("init", init), ("main", main)] {
            let record = ContainerState {
                now,
                ..ContainerState::default()
            };
            state.containers.insert(name.into(), record);
        }
        let d = decide(&spec, &state);
        (d.start.join(" "), d.over)
    }

    #[test]
    fn init_containers_go_first_and_sidecars_go_on() {
        use RestartPolicy::*;
        let waiting = || ContainerState::default().now;
        let is = |start: &str, over| (start.to_owned(), over);
        let of = decision;
        assert_eq!(
            of(Always, waiting(), waiting(), waiting()),
            is("side", false)
        );
        assert_eq!(
            of(Always, running(), waiting(), waiting()),
            is("init", false)
        );
        assert_eq!(of(Always, running(), running(), waiting()), is("", false));
        assert_eq!(
            of(Always, running(), ended(0), waiting()),
            is("main", false)
        );
        assert_eq!(
            of(Always, running(), ended(1), waiting()),
            is("init", false)
        );
        assert_eq!(of(Never, running(), ended(1), waiting()), is("", true));
        assert_eq!(of(Always, running(), ended(0), ended(0)), is("main", false));
        assert_eq!(of(OnFailure, running(), ended(0), ended(0)), is("", true));
    }

    #[test]
    fn a_sidecar_that_ended() {
        use RestartPolicy::*;
        let waiting = || ContainerState::default().now;
        let start = |p, init, main| decision(p, ended(1), init, main).0;
        // Before it let anything begin, everything waits for it.
        assert_eq!(start(Always, waiting(), waiting()), "side");
        // Later it comes back beside the others.
        assert_eq!(start(Never, ended(0), waiting()), "side main");
        assert_eq!(start(Never, ended(0), running()), "side");
        // Stopped since all others are done: for good.
        assert_eq!(start(Never, ended(0), ended(0)), "");
        assert_eq!(start(OnFailure, ended(0), ended(0)), "");
    }
}
