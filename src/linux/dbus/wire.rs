//! D-Bus messages as bytes (D-Bus specification, "Message Protocol"): as much of
//! the format as a dozen calls to systemd and firewalld need. Little-endian both
//! ways: services speak their machine's order, and we are on it.
//!
//! What is read came from PID 1, the bus daemon or firewalld, and is checked all the same: a
//! length is compared with what is there before it is believed.

use crate::{Error, Result};

/// A value as systemd's properties have it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Str(String),
    Bool(bool),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Strs(Vec<String>),
    U32s(Vec<u32>),
    Bytes(Vec<u8>),
    /// Command lines, as `ExecStop` takes them: the program is the first word.
    Commands(Vec<Vec<String>>),
}

impl Value {
    pub fn signature(&self) -> &'static str {
        match self {
            Value::Str(_) => "s",
            Value::Bool(_) => "b",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::F64(_) => "d",
            Value::Strs(_) => "as",
            Value::U32s(_) => "au",
            Value::Bytes(_) => "ay",
            Value::Commands(_) => "a(sasb)",
        }
    }
}

/// A property and its value.
pub(crate) type Property = (String, Value);

pub(crate) const CALL: u8 = 1;
pub(crate) const RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;

/// A flag of calls: a service that does not run is not started for them.
const NO_AUTO_START: u8 = 2;

/// Header fields by number.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// No reply of systemd's that is read here is a thousandth of this.
pub(crate) const LONGEST: usize = 1 << 20;

/// Bytes under construction. Alignment counts from the start, which for a body is
/// as good as from the message's: it starts at a multiple of 8.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
    fn u32(&mut self, n: u32) {
        self.align(4);
        self.0.extend(n.to_le_bytes());
    }
    fn eight(&mut self, bytes: [u8; 8]) {
        self.align(8);
        self.0.extend(bytes);
    }
    pub(crate) fn bool(&mut self, on: bool) {
        self.u32(on.into());
    }
    pub(crate) fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }
    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length counts from the first element, behind the padding to it.
    fn array<T>(&mut self, element: usize, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(element);
        let start = self.0.len();
        for item in items {
            write(self, item);
        }
        let n = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&n.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Str(s) => self.string(s),
            Value::Bool(b) => self.bool(*b),
            Value::I32(n) => self.u32(*n as u32),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.eight(n.to_le_bytes()),
            Value::U64(n) => self.eight(n.to_le_bytes()),
            Value::F64(n) => self.eight(n.to_le_bytes()),
            Value::Strs(all) => self.array(4, all, |w, s| w.string(s)),
            Value::U32s(all) => self.array(4, all, |w, n| w.u32(*n)),
            Value::Bytes(all) => self.array(1, all, |w, b| w.0.push(*b)),
            // (program, its whole argv, whether its failure is ignored)
            Value::Commands(all) => self.array(8, all, |w, argv| {
                w.align(8);
                w.string(argv.first().map_or("", String::as_str));
                w.array(4, argv, |w, s| w.string(s));
                w.bool(false);
            }),
        }
    }

    /// `a(sv)`
    pub(crate) fn properties(&mut self, all: &[Property]) {
        self.array(8, all, |w, (name, value)| {
            w.align(8);
            w.string(name);
            w.variant(value);
        });
    }

    /// `a(sa(sv))`, without any: the auxiliary units of a transient one.
    pub(crate) fn no_units(&mut self) {
        self.array(8, &[] as &[()], |_, ()| {});
    }
}

/// A method call of ours.
#[derive(Debug)]
pub(crate) struct Call<'t> {
    pub destination: Option<&'t str>,
    pub path: &'t str,
    pub interface: &'t str,
    pub member: &'t str,
    pub signature: &'t str,
    pub body: Writer,
}

impl Call<'_> {
    pub(crate) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut w = Writer(vec![b'l', CALL, NO_AUTO_START, 1]);
        w.u32(self.body.0.len() as u32);
        w.u32(serial);
        let mut fields = vec![
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
        ];
        fields.extend(self.destination.map(|d| (DESTINATION, "s", d)));
        if !self.signature.is_empty() {
            fields.push((SIGNATURE, "g", self.signature));
        }
        w.array(8, &fields, |w, (code, kind, text)| {
            w.align(8);
            w.0.push(*code);
            w.signature(kind);
            match *kind {
                "g" => w.signature(text),
                _ => w.string(text),
            }
        });
        w.align(8);
        w.0.extend(&self.body.0);
        w.0
    }
}

/// A message that came.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub kind: u8,
    pub member: String,
    pub error: String,
    pub reply_to: u32,
    pub signature: String,
    body: Vec<u8>,
}

/// How long the message is that starts with these 16 bytes.
pub(crate) fn length(head: &[u8; 16]) -> Result<usize> {
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if (head[0], head[3]) != (b'l', 1) {
        return Err(bad("neither little-endian nor of version 1"));
    }
    let (body, fields) = (word(4) as usize, word(12) as usize);
    match body < LONGEST && fields < LONGEST {
        true => Ok((16 + fields).next_multiple_of(8) + body),
        false => Err(bad("too long")),
    }
}

fn bad(what: &str) -> Error {
    Error::failed(format!("D-Bus message: {what}"))
}

