//! Where `load` reads from: a directory, or a tar archive as a set of files.
//!
//! An archive names its manifest after its layers, or before; so that either
//! is read, its headers are passed over once and its members are then read
//! where they are. An archive that cannot be sought in (standard input, a
//! compressed file) is first copied, plain, to a file without a name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::image::archive::compression::HEAD;
use crate::image::archive::packed;
use crate::image::archive::tar::{EntryKind, Reader, show};
use crate::image::limits::{Bounded, Budget, Counted, Limits};
use crate::image::store::transaction::Transaction;
use crate::{Context, Error, Kind, Result};

/// Members of an archive; an image has some tens.
const MAX_MEMBERS: usize = 100_000;
/// Their names together, which are held in memory.
const MAX_NAMES: usize = 8 << 20;
/// Links from member to member, as old `docker save` wrote for equal layers.
const MAX_LINKS: usize = 8;

/// Files by their relative, cleaned paths.
pub(crate) enum Archive {
    Directory(PathBuf),
    Tar {
        file: File,
        members: HashMap<String, Member>,
    },
}

pub(crate) enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// `-` is standard input. `transaction` lends room for a copy.
    pub(crate) fn open(from: &Path, transaction: &Transaction<'_>) -> Result<Archive> {
        if from == Path::new("-") {
            let stdin = io::stdin();
            return Self::tar(Self::copy(stdin.lock(), u64::MAX, transaction)?);
        }
        let about = || format!("read {}", from.display());
        let mut file = File::open(from).map_err(|e| {
            let absent = e.kind() == io::ErrorKind::NotFound;
            let e = Error::from(e).push_context(format!("open({})", from.display()));
            if absent {
                e.with_kind(Kind::NotFound)
            } else {
                e
            }
        })?;
        let kind = file.metadata().with_context(about)?.file_type();
        if kind.is_dir() {
            return Ok(Archive::Directory(from.to_path_buf()));
        }
        if !kind.is_file() {
            return Self::tar(Self::copy(file, u64::MAX, transaction)?);
        }
        let mut head = [0u8; HEAD];
        let n = file.read_at(&mut head, 0).with_context(about)?;
        if packed::is_packed(&head[..n]) {
            let size = file.metadata().with_context(about)?.len();
            file = Self::copy(file, size, transaction)?;
        }
        Self::tar(file)
    }

    /// `size` is that of `from`, where it is known.
    fn copy<R: Read>(from: R, size: u64, transaction: &Transaction<'_>) -> Result<File> {
        let mut to = transaction.scratch_file()?;
        let limits = &transaction.store().limits;
        let (come, image) = (AtomicU64::new(0), AtomicU64::new(0));
        let budget = Budget::archive(limits, size, &come, &image);
        let from = Counted {
            inner: from,
            count: &come,
        };
        let plain = packed::open(from, limits)?;
        io::copy(&mut Bounded::new(plain, &budget), &mut to).context("copy the archive")?;
        to.rewind().context("lseek")?;
        Ok(to)
    }

    fn tar(file: File) -> Result<Archive> {
        let mut members = HashMap::new();
        let mut names = 0;
        let mut reader = Reader::new(file.try_clone().context("dup")?);
        while let Some(entry) = reader.next_entry()? {
            let Some(name) = std::str::from_utf8(&entry.path).ok().and_then(clean) else {
                return Err(Error::invalid(format!(
                    "the archive has a member of the name {}",
                    entry.shown()
                )));
            };
            if entry.extents.is_some() {
                return Err(Error::unsupported(format!(
                    "its member {} is a sparse file",
                    entry.shown()
                ))
                .hint("make the archive without tar's --sparse; its layers may have such files"));
            }
            let member = match entry.kind {
                EntryKind::File => Some(Member::File {
                    offset: reader.position(),
                    size: entry.size,
                }),
                EntryKind::Symlink | EntryKind::HardLink => {
                    let base = match entry.kind {
                        EntryKind::Symlink => name.rsplit_once('/').map_or("", |(d, _)| d),
                        _ => "",
                    };
                    std::str::from_utf8(&entry.link)
                        .ok()
                        .and_then(|link| clean(&format!("{base}/{link}")))
                        .map(Member::Link)
                }
                _ => None,
            };
            if let Some(member) = member {
                names += name.len() + entry.link.len();
                members.insert(name, member);
            }
            if members.len() > MAX_MEMBERS || names > MAX_NAMES {
                return Err(Error::invalid(format!(
                    "the archive has more than {MAX_MEMBERS} members, \
                     or {MAX_NAMES} bytes of their names"
                )));
            }
            reader.seek_content()?;
        }
        if members.is_empty() {
            return Err(Error::invalid("the archive is empty"));
        }
        Ok(Archive::Tar { file, members })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Archive::Directory(dir) => dir.join(name).is_file(),
            Archive::Tar { members, .. } => members.contains_key(name),
        }
    }

    /// A member's content and size. `name` may come from the archive.
    pub(crate) fn read(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64)> {
        let cleaned = clean(name)
            .ok_or_else(|| Error::invalid(format!("{} is no name", show(name.as_bytes()))))?;
        match self {
            Archive::Directory(dir) => {
                let root = File::open(dir).with_context(|| format!("open({})", dir.display()))?;
                // O_NONBLOCK: a FIFO must not hold us up before it is refused.
                let how = OpenHow::new()
                    .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
                    .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
                let shown = show(cleaned.as_bytes());
                let file = openat2(&root, cleaned.as_str(), how)
                    .map(File::from)
                    .map_err(|e| Error::sys(format!("openat2({}, {shown})", dir.display()), e))?;
                let meta = file.metadata().with_context(|| shown.clone())?;
                if !meta.is_file() {
                    return Err(Error::invalid(format!("{shown} is no file")));
                }
                Ok((Box::new(file), meta.len()))
            }
            Archive::Tar { file, members } => {
                let mut at = cleaned.as_str();
                for _ in 0..=MAX_LINKS {
                    match members.get(at) {
                        Some(Member::File { offset, size }) => {
                            let reader = At {
                                file,
                                offset: *offset,
                                left: *size,
                            };
                            return Ok((Box::new(reader), *size));
                        }
                        Some(Member::Link(to)) => at = to,
                        None => break,
                    }
                }
                Err(Error::invalid(format!(
                    "the archive lacks {}",
                    show(cleaned.as_bytes())
                )))
            }
        }
    }

    /// A whole member, of at most as many bytes as the bound of that name allows.
    pub(crate) fn read_all(
        &self,
        name: &str,
        limits: &Limits,
        limit: &'static str,
    ) -> Result<Vec<u8>> {
        let (reader, size) = self.read(name)?;
        if size > limits.get(limit) {
            return Err(
                limits.exceeded(limit, &format!("{} has more bytes", show(name.as_bytes())))
            );
        }
        let limit = limits.get(limit);
        let mut bytes = Vec::new();
        BufReader::new(reader.take(limit))
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {}", show(name.as_bytes())))?;
        Ok(bytes)
    }
}

/// A part of a file, read without moving its offset: several may read at once.
struct At<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buf[..most], self.offset)?;
        if n == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive is cut short",
            ));
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A relative path without `.`; `..` is resolved by text, and may not leave
/// the archive.
fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
