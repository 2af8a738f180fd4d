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

use std::cell::Cell;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::{Error, Result, sys};

const HEADER: usize = 16;
/// The most that the kernel puts into one datagram of a dump.
const RECEIVE: usize = 32 << 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_MIN_TYPE: u16 = 16;

pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
/// In an error: the request's own payload is not repeated.
const NLM_F_CAPPED: u16 = 0x100;
/// In an error: attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;

const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

const NETLINK_ADD_MEMBERSHIP: libc::c_int = 1;
const NETLINK_DROP_MEMBERSHIP: libc::c_int = 2;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
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
pub struct Socket {
    fd: OwnedFd,
    sequence: Cell<u32>,
}

impl Socket {
    /// The error carries the errno: EPROTONOSUPPORT where the kernel lacks the family.
    pub fn open(family: Family) -> Result<Self> {
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
        // Both only make errors better; kernels before 4.12 do without.
        for option in [NETLINK_CAP_ACK, NETLINK_EXT_ACK] {
            let _ = sys::netlink::set_option(&fd, option, 1);
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
    pub fn send(&self, batch: Batch) -> Result<Vec<Result<Vec<Reply>>>> {
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
        Ok(outcomes
            .into_iter()
            .map(|o| o.unwrap_or_else(|| Ok(Vec::new())))
            .collect())
    }

    /// As [`send`](Self::send); the first refusal is the error.
    pub fn send_all(&self, batch: Batch) -> Result<()> {
        self.send(batch)?.into_iter().try_for_each(|r| r.map(drop))
    }

    /// One request, its answers.
    pub fn ask(&self, batch: Batch) -> Result<Vec<Reply>> {
        self.send(batch)?.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// A dump. The kernel says if the list changed while it was read; then it is
    /// read again, a few times at most: a busy host is no reason to give up.
    pub fn dump(&self, request: impl Fn(&mut Batch)) -> Result<Vec<Reply>> {
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
pub struct Events(Socket);

impl Events {
    /// As yet nothing is notified.
    pub fn open(family: Family) -> Result<Self> {
        Socket::open(family).map(Events)
    }

    /// Runs `f` with the notifications of a group (`RTNLGRP_LINK`, ...) coming in.
    pub fn during<T>(&self, group: i32, f: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
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

    /// Waits for any notification and forgets it: what it says, the caller asks
    /// for again. `false` once the deadline has passed.
    pub fn wait(&self, deadline: Instant) -> Result<bool> {
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

    fn drain(&self) {
        let mut scrap = [0u8; 16];
        while matches!(
            recv(self.0.fd.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT),
            // An overrun is told once as ENOBUFS, and is a notification too.
            Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS)
        ) {}
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An answer: its message type and what follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub kind: u16,
    pub payload: Vec<u8>,
}

impl Reply {
    const INTERRUPTED: Reply = Reply {
        kind: 0,
        payload: Vec::new(),
    };

    /// The attributes behind a fixed part of `skip` bytes.
    pub fn attributes(&self, skip: usize) -> Attributes<'_> {
        Attributes(self.payload.get(skip..).unwrap_or_default())
    }
}

/// Messages that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Sent>,
}

#[derive(Debug)]
struct Sent {
    offset: usize,
    what: String,
    acknowledged: bool,
}

impl Batch {
    /// Adds a request; NLM_F_REQUEST and NLM_F_ACK are understood. `what` is how
    /// an error names it, as in `RTM_NEWLINK(carob0)`.
    pub fn add(
        &mut self,
        kind: u16,
        flags: u16,
        what: impl Into<String>,
        fill: impl FnOnce(&mut Body),
    ) {
        self.push(kind, flags | NLM_F_REQUEST | NLM_F_ACK, what.into(), fill);
    }

    /// Adds a message that is answered only by a refusal.
    pub fn add_silent(&mut self, kind: u16, what: impl Into<String>, fill: impl FnOnce(&mut Body)) {
        self.push(kind, NLM_F_REQUEST, what.into(), fill);
    }

    fn push(&mut self, kind: u16, flags: u16, what: String, fill: impl FnOnce(&mut Body)) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        fill(&mut Body {
            bytes: &mut self.bytes,
        });
        let length = (self.bytes.len() - offset) as u32;
        let header = &mut self.bytes[offset..offset + HEADER];
        header[0..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.messages.push(Sent {
            offset,
            what,
            acknowledged: flags & NLM_F_ACK != 0,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// The inside of a message or of a nested attribute.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// The fixed part that comes before the attributes.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad()
    }

    /// # Panics
    /// If the value exceeds the 65,531 bytes that an attribute holds: a bug of
    /// the caller, who bounds what it sends.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("a netlink attribute is at most 64 KB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad()
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// In the machine's byte order: rtnetlink.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// In the network's byte order: netfilter.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with the NUL that the kernel wants.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body)) -> &mut Self {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        fill(&mut Body { bytes: self.bytes });
        let length =
            u16::try_from(self.bytes.len() - offset).expect("a netlink attribute is at most 64 KB");
        self.bytes[offset..offset + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn pad(&mut self) -> &mut Self {
        // Everything in a batch starts at a multiple of 4, so the whole's length
        // tells the padding of the part.
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Received<'_> {
    /// Of NLMSG_ERROR or NLMSG_DONE: an errno negated, 0 for success.
    fn outcome(&self, what: &str) -> Result<()> {
        let code = self
            .payload
            .first_chunk()
            .map_or(0, |b| -i32::from_ne_bytes(*b));
        if code <= 0 {
            return Ok(());
        }
        let mut call = what.to_owned();
        if let Some(text) = self.kernel_text() {
            let _ = write!(call, ": {text}");
        }
        Err(Error::sys(call, Errno::from_raw(code)))
    }

    /// What the kernel says beyond the errno.
    fn kernel_text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let skip = match self.kind {
            NLMSG_DONE => 4,
            _ if self.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
            _ => {
                let request = self.payload.get(4..8)?.first_chunk()?;
                4 + (u32::from_ne_bytes(*request) as usize).checked_next_multiple_of(4)?
            }
        };
        Attributes(self.payload.get(skip..)?)
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, value)| text(value))
    }
}

/// Walks the messages of a datagram; ends at the first that does not fit.
fn messages_of(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes
            .get(length.checked_next_multiple_of(4)?..)
            .unwrap_or_default();
        Some(Received {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    })
}

/// Walks attributes as (type, value); ends at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, k0, k1] = *self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    }
}

/// A value as text, up to its NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A value as a number in the machine's byte order; `None` if it is too short.
pub fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_messages_and_pads_attributes() {
        let mut batch = Batch::default();
        batch.add(16, NLM_F_CREATE, "first", |m| {
            m.fixed(&[7; 16]).text(3, "eth0").nest(18, |m| {
                m.u8(1, 9).u32(2, 0x0102_0304);
            });
        });
        batch.add_silent(17, "second", |_| {});
        let all: Vec<_> = messages_of(&batch.bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].kind, 16);
        assert_eq!(all[0].flags, NLM_F_CREATE | NLM_F_REQUEST | NLM_F_ACK);
        assert_eq!((all[1].flags, all[1].payload), (NLM_F_REQUEST, &[][..]));
        let attributes: Vec<_> = Attributes(&all[0].payload[16..]).collect();
        assert_eq!(attributes[0], (3, &b"eth0\0"[..]));
        assert_eq!(attributes[1].0, 18);
        let inner: Vec<_> = Attributes(attributes[1].1).collect();
        assert_eq!(inner[0], (1, &[9][..]));
        assert_eq!(number(inner[1].1), Some(0x0102_0304));
    }

    #[test]
    fn damaged_lengths_end_the_walk() {
        // Shorter than its own header, longer than the buffer, and the largest.
        for length in [0u32, 3, 15, 17, 4096, u32::MAX] {
            let mut bytes = vec![0u8; HEADER];
            bytes[0..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages_of(&bytes).count(), 0, "{length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut bytes = vec![0u8; 8];
            bytes[0..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Attributes(&bytes).count(), 0, "{length}");
        }
        for n in 0..4 {
            assert_eq!(Attributes(&vec![1; n]).count(), 0);
        }
    }

    #[test]
    fn the_kernels_words_are_in_the_error() {
        let mut payload = (-libc::EEXIST).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        let mut attributes = Vec::new();
        Body {
            bytes: &mut attributes,
        }
        .u32(2, 40)
        .text(NLMSGERR_ATTR_MSG, "Address already assigned");
        payload.extend_from_slice(&attributes);
        let e = Received {
            kind: NLMSG_ERROR,
            flags: NLM_F_CAPPED | NLM_F_ACK_TLVS,
            sequence: 1,
            payload: &payload,
        }
        .outcome("RTM_NEWADDR(10.0.0.2/24)")
        .unwrap_err();
        assert_eq!(e.errno(), Some(Errno::EEXIST));
        assert_eq!(
            e.to_string(),
            "RTM_NEWADDR(10.0.0.2/24): Address already assigned: EEXIST: File exists"
        );
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
