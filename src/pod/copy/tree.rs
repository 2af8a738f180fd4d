//! A file or directory, and all below it, from one directory fd to another.
//!
//! Both sides may change at every moment. A name is one component, opened relative to its
//! directory's fd with O_PATH and O_NOFOLLOW; what was opened is asked of the fd, and read
//! through it. So no link leads anywhere, and what was seen to be a file is the file that is
//! read. Memory is bounded by the depth, never by what a directory holds.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::file::{Copier, New, hint, kind};
use super::{Copied, Reason};
use crate::linux::root::{Links, Root, reopen};
use crate::{Context, Error, Result};

/// Directories below each other. Each takes three fds, of which 1024 are the usual limit.
const DEPTH_MOST: usize = 256;
/// Files with several names that are remembered. The others of more become copies.
const HARD_LINKS_MOST: usize = 100_000;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Whom new files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This process.
    Caller,
    /// The owner of the source, by number.
    Source,
    Given(u32, u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub owner: Owner,
    /// What is kept of modes; the umask applies as well.
    pub mode: u32,
    /// Symbolic links are made again; else they are skipped.
    pub links: bool,
}

impl Rules {
    fn mode_of(&self, stat: &FileStat) -> Mode {
        Mode::from_bits_truncate(stat.st_mode & self.mode & 0o7777)
    }

    fn owner_of(&self, stat: &FileStat) -> Option<(Uid, Gid)> {
        let (uid, gid) = match self.owner {
            Owner::Caller => return None,
            Owner::Source => (stat.st_uid, stat.st_gid),
            Owner::Given(uid, gid) => (uid, gid),
        };
        Some((Uid::from_raw(uid), Gid::from_raw(gid)))
    }
}

/// A file, whatever its names.
type Identity = (u64, u64);

fn identity(stat: &FileStat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// One copy.
pub(crate) struct Tree<'a> {
    rules: Rules,
    goes_on: &'a dyn Fn() -> Result<()>,
    copier: Copier<'a>,
    copied: Copied,
    /// Of temporary names.
    number: u64,
    /// Where the walk is, below the top.
    path: PathBuf,
    /// The directory that is copied to, from the first on.
    top: Option<(OwnedFd, Identity)>,
    /// By the source's identity: the copy of a file with more names, below the top.
    hard_links: HashMap<Identity, (PathBuf, Identity)>,
}

/// A directory that is being copied.
struct Level {
    entries: OwningIter,
    from: OwnedFd,
    to: OwnedFd,
}

impl<'a> Tree<'a> {
    /// `goes_on` is asked before each file and each part of a large one.
    pub(crate) fn new(rules: Rules, goes_on: &'a dyn Fn() -> Result<()>) -> Self {
        Tree {
            rules,
            goes_on,
            copier: Copier::new(goes_on),
            copied: Copied::default(),
            number: 0,
            path: PathBuf::new(),
            top: None,
            hard_links: HashMap::new(),
        }
    }

    pub(crate) fn done(self) -> Copied {
        self.copied
    }

    /// Copies what an O_PATH fd refers to as `name` into the directory `to`.
    pub(crate) fn copy(&mut self, from: BorrowedFd, to: BorrowedFd, name: &OsStr) -> Result<()> {
        match self.item(from, to, name)? {
            Some(level) => self.walk(level),
            None => Ok(()),
        }
    }

    /// Copies what is in a directory into another.
    pub(crate) fn copy_contents(&mut self, from: BorrowedFd, to: BorrowedFd) -> Result<()> {
        let to = openat(to, ".", DIRECTORY, Mode::empty())
            .map_err(|e| Error::sys("openat(<destination>, \".\")", e))?;
        let level = self.level(from, to)?;
        self.walk(level)
    }

