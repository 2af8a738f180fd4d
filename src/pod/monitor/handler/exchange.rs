//! One question over a TCP connection without TLS: connect, send, receive, never waiting.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getpeername, getsockopt,
    recv, send, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use super::http;
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Exchange {
    socket: OwnedFd,
    to: SocketAddr,
    /// EINPROGRESS while that is open.
    connected: Result<(), Errno>,
    /// `None`: all that is wanted is the connection.
    http: Option<Http>,
}

#[derive(Debug)]
struct Http {
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on when the socket can do this.
    Waits(EpollFlags),
    Over(Outcome),
}

/// What a question has led to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// All that was wanted: a connection, or that a service is SERVING.
    Success,
    Answered {
        status: u16,
        location: Option<String>,
    },
    Failed(String),
    /// The server speaks, but not TLS.
    NotTls(String),
}

impl From<String> for Outcome {
    fn from(why: String) -> Self {
        Outcome::Failed(why)
    }
}

impl Exchange {
    /// Begins to connect. `request`: what is sent then.
    ///
    /// # Errors
    /// There is no socket to be had. That nobody listens is told by
    /// [`progress`](Self::progress).
    pub(super) fn begin(to: SocketAddr, request: Option<Vec<u8>>) -> Result<Self> {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None)
            .map_err(|e| Error::sys("socket(SOCK_STREAM)", e))?;
        let address = SockaddrStorage::from(to);
        let connected = connect(socket.as_raw_fd(), &address);
        Ok(Exchange {
            socket,
            to,
            connected,
            http: request.map(|request| Http {
                request,
                sent: 0,
                answer: Vec::new(),
            }),
        })
    }

    /// Goes as far as the socket lets it.
    pub(super) fn progress(&mut self) -> Progress {
        if self.connected == Err(Errno::EINPROGRESS) {
            self.connected = self.connection();
        }
        match self.connected {
            Ok(()) => {}
            Err(Errno::EINPROGRESS) => return Progress::Waits(EpollFlags::EPOLLOUT),
            Err(e) => return self.failed("connect", e),
        }
        let Some(http) = &mut self.http else {
            return Progress::Over(Outcome::Success);
        };
        let fd = self.socket.as_raw_fd();
        while http.sent < http.request.len() {
            match send(fd, &http.request[http.sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => http.sent += n,
                Err(Errno::EAGAIN) => return Progress::Waits(EpollFlags::EPOLLOUT),
                Err(Errno::EINTR) => {}
                // An answer may have come before the request was read.
                Err(Errno::EPIPE | Errno::ECONNRESET) => http.sent = http.request.len(),
                Err(e) => return self.failed("send", e),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            let ended = match recv(fd, &mut buffer, MsgFlags::empty()) {
                Ok(n) => {
                    http.answer.extend_from_slice(&buffer[..n]);
                    n == 0
                }
                Err(Errno::EAGAIN) => return Progress::Waits(EpollFlags::EPOLLIN),
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) if !http.answer.is_empty() => true,
                Err(e) => return self.failed("recv", e),
            };
            match http::read(&http.answer, ended) {
                http::Answer::Part => {}
                http::Answer::Whole { status, location } => {
                    return Progress::Over(Outcome::Answered { status, location });
                }
                http::Answer::Broken(why) => {
                    return Progress::Over(Outcome::Failed(format!("{}: {why}", self.to)));
                }
            }
        }
    }

    fn connection(&self) -> Result<(), Errno> {
        match getsockopt(&self.socket, sockopt::SocketError)? {
            0 => {}
            e => return Err(Errno::from_raw(e)),
        }
        // ENOTCONN: neither connected nor failed yet.
        getpeername::<SockaddrStorage>(self.socket.as_raw_fd())
            .map(drop)
            .map_err(|_| Errno::EINPROGRESS)
    }

    fn failed(&self, call: &str, e: Errno) -> Progress {
        let why = Error::sys(format!("{call}({})", self.to), e).to_string();
        Progress::Over(Outcome::Failed(why))
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
