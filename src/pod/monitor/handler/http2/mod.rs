//! HTTP/2 as far as a probe needs it (RFC 9113): a connection with one request, which has
//! the stream 1. Bytes in, bytes out, no socket; with TLS or without ("prior knowledge") is
//! the caller's affair.
//!
//! What the server may send without being asked is answered or passed over: SETTINGS, PING,
//! WINDOW_UPDATE, PRIORITY, GOAWAY that spares the stream. All else that the protocol forbids
//! ends the connection, and is told as an error. Bounds: [`frame::MOST`],
//! [`hpack::LIST_MOST`], [`BODY_MOST`], [`FRAMES_MOST`].

mod frame;
mod hpack;
mod huffman;

use frame::Frame;

/// A request has the first stream of a client.
const STREAM: u32 = 1;
/// Bytes of an answer's body that are taken: the answer is whole then.
pub(crate) const BODY_MOST: usize = 10 << 10;
/// Frames of an answer. A body of one byte in each comes to its bound before.
const FRAMES_MOST: u32 = 16 << 10;
/// Bytes of a request's body: the window that a server gives where it says nothing.
pub(crate) const SENT_MOST: usize = 65_535;

#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub scheme: &'a str,
    pub authority: &'a str,
    pub path: &'a str,
    pub fields: &'a [(String, String)],
    /// At most [`SENT_MOST`].
    pub body: &'a [u8],
}

#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// A field of the header or, in its place, of the trailers.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.trailers.iter().chain(&self.fields);
        all.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub enum Fault {
    /// It is no HTTP/2.
    Broken(&'static str),
    /// The server has given the request up, with this error code.
    Reset(u32),
    GoAway(u32),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Broken(why) => write!(f, "the answer is not HTTP/2: {why}"),
            Fault::Reset(code) => write!(
                f,
                "the server ended the request by RST_STREAM({})",
                frame::error_name(*code)
            ),
            Fault::GoAway(code) => write!(
                f,
                "the server ended the connection by GOAWAY({})",
                frame::error_name(*code)
            ),
        }
    }
}

impl From<&'static str> for Fault {
    fn from(why: &'static str) -> Self {
        Fault::Broken(why)
    }
}

#[derive(Debug)]
pub struct Connection {
    to_send: Vec<u8>,
    received: Vec<u8>,
    decoder: hpack::Decoder,
    frames: u32,
    /// The server's SETTINGS have come, as the first of all.
    settled: bool,
    /// A block of header fields that is not whole, and whether the stream ends with it.
    block: Option<(Vec<u8>, bool)>,
    answer: Option<Answer>,
    ended: bool,
}

