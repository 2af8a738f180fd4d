//! Files of cgroups, by (hierarchy, path of the cgroup, name), each one open and
//! one read or write. Errors show the full path, as strace would.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::write as write_fd;

use super::hierarchy::Hierarchy;
use crate::{Call, Error, Result};

pub(super) fn full(h: &Hierarchy, path: &str, file: &str) -> PathBuf {
    h.point().join(path).join(file)
}

fn relative(path: &str, file: &str) -> String {
    match (path, file) {
        ("", f) => f.to_owned(),
        (p, f) => format!("{p}/{f}"),
    }
}

pub(super) fn open_write(h: &Hierarchy, path: &str, file: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(h, relative(path, file).as_str(), flags, Mode::empty())
        .map_err(|e| Error::sys(format_args!("open({:?}, O_WRONLY)", full(h, path, file)), e))
}

pub(super) fn open_read(h: &Hierarchy, path: &str, file: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(h, relative(path, file).as_str(), flags, Mode::empty())
        .map_err(|e| Error::sys(format_args!("open({:?}, O_RDONLY)", full(h, path, file)), e))
}

pub(super) fn open_dir(h: &Hierarchy, path: &str, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(h, path, flags, Mode::empty()).map_err(|e| {
        Error::sys(
            format_args!(
                "open({:?}, {})",
                h.point().join(path),
                crate::error::flags(flags)
            ),
            e,
        )
    })
}

/// The kernel takes each write(2) as one whole value: never split, never retried.
pub(super) fn write(h: &Hierarchy, path: &str, file: &str, value: &str) -> Result<()> {
    let fd = open_write(h, path, file)?;
    write_fd(&fd, value.as_bytes())
        .call(|| format!("write({:?}, {value:?})", full(h, path, file)))
        .map(drop)
}

/// The whole file from its start; again and again on the same fd if need be.
///
/// The kernel fills the buffer as long as the next record fits: half an empty
/// buffer is the end of the file, and a read that would only say so is saved.
pub(super) fn read_fd(fd: &OwnedFd) -> Result<String, Errno> {
    let mut out = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        match nix::sys::uio::pread(fd, &mut buf, out.len() as i64) {
            Ok(0) => break,
            Ok(n) => {
                out.extend_from_slice(&buf[..n]);
                if n < buf.len() / 2 {
                    break;
                }
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

pub(super) fn read(h: &Hierarchy, path: &str, file: &str) -> Result<String> {
    let fd = open_read(h, path, file)?;
    read_fd(&fd).map_err(|e| Error::sys(format_args!("read({:?})", full(h, path, file)), e))
}

/// The cgroups right below `path`; none if `path` is gone.
pub(super) fn children(h: &Hierarchy, path: &str) -> Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = match Dir::openat(h, path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => {
            let path = h.point().join(path);
            return Err(Error::sys(format_args!("open({path:?}, O_DIRECTORY)"), e));
        }
    };
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry
            .map_err(|e| Error::sys(format_args!("getdents({:?})", h.point().join(path)), e))?;
        if entry.file_type() == Some(nix::dir::Type::Directory)
            && let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(format!("{path}/{name}"));
        }
    }
    Ok(names)
}
