//! netlink(7): messages out, acknowledgements and answers in.
//!
//! Owns the framing that rtnetlink(7), nfnetlink and sock_diag(7) share: the
//! header of 16 bytes, attributes (length, type, value, padding to 4), nesting,
//! dumps, and errors with the kernel's own words (NETLINK_EXT_ACK). What the
//! messages mean is their callers' affair. Why not a crate or a program:
//! `docs/decisions/0002-netlink.md`.
//!
//! The kernel handles a request inside sendto(2), so that its answer is queued
//! when sendto returns. A request never waits: an empty queue is an error, and a
//! caller cannot hang. For the same reason a batch of many messages costs one
//! system call to send, and the queue (net.core.rmem_default, some 200 KB) bounds
//! it to about 200 messages.

mod message;

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    socket,
};

pub(crate) use message::*;

use crate::{Error, Ignored, Result, sys};

/// The most that the kernel puts into one datagram of a dump.
const RECEIVE: usize = 32 << 10;

const NETLINK_ADD_MEMBERSHIP: libc::c_int = 1;
const NETLINK_DROP_MEMBERSHIP: libc::c_int = 2;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Route,
    Netfilter,
    SockDiag,
}

impl Family {
    fn protocol(self) -> (SockProtocol, &'static str) {
        match self {
            Family::Route => (SockProtocol::NetlinkRoute, "NETLINK_ROUTE"),
            Family::Netfilter => (SockProtocol::NetlinkNetFilter, "NETLINK_NETFILTER"),
            Family::SockDiag => (SockProtocol::NetlinkSockDiag, "NETLINK_SOCK_DIAG"),
        }
    }
}

/// A netlink socket. It belongs for ever to the network namespace in which it
/// was opened, wherever its process goes afterwards.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: Cell<u32>,
}

impl Socket {
    /// The error carries the errno: EPROTONOSUPPORT where the kernel lacks the family.
    pub(crate) fn open(family: Family) -> Result<Self> {
        let (protocol, name) = family.protocol();
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .map_err(|e| {
            Error::sys(
                format!("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, {name})"),
                e,
            )
        })?;
        for option in [NETLINK_CAP_ACK, NETLINK_EXT_ACK] {
            sys::netlink::set_option(&fd, option, 1)
                .ignored("it only makes errors better; Linux before 4.12 has none");
        }
        Ok(Socket {
            fd,
            sequence: Cell::new(0),
        })
    }

    /// Sends every message of the batch at once and gives each one's outcome, in
    /// order: the kernel goes on after a refusal, except in a netfilter batch,
    /// which takes effect whole or not at all.
    ///
    /// The outer error is of the transport: nothing is known about any message.
    pub(crate) fn send(&self, batch: Batch) -> Result<Vec<Result<Vec<Reply>>>> {
        let Batch {
            mut bytes,
            messages,
        } = batch;
        let first = self.sequence.get().wrapping_add(1);
        for (i, m) in messages.iter().enumerate() {
            let sequence = first.wrapping_add(i as u32);
            bytes[m.offset + 8..m.offset + 12].copy_from_slice(&sequence.to_ne_bytes());
            self.sequence.set(sequence);
        }
        let raw = self.fd.as_raw_fd();
        loop {
            match sendto(raw, &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => {
                    let what = messages.first().map_or("", |m| &m.what);
                    return Err(Error::sys(format!("sendto({what}, ...)"), e));
                }
            }
        }

        let mut outcomes: Vec<Option<Result<Vec<Reply>>>> = Vec::new();
        outcomes.resize_with(messages.len(), || None);
        let mut replies: Vec<Vec<Reply>> = vec![Vec::new(); messages.len()];
        let mut waiting = messages.iter().filter(|m| m.acknowledged).count();
        let mut buffer = vec![0u8; RECEIVE];
        while waiting > 0 {
            let length = match recv(
                raw,
                &mut buffer,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
            ) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(e) => {
                    let what = outcomes
                        .iter()
                        .zip(&messages)
                        .find(|(o, m)| o.is_none() && m.acknowledged)
                        .map_or("", |(_, m)| &m.what);
                    return Err(Error::sys(format!("recv(answer to {what})"), e));
                }
            };
            if length > buffer.len() {
                return Err(Error::failed(format!(
                    "recv(netlink socket): an answer of {length} bytes, at most {RECEIVE} expected"
                )));
            }
            for m in messages_of(&buffer[..length]) {
                // What an earlier batch, given up after an error, left behind.
                let i = m.sequence.wrapping_sub(first) as usize;
                let Some(sent) = messages.get(i) else {
                    continue;
                };
                let outcome = match m.kind {
                    NLMSG_ERROR | NLMSG_DONE => m.outcome(&sent.what),
                    kind if kind < NLMSG_MIN_TYPE => continue,
                    kind => {
                        if m.flags & NLM_F_DUMP_INTR != 0 {
                            replies[i].push(Reply::INTERRUPTED);
                        }
                        replies[i].push(Reply {
                            kind,
                            payload: m.payload.to_vec(),
                        });
                        continue;
                    }
                };
                if !sent.acknowledged {
                    // The frame of a netfilter batch: it speaks only to refuse
                    // the whole, and then perhaps nothing else comes.
                    outcome?;
                    continue;
                }
                if outcomes[i].is_none() {
                    waiting -= 1;
                    outcomes[i] = Some(outcome.map(|()| std::mem::take(&mut replies[i])));
                }
            }
        }
        let outcomes = outcomes
            .into_iter()
            .map(|o| o.unwrap_or_else(|| Ok(Vec::new())));
        let outcomes: Vec<Result<Vec<Reply>>> = outcomes.collect();
        for (sent, outcome) in messages.iter().zip(&outcomes) {
            match outcome {
                Ok(replies) => log::trace!("{} = 0, answers: {}", sent.what, replies.len()),
                Err(e) => log::trace!("{e}"),
            }
        }
        Ok(outcomes)
    }

    /// As [`send`](Self::send); the first refusal is the error.
    pub(crate) fn send_all(&self, batch: Batch) -> Result<()> {
        self.send(batch)?.into_iter().try_for_each(|r| r.map(drop))
    }

    /// One request, its answers.
    pub(crate) fn ask(&self, batch: Batch) -> Result<Vec<Reply>> {
        self.send(batch)?.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// A dump. The kernel says if the list changed while it was read; then it is
    /// read again, a few times at most: a busy host is no reason to give up.
    pub(crate) fn dump(&self, request: impl Fn(&mut Batch)) -> Result<Vec<Reply>> {
        let mut replies = Vec::new();
        for _ in 0..8 {
            let mut batch = Batch::default();
            request(&mut batch);
            replies = self.ask(batch)?;
            if !replies.contains(&Reply::INTERRUPTED) {
                return Ok(replies);
            }
        }
        replies.retain(|r| *r != Reply::INTERRUPTED);
        Ok(replies)
    }
}