    fn walk(&mut self, top: Level) -> Result<()> {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.next() else {
                levels.pop();
                self.path.pop();
                continue;
            };
            let entry = entry
                .map_err(|e| Error::sys("getdents()", e))
                .with_context(|| self.shown())?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let name = OsStr::from_bytes(name.to_bytes());
            self.path.push(name);
            let below = self.entry(level, name).with_context(|| self.shown())?;
            match below {
                Some(_) if levels.len() >= DEPTH_MOST => {
                    return Err(Error::invalid(format!(
                        "directories are nested deeper than {DEPTH_MOST}"
                    )))
                    .with_context(|| self.shown());
                }
                Some(below) => levels.push(below),
                None => drop(self.path.pop()),
            }
        }
        Ok(())
    }

    fn shown(&self) -> String {
        format!("{:?}", self.path)
    }

    fn entry(&mut self, level: &Level, name: &OsStr) -> Result<Option<Level>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&level.from, name, flags, Mode::empty()) {
            Ok(found) => self.item(found.as_fd(), level.to.as_fd(), name),
            Err(Errno::ENOENT) => {
                self.copied.skip(&self.path, Reason::Gone);
                Ok(None)
            }
            Err(e) => Err(Error::sys("openat(O_PATH|O_NOFOLLOW)", e)),
        }
    }

    fn item(&mut self, from: BorrowedFd, to: BorrowedFd, name: &OsStr) -> Result<Option<Level>> {
        (self.goes_on)()?;
        let stat = fstat(from).map_err(|e| Error::sys("fstat()", e))?;
        let reason = match kind(&stat) {
            SFlag::S_IFREG => {
                self.file(from, &stat, to, name)?;
                return Ok(None);
            }
            SFlag::S_IFDIR => return self.directory(from, &stat, to, name),
            SFlag::S_IFLNK if self.rules.links => {
                self.link(from, &stat, to, name)?;
                return Ok(None);
            }
            SFlag::S_IFLNK => Reason::SymbolicLink,
            SFlag::S_IFIFO => Reason::Fifo,
            SFlag::S_IFSOCK => Reason::Socket,
            _ => Reason::Device,
        };
        let path = match self.path.as_os_str().is_empty() {
            true => Path::new(name),
            false => &self.path,
        };
        self.copied.skip(path, reason);
        Ok(None)
    }

    fn file(
        &mut self,
        from: BorrowedFd,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
    ) -> Result<()> {
        let shared = stat.st_nlink > 1 && self.top.is_some();
        if shared && self.link_again(stat, to, name) {
            self.copied.files += 1;
            return Ok(());
        }
        // Its type is known; O_NONBLOCK is for leases.
        let source = File::from(reopen(
            from,
            OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK,
        )?);
        let mode = self.rules.mode_of(stat) & !Mode::from_bits_truncate(0o7000);
        let new = match New::make(to, mode, &mut self.number) {
            // The directory is read-only, but a volume may be mounted on the file itself.
            Err(Errno::EROFS) => return self.write_in_place(&source, stat, to, name, Errno::EROFS),
            other => other.map_err(|e| hint(Error::sys("openat(O_TMPFILE|O_WRONLY)", e)))?,
        };
        let bytes = self.copier.content(&source, &new.file, stat)?;
        self.equip(new.file.as_fd(), stat, mode)?;
        let made = match shared {
            true => Some(fstat(&new.file).map_err(|e| Error::sys("fstat()", e))?),
            false => None,
        };
        match new.place(name, &mut self.number) {
            Err(Errno::EBUSY) => return self.write_in_place(&source, stat, to, name, Errno::EBUSY),
            Err(Errno::EISDIR) => {
                return Err(
                    Error::conflict("a directory is there where a file is to be")
                        .with_errno(Errno::EISDIR),
                );
            }
            other => other.map_err(|e| hint(Error::sys(format!("linkat({name:?})"), e)))?,
        }
        if let Some(made) = made
            && self.hard_links.len() < HARD_LINKS_MOST
        {
            let copy = (self.path.clone(), identity(&made));
            self.hard_links.insert(identity(stat), copy);
        }
        self.copied.files += 1;
        self.copied.bytes += bytes;
        Ok(())
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
    fn equip(&self, new: BorrowedFd, stat: &FileStat, mode: Mode) -> Result<()> {
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

    /// One more name of a file that has been copied; false: it is to be copied again.
    fn link_again(&self, stat: &FileStat, to: BorrowedFd, name: &OsStr) -> bool {
        let (Some((path, made)), Some((top, _))) =
            (self.hard_links.get(&identity(stat)), &self.top)
        else {
            return false;
        };
        let (Some(parent), Some(known)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let root = Root::new(top.as_fd());
        let Ok(parent) = root.open(parent, flags, Links::Refuse) else {
            return false;
        };
        if linkat(&parent, known, to, name, AtFlags::empty()).is_err() {
            return false;
        }
        // In a container another file may have got that name meanwhile.
        let linked = fstatat(to, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        linked.is_ok_and(|s| identity(&s) == *made)
    }

    fn link(
        &mut self,
        from: BorrowedFd,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
    ) -> Result<()> {
        let target: OsString = readlinkat(from, "").map_err(|e| Error::sys("readlinkat()", e))?;
        let make = || symlinkat(target.as_os_str(), to, name);
        let made = match make() {
            Err(Errno::EEXIST) => {
                unlinkat(to, name, UnlinkatFlags::NoRemoveDir).and_then(|()| make())
            }
            other => other,
        };
        made.map_err(|e| match e {
            Errno::EISDIR => Error::conflict("a directory is there where a link is to be"),
            e => hint(Error::sys(format!("symlinkat({name:?})"), e)),
        })?;
        if let Some((uid, gid)) = self.rules.owner_of(stat) {
            // What has the name now may be another file, which is not to change hands.
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let new = openat(to, name, flags, Mode::empty())
                .map_err(|e| Error::sys(format!("openat({name:?}, O_PATH|O_NOFOLLOW)"), e))?;
            let now = fstat(&new).map_err(|e| Error::sys("fstat()", e))?;
            if kind(&now) == SFlag::S_IFLNK
                && (now.st_uid, now.st_gid) != (uid.as_raw(), gid.as_raw())
            {
                let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
                fchownat(&new, "", Some(uid), Some(gid), flags)
                    .map_err(|e| Error::sys(format!("fchownat({name:?})"), e))?;
            }
        }
        self.copied.links += 1;
        Ok(())
    }

    fn directory(
        &mut self,
        from: BorrowedFd,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
    ) -> Result<Option<Level>> {
        if self.is_destination(stat) {
            self.copied.skip(&self.path, Reason::Destination);
            return Ok(None);
        }
        let mode = self.rules.mode_of(stat) & !Mode::from_bits_truncate(0o7000);
        let mode = match self.rules.owner {
            // Its owner is to fill it.
            Owner::Caller => mode | Mode::S_IRWXU,
            _ => mode,
        };
        let made = match mkdirat(to, name, mode) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(e) => return Err(hint(Error::sys(format!("mkdirat({name:?})"), e))),
        };
        let new = openat(to, name, DIRECTORY, Mode::empty()).map_err(|e| match e {
            Errno::ENOTDIR | Errno::ELOOP => {
                Error::conflict("what is there is no directory, and links are not followed")
                    .with_errno(e)
                    .hint("copy to the directory that the link names")
            }
            e => Error::sys(format!("openat({name:?}, O_DIRECTORY|O_NOFOLLOW)"), e),
        })?;
        if made {
            self.copied.directories += 1;
            // An existing one that was renamed to here meanwhile is not to change hands.
            if self.changes(stat, mode) && is_empty(new.as_fd())? {
                self.equip(new.as_fd(), stat, mode)?;
            }
        }
        self.level(from, new).map(Some)
    }

    /// Whether a new directory needs more than mkdir(2) has given it.
    fn changes(&self, stat: &FileStat, mode: Mode) -> bool {
        let owner = self.rules.owner_of(stat);
        let own = (nix::unistd::geteuid(), nix::unistd::getegid());
        owner.is_some_and(|owner| owner != own || self.rules.mode_of(stat) != mode)
    }

    fn is_destination(&self, stat: &FileStat) -> bool {
        self.top
            .as_ref()
            .is_some_and(|(_, top)| *top == identity(stat))
    }

    fn level(&mut self, from: BorrowedFd, to: OwnedFd) -> Result<Level> {
        let from = openat(from, ".", DIRECTORY, Mode::empty())
            .map_err(|e| Error::sys("openat(\".\", O_DIRECTORY)", e))?;
        if self.top.is_none() {
            let stat = fstat(&to).map_err(|e| Error::sys("fstat()", e))?;
            let own = fstat(&from).map_err(|e| Error::sys("fstat()", e))?;
            if identity(&own) == identity(&stat) {
                return Err(Error::conflict(
                    "the source and the destination are one directory",
                ));
            }
            let top = to.try_clone().context("fcntl(F_DUPFD_CLOEXEC)")?;
            self.top = Some((top, identity(&stat)));
        }
        let list = from.try_clone().context("fcntl(F_DUPFD_CLOEXEC)")?;
        let dir = Dir::from_fd(list).map_err(|e| Error::sys("fdopendir()", e))?;
        let entries = dir.into_iter();
        Ok(Level { entries, from, to })
    }
}

fn is_empty(dir: BorrowedFd) -> Result<bool> {
    let own = openat(dir, ".", DIRECTORY, Mode::empty())
        .map_err(|e| Error::sys("openat(\".\", O_DIRECTORY)", e))?;
    let dir = Dir::from_fd(own).map_err(|e| Error::sys("fdopendir()", e))?;
    Ok(dir.into_iter().take(3).count() <= 2)
}
