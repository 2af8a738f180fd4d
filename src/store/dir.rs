//! A directory of records, opened once. Where hundreds of Pods are listed, the way
//! through the parent directories to each of their files is half the time.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use serde::de::DeserializeOwned;

use super::{Lock, record};
use crate::{Error, Kind, Result};

#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    fd: OwnedFd,
    read_only: OnceLock<bool>,
}

impl Dir {
    /// # Errors
    /// [`Kind::NotFound`] if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|e| not_found(Error::sys(format!("open({})", path.display()), e)))?;
        Ok(Dir {
            path: path.to_owned(),
            fd,
            read_only: OnceLock::new(),
        })
    }

    /// As [`super::load`], of a path below the directory.
    pub(crate) fn load<T: DeserializeOwned>(&self, name: &Path) -> Result<T> {
        self.read(name, &self.open_record(name)?)
    }

    /// As [`load`](Self::load), and whether the record was marked as stale
    /// ([`super::mark_stale`]).
    pub(crate) fn load_marked<T: DeserializeOwned>(&self, name: &Path) -> Result<(T, bool)> {
        let file = self.open_record(name)?;
        let mode = fstat(&file).map_err(|e| self.error("fstat", name, e))?;
        let stale = mode.st_mode & record::STALE != 0;
        Ok((self.read(name, &file)?, stale))
    }

    fn open_record(&self, name: &Path) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::empty())
            .map_err(|e| not_found(self.error("open", name, e)))
    }

    fn read<T: DeserializeOwned>(&self, name: &Path, file: &OwnedFd) -> Result<T> {
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            match nix::unistd::read(file, &mut bytes[length..]) {
                // A regular file gives all that there is room for, up to its end.
                Ok(n) if length + n < bytes.len() => {
                    return record::parse(&bytes[..length + n], || self.path.join(name));
                }
                Ok(n) => length += n,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(self.error("read", name, e)),
            }
            bytes.resize(2 * bytes.len(), 0);
        }
    }

    fn error(&self, call: &str, name: &Path, e: Errno) -> Error {
        Error::sys(format!("{call}({})", self.path.join(name).display()), e)
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none.
    pub(crate) fn read_link(&self, name: &Path) -> Result<OsString> {
        readlinkat(&self.fd, name).map_err(|e| not_found(self.error("readlink", name, e)))
    }

    /// Whether nothing could be written here when this was first asked; false if that
    /// cannot be known.
    pub(crate) fn is_read_only(&self) -> bool {
        *self.read_only.get_or_init(|| {
            fstatvfs(&self.fd).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
        })
    }

    /// As [`Lock::is_held`].
    pub(crate) fn is_lock_held(&self, name: &Path) -> Result<bool> {
        // Enough to ask with, also on a filesystem that is mounted read-only.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(self.error("open", name, e)),
        };
        Lock::is_held_on(&file).map_err(|e| {
            let path = self.path.join(name);
            Error::sys(format!("fcntl({}, F_OFD_GETLK)", path.display()), e)
        })
    }
}

fn not_found(e: Error) -> Error {
    match e.errno() {
        Some(Errno::ENOENT) => e.with_kind(Kind::NotFound),
        _ => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_size_are_read_whole() {
        let path = std::env::temp_dir().join(format!("carob-dir-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = Dir::open(&path).unwrap();
        // About the first buffer's size, and the next one's.
        for size in [0, 4093, 4094, 4095, 8190, 8191, 100_000] {
            let text = "x".repeat(size);
            super::super::save(&path.join("r"), &text).unwrap();
            assert!(
                dir.load::<String>(Path::new("r")).unwrap() == text,
                "{size}"
            );
        }
        std::fs::write(path.join("r"), "{").unwrap();
        let e = dir.load::<String>(Path::new("r")).unwrap_err();
        assert!(e.to_string().contains("r is damaged"), "{e}");
        let e = dir.load::<String>(Path::new("none")).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
        assert!(!dir.is_lock_held(Path::new("none")).unwrap());
        let held = Lock::acquire(&path.join("lock")).unwrap();
        assert!(dir.is_lock_held(Path::new("lock")).unwrap());
        drop(held);
        assert!(!dir.is_lock_held(Path::new("lock")).unwrap());
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(Dir::open(&path).unwrap_err().kind(), Kind::NotFound);
    }
}
