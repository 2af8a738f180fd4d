//! One more process in a running container.
//!
//! One clone: the caller takes on the container's pid namespace for its children,
//! clones, and takes its own back, so that the new process is its child and yet
//! inside. The other namespaces are joined by the child, through the pidfd of the
//! container's first process (setns(2)).

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::create::{Starting, Stdio, Word, say, tell_failure};
use super::plan::Process;
use super::plan::namespace::{CGROUP, MOUNT, PID, USER};
use super::{init, process, settings};
use crate::linux::cgroup::Join;
use crate::linux::mount::change_root;
use crate::linux::resctrl;
use crate::linux::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Result};

/// Where a process goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The pidfd of the container's first process.
    pub init: BorrowedFd<'a>,
    /// The kinds of namespace that are not the caller's own.
    pub namespaces: CloneFlags,
    /// Where the container's processes have their root, if it has no mount namespace
    /// of its own that leads there.
    pub root: Option<BorrowedFd<'a>>,
    /// The caller's own pid namespace, to return to.
    pub own_pid_namespace: BorrowedFd<'a>,
    pub join: Option<&'a Join>,
    /// See [`resctrl::Resctrl::tasks`].
    pub resctrl: &'a [std::fs::File],
}

/// What a Pod's monitor does not share with its containers.
pub const OF_POD: CloneFlags = MOUNT.union(CGROUP).union(PID);

/// Clones a process into a container. `stdio` is not used with a terminal.
pub fn exec(to: &Target, plan: &Process, stdio: &Stdio) -> Result<Starting> {
    let (ours, theirs) = Packets::pair()?;
    let joins_pid = to.namespaces.contains(PID);
    if joins_pid {
        nix::sched::setns(to.init, PID)
            .map_err(|e| Error::sys("setns(<init>, CLONE_NEWPID)", e))
            .context("the container has ended")?;
    }
    if let Some(cpus) = &plan.affinity.0 {
        set_affinity(cpus).context("process.execCPUAffinity.initial")?;
    }
    let forked = sys::clone3(CloneFlags::empty(), to.join.and_then(Join::v2_fd));
    if let Ok(Fork::Child) = forked {
        drop(ours);
        let Err(e) = run(to, plan, stdio, &theirs);
        tell_failure(&theirs, e)
    }
    if joins_pid {
        nix::sched::setns(to.own_pid_namespace, PID)
            .map_err(|e| Error::sys("setns(<own>, CLONE_NEWPID)", e))?;
    }
    match forked {
        Ok(Fork::Parent { pid, pidfd }) => Ok(Starting::new(pid, pidfd, ours)),
        Ok(Fork::Child) => unreachable!("handled above"),
        Err(e) => Err(Error::sys("clone3()", e)),
    }
}

fn set_affinity(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)
            .map_err(|_| Error::invalid(format!("cpu {cpu}: {} at most", CpuSet::count() - 1)))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|e| Error::sys(format!("sched_setaffinity(0, {cpus:?})"), e))
}

fn run(to: &Target, plan: &Process, stdio: &Stdio, parent: &Packets) -> Result<Infallible> {
    process::seclude()?;
    nix::unistd::setsid().map_err(|e| Error::sys("setsid()", e))?;
    if let Some(join) = to.join {
        join.enter().context("join the cgroup")?;
    }
    resctrl::join(to.resctrl).context("linux.intelRdt")?;
    if let Some(cpus) = &plan.affinity.1 {
        set_affinity(cpus).context("process.execCPUAffinity.final")?;
    }
    if let Some(score) = plan.oom_score_adj {
        process::set_oom_score("self", score)?;
    }
    process::raise_limits(Pid::from_raw(0), &plan.rlimits)?;
    settings::apply_to_process(plan)?;
    let labels = process::open_labels(plan)?;
    let namespaces = to.namespaces - PID;
    nix::sched::setns(to.init, namespaces)
        .map_err(|e| Error::sys(format!("setns(<init>, {namespaces:?})"), e))?;
    if let Some(root) = to.root {
        change_root(root)?;
    }
    if namespaces.contains(USER) {
        init::become_root_inside()?;
    }
    if plan.terminal {
        let (master, slave) = init::container_terminal(plan.console_size)?;
        say(parent, &Word::Terminal, &[master.as_fd()])?;
        process::take_terminal(slave.as_fd())?;
    } else {
        process::take_stdio(stdio)?;
    }
    let program = process::settle(plan)?;
    process::launch(plan, &program, labels, parent)
}
