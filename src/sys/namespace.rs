//! What namespaces tell of themselves: ioctl_ns(2).

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// NS_GET_NSTYPE: its CLONE_NEW* flag. ENOTTY if it is no namespace.
pub(crate) fn kind(fd: BorrowedFd) -> Result<i32, Errno> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: no argument.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) })
}
