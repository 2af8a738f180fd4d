//! The framing: bytes to messages and attributes, and back. Pure; what comes from
//! outside is bounded by its buffer whatever its lengths say.

use std::fmt::Write as _;

use nix::errno::Errno;

use crate::{Error, Ignored, Result};

const HEADER: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_MIN_TYPE: u16 = 16;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
/// In an error: the request's own payload is not repeated.
const NLM_F_CAPPED: u16 = 0x100;
/// In an error: attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;

const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// An answer: its message type and what follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub kind: u16,
    pub payload: Vec<u8>,
}

impl Reply {
    /// Among the answers of a dump: the list changed meanwhile.
    pub(super) const INTERRUPTED: Reply = Reply {
        kind: 0,
        payload: Vec::new(),
    };

    /// The attributes behind a fixed part of `skip` bytes.
    pub(crate) fn attributes(&self, skip: usize) -> Attributes<'_> {
        Attributes(self.payload.get(skip..).unwrap_or_default())
    }
}

/// Messages that go out together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) messages: Vec<Sent>,
}

#[derive(Debug)]
pub(super) struct Sent {
    /// Of the header in the batch.
    pub offset: usize,
    pub what: String,
    pub acknowledged: bool,
}

impl Batch {
    /// Adds a request; NLM_F_REQUEST and NLM_F_ACK are understood. `what` is how
    /// an error names it, as in `RTM_NEWLINK(carob0)`.
    pub(crate) fn add(
        &mut self,
        kind: u16,
        flags: u16,
        what: impl Into<String>,
        fill: impl FnOnce(&mut Body),
    ) {
        self.push(kind, flags | NLM_F_REQUEST | NLM_F_ACK, what.into(), fill);
    }

    /// Adds a message that is answered only by a refusal.
    pub(crate) fn add_silent(
        &mut self,
        kind: u16,
        what: impl Into<String>,
        fill: impl FnOnce(&mut Body),
    ) {
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
}

/// The size of struct ifinfomsg: rtnetlink(7).
pub(crate) const IFINFOMSG: usize = 16;

/// The inside of a message or of a nested attribute.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

/// nla_len. A longer attribute is a bug of the caller, who bounds what it sends.
#[expect(
    clippy::expect_used,
    reason = "a length that is cut would change the message"
)]
fn attribute_length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a netlink attribute is at most 64 KB")
}

impl Body<'_> {
    /// The fixed part that comes before the attributes.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad()
    }

    /// struct ifinfomsg: of link `index`, or 0, with these IFF_* flags set.
    pub(crate) fn ifinfomsg(&mut self, index: u32, set: u32) -> &mut Self {
        let mut head = [0_u8; IFINFOMSG];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        head[8..12].copy_from_slice(&set.to_ne_bytes());
        head[12..16].copy_from_slice(&set.to_ne_bytes());
        self.fixed(&head)
    }

    /// # Panics
    /// If the value exceeds the 65,531 bytes that an attribute holds: a bug of
    /// the caller, who bounds what it sends.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = attribute_length(value.len() + 4);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad()
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// In the machine's byte order: rtnetlink.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// In the network's byte order: netfilter.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with the NUL that the kernel wants.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body)) -> &mut Self {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        fill(&mut Body { bytes: self.bytes });
        let length = attribute_length(self.bytes.len() - offset);
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

pub(super) struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Received<'_> {
    /// Of NLMSG_ERROR or NLMSG_DONE: an errno negated, 0 for success.
    pub(super) fn outcome(&self, what: &str) -> Result<()> {
        let code = self
            .payload
            .first_chunk()
            .map_or(0, |b| -i32::from_ne_bytes(*b));
        if code <= 0 {
            return Ok(());
        }
        let mut call = what.to_owned();
        if let Some(text) = self.kernel_text() {
            write!(call, ": {text}").ignored("a String takes every text");
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
pub(super) fn messages_of(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
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
pub(crate) struct Attributes<'a>(pub &'a [u8]);

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
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A value as a number in the machine's byte order; `None` if it is too short.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
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
}
