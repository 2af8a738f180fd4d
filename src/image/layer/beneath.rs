//! Paths of an archive to directories below a layer's root, and never beside it.
//!
//! By openat2(2) with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS` where no symlink
//! is on the way, as almost always; else one component at a time from the
//! root's dirfd, symlinks followed by hand, inside, as the container will see
//! them. Nobody but the caller may write below the root meanwhile.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;

use crate::image::archive::tar::show;
use crate::{Error, Result};

/// Directories above a file. Deeper trees exceed the file descriptors of
/// whatever walks them afterwards.
pub(crate) const MAX_DEPTH: usize = 256;
/// As the kernel's PATH_MAX and NAME_MAX.
pub(crate) const MAX_PATH: usize = 4095;
pub(crate) const MAX_NAME: usize = 255;
/// As the kernel's MAXSYMLINKS, for the walk by hand.
pub(crate) const MAX_SYMLINKS: u32 = 40;
/// Steps by hand for all of a layer: forty links of `a/../a/..` make one entry of a
/// few bytes cost fifty thousand system calls.
const MAX_STEPS: u64 = 2_000_000;

/// How many steps a layer has taken by hand.
#[derive(Debug, Default)]
pub(crate) struct Steps(u64);

impl Steps {
    pub(crate) fn take(&mut self) -> Result<()> {
        self.0 += 1;
        if self.0 > MAX_STEPS {
            return Err(Error::invalid(format!(
                "the layer takes more than {MAX_STEPS} steps along symlinks"
            )));
        }
        Ok(())
    }
}

/// The path as components joined by single slashes, without `.`, relative.
/// `..` is refused: no image tool writes it, and it has no honest use.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut depth = 0;
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Error::invalid("a path with .. is refused")),
            _ => {}
        }
        if component.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "a name is longer than {MAX_NAME} bytes"
            )));
        }
        depth += 1;
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(component);
    }
    if out.len() > MAX_PATH || depth > MAX_DEPTH {
        return Err(Error::invalid(format!(
            "a path is longer than {MAX_PATH} bytes or {MAX_DEPTH} components"
        )));
    }
    Ok(out)
}

/// Directory (empty for the root) and last component; `None` for the root.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    })
}

pub(crate) fn c_name(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid("a name holds a NUL byte"))
}

/// Opens a directory of the layer, making what is missing of it.
pub(crate) fn open_parent(root: &OwnedFd, path: &[u8], steps: &mut Steps) -> Result<OwnedFd> {
    open_dir(root, path, true, steps)
}

/// Opens a directory that is there; `ENOENT` if it is not.
pub(crate) fn open_there(root: &OwnedFd, path: &[u8], steps: &mut Steps) -> Result<OwnedFd> {
    open_dir(root, path, false, steps)
}

fn open_dir(root: &OwnedFd, path: &[u8], make: bool, steps: &mut Steps) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let direct: &[u8] = if path.is_empty() { b"." } else { path };
    match openat2(root, direct, how) {
        Ok(fd) => Ok(fd),
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => walk(root, path, make, steps),
        Err(e) => Err(Error::sys(
            format!("openat2({}, RESOLVE_BENEATH)", show(path)),
            e,
        )),
    }
}

/// Resolves a directory below `root` one component at a time, as if `root` were
/// the root directory: symlinks, absolute ones and `..` in them too, stay inside.
/// `make` creates what is missing, also where a symlink leads: the directory
/// may be in a lower layer only. Without it, what is missing is `ENOENT`.
fn walk(root: &OwnedFd, path: &[u8], make: bool, steps: &mut Steps) -> Result<OwnedFd> {
    let refused = |what: &str, e: Errno| Error::sys(format!("{what}({})", show(path)), e);
    let mut todo: Vec<Vec<u8>> = reversed(path);
    let mut stack = vec![open_child(root.as_fd(), c".").map_err(|e| refused("openat", e))?];
    let mut links = 0;
    while let (Some(component), Some(here)) = (todo.pop(), stack.last()) {
        steps.take()?;
        if component == b".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let name = c_name(&component)?;
        match open_child(here.as_fd(), &name) {
            Ok(fd) => stack.push(fd),
            Err(Errno::ENOENT) if make => {
                let times = times_of(&fstat(here)?);
                mkdirat(here, name.as_c_str(), Mode::S_IRWXU).map_err(|e| refused("mkdirat", e))?;
                let fd = open_child(here.as_fd(), &name).map_err(|e| refused("openat", e))?;
                fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(|e| refused("fchmod", e))?;
                futimens(here, &times.0, &times.1).map_err(|e| refused("futimens", e))?;
                stack.push(fd);
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let link = match readlinkat(here, name.as_c_str()) {
                    Ok(link) => link,
                    Err(Errno::EINVAL) => {
                        return Err(Error::invalid(format!(
                            "{} is not a directory",
                            show(&component)
                        )));
                    }
                    Err(e) => return Err(refused("readlinkat", e)),
                };
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(refused("openat", Errno::ELOOP));
                }
                if link.as_bytes().starts_with(b"/") {
                    stack.truncate(1);
                }
                todo.extend(reversed(link.as_bytes()));
            }
            Err(e) => return Err(refused("openat", e)),
        }
        if stack.len() > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "a directory is deeper than {MAX_DEPTH} components"
            )));
        }
    }
    stack.pop().ok_or_else(|| refused("openat", Errno::ENOENT))
}

fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

/// Never a symlink: `ENOTDIR` for one.
pub(crate) fn open_child(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    openat(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// Access and modification time.
pub(crate) fn times_of(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}
