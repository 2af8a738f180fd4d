//! Ends, as a kubelet makes them.
//!
//! A container: its preStop hook, then its stop signal, then KILL when the grace period is
//! over; a hook that has used it up gets the container 2 seconds more, once.
//!
//! The Pod: ordinary containers together, then sidecars in reverse order, within one grace
//! period. The preStop hooks of all begin at once; a sidecar's signal waits for its turn,
//! and that uses up the grace period. At its end all that are left are stopped at once, and
//! have 2 seconds together. Until a sidecar's turn it is probed, and started again if it
//! ends (KEP-753 and KEP-4438).
//!
//! A Pod ends so when it is deleted, when its containers have done their work or it has
//! failed, and at the machine's shutdown; only in the first case it is removed. See
//! Kubernetes' "Pod Lifecycle", Termination.

use std::time::Duration;

use super::{Action, HookKind, Kubelet, Moment, Stage, Timer, backoff, order};
use crate::Error;
use crate::pod::reason::Reason;
use crate::pod::state::{Deletion, Now};
use crate::spec::Container;

/// What a container still gets whose hook has used up the grace period, and what
/// the processes of a Pod get that is deleted by force.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// The pause before what could not be removed is tried again, doubled each time.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);
const REMOVAL_PAUSE_MOST: Duration = Duration::from_secs(60);

/// A container's stop under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    deadline: Duration,
    stage: StopStage,
    /// The restart policy decides what follows, as after any end.
    restart: bool,
}

impl Stop {
    pub(super) fn put_off(&mut self, by: Duration) {
        self.deadline += by;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopStage {
    Hook,
    Signalled,
    Killed,
}

/// The preStop hook of a sidecar that runs before the sidecar's turn to be stopped. There is
/// none for an attempt that is made after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EarlyHook {
    Runs,
    Over,
}

/// The Pod's.
#[derive(Debug)]
pub(super) struct Termination {
    deadline: Duration,
    force: bool,
    /// The Pod goes with its containers.
    deletes: bool,
}

impl Termination {
    /// When nothing of the Pod runs any more, whatever its containers do.
    fn end(&self) -> Duration {
        match self.force {
            true => self.deadline,
            false => self.deadline + LAST_CHANCE,
        }
    }
}

/// Nothing of the Pod runs, and what there is of it is being removed.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// The last one between two tries.
    pause: Option<Duration>,
}

impl Kubelet {
    /// Begins or hastens the Pod's end. A later call can only shorten it.
    pub(super) fn delete(&mut self, at: Moment, grace: Duration, force: bool) {
        if self.removal.is_some() {
            return self.remove();
        }
        self.resume(at);
        let grace = if force { LAST_CHANCE } else { grace };
        let deadline = at.clock + grace;
        // Who asks for it by force later waits for no hook any more.
        let mut forced = false;
        if let Some(t) = &mut self.termination {
            forced = force && !t.force;
            let end = t.end();
            t.force |= force;
            let begins = !std::mem::replace(&mut t.deletes, true);
            if deadline >= t.deadline && !begins && !forced {
                return;
            }
            t.deadline = match forced {
                true => deadline.min(end),
                false => deadline.min(t.deadline),
            };
        } else {
            self.termination = Some(Termination {
                deadline,
                force,
                deletes: true,
            });
        }
        // The two together say when the grace is over, to the next monitor too.
        self.state.deletion = Some(Deletion {
            requested: at.date,
            grace_period: grace.as_secs(),
        });
        let text = format!("Stopping pod with a grace period of {}s", grace.as_secs());
        self.event(at, false, Reason::Killing, text);
        self.hasten_stops(deadline, forced, force);
    }

