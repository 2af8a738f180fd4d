//! Plain, gzip (RFC 1952) and zstd (RFC 8878) streams, told apart by their
//! first bytes: media types and file names are hints that are often wrong, and
//! the digest of the content decides in the end.
//!
//! Concatenated members and frames are one stream; anything after the last one
//! that is not another is an error.
//!
//! A whole archive may be compressed with xz or bzip2 too (`packed`). A layer may not:
//! the OCI's media types have neither.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::image::archive::packed::Packing;
use crate::image::limits::raise;
use crate::{Context, Error, Result};

/// The largest zstd window of what is in the store already.
const MAX_ZSTD_WINDOW: u64 = 1 << 31;

/// Streams with larger windows than this one are read one at a time: what several of them
/// take in memory is not much more than what one does.
const WIDE_WINDOW: u64 = 8 << 20;
static WIDE: Mutex<()> = Mutex::new(());

/// A zstd frame's header has no more bytes (RFC 8878, 3.1.1.1), with its magic.
pub(crate) const HEAD: usize = 18;

const BUFFER: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What the first bytes of a stream say; four are enough.
pub(crate) fn detect(head: &[u8]) -> Compression {
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
pub(crate) fn open<'a, R: Read + 'a>(source: R) -> Result<Box<dyn Read + 'a>> {
    open_within(source, MAX_ZSTD_WINDOW)
}

/// The same, but zstd frames with a window of more than `window` bytes are an error.
pub(crate) fn open_within<'a, R: Read + 'a>(source: R, window: u64) -> Result<Box<dyn Read + 'a>> {
    let source = Peeked::new(source)?;
    if let Some(packing) = Packing::detect(source.head()) {
        return Err(Error::unsupported(format!(
            "it is compressed with {}, which only whole archives may be",
            packing.name()
        ))
        .hint("build the image again with layers in gzip, zstd or plain tar"));
    }
    open_peeked(source, window)
}

/// The same, of a stream whose first bytes are known.
pub(crate) fn open_peeked<'a, R: Read + 'a>(
    source: Peeked<R>,
    window: u64,
) -> Result<Box<dyn Read + 'a>> {
    Ok(match detect(source.head()) {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            // What does not begin with a frame may have any after it.
            let wide = window > WIDE_WINDOW
                && window_of(source.head()).is_none_or(|first| first > WIDE_WINDOW);
            let turn = wide.then(|| WIDE.lock().unwrap_or_else(PoisonError::into_inner));
            let most = if wide {
                window
            } else {
                window.min(WIDE_WINDOW)
            };
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source).context("zstd")?;
            decoder
                .window_log_max(most.max(1 << 10).ilog2())
                .context("zstd")?;
            Box::new(Zstd {
                decoder,
                most,
                _turn: turn,
            })
        }
    })
}

/// The window that a frame's header asks for; `None` if it is no frame's, or cut.
fn window_of(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    if head[..4] != [0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    if descriptor & 0x20 == 0 {
        let window = *head.get(5)?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + (base >> 3) * u64::from(window & 7));
    }
    // One segment: the window is the content, whose size comes after the dictionary's id.
    let at = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let bytes = head.get(at..at + length)?;
    Some(bytes.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b)))
}

/// Says which bound it was, where the decoder does not.
struct Zstd<D> {
    decoder: D,
    most: u64,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl<D: Read> Read for Zstd<D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buf).map_err(|e| {
            if !e.to_string().contains("too much memory") {
                return e;
            }
            let text = format!(
                "zstd: a window of more bytes than zstd-window={} allows",
                self.most
            );
            io::Error::other(Error::invalid(text).hint(raise("zstd-window")))
        })
    }
}

/// A stream, and its first bytes before they are read.
pub(crate) struct Peeked<R> {
    head: [u8; HEAD],
    at: usize,
    have: usize,
    rest: BufReader<R>,
}

impl<R: Read> Peeked<R> {
    pub(crate) fn new(source: R) -> Result<Self> {
        let mut rest = BufReader::with_capacity(BUFFER, source);
        // The first read may be shorter (a pipe): gather them.
        let mut head = [0u8; HEAD];
        let mut have = 0;
        while have < head.len() {
            match rest.read(&mut head[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Peeked {
            head,
            at: 0,
            have,
            rest,
        })
    }

    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.have]
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at < self.have {
            let n = (&self.head[self.at..self.have]).read(buf)?;
            self.at += n;
            return Ok(n);
        }
        self.rest.read(buf)
    }
}

impl<R: Read> BufRead for Peeked<R> {
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
pub(in crate::image) mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
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
    fn windows_are_seen_and_bounded() {
        let frame = |log: u32| {
            let mut e = zstd::Encoder::new(Vec::new(), 1).unwrap();
            e.window_log(log).unwrap();
            e.write_all(b"x").unwrap();
            e.finish().unwrap()
        };
        let within = |data: &[u8], window: u64| {
            let mut out = Vec::new();
            open_within(data, window).unwrap().read_to_end(&mut out)
        };
        for log in [20, 24, 25, 28] {
            assert_eq!(window_of(&frame(log)), Some(1 << log));
            within(&frame(log), 1 << log).unwrap();
            let e = Error::from(within(&frame(log), (1 << log) - 1).unwrap_err());
            assert!(e.to_string().contains("zstd-window="), "{e}");
            assert!(e.get_hint().is_some());
        }
        let single = zstd::bulk::compress(&[b'x'; 3000], 1).unwrap();
        assert_eq!(window_of(&single), Some(3000 - 256));
        assert_eq!(window_of(&frame(20)[..5]), None);
        // A first frame that is narrow cannot have a wide one behind it.
        let two = [frame(20), frame(25)].concat();
        within(&two, 1 << 25).unwrap_err();
        let two = [frame(25), frame(25)].concat();
        assert_eq!(within(&two, 1 << 25).unwrap(), 2);
        let skip = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame(25)].concat();
        assert_eq!(within(&skip, 1 << 25).unwrap(), 1);
    }
}
