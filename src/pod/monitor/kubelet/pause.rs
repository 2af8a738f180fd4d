//! A paused Pod: its processes are frozen, no container is started, no probe is asked, and no
//! deadline passes. When the Pod is resumed, every timer goes on with the time that was left.
//!
//! A paused Pod that is deleted is resumed first: a frozen process receives no signal.

use std::time::Duration;

use super::{Action, Kubelet, Moment};
use crate::Error;
use crate::pod::reason::Reason;
use crate::spec::Pod;

/// What a paused Pod does not do has to wait.
pub(crate) fn is_paused(pod: &Pod) -> Error {
    let e = Error::conflict(format!("pod {} is paused", pod.name));
    e.hint(format!("carob resume {}", pod.as_arguments()))
}

impl Kubelet {
    pub(super) fn pause(&mut self, at: Moment) {
        if self.state.paused.is_some() {
            return;
        }
        self.state.paused = Some(at.date);
        self.paused_at = Some(at.clock);
        self.event(at, false, Reason::Paused, "Paused all containers");
        self.actions.push(Action::Freeze);
    }

    pub(super) fn resume(&mut self, at: Moment) {
        if self.state.paused.take().is_none() {
            return;
        }
        self.event(at, false, Reason::Resumed, "Resumed all containers");
        self.actions.push(Action::Thaw);
        let began = self.paused_at.take().unwrap_or(at.clock);
        self.put_off(at.clock.saturating_sub(began));
    }

    /// Moves all that is to come.
    fn put_off(&mut self, by: Duration) {
        self.timers.values_mut().for_each(|when| *when += by);
        for course in self.courses.values_mut() {
            let times = [&mut course.retry_at, &mut course.started_at];
            times.into_iter().flatten().for_each(|when| *when += by);
            course.probers.values_mut().for_each(|p| p.put_off(by));
            if let Some(stop) = &mut course.stop {
                stop.put_off(by);
            }
        }
    }

    /// A Pod that an earlier monitor has paused: it may have ended before it came to that.
    pub(super) fn stay_paused(&mut self, at: Moment) {
        if self.state.paused.is_some() {
            self.paused_at = Some(at.clock);
            self.actions.push(Action::Freeze);
        }
    }
}