    /// No stop under way may take longer than the Pod's end. `forced`: hooks are not waited
    /// for from now on; `force`: they have not been before.
    fn hasten_stops(&mut self, deadline: Duration, forced: bool, force: bool) {
        for name in self.names() {
            let Some(stop) = &mut self.course(&name).stop else {
                continue;
            };
            let was_in_hook = stop.stage == StopStage::Hook;
            if deadline < stop.deadline || (forced && was_in_hook) {
                stop.deadline = deadline;
                self.timers.insert(Timer::Stop(name.clone()), deadline);
                if force && was_in_hook {
                    self.signal(&name);
                }
            }
        }
    }

    /// Nothing of the Pod is started any more, since its containers have done their work or
    /// it has failed: what still runs ends.
    pub(super) fn end(&mut self, at: Moment) {
        let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
        self.end_within(at, grace);
    }

    pub(super) fn end_within(&mut self, at: Moment, grace: Duration) {
        self.timers.remove(&Timer::Deadline);
        self.timers.remove(&Timer::Volumes);
        let deadline = at.clock + grace;
        self.termination = Some(Termination {
            deadline,
            force: false,
            deletes: false,
        });
        self.hasten_stops(deadline, false, false);
    }

    /// The machine goes down: the containers end as in a deletion, and the Pod is
    /// failed, with a kubelet's words. What has ended by itself stays what it is.
    pub(super) fn shut_down(&mut self, at: Moment) {
        // They may have ended before, and the client waits to be told.
        self.changed = true;
        if self.termination.is_some() || order::decide(&self.pod.spec, &self.state).over {
            return;
        }
        self.resume(at);
        self.end(at);
        let text = "Pod was terminated in response to imminent node shutdown.";
        self.fail(at, Reason::Terminated, text);
    }

    /// Goes on with a deletion that an earlier monitor was asked for. Hooks run
    /// again: how far they had come nobody knows.
    pub(super) fn resume_deletion(&mut self, at: Moment) {
        let Some(deletion) = &self.state.deletion else {
            return;
        };
        let grace = Duration::from_secs(deletion.grace_period);
        self.termination = Some(Termination {
            deadline: at.clock + grace.saturating_sub(at.since(deletion.requested)),
            force: false,
            deletes: true,
        });
    }

    /// Takes the next steps of the termination.
    pub(super) fn advance_termination(&mut self, at: Moment) {
        let Some(t) = self.termination.as_ref().filter(|_| self.adopted) else {
            return;
        };
        let left = t.deadline.saturating_sub(at.clock);
        let (force, deletes) = (t.force, t.deletes);
        let most = t.end().saturating_sub(at.clock);
        let deadline = t.deadline;
        for name in self.names() {
            match self.outlasts(&name) && !left.is_zero() {
                true => self.keep_sidecar(at, &name, !force),
                false => self.give_up(&name),
            }
        }
        let next = self.next_to_stop(left.is_zero());
        match left.is_zero() || next.is_empty() {
            true => drop(self.timers.remove(&Timer::Grace)),
            false => drop(self.timers.insert(Timer::Grace, deadline)),
        }
        for name in &next {
            // One that is being started is stopped as soon as it runs; if it hangs on
            // the way (in a mount, say), it is killed when the grace is over.
            if self.stage(name) == Stage::Starting
                && left.is_zero()
                && !std::mem::replace(&mut self.course(name).killed, true)
            {
                self.actions.push(Action::KillStarting {
                    container: name.clone(),
                });
            }
            if self.stage(name) == Stage::Running && self.course(name).stop.is_none() {
                let grace = match self.spec_of(name).sidecar {
                    true => left.max(LAST_CHANCE).min(most),
                    false => left,
                };
                // A hook has the grace period only.
                self.stop(at, name, grace, false, !force && !left.is_zero());
            }
        }
        if next.is_empty() && deletes && self.removal.is_none() {
            self.remove();
        }
    }

