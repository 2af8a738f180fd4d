//! A walk through all files of a volume that containers may change meanwhile.
//!
//! Each directory is opened by its name in the one above, no link is followed, and no other
//! mount entered: a directory that is moved is found where it is then, or not at all.
//! What a walk may take is bounded, in time, depth and memory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// Directories, one in the other: each is an fd.
pub(super) const DEPTH_MOST: usize = 512;
/// Directories that have been seen and not been read yet.
const PENDING_MOST: usize = 1 << 18;

#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A directory, the first one excepted.
    Dir(&'a OwnedFd),
    /// What has, or had, this name in the directory, and is none.
    Other { dir: &'a OwnedFd, name: &'a CStr },
}

/// What is done with each; false ends the walk.
type Visit<'v> = &'v mut dyn FnMut(Found<'_>, &FileStat) -> bool;

#[derive(Debug)]
struct Walk {
    device: u64,
    until: Instant,
    pending: usize,
    whole: bool,
    ended: bool,
}

/// Goes through all that is below `root`. Whether all has been seen, or the visitor has seen
/// enough.
pub(super) fn walk(root: OwnedFd, until: Instant, visit: Visit<'_>) -> nix::Result<bool> {
    let mut walk = Walk {
        device: fstat(&root)?.st_dev,
        until,
        pending: 0,
        whole: true,
        ended: false,
    };
    let below = walk.read(&root, visit);
    let mut open = vec![(root, below)];
    while let Some((dir, below)) = open.last_mut() {
        walk.look_at_clock();
        if walk.ended {
            break;
        }
        let Some(name) = below.pop() else {
            open.pop();
            continue;
        };
        walk.pending -= 1;
        // It may have gone, or be a link now.
        let Ok(next) = open_dir_at(&*dir, name.as_c_str()) else {
            continue;
        };
        let Ok(stat) = fstat(&next) else { continue };
        if stat.st_dev != walk.device {
            continue;
        }
        walk.ended |= !visit(Found::Dir(&next), &stat);
        match open.len() < DEPTH_MOST {
            true => {
                let below = walk.read(&next, visit);
                open.push((next, below));
            }
            false => walk.whole = false,
        }
    }
    Ok(walk.whole)
}

pub(super) fn open_dir_at<P: ?Sized + nix::NixPath>(
    dir: impl AsFd,
    path: &P,
) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // A mount of the same filesystem has its device, and other files.
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(dir, path, how)
}

impl Walk {
    fn look_at_clock(&mut self) {
        if Instant::now() > self.until {
            (self.whole, self.ended) = (false, true);
        }
    }

    /// Shows what is in a directory; its directories, into which the walk is to go.
    fn read(&mut self, dir: &OwnedFd, visit: Visit<'_>) -> Vec<CString> {
        let mut below = Vec::new();
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        // By an fd of its own, with a position of its own.
        let Ok(mut entries) = Dir::openat(dir, c".", flags, Mode::empty()) else {
            self.whole = false;
            return below;
        };
        for (n, entry) in entries.iter().enumerate() {
            if n % 256 == 255 {
                self.look_at_clock();
            }
            if self.ended {
                break;
            }
            let Ok(entry) = entry else {
                self.whole = false;
                break;
            };
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(_) => {
                    self.whole = false;
                    continue;
                }
            };
            if stat.st_dev != self.device {
                continue;
            }
            if kind_of(&stat) != SFlag::S_IFDIR {
                self.ended |= !visit(Found::Other { dir, name }, &stat);
            } else if self.pending < PENDING_MOST {
                self.pending += 1;
                below.push(name.to_owned());
            } else {
                self.whole = false;
            }
        }
        below
    }
}

pub(super) fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
