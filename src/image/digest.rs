//! Content digests (OCI image-spec, descriptor.md), verified while bytes pass.
//!
//! Only sha256: registries and archives in the wild use nothing else, and a
//! digest that cannot be verified must not be accepted.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{Error, Ignored, Result};

/// A sha256 digest: 64 lower-case hexadecimal digits behind `sha256:`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub fn parse(s: &str) -> Result<Self> {
        let Some((algorithm, hex)) = s.split_once(':') else {
            return Err(Error::invalid(format!(
                "the digest {s:?} lacks an algorithm"
            )));
        };
        if algorithm != "sha256" {
            return Err(Error::unsupported(format!(
                "the digest algorithm {algorithm:?} is not supported, only sha256"
            )));
        }
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::invalid(format!(
                "the digest {s:?} is not sha256: and 64 lower-case hexadecimal digits"
            )));
        }
        Ok(Digest(s.to_owned()))
    }

    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&sha2::Sha256::digest(bytes))
    }

    fn from_hash(hash: &[u8]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(7 + 64);
        text.push_str("sha256:");
        for byte in hash {
            write!(text, "{byte:02x}").ignored("a String takes every text");
        }
        Digest(text)
    }

    /// `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits, safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.0
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        Digest::parse(&s)
    }
}

/// Hashes and counts what is read through it, and stops at a bound with an
/// error: a size that was promised, or one that nothing honest reaches.
pub(super) struct HashingReader<R> {
    inner: R,
    hash: sha2::Sha256,
    count: u64,
    limit: u64,
    what: &'static str,
}

impl<R: Read> HashingReader<R> {
    /// `what` names the stream in the error of a passed `limit`.
    pub(super) fn new(inner: R, limit: u64, what: &'static str) -> Self {
        HashingReader {
            inner,
            hash: sha2::Sha256::new(),
            count: 0,
            limit,
            what,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn digest(self) -> Digest {
        Digest::from_hash(&self.hash.finalize())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count += n as u64;
        if self.count > self.limit {
            return Err(io::Error::other(format!(
                "the {} is larger than {} bytes",
                self.what, self.limit
            )));
        }
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_nothing() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(Digest::parse(empty).unwrap().hex(), &empty[7..]);
        assert!(Digest::parse(&empty.to_uppercase()).is_err());
    }

    #[test]
    fn stops_at_the_bound() {
        let mut r = HashingReader::new(&b"abcdef"[..], 5, "blob");
        let e = io::copy(&mut r, &mut io::sink()).unwrap_err();
        assert_eq!(e.to_string(), "the blob is larger than 5 bytes");
    }
}
