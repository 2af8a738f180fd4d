//! A layer's compressed bytes on their way: `partial/<hex>`, which the next process
//! goes on with if this one ends early.
//!
//! The file is written by whoever holds its lock; another that wants the same blob
//! meanwhile writes a file of its own in its transaction. Nothing here is believed:
//! what is read back is hashed with what follows, and the whole compared. A blob
//! leaves by a rename after that, never before.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::stat::fstat;

use crate::image::digest::Digest;
use crate::image::store::index::{names_in, remove_file};
use crate::image::store::transaction::Transaction;
use crate::store::{Lock, make_dir};
use crate::{Context, Ignored, Result};

/// Before a removal takes away what nobody goes on with.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    /// Held as long as the file has this name; none on a private one.
    _lock: Option<Lock>,
}

impl Partial {
    /// What there is of the blob, or an empty file. Without a digest, which a
    /// docker-archive does not tell, it is `private` and begins anew.
    pub(crate) fn open(
        transaction: &Transaction<'_>,
        digest: Option<&Digest>,
        i: usize,
    ) -> Result<Self> {
        if let Some(digest) = digest {
            let dir = transaction.store().partial();
            make_dir(&dir)?;
            let path = dir.join(digest.hex());
            while let Some(lock) = Lock::try_acquire(&path)? {
                let file = match open(&path, false) {
                    Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => continue,
                    file => file?,
                };
                // Between the two opens its last writer may have given it away.
                let (locked, opened) = (fstat(lock.as_fd())?, fstat(&file)?);
                if (locked.st_dev, locked.st_ino) == (opened.st_dev, opened.st_ino) {
                    return Ok(Partial {
                        path,
                        file,
                        _lock: Some(lock),
                    });
                }
            }
        }
        let path = transaction.path().join(format!("{i}.part"));
        let file = open(&path, true)?;
        Ok(Partial {
            path,
            file,
            _lock: None,
        })
    }

    /// Bytes that are there.
    pub(crate) fn len(&self) -> Result<u64> {
        let meta = self.file.metadata();
        Ok(meta
            .with_context(|| format!("fstat({})", self.path.display()))?
            .len())
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let done = self.file.set_len(0);
        done.with_context(|| format!("ftruncate({})", self.path.display()))
    }

    /// First what is there, then `rest`, which is written behind it as it is read.
    /// An error of the file itself is left in `failure`: the stream's errors pass
    /// decoders, which know nothing of files.
    pub(crate) fn tee<'a, R: Read + 'a>(
        &'a mut self,
        rest: R,
        failure: &'a RefCell<Option<crate::Error>>,
    ) -> Result<Tee<'a, R>> {
        let prefix = self.len()?;
        let path = &self.path;
        self.file
            .seek(SeekFrom::Start(0))
            .with_context(|| format!("lseek({})", path.display()))?;
        Ok(Tee {
            file: &mut self.file,
            path,
            prefix,
            rest,
            failure,
        })
    }

    /// The blob is whole and has this digest: it moves into the transaction.
    pub(crate) fn finish(self, transaction: &Transaction<'_>, digest: &Digest) -> Result<()> {
        let to = transaction.blob(digest);
        std::fs::rename(&self.path, &to)
            .with_context(|| format!("rename({}, {})", self.path.display(), to.display()))
    }

    /// Nothing of it is worth keeping.
    pub(crate) fn remove(self) {
        let why = "its digest is found to be wrong by the next to read it";
        self.file.set_len(0).ignored(why);
        std::fs::remove_file(&self.path).ignored(why);
    }
}

fn open(path: &Path, create: bool) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(create)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("open({}, O_RDWR)", path.display()))
}

pub(crate) struct Tee<'a, R> {
    file: &'a mut File,
    path: &'a Path,
    /// Bytes of the file that have not been read back.
    prefix: u64,
    rest: R,
    failure: &'a RefCell<Option<crate::Error>>,
}

impl<R: Read> Tee<'_, R> {
    fn fail(&self, call: &str, e: io::Error) -> io::Error {
        let text = format!("{call}({})", self.path.display());
        let error = crate::Error::from(e).push_context(text);
        let shown = io::Error::other(error.to_string());
        *self.failure.borrow_mut() = Some(error);
        shown
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.prefix > 0 {
            let most = buf
                .len()
                .min(usize::try_from(self.prefix).unwrap_or(usize::MAX));
            let n = match self.file.read(&mut buf[..most]) {
                Ok(n) => n,
                Err(e) => return Err(self.fail("read", e)),
            };
            if n > 0 {
                self.prefix -= n as u64;
                return Ok(n);
            }
            return Err(self.fail("read", io::ErrorKind::UnexpectedEof.into()));
        }
        let n = self.rest.read(buf)?;
        match self.file.write_all(&buf[..n]) {
            Ok(()) => Ok(n),
            Err(e) => Err(self.fail("write", e)),
        }
    }
}

/// Removes the beginning of a blob, unless somebody is at work on it.
pub(crate) fn discard(dir: &Path, digest: &Digest) -> Result<()> {
    let path = dir.join(digest.hex());
    if path.exists()
        && let Some(_lock) = Lock::try_acquire(&path)?
    {
        remove_file(&path)?;
    }
    Ok(())
}

/// Removes what nobody is at work on: all of it, or what is older than a day.
/// Returns the bytes that are free now.
pub(crate) fn collect(dir: &Path, all: bool) -> Result<u64> {
    let mut freed = 0;
    for name in names_in(dir)? {
        let path = dir.join(name);
        let Ok(meta) = path.metadata() else { continue };
        let old = meta
            .modified()
            .is_ok_and(|t| SystemTime::now().duration_since(t).unwrap_or_default() > STALE);
        if (all || old)
            && let Some(lock) = Lock::try_acquire(&path)?
        {
            std::fs::remove_file(&path).with_context(|| format!("unlink({})", path.display()))?;
            drop(lock);
            freed += meta.len();
        }
    }
    Ok(freed)
}
