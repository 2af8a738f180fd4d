//! Pseudo-terminals: pts(4), ioctl_tty(2).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// TIOCSPTLCK with 0: lets the slave be opened.
pub(crate) fn unlock(master: impl AsFd) -> Result<()> {
    let zero: libc::c_int = 0;
    // SAFETY: the kernel reads one int.
    let n = unsafe {
        libc::ioctl(
            master.as_fd().as_raw_fd(),
            libc::TIOCSPTLCK,
            &raw const zero,
        )
    };
    Errno::result(n).map(drop)
}

/// TIOCGPTPEER: the slave, opened through its master.
pub(crate) fn peer(master: impl AsFd) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes an integer.
    let n = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    // SAFETY: a new fd that nobody else owns.
    Errno::result(n).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// TIOCSCTTY: the session leader that calls gets this as its controlling terminal.
pub(crate) fn make_controlling(slave: impl AsFd) -> Result<()> {
    // SAFETY: takes an integer.
    let n = unsafe { libc::ioctl(slave.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(n).map(drop)
}
