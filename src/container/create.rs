//! The parent's side of making a container: one clone, then waiting for word.
//!
//! ```text
//! parent                                   child (own pid and mount namespace,
//!                                                 born in its v2 cgroup)
//!   socketpair
//!   clone3 ------------------------------> joins the v1 cgroups
//!   |                                      unshares the cgroup namespace
//!   |                                      mounts, pivots, drops rights
//!   | <--- Terminal + the master's fd ---- (only with a terminal)
//!   | <--- Failed(error) ----------------- (then it exits)
//!   | <--- end of file ------------------- exec: the socket is close-on-exec
//! ```
//!
//! The parent does not block on this: [`Starting`] is an fd to wait for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::init;
use super::plan::Plan;
use crate::linux::cgroup::Join;
use crate::linux::mount::Mount;
use crate::linux::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Error, Result};

/// What a child says to its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Failed(Error),
    Terminal,
}

/// A child between its clone and its exec.
#[derive(Debug)]
pub struct Starting {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    word: Packets,
    terminal: Option<OwnedFd>,
}

/// How it went.
#[derive(Debug)]
pub enum Started {
    /// No word yet.
    NotYet,
    /// The program runs. With a terminal, its master.
    Running(Option<OwnedFd>),
    /// Why it does not. The child ends by itself.
    Failed(Error),
}

impl AsFd for Starting {
    /// Readable when [`Starting::progress`] has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }
}

impl Starting {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd, word: Packets) -> Self {
        Starting {
            pid,
            pidfd,
            word,
            terminal: None,
        }
    }

    /// Reads what the child has said, blocking only if nothing can be read.
    pub fn progress(&mut self) -> Started {
        let mut buffer = vec![0; 16 * 1024];
        match self.word.receive(&mut buffer) {
            Ok(([], _)) => Started::Running(self.terminal.take()),
            Ok((bytes, mut fds)) => match serde_json::from_slice(bytes) {
                Ok(Word::Terminal) => {
                    self.terminal = fds.pop();
                    Started::NotYet
                }
                Ok(Word::Failed(e)) => Started::Failed(e),
                Err(e) => Started::Failed(Error::failed(format!("the child's word: {e}"))),
            },
            Err(Errno::EAGAIN) => Started::NotYet,
            Err(e) => Started::Failed(Error::sys("recvmsg(<child>)", e)),
        }
    }

    /// Waits until it is known how it went.
    pub fn wait(&mut self) -> Result<Option<OwnedFd>> {
        loop {
            match self.progress() {
                Started::NotYet => {}
                Started::Running(terminal) => return Ok(terminal),
                Started::Failed(e) => return Err(e),
            }
        }
    }
}

/// The fds that become a process's 0, 1 and 2. Not used with a terminal.
#[derive(Debug)]
pub struct Stdio<'fd> {
    pub stdin: BorrowedFd<'fd>,
    pub stdout: BorrowedFd<'fd>,
    pub stderr: BorrowedFd<'fd>,
}

/// Clones the container's first process. It runs the program as soon as it is
/// ready. `root` is its root filesystem, attached at `mountpoint`, a directory
/// that exists, in the child's mount namespace only.
pub fn create(
    plan: &Plan,
    root: &Mount,
    mountpoint: &std::path::Path,
    join: &Join,
    stdio: &Stdio,
    pid_namespace: bool,
) -> Result<Starting> {
    let (ours, theirs) = Packets::pair()?;
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    if pid_namespace {
        namespaces |= CloneFlags::CLONE_NEWPID;
    }
    match sys::clone3(namespaces, join.v2_fd()) {
        Ok(Fork::Parent { pid, pidfd }) => Ok(Starting::new(pid, pidfd, ours)),
        Ok(Fork::Child) => {
            drop(ours);
            let Err(e) = init::run(plan, root, mountpoint, join, stdio, &theirs);
            tell_failure(&theirs, e)
        }
        Err(e) => Err(Error::sys(format!("clone3({namespaces:?})"), e)),
    }
}

/// The child's last words.
pub(super) fn tell_failure(parent: &Packets, e: Error) -> ! {
    let bytes = serde_json::to_vec(&Word::Failed(e)).unwrap_or_default();
    let _ = parent.send(&bytes, &[]);
    sys::exit_now(127)
}
