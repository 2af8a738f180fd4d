//! The Pod's beginning: its sandbox, made again and again until it works (a port may
//! become free, a socket appear that a later service makes, a disk get room), or taken
//! over from an earlier monitor; and how long the Pod may be active.

use std::net::IpAddr;
use std::time::Duration;

use super::{Action, Kubelet, Moment, Timer, Warning, backoff, message_of, order};
use crate::Error;
use crate::pod::reason::Reason;
use crate::pod::state::{Failure, Now};

/// The first pause between two tries, doubled at each failure.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(30);

impl Kubelet {
    pub(super) fn begin(&mut self, at: Moment, refusal: Option<String>) {
        if let Some(why) = self.state.damaged.clone() {
            // What runs goes on, and is only ended by a deletion.
            self.event(at, true, Reason::RecordDamaged, why);
            self.adopted = true;
        } else if self.state.sandbox_ready.is_some() {
            self.actions.push(Action::Adopt);
        } else {
            self.adopted = true;
            // A Pod that was refused stays refused.
            match refusal.filter(|_| self.state.deletion.is_none() && self.state.failed.is_none()) {
                Some(why) => self.fail(at, Reason::AppArmor, &why),
                None => self.try_sandbox(at),
            }
        }
        self.resume_deletion(at);
    }

    pub(super) fn try_sandbox(&mut self, at: Moment) {
        self.timers.remove(&Timer::Sandbox);
        let is_over = self.state.deletion.is_some() || self.state.failed.is_some();
        if is_over || self.making_sandbox {
            return;
        }
        self.begin_deadline(at);
        self.changed = true;
        self.making_sandbox = true;
        self.actions.push(Action::MakeSandbox);
    }

    /// For a client that wants to know how it stands now.
    pub(super) fn hurry_sandbox(&mut self, at: Moment) {
        // Nothing may change any more, so that nobody would be told.
        self.changed = true;
        if self.state.sandbox_error.is_some() {
            self.try_sandbox(at);
        }
    }

    pub(super) fn sandbox_made(
        &mut self,
        at: Moment,
        ips: Vec<IpAddr>,
        host_ip: Option<IpAddr>,
        warnings: Vec<Warning>,
    ) {
        self.making_sandbox = false;
        self.state.ips = ips;
        self.state.host_ip = host_ip;
        self.state.sandbox_ready = Some(at.date);
        self.state.sandbox_error = None;
        self.state.bounds = Some(self.pod.spec.bounds());
        self.sandbox_pause = None;
        self.changed = true;
        for w in warnings {
            self.event(at, w.warns, w.reason, w.message);
        }
    }

    pub(super) fn sandbox_failed(&mut self, at: Moment, reason: Reason, error: Error) {
        self.making_sandbox = false;
        let message = message_of(&error);
        self.event(at, true, reason, message.clone());
        self.state.sandbox_error = Some(Failure {
            reason,
            message,
            error: Some(error),
        });
        let pause = backoff::doubled(self.sandbox_pause, PAUSE, PAUSE_MOST);
        self.sandbox_pause = Some(pause);
        self.timers.insert(Timer::Sandbox, at.clock + pause);
    }

    /// A monitor died while it removed the sandbox, or somebody has unmounted a
    /// namespace. Nothing runs on in half of one: all that ran has ended, and been told.
    pub(super) fn sandbox_lost(&mut self, at: Moment, error: &Error) {
        let text = format!("Pod sandbox changed, it will be killed: {error}");
        self.event(at, true, Reason::SandboxChanged, text);
        self.state.sandbox_ready = None;
        self.adopted = true;
        // Nothing would run in it.
        if self.termination.is_some() || order::decide(&self.pod.spec, &self.state).over {
            return;
        }
        // All begins again, as in a kubelet, but for what has succeeded and is not to run
        // again: init containers may have set up what has gone with the network.
        let spec = &self.pod.spec;
        let done: Vec<String> = spec
            .containers
            .iter()
            .filter(|c| order::is_done(spec, &self.state, c))
            .map(|c| c.name.clone())
            .collect();
        self.begin_again(|c| !done.contains(&c.name));
        self.try_sandbox(at);
    }

    pub(super) fn adopted(&mut self, at: Moment) {
        self.adopted = true;
        self.changed = true;
        for name in self.names() {
            self.resume_back_off(at, &name);
        }
        self.begin_deadline(at);
        self.stay_paused(at);
    }

    fn resume_back_off(&mut self, at: Moment, name: &str) {
        let record = self.record_of(name);
        let waits = matches!(&record.now, Now::Waiting { reason, .. } if *reason == Reason::CrashLoopBackOff);
        let Some(last) = record.last.as_ref().filter(|_| waits) else {
            return;
        };
        let delay = record.backoff.map_or(backoff::FIRST, Duration::from_secs);
        let left = delay.saturating_sub(at.since(last.finished));
        self.course(name).backoff = Some(backoff::next(Some(delay)));
        self.retry_after(at, name, left);
    }

    /// activeDeadlineSeconds count from the moment at which the Pod was seen.
    pub(super) fn begin_deadline(&mut self, at: Moment) {
        let start = *self.state.start_time.get_or_insert(at.date);
        if let Some(seconds) = self.pod.spec.active_deadline
            && self.state.failed.is_none()
        {
            let left = Duration::from_secs(seconds).saturating_sub(at.since(start));
            self.timers
                .entry(Timer::Deadline)
                .or_insert(at.clock + left);
        }
    }

    pub(super) fn deadline_passed(&mut self, at: Moment) {
        // What is over cannot fail any more.
        if !order::decide(&self.pod.spec, &self.state).over {
            let text = "Pod was active on the node longer than the specified deadline";
            self.fail(at, Reason::DeadlineExceeded, text);
        }
    }
}
