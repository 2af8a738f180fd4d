//! The part of a volume that a subPath names: found so that no link leads out of the
//! volume, and made where it is missing.
//!
//! kubernetes CVE-2017-1002101 and CVE-2021-25741: a volume's content, which a
//! container changes as it likes, must not lead a subPath out of the volume, at no
//! moment. So each lookup is one openat2(2) from the volume's fd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::dev::without_umask;
use crate::linux::root::{Links, Root, open_dir};
use crate::{Error, Kind, Result};

/// What mkdir(2) takes of a mode. A directory gets setgid from the one above.
const MODE: u32 = 0o1777;

/// An O_PATH fd of `sub_path` below `volume`. Call where no other thread makes files:
/// the umask is changed meanwhile.
///
/// # Errors
/// [`Kind::Invalid`]: the volume's content or the manifest is at fault.
pub(super) fn open(volume: &Path, sub_path: &Path) -> Result<OwnedFd> {
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
            Some(Errno::EROFS) => {
                e.hint("the volume has no such file or directory, and is read-only")
            }
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
                match make_as_owner(dir.as_fd(), name.as_ref(), like) {
                    // EEXIST: another container of the Pod was faster, or it is a link
                    // that leads nowhere.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(Error::sys(format!("mkdirat({so_far:?})"), e)),
                }
                below.open(&so_far, flags, Links::Beneath)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Made by the volume's owner, a directory has its owner, group and mode from the first
/// moment. chown(2) afterwards could meet another directory, which a container has put
/// into its place. Where the owner may not write (it is another's directory, inside the
/// volume), the directory is root's, as a kubelet makes it.
fn make_as_owner(parent: BorrowedFd, name: &Path, like: &FileStat) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(like.st_mode & MODE);
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    // setfsuid(2): of the calling thread alone, and capabilities over files go with it.
    let before = (setfsgid(gid), setfsuid(uid));
    let made = mkdirat(parent, name, mode);
    setfsuid(before.1);
    setfsgid(before.0);
    match made {
        Err(Errno::EACCES) => mkdirat(parent, name, mode),
        other => other,
    }
}