impl Message {
    /// `bytes` is a whole message, of the [`length`] that its start tells.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Message> {
        let mut r = Reader { bytes, at: 12 };
        let mut m = Message {
            kind: *bytes.get(1).ok_or_else(|| bad("cut short"))?,
            ..Message::default()
        };
        let end = r.u32()? as usize + 16;
        while r.at < end {
            r.align(8);
            let code = r.take(1)?[0];
            let kind = r.signature()?;
            let mut text = String::new();
            let mut number = 0;
            match kind.as_str() {
                "s" | "o" => text = r.string()?,
                "g" => text = r.signature()?,
                "u" => number = r.u32()?,
                _ => return Err(bad("a header field of an unknown type")),
            }
            match code {
                MEMBER => m.member = text,
                ERROR_NAME => m.error = text,
                REPLY_SERIAL => m.reply_to = number,
                SIGNATURE => m.signature = text,
                _ => {}
            }
        }
        r.align(8);
        m.body = bytes.get(r.at..).unwrap_or_default().to_vec();
        Ok(m)
    }

    /// The body's leading values, which have to be of these types: strings and
    /// object paths as they are, numbers in decimal, a variant that holds one of
    /// these as that.
    pub(crate) fn texts(&self, signature: &str) -> Result<Vec<String>> {
        if !self.signature.starts_with(signature) {
            return Err(bad("another signature than expected"));
        }
        let mut r = Reader {
            bytes: &self.body,
            at: 0,
        };
        let one = |c| match c {
            'v' => match r.signature()?.as_str() {
                "u" => r.u32().map(|n| n.to_string()),
                "s" | "o" => r.string(),
                _ => Err(bad("a variant of another type than expected")),
            },
            'u' => r.u32().map(|n| n.to_string()),
            _ => r.string(),
        };
        signature.chars().map(one).collect()
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }
    fn take(&mut self, n: usize) -> Result<&'b [u8]> {
        let end = self.at.checked_add(n);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        self.at = self.at.saturating_add(n);
        taken.ok_or_else(|| bad("cut short"))
    }
    fn u32(&mut self) -> Result<u32> {
        self.align(4);
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
    fn text(&mut self, n: usize) -> Result<String> {
        let text = std::str::from_utf8(self.take(n)?).map_err(|_| bad("a text is not UTF-8"))?;
        self.take(1)?;
        Ok(text.to_owned())
    }
    fn string(&mut self) -> Result<String> {
        let n = self.u32()?;
        self.text(n as usize)
    }
    fn signature(&mut self) -> Result<String> {
        let n = self.take(1)?[0];
        self.text(n.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: Writer) -> Vec<u8> {
        let call = Call {
            destination: None,
            path: "/a",
            interface: "b.c",
            member: "D",
            signature: "sa(sv)",
            body,
        };
        call.encode(7)
    }

    #[test]
    fn a_call_byte_by_byte() {
        let mut body = Writer::default();
        body.string("x");
        body.properties(&[
            ("P".into(), Value::U64(258)),
            ("Q".into(), Value::Bool(true)),
        ]);
        let bytes = call(body);
        let head = b"l\x01\x02\x01\x38\x00\x00\x00\x07\x00\x00\x00\x3c\x00\x00\x00";
        assert_eq!(&bytes[..16], head);
        let fields = b"\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00\x00\x00\x00\x00\
                       \x02\x01s\x00\x03\x00\x00\x00b.c\x00\x00\x00\x00\x00\
                       \x03\x01s\x00\x01\x00\x00\x00D\x00\x00\x00\x00\x00\x00\x00\
                       \x08\x01g\x00\x06sa(sv)\x00";
        assert!(bytes[16..].starts_with(&fields[..48]), "{:?}", &bytes[16..]);
        let body = &bytes[bytes.len() - 56..];
        let expected = b"\x01\x00\x00\x00x\x00\x00\x00\
                         \x28\x00\x00\x00\x00\x00\x00\x00\
                         \x01\x00\x00\x00P\x00\x01t\x00\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(&body[..28], &expected[..28]);
        assert_eq!(
            length(bytes[..16].try_into().unwrap()).unwrap(),
            bytes.len()
        );
        let back = Message::decode(&bytes).unwrap();
        assert_eq!(
            (back.member.as_str(), back.signature.as_str()),
            ("D", "sa(sv)")
        );
        assert_eq!(back.texts("s").unwrap(), ["x"]);
    }

    #[test]
    fn commands_and_variants_byte_by_byte() {
        let argv = ["/a", "b"].map(str::to_owned).to_vec();
        let mut body = Writer::default();
        body.properties(&[("E".into(), Value::Commands(vec![argv]))]);
        let expected = b"\x38\0\0\0\0\0\0\0\x01\0\0\0E\0\x07a(sasb)\0\0\
                         \x20\0\0\0\0\0\0\0\x02\0\0\0/a\0\0\
                         \x0e\0\0\0\x02\0\0\0/a\0\0\x01\0\0\0b\0\0\0\0\0\0\0";
        assert_eq!(body.0, expected);

        let mut body = Writer::default();
        body.variant(&Value::Str("active".into()));
        let message = Message {
            signature: "v".into(),
            body: body.0,
            ..Message::default()
        };
        assert_eq!(message.texts("v").unwrap(), ["active"]);
        let mut body = Writer::default();
        body.variant(&Value::Bool(true));
        let message = Message {
            signature: "v".into(),
            body: body.0,
            ..Message::default()
        };
        assert!(message.texts("v").is_err());
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut body = Writer::default();
        body.string("x");
        let bytes = call(body);
        // Whatever one byte or the end is, nothing panics or reads far.
        for cut in 0..bytes.len() {
            let _ = Message::decode(&bytes[..cut]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                if let Ok(m) = Message::decode(&bytes) {
                    let _ = m.texts("s");
                    let _ = m.texts("uoss");
                }
                let _ = length(bytes[..16].try_into().unwrap());
            }
        }
        assert!(length(b"B\x01\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0").is_err());
        assert!(length(b"l\x01\x00\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0").is_err());
    }
}
