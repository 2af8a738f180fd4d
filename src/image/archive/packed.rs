//! Whole archives, as `load` reads them: plain, compressed with gzip or zstd as layers
//! are, or with xz (the .xz file format, 1.2) or bzip2, as `docker load` takes them.
//!
//! Decoders verify the checksums that the stream has. Concatenated streams are one;
//! anything else after the last one is an error. xz may have zeros there ("stream
//! padding"), a multiple of four.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use lzma_rust2::XzReader;

use crate::image::archive::compression::{self, Compression, Peeked};
use crate::image::limits::{Limits, raise};
use crate::{Error, Result};

/// What lzma-rust2 adds to the dictionary's size before it compares it with its limit:
/// KiB for its tables and for one compressed chunk.
const XZ_OVERHEAD: u64 = 40 + 64;

/// Streams of an archive in bzip2. For each, however empty, the decoder clears 3.6 MB;
/// programs that pack in parallel (pbzip2) put up to 900 kB of content into one.
const MAX_STREAMS: u32 = 100_000;

/// The compressions of whole archives alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Xz,
    Bzip2,
}

impl Packing {
    /// bzip2's magic begins like a text, so that its first block's is looked at too.
    pub(crate) fn detect(head: &[u8]) -> Option<Packing> {
        match head {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
                if rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17\x72\x45\x38\x50\x90") =>
            {
                Some(Packing::Bzip2)
            }
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Packing::Xz => "xz",
            Packing::Bzip2 => "bzip2",
        }
    }
}

/// Whether an archive that begins so is compressed.
pub(crate) fn is_packed(head: &[u8]) -> bool {
    compression::detect(head) != Compression::None || Packing::detect(head).is_some()
}

/// A reader of the archive's plain bytes.
pub(crate) fn open<'a, R: Read + 'a>(source: R, limits: &Limits) -> Result<Box<dyn Read + 'a>> {
    let source = Peeked::new(source)?;
    let dictionary = limits.xz_dictionary;
    Ok(match Packing::detect(source.head()) {
        Some(Packing::Xz) => {
            let most = u32::try_from(XZ_OVERHEAD + (dictionary >> 10)).unwrap_or(u32::MAX);
            let plain = XzReader::new_mem_limit(source, true, most);
            Box::new(Named {
                plain,
                name: "xz",
                dictionary,
            })
        }
        Some(Packing::Bzip2) => Box::new(Named {
            plain: Streams::new(source),
            name: "bzip2",
            dictionary,
        }),
        None => compression::open_peeked(source, limits.zstd_window)?,
    })
}

/// The content of bzip2 streams, one after the other.
struct Streams<R> {
    /// None after the end.
    decoder: Option<BzDecoder<R>>,
    count: u32,
}

impl<R: BufRead> Streams<R> {
    fn new(source: R) -> Self {
        Streams {
            decoder: Some(BzDecoder::new(source)),
            count: 1,
        }
    }
}

impl<R: BufRead> Read for Streams<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            if decoder.get_mut().fill_buf()?.is_empty() {
                self.decoder = None;
                break;
            }
            self.count += 1;
            if self.count > MAX_STREAMS {
                let text = format!("bzip2: the archive has more than {MAX_STREAMS} streams");
                return Err(io::Error::other(Error::invalid(text)));
            }
            let source = self.decoder.take().map(BzDecoder::into_inner);
            self.decoder = source.map(BzDecoder::new);
        }
        Ok(0)
    }
}

/// Says which decoder it was, and that the archive is at fault.
struct Named<R> {
    plain: R,
    name: &'static str,
    /// The bound of xz.
    dictionary: u64,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.plain.read(buf).map_err(|e| self.explain(e))
    }
}

impl<R> Named<R> {
    fn explain(&self, e: io::Error) -> io::Error {
        // What the archive is read from has an errno, a decoder has none.
        if e.raw_os_error().is_some() || e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            return e;
        }
        let name = self.name;
        let text = e.to_string();
        let why = text.strip_prefix("bzip2: ").unwrap_or(&text);
        io::Error::other(match e.kind() {
            io::ErrorKind::OutOfMemory => Error::invalid(format!(
                "{name}: a dictionary of more bytes than xz-dictionary={} allows",
                self.dictionary
            ))
            .hint(raise("xz-dictionary")),
            io::ErrorKind::UnexpectedEof => {
                Error::invalid(format!("{name}: the archive is cut short"))
            }
            io::ErrorKind::Unsupported => Error::unsupported(format!("{name}: {why}")),
            _ => Error::invalid(format!("{name}: the archive is damaged: {why}")),
        })
    }
}

#[cfg(test)]
#[path = "packed_tests.rs"]
pub(in crate::image) mod tests;
