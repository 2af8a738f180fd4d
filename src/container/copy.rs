//! Copying a directory of a container's root into a fresh tmpfs: the option
//! `tmpcopyup`. Every name is opened relative to its directory's fd, no link
//! followed, and bounded by the tmpfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, mkdirat, mknodat};
use nix::sys::stat::{futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::linux::root::reopen;
use crate::{Context, Error, Result};

/// Deeper than any path that a process could name at once.
const DEPTH_MOST: u32 = 256;

/// What is in `from` comes into `to`, with owners, modes and times. Both O_PATH or
/// better. In this process's /proc they are reached by their fds.
pub(super) fn copy_tree(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let from = reopen(from, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let to = openat(to, ".", flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::sys("openat(<tmpfs>, \".\")", e))?;
    let stat = nix::sys::stat::fstat(&from).map_err(|e| Error::sys("fstat()", e))?;
    copy_dir(from, to.as_fd(), 0)?;
    own(to.as_fd(), Path::new("."), &stat)
}

fn copy_dir(from: OwnedFd, to: BorrowedFd, depth: u32) -> Result<()> {
    if depth > DEPTH_MOST {
        return Err(Error::failed("directories nest too deep"));
    }
    let mut dir = Dir::from_fd(from).map_err(|e| Error::sys("fdopendir()", e))?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(|e| Error::sys("getdents()", e))?;
        let name = entry.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        copy_one(dir.as_fd(), to, name, depth).with_context(|| name.display().to_string())?;
    }
    Ok(())
}

fn copy_one(from: BorrowedFd, to: BorrowedFd, name: &Path, depth: u32) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|e| Error::sys("fstatat()", e))?;
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    let open = |dir: BorrowedFd, more| {
        openat(dir, name, flags | more, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|e| Error::sys(format!("openat({name:?}, {more:?})"), e))
    };
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).map_err(|e| Error::sys("mkdirat()", e))?;
            let new = open(to, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            copy_dir(
                open(from, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?,
                new.as_fd(),
                depth + 1,
            )?;
        }
        SFlag::S_IFREG => {
            let mut source = std::fs::File::from(open(from, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
            let new = open(to, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
            let mut new = std::fs::File::from(new);
            std::io::copy(&mut source, &mut new)?;
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).map_err(|e| Error::sys("readlinkat()", e))?;
            symlinkat(target.as_os_str(), to, name).map_err(|e| Error::sys("symlinkat()", e))?;
        }
        // A socket's listener is elsewhere; the others are nodes like any.
        SFlag::S_IFSOCK => return Ok(()),
        kind => {
            mknodat(to, name, kind, mode, stat.st_rdev).map_err(|e| Error::sys("mknodat()", e))?
        }
    }
    own(to, name, &stat)
}

fn own(dir: BorrowedFd, name: &Path, stat: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(
        dir,
        name,
        Some(uid),
        Some(gid),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(|e| Error::sys("fchownat()", e))?;
    let times = (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    );
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR | SFlag::S_IFREG => {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            let fd =
                openat(dir, name, flags, Mode::empty()).map_err(|e| Error::sys("openat()", e))?;
            fchmod(&fd, mode).map_err(|e| Error::sys("fchmod()", e))?;
            futimens(&fd, &times.0, &times.1).map_err(|e| Error::sys("futimens()", e))
        }
        _ => utimensat(
            dir,
            name,
            &times.0,
            &times.1,
            UtimensatFlags::NoFollowSymlink,
        )
        .map_err(|e| Error::sys("utimensat()", e)),
    }
}
