//! Extended attributes: setxattr(2). Neither std nor nix offers them.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// fsetxattr(2) without flags: creates or replaces. `fd` may not be `O_PATH`.
pub(crate) fn fsetxattr<Fd: AsFd>(fd: Fd, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the fd is open for the length of the call, `name` ends with NUL,
    // and the kernel reads exactly `value.len()` bytes at `value`.
    let res = unsafe {
        libc::fsetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(res).map(drop)
}

/// lsetxattr(2) without flags: never follows a symlink in the last component.
pub(crate) fn lsetxattr(path: &CStr, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: both strings end with NUL, and the kernel reads exactly
    // `value.len()` bytes at `value`.
    let res = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(res).map(drop)
}

/// getxattr(2), which follows symlinks, of a value of at most 4 KiB.
pub(crate) fn getxattr(path: &CStr, name: &CStr) -> nix::Result<Vec<u8>> {
    let mut value = vec![0u8; 4096];
    // SAFETY: both strings end with NUL, and the kernel writes at most `value.len()`
    // bytes at `value`.
    let res = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    written(value, res)
}

/// fgetxattr(2) into a buffer of 64 KiB, the kernel's XATTR_SIZE_MAX.
pub fn fgetxattr<Fd: AsFd>(fd: Fd, name: &CStr) -> nix::Result<Vec<u8>> {
    let mut value = vec![0u8; 65536];
    // SAFETY: the fd is open, `name` ends with NUL, and the kernel writes at
    // most `value.len()` bytes at `value`.
    let res = unsafe {
        libc::fgetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    written(value, res)
}

/// As much of the buffer as the call says that it has written.
fn written(mut value: Vec<u8>, res: libc::ssize_t) -> nix::Result<Vec<u8>> {
    let n = Errno::result(res)?;
    value.truncate(usize::try_from(n).unwrap_or(0));
    Ok(value)
}
