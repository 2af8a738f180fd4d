//! A layer's tar stream to a directory that overlayfs takes as a lowerdir.
//!
//! The archive is hostile until proven otherwise. Everything below the target
//! is reached from the target's own dirfd, as `beneath` resolves it. Nobody else
//! writes there (it is below the store's 0700 ingest): no race is possible.
//! Nothing is ever opened for writing but a file that this call has created
//! (`O_CREAT|O_EXCL`): an entry cannot write through a symlink or a hard link.
//!
//! Layers are unpacked each on its own, in any order or at once, and not on top
//! of each other: whiteouts (OCI image-spec, layer.md) become overlayfs's
//! (Documentation/filesystems/overlayfs.rst): a character device 0:0, and
//! `trusted.overlay.opaque` on a directory. Extended attributes of overlayfs in
//! an image are dropped: a redirect could name a path of another layer.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat,
    futimens, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use crate::image::archive::tar::{Entry, EntryKind, Extent, Reader, show};
use crate::image::layer::beneath::{
    MAX_PATH, Steps, c_name, clean, open_child, open_parent, open_there, split, times_of,
};
use crate::image::layer::whiteout::{Meaning, meaning};
use crate::image::limits::Budget;
use crate::sys::xattr;
use crate::{Context, Error, Result};

const OVERLAY_OPAQUE: &CStr = c"trusted.overlay.opaque";

/// What unpacking a layer has found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// The layer hides all below it. overlayfs does not honour the attribute
    /// on a layer's root, so the stack must end here.
    pub opaque_root: bool,
}

/// Unpacks a plain tar stream into the empty directory `target`, and reads the
/// stream to its end. On an error the directory is to be thrown away.
pub(crate) fn unpack<R: Read>(stream: R, target: OwnedFd, budget: &Budget<'_>) -> Result<Unpacked> {
    let mut reader = Reader::new(stream);
    let mut unpacker = Unpacker {
        target,
        budget,
        parent: None,
        steps: Steps::default(),
        done: Unpacked::default(),
        buffer: vec![0; 256 << 10],
    };
    while let Some(entry) = reader.next_entry()? {
        unpacker.done.entries += 1;
        budget.entries(unpacker.done.entries)?;
        unpacker
            .entry(&entry, &mut reader)
            .with_context(|| format!("unpack {}", entry.shown()))?;
    }
    unpacker.leave_parent()?;
    reader.drain()?;
    Ok(unpacker.done)
}

struct Unpacker<'a> {
    target: OwnedFd,
    budget: &'a Budget<'a>,
    /// The directory of the last entry: archives go directory by directory.
    parent: Option<Parent>,
    steps: Steps,
    done: Unpacked,
    buffer: Vec<u8>,
}

struct Parent {
    /// As in the archive, cleaned; symlinks in it are not resolved.
    path: Vec<u8>,
    fd: OwnedFd,
    /// Its times before anything was put into it, given back on leaving.
    times: (TimeSpec, TimeSpec),
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, content: &mut Reader<R>) -> Result<()> {
        let path = clean(&entry.path)?;
        let Some((dir, name)) = split(&path) else {
            return self.root(entry);
        };
        let (name, whiteout) = match meaning(dir, name)? {
            Meaning::Nothing => return Ok(()),
            Meaning::Opaque => (None, true),
            Meaning::Whiteout(hidden) => (Some(hidden), true),
            Meaning::Entry(name) => (Some(name), false),
        };
        self.enter_parent(dir)?;
        let Some(parent) = &self.parent else {
            return Ok(());
        };
        let Some(name) = name else {
            self.done.opaque_root |= same_file(&fstat(&parent.fd)?, &fstat(&self.target)?);
            return set_opaque(&parent.fd);
        };
        let name = c_name(name)?;
        let mut place = Place {
            dir: parent.fd.as_fd(),
            name: &name,
            replaced: false,
        };
        if whiteout {
            place.whiteout()?;
        } else {
            match entry.kind {
                EntryKind::Directory => place.directory(entry)?,
                EntryKind::File => {
                    self.budget.file(self.done.bytes, entry.size)?;
                    self.done.bytes += entry.size;
                    place.file(entry, content, &mut self.buffer)?;
                }
                EntryKind::HardLink => place.hard_link(entry, &self.target, &mut self.steps)?,
                EntryKind::Symlink => place.symlink(entry)?,
                EntryKind::CharDevice => place.node(entry, SFlag::S_IFCHR)?,
                EntryKind::BlockDevice => place.node(entry, SFlag::S_IFBLK)?,
                EntryKind::Fifo => place.node(entry, SFlag::S_IFIFO)?,
            }
        }
        if place.replaced {
            // What was replaced may have been a symlink or a directory on the
            // way to the directory that is remembered.
            self.leave_parent()?;
        }
        Ok(())
    }

    /// An entry for the layer's root, as `./`: only its attributes.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::invalid("the root of a layer must be a directory"));
        }
        self.leave_parent()?;
        apply_to_fd(&self.target, entry)
    }

    fn enter_parent(&mut self, path: &[u8]) -> Result<()> {
        if self.parent.as_ref().is_some_and(|p| p.path == path) {
            return Ok(());
        }
        self.leave_parent()?;
        let fd = open_parent(&self.target, path, &mut self.steps)?;
        let times = times_of(&fstat(&fd)?);
        self.parent = Some(Parent {
            path: path.to_vec(),
            fd,
            times,
        });
        Ok(())
    }

    fn leave_parent(&mut self) -> Result<()> {
        if let Some(Parent { fd, times, .. }) = self.parent.take() {
            futimens(&fd, &times.0, &times.1).map_err(|e| Error::sys("futimens(parent)", e))?;
        }
        Ok(())
    }
}

