//! Writes the files of one volume so that a reader sees all of a set or none of it: the
//! layout of Kubernetes' AtomicWriter.
//!
//! ```text
//! <volume>/
//!   ..2026_11_29_22_30_00.123456789/   one set, never changed once it is named by ..data
//!     key  dir/key
//!   ..data -> ..2026_11_29_22_30_00.123456789
//!   key -> ..data/key
//!   dir -> ..data/dir
//! ```
//!
//! The order of a write:
//!
//! 1. The new set, in a directory that nothing leads to yet.
//! 2. The links of the volume's directory. A new one dangles until the next step.
//! 3. `..data`, by rename(2).
//! 4. What the old set alone had: links, then directories that begin with `..`. Also what a
//!    monitor has left that was killed before this step.
//!
//! A container sees the volume read-only, but one with CAP_SYS_ADMIN can make its mount
//! writable and then put links, FIFOs and directories in the place of all that is here. So
//! nothing is reached by a path with more than one part except through openat2(2) with
//! RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, files are made with O_EXCL, and nothing that was
//! found is written to (podman CVE-2025-9566).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::content::{Content, File};
use crate::linux::root::{Links, Root};
use crate::{Error, Ignored, Result};

/// The link to the set that is in force.
const DATA: &str = "..data";
/// What it is made as, before it gets its name.
const DATA_NEW: &str = "..data_tmp";
/// Directories below one another that are removed at the most: a path of 4096 bytes has no
/// more, and a container may have made more.
const DEPTH_MOST: u32 = 2048;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// Makes the volume's directory what `content` says, unless it is so. Whether anything was
/// written.
pub(super) fn write(volume: BorrowedFd, content: &Content) -> Result<bool> {
    let tree = Tree::of(content);
    if tree.is_in_force(volume) {
        return Ok(false);
    }
    own(volume, tree.directory_mode(), None, content.group)?;
    let name = tree.make_set(volume)?;
    tree.make_links(volume)?;
    replace_link(volume, OsStr::new(DATA_NEW), &name)?;
    rename(volume, DATA_NEW, DATA)?;
    tree.remove_old(volume, &name);
    Ok(true)
}

/// The files by their directories.
struct Tree<'a> {
    content: &'a Content,
    /// The names in each directory of the set; its root is the empty path.
    directories: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

impl<'a> Tree<'a> {
    fn of(content: &'a Content) -> Self {
        let mut directories = BTreeMap::from([(PathBuf::new(), BTreeSet::new())]);
        for file in &content.files {
            let mut path = file.path.as_path();
            while let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                let names: &mut BTreeSet<_> = directories.entry(parent.to_owned()).or_default();
                names.insert(name.to_owned());
                path = parent;
            }
        }
        Tree {
            content,
            directories,
        }
    }

    /// What the volume's directory has links for.
    fn names(&self) -> &BTreeSet<OsString> {
        &self.directories[Path::new("")]
    }

    /// As Kubernetes: 0755, and with a group what SetVolumeOwnership adds.
    fn directory_mode(&self) -> u32 {
        match self.content.group {
            Some(_) => 0o2755,
            None => 0o755,
        }
    }

    fn is_in_force(&self, volume: BorrowedFd) -> bool {
        self.try_is_in_force(volume).unwrap_or(false)
    }

    fn try_is_in_force(&self, volume: BorrowedFd) -> Option<bool> {
        let name = readlinkat(volume, DATA).ok()?;
        if !name.as_bytes().starts_with(b"..") || name.as_bytes().contains(&b'/') {
            return Some(false);
        }
        let group = self.content.group.unwrap_or(0);
        let is_owned = |stat: &FileStat, kind, mode, user| {
            stat.st_mode == SFlag::bits(&kind) | mode && (stat.st_uid, stat.st_gid) == (user, group)
        };
        let set = open(volume, Path::new(&name), DIRECTORY).ok()?;
        for (path, names) in &self.directories {
            let dir = open(set.as_fd(), path, DIRECTORY).ok()?;
            let stat = fstat(&dir).ok()?;
            if !is_owned(&stat, SFlag::S_IFDIR, self.directory_mode(), 0)
                || names_in(&dir, names.len())? != *names
            {
                return Some(false);
            }
        }
        for file in &self.content.files {
            // O_NONBLOCK: a FIFO in its place is not waited for.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            let fd = open(set.as_fd(), &file.path, flags).ok()?;
            let stat = fstat(&fd).ok()?;
            if !is_owned(&stat, SFlag::S_IFREG, file.mode, file.user)
                || stat.st_size != i64::try_from(file.bytes.len()).ok()?
            {
                return Some(false);
            }
            let mut bytes = Vec::with_capacity(file.bytes.len());
            let read = std::fs::File::from(fd).take(file.bytes.len() as u64);
            { read }.read_to_end(&mut bytes).ok()?;
            if bytes != file.bytes {
                return Some(false);
            }
        }
        Some(self.names().iter().all(|n| is_link(volume, n)))
    }

    /// The name of the directory.
    fn make_set(&self, volume: BorrowedFd) -> Result<OsString> {
        let now = Timestamp::now();
        let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let mut number = u64::from(now.subsec_nanosecond().unsigned_abs());
        let name = loop {
            let name = OsString::from(format!("{stamp}.{number:09}"));
            match mkdirat(volume, name.as_os_str(), Mode::S_IRWXU) {
                Ok(()) => break name,
                // By a container, or the clock was set.
                Err(Errno::EEXIST) => number += 1,
                Err(e) => return Err(Error::sys(format!("mkdirat({})", name.display()), e)),
            }
        };
        let made = self.fill(volume, &name);
        if made.is_err() {
            remove(volume, &name, DEPTH_MOST).ignored("the next write removes it");
        }
        made.map(|()| name)
    }

    fn fill(&self, volume: BorrowedFd, name: &OsStr) -> Result<()> {
        let set = open(volume, Path::new(name), DIRECTORY)?;
        // A directory comes before those that are in it.
        for path in self.directories.keys() {
            let dir = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    let parent = open(set.as_fd(), parent, DIRECTORY)?;
                    mkdirat(&parent, name, Mode::S_IRWXU)
                        .map_err(|e| Error::sys(format!("mkdirat({})", path.display()), e))?;
                    open(parent.as_fd(), Path::new(name), DIRECTORY)?
                }
                _ => open(set.as_fd(), Path::new(""), DIRECTORY)?,
            };
            own(dir.as_fd(), self.directory_mode(), None, self.content.group)?;
        }
        self.content
            .files
            .iter()
            .try_for_each(|f| self.make_file(set.as_fd(), f))
    }

    fn make_file(&self, set: BorrowedFd, file: &File) -> Result<()> {
        let (Some(parent), Some(name)) = (file.path.parent(), file.path.file_name()) else {
            return Err(Error::invalid("a file without a name"));
        };
        let call = |call: &str, e| Error::sys(format!("{call}({})", file.path.display()), e);
        let parent = open(set, parent, DIRECTORY)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let fd = openat(&parent, name, flags | OFlag::O_CLOEXEC, Mode::S_IRUSR)
            .map_err(|e| call("openat", e))?;
        let mut made = std::fs::File::from(fd);
        made.write_all(&file.bytes)
            .map_err(|e| Error::from(e).push_context(format!("write({})", file.path.display())))?;
        own(made.as_fd(), file.mode, Some(file.user), self.content.group)
    }

    fn make_links(&self, volume: BorrowedFd) -> Result<()> {
        for name in self.names() {
            if !is_link(volume, name) {
                replace_link(volume, name, &in_data(name))?;
            }
        }
        Ok(())
    }

    /// Nothing of it is what readers see; what stays is removed by the next write.
    fn remove_old(&self, volume: BorrowedFd, name: &OsStr) {
        let Some(found) = names_in(&volume, usize::MAX) else {
            return;
        };
        for other in found {
            let is_set = other.as_bytes().starts_with(b"..") && other != *DATA && other != name;
            let is_old_link = !self.names().contains(&other) && is_link(volume, &other);
            if is_set || is_old_link {
                remove(volume, &other, DEPTH_MOST).ignored("the next write removes it");
            }
        }
    }
}

