//! Regular files of a tree: what each thread does.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchown, getegid, geteuid, linkat};

use super::file::{Copier, GoesOn, New, SMALL, hint, is_unreadable, kind};
use super::rights::Rights;
use super::{Copied, SkipReason};
use crate::linux::root::{Links, Root, open_dir, reopen};
use crate::{Context, Error, Result};

/// Files with several names that are remembered. The others of more become copies.
const HARD_LINKS_MOST: usize = 100_000;

/// Whom new files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Who makes them: this process, or the container's user.
    Maker,
    /// The owner of the source, by number.
    Source,
}

/// What a copy is from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// The container's.
    pub inside: End,
    pub rights: &'a Rights,
    pub owner: Owner,
    /// What is kept of modes; the umask applies as well.
    pub mode: u32,
    /// Symbolic links are made again; else they are skipped.
    pub links: bool,
}

impl Rules<'_> {
    /// Does what concerns this side by a path or a name, with the rights that are due there.
    pub(super) fn at<T>(&self, side: End, act: impl FnOnce() -> Result<T>) -> Result<T> {
        match side == self.inside {
            true => self.rights.with(act),
            false => act(),
        }
    }

    /// Whose a new file is, should its directory not decide.
    pub(super) fn maker(&self) -> (Uid, Gid) {
        match self.inside {
            End::Destination => self.rights.maker(),
            End::Source => (geteuid(), getegid()),
        }
    }

    pub(super) fn mode_of(&self, stat: &FileStat) -> Mode {
        Mode::from_bits_truncate(stat.st_mode & self.mode & 0o7777)
    }

    pub(super) fn owner_of(&self, stat: &FileStat) -> Option<(Uid, Gid)> {
        let (uid, gid) = match self.owner {
            Owner::Maker => return None,
            Owner::Source => (stat.st_uid, stat.st_gid),
        };
        Some((Uid::from_raw(uid), Gid::from_raw(gid)))
    }
}

/// A file, whatever its names.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(stat: &FileStat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// By the source's identity: the copy of a file with more names, below the top.
type HardLinks = HashMap<Identity, (PathBuf, Identity)>;

/// What the threads of one copy share.
pub(super) struct Shared {
    /// /proc/self/fd of the host, which all threads share.
    fds: OwnedFd,
    /// Of temporary names.
    number: AtomicU64,
    /// The directory that is copied to, from the first on.
    pub top: OnceLock<(OwnedFd, Identity)>,
    hard_links: Mutex<HardLinks>,
}

impl Shared {
    pub(super) fn new() -> Result<Self> {
        Ok(Shared {
            fds: open_dir(Path::new("/proc/self/fd"))?,
            number: AtomicU64::new(0),
            top: OnceLock::new(),
            hard_links: Mutex::default(),
        })
    }

    /// Opens the regular file that an O_PATH fd refers to. O_NONBLOCK is for leases.
    fn open_to_read(&self, file: BorrowedFd) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let name = file.as_raw_fd().to_string();
        openat(&self.fds, name.as_str(), flags, Mode::empty())
            .map(File::from)
            .map_err(|e| Error::sys("open(/proc/self/fd/<file>, O_RDONLY)", e))
    }

    fn hard_links(&self) -> MutexGuard<'_, HardLinks> {
        self.hard_links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One more name of a file that has been copied; false: it is to be copied again.
    fn link_again(&self, known: &(PathBuf, Identity), to: BorrowedFd, name: &OsStr) -> bool {
        let Some((top, _)) = self.top.get() else {
            return false;
        };
        let (path, made) = known;
        let (Some(parent), Some(first)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let root = Root::new(top.as_fd());
        let Ok(parent) = root.open(parent, flags, Links::Refuse) else {
            return false;
        };
        if linkat(&parent, first, to, name, AtFlags::empty()).is_err() {
            return false;
        }
        // In a container another file may have got that name meanwhile.
        let linked = fstatat(to, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        linked.is_ok_and(|s| identity(&s) == *made)
    }
}

/// One thread's share.
pub(super) struct Files<'a> {
    pub rules: Rules<'a>,
    pub shared: &'a Shared,
    pub goes_on: GoesOn<'a>,
    copier: Copier<'a>,
    pub copied: Copied,
    pub place: Place,
}

