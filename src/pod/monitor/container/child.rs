//! A process in a container, from its clone to its end: the container's first one, an
//! exec's, a hook's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;

use crate::container::channel::{Started, Starting};
use crate::linux::procfs::Stat;
use crate::pod::monitor::events::{Events, Source};
use crate::sys::process as sys;
use crate::{Error, Ignored, Result};

#[derive(Debug)]
pub(in crate::pod::monitor) enum Child {
    /// Between clone3(2) and execve(2).
    Starting(Starting),
    /// It has said why it cannot become the program, and has not been reaped.
    Failing {
        pidfd: OwnedFd,
        why: Error,
    },
    Running {
        pidfd: OwnedFd,
    },
    /// Started by an earlier monitor: the kernel tells its end to its new parent alone.
    Adopted {
        pidfd: OwnedFd,
        pid: i32,
        pid_start: u64,
    },
}

/// What has become of a child.
#[derive(Debug)]
pub(in crate::pod::monitor) enum Progress {
    Nothing,
    /// It is the program now. A terminal's master comes along.
    Runs(Option<OwnedFd>),
    /// It could not become the program, and is gone.
    Failed(Error),
    /// It is gone, with this status of wait(2); `None`: nobody was told.
    Ended(Option<i32>),
}

impl Child {
    /// A child that has just been cloned.
    pub(in crate::pod::monitor) fn new(
        starting: Starting,
        events: &mut Events,
        source: Source,
    ) -> Result<Self> {
        events.watch(&starting, EpollFlags::EPOLLIN, source)?;
        Ok(Child::Starting(starting))
    }

    pub(in crate::pod::monitor) fn adopted(
        pidfd: OwnedFd,
        (pid, pid_start): (i32, u64),
        events: &mut Events,
        source: Source,
    ) -> Result<Self> {
        events.watch(&pidfd, EpollFlags::EPOLLIN, source)?;
        Ok(Child::Adopted {
            pidfd,
            pid,
            pid_start,
        })
    }

    /// Looks what has become of it; returns it as long as it is there. `source` is the one
    /// that it was made with.
    pub(in crate::pod::monitor) fn follow(
        self,
        events: &mut Events,
        source: &Source,
    ) -> (Option<Self>, Progress) {
        let progress = match &self {
            Child::Starting(_) => return self.follow_start(events, source),
            Child::Failing { pidfd, why } => match sys::wait_pidfd(pidfd.as_fd()) {
                Ok(None) => Progress::Nothing,
                _ => Progress::Failed(why.clone()),
            },
            Child::Running { pidfd } => match sys::wait_pidfd(pidfd.as_fd()) {
                Ok(None) => Progress::Nothing,
                Ok(status) => Progress::Ended(status),
                Err(_) => Progress::Ended(None),
            },
            Child::Adopted {
                pidfd,
                pid,
                pid_start,
            } => Progress::Ended(exit_status(*pid, *pid_start, pidfd.as_fd())),
        };
        if matches!(progress, Progress::Nothing) {
            return (Some(self), progress);
        }
        events.unwatch(self.pidfd(), source);
        (None, progress)
    }

    fn follow_start(self, events: &mut Events, source: &Source) -> (Option<Self>, Progress) {
        let Child::Starting(mut starting) = self else {
            return (Some(self), Progress::Nothing);
        };
        let started = starting.progress();
        if matches!(started, Started::NotYet) {
            return (Some(Child::Starting(starting)), Progress::Nothing);
        }
        // From here on its end is awaited.
        events.unwatch(&starting, source);
        let pidfd = starting.pidfd;
        if let Err(e) = events.watch(&pidfd, EpollFlags::EPOLLIN, source.clone()) {
            // Nobody would notice its end.
            sys::kill_and_reap(pidfd.as_fd());
            return (None, Progress::Failed(e));
        }
        match started {
            Started::Running(terminal) => {
                (Some(Child::Running { pidfd }), Progress::Runs(terminal))
            }
            Started::Failed(why) => {
                // It exits by itself, unless a process of the container that sees it has
                // stopped it: nothing stops this signal.
                sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)
                    .ignored("the process may have ended already");
                (Some(Child::Failing { pidfd, why }), Progress::Nothing)
            }
            Started::NotYet => (None, Progress::Nothing),
        }
    }

    pub(in crate::pod::monitor) fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Child::Starting(starting) => starting.pidfd.as_fd(),
            Child::Failing { pidfd, .. }
            | Child::Running { pidfd }
            | Child::Adopted { pidfd, .. } => pidfd.as_fd(),
        }
    }

    /// In the host's pid namespace; 0 of one whose start is over.
    pub(in crate::pod::monitor) fn pid(&self) -> i32 {
        match self {
            Child::Starting(starting) => starting.pid.as_raw(),
            Child::Adopted { pid, .. } => *pid,
            Child::Failing { .. } | Child::Running { .. } => 0,
        }
    }

    /// Whether it is the program that it was cloned for.
    pub(in crate::pod::monitor) fn runs(&self) -> bool {
        matches!(self, Child::Running { .. } | Child::Adopted { .. })
    }

    pub(in crate::pod::monitor) fn send(&self, signal: i32) {
        sys::pidfd_send_signal(self.pidfd(), signal)
            .ignored("that it has ended (ESRCH) its pidfd says next");
    }
}

/// How a process ended that is not our child, once its pidfd says that it has: a
/// zombie that its parent has not reaped yet shows its status in /proc, and a
/// reaped one in its pidfd (Linux 6.15). `None`: it was reaped and the kernel does
/// not tell.
fn exit_status(pid: i32, pid_start: u64, pidfd: BorrowedFd) -> Option<i32> {
    if let Some(status) = zombie_status(pid, pid_start) {
        return Some(status);
    }
    for _ in 0..100 {
        match sys::pidfd_exit_status(pidfd) {
            Ok(Some(status)) => return Some(status),
            Ok(None) => {
                // Between its death and its reaping. POLLHUP is the event of the
                // latter.
                let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLHUP)];
                poll(&mut fds, PollTimeout::from(10_u8)).ignored("the next turn asks again");
            }
            Err(_) => return None,
        }
    }
    None
}

pub(in crate::pod::monitor) fn zombie_status(pid: i32, pid_start: u64) -> Option<i32> {
    let stat = Stat::of(pid).filter(|s| s.ended && s.start == pid_start)?;
    Some(stat.exit_code)
}
