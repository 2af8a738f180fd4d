//! One more process in a running container.
//!
//! In a pid namespace of the container's own, its processes see the new one from its
//! birth on, and those with CAP_SYS_PTRACE see into it: through its root, its working
//! directory and its fds into the host (runc CVE-2016-9962). So it is born inside: a
//! process between, which nobody in there sees, enters the namespaces through the
//! pidfd of the container's first process (setns(2)), keeps no fd that leads out, and
//! clones it as its own sibling (CLONE_PARENT).
//!
//! ```text
//! caller            between                            the new process
//!   socketpairs
//!   clone3 -------> not dumpable; oom_score_adj
//!   |               its cgroup's directory alone
//!   |               enters all but the cgroup namespace
//!   |               stdio; closes every other fd
//!   |               clone3(CLONE_PARENT, ------------> born in the container's pid
//!   |                 CLONE_INTO_CGROUP)               namespace and v2 cgroup
//!   | <--- its pid and pidfd, or Failed(error)         joins the v1 cgroups, then
//!   |               exits                              the cgroup namespace
//!   | kills and reaps it                               limits, labels, terminal
//!   | <--- Terminal, Failed, Listener, end of file --- as in `create`
//! ```
//!
//! With a user namespace the kernel itself keeps them from looking (the process is not
//! dumpable, and its memory belongs to the host's user namespace), and without a pid
//! namespace they would see the one between as well. Then there is one clone: the
//! caller takes on the container's pid namespace for its children, clones, and takes
//! its own back; the child joins the others.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::channel::{Message, Starting, say, send_steps, tell_failure};
use super::plan::Process;
use super::plan::namespace::{CGROUP, MOUNT, PID, USER};
use super::spawn::clone_between;
use super::wanted::Stdio;
use super::{init, process, settings};
use crate::linux::caller;
use crate::linux::cgroup::Join;
use crate::linux::mount::{ATTR_RDONLY, Mount, change_root};
use crate::linux::procfs::Procfs;
use crate::linux::resctrl;
use crate::linux::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Call, Context, Error, Ignored, Result};

/// Where a process goes.
#[derive(Debug)]
pub(crate) struct Target<'a> {
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
pub(crate) const OF_POD: CloneFlags = MOUNT.union(CGROUP).union(PID);

/// Clones a process into a container. `stdio` is not used with a terminal.
pub(crate) fn exec(to: &Target, plan: &Process, stdio: &Stdio) -> Result<Starting> {
    let (ours, theirs) = Packets::pair()?;
    if let Some(cpus) = &plan.affinity.0 {
        set_affinity(cpus).context("process.execCPUAffinity.initial")?;
    }
    let cloned = match to.namespaces.contains(PID) && !to.namespaces.contains(USER) {
        true => clone_inside(to, plan, stdio, &theirs),
        false => clone_outside(to, plan, stdio, &ours, &theirs),
    };
    Starting::of(cloned, ours)
}

fn clone_inside(
    to: &Target,
    plan: &Process,
    stdio: &Stdio,
    theirs: &Packets,
) -> Result<(Pid, OwnedFd)> {
    let go_in = |answer: BorrowedFd| {
        process::seclude()?;
        if let Some(score) = plan.oom_score_adj {
            process::set_oom_score("self", score)?;
        }
        let v2 = to.join.and_then(Join::v2_fd);
        let cgroup = v2.map(cgroup_alone).transpose()?;
        // Whoever is in another cgroup namespace is not let into this cgroup, where
        // namespaces are boundaries (cgroups(7), nsdelegate): that one comes later.
        enter(to, to.namespaces - CGROUP)?;
        match plan.terminal {
            // Until there is one, the numbers are to be taken, but not by the caller's.
            true => process::take_stdio(&Stdio {
                stdin: theirs.as_fd(),
                stdout: theirs.as_fd(),
                stderr: theirs.as_fd(),
            })?,
            false => process::take_stdio(stdio)?,
        }
        close_outside(to, plan, &[theirs.as_fd(), answer], cgroup.as_ref())?;
        Ok(cgroup)
    };
    let sibling = |cgroup: &Option<Mount>| {
        let cgroup = cgroup.as_ref().map(AsFd::as_fd);
        sys::clone_sibling(CloneFlags::empty(), cgroup).map_err(clone_error)
    };
    let child = |cgroup, answer: BorrowedFd| {
        drop::<Option<Mount>>(cgroup);
        nix::unistd::close(answer.as_raw_fd()).ignored("this process never uses the fd");
        run_inside(to, plan, theirs)
    };
    clone_between(go_in, sibling, child, theirs, None)
}

/// For CLONE_INTO_CGROUP: the directory on a mount of its own. The new process has
/// the fd when it is born, and from a directory of the host's it is one `..` after the
/// other to the host's root.
fn cgroup_alone(dir: BorrowedFd) -> Result<Mount> {
    let made = Mount::copy_fd(dir, false).and_then(|alone| {
        alone.set(ATTR_RDONLY, false)?;
        Ok(alone)
    });
    made.context("the container's cgroup")
}

/// Keeps stdio, what the program is to inherit, and what the way to it takes.
fn close_outside(
    to: &Target,
    plan: &Process,
    sockets: &[BorrowedFd],
    cgroup: Option<&Mount>,
) -> Result<()> {
    let cgroups = to.join.into_iter().flat_map(Join::v1_fds);
    let kept = [to.init].into_iter().chain(cgroups);
    let kept = kept.chain(to.resctrl.iter().map(AsFd::as_fd));
    let kept = kept.chain(sockets.iter().copied());
    let kept = kept.chain(cgroup.map(AsFd::as_fd));
    process::close_host_fds(plan, kept.map(|fd| fd.as_raw_fd()))
}

