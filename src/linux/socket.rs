//! Unix sockets that keep message boundaries and carry fds: SOCK_SEQPACKET with
//! SCM_RIGHTS (unix(7)).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect,
    listen, sendmsg, socket, socketpair,
};

use super::root::{fd_path, open_dir};
use crate::sys::fd;
use crate::{Error, Ignored, Result};

/// The most fds that one message brings.
pub(crate) const MAX_FDS: usize = 8;

/// One end of a connection.
#[derive(Debug)]
pub struct Packets(OwnedFd);

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Packets {
    fn from(fd: OwnedFd) -> Self {
        Packets(fd)
    }
}

impl Packets {
    pub fn pair() -> Result<(Self, Self)> {
        socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map(|(a, b)| (Packets(a), Packets(b)))
        .map_err(|e| Error::sys("socketpair(AF_UNIX, SOCK_SEQPACKET)", e))
    }

    /// A socket path holds 107 bytes at most, so that it is reached through its
    /// directory's fd.
    pub fn connect(path: &Path) -> Result<Self> {
        let (_dir, address) = address(path)?;
        let fd = new_socket()?;
        connect(fd.as_raw_fd(), &address)
            .map_err(|e| Error::sys(format!("connect({})", path.display()), e))?;
        Ok(Packets(fd))
    }

    /// Sends one message whole. The caller is told EAGAIN rather than made to wait
    /// if the fd is non-blocking, EPIPE rather than killed if the peer is gone.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd]) -> Result<(), Errno> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_EOR,
            None,
        )
        .map(drop)
    }

    /// One message and its fds; an empty one when the peer has closed. More bytes
    /// than `buffer` holds are EMSGSIZE.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<(&'b [u8], Vec<OwnedFd>), Errno> {
        let (length, flags, fds) = fd::receive(self.0.as_fd(), buffer)?;
        if flags.contains(MsgFlags::MSG_TRUNC) || fds.len() > MAX_FDS {
            return Err(Errno::EMSGSIZE);
        }
        Ok((&buffer[..length], fds))
    }
}

/// Hands an fd, and bytes that say what it is, to whoever listens at the
/// SOCK_STREAM socket `path`.
pub(crate) fn hand_over(path: &Path, bytes: &[u8], fd: BorrowedFd) -> Result<()> {
    let (_dir, address) = address(path)?;
    let stream = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|e| Error::sys("socket(AF_UNIX, SOCK_STREAM)", e))?;
    connect(stream.as_raw_fd(), &address)
        .map_err(|e| Error::sys(format!("connect({})", path.display()), e))?;
    let fds = [fd.as_raw_fd()];
    let mut sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(|e| Error::sys(format!("sendmsg({}, SCM_RIGHTS)", path.display()), e))?;
    while sent < bytes.len() {
        sent += nix::sys::socket::send(stream.as_raw_fd(), &bytes[sent..], MsgFlags::MSG_NOSIGNAL)
            .map_err(|e| Error::sys(format!("send({})", path.display()), e))?;
    }
    Ok(())
}

/// A socket bound to `path` in one step: whoever connects finds the old one or
/// the new one, never none.
pub(crate) fn listen_at(path: &Path) -> Result<OwnedFd> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::remove_file(&temporary)
        .ignored("mostly there is none; bind() says what is wrong with it");
    let (_dir, address) = address(&temporary)?;
    let fd = new_socket()?;
    let bound = match bind(fd.as_raw_fd(), &address) {
        // No inode is left: the old one's will do, and callers connect a moment later.
        Err(Errno::ENOSPC) if std::fs::remove_file(path).is_ok() => bind(fd.as_raw_fd(), &address),
        other => other,
    };
    bound.map_err(|e| Error::sys(format!("bind({})", temporary.display()), e))?;
    let made = listen(&fd, Backlog::new(64)?)
        .map_err(|e| Error::sys("listen(64)", e))
        .and_then(|()| Ok(std::fs::rename(&temporary, path)?));
    made.inspect_err(|_| {
        std::fs::remove_file(&temporary).ignored("the first error is the one to tell");
    })?;
    Ok(fd)
}

/// The next connection, `None` if none waits (on a non-blocking listener).
pub(crate) fn accept(listener: BorrowedFd) -> Result<Option<Packets>> {
    match fd::accept(listener, SockFlag::SOCK_NONBLOCK) {
        Ok(fd) => Ok(Some(Packets(fd))),
        Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
        Err(e) => Err(Error::sys("accept4()", e)),
    }
}

fn new_socket() -> Result<OwnedFd> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|e| Error::sys("socket(AF_UNIX, SOCK_SEQPACKET)", e))
}

fn address(path: &Path) -> Result<(OwnedFd, UnixAddr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!(
            "{}: no socket's name",
            path.display()
        )));
    };
    let dir = open_dir(parent)?;
    let short = format!("{}/{}", fd_path(dir.as_fd()), name.to_string_lossy());
    let address = UnixAddr::new(short.as_str())?;
    Ok((dir, address))
}
