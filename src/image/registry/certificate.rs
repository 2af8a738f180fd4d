//! The few fields of an X.509 certificate that rustls does not give (RFC 5280, 4.1),
//! read from its DER (X.690). Nothing is verified here.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;

/// id-kp-serverAuth, 1.3.6.1.5.5.7.3.1.
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// id-ce-extKeyUsage, 2.5.29.37.
const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

const OBJECT_ID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The explicit tags of TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// As [`der_time`] has them, so that they compare.
    pub not_before: String,
    pub not_after: String,
    /// Object identifiers of the extended key usage, if it has one.
    pub purposes: Option<Vec<&'a [u8]>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Fields<'a>> {
        let mut tbs = Der(der).inside(SEQUENCE)?.inside(SEQUENCE)?;
        if tbs.0.first() == Some(&VERSION) {
            tbs.next()?;
        }
        let _serial = tbs.next()?;
        let _algorithm = tbs.next()?;
        let issuer = tbs.inside(SEQUENCE)?.0;
        let mut validity = tbs.inside(SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = tbs.inside(SEQUENCE)?.0;
        let mut purposes = None;
        while !tbs.0.is_empty() {
            let (tag, content) = tbs.next()?;
            if tag == EXTENSIONS {
                purposes = extended_key_usage(Der(content))?;
            }
        }
        Some(Fields {
            issuer,
            subject,
            not_before,
            not_after,
            purposes,
        })
    }
}

/// The outer `None` is of a certificate that cannot be read.
fn extended_key_usage(mut extensions: Der<'_>) -> Option<Option<Vec<&[u8]>>> {
    let mut list = extensions.inside(SEQUENCE)?;
    while !list.0.is_empty() {
        let mut one = list.inside(SEQUENCE)?;
        if one.inside(OBJECT_ID)?.0 != EXT_KEY_USAGE {
            continue;
        }
        // A BOOLEAN, critical, may be before the value.
        let (mut tag, mut value) = one.next()?;
        if tag != OCTET_STRING {
            (tag, value) = one.next()?;
        }
        let mut ids = Der(value)
            .inside(SEQUENCE)
            .filter(|_| tag == OCTET_STRING)?;
        let mut purposes = Vec::new();
        while !ids.0.is_empty() {
            purposes.push(ids.inside(OBJECT_ID)?.0);
        }
        return Some(Some(purposes));
    }
    Some(None)
}

/// A point in time as GeneralizedTime: `YYYYMMDDHHMMSSZ`.
pub(crate) fn der_time(time: UnixTime) -> Option<String> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%Y%m%d%H%M%SZ").to_string())
}

/// Elements of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// A tag and its content. No tag or length that certificates have is longer.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0, |n, b| (n << 8) | usize::from(*b));
                (length, rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    fn inside(&mut self, tag: u8) -> Option<Der<'a>> {
        let (found, content) = self.next()?;
        (found == tag).then_some(Der(content))
    }

    /// In the forms of RFC 5280, 4.1.2.5: with seconds, and in UTC.
    fn time(&mut self) -> Option<String> {
        let (tag, content) = self.next()?;
        let text = std::str::from_utf8(content).ok()?;
        let digits = text.strip_suffix('Z')?;
        let century = match (tag, digits.len()) {
            (UTC_TIME, 12) if *digits < *"50" => "20",
            (UTC_TIME, 12) => "19",
            (GENERALIZED_TIME, 14) => "",
            _ => return None,
        };
        let all = digits.bytes().all(|b| b.is_ascii_digit());
        all.then(|| format!("{century}{text}"))
    }
}
