//! A tar reader for image layers and archives: ustar (POSIX.1-1988), PAX
//! (POSIX.1-2001), GNU long names and base-256 numbers (tar(5)), and GNU's sparse
//! files in all their forms ([`sparse`]).
//!
//! It yields entries as they stand in the stream and judges only the format;
//! what an entry may do to a file system is [`crate::image::layer::unpack`]'s concern. Memory
//! is bounded whatever the archive says, and the time is linear in its bytes.
//! Where implementations differ (a size on a header-only type, a zero block that
//! stands alone) it reads as Go's archive/tar does: an archive must not mean one
//! thing to the tool that checked it and another to us.

use std::ffi::CString;
use std::io::{self, BufReader, Read, Seek};

use crate::{Context, Error, Result};

#[path = "sparse.rs"]
mod sparse;
pub(crate) use sparse::Extent;
use sparse::Pax;

const BLOCK: usize = 512;
const BUFFER: usize = 128 << 10;

/// All PAX and GNU extension data of one entry. A PAX header holds a path, a
/// link and xattrs of 64 KiB at most; Go's reader has the same bound.
const MAX_EXTENSION: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry's header. Names are bytes as they stand in the archive.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// The target of a hard link or symlink.
    pub link: Vec<u8>,
    /// The file's size, holes and all; 0 for header-only kinds.
    pub size: u64,
    /// Of a sparse file the extents whose content follows, one after the other; the
    /// rest is holes. `None`: all of it follows.
    pub extents: Option<Vec<Extent>>,
    /// Permission bits, setuid, setgid, sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch (may be negative) and nanoseconds.
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(CString, Vec<u8>)>,
}

impl Entry {
    /// The path for an error's text.
    pub fn shown(&self) -> String {
        show(&self.path)
    }
}

/// Archive text for people: escaped, and cut where it is absurdly long.
pub(crate) fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    format!("{text:?}")
}

