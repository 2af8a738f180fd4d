//! dnotify: F_NOTIFY of fcntl(2). Older than inotify(7), it takes no instance of
//! fs.inotify.max_user_instances, of which a user has 128.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// linux/fcntl.h
const DN_DELETE: u32 = 0x0000_0008;
const DN_CREATE: u32 = 0x0000_0004;
const DN_RENAME: u32 = 0x0000_0010;
const DN_MULTISHOT: u32 = 0x8000_0000;

/// Sends the process SIGIO at each entry that goes from a directory, or is renamed, as
/// long as the fd is open.
pub(crate) fn signal_at_deletions(dir: BorrowedFd) -> nix::Result<()> {
    signal_at(dir, DN_DELETE)
}

/// As [`signal_at_deletions`], and at each that comes or takes another's place.
pub(crate) fn signal_at_changes(dir: BorrowedFd) -> nix::Result<()> {
    signal_at(dir, DN_CREATE | DN_DELETE | DN_RENAME)
}

fn signal_at(dir: BorrowedFd, events: u32) -> nix::Result<()> {
    let events = events | DN_MULTISHOT;
    // SAFETY: fcntl with F_NOTIFY takes a number and touches no memory.
    Errno::result(unsafe { libc::fcntl(dir.as_raw_fd(), libc::F_NOTIFY, events) }).map(drop)
}