impl Connection {
    pub fn new(request: &Request) -> Self {
        let mut to_send = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // ENABLE_PUSH: none. MAX_HEADER_LIST_SIZE.
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 6];
        settings.extend_from_slice(&(hpack::LIST_MOST as u32).to_be_bytes());
        frame::write(&mut to_send, frame::SETTINGS, 0, 0, &settings);
        write_header(&mut to_send, request);
        let mut rest = request.body.chunks(frame::MOST).peekable();
        while let Some(chunk) = rest.next() {
            let flags = match rest.peek() {
                Some(_) => 0,
                None => frame::END_STREAM,
            };
            frame::write(&mut to_send, frame::DATA, flags, STREAM, chunk);
        }
        Connection {
            to_send,
            received: Vec::new(),
            decoder: hpack::Decoder::default(),
            frames: 0,
            settled: false,
            block: None,
            answer: None,
            ended: false,
        }
    }

    /// What is to be sent now.
    pub fn take_to_send(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_send)
    }

    /// Reads bytes that have come; the answer if it is whole.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Fault> {
        self.received.extend_from_slice(bytes);
        if !self.settled && self.received.starts_with(b"HTTP/") {
            return Err("the server speaks HTTP/1".into());
        }
        let received = std::mem::take(&mut self.received);
        let mut rest = received.as_slice();
        while let Some(frame) = Frame::read(rest)? {
            rest = &rest[frame.len()..];
            self.frames += 1;
            if self.frames > FRAMES_MOST {
                return Err("it has too many frames".into());
            }
            self.read(&frame)?;
            if self.ended {
                return Ok(self.answer.take());
            }
        }
        self.received = rest.to_vec();
        Ok(None)
    }

    fn read(&mut self, frame: &Frame) -> Result<(), Fault> {
        if !self.settled && (frame.kind != frame::SETTINGS || frame.has(frame::ACK)) {
            return Err("it does not begin with SETTINGS".into());
        }
        if self.block.is_some() && frame.kind != frame::CONTINUATION {
            return Err("another frame comes within a header".into());
        }
        let of_connection = matches!(frame.kind, frame::SETTINGS | frame::PING | frame::GOAWAY);
        let of_stream = matches!(
            frame.kind,
            frame::DATA | frame::HEADERS | frame::CONTINUATION | frame::RST_STREAM
        );
        if (of_connection && frame.stream != 0) || (of_stream && frame.stream != STREAM) {
            return Err("a frame is of another stream".into());
        }
        let fixed = match frame.kind {
            frame::PING => Some(8),
            frame::RST_STREAM | frame::WINDOW_UPDATE => Some(4),
            frame::PRIORITY => Some(5),
            _ => None,
        };
        if fixed.is_some_and(|length| frame.payload.len() != length) {
            return Err("a frame has not its length".into());
        }
        match frame.kind {
            frame::SETTINGS => self.settings(frame)?,
            frame::PING if !frame.has(frame::ACK) => {
                frame::write(&mut self.to_send, frame::PING, frame::ACK, 0, frame.payload);
            }
            frame::GOAWAY => {
                let code = frame
                    .payload
                    .get(4..8)
                    .ok_or("a frame has not its length")?;
                if frame::number(frame.payload) < STREAM {
                    return Err(Fault::GoAway(code_of(code)));
                }
            }
            frame::RST_STREAM => return Err(Fault::Reset(code_of(frame.payload))),
            frame::PUSH_PROMISE => return Err("it pushes, which it was told not to".into()),
            frame::HEADERS => {
                let ends = frame.has(frame::END_STREAM);
                self.block = Some((frame.content()?.to_vec(), ends));
                self.block_grew(frame)?;
            }
            frame::CONTINUATION => {
                let (block, _) = self.block.as_mut().ok_or("a header without beginning")?;
                block.extend_from_slice(frame.payload);
                self.block_grew(frame)?;
            }
            frame::DATA => self.data(frame)?,
            _ => {}
        }
        Ok(())
    }

    /// What they say matters to who sends more than one request.
    fn settings(&mut self, frame: &Frame) -> Result<(), Fault> {
        let is_ack = frame.has(frame::ACK);
        if (is_ack && !frame.payload.is_empty()) || !frame.payload.len().is_multiple_of(6) {
            return Err("a frame has not its length".into());
        }
        self.settled = true;
        if !is_ack {
            frame::write(&mut self.to_send, frame::SETTINGS, frame::ACK, 0, &[]);
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame) -> Result<(), Fault> {
        let answer = self.answer.as_mut().ok_or("a body without a header")?;
        let content = frame.content()?;
        let room = BODY_MOST - answer.body.len();
        let is_full = content.len() >= room;
        answer
            .body
            .extend_from_slice(&content[..content.len().min(room)]);
        self.ended = is_full || frame.has(frame::END_STREAM);
        // Padding counts as well.
        let length = (frame.payload.len() as u32).to_be_bytes();
        if frame.payload.is_empty() || self.ended {
            return Ok(());
        }
        for stream in [0, STREAM] {
            frame::write(&mut self.to_send, frame::WINDOW_UPDATE, 0, stream, &length);
        }
        Ok(())
    }

    /// A part of a block of header fields has come.
    fn block_grew(&mut self, frame: &Frame) -> Result<(), Fault> {
        let is_whole = frame.has(frame::END_HEADERS);
        match &self.block {
            Some((block, _)) if block.len() > hpack::LIST_MOST => {
                return Err("its header has more than 64 KiB".into());
            }
            Some(_) if !is_whole => return Ok(()),
            _ => {}
        }
        let Some((block, ends)) = self.block.take() else {
            return Ok(());
        };
        let fields = self.decoder.decode(&block)?;
        let fields: Vec<(String, String)> = fields
            .into_iter()
            .map(|(name, value)| (text(&name), text(&value)))
            .collect();
        match &mut self.answer {
            None => {
                let status = status_of(&fields)?;
                match (status, ends) {
                    (100..200, true) => return Err("it ends before its status".into()),
                    // Another header follows.
                    (100..200, false) => return Ok(()),
                    _ => {}
                }
                self.answer = Some(Answer {
                    status,
                    fields,
                    ..Answer::default()
                });
            }
            Some(_) if !ends => return Err("it has two headers".into()),
            Some(answer) => answer.trailers = fields,
        }
        self.ended = ends;
        Ok(())
    }
}

fn write_header(to: &mut Vec<u8>, request: &Request) {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", request.method),
        (":scheme", request.scheme),
        (":authority", request.authority),
        (":path", request.path),
    ] {
        hpack::write(&mut block, name, value);
    }
    for (name, value) in request.fields {
        // HTTP/2 has other means for these, and its names are small letters (RFC 9113, 8.2).
        const NOT_HERE: [&str; 6] = [
            "connection",
            "host",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ];
        let name = name.to_ascii_lowercase();
        if !NOT_HERE.contains(&name.as_str()) {
            hpack::write(&mut block, &name, value.trim());
        }
    }
    let mut kind = frame::HEADERS;
    let mut rest = block.chunks(frame::MOST).peekable();
    while let Some(chunk) = rest.next() {
        let mut flags = match rest.peek() {
            Some(_) => 0,
            None => frame::END_HEADERS,
        };
        if kind == frame::HEADERS && request.body.is_empty() {
            flags |= frame::END_STREAM;
        }
        frame::write(to, kind, flags, STREAM, chunk);
        kind = frame::CONTINUATION;
    }
}

fn status_of(fields: &[(String, String)]) -> Result<u16, &'static str> {
    let mut found = fields.iter().filter(|(name, _)| name == ":status");
    match (found.next(), found.next()) {
        (Some((_, status)), None)
            if status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit()) =>
        {
            status.parse().map_err(|_| "it has no status")
        }
        _ => Err("it has no status"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All 32 bits.
fn code_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
