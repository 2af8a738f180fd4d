//! The end of one container: what it is called, and whether and when the container is
//! started again.

use super::{Action, Kubelet, Moment, Stage, backoff};
use crate::pod::damage;
use crate::pod::reason::Reason;
use crate::pod::state::{ContainerState, Ended, Now};
use crate::spec::AfterExit;

impl Kubelet {
    /// The container's first process has ended.
    pub(super) fn ended(
        &mut self,
        at: Moment,
        name: &str,
        status: Option<i32>,
        oom_killed: bool,
        message: String,
    ) {
        self.course(name).exec_errno = None;
        let Some(running) = self.running(name).cloned() else {
            return;
        };
        let (exit_code, signal) = match status {
            Some(s) if s & 0x7f == 0 => ((s >> 8) & 0xff, None),
            Some(s) => (128 + (s & 0x7f), Some(s & 0x7f)),
            None => (137, None),
        };
        let reason = match status {
            None => Reason::ContainerStatusUnknown,
            Some(_) if oom_killed => Reason::OOMKilled,
            Some(0) => Reason::Completed,
            Some(_) => Reason::Error,
        };
        let ended = Ended {
            id: running.id,
            exit_code,
            signal,
            reason,
            message: match status {
                None => damage::ENDED_UNSEEN.to_owned(),
                Some(_) => message,
            },
            started: Some(running.since),
            finished: at.date,
        };
        self.settle_end(at, name, ended);
    }

    /// Records an end, and what follows it.
    pub(super) fn settle_end(&mut self, at: Moment, name: &str, ended: Ended) {
        // Asked while it counts as running.
        let replaced = self.is_outdated(name);
        let course = self.course(name);
        course.stage = Stage::Idle;
        let ran = course
            .started_at
            .take()
            .map(|then| at.clock.saturating_sub(then));
        let c = self.spec_of(name);
        let follows = self.pod.spec.after_exit(&c, ended.exit_code);
        let again = (replaced || follows != AfterExit::Stays)
            && !self.is_to_end(name)
            && self.state.starting_over.is_none()
            && !self.stops_for_good(name);
        self.actions.push(Action::TellEnd {
            container: name.to_owned(),
            exit_code: ended.exit_code,
        });
        self.record_of(name).now = Now::Ended(ended.clone());
        self.stop_is_over(name);
        if !again {
            return;
        }
        if replaced {
            self.course(name).backoff = None;
            let record = self.record_of(name);
            record.last = Some(ended);
            record.now = ContainerState::default().now;
            record.restart_wanted = false;
            return;
        }
        // The first restart is immediate, as a kubelet's; the next wait.
        let course = self.course(name);
        if ran.is_some_and(|ran| ran >= backoff::RESET) {
            course.backoff = None;
        }
        let before = course.backoff;
        course.backoff = Some(backoff::next(before));
        if follows == AfterExit::RestartsAll {
            return self.start_over(at, name, before.unwrap_or_default());
        }
        let Some(delay) = before else { return };
        let pod = &self.pod;
        let message = format!(
            "back-off {}s restarting failed container={name} pod={}_{}({})",
            delay.as_secs(),
            pod.name,
            pod.namespace,
            pod.uid
        );
        let text = "Back-off restarting failed container";
        self.event(at, true, Reason::BackOff, text);
        let record = self.record_of(name);
        record.last = Some(ended);
        record.now = Now::waiting(Reason::CrashLoopBackOff, message);
        record.backoff = Some(delay.as_secs());
        self.retry_after(at, name, delay);
    }
}
