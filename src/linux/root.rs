//! Paths below a directory that somebody else controls: a container's root
//! filesystem, a volume.
//!
//! Every path is resolved by openat2(2) relative to one directory fd, once, and
//! used through the fd that comes back: what a process inside renames or links
//! afterwards changes nothing (runc CVE-2021-30465, kubernetes CVE-2021-25741).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::flags as names;
use crate::{Error, Result};

/// A directory that is the root of what is below it.
#[derive(Debug)]
pub(crate) struct Root<'fd>(BorrowedFd<'fd>);

/// How links on the way are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// As in a chroot: absolute links and `..` stay below the root.
    InRoot,
    /// A link that leads out of the root is an error (EXDEV), one inside is
    /// followed.
    Beneath,
    /// Any link is an error (ELOOP).
    Refuse,
}

impl Links {
    fn flags(self) -> ResolveFlag {
        ResolveFlag::RESOLVE_NO_MAGICLINKS
            | match self {
                Links::InRoot => ResolveFlag::RESOLVE_IN_ROOT,
                Links::Beneath => ResolveFlag::RESOLVE_BENEATH,
                Links::Refuse => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
            }
    }
}

/// Dangling links followed at the most when a directory is made: ELOOP's bound.
const LINKS_MOST: u32 = 40;

impl<'fd> Root<'fd> {
    pub(crate) fn new(dir: BorrowedFd<'fd>) -> Self {
        Root(dir)
    }

    /// `path` is taken relative to the root even if it is absolute.
    ///
    /// # Errors
    /// The kernel's errno in [`Error::errno`]: ENOENT, ELOOP (a refused link),
    /// EXDEV (a link that leads out)...
    pub(crate) fn open(&self, path: &Path, flags: OFlag, links: Links) -> Result<OwnedFd> {
        self.try_open(path, flags, links)
            .map_err(|e| Error::sys(format!("openat2(<root>, {path:?}, {})", names(flags)), e))
    }

    fn try_open(&self, path: &Path, flags: OFlag, links: Links) -> nix::Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(links.flags());
        loop {
            match openat2(self.0, relative, how) {
                // A rename somewhere raced with the resolution of `..` (openat2(2)).
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// Where something that was opened below the root is now, as an absolute path
    /// in it. Needs the host's /proc.
    pub(crate) fn path_of(&self, fd: BorrowedFd) -> Result<PathBuf> {
        let path = |fd: BorrowedFd| {
            let link = fd_path(fd);
            std::fs::read_link(&link).map_err(|e| Error::from(e).push_context(link))
        };
        let (root, place) = (path(self.0)?, path(fd)?);
        let inside = place.strip_prefix(&root).map_err(|_| {
            Error::failed(format!(
                "{} is outside of {}",
                place.display(),
                root.display()
            ))
        })?;
        Ok(Path::new("/").join(inside))
    }

    /// The directory `path`, made with `mode` where it is missing, and its missing
    /// parents too; with [`Links::InRoot`] also where a dangling link on the way
    /// leads, as images have them (/var/run to a /run that is not there). Returns
    /// an O_PATH fd.
    pub(crate) fn make_dir(&self, path: &Path, mode: Mode, links: Links) -> Result<OwnedFd> {
        self.make_dir_through(path, mode, links, LINKS_MOST)
    }

    fn make_dir_through(
        &self,
        path: &Path,
        mode: Mode,
        links: Links,
        links_left: u32,
    ) -> Result<OwnedFd> {
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let refused = |e| {
            Error::sys(
                format!("openat2(<root>, {path:?}, {})", names(directory)),
                e,
            )
        };
        match self.try_open(path, directory, links) {
            Err(Errno::ENOENT) => {}
            other => return other.map_err(refused),
        }
        let mut so_far = PathBuf::new();
        let mut dir = self.open(Path::new(""), directory, links)?;
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                Component::RootDir | Component::CurDir => continue,
                _ => {
                    return Err(Error::invalid(format!(
                        "{path:?}: `..` in a path to be made"
                    )));
                }
            };
            let parent = so_far.clone();
            so_far.push(name);
            match self.try_open(&so_far, directory, links) {
                Ok(next) => {
                    dir = next;
                    continue;
                }
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(refused(e)),
            }
            dir = match nix::sys::stat::mkdirat(&dir, name, mode) {
                Ok(()) => self.open(&so_far, directory, links)?,
                Err(Errno::EEXIST) if links == Links::InRoot && links_left > 0 => {
                    match nix::fcntl::readlinkat(&dir, name) {
                        Ok(target) => {
                            let target = normal_path(&parent, Path::new(&target));
                            self.make_dir_through(&target, mode, links, links_left - 1)?
                        }
                        // Made by somebody else a moment ago.
                        Err(_) => self.open(&so_far, directory, links)?,
                    }
                }
                Err(e) => return Err(Error::sys(format!("mkdirat({so_far:?})"), e)),
            };
        }
        Ok(dir)
    }

    /// The file `path`, made empty where it is missing, with its parents; with
    /// [`Links::InRoot`] also where a dangling link leads, as images have them
    /// (/etc/resolv.conf to a /run that is empty). Returns an O_PATH fd of whatever
    /// is there, a directory excepted.
    pub(crate) fn make_file(&self, path: &Path, links: Links) -> Result<OwnedFd> {
        self.make_file_through(path, links, LINKS_MOST)
    }

