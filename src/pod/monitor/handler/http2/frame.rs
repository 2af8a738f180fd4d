//! Frames (RFC 9113, 4 and 6): their layout, both ways.

pub(super) const HEADER: usize = 9;
/// Bytes of a frame's payload where no setting says more; ours says nothing, and a server
/// may not say less.
pub(super) const MOST: usize = 1 << 14;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

#[derive(Debug, PartialEq)]
pub(super) struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `bytes`; `None` if it has not come whole.
    ///
    /// # Errors
    /// It is longer than it may be.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Option<Self>, &'static str> {
        let Some(header) = bytes.get(..HEADER) else {
            return Ok(None);
        };
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8;
        let length = length | usize::from(header[2]);
        if length > MOST {
            return Err("a frame has more than 16 KiB");
        }
        let payload = bytes.get(HEADER..HEADER + length);
        Ok(payload.map(|payload| Frame {
            kind: header[3],
            flags: header[4],
            stream: number(&header[5..]),
            payload,
        }))
    }

    /// Its bytes in all.
    pub(super) fn len(&self) -> usize {
        HEADER + self.payload.len()
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload of DATA and HEADERS without padding and priority.
    pub(super) fn content(&self) -> Result<&'a [u8], &'static str> {
        const SHORT: &str = "a frame is shorter than its fields";
        let mut content = self.payload;
        let mut padding = 0;
        if self.has(PADDED) {
            let (first, rest) = content.split_first().ok_or(SHORT)?;
            (padding, content) = (usize::from(*first), rest);
        }
        if self.kind == HEADERS && self.has(WITH_PRIORITY) {
            content = content.get(5..).ok_or(SHORT)?;
        }
        let length = content.len().checked_sub(padding);
        length.map(|n| &content[..n]).ok_or(SHORT)
    }
}

/// The first four bytes as a number of 31 bits; 0 if there are fewer.
pub(super) fn number(bytes: &[u8]) -> u32 {
    let first = bytes.first_chunk().copied();
    u32::from_be_bytes(first.unwrap_or_default()) & 0x7fff_ffff
}

pub(super) fn write(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    debug_assert!(payload.len() <= MOST);
    to.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// An error code's name (RFC 9113, 7).
pub(super) fn error_name(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = NAMES.get(code as usize);
    name.map_or_else(|| format!("error code {code}"), |n| (*n).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, PING, ACK, 0, b"12345678");
        write(&mut bytes, DATA, PADDED, 1, b"\x02ab\0\0");
        let ping = Frame::read(&bytes).unwrap().unwrap();
        assert_eq!((ping.kind, ping.flags, ping.stream), (PING, ACK, 0));
        let rest = &bytes[ping.len()..];
        for cut in 0..rest.len() {
            assert_eq!(Frame::read(&rest[..cut]), Ok(None));
        }
        let data = Frame::read(rest).unwrap().unwrap();
        assert_eq!(data.content(), Ok(&b"ab"[..]));
        assert!(Frame::read(&[0, 0x40, 1, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn padding_is_within_the_payload() {
        let content = |kind, flags, payload: &'static [u8]| {
            let stream = 1;
            Frame {
                kind,
                flags,
                stream,
                payload,
            }
            .content()
        };
        assert_eq!(content(HEADERS, WITH_PRIORITY, b"12345x"), Ok(&b"x"[..]));
        assert_eq!(content(DATA, WITH_PRIORITY, b"12345x"), Ok(&b"12345x"[..]));
        assert!(content(HEADERS, WITH_PRIORITY, b"1234").is_err());
        assert!(content(DATA, PADDED, b"").is_err());
        assert!(content(DATA, PADDED, b"\x02a").is_err());
        assert_eq!(content(DATA, PADDED, b"\x01a"), Ok(&b""[..]));
    }
}
