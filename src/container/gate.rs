//! Where a created container waits for `start`: a socket that its first process
//! listens at (unix(7), SOCK_SEQPACKET), in the record's directory.
//!
//! `start` connects, takes the socket's file away, says go, and hears how it went
//! like any commander: a refusal of execve(2) is its error, not a mystery. The file
//! says "created" to everybody else; between its end and that message lies nothing that
//! can fail, and if `start` dies there, the container ends with it instead of
//! waiting for ever.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use super::channel::{Channel, wait_for_go};
use crate::linux::socket::{Packets, listen_at};
use crate::sys::fd;
use crate::{Error, Result};

/// For the parent, before the clone.
pub(crate) fn build(path: &Path) -> Result<OwnedFd> {
    listen_at(path)
}

/// The child's side. Whoever connects and leaves without a message has died.
pub(super) fn wait(listener: BorrowedFd) -> Result<Packets> {
    let channel = loop {
        match fd::accept(listener, SockFlag::empty()) {
            Ok(fd) => break Packets::from(fd),
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(e) => return Err(Error::sys("accept4(<gate>)", e)),
        }
    };
    wait_for_go(&channel)?;
    Ok(channel)
}

/// The side of `start`: connected, and the file gone. `pid` is the process that waits.
///
/// # Errors
/// ENOENT: it was opened before. ECONNREFUSED: nobody waits there any more.
pub(crate) fn open(path: &Path, pid: i32) -> Result<Channel> {
    let channel = Packets::connect(path)?;
    std::fs::remove_file(path)?;
    Ok(Channel::new(channel, pid))
}