/// A socket for notifications, never for requests: those would be mixed up.
#[derive(Debug)]
pub(crate) struct Events(Socket);

impl Events {
    /// As yet nothing is notified.
    pub(crate) fn open(family: Family) -> Result<Self> {
        let socket = Socket::open(family)?;
        // A socket that is not bound has port 0, which is the kernel's own: its
        // notifications pass over their sender.
        bind(socket.fd.as_raw_fd(), &NetlinkAddr::new(0, 0))
            .map_err(|e| Error::sys("bind(netlink socket)", e))?;
        Ok(Events(socket))
    }

    /// Runs `f` with the notifications of a group (`RTNLGRP_LINK`, ...) coming in.
    pub(crate) fn during<T>(&self, group: i32, f: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let set = |option, name| {
            sys::netlink::set_option(&self.0, option, group)
                .map_err(|e| Error::sys(format!("setsockopt(SOL_NETLINK, {name}, {group})"), e))
        };
        set(NETLINK_ADD_MEMBERSHIP, "NETLINK_ADD_MEMBERSHIP")?;
        let result = f(self);
        set(NETLINK_DROP_MEMBERSHIP, "NETLINK_DROP_MEMBERSHIP")?;
        self.drain();
        result
    }

    /// From now on the notifications of a group come in, for good.
    pub(crate) fn subscribe(&self, group: i32) -> Result<()> {
        sys::netlink::set_option(&self.0, NETLINK_ADD_MEMBERSHIP, group).map_err(|e| {
            let call = format!("setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, {group})");
            Error::sys(call, e)
        })
    }

    /// Waits for any notification and forgets it: what it says, the caller asks
    /// for again. `false` once the deadline has passed.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, or the last millisecond would spin.
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::sys("poll(netlink socket, POLLIN)", e)),
            }
        }
        self.drain();
        Ok(true)
    }

    /// Forgets all notifications that have come.
    pub(crate) fn drain(&self) {
        let mut scrap = [0u8; 16];
        while matches!(
            recv(self.0.fd.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT),
            // An overrun is told once as ENOBUFS, and is a notification too.
            Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS)
        ) {}
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_notifies() {
        const RTNLGRP_LINK: i32 = 1;
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let (socket, events) = (
                Socket::open(Family::Route).unwrap(),
                Events::open(Family::Route).unwrap(),
            );
            let soon = || Instant::now() + std::time::Duration::from_secs(1);
            let heard = events.during(RTNLGRP_LINK, |events| {
                let mut batch = Batch::default();
                batch.add(19, 0, "RTM_SETLINK(lo, up)", |m| {
                    m.ifinfomsg(1, libc::IFF_UP as u32);
                });
                socket.send_all(batch)?;
                events.wait(soon())
            });
            assert!(heard.unwrap());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_kernel_answers() {
        let socket = Socket::open(Family::Route).unwrap();
        // RTM_GETLINK of lo, index 1 in every network namespace; then of none.
        let mut batch = Batch::default();
        for index in [1i32, i32::MAX] {
            batch.add(18, 0, format!("RTM_GETLINK({index})"), |m| {
                let mut ifinfomsg = [0u8; 16];
                ifinfomsg[4..8].copy_from_slice(&index.to_ne_bytes());
                m.fixed(&ifinfomsg);
            });
        }
        let answers = socket.send(batch).unwrap();
        let lo = answers[0].as_ref().unwrap();
        let name = lo[0].attributes(16).find(|(k, _)| *k == 3).unwrap();
        assert_eq!(text(name.1), "lo");
        assert_eq!(
            answers[1].as_ref().unwrap_err().errno(),
            Some(Errno::ENODEV)
        );
        let links = socket
            .dump(|b| {
                b.add(18, NLM_F_DUMP, "RTM_GETLINK", |m| {
                    m.fixed(&[0; 16]);
                })
            })
            .unwrap();
        assert!(!links.is_empty());
    }
}
