//! Plain, gzip (RFC 1952) and zstd (RFC 8878) streams, told apart by their
//! first bytes: media types and file names are hints that are often wrong, and
//! the digest of the content decides in the end.
//!
//! Concatenated members and frames are one stream; anything after the last one
//! that is not another is an error.

use std::io::{self, BufRead, BufReader, Read};

use crate::{Context, Result};

/// The largest zstd window taken, as a power of two: 128 MiB, the bound of
/// the reference decoder. RFC 8878 asks for 8 MiB at least.
const MAX_ZSTD_WINDOW: u32 = 27;

const BUFFER: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What the first bytes of a stream say; four are enough.
pub fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame may come first (zstd --adapt, seekable formats).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// A reader of the decompressed bytes. Reading it to its end consumes the
/// source to its end, so that a hash below covers every byte.
pub fn open<'a, R: Read + 'a>(source: R) -> Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    // The first read may be shorter than four bytes (a pipe): gather them.
    let mut head = [0u8; 4];
    let mut have = 0;
    while have < head.len() {
        match source.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let compression = detect(&head[..have]);
    let source = Prefixed {
        head,
        at: 0,
        have,
        rest: source,
    };
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source).context("zstd")?;
            decoder.window_log_max(MAX_ZSTD_WINDOW).context("zstd")?;
            Box::new(decoder)
        }
    })
}

/// Gives back the bytes that were looked at.
struct Prefixed<R> {
    head: [u8; 4],
    at: usize,
    have: usize,
    rest: R,
}

impl<R: BufRead> Read for Prefixed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at < self.have {
            let n = (&self.head[self.at..self.have]).read(buf)?;
            self.at += n;
            return Ok(n);
        }
        self.rest.read(buf)
    }
}

impl<R: BufRead> BufRead for Prefixed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.have {
            Ok(&self.head[self.at..self.have])
        } else {
            self.rest.fill_buf()
        }
    }
    fn consume(&mut self, n: usize) {
        if self.at < self.have {
            self.at += n;
        } else {
            self.rest.consume(n);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    pub fn gzip(data: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(data).unwrap();
        e.finish().unwrap()
    }

    fn read(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        open(data).unwrap().read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn members_and_frames_concatenate() {
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(&two).unwrap(), b"one two");
        let frame = |d: &[u8]| zstd::encode_all(d, 3).unwrap();
        let skip = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let two = [skip, frame(b"one "), frame(b"two")].concat();
        assert_eq!(read(&two).unwrap(), b"one two");
        assert_eq!(read(b"one").unwrap(), b"one");
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn garbage_and_truncation_are_errors() {
        for (name, good) in [
            ("gzip", gzip(b"some content")),
            ("zstd", zstd::encode_all(&b"some content"[..], 3).unwrap()),
        ] {
            let mut long = good.clone();
            long.extend_from_slice(b"garbage");
            read(&long).expect_err(name);
            read(&good[..good.len() - 3]).expect_err(name);
        }
    }

    #[test]
    fn a_giant_window_is_refused() {
        let mut e = zstd::Encoder::new(Vec::new(), 1).unwrap();
        e.window_log(28).unwrap();
        e.write_all(b"x").unwrap();
        let data = e.finish().unwrap();
        read(&data).unwrap_err();
    }
}
