//! The group that a volume is given: the Pod's fsGroup.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, fchownat};

use super::walk::{DEPTH_MOST, Found, kind_of, walk};
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
        Some(_) => mode | DIRECTORY,
        None => mode,
    };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod({}, {mode:o})", dir.display()))
}

/// For all files of one volume.
pub(crate) const TIME_MOST: Duration = Duration::from_secs(300);

/// What a group may do with a directory of its, and that what is made there is its, too.
const DIRECTORY: u32 = 0o2770;

/// Gives a volume that outlives Pods to a group, as a kubelet does (SetVolumeOwnership): each
/// file is the group's, which may read and write it, and what is made in a directory stays
/// the group's. `on_mismatch`: only if the directory itself is not so yet
/// (fsGroupChangePolicy).
///
/// Other Pods may rename and link in there meanwhile: each step is by descriptor, and no
/// link is followed. The walk is bounded ([`super::walk`]); devices stay as they are, since a
/// volume is no way to let a group write to the machine's disks. `seen` is told of each file.
pub(crate) fn change(
    dir: BorrowedFd,
    gid: u32,
    on_mismatch: bool,
    seen: &mut dyn FnMut(),
) -> Result<()> {
    let stat = fstat(dir).context("fstat(<volume>)")?;
    if on_mismatch && stat.st_gid == gid && stat.st_mode & DIRECTORY == DIRECTORY {
        return Ok(());
    }
    let root = reopen(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut failure = None;
    let until = Instant::now() + TIME_MOST;
    let whole = walk(root, until, &mut |found, stat| {
        seen();
        let done = match found {
            Found::Dir(fd) => give_one(fd.as_fd(), gid, stat.st_mode, DIRECTORY),
            Found::Other { dir, name } => change_other(dir.as_fd(), name, gid),
        };
        failure = done.err();
        failure.is_none()
    });
    if let Some(e) = failure {
        return Err(e);
    }
    if !whole.context("fstat(<volume>)")? {
        let text = format!(
            "the volume has too many files to be given to group {gid} in {} s, or more than \
             {DEPTH_MOST} directories one in the other",
            TIME_MOST.as_secs()
        );
        return Err(Error::failed(text).hint(
            "give it to the group yourself (chgrp -R, chmod g+rwX, chmod g+s), and set \
             fsGroupChangePolicy: OnRootMismatch",
        ));
    }
    // Last: a walk that was cut short is done again.
    give_one(dir, gid, stat.st_mode, DIRECTORY)
}

fn change_other(dir: BorrowedFd, name: &CStr, gid: u32) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV);
    let file = match openat2(dir, name, how) {
        Ok(file) => file,
        // Gone meanwhile, or a file that is mounted there and is no part of the volume.
        Err(Errno::ENOENT | Errno::EXDEV) => return Ok(()),
        Err(e) => {
            return Err(Error::sys(
                format!("openat2(<volume>, {name:?}, O_PATH)"),
                e,
            ));
        }
    };
    let stat = fstat(&file).with_context(|| format!("fstat({name:?})"))?;
    match kind_of(&stat) {
        // A directory has come meanwhile: the walk has not seen what is in it.
        SFlag::S_IFCHR | SFlag::S_IFBLK | SFlag::S_IFDIR => Ok(()),
        // It has no mode of its own.
        SFlag::S_IFLNK => give_one(file.as_fd(), gid, 0, 0),
        _ => give_one(file.as_fd(), gid, stat.st_mode, 0o660),
    }
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

    use nix::fcntl::openat;
    use nix::sys::stat::Mode;

    use super::*;
    use crate::linux::mount;
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
        let null = volume.join("null");
        nix::sys::stat::mknod(&null, SFlag::S_IFCHR, Mode::S_IRUSR, 0x103).unwrap();
        let dir = open_dir(&volume).unwrap();
        change(dir.as_fd(), 4242, false, &mut || ()).unwrap();
        let of = |path: &Path| {
            let m = std::fs::symlink_metadata(path).unwrap();
            (m.gid(), m.mode() & 0o7777)
        };
        assert_eq!(of(&base.join("outside")), (0, 0o600));
        assert_eq!(of(&volume.join("a/b/file")), (4242, 0o4760));
        assert_eq!(of(&volume.join("a/b")).0, 4242);
        assert_eq!(of(&null), (0, 0o400));
        assert_eq!(of(&volume).1 & 0o2770, 0o2770);
        assert_eq!(of(&volume.join("a/link")).0, 4242);
        // What was added since stays where the directory itself is as it should be.
        std::fs::write(volume.join("new"), "").unwrap();
        std::os::unix::fs::chown(volume.join("new"), None, Some(7)).unwrap();
        change(dir.as_fd(), 4242, true, &mut || ()).unwrap();
        assert_eq!(of(&volume.join("new")).0, 7);
        change(dir.as_fd(), 4242, false, &mut || ()).unwrap();
        assert_eq!(of(&volume.join("new")).0, 4242);
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn what_is_too_deep_is_an_error_and_the_root_says_so() {
        let base = std::env::temp_dir().join(format!("carob-owner-deep-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let top = open_dir(&base).unwrap();
        let mut dir = open_dir(&base).unwrap();
        for _ in 0..DEPTH_MOST + 10 {
            nix::sys::stat::mkdirat(&dir, c"d", Mode::S_IRWXU).unwrap();
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            dir = openat(&dir, c"d", flags, Mode::empty()).unwrap();
        }
        let e = change(top.as_fd(), 4242, true, &mut || ())
            .unwrap_err()
            .to_string();
        assert!(e.contains("directories one in the other"), "{e}");
        assert_ne!(base.metadata().unwrap().gid(), 4242);
        std::fs::remove_dir_all(&base).unwrap();
    }

    /// A mount of the same filesystem has the same device, and is somebody else's all the same.
    #[test]
    fn what_is_mounted_in_a_volume_is_not_given_away() {
        let base = std::env::temp_dir().join(format!("carob-owner-bind-{}", std::process::id()));
        let (volume, other) = (base.join("v"), base.join("other"));
        std::fs::create_dir_all(volume.join("m")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("file"), "").unwrap();
        std::fs::write(base.join("secret"), "").unwrap();
        std::fs::write(volume.join("f"), "").unwrap();
        mount::bind(&other, &volume.join("m")).unwrap();
        mount::bind(&base.join("secret"), &volume.join("f")).unwrap();
        let done = change(open_dir(&volume).unwrap().as_fd(), 4242, false, &mut || ());
        mount::unmount(&volume.join("m")).unwrap();
        mount::unmount(&volume.join("f")).unwrap();
        done.unwrap();
        let gid = |path: &Path| std::fs::symlink_metadata(path).unwrap().gid();
        assert_eq!(gid(&volume), 4242);
        assert_eq!((gid(&other), gid(&other.join("file"))), (0, 0));
        assert_eq!(gid(&base.join("secret")), 0);
        std::fs::remove_dir_all(&base).unwrap();
    }
}
