//! Fds that arrive as numbers: from fcntl(2), accept4(2), unix(7)'s SCM_RIGHTS, and from
//! the program that started this one.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};

type Result<T> = std::result::Result<T, Errno>;

/// A copy with a number of `least` or more: fcntl(F_DUPFD_CLOEXEC).
pub(crate) fn duplicate(fd: BorrowedFd, least: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer.
    let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    // SAFETY: a new fd, owned by nobody else.
    Errno::result(new).map(|new| unsafe { OwnedFd::from_raw_fd(new) })
}

/// accept4(2); SOCK_CLOEXEC is added to `flags`.
pub(crate) fn accept(listener: BorrowedFd, flags: SockFlag) -> Result<OwnedFd> {
    let new = accept4(listener.as_raw_fd(), flags | SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: a new fd, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// One message: its length, what recvmsg(2) says of it, and its fds.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> Result<(usize, MsgFlags, Vec<OwnedFd>)> {
    // Room for as many as the kernel lets pass (SCM_MAX_FD): of a message that does not
    // fit the fds would be installed, and nobody know their numbers.
    let mut control = nix::cmsg_space!([RawFd; 253]);
    let mut io = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut io, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for c in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = c {
            // SAFETY: the kernel has made them for this process with this message.
            fds.extend(
                raw.into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    Ok((message.bytes, message.flags, fds))
}

/// Takes an fd that the program was started with.
///
/// # Errors
/// EBADF if it is not open, or not one of these: they outlive an exec, and what this
/// program opens does not.
pub(crate) fn inherited(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_GETFD takes no argument.
    match Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })? {
        flags if flags & libc::FD_CLOEXEC != 0 => return Err(Errno::EBADF),
        _ => {}
    }
    // SAFETY: F_SETFD takes an integer.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: open, handed over by whoever started this program, and marked now, so that
    // nobody takes it a second time.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