fn clone_outside(
    to: &Target,
    plan: &Process,
    stdio: &Stdio,
    ours: &Packets,
    theirs: &Packets,
) -> Result<(Pid, OwnedFd)> {
    let pid_namespace = to.namespaces & PID;
    join_namespaces(to, pid_namespace)?;
    let forked = sys::clone3(CloneFlags::empty(), to.join.and_then(Join::v2_fd));
    if let Ok(Fork::Child) = forked {
        send_steps(theirs);
        nix::unistd::close(ours.as_fd().as_raw_fd()).ignored("this process never uses the fd");
        let Err(e) = run_outside(to, plan, stdio, theirs);
        tell_failure(theirs, e)
    }
    if !pid_namespace.is_empty() {
        nix::sched::setns(to.own_pid_namespace, PID)
            .map_err(|e| Error::sys("setns(<own>, CLONE_NEWPID)", e))?;
    }
    match forked {
        Ok(Fork::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Ok(Fork::Child) => unreachable!("handled above"),
        Err(e) => Err(clone_error(e)),
    }
}

fn clone_error(e: Errno) -> Error {
    let error = Error::sys("clone3()", e);
    match e {
        // Also of a pid namespace whose first process is ending.
        Errno::ENOMEM => error.hint("the container is ending, or there is no memory"),
        Errno::EAGAIN => error.hint("a limit on processes is reached: the container's pids limit"),
        Errno::EBUSY => error.hint("the cgroup has controllers for cgroups below it"),
        Errno::ENODEV => error.push_context("the container's cgroup is gone"),
        _ => error,
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

/// Of a process that is inside already, but for the cgroup namespace.
fn run_inside(to: &Target, plan: &Process, parent: &Packets) -> Result<Infallible> {
    limit(to, plan)?;
    let labels = process::open_labels(plan, procfs_inside)?;
    join_namespaces(to, to.namespaces & CGROUP)?;
    become_program(plan, labels, parent)
}

/// In a user namespace that is not the container's own the kernel gives no new procfs
/// beside a masked one. Then it is the container's, if it is one.
fn procfs_inside() -> Result<Procfs> {
    match Procfs::detached() {
        Err(e) if e.errno() == Some(Errno::EPERM) => Procfs::open(),
        other => other,
    }
}

fn run_outside(to: &Target, plan: &Process, stdio: &Stdio, parent: &Packets) -> Result<Infallible> {
    process::seclude()?;
    if let Some(score) = plan.oom_score_adj {
        process::set_oom_score("self", score)?;
    }
    limit(to, plan)?;
    let labels = process::open_labels(plan, Procfs::open)?;
    enter(to, to.namespaces - PID)?;
    if to.namespaces.contains(USER) {
        init::become_root_inside()?;
    }
    if !plan.terminal {
        process::take_stdio(stdio)?;
    }
    become_program(plan, labels, parent)
}

/// What needs no path.
fn limit(to: &Target, plan: &Process) -> Result<()> {
    process::stand_alone(to.join)?;
    resctrl::join(to.resctrl).context("linux.intelRdt")?;
    match &plan.affinity {
        (_, Some(cpus)) => set_affinity(cpus).context("process.execCPUAffinity.final")?,
        (None, None) => caller::reset_affinity(),
        // Before Linux 6.2 the move into a cgroup with the cpuset controller has set it
        // to all CPUs of that.
        (Some(cpus), None) => set_affinity(cpus).context("process.execCPUAffinity.initial")?,
    }
    process::raise_limits(Pid::from_raw(0), &plan.rlimits)?;
    if plan.own_keyring {
        // Not without: how many there may be is the container's to use up.
        settings::new_keyring().map_err(|e| match e.errno() {
            Some(Errno::EDQUOT) => e.hint("a limit in /proc/sys/kernel/keys is reached"),
            _ => e,
        })?;
    }
    settings::apply_to_process(plan)
}

fn enter(to: &Target, namespaces: CloneFlags) -> Result<()> {
    join_namespaces(to, namespaces)?;
    match to.root {
        Some(root) => change_root(root),
        None => Ok(()),
    }
}

fn join_namespaces(to: &Target, namespaces: CloneFlags) -> Result<()> {
    if namespaces.is_empty() {
        return Ok(());
    }
    nix::sched::setns(to.init, namespaces)
        .call(|| format!("setns(<init>, {})", crate::error::flags(namespaces)))
        .map_err(|e| match e.errno() {
            Some(Errno::ESRCH) => e.push_context("the container has ended"),
            _ => e,
        })
}

fn become_program(plan: &Process, labels: process::Labels, parent: &Packets) -> Result<Infallible> {
    let kept = process::label_fds(&labels).chain([parent.as_fd().as_raw_fd()]);
    process::close_host_fds(plan, kept)?;
    if plan.terminal {
        let (master, slave) = init::container_terminal(plan)?;
        say(parent, &Message::Terminal, &[master.as_fd()])?;
        process::take_terminal(slave.as_fd())?;
    }
    let program = process::settle(plan)?;
    process::launch(plan, &program, labels, parent, || Ok(()))
}
