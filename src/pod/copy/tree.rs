//! A file or directory, and all below it, from one directory fd to another.
//!
//! Both sides may change at every moment. A name is one component, opened relative to its
//! directory's fd with O_PATH and O_NOFOLLOW; what was opened is asked of the fd, and read
//! through it. So no link leads anywhere, and what was seen to be a file is the file that is
//! read.
//!
//! One thread walks, and makes directories and links; of a tree with more than a few files,
//! others copy them. Memory and fds are bounded by the depth and the number of threads, never
//! by what a directory holds.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use nix::dir::{Dir, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::file::{GoesOn, hint, is_unreadable, kind};
use super::regular::{End, Files, Owner, Place, Rules, Shared, identity};
use super::{Copied, SkipReason};
use crate::{Context, Error, Result};

/// Directories below each other. Each takes three fds, and each thread [`OPENED`]; 1024 are the
/// usual limit.
const DEPTH_MOST: usize = 256;
/// Files of one directory that one thread takes at once. Threads that make files in the same
/// directory wait for each other in the kernel.
const BATCH: usize = 128;
/// Files that a thread opens at once.
const OPENED: usize = 32;
/// Batches that wait for a thread.
const QUEUE: usize = 8;
/// More would wait for each other in the kernel.
const THREADS: usize = 4;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Copies what an O_PATH fd refers to as `name` into the directory `to`. `goes_on` is asked
/// before each batch of files and each part of a large one.
pub(crate) fn copy<'a>(
    rules: Rules<'a>,
    goes_on: GoesOn<'a>,
    from: BorrowedFd,
    to: BorrowedFd,
    name: &OsStr,
) -> Result<Copied> {
    let shared = Shared::new()?;
    let mut walk = Walk::new(rules, &shared, goes_on);
    match walk.item(from, to, name)? {
        Some(level) => walk.all_of(level),
        None => Ok(walk.files.copied),
    }
}

/// Copies what is in a directory into another.
pub(crate) fn copy_contents<'a>(
    rules: Rules<'a>,
    goes_on: GoesOn<'a>,
    from: BorrowedFd,
    to: BorrowedFd,
) -> Result<Copied> {
    let shared = Shared::new()?;
    let walk = Walk::new(rules, &shared, goes_on);
    let to = rules.at(End::Destination, || {
        openat(to, ".", DIRECTORY, Mode::empty())
            .map_err(|e| Error::sys("openat(<destination>, \".\")", e))
    })?;
    let level = walk.level(from, to, false)?;
    walk.all_of(level)
}

/// A directory and its copy.
struct Pair {
    from: OwnedFd,
    to: OwnedFd,
    place: Place,
}

/// A directory that is being copied.
struct Level {
    entries: OwningIter,
    pair: Arc<Pair>,
    /// Regular files that no thread has yet.
    names: Vec<OsString>,
}

/// Files of one directory.
struct Batch {
    pair: Arc<Pair>,
    /// Of the directory, below the top.
    path: PathBuf,
    names: Vec<OsString>,
}

impl Batch {
    fn copy(&self, files: &mut Files) -> Result<()> {
        files.place = self.pair.place;
        for names in self.names.chunks(OPENED) {
            (files.goes_on)()?;
            self.copy_some(names, files)?;
        }
        files.place = Place::default();
        Ok(())
    }

    /// All of them are opened first: the rights change twice for all, not twice a file.
    fn copy_some(&self, names: &[OsString], files: &mut Files) -> Result<()> {
        let (from, to) = (self.pair.from.as_fd(), self.pair.to.as_fd());
        let rules = files.rules;
        let mut opened = Vec::with_capacity(names.len());
        rules.at(End::Source, || {
            for name in names {
                let path = self.path.join(name);
                let found = files.open(from, name, &path);
                opened.push((found.with_context(|| format!("{path:?}"))?, path));
            }
            Ok(())
        })?;
        rules.at(End::Destination, || {
            for (name, (found, path)) in names.iter().zip(&opened) {
                if let Some((source, stat)) = found {
                    let taken = files.take(source, stat, to, name, path);
                    taken.with_context(|| format!("{path:?}"))?;
                }
            }
            Ok(())
        })
    }
}

/// What the threads tell each other.
struct Queue {
    batches: Mutex<Receiver<Batch>>,
    failed: AtomicBool,
    /// The first.
    error: Mutex<Option<Error>>,
}