    /// Whether something that still runs ends before this sidecar.
    pub(super) fn outlasts(&self, name: &str) -> bool {
        let all = self.pod.spec.all_containers();
        let mut from_it = all.skip_while(|c| c.name != name).peekable();
        let alive = |c: &&Container| self.stage(&c.name) != Stage::Idle;
        match from_it.next_if(|c| c.sidecar) {
            None => false,
            Some(_) => {
                let ordinary = self.pod.spec.all_containers().filter(|c| !c.sidecar);
                ordinary.chain(from_it).any(|c| alive(&c))
            }
        }
    }

    /// Whether the container is to end, or about to, with all that there is of it.
    pub(super) fn is_to_end(&self, name: &str) -> bool {
        match self.termination {
            Some(_) => !self.outlasts(name),
            None => self.state.failed.is_some(),
        }
    }

    /// A sidecar whose turn has not come: its preStop hook begins with those of the others,
    /// and it runs on, or again.
    fn keep_sidecar(&mut self, at: Moment, name: &str, hooks: bool) {
        let course = self.course(name);
        let waits = course.retry_at.is_some_and(|when| when > at.clock) || course.stop.is_some();
        let (stage, hook) = (course.stage.clone(), course.early_hook);
        let record = self.state.containers.get(name);
        let has_begun = record.is_some_and(|r| self.state.has_begun(r));
        match stage {
            Stage::Idle if has_begun && !waits => self.begin_attempt(name),
            Stage::Running if hooks && !waits && hook.is_none() => {
                if let Some(hook) = self.spec_of(name).pre_stop {
                    self.course(name).early_hook = Some(EarlyHook::Runs);
                    self.begin_hook(at, name, HookKind::PreStop, hook);
                }
            }
            _ => {}
        }
    }

    /// No further attempt is made of the container.
    fn give_up(&mut self, name: &str) {
        self.cancel_pull(name);
        self.timers.remove(&Timer::Retry(name.to_owned()));
        let record = self.state.containers.get(name);
        let backs_off = record.is_some_and(
            |r| matches!(&r.now, Now::Waiting { reason, .. } if *reason == Reason::CrashLoopBackOff),
        );
        if backs_off && self.stage(name) == Stage::Idle {
            let record = self.record_of(name);
            if let Some(last) = record.last.take() {
                record.now = Now::Ended(last);
            }
        }
    }

    /// The containers whose turn it is to end; none when all have. `all`: nobody waits for
    /// others any more.
    fn next_to_stop(&self, all: bool) -> Vec<String> {
        let is_alive = |c: &&Container| self.stage(&c.name) != Stage::Idle;
        let alive = self.pod.spec.all_containers().filter(is_alive);
        let (sidecars, ordinary): (Vec<_>, Vec<_>) = alive.partition(|c| c.sidecar);
        let next = match (all, ordinary.is_empty()) {
            (true, _) => [ordinary, sidecars].concat(),
            (false, false) => ordinary,
            (false, true) => sidecars.last().copied().into_iter().collect(),
        };
        // Nobody waits for these.
        let ephemeral = self.pod.spec.ephemeral_containers.iter().filter(is_alive);
        let next = next.into_iter().chain(ephemeral);
        next.map(|c| c.name.clone()).collect()
    }

    /// Stops a container. `restart`: its restart policy decides what follows. `hooks`: its
    /// preStop hook runs first.
    pub(super) fn stop(
        &mut self,
        at: Moment,
        name: &str,
        grace: Duration,
        restart: bool,
        hooks: bool,
    ) {
        let end = self.termination.as_ref().map(Termination::end);
        let deadline = at.clock + grace;
        let deadline = end.map_or(deadline, |end| deadline.min(end));
        // No hook has the time in no time, as in a kubelet.
        let hooks = hooks && !grace.is_zero();
        let early = self.course(name).early_hook;
        let hook = self.spec_of(name).pre_stop;
        let hook = hook.filter(|_| hooks && early.is_none());
        self.course(name).stop = Some(Stop {
            deadline,
            stage: StopStage::Hook,
            restart,
        });
        self.timers.insert(Timer::Stop(name.to_owned()), deadline);
        self.event(
            at,
            false,
            Reason::Killing,
            format!("Stopping container {name}"),
        );
        match (hook, early) {
            (Some(hook), _) => self.begin_hook(at, name, HookKind::PreStop, hook),
            (None, Some(EarlyHook::Runs)) if hooks => {}
            (None, Some(EarlyHook::Runs)) => self.leave_hook(at, name),
            (None, _) => self.signal(name),
        }
    }

