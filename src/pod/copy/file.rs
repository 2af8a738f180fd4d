//! The content of one regular file, and the new file that takes it.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, Whence, linkat, lseek, unlinkat};

use crate::linux::root::fd_path;
use crate::{Context, Error, Ignored, Result};

/// Bytes that are copied between two questions whether the container still runs.
const CHUNK: u64 = 8 << 20;
/// Up to here, one read and one write cost less than what else there is.
pub(super) const SMALL: u64 = 64 << 10;
pub(super) const BUFFER: usize = 256 << 10;

/// How bytes go from file to file. sendfile(2) is slower than both: it writes by pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Between files of one file system, some of which share the blocks then.
    CopyFileRange,
    ReadWrite,
}

/// Whether to go on, asked by every thread.
pub(super) type GoesOn<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// Copies content.
pub(super) struct Copier<'a> {
    way: Way,
    buffer: Vec<u8>,
    goes_on: GoesOn<'a>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(goes_on: GoesOn<'a>) -> Self {
        Copier {
            way: Way::CopyFileRange,
            buffer: vec![0; BUFFER],
            goes_on,
        }
    }

    /// As much as the file had when `stat` was asked, into the empty file `to`; holes stay
    /// holes. Returns the bytes without them. A file that grows meanwhile ends there all the
    /// same; a file without a size, as procfs has them, is empty.
    pub(super) fn content(&mut self, from: &File, to: &File, stat: &FileStat) -> Result<u64> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let stored = u64::try_from(stat.st_blocks)
            .unwrap_or(0)
            .saturating_mul(512);
        if stored >= size {
            return self.range(from, to, 0, size);
        }
        match lseek(from, 0, Whence::SeekData) {
            // All of it is a hole.
            Err(Errno::ENXIO) => {}
            // A file system that does not know.
            Err(_) => return self.range(from, to, 0, size),
            // Compressed, or stored in the inode itself.
            Ok(0) if lseek(from, 0, Whence::SeekHole) == Ok(stat.st_size) => {
                return self.range(from, to, 0, size);
            }
            Ok(_) => {}
        }
        to.set_len(size)
            .with_context(|| format!("ftruncate({size})"))?;
        let (mut at, mut copied) = (0, 0);
        while at < stat.st_size {
            let data = match lseek(from, at, Whence::SeekData) {
                Ok(data) => data,
                Err(Errno::ENXIO) => break,
                Err(e) => return Err(Error::sys("lseek(SEEK_DATA)", e)),
            };
            let hole = match lseek(from, data, Whence::SeekHole) {
                Ok(hole) => hole.min(stat.st_size),
                Err(Errno::ENXIO) => break,
                Err(e) => return Err(Error::sys("lseek(SEEK_HOLE)", e)),
            };
            // A file system of a user's making may answer anything.
            if data < at || hole <= data {
                break;
            }
            (self.goes_on)()?;
            copied += self.range(from, to, data as u64, (hole - data) as u64)?;
            at = hole;
        }
        Ok(copied)
    }

    /// The same range of both files; less if `from` ends before.
    fn range(&mut self, from: &File, to: &File, start: u64, length: u64) -> Result<u64> {
        let mut way = match length <= SMALL {
            true => Way::ReadWrite,
            false => self.way,
        };
        let mut done = 0;
        while done < length {
            if done > 0 {
                (self.goes_on)()?;
            }
            let chunk = CHUNK.min(length - done);
            match self.chunk(way, from, to, start + done, chunk) {
                Ok(0) if way == Way::ReadWrite => break,
                // Some file systems answer so where they do not have the call.
                Ok(0) => way = Way::ReadWrite,
                Ok(n) => done += n,
                Err((_, Errno::EINTR)) => {}
                Err((
                    _,
                    Errno::EXDEV
                    | Errno::EINVAL
                    | Errno::ENOSYS
                    | Errno::EOPNOTSUPP
                    | Errno::EPERM
                    | Errno::EBADF
                    | Errno::ETXTBSY,
                )) if way != Way::ReadWrite => {
                    way = Way::ReadWrite;
                    self.way = way;
                }
                Err((call, e)) => return Err(self::hint(Error::sys(call, e))),
            }
        }
        Ok(done)
    }

    fn chunk(
        &mut self,
        way: Way,
        from: &File,
        to: &File,
        at: u64,
        length: u64,
    ) -> Result<u64, (&'static str, Errno)> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (mut source, mut target) = (at as i64, at as i64);
        let n = match way {
            Way::CopyFileRange => {
                copy_file_range(from, Some(&mut source), to, Some(&mut target), length)
                    .map_err(|e| ("copy_file_range()", e))?
            }
            Way::ReadWrite => {
                let most = self.buffer.len().min(length);
                let n = from
                    .read_at(&mut self.buffer[..most], at)
                    .map_err(|e| ("pread()", errno(&e)))?;
                to.write_all_at(&self.buffer[..n], at)
                    .map_err(|e| ("pwrite()", errno(&e)))?;
                n
            }
        };
        Ok(n as u64)
    }
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}