pub struct Reader<R> {
    source: BufReader<R>,
    /// Where the next byte of `source` is in the stream.
    position: u64,
    /// Content of the current entry that has not been read.
    remaining: u64,
    padding: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    pub fn new(source: R) -> Self {
        Reader {
            source: BufReader::with_capacity(BUFFER, source),
            position: 0,
            remaining: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The offset of the current entry's content in the stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, skipping what is left of the current one's content.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut pending = Pending::default();
        loop {
            self.skip_content()?;
            let Some(block) = self.next_header()? else {
                if pending.used > 0 {
                    return Err(Error::invalid("tar: an extension header without an entry"));
                }
                return Ok(None);
            };
            let header = Header(&block);
            let size = header.size()?;
            let kind = match header.kind() {
                b'x' | b'L' | b'K' => {
                    let data = self.extension(size, &mut pending)?;
                    match header.kind() {
                        b'x' => pending.pax(&data)?,
                        b'L' => pending.gnu_path = Some(until_nul(&data).to_vec()),
                        _ => pending.gnu_link = Some(until_nul(&data).to_vec()),
                    }
                    continue;
                }
                b'g' => {
                    // Global defaults: no image tool writes any that matter
                    // (git-archive puts a comment), and Go ignores them too.
                    self.extension(size, &mut Pending::default())?;
                    continue;
                }
                b'0' | 0 | b'7' => EntryKind::File,
                b'1' => EntryKind::HardLink,
                b'2' => EntryKind::Symlink,
                b'3' => EntryKind::CharDevice,
                b'4' => EntryKind::BlockDevice,
                b'5' => EntryKind::Directory,
                b'6' => EntryKind::Fifo,
                b'S' => {
                    pending.sparse.old = Some(self.old_sparse(&header)?);
                    EntryKind::File
                }
                other => {
                    return Err(Error::unsupported(format!(
                        "tar: {}: entries of type {:?} are not supported",
                        show(&pending.name(&header)),
                        char::from(other)
                    )));
                }
            };
            return self.entry(kind, size, &header, pending).map(Some);
        }
    }

    fn entry(
        &mut self,
        kind: EntryKind,
        size: u64,
        header: &Header<'_>,
        pending: Pending,
    ) -> Result<Entry> {
        let path = pending.name(header);
        let about = || format!("tar: {}", show(&path));
        let stored = pending.size.unwrap_or(size);
        // Old tars mark a directory by its name alone; content stays content.
        let kind = match kind {
            EntryKind::File if path.ends_with(b"/") => EntryKind::Directory,
            other => other,
        };
        if matches!(kind, EntryKind::File) || matches!(header.kind(), b'0' | 0 | b'7') {
            self.remaining = stored;
            self.padding = padding(stored);
        }
        let form = pending.sparse.form().with_context(about)?;
        if form.is_some() && kind != EntryKind::File {
            return Err(Error::invalid("only a file can be sparse")).with_context(about);
        }
        let (size, extents) = match form {
            None => (self.remaining, None),
            Some(form) => {
                let (size, extents) = self.sparse(form).with_context(about)?;
                (size, Some(extents))
            }
        };
        let entry = Entry {
            kind,
            link: pending
                .pax_link
                .or(pending.gnu_link)
                .unwrap_or_else(|| until_nul(header.field(157, 100)).to_vec()),
            size,
            extents,
            mode: (header.number(100, 8).with_context(about)? & 0o7777) as u32,
            uid: match pending.uid {
                Some(id) => id,
                None => id(header.number(108, 8).with_context(about)?).with_context(about)?,
            },
            gid: match pending.gid {
                Some(id) => id,
                None => id(header.number(116, 8).with_context(about)?).with_context(about)?,
            },
            mtime: match pending.mtime {
                Some(t) => t,
                None => (
                    i64::try_from(header.number(136, 12).with_context(about)?)
                        .map_err(|_| Error::invalid("the time is out of range"))
                        .with_context(about)?,
                    0,
                ),
            },
            device: match kind {
                EntryKind::CharDevice | EntryKind::BlockDevice => (
                    device(header.number(329, 8).with_context(about)?).with_context(about)?,
                    device(header.number(337, 8).with_context(about)?).with_context(about)?,
                ),
                _ => (0, 0),
            },
            xattrs: pending.xattrs,
            path,
        };
        if entry.path.is_empty() {
            return Err(Error::invalid("tar: an entry without a name"));
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(Error::invalid(format!(
                "tar: {}: a name holds a NUL byte",
                entry.shown()
            )));
        }
        Ok(entry)
    }

    /// Reads the rest of the stream, so that whoever hashes or decompresses
    /// below sees its end.
    pub fn drain(&mut self) -> Result<()> {
        io::copy(&mut self.source, &mut io::sink()).context("tar: after the last entry")?;
        Ok(())
    }

    fn skip_content(&mut self) -> Result<()> {
        let rest = self.remaining + self.padding;
        (self.remaining, self.padding) = (0, 0);
        if rest == 0 {
            return Ok(());
        }
        let n = io::copy(&mut (&mut self.source).take(rest), &mut io::sink()).context("tar")?;
        self.position += n;
        if n < rest {
            return Err(truncated());
        }
        Ok(())
    }

    /// The next non-zero block, or `None` at the archive's end: two zero
    /// blocks, or the end of the stream at a block's edge.
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().any(|b| *b != 0) {
            Header(&block).verify(self.position - BLOCK as u64)?;
            return Ok(Some(block));
        }
        self.ended = true;
        match self.block()? {
            Some(block) if block.iter().any(|b| *b != 0) => {
                Err(Error::invalid("tar: a zero block between entries"))
            }
            _ => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0u8; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.source.read(&mut block[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("tar"),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64, pending: &mut Pending) -> Result<Vec<u8>> {
        pending.used = pending.used.saturating_add(size).saturating_add(1);
        if pending.used > MAX_EXTENSION {
            return Err(Error::invalid(format!(
                "tar: an extension header is larger than {MAX_EXTENSION} bytes"
            )));
        }
        let mut data = Vec::new();
        let n = (&mut self.source)
            .take(size)
            .read_to_end(&mut data)
            .context("tar")?;
        self.position += n as u64;
        if (n as u64) < size {
            return Err(truncated());
        }
        self.padding = padding(size);
        Ok(data)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Passes the current entry's content without reading it.
    pub fn seek_content(&mut self) -> Result<()> {
        let rest = self.remaining + self.padding;
        (self.remaining, self.padding) = (0, 0);
        let offset =
            i64::try_from(rest).map_err(|_| Error::invalid("tar: an entry is too large"))?;
        self.source.seek_relative(offset).context("tar: lseek")?;
        self.position += rest;
        Ok(())
    }
}

/// The current entry's content.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf
            .len()
            .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buf[..most])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "tar: the archive is cut short",
            ));
        }
        self.remaining -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

fn truncated() -> Error {
    Error::invalid("tar: the archive is cut short")
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A user or group id: 32 bits, without the one that chown(2) takes for
/// "leave it".
fn id(n: i128) -> Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Error::invalid(format!("the user or group id {n} is out of range")))
}

fn device(n: i128) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::invalid(format!("the device number {n} is out of range")))
}

struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    fn field(&self, at: usize, len: usize) -> &[u8] {
        &self.0[at..at + len]
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The sum of all bytes with the sum's own field as spaces; some old tars
    /// summed signed bytes.
    fn verify(&self, at: u64) -> Result<()> {
        let want = self.number(148, 8).unwrap_or(-1);
        let bytes = || {
            self.0
                .iter()
                .enumerate()
                .map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b })
        };
        let unsigned: i128 = bytes().map(i128::from).sum();
        let signed: i128 = bytes().map(|b| i128::from(b as i8)).sum();
        if want == unsigned || want == signed {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "tar: no valid header at byte {at}: not a tar archive, or damaged"
        )))
    }

    fn size(&self) -> Result<u64> {
        u64::try_from(self.number(124, 12)?)
            .ok()
            .filter(|n| *n <= i64::MAX as u64 / 2)
            .ok_or_else(|| Error::invalid("tar: a size is out of range"))
    }

    /// Octal text, or GNU's base-256 if the first bit is set.
    fn number(&self, at: usize, len: usize) -> Result<i128> {
        let field = self.field(at, len);
        if field[0] & 0x80 != 0 {
            // Two's complement below the marker bit; bit 0x40 is the sign.
            let first = i128::from(field[0] & 0x3f) - i128::from(field[0] & 0x40);
            return Ok(field[1..]
                .iter()
                .fold(first, |n, b| (n << 8) | i128::from(*b)));
        }
        let text = until_nul(field).trim_ascii();
        text.iter().try_fold(0i128, |n, b| match b {
            b'0'..=b'7' => Ok((n << 3) | i128::from(b - b'0')),
            _ => Err(Error::invalid(format!("tar: {} is no number", show(text)))),
        })
    }

    fn name(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        // Only POSIX's magic has a prefix there; GNU's has times.
        let prefix = until_nul(self.field(345, 155));
        if self.field(257, 6) == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }
}

/// What extension headers said of the entry to come.
#[derive(Default)]
struct Pending {
    used: u64,
    gnu_path: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    pax_path: Option<Vec<u8>>,
    pax_link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(CString, Vec<u8>)>,
    sparse: Pax,
}

impl Pending {
    fn name(&self, header: &Header<'_>) -> Vec<u8> {
        // Of a sparse file `path` is a name for tools that do not know such files.
        self.sparse
            .name
            .clone()
            .or_else(|| self.pax_path.clone())
            .or_else(|| self.gnu_path.clone())
            .unwrap_or_else(|| header.name())
    }

    /// Records of the form `<length> <key>=<value>\n`.
    fn pax(&mut self, mut data: &[u8]) -> Result<()> {
        let malformed = || Error::invalid("tar: a malformed PAX record");
        while !data.is_empty() {
            let space = data
                .iter()
                .take(20)
                .position(|b| *b == b' ')
                .ok_or_else(malformed)?;
            let length: usize = text(&data[..space])?.parse().map_err(|_| malformed())?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(malformed());
            }
            let record = &data[space + 1..length - 1];
            let equals = record
                .iter()
                .position(|b| *b == b'=')
                .ok_or_else(malformed)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let wrong = || {
            Error::invalid(format!(
                "tar: the PAX record {} has the value {}",
                show(key),
                show(value)
            ))
        };
        // An empty value takes back an earlier one.
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.pax_path = given.map(<[u8]>::to_vec),
            b"linkpath" => self.pax_link = given.map(<[u8]>::to_vec),
            b"size" => {
                self.size = match given {
                    Some(v) => Some(
                        text(v)?
                            .parse()
                            .ok()
                            .filter(|n| *n <= i64::MAX as u64 / 2)
                            .ok_or_else(wrong)?,
                    ),
                    None => None,
                }
            }
            b"uid" | b"gid" => {
                let parsed = match given {
                    Some(v) => Some(id(text(v)?.parse().map_err(|_| wrong())?)?),
                    None => None,
                };
                if key == b"uid" {
                    self.uid = parsed;
                } else {
                    self.gid = parsed;
                }
            }
            b"mtime" => {
                self.mtime = match given {
                    Some(v) => Some(parse_time(text(v)?).ok_or_else(wrong)?),
                    None => None,
                }
            }
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse.record(key, value).ok_or_else(wrong);
                }
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = CString::new(name).map_err(|_| wrong())?;
                    self.xattrs.retain(|(n, _)| *n != name);
                    self.xattrs.push((name, value.to_vec()));
                    // `retain` above is quadratic in this bound, no more.
                    if self.xattrs.len() > MAX_XATTRS {
                        return Err(Error::invalid(format!(
                            "tar: an entry has more than {MAX_XATTRS} extended attributes"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

const MAX_XATTRS: usize = 256;

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("tar: {} is not UTF-8", show(bytes))))
}

/// Decimal seconds with a fraction, rounded down to nanoseconds.
fn parse_time(s: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.as_bytes();
    let nanos = (0..9).fold(0u32, |n, i| {
        n * 10 + u32::from(digits.get(i).map_or(0, |d| d - b'0'))
    });
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
#[path = "tar_tests.rs"]
pub(in crate::image) mod tests;
