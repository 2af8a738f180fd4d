//! One more process in a running container.
//!
//! One clone: the caller takes on the container's pid namespace for its children,
//! clones, and takes its own back, so that the new process is its child and yet
//! inside. The other namespaces are joined by the child, through the pidfd of the
//! container's first process (setns(2)).

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::statfs::fstatfs;

use super::create::{Starting, Stdio, Word, tell_failure};
use super::plan::Process;
use super::{dev, process};
use crate::linux::cgroup::Join;
use crate::linux::root::{Links, Root};
use crate::linux::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Result};

/// Clones a process into the container whose first process is `init`.
/// `own_pid_namespace` is the caller's, to return to; `stdio` is not used with a
/// terminal.
pub fn exec(
    init: BorrowedFd,
    own_pid_namespace: BorrowedFd,
    plan: &Process,
    join: &Join,
    stdio: &Stdio,
) -> Result<Starting> {
    let (ours, theirs) = Packets::pair()?;
    nix::sched::setns(init, CloneFlags::CLONE_NEWPID)
        .map_err(|e| Error::sys("setns(<init>, CLONE_NEWPID)", e))
        .context("the container has ended")?;
    let forked = sys::clone3(CloneFlags::empty(), join.v2_fd());
    if let Ok(Fork::Child) = forked {
        drop(ours);
        let Err(e) = run(init, plan, join, stdio, &theirs);
        tell_failure(&theirs, e)
    }
    nix::sched::setns(own_pid_namespace, CloneFlags::CLONE_NEWPID)
        .map_err(|e| Error::sys("setns(<own>, CLONE_NEWPID)", e))?;
    match forked {
        Ok(Fork::Parent { pid, pidfd }) => Ok(Starting::new(pid, pidfd, ours)),
        Ok(Fork::Child) => unreachable!("handled above"),
        Err(e) => Err(Error::sys("clone3()", e)),
    }
}

fn run(
    init: BorrowedFd,
    plan: &Process,
    join: &Join,
    stdio: &Stdio,
    parent: &Packets,
) -> Result<Infallible> {
    process::seclude()?;
    nix::unistd::setsid().map_err(|e| Error::sys("setsid()", e))?;
    join.enter().context("join the cgroup")?;
    if let Some(score) = plan.oom_score_adj {
        process::set_oom_score(score)?;
    }
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    nix::sched::setns(init, namespaces)
        .map_err(|e| Error::sys(format!("setns(<init>, {namespaces:?})"), e))?;
    if plan.terminal {
        let (master, slave) = container_terminal(plan.console_size)?;
        parent
            .send(&serde_json::to_vec(&Word::Terminal)?, &[master.as_fd()])
            .map_err(|e| Error::sys("sendmsg(<parent>)", e))?;
        process::take_terminal(slave.as_fd())?;
    } else {
        process::take_stdio(stdio)?;
    }
    process::become_program(plan)
}

/// A terminal of the container's own devpts. The container may have put anything
/// at /dev/pts by now: it is used only if it is a devpts.
fn container_terminal(size: Option<(u16, u16)>) -> Result<(OwnedFd, OwnedFd)> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let root = crate::linux::root::open_dir(Path::new("/"))?;
    let pts = Root::new(root.as_fd()).open(
        Path::new("/dev/pts"),
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY,
        Links::Refuse,
    )?;
    let kind = fstatfs(&pts)
        .map_err(|e| Error::sys("fstatfs(/dev/pts)", e))?
        .filesystem_type();
    if kind.0 as i64 != DEVPTS_SUPER_MAGIC {
        return Err(Error::failed("/dev/pts of the container is no devpts"));
    }
    dev::new_terminal(pts.as_fd(), size)
}