/// Whether the error says that what is there cannot be read.
pub(super) fn is_unreadable(e: &Error) -> bool {
    use Errno::{EACCES, EINVAL, EIO, ENODEV, ENXIO, EPERM};
    let errnos = [EACCES, EPERM, EIO, EINVAL, ENODEV, ENXIO];
    e.errno().is_some_and(|errno| errnos.contains(&errno))
}

/// What mends it, where that is known.
pub(super) fn hint(e: Error) -> Error {
    match e.errno() {
        Some(Errno::EROFS) => {
            e.hint("it is read-only there: the root file system, a volume mounted with readOnly, or one of a \
                 ConfigMap, a Secret or the downward API")
        }
        Some(Errno::ENOSPC | Errno::EDQUOT) => e.hint("there is no room"),
        Some(Errno::EFBIG) => e.hint("files of this size are not possible there"),
        _ => e,
    }
}

/// A file that is being written, and removed if that fails. But for [`New::make_in_place`],
/// it has not its name yet: nobody sees half a file.
pub(super) struct New<'a> {
    pub file: File,
    dir: BorrowedFd<'a>,
    /// What it has until it is whole: one of its own where the file system has no files
    /// without a name.
    name: Option<Cow<'a, OsStr>>,
    is_in_place: bool,
}

const EXCLUSIVE: OFlag = OFlag::O_CREAT
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_WRONLY)
    .union(OFlag::O_CLOEXEC);

/// A name that nothing else has.
fn temporary_name(number: &AtomicU64) -> OsString {
    let number = number.fetch_add(1, Ordering::Relaxed);
    format!(".carob-cp-{}-{number}", std::process::id()).into()
}

impl<'a> New<'a> {
    /// Under its name at once, which nothing may have (EEXIST). The umask applies to `mode`.
    pub(super) fn make_in_place(
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
        mode: Mode,
    ) -> nix::Result<Self> {
        Ok(New {
            file: File::from(openat(dir, name, EXCLUSIVE, mode)?),
            dir,
            name: Some(Cow::Borrowed(name)),
            is_in_place: true,
        })
    }

    /// The umask applies to `mode`.
    pub(super) fn make(dir: BorrowedFd<'a>, mode: Mode, number: &AtomicU64) -> nix::Result<Self> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(dir, ".", flags, mode) {
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {}
            other => {
                let file = File::from(other?);
                return Ok(New {
                    file,
                    dir,
                    name: None,
                    is_in_place: false,
                });
            }
        }
        loop {
            let name = temporary_name(number);
            match openat(dir, name.as_os_str(), EXCLUSIVE, mode) {
                // Of a carob that was killed.
                Err(Errno::EEXIST) => {}
                other => {
                    let file = File::from(other?);
                    return Ok(New {
                        file,
                        dir,
                        name: Some(Cow::Owned(name)),
                        is_in_place: false,
                    });
                }
            }
        }
    }

    /// Gives it the name, in place of what else has it, a directory excepted.
    ///
    /// # Errors
    /// EISDIR: a directory has the name. EBUSY: it is a mount point.
    pub(super) fn place(mut self, name: &OsStr, number: &AtomicU64) -> nix::Result<()> {
        if self.name.is_none() {
            match self.link(name) {
                Err(Errno::EEXIST) => {}
                other => return other,
            }
            // rename(2) would refuse as well, but with a name that is still to be removed.
            if is_dir(self.dir, name) {
                return Err(Errno::EISDIR);
            }
            let temporary = loop {
                let temporary = temporary_name(number);
                match self.link(&temporary) {
                    Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e),
                    Ok(()) => break temporary,
                }
            };
            self.name = Some(Cow::Owned(temporary));
        }
        if let Some(temporary) = &self.name
            && !self.is_in_place
        {
            renameat(self.dir, &**temporary, self.dir, name)?;
        }
        self.name = None;
        Ok(())
    }

    fn link(&self, name: &OsStr) -> nix::Result<()> {
        match linkat(&self.file, "", self.dir, name, AtFlags::AT_EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH.
            Err(Errno::ENOENT) => {
                let path = fd_path(self.file.as_fd());
                let flags = AtFlags::AT_SYMLINK_FOLLOW;
                linkat(nix::fcntl::AT_FDCWD, path.as_str(), self.dir, name, flags)
            }
            other => other,
        }
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            unlinkat(self.dir, &**name, UnlinkatFlags::NoRemoveDir)
                .ignored("the error that led here is the one to report");
        }
    }
}

fn is_dir(dir: BorrowedFd, name: &OsStr) -> bool {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|s| kind(&s) == SFlag::S_IFDIR)
}

pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
