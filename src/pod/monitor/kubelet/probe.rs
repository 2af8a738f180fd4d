//! Probes: when each is due, and what its answers mean.
//!
//! The rules are a kubelet's ("Configure Liveness, Readiness and Startup Probes" in
//! Kubernetes' documentation):
//!
//! - While a startup probe has not succeeded, no other probe is asked.
//! - `failureThreshold` failures in a row make a failure, `successThreshold` successes in a
//!   row make it good again. An answer that is an error (no such command) counts for neither.
//! - A failure of the startup or the liveness probe stops the container, and its restart
//!   policy decides what follows. Neither of them is asked while the container or the Pod is
//!   being stopped, but of a sidecar until its turn has come; the readiness probe is.
//! - Probes are due `initialDelaySeconds` after the container's start, and each
//!   `periodSeconds` from there. A next monitor finds the same times by that.
//!
//! Ours: until their first success, startup and readiness probes come sooner too, 50 ms
//! after the one before, then 100 ms, 200 ms and so on. Such an early probe can succeed, but
//! its failure counts for nothing, and the first one that counts comes a period later. So a
//! container becomes ready as soon as its probe succeeds, not up to ten seconds later.

use std::time::Duration;

use super::fact::Answer;
use super::{Action, Kubelet, Moment, Timer};
use crate::pod::reason::Reason;
use crate::pod::state::ProbeRecord;
use crate::spec::{FirstProbes, Probe, ProbeKind};
use crate::{Error, Kind};

/// The pause before the second early probe, doubled for each.
const EARLY: Duration = Duration::from_millis(50);

/// A probe of a container that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prober {
    /// When the next one is due that counts, on the clock.
    due: Duration,
    /// The pause before the next early one; `None`: there are none any more.
    early: Option<Duration>,
    /// An answer is awaited; whether a failure counts.
    asked: Option<bool>,
}

impl Prober {
    /// `from`: when the first one is due. `now` may be long after that.
    fn new(from: Duration, now: Duration, period: Duration, early: bool) -> Self {
        let mut prober = Prober {
            due: from,
            early: early.then_some(EARLY),
            asked: None,
        };
        if early {
            prober.due += period;
        }
        if prober.due < now {
            let missed = (now - prober.due).as_nanos().div_ceil(period.as_nanos());
            prober.due += period * u32::try_from(missed).unwrap_or(u32::MAX);
        }
        prober
    }

    /// The probe is asked now.
    fn ask(&mut self, now: Duration, period: Duration) {
        let counts = now >= self.due;
        self.asked = Some(counts);
        // Where an answer takes longer than the period, the next one comes at once, and
        // those that were missed do not.
        while self.due <= now {
            self.due += period;
        }
    }

    pub(super) fn put_off(&mut self, by: Duration) {
        self.due += by;
    }

    /// When the next one comes.
    fn next(&mut self, now: Duration, period: Duration) -> Duration {
        let Some(pause) = self.early else {
            return self.due;
        };
        self.early = Some((pause * 2).min(period));
        self.due.min(now + pause)
    }
}

impl Kubelet {
    /// The container's process runs and its postStart hook is over.
    pub(super) fn begin_probes(&mut self, at: Moment, name: &str) {
        match self.probe_of(name, ProbeKind::Startup) {
            Some(_) => self.begin_prober(at, name, ProbeKind::Startup),
            None => self.container_started(at, name),
        }
    }

    /// The container has started, as far as a startup probe says: what waits for it may go
    /// on.
    pub(super) fn container_started(&mut self, at: Moment, name: &str) {
        let ready = self.probe_of(name, ProbeKind::Readiness).is_none();
        if let Some(running) = self.running_record(name) {
            running.started = true;
            running.ready |= ready;
        }
        self.course(name).start_failure = None;
        for kind in [ProbeKind::Readiness, ProbeKind::Liveness] {
            self.begin_prober(at, name, kind);
        }
    }

    fn begin_prober(&mut self, at: Moment, name: &str, kind: ProbeKind) {
        let Some(probe) = self.probe_of(name, kind) else {
            return;
        };
        let Some(running) = self.running(name) else {
            return;
        };
        let has_succeeded = running.ready || running.probes.get(&kind).is_some_and(|r| r.success);
        let early = kind != ProbeKind::Liveness
            && !has_succeeded
            && FirstProbes::of(&self.pod.annotations) == FirstProbes::Early;
        let start = self.course(name).started_at.unwrap_or(at.clock);
        let from = start + Duration::from_secs(probe.initial_delay);
        let prober = Prober::new(from, at.clock, probe.period(), early);
        let next = match early {
            true => from.max(at.clock),
            false => prober.due,
        };
        self.course(name).probers.insert(kind, prober);
        let timer = Timer::Probe(name.to_owned(), kind);
        self.timers.insert(timer, next);
    }

    /// A probe is due.
    pub(super) fn ask(&mut self, at: Moment, name: &str, kind: ProbeKind) {
        if !self.may_ask(name, kind) {
            self.course(name).probers.remove(&kind);
            return;
        }
        let Some(probe) = self.probe_of(name, kind) else {
            return;
        };
        let Some(prober) = self.course(name).probers.get_mut(&kind) else {
            return;
        };
        prober.ask(at.clock, probe.period());
        let timer = Timer::Answer(name.to_owned(), kind);
        self.timers.insert(timer, at.clock + probe.timeout());
        self.actions.push(Action::Probe {
            container: name.to_owned(),
            probe: kind,
        });
    }

