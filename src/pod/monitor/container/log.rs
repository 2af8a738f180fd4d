//! The containers' logs: moving output on, and what is told when it cannot be.

use std::time::Duration;

use super::output::Flow;
use crate::Result;
use crate::pod::logs::write::{self, LogFile};
use crate::pod::monitor::{Fact, Monitor, Timer};
use crate::pod::reason::Reason;
use crate::spec::WhenLogFull;

impl Monitor {
    /// Moves a container's output on. `last`: it has ended.
    pub(in crate::pod::monitor) fn pump(&mut self, name: &str, last: bool) {
        let Some(live) = self.live.get_mut(name) else {
            return;
        };
        if live.child.as_ref().is_some_and(|c| !c.runs()) {
            return;
        }
        let Some(log) = live.log.as_mut() else { return };
        let was_lost = log.lost().is_some();
        let (mut failed, mut more) = (None, false);
        for output in &mut live.outputs {
            match output.pump(&self.glass, log, last) {
                Ok(Flow::Drained | Flow::Ended) => {}
                Ok(Flow::More) => more = true,
                Err(e) => failed = Some(e),
            }
        }
        log.tell_loss();
        let (lost, told) = (log.lost().cloned(), log.take_told(last));
        let waits = failed.is_some() || lost.is_some();
        if more && !last {
            // No edge will tell of what is there already.
            self.set_timer(Timer::Log(name.to_owned()), Duration::ZERO);
        } else if waits && !last {
            self.set_timer(Timer::Log(name.to_owned()), write::PAUSE);
        }
        if let Some(e) = failed {
            // The output waits where it is.
            self.event(
                true,
                Reason::FailedLogging,
                format!("container {name}: {e}"),
            );
        }
        if let Some(loss) = lost.filter(|_| !was_lost) {
            let why = &loss.why;
            let message = format!("container {name}: {why}: its output is dropped meanwhile");
            self.event(true, Reason::FailedLogging, message);
        }
        if let Some(loss) = told {
            self.tell(Fact::EventGrew {
                reason: Reason::DroppedOutput,
                beginning: format!("container {name}: "),
                rest: loss.text(),
            });
        }
    }

    pub(in crate::pod::monitor) fn open_log(&self, name: &str, attempt: u32) -> Result<LogFile> {
        let note = self.paths.bundle(name, attempt).join("logged");
        let when_full = WhenLogFull::of(&self.pod().annotations);
        LogFile::open(&self.log_dir(name), attempt, &note, when_full)
    }

    pub(in crate::pod::monitor) fn log_dir(&self, name: &str) -> std::path::PathBuf {
        let pod = self.pod();
        self.layout
            .pod_logs(&pod.namespace, &pod.name, &pod.uid)
            .join(name)
    }
}
