//! The Pod's end, once nothing of it runs: all that there is of it is removed.

use nix::sched::CloneFlags;

use super::sandbox::Host;
use super::{Fact, Monitor, Source, sandbox};
use crate::linux::root::remove_tree;
use crate::pod::layers;
use crate::pod::protocol::Reply;
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Ignored, Result};

impl Monitor {
    /// Removes the sandbox. What cannot be removed stays visible: the record remains, and
    /// so does the monitor.
    pub(super) fn remove(&mut self) {
        self.end_restoring();
        self.end_measurement();
        self.end_mounting();
        let errors = sandbox::remove(&self.layout, self.kubelet.pod(), &self.host);
        let Some(first) = errors.first().cloned() else {
            self.removed = true;
            return;
        };
        self.tell(Fact::NotRemoved { errors });
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.reply(id, &Reply::Failed(first.clone()), &[]);
        }
    }

    /// Removes what is left and ends the monitor.
    pub(super) fn leave(mut self) -> Result<()> {
        // A connection ends when its Pod is gone, and no sooner; nobody new comes.
        self.events.unwatch(&self.listener, &Source::Listener);
        let pod = self.pod().clone();
        // Home again: the Pod's network namespace dies now, and takes its link along,
        // while the files are removed.
        nix::sched::setns(&self.host.netns, CloneFlags::CLONE_NEWNET)
            .ignored("the namespace then goes with this process");
        // A tree is removed with as many fds as it is deep: these are not needed any more.
        drop((
            self.events,
            self.glass,
            self.rules,
            self.live,
            self.execs,
            self.handlers,
        ));
        self.directory = None;
        self.spare_fd.close();
        let errors = sandbox::forget(&self.layout, &pod);
        leave_nothing(&self.layout, &pod, &self.host);
        // Clients that wait for the deletion learn of it from the connection's end.
        match errors.into_iter().next() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }
}

/// What the Pods of a root share goes with the last of them.
fn leave_nothing(layout: &Layout, pod: &Pod, host: &Host) {
    layers::release(layout).ignored("gc releases what stays");
    if !sandbox::any_left(layout) {
        // A cgroup that a process is in cannot be removed: out, to where it came from.
        leave_cgroup(&host.hierarchies).ignored("the empty cgroup then stays, for gc");
        sandbox::remove_shared(layout, &host.network, &host.hierarchies);
    }
    remove_tree(&sandbox::dead_dir(layout, &pod.uid)).ignored("gc removes what stays");
}

fn leave_cgroup(hierarchies: &crate::linux::cgroup::Hierarchies) -> Result<()> {
    for h in hierarchies.v1() {
        std::fs::write(h.point().join("tasks"), "0").ignored("the empty cgroup then stays, for gc");
    }
    if let Some(h) = hierarchies.v2() {
        let path = h.point().join("cgroup.procs");
        std::fs::write(&path, "0")
            .map_err(|e| Error::from(e).push_context(format!("write({}, 0)", path.display())))?;
    }
    Ok(())
}
