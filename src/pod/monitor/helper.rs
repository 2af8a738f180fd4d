//! Children that do what takes long or needs the host's network namespace: a pull, the
//! restoring of rules. Each reports on a pipe and ends when it closes that.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::epoll::EpollFlags;

use super::{Monitor, Source};
use crate::sys::process::{self as sys, Fork};
use crate::{Error, Ignored, Result};

#[derive(Debug)]
pub(super) struct Helper {
    pidfd: OwnedFd,
    pipe: File,
}

impl Helper {
    /// What the child reports is read from here.
    pub(super) fn pipe(&self) -> &File {
        &self.pipe
    }
}

impl Monitor {
    /// `work` is done in the child, which writes its report to the file. `source` is the
    /// event of the pipe.
    pub(super) fn start_helper(
        &mut self,
        source: Source,
        work: impl FnOnce(&Self, File),
    ) -> Result<Helper> {
        let (pipe, theirs) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2()", e))?;
        match sys::clone3(CloneFlags::empty(), None) {
            Ok(Fork::Parent { pidfd, .. }) => {
                drop(theirs);
                self.events.watch(&pipe, EpollFlags::EPOLLIN, source)?;
                Ok(Helper {
                    pidfd,
                    pipe: File::from(pipe),
                })
            }
            Ok(Fork::Child) => {
                drop(pipe);
                self.close_in_helper();
                work(self, File::from(theirs));
                sys::exit_now(0)
            }
            Err(e) => Err(Error::sys("clone3()", e)),
        }
    }

    /// In the child: it outlives a monitor that is killed by a moment, in which clients
    /// would be connected that nobody serves, and no other monitor could start.
    fn close_in_helper(&self) {
        for fd in [self.listener.as_raw_fd(), self.lock.as_fd().as_raw_fd()] {
            nix::unistd::close(fd).ignored("this process never uses the fd");
        }
    }

    /// In the child: it is killed with the monitor, and works in the host's network
    /// namespace.
    pub(super) fn enter_host(&self) -> Result<()> {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        nix::sched::setns(&self.host.netns, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::sys("setns(<host>, CLONE_NEWNET)", e))
    }

    /// Waits for the end of a child that has closed its pipe.
    pub(super) fn reap_helper(&mut self, helper: &Helper, source: &Source) {
        self.events.unwatch(&helper.pipe, source);
        let mut fds = [nix::poll::PollFd::new(
            helper.pidfd.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE)
            .ignored("the next call reaps it if it has ended");
        sys::wait_pidfd(helper.pidfd.as_fd())
            .ignored("how it ended says nothing: its report has been read");
    }

    pub(super) fn kill_helper(&mut self, helper: &Helper, source: &Source) {
        sys::pidfd_send_signal(helper.pidfd.as_fd(), libc::SIGKILL)
            .ignored("the process may have ended already");
        self.reap_helper(helper, source);
    }

    /// As [`Self::kill_helper`], of one that the kernel may not let go of at once: it is not
    /// waited for longer than a moment, and is a zombie then until this process ends.
    pub(super) fn abandon_helper(&mut self, helper: &Helper, source: &Source) {
        const MOMENT_MS: u16 = 1000;
        sys::pidfd_send_signal(helper.pidfd.as_fd(), libc::SIGKILL)
            .ignored("the process may have ended already");
        self.events.unwatch(&helper.pipe, source);
        let mut fds = [nix::poll::PollFd::new(
            helper.pidfd.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        if nix::poll::poll(&mut fds, MOMENT_MS).is_ok_and(|n| n > 0) {
            sys::wait_pidfd(helper.pidfd.as_fd()).ignored("nothing depends on how it ended");
        }
    }
}