/// What is known of the directory that files are made in.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    /// What is made there belongs to [`Rules::maker`]: its group is the same, should files get
    /// their directory's. Then nothing has to be asked of a new file.
    pub makes_own: bool,
    /// This copy has made it, and nobody can take it for whole until the copy ends.
    pub is_new: bool,
}

impl<'a> Files<'a> {
    pub(super) fn new(rules: Rules<'a>, shared: &'a Shared, goes_on: GoesOn<'a>) -> Self {
        Files {
            rules,
            shared,
            goes_on,
            copier: Copier::new(goes_on),
            copied: Copied::default(),
            place: Place::default(),
        }
    }

    /// For another thread.
    pub(super) fn another(&self) -> Files<'a> {
        Files::new(self.rules, self.shared, self.goes_on)
    }

    /// Opens what a directory's list has called a regular file. `None`: it is skipped.
    pub(super) fn open(
        &mut self,
        from: BorrowedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<(File, FileStat)>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(from, name, flags, Mode::empty())
            .map_err(|e| Error::sys("openat(O_PATH|O_NOFOLLOW)", e));
        let opened = found.and_then(|found| {
            let stat = fstat(&found).map_err(|e| Error::sys("fstat()", e))?;
            match kind(&stat) == SFlag::S_IFREG {
                true => Ok(Some((self.shared.open_to_read(found.as_fd())?, stat))),
                false => Ok(None),
            }
        });
        let reason = match opened {
            Ok(None) => SkipReason::Gone,
            Err(e) if e.errno() == Some(Errno::ENOENT) => SkipReason::Gone,
            Err(e) if is_unreadable(&e) => SkipReason::Unreadable,
            other => return other,
        };
        self.copied.skip(path, reason);
        Ok(None)
    }

    /// `from`: an O_PATH fd of a regular file.
    pub(super) fn file(
        &mut self,
        from: BorrowedFd,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        let rules = self.rules;
        let source = rules.at(End::Source, || self.shared.open_to_read(from));
        let source = match source {
            // What the user has named itself has to be readable.
            Err(e) if is_unreadable(&e) && !path.as_os_str().is_empty() => {
                self.copied.skip(path, SkipReason::Unreadable);
                return Ok(());
            }
            other => other?,
        };
        rules.at(End::Destination, || {
            self.take(&source, stat, to, name, path)
        })
    }

    /// Copies an open file. The caller is at the destination ([`Rules::at`]).
    pub(super) fn take(
        &mut self,
        source: &File,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        if stat.st_nlink < 2 {
            return self.copy(source, stat, to, name).map(drop);
        }
        // Held meanwhile: its other names wait for this copy.
        let shared = self.shared;
        let mut hard_links = shared.hard_links();
        if let Some(known) = hard_links.get(&identity(stat))
            && shared.link_again(known, to, name)
        {
            self.copied.files += 1;
            return Ok(());
        }
        let made = self.copy(source, stat, to, name)?;
        if let Some(made) = made
            && hard_links.len() < HARD_LINKS_MOST
        {
            hard_links.insert(identity(stat), (path.to_owned(), made));
        }
        Ok(())
    }

    /// Returns which file it has made of one with more names.
    fn copy(
        &mut self,
        source: &File,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
    ) -> Result<Option<Identity>> {
        let mode = self.rules.mode_of(stat) & !Mode::from_bits_truncate(0o7000);
        let number = &self.shared.number;
        let is_as_made = self.is_as_made(stat, mode);
        // Saves a link for each small file. What is to change hands, or is written for long, is
        // not shown before.
        let is_small = u64::try_from(stat.st_size).is_ok_and(|size| size <= SMALL);
        let new = match self.place.is_new && is_as_made && is_small {
            true => New::make_in_place(to, name, mode),
            false => Err(Errno::EEXIST),
        };
        let new = match new {
            Err(Errno::EEXIST) => New::make(to, mode, number),
            other => other,
        };
        let new = match new {
            // The directory is read-only, but a volume may be mounted on the file itself.
            Err(Errno::EROFS) => {
                self.write_in_place(source, stat, to, name, Errno::EROFS)?;
                return Ok(None);
            }
            other => other.map_err(|e| hint(Error::sys("openat(O_CREAT|O_WRONLY)", e)))?,
        };
        let bytes = self.copier.content(source, &new.file, stat)?;
        if !is_as_made {
            self.equip(new.file.as_fd(), stat, mode)?;
        }
        let made = match stat.st_nlink {
            0 | 1 => None,
            _ => Some(fstat(&new.file).map_err(|e| Error::sys("fstat()", e))?),
        };
        match new.place(name, number) {
            Err(Errno::EBUSY) => {
                self.write_in_place(source, stat, to, name, Errno::EBUSY)?;
                return Ok(None);
            }
            Err(Errno::EISDIR) => {
                return Err(
                    Error::conflict("a directory is there where a file is to be")
                        .with_errno(Errno::EISDIR),
                );
            }
            other => other.map_err(|e| hint(Error::sys(format!("linkat({name:?})"), e)))?,
        }
        self.copied.files += 1;
        self.copied.bytes += bytes;
        Ok(made.as_ref().map(identity))
    }

    /// Whether a file that is made with `mode` needs nothing more.
    fn is_as_made(&self, stat: &FileStat, mode: Mode) -> bool {
        match self.rules.owner_of(stat) {
            Some(owner) => {
                let is_own = self.place.makes_own && owner == self.rules.maker();
                is_own && self.rules.mode_of(stat) == mode
            }
            None => true,
        }
    }

    /// Writes into a file that something is mounted on: its name cannot be given to another.
    fn write_in_place(
        &mut self,
        source: &File,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
        why: Errno,
    ) -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let refused = || hint(Error::sys(format!("openat({name:?}, O_WRONLY)"), why));
        let found = openat(to, name, flags, Mode::empty()).map_err(|_| refused())?;
        let there = fstat(&found).map_err(|e| Error::sys("fstat()", e))?;
        if kind(&there) != SFlag::S_IFREG {
            return Err(refused());
        }
        if identity(&there) == identity(stat) {
            return Err(Error::conflict(
                "the source and the destination are one file",
            ));
        }
        let target = reopen(found.as_fd(), OFlag::O_WRONLY | OFlag::O_NOCTTY).map_err(hint)?;
        let target = File::from(target);
        target.set_len(0).context("ftruncate(0)").map_err(hint)?;
        self.copied.bytes += self.copier.content(source, &target, stat)?;
        self.copied.files += 1;
        Ok(())
    }

    /// Owner before mode: chown(2) clears setuid and setgid.
    pub(super) fn equip(&self, new: BorrowedFd, stat: &FileStat, mode: Mode) -> Result<()> {
        let wanted = self.rules.mode_of(stat);
        let Some((uid, gid)) = self.rules.owner_of(stat) else {
            return Ok(());
        };
        let now = fstat(new).map_err(|e| Error::sys("fstat()", e))?;
        let owned = (now.st_uid, now.st_gid) == (uid.as_raw(), gid.as_raw());
        if !owned {
            fchown(new, Some(uid), Some(gid))
                .map_err(|e| Error::sys(format!("fchown({uid}, {gid})"), e))?;
        }
        if wanted != mode {
            fchmod(new, wanted)
                .map_err(|e| Error::sys(format!("fchmod({:#o})", wanted.bits()), e))?;
        }
        Ok(())
    }
}
