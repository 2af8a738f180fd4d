//! A directory of records, opened once. Where hundreds of Pods are listed, the way
//! through the parent directories to each of their files is half the time.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use serde::de::DeserializeOwned;

use super::{Lock, record};
use crate::{Error, Kind, Result};

#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    fd: OwnedFd,
}

impl Dir {
    /// # Errors
    /// [`Kind::NotFound`] if there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|e| not_found(Error::sys(format!("open({})", path.display()), e)))?;
        Ok(Dir {
            path: path.to_owned(),
            fd,
        })
    }

    /// As [`super::load`], of a path below the directory.
    pub fn load<T: DeserializeOwned>(&self, name: &Path) -> Result<T> {
        self.load_marked(name).map(|(record, _)| record)
    }

    /// As [`load`](Self::load), and whether the record was marked as stale
    /// ([`super::mark_stale`]).
    pub fn load_marked<T: DeserializeOwned>(&self, name: &Path) -> Result<(T, bool)> {
        let path = self.path.join(name);
        let open = || format!("open({})", path.display());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::empty())
            .map_err(|e| not_found(Error::sys(open(), e)))?;
        let mode = fstat(&file).map_err(|e| Error::sys(format!("fstat({})", path.display()), e))?;
        let stale = mode.st_mode & record::STALE != 0;
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            match nix::unistd::read(&file, &mut bytes[length..]) {
                // A regular file gives all that there is room for, up to its end.
                Ok(n) if length + n < bytes.len() => {
                    return Ok((record::parse(&bytes[..length + n], &path)?, stale));
                }
                Ok(n) => length += n,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::sys(format!("read({})", path.display()), e)),
            }
            bytes.resize(2 * bytes.len(), 0);
        }
    }

    /// Whether nothing can be written here; false if that cannot be known.
    pub fn is_read_only(&self) -> bool {
        fstatvfs(&self.fd).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
    }

    /// As [`Lock::is_held`].
    pub fn is_lock_held(&self, name: &Path) -> Result<bool> {
        let path = || self.path.join(name);
        // Enough to ask with, also on a filesystem that is mounted read-only.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(Error::sys(format!("open({})", path().display()), e)),
        };
        Lock::is_held_on(&file)
            .map_err(|e| Error::sys(format!("fcntl({}, F_OFD_GETLK)", path().display()), e))
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
