//! The part of a volume that a subPath names: found so that no link leads out of the
//! volume, and made where it is missing.
//!
//! kubernetes CVE-2017-1002101 and CVE-2021-25741: a volume's content, which a
//! container changes as it likes, must not lead a subPath out of the volume, at no
//! moment. So each lookup is one openat2(2) from the volume's fd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

use super::dev::without_umask;
use crate::linux::root::{Links, Root, open_dir};
use crate::{Context, Error, Kind, Result};

/// What may be set of a mode: the permissions, setuid excepted.
const MODE: u32 = 0o3777;

/// An O_PATH fd of `sub_path` below `volume`. Call where no other thread makes files:
/// the umask is changed meanwhile.
///
/// # Errors
/// [`Kind::Invalid`]: the volume's content or the manifest is at fault.
pub fn open(volume: &Path, sub_path: &Path) -> Result<OwnedFd> {
    let found = (|| {
        let dir = open_dir(volume)?;
        let below = Root::new(dir.as_fd());
        match below.open(sub_path, OFlag::O_PATH, Links::Beneath) {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {
                let like = fstat(&dir).map_err(|e| Error::sys("fstat(<volume>)", e))?;
                // The mode is to be the volume's from the first moment.
                without_umask(|| make(&below, sub_path, &like))
            }
            other => other,
        }
    })();
    found.map_err(|e: Error| {
        let e = e.with_kind(Kind::Invalid);
        match e.errno() {
            Some(Errno::EXDEV) => e.hint("a symbolic link in the volume leads out of it"),
            _ => e,
        }
    })
}

/// Makes the directories of the path that are missing, with the mode, owner and group
/// of the volume's root: a container that can write to the volume can write to them.
fn make(below: &Root, path: &Path, like: &FileStat) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut so_far = PathBuf::new();
    let mut dir = below.open(&so_far, flags, Links::Beneath)?;
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        so_far.push(name);
        dir = match below.open(&so_far, flags, Links::Beneath) {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {
                match mkdirat(&dir, name, Mode::from_bits_truncate(like.st_mode & MODE)) {
                    Ok(()) => give(dir.as_fd(), name.as_ref(), like)
                        .with_context(|| format!("make {so_far:?}"))?,
                    // Another container of the Pod was faster; or it is a link that
                    // leads nowhere.
                    Err(Errno::EEXIST) => {}
                    Err(e) => return Err(Error::sys(format!("mkdirat({so_far:?})"), e)),
                }
                below.open(&so_far, flags, Links::Beneath)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Gives a directory just made the volume's owner and group, and its setgid bit, if
/// it has not inherited them.
fn give(parent: BorrowedFd, name: &Path, like: &FileStat) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())
        .map_err(|e| Error::sys(format!("openat({name:?}, O_DIRECTORY|O_NOFOLLOW)"), e))?;
    let is = fstat(&dir).map_err(|e| Error::sys(format!("fstat({name:?})"), e))?;
    // A container may have put another's directory into its place since: that one is
    // not given away. One that is empty and root's holds nothing.
    let ours = is.st_uid == geteuid().as_raw() && is_empty(&dir)?;
    if !ours {
        return Ok(());
    }
    if (is.st_uid, is.st_gid) != (like.st_uid, like.st_gid) {
        let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        fchown(&dir, Some(uid), Some(gid))
            .map_err(|e| Error::sys(format!("fchown({name:?}, {uid}, {gid})"), e))?;
    }
    let mode = like.st_mode & MODE;
    if is.st_mode & MODE != mode {
        fchmod(&dir, Mode::from_bits_truncate(mode))
            .map_err(|e| Error::sys(format!("fchmod({name:?}, {mode:o})"), e))?;
    }
    Ok(())
}

fn is_empty(dir: &OwnedFd) -> Result<bool> {
    let mut list = nix::dir::Dir::from_fd(dir.try_clone()?)
        .map_err(|e| Error::sys("fdopendir(<sub-path>)", e))?;
    let named = list
        .iter()
        .flatten()
        .any(|e| !matches!(e.file_name().to_bytes(), b"." | b".."));
    Ok(!named)
}
