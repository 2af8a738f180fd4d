//! A new root where pivot_root(2) is impossible: the kernel's first root filesystem
//! (an initramfs) cannot be pivoted from. The new root is moved over the old one
//! with MS_MOVE, and the old one stays in the mount namespace, below it.
//!
//! So the old root's own mounts must go. The kernel gives a process in a user
//! namespace a new procfs or sysfs as soon as its mount namespace has one, anywhere,
//! that is not partly covered (`mount_too_revealing` in fs/namespace.c): the host's
//! /proc, although no path leads there, would let a container without any privilege
//! mount a /proc of its own, without masked and read-only paths, and write to the
//! host's sysctls.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, chroot, fchdir};

use super::mount::{ATTR_RDONLY, Mount};
use super::mount_table::{self, Entry};
use super::root::{Links, Root, open_dir};
use crate::{Call, Context, Error, Result};

/// linux/magic.h
const SYSFS_MAGIC: FsType = FsType(0x6265_6572);

/// The current directory, a mount's root, becomes the root of this process and of its
/// mount namespace. What was mounted on the old root is unmounted. In a user namespace
/// the kernel refuses that (MNT_LOCKED, mount_namespaces(7)); then each procfs and
/// sysfs of it is covered. Needs the old root's /proc.
pub(crate) fn move_here() -> Result<()> {
    let old = open_dir(Path::new("/"))?;
    let own = mount_table::id_of(open_dir(Path::new("."))?.as_fd())?;
    let table = mount_table::of("self")?;
    let outside = outside(&table, own);
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .call(|| "mount(\".\", \"/\", MS_MOVE)")?;
    chroot(".").call(|| "chroot(\".\")")?;

    // From this directory, a path leads to the mounts below the new root.
    fchdir(&old).map_err(|e| Error::sys("fchdir(<old root>)", e))?;
    for (path, _) in &outside {
        // Several mounts may lie on one path. EINVAL: none does any more, or it is locked.
        while umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    }
    let below = Root::new(old.as_fd());
    // No other: a user namespace may be denied the way to some of the host's directories.
    for (path, _) in outside.iter().filter(|(_, fstype)| is_revealing(fstype)) {
        cover(&below, path).with_context(|| format!("cover the host's /{}", path.display()))?;
    }
    chdir("/").map_err(|e| Error::sys("chdir(\"/\")", e))
}

fn is_revealing(fstype: &str) -> bool {
    ["proc", "sysfs"].contains(&fstype)
}

/// Where there are mounts, relative to the root, and of what type, but for `own` and what is
/// below it; those closer to the root first, since they take with them what is mounted on
/// them.
fn outside(table: &[Entry], own: u32) -> Vec<(PathBuf, String)> {
    let mut inside = vec![own];
    loop {
        let found: Vec<u32> = table
            .iter()
            .filter(|e| inside.contains(&e.parent) && !inside.contains(&e.id))
            .map(|e| e.id)
            .collect();
        if found.is_empty() {
            break;
        }
        inside.extend(found);
    }
    let mut mounts: Vec<(PathBuf, String)> = table
        .iter()
        .filter(|e| !inside.contains(&e.id))
        .filter_map(|e| Some((e.below(Path::new("/"))?.to_owned(), e.fstype.clone())))
        .collect();
    mounts.sort_by_key(|(path, _)| path.components().count());
    mounts.dedup();
    mounts
}

/// A read-only tmpfs over what is still a procfs or sysfs.
fn cover(below: &Root, path: &Path) -> Result<()> {
    let dir = match below.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Links::Refuse) {
        Ok(dir) => dir,
        // Gone with the mount it was on; or a file, which no procfs is mounted on.
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(()),
        Err(e) => return Err(e),
    };
    let stat = fstatfs(&dir).map_err(|e| Error::sys("fstatfs(<mount>)", e))?;
    if ![PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&stat.filesystem_type()) {
        return Ok(());
    }
    let empty = Mount::new("tmpfs", &[("nr_inodes", "1"), ("size", "0")], ATTR_RDONLY)?;
    empty.attach(dir.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_new_root_are_not_outside() {
        let entry = |id, parent, point: &str| Entry {
            id,
            parent,
            device: "0:1".into(),
            root: "/".into(),
            point: point.into(),
            fstype: "tmpfs".into(),
        };
        let table = [
            entry(1, 0, "/"),
            entry(9, 8, "/box/proc/sys"),
            entry(2, 1, "/a/deep"),
            entry(3, 1, "/proc"),
            entry(4, 3, "/proc/fs"),
            entry(5, 1, "/box"),
            entry(6, 5, "/box/proc"),
            // The new root, on top of what the host has at its place.
            entry(7, 5, "/box"),
            entry(8, 7, "/box/proc"),
        ];
        let found = outside(&table, 7);
        let paths: Vec<&str> = found.iter().filter_map(|(p, _)| p.to_str()).collect();
        assert_eq!(paths, ["proc", "box", "a/deep", "proc/fs", "box/proc"]);
    }
}