    pub(super) fn pre_stop_ended(&mut self, at: Moment, name: &str, result: Result<(), Error>) {
        if let Err(e) = result {
            let text = format!("PreStopHook failed: {e}");
            self.event(at, true, Reason::FailedPreStopHook, text);
        }
        let course = self.course(name);
        if let Some(hook) = &mut course.early_hook {
            *hook = EarlyHook::Over;
        }
        if course.stop.is_some_and(|s| s.stage == StopStage::Hook) {
            self.signal(name);
        }
    }

    /// The hook has used up the grace period: the signal does not wait for it.
    fn leave_hook(&mut self, at: Moment, name: &str) {
        let text = "PreStopHook was still running at the end of the grace period";
        self.event(at, true, Reason::FailedPreStopHook, text);
        self.timers
            .remove(&Timer::HookSleep(name.to_owned(), HookKind::PreStop));
        self.signal(name);
    }

    pub(super) fn stop_deadline(&mut self, at: Moment, name: &str) {
        let end = self.termination.as_ref().map(Termination::end);
        let Some(stop) = &mut self.course(name).stop else {
            return;
        };
        match stop.stage {
            StopStage::Hook => {
                let deadline = at.clock + LAST_CHANCE;
                let deadline = end.map_or(deadline, |end| deadline.min(end));
                stop.deadline = deadline;
                self.timers.insert(Timer::Stop(name.to_owned()), deadline);
                self.leave_hook(at, name);
            }
            StopStage::Signalled => {
                stop.stage = StopStage::Killed;
                self.actions.push(Action::Kill {
                    container: name.to_owned(),
                });
            }
            StopStage::Killed => {}
        }
    }

    fn signal(&mut self, name: &str) {
        let signal = self.spec_of(name).stop_signal;
        if let Some(stop) = &mut self.course(name).stop {
            stop.stage = StopStage::Signalled;
        }
        self.actions.push(Action::Stop {
            container: name.to_owned(),
            signal,
        });
    }

    /// The container has ended.
    pub(super) fn stop_is_over(&mut self, name: &str) {
        self.timers.remove(&Timer::Stop(name.to_owned()));
        for hook in [HookKind::PostStart, HookKind::PreStop] {
            self.timers.remove(&Timer::HookSleep(name.to_owned(), hook));
        }
        self.end_probes(name);
        self.course(name).stop = None;
    }

    /// Whether the container is being stopped for good.
    pub(super) fn stops_for_good(&self, name: &str) -> bool {
        let stop = self.courses.get(name).and_then(|c| c.stop);
        stop.is_some_and(|s| !s.restart)
    }

    pub(super) fn remove(&mut self) {
        self.timers.remove(&Timer::Removal);
        self.removal.get_or_insert_default();
        self.actions.push(Action::Remove);
    }

    /// What cannot be removed stays visible, and is tried again: after a while, and at the
    /// next deletion.
    pub(super) fn not_removed(&mut self, at: Moment, errors: &[Error]) {
        for e in errors {
            self.event(at, true, Reason::FailedKillPod, e.to_string());
        }
        let removal = self.removal.get_or_insert_default();
        let pause = backoff::doubled(removal.pause, REMOVAL_PAUSE, REMOVAL_PAUSE_MOST);
        removal.pause = Some(pause);
        self.timers.insert(Timer::Removal, at.clock + pause);
    }
}
