//! The rules of Pods in nftables, when somebody has taken them away: `nft flush
//! ruleset`, a firewall that starts or reloads. The kernel notifies
//! ([`network::Watch`]); a moment later a child, in the host's network namespace, looks
//! and makes anew what is missing. Why so: docs/decisions/0014-firewalls.md.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use nix::sys::epoll::EpollFlags;

use crate::network::{self, Restored, Watch};
use crate::pod::monitor::helper::Helper;
use crate::pod::monitor::{Monitor, Source, Timer};
use crate::pod::reason::Reason;
use crate::{Error, Ignored, Result};

/// Part of the [`Monitor`].
#[derive(Debug, Default)]
pub(in crate::pod::monitor) struct Rules {
    watch: Option<Watch>,
    /// It reports the JSON of a `Result<Restored>`.
    helper: Option<Helper>,
    /// A notification came while the child was at work.
    again: bool,
}

/// A reload is many changes within a short time: one look for all.
const BURST: Duration = Duration::from_millis(50);

impl Monitor {
    /// Call in the host's network namespace. Without nftables there is nothing to
    /// watch, which the Pod is told when it gets its network.
    pub(in crate::pod::monitor) fn watch_rules(&mut self) {
        if self.pod().spec.host_network {
            return;
        }
        let Ok(watch) = Watch::open(&self.layout) else {
            return;
        };
        if self
            .events
            .watch(&watch, EpollFlags::EPOLLIN, Source::Rules)
            .is_ok()
        {
            self.rules.watch = Some(watch);
        }
    }

    pub(in crate::pod::monitor) fn on_rules_changed(&mut self) {
        if let Some(watch) = &self.rules.watch {
            watch.drain();
        }
        if self.rules.helper.is_some() {
            self.rules.again = true;
        } else if !self.events.timers.contains_key(&Timer::Rules) {
            // One Pod after the other, so that the first mends for all.
            let turn = match self.state().ips.first() {
                Some(IpAddr::V4(ip)) => u64::from(ip.octets()[3]),
                _ => 0,
            };
            self.set_timer(Timer::Rules, BURST + Duration::from_millis(turn));
        }
    }

    pub(in crate::pod::monitor) fn look_at_rules(&mut self) {
        let wanted = self.state().sandbox_ready.is_some() && !self.kubelet.terminates();
        if !wanted || self.host.network.rules_are_unchanged() {
            return;
        }
        if let Err(e) = self.start_restoring() {
            self.event(true, Reason::NetworkNotReady, e.to_string());
        }
    }

    fn start_restoring(&mut self) -> Result<()> {
        let helper = self.start_helper(Source::Restoring, |monitor, mut pipe| {
            let report = serde_json::to_vec(&monitor.restore()).unwrap_or_default();
            pipe.write_all(&report)
                .ignored("a monitor that has ended needs no report");
        })?;
        self.rules.helper = Some(helper);
        Ok(())
    }

    /// Before the Pod is removed: the child is in the cgroup of the monitors, and would
    /// leave the network's lock behind when it is killed with its parent.
    pub(in crate::pod::monitor) fn end_restoring(&mut self) {
        if let Some(helper) = self.rules.helper.take() {
            self.kill_helper(&helper, &Source::Restoring);
        }
    }

    /// In the child.
    fn restore(&self) -> Result<Restored> {
        self.enter_host()?;
        network::restore(&self.layout, &self.pod().uid)
    }

    /// The child reports, and ends.
    pub(in crate::pod::monitor) fn on_restored(&mut self) {
        let Some(helper) = self.rules.helper.take() else {
            return;
        };
        let mut text = Vec::new();
        let read = helper.pipe().take(1 << 20).read_to_end(&mut text);
        self.reap_helper(&helper, &Source::Restoring);
        let outcome = read.map_err(Error::from).and_then(|_| {
            serde_json::from_slice::<Result<Restored, Error>>(&text).unwrap_or_else(|_| {
                Err(Error::failed(
                    "restore the Pods' rules: the child was killed",
                ))
            })
        });
        match outcome {
            Ok(restored) => {
                if restored.mended {
                    let message = "rules of Pods in nftables or in the host's firewall were gone, \
                                   and have been made anew";
                    self.event(false, Reason::NetworkRestored, message);
                }
                if let Some(warning) = restored.warning {
                    self.event(true, Reason::NetworkNotReady, warning);
                }
            }
            Err(e) => self.event(true, Reason::NetworkNotReady, e.to_string()),
        }
        if std::mem::take(&mut self.rules.again) {
            self.on_rules_changed();
        }
    }
}