/// Where an entry goes: a directory of the layer and one name in it.
struct Place<'a> {
    dir: BorrowedFd<'a>,
    name: &'a CStr,
    /// Something was removed to make room.
    replaced: bool,
}

impl Place<'_> {
    fn directory(&mut self, entry: &Entry) -> Result<()> {
        let mut opaque = false;
        let mode = Mode::from_bits_truncate(entry.mode);
        while let Err(e) = mkdirat(self.dir, self.name, mode) {
            if e != Errno::EEXIST {
                return Err(self.call("mkdirat", e));
            }
            let found = self.stat()?;
            if is(&found, SFlag::S_IFDIR) {
                break; // an entry for a directory adds to what is there
            }
            // Deleted and made anew in one layer: nothing below shines through.
            opaque |= is_whiteout(&found);
            self.clear()?;
        }
        let fd = open_child(self.dir, self.name).map_err(|e| self.call("openat", e))?;
        if opaque {
            set_opaque(&fd)?;
        }
        apply_to_fd(&fd, entry)
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        content: &mut Reader<R>,
        buffer: &mut [u8],
    ) -> Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let (dir, name) = (self.dir, self.name);
        let mode = Mode::from_bits_truncate(entry.mode);
        let fd = self.create("openat", || openat(dir, name, flags, mode))?;
        let mut file = File::from(fd);
        if let Some(extents) = &entry.extents {
            sparse(&file, entry.size, extents, content, buffer)?;
            return apply_to_fd(&file, entry);
        }
        let mut left = entry.size;
        while left > 0 {
            let n = content.read(buffer).context("read the layer")?;
            file.write_all(&buffer[..n]).context("write")?;
            left -= n as u64;
        }
        apply_to_fd(&file, entry)
    }

    fn symlink(&mut self, entry: &Entry) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > MAX_PATH {
            return Err(Error::invalid("a symlink's target is empty or too long"));
        }
        let (dir, name) = (self.dir, self.name);
        self.create("symlinkat", || symlinkat(entry.link.as_slice(), dir, name))?;
        self.apply(entry)
    }

    fn node(&mut self, entry: &Entry, kind: SFlag) -> Result<()> {
        let (dir, name) = (self.dir, self.name);
        let device = makedev(u64::from(entry.device.0), u64::from(entry.device.1));
        self.create("mknodat", || {
            mknodat(dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)
        })?;
        self.apply(entry)?;
        // Last, as chown(2) clears setuid and setgid. Not a symlink: it was made just
        // now, and nobody else writes here.
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)
            .map_err(|e| self.call("fchmodat", e))
    }

    /// The target must be in the same layer, as image tools write it.
    fn hard_link(&mut self, entry: &Entry, root: &OwnedFd, steps: &mut Steps) -> Result<()> {
        let path = clean(&entry.link)?;
        let no_target =
            |why: &str| Error::invalid(format!("hard link to {}: {why}", show(&entry.link)));
        let (dir, target) = split(&path).ok_or_else(|| no_target("it is the layer's root"))?;
        let target = c_name(target)?;
        let dir = open_there(root, dir, steps).map_err(|e| {
            if e.errno() == Some(Errno::ENOENT) {
                no_target("it is not in this layer")
            } else {
                e
            }
        })?;
        let found = match fstatat(&dir, target.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Err(no_target("it is not in this layer")),
            Err(e) => return Err(self.call("fstatat", e)),
        };
        if is(&found, SFlag::S_IFDIR) {
            return Err(no_target("it is a directory"));
        }
        // A link to itself must not remove its only name first.
        if let Ok(here) = self.stat()
            && same_file(&here, &found)
        {
            return Ok(());
        }
        let (here, name) = (self.dir, self.name);
        self.create("linkat", || {
            linkat(&dir, target.as_c_str(), here, name, AtFlags::empty())
        })
    }

    /// Hides what lower layers have by this name, and nothing of this layer,
    /// wherever in the archive the whiteout stands.
    fn whiteout(&mut self) -> Result<()> {
        match mknodat(self.dir, self.name, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) if is(&self.stat()?, SFlag::S_IFDIR) => {
                let fd = open_child(self.dir, self.name).map_err(|e| self.call("openat", e))?;
                set_opaque(&fd)
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(self.call("mknodat", e)),
        }
    }

    /// Runs a call that makes the name, and once more after removing what was
    /// in its place: the last entry of a name wins.
    fn create<T>(&mut self, call: &str, make: impl Fn() -> nix::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EEXIST) => {
                self.clear()?;
                make()
            }
            other => other,
        }
        .map_err(|e| self.call(call, e))
    }

    fn clear(&mut self) -> Result<()> {
        self.replaced = true;
        match unlinkat(self.dir, self.name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(()),
            Err(Errno::EISDIR) => {
                // Each removed file was made by an entry: linear in the archive.
                std::fs::remove_dir_all(self.path()).context("remove a replaced directory")
            }
            Err(e) => Err(self.call("unlinkat", e)),
        }
    }

    /// Owner, times and attributes of what cannot be opened.
    fn apply(&self, entry: &Entry) -> Result<()> {
        fchownat(
            self.dir,
            self.name,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(|e| self.call("fchownat", e))?;
        if !entry.xattrs.is_empty() {
            let path = CString::new(self.path().into_os_string().into_encoded_bytes())
                .map_err(|_| Error::invalid("a name holds a NUL byte"))?;
            apply_xattrs(entry, |name, value| xattr::lsetxattr(&path, name, value))?;
        }
        let time = time_of(entry);
        utimensat(
            self.dir,
            self.name,
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .map_err(|e| self.call("utimensat", e))
    }

    /// By way of the dirfd: for the few calls that take no dirfd.
    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.dir.as_raw_fd().to_string())
            .join(OsStr::from_bytes(self.name.to_bytes()))
    }

    fn stat(&self) -> Result<FileStat> {
        fstatat(self.dir, self.name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|e| self.call("fstatat", e))
    }

    fn call(&self, call: &str, e: Errno) -> Error {
        Error::sys(format!("{call}({})", show(self.name.to_bytes())), e)
    }
}

