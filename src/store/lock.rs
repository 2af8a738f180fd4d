//! Locks on files, freed by their holder's death.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::{Context, Error, Result};

/// An exclusive open-file-description lock, held until dropped. Unlike flock(2)
/// the name is the kernel's own for it; like flock it belongs to the open file,
/// so that a monitor may inherit it across exec.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until the lock is free. Who held it may have removed the file, and
    /// somebody else have made another: the lock is on the file that is there.
    pub fn acquire(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        if log::log_enabled!(log::Level::Debug) && Self::is_held_on(&file) == Ok(true) {
            log::debug!("wait for the lock {}", path.display());
        }
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file(libc::F_WRLCK))) {
                Ok(_) if is_at(&file, path)? => return Ok(Lock(file)),
                Ok(_) => file = open(path)?,
                Err(Errno::EINTR) => {}
                Err(e) => {
                    return Err(Error::sys(
                        format!("fcntl({}, F_OFD_SETLKW)", path.display()),
                        e,
                    ));
                }
            }
        }
    }

    /// `None` if somebody else holds it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Lock(file))),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(e) => Err(Error::sys(
                format!("fcntl({}, F_OFD_SETLK)", path.display()),
                e,
            )),
        }
    }

    /// Whether anybody holds the lock now, without taking it.
    pub fn is_held(path: &Path) -> Result<bool> {
        let file = match File::open(path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e).context(format!("open({})", path.display())),
        };
        Self::is_held_on(&file)
            .map_err(|e| Error::sys(format!("fcntl({}, F_OFD_GETLK)", path.display()), e))
    }

    /// As [`is_held`](Self::is_held), of an open file.
    pub(super) fn is_held_on(file: &impl AsFd) -> nix::Result<bool> {
        let mut probe = whole_file(libc::F_WRLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))?;
        Ok(i32::from(probe.l_type) != libc::F_UNLCK)
    }
}

/// A lock that the process was started with.
impl From<std::os::fd::OwnedFd> for Lock {
    fn from(fd: std::os::fd::OwnedFd) -> Self {
        Lock(File::from(fd))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("open({}, O_RDWR|O_CREAT)", path.display()))
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    let own = file.metadata()?;
    match path.metadata() {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("stat({})", path.display())),
    }
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = std::env::temp_dir().join(format!("carob-lock-{}", std::process::id()));
        assert!(!Lock::is_held(&dir).unwrap());
        let held = Lock::try_acquire(&dir).unwrap().unwrap();
        assert!(Lock::is_held(&dir).unwrap());
        assert!(Lock::try_acquire(&dir).unwrap().is_none());
        drop(held);
        assert!(Lock::try_acquire(&dir).unwrap().is_some());
        std::fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn a_file_that_was_replaced_locks_nothing() {
        let path = std::env::temp_dir().join(format!("carob-lock-old-{}", std::process::id()));
        let first = Lock::acquire(&path).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::acquire(&path).map(drop)
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::remove_file(&path).unwrap();
        let second = Lock::acquire(&path).unwrap();
        drop(first);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!waiting.is_finished());
        drop(second);
        waiting.join().unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
