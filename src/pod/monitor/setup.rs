//! Making the Pod's sandbox, again and again until it works: a port may become free, a
//! socket appear that a later service makes, a disk get room. Each failure is an event.

use std::time::Duration;

use jiff::Timestamp;
use nix::sched::CloneFlags;

use super::lifecycle::message_of;
use super::{Monitor, Timer, adopt, labels, policy, sandbox};
use crate::pod::state::Failure;
use crate::{Error, Result, volume};

/// The first pause, doubled at each failure.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(30);

fn next_pause(before: Option<Duration>) -> Duration {
    policy::doubled(before, PAUSE, PAUSE_MOST)
}

impl Monitor {
    /// Makes the sandbox, or notes why not and when it is tried again. What is there of
    /// an earlier try, or of a monitor that died, is removed first.
    pub(super) fn make_sandbox(&mut self) {
        self.timers.remove(&Timer::Sandbox);
        if self.state.deletion.is_some() || self.state.failed.is_some() {
            return;
        }
        self.begin_deadline();
        self.remove_sandbox();
        self.dirty = true;
        let Err((reason, e)) = self.try_sandbox() else {
            self.state.sandbox_error = None;
            self.sandbox_failure = None;
            self.sandbox_pause = None;
            return;
        };
        // A port or an address that stays taken meanwhile is another Pod's loss.
        self.remove_sandbox();
        self.event(true, reason, e.to_string());
        self.state.sandbox_error = Some(Failure {
            reason: reason.into(),
            message: message_of(&e),
        });
        self.sandbox_failure = Some(e);
        let pause = next_pause(self.sandbox_pause);
        self.sandbox_pause = Some(pause);
        self.set_timer(Timer::Sandbox, pause);
    }

    /// For a client that wants to know how it stands now.
    pub(super) fn hurry_sandbox(&mut self) {
        if self.state.sandbox_error.is_some() {
            self.make_sandbox();
        }
    }

    /// The reason of the event that tells of a failure, and the failure.
    fn try_sandbox(&mut self) -> Result<(), (&'static str, Error)> {
        const SANDBOX: &str = "FailedCreatePodSandBox";
        // Out of the namespaces of an earlier try: the host's addresses are asked for.
        nix::sched::setns(&self.host.netns, CloneFlags::CLONE_NEWNET)
            .map_err(|e| (SANDBOX, Error::sys("setns(<host>, CLONE_NEWNET)", e)))?;
        self.publish_first().map_err(|e| (SANDBOX, e))?;
        let labels = labels::of_pod(&self.layout, &self.pod).map_err(|e| (SANDBOX, e))?;
        let label = labels.map(|l| l.files.to_string());
        let label = label.as_deref();
        let made =
            sandbox::make(&self.layout, &self.pod, &self.host, label).map_err(|e| (SANDBOX, e))?;
        volume::make(&self.pod.spec, &self.paths, label).map_err(|e| ("FailedMount", e))?;
        self.state.ips = made.ips;
        self.state.host_ip = made.host_ip;
        self.state.sandbox_ready = Some(Timestamp::now());
        for w in made.warnings {
            self.event(true, "NetworkNotReady", w);
        }
        if let Some(w) = made.dns_warning {
            self.event(true, "DNSConfigForming", w);
        }
        Ok(())
    }

    fn remove_sandbox(&mut self) {
        for e in sandbox::remove(&self.layout, &self.pod, &self.host) {
            self.event(true, "FailedKillPod", e.to_string());
        }
    }

    /// activeDeadlineSeconds count from the moment at which the Pod was seen.
    pub(super) fn begin_deadline(&mut self) {
        let start = *self.state.start_time.get_or_insert_with(Timestamp::now);
        if let Some(seconds) = self.pod.spec.active_deadline
            && !self.timers.contains_key(&Timer::Deadline)
        {
            let left = Duration::from_secs(seconds).saturating_sub(adopt::since(start));
            self.set_timer(Timer::Deadline, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_half_a_minute() {
        let mut pauses = Vec::new();
        let mut last = None;
        for _ in 0..7 {
            last = Some(next_pause(last));
            pauses.push(last.unwrap().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }
}
