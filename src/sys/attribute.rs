//! What a process carries through exec and no crate can set: ioprio_set(2),
//! sched_setattr(2), set_mempolicy(2), personality(2), keyctl(2), prlimit(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Errno>;

/// ioprio_set(2) of the calling thread; `value` holds class and level.
pub(crate) fn set_io_priority(value: i32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: no pointers.
    let n = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    Errno::result(n).map(drop)
}

/// struct sched_attr of sched_setattr(2), its first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedAttr {
    /// Filled in by [`set_scheduler`].
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) of the calling thread.
pub(crate) fn set_scheduler(attr: SchedAttr) -> Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        ..attr
    };
    // SAFETY: the kernel reads `size` bytes of attr, which outlives the call.
    let n = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    Errno::result(n).map(drop)
}

/// set_mempolicy(2). `nodes` is a bit per node; empty means none given.
pub(crate) fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<()> {
    let (pointer, bits) = match nodes.is_empty() {
        true => (std::ptr::null(), 0),
        // The kernel reads one bit less than it is told.
        false => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: null, or a mask of the length given.
    let n = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    Errno::result(n).map(drop)
}

/// personality(2).
pub(crate) fn set_personality(value: u64) -> Result<()> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::personality(value as libc::c_ulong) }).map(drop)
}

/// KEYCTL_JOIN_SESSION_KEYRING without a name: a new and empty one.
pub(crate) fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: no name is allowed.
    let n = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    Errno::result(n).map(drop)
}

/// prlimit(2): the soft and the hard limit `resource` (RLIMIT_*) of a process, 0 for
/// the calling one.
pub(crate) fn limits(pid: Pid, resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: no new limit is given; the kernel fills limit.
    let n = unsafe {
        libc::prlimit64(
            pid.as_raw(),
            resource as _,
            std::ptr::null(),
            &raw mut limit,
        )
    };
    Errno::result(n).map(|_| (limit.rlim_cur, limit.rlim_max))
}

/// prlimit(2): sets the soft and hard limit `resource` (RLIMIT_*) of a process, 0
/// for the calling one.
pub(crate) fn set_limit(pid: Pid, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the kernel reads limit; no old limit is asked for.
    let n = unsafe {
        libc::prlimit64(
            pid.as_raw(),
            resource as _,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    Errno::result(n).map(drop)
}

/// pidfd_getfd(2): a copy of fd `number` of another process, close-on-exec.
pub(crate) fn take_fd_of(pidfd: BorrowedFd, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let n = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    // SAFETY: a new fd that nobody else owns.
    Errno::result(n).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Whether this number is an open fd.
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// prctl(PR_SET_CHILD_SUBREAPER, 1).
pub(crate) fn become_subreaper() -> Result<()> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}
