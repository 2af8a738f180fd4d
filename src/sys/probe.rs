//! Probes of the kernel, not of containers: whether it has a call, asked by calling it so that it can do nothing. A
//! kernel without the call says ENOSYS; one without a part of it, or a seccomp filter,
//! says something else than the kernel that has it.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// openat2(2). A size of 0 is EINVAL, before anything else is looked at.
pub(crate) fn has_openat2() -> bool {
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel reads nothing of a size of 0.
    let n = unsafe { libc::syscall(libc::SYS_openat2, -1, nothing, nothing, 0) };
    Errno::result(n) == Err(Errno::EINVAL)
}

/// mount_setattr(2). A size of 0 is EINVAL, before anything else is looked at.
pub(crate) fn has_mount_setattr() -> bool {
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel reads nothing of a size of 0.
    let n = unsafe { libc::syscall(libc::SYS_mount_setattr, -1, nothing, 0, nothing, 0) };
    Errno::result(n) == Err(Errno::EINVAL)
}

/// CLONE_INTO_CGROUP of clone3(2). An fd that cannot be one is EINVAL, before anything
/// is made; a kernel whose clone_args ends before that field says E2BIG.
pub(crate) fn has_clone_into_cgroup() -> bool {
    // SAFETY: clone_args is plain integers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = super::process::CLONE_INTO_CGROUP;
    args.cgroup = u64::MAX;
    // SAFETY: args outlives the call, which makes no process: its cgroup is no fd.
    let n = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    Errno::result(n) == Err(Errno::EINVAL)
}

/// CLOSE_RANGE_CLOEXEC of close_range(2), tried on an fd that is close-on-exec anyway.
pub(crate) fn has_close_range_cloexec() -> bool {
    let Ok(own) = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC) else {
        return false;
    };
    let number = own.as_fd().as_raw_fd();
    let flag = super::process::CLOSE_RANGE_CLOEXEC;
    // SAFETY: flags an fd, closes none.
    let n = unsafe { libc::syscall(libc::SYS_close_range, number, number, flag) };
    Errno::result(n).is_ok()
}