    fn make_file_through(&self, path: &Path, links: Links, links_left: u32) -> Result<OwnedFd> {
        match self.try_open(path, OFlag::O_PATH, links) {
            Ok(fd) if !is_dir(fd.as_fd()) => return Ok(fd),
            Ok(_) => return Err(Error::sys(format!("open({path:?})"), Errno::EISDIR)),
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::sys(format!("openat2(<root>, {path:?}, O_PATH)"), e)),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid(format!("{path:?} names no file")));
        };
        let dir = self.make_dir(parent, Mode::from_bits_truncate(0o755), links)?;
        let made = nix::fcntl::openat(
            &dir,
            name,
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o644),
        );
        match made {
            Err(Errno::EEXIST) if links == Links::InRoot && links_left > 0 => {
                match nix::fcntl::readlinkat(&dir, name) {
                    Ok(target) => {
                        let target = normal_path(&self.path_of(dir.as_fd())?, Path::new(&target));
                        self.make_file_through(&target, links, links_left - 1)
                    }
                    // Made by somebody else a moment ago.
                    Err(_) => self.open(path, OFlag::O_PATH, links),
                }
            }
            Ok(_) | Err(Errno::EEXIST) => self.open(path, OFlag::O_PATH, links),
            Err(e) => Err(Error::sys(format!("openat({path:?}, O_CREAT|O_EXCL)"), e)),
        }
    }

    /// The whole of a regular file, `None` if there is none. What is not a regular
    /// file is not opened (a FIFO would block, a device do worse); more than
    /// `limit` bytes are an error.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        use std::io::Read;
        let handle = match self.try_open(path, OFlag::O_PATH, Links::InRoot) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(e) => return Err(Error::sys(format!("openat2(<root>, {path:?}, O_PATH)"), e)),
        };
        let stat = fstat(&handle).map_err(|e| Error::sys(format!("fstat({path:?})"), e))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Ok(None);
        }
        // Not held up by a lease that a container has on it (F_SETLEASE of fcntl(2)).
        let fd = reopen(handle.as_fd(), OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        let mut bytes = Vec::new();
        std::fs::File::from(fd)
            .take(limit + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(Error::invalid(format!(
                "{path:?} is larger than {limit} bytes"
            )));
        }
        Ok(Some(bytes))
    }
}

/// Where a link in `parent` leads, as a path from the root without `..`.
fn normal_path(parent: &Path, target: &Path) -> PathBuf {
    let mut path = if target.is_absolute() {
        PathBuf::new()
    } else {
        parent.to_owned()
    };
    for part in target.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    path
}

pub(crate) fn is_dir(fd: BorrowedFd) -> bool {
    fstat(fd).is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Opens what an O_PATH fd refers to, through the host's /proc.
pub(crate) fn reopen(fd: BorrowedFd, flags: OFlag) -> Result<OwnedFd> {
    let path = fd_path(fd);
    nix::fcntl::open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::sys(format!("open({path}, {})", names(flags)), e))
}

/// `/proc/self/fd/N`: a name for calls that take only paths. The host's /proc.
pub(crate) fn fd_path(fd: BorrowedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// O_PATH on a directory of the host.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| Error::sys(format!("open({path:?}, O_PATH|O_DIRECTORY)"), e))
}

/// unlinkat(2) of a whole tree, bounded by nothing but the tree; missing is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::from(e).push_context(format!("remove {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let dir = std::env::temp_dir().join(format!("carob-root-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::fs::write(dir.join("real/file"), b"inside").unwrap();
        symlink("/real", dir.join("absolute")).unwrap();
        symlink("../../../../etc", dir.join("out")).unwrap();
        let fd = open_dir(&dir).unwrap();
        let root = Root::new(fd.as_fd());
        let read = |p: &str| root.read(Path::new(p), 100).unwrap();
        assert_eq!(read("/absolute/file").as_deref(), Some(&b"inside"[..]));
        assert_eq!(read("out/passwd"), None);
        let open = |p: &str, l| {
            root.open(Path::new(p), OFlag::O_PATH, l)
                .unwrap_err()
                .errno()
        };
        assert_eq!(open("absolute/file", Links::Refuse), Some(Errno::ELOOP));
        assert_eq!(open("out", Links::Beneath), Some(Errno::EXDEV));
        root.make_dir(Path::new("/absolute/a/b"), Mode::S_IRWXU, Links::InRoot)
            .unwrap();
        assert!(dir.join("real/a/b").is_dir());
        root.make_file(Path::new("out/made"), Links::InRoot)
            .unwrap();
        assert!(dir.join("etc/made").is_file());
        // Where a dangling link leads, seen from where it is.
        symlink("../run/resolv.conf", dir.join("real/resolv.conf")).unwrap();
        let made = root.make_file(Path::new("absolute/resolv.conf"), Links::InRoot);
        let place = root.path_of(made.unwrap().as_fd()).unwrap();
        assert_eq!(place, Path::new("/run/resolv.conf"));
        symlink("loop", dir.join("loop")).unwrap();
        let made = root.make_file(Path::new("loop"), Links::InRoot);
        assert_eq!(made.unwrap_err().errno(), Some(Errno::ELOOP));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
