//! Everything that a container is made from.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::hook::{Hook, Subject};
use super::plan::Plan;
use super::plan::namespace::USER;
use crate::Result;
use crate::linux::cgroup::Join;
use crate::linux::mount::Mount;

/// The fds that become a process's 0, 1 and 2. Not used with a terminal.
#[derive(Debug)]
pub(crate) struct Stdio<'fd> {
    pub stdin: BorrowedFd<'fd>,
    pub stdout: BorrowedFd<'fd>,
    pub stderr: BorrowedFd<'fd>,
}

/// What the host's paths name, opened by the parent while they can be trusted.
#[derive(Debug)]
pub(crate) struct Sources {
    /// In the order of the plan's mounts. None: the child, which sees the same
    /// paths and has the same rights, opens them itself.
    pub mounts: Option<Vec<Option<Mount>>>,
    pub namespaces: Vec<(CloneFlags, OwnedFd)>,
}

/// A container that waits for `start` before its program runs.
#[derive(Debug)]
pub(crate) struct StartGate<'a> {
    /// See [`super::gate`].
    pub gate: BorrowedFd<'a>,
    /// The record's lock: the child closes its copy, which would keep it held as
    /// long as the container waits.
    pub lock: BorrowedFd<'a>,
    /// Whether there are hooks for the parent to run.
    pub runtime_hooks: bool,
    pub create_container: &'a [Hook],
    pub start_container: &'a [Hook],
    pub subject: &'a Subject,
}

/// Everything that a container is made from.
pub(crate) struct Spawn<'a> {
    pub plan: &'a Plan,
    /// Its root filesystem, attached in the child's mount namespace only, at
    /// `mountpoint`, a directory that exists.
    pub root: &'a Mount,
    pub mountpoint: &'a Path,
    /// Its cgroup; none where another program takes care of that.
    pub join: Option<&'a Join>,
    pub stdio: &'a Stdio<'a>,
    /// None: the child opens the sources of its mounts itself.
    pub sources: Option<&'a Sources>,
    /// None: the program runs as soon as it is ready.
    pub start: Option<&'a StartGate<'a>>,
    /// See [`crate::linux::resctrl::Resctrl::tasks`].
    pub resctrl: &'a [std::fs::File],
    /// What its new mount namespace is copied from: [`crate::linux::bare`]. None: from
    /// the host's.
    pub bare_mounts: Option<BorrowedFd<'a>>,
    /// For a container without a mount namespace of its own.
    pub host_mounts: Option<&'a HostMounts<'a>>,
    /// Done to the child before it does anything itself.
    pub prepare_child: Option<&'a dyn Fn(Pid) -> Result<()>>,
}

/// Without a mount namespace of its own, a container still has its mounts in one
/// that is nobody else's; its processes are in the host's, and only their root is in
/// the other. So nothing is mounted on the host that would have to be undone there.
#[derive(Debug)]
pub(crate) struct HostMounts<'a> {
    pub namespace: BorrowedFd<'a>,
    /// The other one has no process: it is pinned in this directory, which is made.
    pub pin: &'a Path,
}

impl Spawn<'_> {
    /// Whether the child begins by waiting for [`Channel::go`].
    pub(super) fn waits_for_parent(&self) -> bool {
        self.plan.namespaces.has(USER)
            || !self.plan.net_devices.is_empty()
            || self.host_mounts.is_some()
            || self.prepare_child.is_some()
    }

    pub(super) fn joined(&self) -> &[(CloneFlags, OwnedFd)] {
        self.sources.map_or(&[], |s| &s.namespaces)
    }
}
