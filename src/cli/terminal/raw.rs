//! The caller's terminal in raw mode, and given back as it was on every way
//! out: termios(3), signalfd(2).

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::linux::terminal::Raw;
use crate::{Error, Ignored, Result};

/// stdin in raw mode, which must be a terminal.
pub(crate) fn raw() -> Result<Raw> {
    match std::io::stdin().is_terminal() {
        true => Raw::enter(),
        false => Err(Error::usage(
            "Unable to use a TTY - input is not a terminal or the right kind of file",
        )
        .hint("leave -t out when stdin is a pipe or a file")),
    }
}

/// Signals as readable events, so that the way out is always the same one.
pub(crate) struct Signals(SignalFd, SigSet);

/// They have their usual effect again.
impl Drop for Signals {
    fn drop(&mut self) {
        self.1
            .thread_unblock()
            .ignored("sigprocmask(2) refuses only wrong arguments");
    }
}

pub(crate) enum Wake {
    Resized,
    End(i32),
}

impl Signals {
    /// Blocks what it delivers. To be called after the last child was started:
    /// the mask would be theirs too.
    pub(crate) fn new() -> Result<Self> {
        let mut set = SigSet::empty();
        for s in [
            Signal::SIGWINCH,
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
        ] {
            set.add(s);
        }
        set.thread_block()
            .map_err(|e| Error::sys("sigprocmask(SIG_BLOCK)", e))?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(|fd| Signals(fd, set))
            .map_err(|e| Error::sys("signalfd4(...)", e))
    }

    pub(crate) fn take(&self) -> Option<Wake> {
        let n = self.0.read_signal().ok().flatten()?.ssi_signo as i32;
        Some(match n == Signal::SIGWINCH as i32 {
            true => Wake::Resized,
            false => Wake::End(n),
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
