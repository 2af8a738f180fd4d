//! Kills by the memory limit: which container's, and that the container dies as a whole.

use std::time::Duration;

use crate::Ignored;
use crate::pod::monitor::{Monitor, Source, Timer};

impl Monitor {
    pub(in crate::pod::monitor) fn on_oom(&mut self, name: &str) {
        let Some(events) = self.live(name).oom.take() else {
            return;
        };
        match events.acknowledge() {
            Ok(()) => self.live(name).oom = Some(events),
            // The cgroup is gone: nothing will be told any more, and each wait would
            // end at once.
            Err(_) => self.events.unwatch(&events, &Source::Oom(name.to_owned())),
        }
        self.live(name).oom_looks = 0;
        self.look_for_oom_kill(name);
    }

    /// v1 kills one process; the container is meant to die as a whole. It also
    /// tells of the limit before it kills, and has no event for the kill: so a few
    /// more looks, 1 ms to 1 s after it told.
    pub(in crate::pod::monitor) fn look_for_oom_kill(&mut self, name: &str) {
        const LOOKS: u32 = 10;
        if !self.live(name).runs() {
            return;
        }
        if self.oom_killed(name) {
            if let Some(cgroup) = &self.live(name).cgroup {
                cgroup
                    .kill()
                    .ignored("what stays is killed again with the container");
            }
        } else if self.live(name).oom_looks < LOOKS {
            let pause = Duration::from_millis(1 << self.live(name).oom_looks);
            self.live(name).oom_looks += 1;
            self.set_timer(Timer::Oom(name.to_owned()), pause);
        }
    }

    pub(in crate::pod::monitor) fn oom_killed(&mut self, name: &str) -> bool {
        let live = self.live(name);
        let kills = live
            .cgroup
            .as_ref()
            .and_then(|c| c.oom_kills().ok())
            .unwrap_or(0);
        live.oom_kills = live.oom_kills.max(kills);
        live.oom_kills > 0
    }
}