fn open(dir: BorrowedFd, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    Root::new(dir).open(path, flags | OFlag::O_NOFOLLOW, Links::Refuse)
}

fn own(fd: BorrowedFd, mode: u32, user: Option<u32>, group: Option<u32>) -> Result<()> {
    if user.unwrap_or(0) != 0 || group.is_some() {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        fchown(fd, user, group).map_err(|e| Error::sys("fchown()", e))?;
    }
    fchmod(fd, Mode::from_bits_truncate(mode))
        .map_err(|e| Error::sys(format!("fchmod({mode:o})"), e))
}

fn in_data(name: &OsStr) -> OsString {
    Path::new(DATA).join(name).into_os_string()
}

/// Whether it is the volume's link to what is of this name in the set.
fn is_link(volume: BorrowedFd, name: &OsStr) -> bool {
    readlinkat(volume, name).is_ok_and(|target| target == in_data(name))
}

/// A link in the place of whatever there is.
fn replace_link(volume: BorrowedFd, name: &OsStr, target: &OsStr) -> Result<()> {
    let link = || symlinkat(target, volume, name);
    let linked = match link() {
        Err(Errno::EEXIST) => {
            remove(volume, name, DEPTH_MOST)?;
            link()
        }
        other => other,
    };
    linked.map_err(|e| Error::sys(format!("symlinkat({})", name.display()), e))
}

fn rename(volume: BorrowedFd, from: &str, to: &str) -> Result<()> {
    let rename = || renameat(volume, from, volume, to);
    let renamed = match rename() {
        // A container has put a directory there.
        Err(Errno::EISDIR) => {
            remove(volume, OsStr::new(to), DEPTH_MOST)?;
            rename()
        }
        other => other,
    };
    renamed.map_err(|e| Error::sys(format!("renameat({from}, {to})"), e))
}

/// The names in a directory, or `None` where they cannot be read; no more than `most` and
/// one.
fn names_in(dir: &impl AsFd, most: usize) -> Option<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    let flags = DIRECTORY | OFlag::O_CLOEXEC;
    for entry in nix::dir::Dir::openat(dir, ".", flags, Mode::empty()).ok()? {
        let entry = entry.ok()?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.insert(name.to_owned());
        }
        if names.len() > most {
            break;
        }
    }
    Some(names)
}

/// Removes what is of this name, with all below; follows no link.
fn remove(dir: BorrowedFd, name: &OsStr, depth: u32) -> Result<()> {
    let call = |call: &str, e| Error::sys(format!("{call}({})", name.display()), e);
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        // What is no directory of ours may say so too: a mount that a container has made.
        Err(e) => {
            let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            let is_dir =
                stat.is_ok_and(|s| s.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits());
            if !is_dir {
                return Err(call("unlinkat", e));
            }
        }
    }
    if depth == 0 {
        return Err(call("unlinkat", Errno::ELOOP));
    }
    let inner = open(dir, Path::new(name), DIRECTORY)?;
    for below in names_in(&inner, usize::MAX).unwrap_or_default() {
        remove(inner.as_fd(), &below, depth - 1)?;
    }
    unlinkat(dir, name, UnlinkatFlags::RemoveDir).map_err(|e| call("rmdir", e))
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
