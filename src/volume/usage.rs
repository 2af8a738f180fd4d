//! How much of the disk a volume takes, as `du` counts: blocks, and each file once, however
//! many names it has. A file that has no name any more is not found, but where the filesystem
//! counts too (project quotas): then the greater number is the volume's.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};
use serde::{Deserialize, Serialize};

use super::walk::{Found, walk};
use crate::linux::quota;
use crate::{Context, Result};

/// Files with several names.
const LINKED_MOST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub bytes: u64,
    /// Not all has been seen: it is more than that.
    pub partial: bool,
}

/// Counts until that is more than `most`, or it is too late.
pub(crate) fn measure(dir: &Path, most: u64, until: Instant) -> Result<Usage> {
    let counted = quota::used(dir).unwrap_or(0);
    if counted > most {
        return Ok(Usage {
            bytes: counted,
            partial: false,
        });
    }
    let call = |name: &str| format!("{name}({})", dir.display());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(dir, flags, Mode::empty()).with_context(|| call("open"))?;
    let stat = fstat(&root).with_context(|| call("fstat"))?;
    let mut bytes = size_of(&stat);
    let mut linked = HashSet::new();
    let mut too_many = false;
    let whole = walk(root, until, &mut |found, stat| {
        let is_new = match found {
            Found::Other { .. } if stat.st_nlink > 1 && linked.len() >= LINKED_MOST => {
                too_many = true;
                false
            }
            Found::Other { .. } if stat.st_nlink > 1 => linked.insert(stat.st_ino),
            _ => true,
        };
        if is_new {
            bytes = bytes.saturating_add(size_of(stat));
        }
        bytes <= most
    });
    let whole = whole.with_context(|| call("fstat"))?;
    Ok(Usage {
        bytes: bytes.max(counted),
        partial: !whole || too_many,
    })
}

fn size_of(stat: &FileStat) -> u64 {
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
    blocks.saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use super::super::walk::{DEPTH_MOST, open_dir_at};
    use super::*;
    use crate::linux::mount;
    use crate::linux::root::open_dir;
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

    /// As where the runtime's directory is a mount; what is mounted below is not the volume's.
    #[test]
    fn the_volume_may_be_on_a_filesystem_of_its_own() {
        let top = std::env::temp_dir().join(format!("carob-usage-fs-{}", std::process::id()));
        let dir = top.join("v");
        std::fs::create_dir_all(dir.join("m")).unwrap();
        let tmpfs = |at: &Path| {
            let none = None::<&str>;
            nix::mount::mount(none, at, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
        };
        tmpfs(&top);
        std::fs::create_dir_all(dir.join("m")).unwrap();
        std::fs::write(dir.join("f"), vec![1; 1 << 20]).unwrap();
        tmpfs(&dir.join("m"));
        std::fs::write(dir.join("m/f"), vec![1; 1 << 20]).unwrap();
        let measured = measure(&dir, u64::MAX, far());
        mount::unmount(&dir.join("m")).unwrap();
        mount::unmount(&top).unwrap();
        std::fs::remove_dir_all(&top).unwrap();
        let bytes = 1 << 20;
        assert_eq!(
            measured.unwrap(),
            Usage {
                bytes,
                partial: false
            }
        );
    }

    #[test]
    fn a_tree_that_is_too_deep_is_said_to_be_more() {
        let top = std::env::temp_dir().join(format!("carob-deep-{}", std::process::id()));
        std::fs::create_dir_all(&top).unwrap();
        let mut dir = open_dir(&top).unwrap();
        for _ in 0..DEPTH_MOST + 10 {
            nix::sys::stat::mkdirat(&dir, c"d", Mode::S_IRWXU).unwrap();
            dir = open_dir_at(&dir, c"d").unwrap();
        }
        assert!(measure(&top, u64::MAX, far()).unwrap().partial);
        std::fs::remove_dir_all(&top).unwrap();
    }
}
