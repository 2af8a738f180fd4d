//! The Pod's directory, when somebody removes it: `rm -rf` of the root's state.
//!
//! Nobody finds a Pod any more whose record and lock are gone, and no verb would end its
//! containers. So its monitor does, with the Pod's own grace period, and then removes
//! what is left. What cannot be removed by `rm` are the places where something is
//! mounted, namespaces for one; so the sign is the monitor's own lock, which nobody but
//! the monitor ever removes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, fstat};

use super::{Fact, Monitor, Source};
use crate::pod::reason::Reason;
use crate::sys::notify::signal_at_deletions;
use crate::{Error, Result};

/// Tells of each file that goes from the directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    signals: SignalFd,
    _dir: OwnedFd,
}

impl Monitor {
    /// On a kernel without dnotify nothing tells of the removal: `system prune` finds
    /// what is left.
    pub(super) fn watch_directory(&mut self) {
        if self.directory.is_some() {
            return;
        }
        if let Ok(watch) = self.open_directory() {
            self.directory = Some(watch);
        }
        // It may have gone before.
        self.look_for_lock();
    }

    fn open_directory(&mut self) -> Result<DirectoryWatch> {
        let mut io = SigSet::empty();
        io.add(Signal::SIGIO);
        // Containers and other programs begin with an empty mask.
        io.thread_block()
            .map_err(|e| Error::sys("sigprocmask(SIG_BLOCK)", e))?;
        let signals = SignalFd::with_flags(&io, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|e| Error::sys("signalfd()", e))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(&self.paths.dir, flags, Mode::empty())
            .map_err(|e| Error::sys(format!("open({})", self.paths.dir.display()), e))?;
        signal_at_deletions(dir.as_fd()).map_err(|e| Error::sys("fcntl(F_NOTIFY)", e))?;
        self.events
            .watch(&signals, EpollFlags::EPOLLIN, Source::Directory)?;
        Ok(DirectoryWatch { signals, _dir: dir })
    }

    /// The signal does not say which directory has changed: it may be one of objects.
    pub(super) fn on_directory_signal(&mut self) {
        if let Some(watch) = &self.directory {
            while let Ok(Some(_)) = watch.signals.read_signal() {}
        }
        self.look_for_lock();
        self.on_objects_changed();
    }

    fn look_for_lock(&mut self) {
        let is_gone = fstat(&self.lock).is_ok_and(|lock| lock.st_nlink == 0);
        if !is_gone || std::mem::replace(&mut self.abandoned, true) {
            return;
        }
        let grace = Duration::from_secs(self.pod().spec.termination_grace_period);
        self.event(
            true,
            Reason::RecordRemoved,
            format!("{} is gone: the Pod ends", self.paths.dir.display()),
        );
        self.tell(Fact::Delete {
            grace,
            force: false,
        });
    }
}
