//! The processes of a Pod stand still, and go on: its cgroup's freezer.

use super::{Fact, Monitor, sandbox};
use crate::linux::cgroup::{Cgroup, Select};
use crate::pod::reason::Reason;
use crate::{Error, Result};

impl Monitor {
    /// A user wants the Pod to stand still. The record says so first: a next monitor
    /// freezes again what this one may not come to.
    pub(super) fn pause(&mut self) -> Result<()> {
        self.kubelet.must_go_on()?;
        if self.state().sandbox_ready.is_none() {
            let e = Error::conflict(format!("pod {}: it has no sandbox yet", self.pod().name));
            return Err(e.hint(format!("carob describe pod {}", self.pod().as_arguments())));
        }
        self.tell(Fact::Paused);
        if let Err(e) = self.publish_first() {
            self.resume();
            return Err(e);
        }
        self.execute_all()?;
        let e = match self.pod_cgroup().and_then(|c| c.is_frozen()) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let name = &self.pod().name;
                let e = Error::failed(format!("pod {name}: its cgroup does not freeze"));
                e.hint("a process is in a call that cannot be interrupted; try it again")
            }
            Err(e) => e,
        };
        // What has failed leaves the Pod running.
        self.resume();
        Err(e)
    }

    pub(super) fn resume(&mut self) {
        self.tell(Fact::Resumed);
    }

    /// What fails is an event: a Pod whose cgroup cannot be thawed is still to be ended.
    pub(super) fn freeze(&mut self, on: bool) {
        let done = self.pod_cgroup().and_then(|cgroup| match on {
            true => cgroup.pause(),
            false => cgroup.resume(),
        });
        if let Err(e) = done {
            let reason = if on {
                Reason::FailedPause
            } else {
                Reason::FailedResume
            };
            self.event(true, reason, e.to_string());
        }
    }

    pub(super) fn pod_cgroup(&self) -> Result<Cgroup> {
        let path = sandbox::cgroup_path(&self.layout, &self.pod().uid);
        let cgroup = Cgroup::open(&self.host.hierarchies, &path, Select::Pod)?;
        cgroup.ok_or_else(|| Error::not_found(format!("cgroup {path}: it is gone")))
    }
}