impl Queue {
    fn next(&self) -> Option<Batch> {
        let batches = self.batches.lock();
        batches.unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    /// To the end of the walk: it waits while the queue is full.
    fn work(&self, mut files: Files) -> Copied {
        while let Some(batch) = self.next() {
            if self.failed.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(e) = batch.copy(&mut files) {
                let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
                error.get_or_insert(e);
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        files.copied
    }
}

/// The thread that walks.
struct Walk<'a> {
    files: Files<'a>,
    /// Where it is, below the top.
    path: PathBuf,
    batches: usize,
}

impl<'a> Walk<'a> {
    fn new(rules: Rules<'a>, shared: &'a Shared, goes_on: GoesOn<'a>) -> Self {
        Walk {
            files: Files::new(rules, shared, goes_on),
            path: PathBuf::new(),
            batches: 0,
        }
    }

    fn all_of(mut self, top: Level) -> Result<Copied> {
        let (sender, batches) = sync_channel(QUEUE);
        let queue = Queue {
            batches: Mutex::new(batches),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        };
        let walked = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let walked = self.walk(top, |walk, batch| {
                if queue.failed.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                // Most copies are of a few files, and need no thread.
                walk.batches += 1;
                if walk.batches == 2 {
                    threads = walk.start_threads(scope, &queue);
                }
                walk.hand_over(batch, &sender, threads.len()).map(|()| true)
            });
            drop(sender);
            for thread in threads {
                if let Ok(copied) = thread.join() {
                    self.files.copied.add(copied);
                }
            }
            walked
        });
        let error = queue.error.into_inner();
        match error.unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => walked.map(|()| self.files.copied),
        }
    }

    fn start_threads<'scope>(
        &self,
        scope: &'scope Scope<'scope, 'a>,
        queue: &'scope Queue,
    ) -> Vec<ScopedJoinHandle<'scope, Copied>> {
        let most = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
        let one = |_| {
            let files = self.files.another();
            // Without a thread (a limit on processes), by those there are.
            Builder::new()
                .spawn_scoped(scope, || queue.work(files))
                .ok()
        };
        (0..most).filter_map(one).collect()
    }

    fn hand_over(&mut self, batch: Batch, to: &SyncSender<Batch>, threads: usize) -> Result<()> {
        match threads {
            0 => batch.copy(&mut self.files),
            _ => to
                .send(batch)
                .map_err(|_| Error::failed("the threads that copy have ended")),
        }
    }

    /// `take` is given each batch; false: another thread has failed.
    fn walk(
        &mut self,
        top: Level,
        mut take: impl FnMut(&mut Self, Batch) -> Result<bool>,
    ) -> Result<()> {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let entry = level.entries.next();
            if level.names.len() >= BATCH || (entry.is_none() && !level.names.is_empty()) {
                let batch = Batch {
                    pair: Arc::clone(&level.pair),
                    path: self.path.clone(),
                    names: std::mem::take(&mut level.names),
                };
                if !take(self, batch)? {
                    return Ok(());
                }
            }
            let Some(entry) = entry else {
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
            if entry.file_type() == Some(Type::File) {
                level.names.push(name.to_owned());
                continue;
            }
            self.path.push(name);
            let pair = Arc::clone(&level.pair);
            let below = self.entry(&pair, name).with_context(|| self.shown())?;
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

    fn entry(&mut self, pair: &Pair, name: &OsStr) -> Result<Option<Level>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = self.files.rules.at(End::Source, || {
            openat(&pair.from, name, flags, Mode::empty())
                .map_err(|e| Error::sys("openat(O_PATH|O_NOFOLLOW)", e))
        });
        match found {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {
                self.files.copied.skip(&self.path, SkipReason::Gone);
                Ok(None)
            }
            Err(e) if is_unreadable(&e) => {
                self.files.copied.skip(&self.path, SkipReason::Unreadable);
                Ok(None)
            }
            other => self.item(other?.as_fd(), pair.to.as_fd(), name),
        }
    }

    fn item(&mut self, from: BorrowedFd, to: BorrowedFd, name: &OsStr) -> Result<Option<Level>> {
        (self.files.goes_on)()?;
        let stat = fstat(from).map_err(|e| Error::sys("fstat()", e))?;
        let reason = match kind(&stat) {
            SFlag::S_IFREG => {
                self.files.file(from, &stat, to, name, &self.path)?;
                return Ok(None);
            }
            SFlag::S_IFDIR => return self.directory(from, &stat, to, name),
            SFlag::S_IFLNK if self.files.rules.links => {
                let rules = self.files.rules;
                rules.at(End::Destination, || self.link(from, &stat, to, name))?;
                return Ok(None);
            }
            SFlag::S_IFLNK => SkipReason::SymbolicLink,
            SFlag::S_IFIFO => SkipReason::Fifo,
            SFlag::S_IFSOCK => SkipReason::Socket,
            _ => SkipReason::Device,
        };
        let path = match self.path.as_os_str().is_empty() {
            true => Path::new(name),
            false => &self.path,
        };
        self.files.copied.skip(path, reason);
        Ok(None)
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
        if let Some((uid, gid)) = self.files.rules.owner_of(stat) {
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
        self.files.copied.links += 1;
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
            self.files.copied.skip(&self.path, SkipReason::Destination);
            return Ok(None);
        }
        let is_top = self.path.as_os_str().is_empty();
        if !is_top && is_of_the_kernel(from)? {
            self.files.copied.skip(&self.path, SkipReason::KernelFiles);
            return Ok(None);
        }
        let mode = self.files.rules.mode_of(stat) & !Mode::from_bits_truncate(0o7000);
        let mode = match self.files.rules.owner {
            // Its owner is to fill it.
            Owner::Maker => mode | Mode::S_IRWXU,
            _ => mode,
        };
        let rules = self.files.rules;
        let (new, made) = rules.at(End::Destination, || {
            self.make_directory(stat, to, name, mode)
        })?;
        match self.level(from, new, made) {
            Err(e) if !is_top && is_unreadable(&e) => {
                self.files.copied.skip(&self.path, SkipReason::Unreadable);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// And whether it was not there.
    fn make_directory(
        &mut self,
        stat: &FileStat,
        to: BorrowedFd,
        name: &OsStr,
        mode: Mode,
    ) -> Result<(OwnedFd, bool)> {
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
            self.files.copied.directories += 1;
            // An existing one that was renamed to here meanwhile is not to change hands.
            if self.changes(stat, mode) && is_empty(new.as_fd())? {
                self.files.equip(new.as_fd(), stat, mode)?;
            }
        }
        Ok((new, made))
    }

    /// Whether a new directory needs more than mkdir(2) has given it.
    fn changes(&self, stat: &FileStat, mode: Mode) -> bool {
        let owner = self.files.rules.owner_of(stat);
        let maker = self.files.rules.maker();
        owner.is_some_and(|owner| owner != maker || self.files.rules.mode_of(stat) != mode)
    }

    fn is_destination(&self, stat: &FileStat) -> bool {
        self.files
            .shared
            .top
            .get()
            .is_some_and(|(_, top)| *top == identity(stat))
    }

    fn level(&self, from: BorrowedFd, to: OwnedFd, is_new: bool) -> Result<Level> {
        let from = self.files.rules.at(End::Source, || {
            openat(from, ".", DIRECTORY, Mode::empty())
                .map_err(|e| Error::sys("openat(\".\", O_DIRECTORY)", e))
        })?;
        let stat = fstat(&to).map_err(|e| Error::sys("fstat()", e))?;
        if self.files.shared.top.get().is_none() {
            let own = fstat(&from).map_err(|e| Error::sys("fstat()", e))?;
            if identity(&own) == identity(&stat) {
                return Err(Error::conflict(
                    "the source and the destination are one directory",
                ));
            }
            let top = to.try_clone().context("fcntl(F_DUPFD_CLOEXEC)")?;
            self.files.shared.top.get_or_init(|| (top, identity(&stat)));
        }
        let list = from.try_clone().context("fcntl(F_DUPFD_CLOEXEC)")?;
        let dir = Dir::from_fd(list).map_err(|e| Error::sys("fdopendir()", e))?;
        let entries = dir.into_iter();
        Ok(Level {
            entries,
            pair: Arc::new(Pair {
                from,
                to,
                place: Place {
                    makes_own: stat.st_gid == self.files.rules.maker().1.as_raw(),
                    is_new,
                },
            }),
            names: Vec::new(),
        })
    }
}

/// Whether a directory is of a file system whose files the kernel makes up when they are read.
fn is_of_the_kernel(dir: BorrowedFd) -> Result<bool> {
    use nix::sys::statfs;
    let stat = statfs::fstatfs(dir).map_err(|e| Error::sys("fstatfs()", e))?;
    let made_up = [
        statfs::PROC_SUPER_MAGIC,
        statfs::SYSFS_MAGIC,
        statfs::CGROUP_SUPER_MAGIC,
        statfs::CGROUP2_SUPER_MAGIC,
    ];
    Ok(made_up.contains(&stat.filesystem_type()))
}

fn is_empty(dir: BorrowedFd) -> Result<bool> {
    let own = openat(dir, ".", DIRECTORY, Mode::empty())
        .map_err(|e| Error::sys("openat(\".\", O_DIRECTORY)", e))?;
    let dir = Dir::from_fd(own).map_err(|e| Error::sys("fdopendir()", e))?;
    Ok(dir.into_iter().take(3).count() <= 2)
}
