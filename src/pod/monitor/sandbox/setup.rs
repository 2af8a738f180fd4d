//! Making the Pod's sandbox. When it is tried again, the kubelet says.

use nix::sched::CloneFlags;

use super::Made;
use super::labels;
use crate::pod::monitor::kubelet::Warning;
use crate::pod::monitor::{Fact, Monitor, sandbox};
use crate::pod::reason::Reason;
use crate::pod::{claims, limits};
use crate::{Error, Result, volume};

impl Monitor {
    /// What is there of an earlier try, or of a monitor that died, is removed first.
    pub(in crate::pod::monitor) fn make_sandbox(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            self.remove_sandbox();
        }
        match self.try_sandbox() {
            Ok(made) if self.has_slow_volumes() => {
                if let Err(e) = self.start_mounting(made) {
                    self.sandbox_ends(Err((Reason::FailedMount, e)));
                }
            }
            outcome => self.sandbox_ends(outcome),
        }
    }

    /// All of it is there, or it cannot be made now.
    pub(super) fn sandbox_ends(&mut self, outcome: Result<Made, (Reason, Error)>) {
        let fact = match outcome {
            Ok(made) => {
                self.shared.close_later.extend(made.procfs);
                let warn = |reason, message| Warning {
                    warns: true,
                    reason,
                    message,
                };
                let network = made.warnings.into_iter();
                let network = network.map(|w| warn(Reason::NetworkNotReady, w));
                let dns = made.dns_warning.map(|w| warn(Reason::DNSConfigForming, w));
                Fact::SandboxMade {
                    ips: made.ips,
                    host_ip: made.host_ip,
                    warnings: network.chain(dns).collect(),
                }
            }
            Err((reason, error)) => {
                // A port or an address that stays taken meanwhile is another Pod's loss.
                self.remove_sandbox();
                claims::give_back(&self.layout, self.kubelet.pod());
                let error = self.with_root(error);
                Fact::SandboxFailed { reason, error }
            }
        };
        self.tell(fact);
    }

    /// The reason of the event that tells of a failure, and the failure.
    fn try_sandbox(&mut self) -> Result<Made, (Reason, Error)> {
        const SANDBOX: Reason = Reason::FailedCreatePodSandBox;
        // Out of the namespaces of an earlier try: the host's addresses are asked for.
        nix::sched::setns(&self.host.netns, CloneFlags::CLONE_NEWNET)
            .map_err(|e| (SANDBOX, Error::sys("setns(<host>, CLONE_NEWNET)", e)))?;
        self.publish_first().map_err(|e| (SANDBOX, e))?;
        // What is missing is missed before anything is made.
        let contents = self.plan_volumes().into_iter().collect::<Result<Vec<_>>>();
        let contents = contents.map_err(|e| (Reason::FailedMount, e))?;
        limits::require_hugepages(&self.pod().spec).map_err(|e| (Reason::FailedScheduling, e))?;
        let labels = labels::of_pod(&self.layout, self.pod()).map_err(|e| (SANDBOX, e))?;
        let label = labels.map(|l| l.files.to_string());
        let label = label.as_deref();
        let made =
            sandbox::make(&self.layout, self.pod(), &self.host, label).map_err(|e| (SANDBOX, e))?;
        log::debug!("sandbox: volumes");
        claims::take(&self.layout, self.pod(), label).map_err(|e| (Reason::FailedMount, e))?;
        volume::make(&self.pod().spec, &self.paths, label, &contents)
            .map_err(|e| (Reason::FailedMount, e))?;
        Ok(made)
    }

    fn remove_sandbox(&mut self) {
        for e in sandbox::remove(&self.layout, self.kubelet.pod(), &self.host) {
            self.event(true, Reason::FailedKillPod, e.to_string());
        }
    }
}