/// What is not an extent stays a hole.
fn sparse<R: Read>(
    file: &File,
    size: u64,
    extents: &[Extent],
    content: &mut Reader<R>,
    buffer: &mut [u8],
) -> Result<()> {
    file.set_len(size)
        .with_context(|| format!("ftruncate({size})"))?;
    for extent in extents {
        let mut done = 0;
        while done < extent.length {
            let left = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
            let most = buffer.len().min(left);
            let n = content
                .read(&mut buffer[..most])
                .context("read the layer")?;
            file.write_all_at(&buffer[..n], extent.offset + done)
                .context("pwrite")?;
            done += n as u64;
        }
    }
    Ok(())
}

fn set_opaque<Fd: AsFd>(dir: Fd) -> Result<()> {
    xattr::fsetxattr(dir, OVERLAY_OPAQUE, b"y")
        .map_err(|e| Error::sys("fsetxattr(trusted.overlay.opaque)", e))
        .map_err(|e| e.hint("the data root must be on a file system with trusted xattrs, as root"))
}

/// Owner before mode, as chown(2) clears setuid and setgid; capabilities after
/// both, as they are cleared too; times last. What is right already is left alone:
/// a journal takes longer to note it than fstat(2) to see it.
fn apply_to_fd<Fd: AsFd>(fd: Fd, entry: &Entry) -> Result<()> {
    let now = fstat(&fd).map_err(|e| Error::sys("fstat", e))?;
    let owned = (now.st_uid, now.st_gid) == (entry.uid, entry.gid);
    if !owned {
        fchown(
            &fd,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        )
        .map_err(|e| Error::sys(format!("fchown({}, {})", entry.uid, entry.gid), e))?;
    }
    if !owned || now.st_mode & 0o7777 != entry.mode {
        fchmod(&fd, Mode::from_bits_truncate(entry.mode))
            .map_err(|e| Error::sys(format!("fchmod({:#o})", entry.mode), e))?;
    }
    apply_xattrs(entry, |name, value| xattr::fsetxattr(&fd, name, value))?;
    let time = time_of(entry);
    futimens(&fd, &time, &time).map_err(|e| Error::sys("futimens", e))
}

/// `user.*` and file capabilities. The rest is the host's business: labels of
/// its LSM, integrity signatures, and what overlayfs believes.
fn apply_xattrs(entry: &Entry, set: impl Fn(&CStr, &[u8]) -> nix::Result<()>) -> Result<()> {
    for (name, value) in &entry.xattrs {
        let bytes = name.to_bytes();
        let user = bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.");
        if !user && bytes != b"security.capability" {
            continue;
        }
        match set(name, value) {
            Ok(()) => {}
            // A file system without user.*, or a kind of file that has none.
            Err(Errno::EOPNOTSUPP | Errno::EPERM) if user => {}
            Err(e) => return Err(Error::sys(format!("setxattr({})", show(bytes)), e)),
        }
    }
    Ok(())
}

fn time_of(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, i64::from(entry.mtime.1))
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn is_whiteout(stat: &FileStat) -> bool {
    is(stat, SFlag::S_IFCHR) && stat.st_rdev == 0
}

fn same_file(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
pub(in crate::image) mod tests;
