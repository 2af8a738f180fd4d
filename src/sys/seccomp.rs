//! seccomp(2): putting a filter in force on the calling thread, and asking what the
//! kernel knows.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

pub(crate) use libc::sock_filter;

/// Installs the filter. With `SECCOMP_FILTER_FLAG_NEW_LISTENER` among the flags
/// the kernel returns the notification fd, close-on-exec.
pub(crate) fn set_filter(
    program: &[sock_filter],
    flags: libc::c_ulong,
) -> Result<Option<OwnedFd>, Errno> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Errno::EINVAL);
    };
    let prog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `prog` and the instructions live across the call; the kernel copies
    // them and writes nothing, whatever the pointer's type says.
    let r = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &prog,
        )
    };
    let r = Errno::result(r)?;
    match flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER {
        // With TSYNC_ESRCH set, a positive value is never a thread's id.
        0 => match r {
            0 => Ok(None),
            _ => Err(Errno::ESRCH),
        },
        // SAFETY: with this flag success is a new fd that nobody else owns.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(r as i32) })),
    }
}

/// Whether the kernel has the action (`SECCOMP_RET_*`); Linux 4.14 on.
pub(crate) fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32 through the pointer, which is alive.
    let r = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0 as libc::c_ulong,
            &action,
        )
    };
    r == 0
}

/// Whether the kernel takes these flags together. It looks at them before it looks
/// at the filter: without one, flags that it knows give EFAULT.
pub(crate) fn flags_known(flags: libc::c_ulong) -> bool {
    // SAFETY: there is no filter to read; nothing is installed without one.
    let r = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    Errno::result(r) == Err(Errno::EFAULT)
}
