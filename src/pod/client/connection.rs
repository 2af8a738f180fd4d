//! Talks with the monitor of one Pod.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::linux::socket::Packets;
use crate::pod::monitor;
use crate::pod::protocol::{MAX_MESSAGE, Reply, Request};
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// One request to a monitor and its replies.
#[derive(Debug)]
pub(crate) struct Connection(Packets, PathBuf);

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Connection {
    /// Connects to the Pod's monitor, starting a new one if it is dead.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the Pod is gone.
    pub(crate) fn open(layout: &Layout, uid: &str) -> Result<Self> {
        let paths = layout.pod(uid);
        let mut tries = 0;
        loop {
            match Packets::connect(&paths.monitor_socket()) {
                Ok(packets) => return Ok(Connection(packets, paths.dir)),
                Err(e) if !paths.dir.exists() => {
                    return Err(e.with_kind(Kind::NotFound).push_context("the Pod is gone"));
                }
                Err(e) if tries >= 100 => return Err(e.push_context("reach the Pod's monitor")),
                Err(_) => {}
            }
            // Whoever wins the lock binds the socket before the monitor lives; the
            // losers have no event to wait for.
            monitor::start(layout, uid)?;
            if tries > 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            tries += 1;
        }
    }

    /// The Pod's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.1
    }

    /// A monitor that is dead by now is no error here: it is met as one that
    /// closes without a reply, whether it died before the request or after.
    pub(crate) fn send(&self, request: &Request, fds: &[BorrowedFd]) -> Result<()> {
        let bytes = serde_json::to_vec(request)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(Error::invalid(format!(
                "the request has {} bytes, {MAX_MESSAGE} at most",
                bytes.len()
            )));
        }
        match self.0.send(&bytes, fds) {
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(e) => Err(Error::sys("sendmsg(<monitor>)", e)),
        }
    }

    /// The next reply and its fds; `None` when the monitor has closed.
    ///
    /// # Errors
    /// [`Kind::Timeout`] if nothing comes in time.
    pub(crate) fn recv(&self, timeout: Option<Duration>) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
        let limit = match timeout {
            Some(t) => PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Ok(0) => {
                return Err(Error::new(
                    Kind::Timeout,
                    "timed out waiting for the monitor",
                ));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => return Err(Error::from(Errno::EINTR)),
            Err(e) => return Err(Error::sys("poll()", e)),
        }
        let mut buffer = vec![0; MAX_MESSAGE];
        match self.0.receive(&mut buffer) {
            Ok(([], _)) | Err(Errno::ECONNRESET) => Ok(None),
            Ok((bytes, fds)) => Ok(Some((serde_json::from_slice(bytes)?, fds))),
            Err(e) => Err(Error::sys("recvmsg(<monitor>)", e)),
        }
    }
}