    /// No answer has come in time.
    pub(super) fn probe_timed_out(&mut self, at: Moment, name: &str, kind: ProbeKind) {
        let Some(probe) = self.probe_of(name, kind) else {
            return;
        };
        self.actions.push(Action::CancelProbe {
            container: name.to_owned(),
            probe: kind,
        });
        let text = format!("no answer within {} s", probe.timeout);
        self.probed(at, name, kind, Answer::Failure(text));
    }

    /// A probe has been answered.
    pub(super) fn probed(&mut self, at: Moment, name: &str, kind: ProbeKind, answer: Answer) {
        self.timers.remove(&Timer::Answer(name.to_owned(), kind));
        let may_ask = self.may_ask(name, kind);
        let Some(probe) = self.probe_of(name, kind) else {
            return;
        };
        let Some(prober) = self.course(name).probers.get_mut(&kind) else {
            return;
        };
        let Some(counts) = prober.asked.take() else {
            return;
        };
        if matches!(answer, Answer::Success { .. }) {
            prober.early = None;
        }
        let next = prober.next(at.clock, probe.period());
        let timer = Timer::Probe(name.to_owned(), kind);
        self.timers.insert(timer, next);
        match answer {
            Answer::Error(_) | Answer::Failure(_) if !counts || !may_ask => {}
            Answer::Error(e) => {
                let beginning = format!("{} probe errored: container {name}: ", kind.name());
                self.event_grew(at, Reason::Unhealthy, &beginning, &e.to_string());
            }
            Answer::Failure(text) => {
                let beginning = format!("{} probe failed: container {name}: ", kind.name());
                self.event_grew(at, Reason::Unhealthy, &beginning, &text);
                if self.count_answer(name, kind, false) >= probe.failure_threshold {
                    self.probe_failed(at, name, kind, &probe, &text);
                }
            }
            Answer::Success { warning } => {
                if let Some(text) = warning {
                    let beginning = format!("{} probe warning: container {name}: ", kind.name());
                    self.event_grew(at, Reason::ProbeWarning, &beginning, &text);
                }
                if self.count_answer(name, kind, true) >= probe.success_threshold {
                    self.probe_succeeded(at, name, kind);
                }
            }
        }
    }

    /// Notes an answer; how many like it have come in a row. The record changes only where
    /// the number can still decide something, so that a healthy container's probes write
    /// nothing.
    fn count_answer(&mut self, name: &str, kind: ProbeKind, success: bool) -> u32 {
        let Some(probe) = self.probe_of(name, kind) else {
            return 0;
        };
        let enough = match success {
            true => probe.success_threshold,
            false => probe.failure_threshold,
        };
        let Some(running) = self.running(name) else {
            return 0;
        };
        let old = running.probes.get(&kind).copied();
        let in_a_row = match old {
            Some(old) if old.success == success => (old.in_a_row + 1).min(enough),
            _ => 1,
        };
        let new = ProbeRecord { success, in_a_row };
        if old != Some(new)
            && let Some(running) = self.running_record(name)
        {
            running.probes.insert(kind, new);
        }
        in_a_row
    }

    fn probe_succeeded(&mut self, at: Moment, name: &str, kind: ProbeKind) {
        match kind {
            ProbeKind::Startup => {
                self.end_prober(name, kind);
                self.container_started(at, name);
            }
            ProbeKind::Readiness => self.set_ready(name, true),
            ProbeKind::Liveness => {}
        }
    }

    fn probe_failed(&mut self, at: Moment, name: &str, kind: ProbeKind, probe: &Probe, why: &str) {
        if kind == ProbeKind::Readiness {
            return self.set_ready(name, false);
        }
        self.end_prober(name, kind);
        let word = kind.name().to_lowercase();
        let text = format!("Container {name} failed {word} probe, will be restarted");
        self.event(at, false, Reason::Killing, text);
        if kind == ProbeKind::Startup {
            let e = Error::new(Kind::StartFailed, format!("startup probe failed: {why}"));
            self.course(name).start_failure = Some((Reason::Unhealthy, e));
        }
        let grace = probe
            .grace
            .unwrap_or(self.pod.spec.termination_grace_period);
        self.stop(at, name, Duration::from_secs(grace), true, true);
    }

    fn set_ready(&mut self, name: &str, ready: bool) {
        if self.running(name).is_some_and(|r| r.ready != ready)
            && let Some(running) = self.running_record(name)
        {
            running.ready = ready;
        }
    }

    /// Whether an answer could mean anything now.
    fn may_ask(&self, name: &str, kind: ProbeKind) -> bool {
        let stops = self.courses.get(name).is_some_and(|c| c.stop.is_some());
        let ends = self.termination.is_some() && !self.outlasts(name);
        kind == ProbeKind::Readiness || (!stops && !ends)
    }

    fn end_prober(&mut self, name: &str, kind: ProbeKind) {
        self.course(name).probers.remove(&kind);
        self.timers.remove(&Timer::Probe(name.to_owned(), kind));
        self.timers.remove(&Timer::Answer(name.to_owned(), kind));
    }

    /// The container has ended. What is being asked the engine forgets by itself.
    pub(super) fn end_probes(&mut self, name: &str) {
        for kind in ProbeKind::ALL {
            self.end_prober(name, kind);
        }
    }

    fn probe_of(&self, name: &str, kind: ProbeKind) -> Option<Probe> {
        self.pod.spec.container(name)?.probe(kind).cloned()
    }
}
