//! All containers are started over, from the first init container on. The sandbox is kept.
//! The restart rule RestartAllContainers asks for this ("Pod Lifecycle", "Restart all
//! containers").
//!
//! 1. Every container is killed, without hooks or grace.
//! 2. When all have ended, their records begin again, but for the last end and the number of
//!    restarts.
//! 3. After the back-off of the container whose rule it was, they start in their order.
//!
//! The state records which step was reached, so that a next monitor goes on there.

use std::time::Duration;

use super::{Action, Kubelet, Moment, Stage, Timer, waiting_for};
use crate::pod::reason::Reason;
use crate::pod::state::StartingOver;
use crate::spec::Container;

impl Kubelet {
    /// A container has ended, and its rule says that all are to be started over, after a
    /// pause.
    pub(super) fn start_over(&mut self, at: Moment, name: &str, pause: Duration) {
        let text = format!("Container {name} ended, all containers will be restarted");
        self.event(at, false, Reason::RestartAllContainers, text);
        self.state.starting_over.get_or_insert(StartingOver {
            ended: false,
            not_before: at.date + pause,
        });
    }

    /// Takes the next steps. True: nothing else is to be started or stopped.
    pub(super) fn advance_start_over(&mut self, at: Moment) -> bool {
        let Some(over) = self.state.starting_over.clone() else {
            return false;
        };
        if self.state.failed.is_some() {
            self.state.starting_over = None;
            return false;
        }
        if !over.ended {
            let mut names = self.names();
            names.retain(|name| !self.pod.spec.is_ephemeral(name));
            for name in &names {
                self.end_at_once(name);
            }
            if names.iter().any(|name| self.stage(name) != Stage::Idle) {
                return true;
            }
            self.begin_again(|_| true);
        }
        if over.not_before > at.date {
            let left = Duration::try_from(over.not_before.duration_since(at.date));
            let when = at.clock + left.unwrap_or_default();
            self.timers.insert(Timer::StartOver, when);
            return true;
        }
        self.state.starting_over = None;
        self.changed = true;
        false
    }

    /// Ends a container without hooks or grace.
    fn end_at_once(&mut self, name: &str) {
        self.cancel_pull(name);
        let container = name.to_owned();
        self.timers.remove(&Timer::Retry(container.clone()));
        let (stage, course) = (self.stage(name), self.course(name));
        if stage == Stage::Idle || std::mem::replace(&mut course.killed, true) {
            return;
        }
        self.actions.push(match stage {
            Stage::Running => Action::Kill { container },
            _ => Action::KillStarting { container },
        });
    }

    /// Containers wait as those of a new Pod do, but for their last end and the number of
    /// restarts.
    pub(super) fn begin_again(&mut self, which: impl Fn(&Container) -> bool) {
        self.changed = true;
        self.state.round += 1;
        for name in self.names() {
            if !which(&self.spec_of(&name)) || self.pod.spec.is_ephemeral(&name) {
                continue;
            }
            let now = waiting_for(&self.pod, &name).now;
            self.timers.remove(&Timer::Retry(name.clone()));
            let course = self.course(&name);
            course.retry_at = None;
            course.pause = None;
            course.killed = false;
            let record = self.record_of(&name);
            record.keep_end();
            record.backoff = None;
            record.now = now;
        }
        if let Some(over) = &mut self.state.starting_over {
            over.ended = true;
        }
    }
}
