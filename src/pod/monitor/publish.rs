//! Writing `state.json`, also where that does not work.
//!
//! A filesystem that is full or read-only, and a process without free fds, keep the Pod
//! from nothing: containers end, are restarted and deleted, and clients are answered from
//! memory. The record is marked as stale, so that commands ask the monitor instead, and
//! is written as soon as it can be. What must not happen without a record is a new
//! attempt of a container and the making of the sandbox: [`Monitor::publish_first`].

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use jiff::Timestamp;

use super::kubelet::{Moment, backoff};
use super::{Monitor, Timer, events};
use crate::pod::claims;
use crate::pod::reason::Reason;
use crate::pod::state::State;
use crate::store;
use crate::{Error, Ignored, Result};

/// The pause between two tries to write, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(30);

/// The state of memory is not on the disk.
#[derive(Debug)]
pub(super) struct Unrecorded {
    why: Error,
    pause: Duration,
}

/// An fd that is held for nothing but to be closed when there is no other left: one
/// client is accepted then, or one file written.
#[derive(Debug, Default)]
pub(super) struct SpareFd(Option<OwnedFd>);

impl SpareFd {
    pub(super) fn refill(&mut self, any: impl AsFd) {
        if self.0.is_none() {
            self.0 = any.as_fd().try_clone_to_owned().ok();
        }
    }

    /// True if there was one.
    pub(super) fn close(&mut self) -> bool {
        self.0.take().is_some()
    }
}

impl Monitor {
    /// Writes the state and tells the watchers, if it has changed. What cannot be
    /// written is tried again later.
    pub(super) fn publish(&mut self) {
        if !(self.kubelet.take_changed() | std::mem::take(&mut self.dirty)) {
            return;
        }
        self.kubelet.note_conditions(Moment {
            clock: events::clock(),
            date: Timestamp::now(),
        });
        match self.write_state() {
            Ok(()) => {
                self.unrecorded = None;
                self.events.timers.remove(&Timer::Record);
                self.let_claims_go();
            }
            Err(e) => self.write_again_later(e),
        }
        self.tell_watchers();
        self.set_timer(Timer::Settle, Duration::from_millis(500));
    }

    /// As [`publish`](Self::publish), for what may only be done once its record is
    /// there.
    pub(super) fn publish_first(&mut self) -> Result<()> {
        self.dirty = true;
        self.publish();
        match &self.unrecorded {
            None => Ok(()),
            Some(unrecorded) => Err(unrecorded.why.clone()),
        }
    }

    /// Once it is recorded that the Pod is over, another one may have its claims.
    fn let_claims_go(&self) {
        let pod = self.pod();
        if pod.spec.claims().next().is_some() && claims::is_over(pod, Some(self.state())) {
            claims::let_go(&self.layout, pod)
                .ignored("who waits for one tries again after a while");
        }
    }

    fn write_state(&mut self) -> Result<()> {
        // Not beside a record that cannot be read, nor where somebody has removed it.
        if self.state().damaged.is_some() || self.abandoned {
            return Ok(());
        }
        match self.write(self.state()) {
            Err(e) if store::is_out_of_fds(&e) && self.spare_fd.close() => {
                let written = self.write(self.state());
                self.spare_fd.refill(&self.listener);
                written
            }
            // What there is room for without the events, which are most of it.
            Err(e) if store::is_full(&e) => {
                let without_events = State {
                    events: Vec::new(),
                    ..self.state().clone()
                };
                self.write(&without_events).map_err(|_| e)
            }
            other => other,
        }
    }

    fn write(&self, state: &State) -> Result<()> {
        store::save_reserved(&self.paths.state(), state, Some(State::RESERVED))
    }

    fn write_again_later(&mut self, e: Error) {
        store::mark_stale(&self.paths.state())
            .ignored("commands see by themselves that the filesystem is read-only");
        let before = self.unrecorded.take().map(|u| u.pause);
        if before.is_none() {
            let message = format!("{e}: the Pod goes on, and its record is written again later");
            self.event(true, Reason::FailedRecord, message);
        }
        let pause = backoff::doubled(before, PAUSE, PAUSE_MOST);
        self.unrecorded = Some(Unrecorded { why: e, pause });
        self.events
            .timers
            .entry(Timer::Record)
            .or_insert_with(|| events::clock() + pause);
    }
}
