//! How much of the disk a volume takes, as `du` counts: blocks, and each file once,
//! however many names it has.
//!
//! What is measured belongs to a container, which changes it meanwhile. Each directory is
//! opened by its name in the one above, no link is followed, and no other filesystem
//! entered: a directory that is moved is counted where it is found, or not at all. What a
//! walk may take is bounded, in time, depth and memory. A file that has no name any more is
//! not found.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use serde::{Deserialize, Serialize};

use crate::{Context, Error, Result};

/// Directories, one in the other: each is an fd.
const DEPTH_MOST: usize = 512;
/// Directories that have been seen and not been read yet.
const PENDING_MOST: usize = 1 << 18;
/// Files with several names.
const LINKED_MOST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub bytes: u64,
    /// Not all has been seen: it is more than that.
    pub partial: bool,
}

#[derive(Debug)]
struct Walk {
    device: u64,
    most: u64,
    until: Instant,
    linked: HashSet<u64>,
    pending: usize,
    found: Usage,
}

/// Counts until that is more than `most`, or it is too late.
pub(crate) fn measure(dir: &Path, most: u64, until: Instant) -> Result<Usage> {
    let failed = |e| Error::sys(format!("open({}, O_DIRECTORY)", dir.display()), e);
    let root = open_at(AT_FDCWD, dir).map_err(failed)?;
    let stat = fstat(&root).with_context(|| format!("fstat({})", dir.display()))?;
    let mut walk = Walk {
        device: stat.st_dev,
        most,
        until,
        linked: HashSet::new(),
        pending: 0,
        found: Usage::default(),
    };
    walk.count(&stat);
    let below = walk.read(&root);
    let mut open = vec![(root, below)];
    while let Some((dir, below)) = open.last_mut() {
        if walk.is_over() {
            break;
        }
        let Some(name) = below.pop() else {
            open.pop();
            continue;
        };
        walk.pending -= 1;
        // It may have gone, or be a link now.
        let Ok(next) = open_at(&*dir, name.as_c_str()) else {
            continue;
        };
        let Ok(stat) = fstat(&next) else { continue };
        if stat.st_dev != walk.device {
            continue;
        }
        walk.count(&stat);
        match open.len() < DEPTH_MOST {
            true => {
                let below = walk.read(&next);
                open.push((next, below));
            }
            false => walk.found.partial = true,
        }
    }
    Ok(walk.found)
}

fn open_at<P: ?Sized + nix::NixPath>(dir: impl AsFd, path: &P) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, path, flags, Mode::empty())
}

impl Walk {
    fn is_over(&mut self) -> bool {
        let late = Instant::now() > self.until;
        self.found.partial |= late;
        late || self.found.bytes > self.most
    }

    fn count(&mut self, stat: &FileStat) {
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.found.bytes = self.found.bytes.saturating_add(blocks.saturating_mul(512));
    }

    /// Counts the files of a directory; its directories, which are still to be counted.
    fn read(&mut self, dir: &OwnedFd) -> Vec<CString> {
        let mut below = Vec::new();
        // By its own fd: the position of the other one stays.
        let Ok(mut entries) =
            Dir::openat(dir, c".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        else {
            self.found.partial = true;
            return below;
        };
        for (n, entry) in entries.iter().enumerate() {
            if n % 256 == 255 && self.is_over() {
                break;
            }
            let Ok(entry) = entry else {
                self.found.partial = true;
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
                    self.found.partial = true;
                    continue;
                }
            };
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            if stat.st_dev != self.device {
                continue;
            }
            if kind == SFlag::S_IFDIR {
                match self.pending < PENDING_MOST {
                    true => {
                        self.pending += 1;
                        below.push(name.to_owned());
                    }
                    false => self.found.partial = true,
                }
            } else if self.is_new(&stat) {
                self.count(&stat);
            }
        }
        below
    }

    fn is_new(&mut self, stat: &FileStat) -> bool {
        if stat.st_nlink < 2 {
            return true;
        }
        if self.linked.len() >= LINKED_MOST {
            self.found.partial = true;
            return false;
        }
        self.linked.insert(stat.st_ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    #[test]
    fn files_are_counted_once_and_no_link_is_followed() {
        let top = std::env::temp_dir().join(format!("carob-usage-{}", std::process::id()));
        let dir = top.join("v");
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(top.join("outside"), vec![1; 4 << 20]).unwrap();
        std::fs::write(dir.join("a/b/f"), vec![1; 1 << 20]).unwrap();
        let before = measure(&dir, u64::MAX, far()).unwrap();
        assert!((1 << 20..2 << 20).contains(&before.bytes) && !before.partial);
        std::fs::hard_link(dir.join("a/b/f"), dir.join("g")).unwrap();
        symlink(top.join("outside"), dir.join("l")).unwrap();
        symlink("..", dir.join("up")).unwrap();
        let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let after = measure(&dir, u64::MAX, far()).unwrap();
        assert!(
            after.bytes < before.bytes + (1 << 17),
            "{before:?} {after:?}"
        );
        // It is enough to know that it is too much.
        assert!(measure(&dir, 10, far()).unwrap().bytes > 10);
        let late = measure(&dir, u64::MAX, Instant::now()).unwrap();
        assert!(late.partial);
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn a_tree_that_is_too_deep_is_said_to_be_more() {
        let top = std::env::temp_dir().join(format!("carob-deep-{}", std::process::id()));
        std::fs::create_dir_all(&top).unwrap();
        let mut dir = open_at(AT_FDCWD, &top).unwrap();
        for _ in 0..DEPTH_MOST + 10 {
            nix::sys::stat::mkdirat(&dir, c"d", Mode::S_IRWXU).unwrap();
            dir = open_at(&dir, c"d").unwrap();
        }
        assert!(measure(&top, u64::MAX, far()).unwrap().partial);
        std::fs::remove_dir_all(&top).unwrap();
    }
}
