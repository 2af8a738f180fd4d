//! The group that a volume is given: the Pod's fsGroup.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, fchownat};

use crate::linux::root::{fd_path, reopen};
use crate::{Context, Error, Result};

/// A new directory gets this mode; with an fsGroup it is that group's, which may do all in
/// it, and what is made in it stays so.
pub(super) fn give(dir: &Path, fs_group: Option<u32>, mode: u32) -> Result<()> {
    if let Some(gid) = fs_group {
        std::os::unix::fs::chown(dir, None, Some(gid))
            .with_context(|| format!("chown({}, -1, {gid})", dir.display()))?;
    }
    let mode = match fs_group {
        Some(_) => mode | 0o2770,
        None => mode,
    };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod({}, {mode:o})", dir.display()))
}

/// Gives a volume that outlives Pods to a group, as a kubelet does (SetVolumeOwnership): each
/// file is the group's, which may read and write it, and what is made in a directory stays
/// the group's. `on_mismatch`: only if the directory itself is not so yet
/// (fsGroupChangePolicy).
///
/// Other Pods may rename and link in there meanwhile: each step is by descriptor, and no
/// link is followed.
pub(crate) fn change(dir: BorrowedFd, gid: u32, on_mismatch: bool) -> Result<()> {
    const OF_DIRS: u32 = 0o2770;
    let stat = fstat(dir).context("fstat(<volume>)")?;
    if on_mismatch && stat.st_gid == gid && stat.st_mode & OF_DIRS == OF_DIRS {
        return Ok(());
    }
    change_tree(dir, gid)?;
    // Last: a walk that was cut short is done again.
    give_one(dir, gid, stat.st_mode, OF_DIRS)
}

fn change_tree(dir: BorrowedFd, gid: u32) -> Result<()> {
    let listed = reopen(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut entries = Dir::from_fd(listed).context("fdopendir(<volume>)")?;
    for entry in entries.iter() {
        let entry = entry.context("readdir(<volume>)")?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let name = Path::new(OsStr::from_bytes(name.to_bytes()));
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV);
        let file = match openat2(dir, name, how) {
            Ok(file) => file,
            // Gone meanwhile, or something is mounted there.
            Err(Errno::ENOENT | Errno::EXDEV) => continue,
            Err(e) => {
                return Err(Error::sys(
                    format!("openat2(<volume>, {name:?}, O_PATH)"),
                    e,
                ));
            }
        };
        let stat = fstat(&file).with_context(|| format!("fstat({name:?})"))?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {
                change_tree(file.as_fd(), gid)?;
                give_one(file.as_fd(), gid, stat.st_mode, 0o2770)?;
            }
            // It has no mode of its own.
            SFlag::S_IFLNK => give_one(file.as_fd(), gid, 0, 0)?,
            _ => give_one(file.as_fd(), gid, stat.st_mode, 0o660)?,
        }
    }
    Ok(())
}

/// chown(2) takes setuid and setgid away, so that the mode comes after it.
fn give_one(file: BorrowedFd, gid: u32, mode: u32, add: u32) -> Result<()> {
    let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(file, "", None, Some(Gid::from_raw(gid)), flags)
        .with_context(|| format!("fchownat(<volume>, -1, {gid})"))?;
    if add == 0 {
        return Ok(());
    }
    let mode = mode & 0o7777 | add;
    // The descriptor is for paths alone, which fchmod(2) does not take.
    std::fs::set_permissions(fd_path(file), std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod(<volume>, {mode:o})"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::linux::root::open_dir;

    #[test]
    fn a_tree_is_given_to_a_group_and_links_are_not_followed() {
        let base = std::env::temp_dir().join(format!("carob-owner-{}", std::process::id()));
        let volume = base.join("v");
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::write(base.join("outside"), "").unwrap();
        std::fs::write(volume.join("a/b/file"), "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&base.join("outside"), 0o600);
        mode(&volume.join("a/b/file"), 0o4700);
        symlink(base.join("outside"), volume.join("a/link")).unwrap();
        symlink(&base, volume.join("dir")).unwrap();
        let dir = open_dir(&volume).unwrap();
        change(dir.as_fd(), 4242, false).unwrap();
        let of = |path: &Path| {
            let m = std::fs::symlink_metadata(path).unwrap();
            (m.gid(), m.mode() & 0o7777)
        };
        assert_eq!(of(&base.join("outside")), (0, 0o600));
        assert_eq!(of(&volume.join("a/b/file")), (4242, 0o4760));
        assert_eq!(of(&volume.join("a/b")).0, 4242);
        assert_eq!(of(&volume).1 & 0o2770, 0o2770);
        assert_eq!(of(&volume.join("a/link")).0, 4242);
        // What was added since stays where the directory itself is as it should be.
        std::fs::write(volume.join("new"), "").unwrap();
        std::os::unix::fs::chown(volume.join("new"), None, Some(7)).unwrap();
        change(dir.as_fd(), 4242, true).unwrap();
        assert_eq!(of(&volume.join("new")).0, 7);
        change(dir.as_fd(), 4242, false).unwrap();
        assert_eq!(of(&volume.join("new")).0, 4242);
        std::fs::remove_dir_all(&base).unwrap();
    }
}
