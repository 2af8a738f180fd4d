//! Making, watching, signalling and leaving processes: clone3(2), pidfd_open(2),
//! pidfd_send_signal(2), ioctl(PIDFD_GET_INFO), close_range(2), execveat(2).

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::{Call, Ignored};

type Result<T> = std::result::Result<T, Errno>;

/// Which side of a clone this is.
#[derive(Debug)]
pub(crate) enum Fork {
    Parent { pid: Pid, pidfd: OwnedFd },
    Child,
}

/// clone3(2) as fork(2) does it (no shared memory), with a pidfd, the new
/// namespaces in `namespaces`, and born into the v2 cgroup `cgroup` if given.
///
/// # Errors
/// The kernel's; EBUSY and ENODEV concern the cgroup.
///
/// # Panics
/// If the process has more than one thread: the child would own a copy of memory
/// with other threads' locks held for ever.
pub(crate) fn clone3(namespaces: CloneFlags, cgroup: Option<BorrowedFd>) -> Result<Fork> {
    assert_eq!(threads(), 1, "clone from a threaded process");
    clone(namespaces, cgroup, libc::SIGCHLD)
}

/// As [`clone3`], and the new process is a child of the caller's parent, not of
/// the caller: CLONE_PARENT. Who dies is told by the signal that the caller itself
/// was born with.
///
/// # Panics
/// If the process was not made by [`clone3`]: such a one has one thread, and a
/// container's /proc would be no place to ask for more.
pub(crate) fn clone_sibling(namespaces: CloneFlags, cgroup: Option<BorrowedFd>) -> Result<Fork> {
    assert_child();
    clone(namespaces | CloneFlags::CLONE_PARENT, cgroup, 0)
}

/// Whether this process is the child of a clone, and has not executed a program since.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// The child of a clone has the fd table for itself. Values of the parent's memory that
/// own its fds are there as well; it ends, or executes a program, without dropping them.
fn assert_child() {
    assert!(
        IS_CHILD.load(Ordering::Relaxed),
        "for the child of a clone only"
    );
}

/// libc's constant overflows its type.
pub(super) const CLONE_INTO_CGROUP: u64 = 1 << 33;

fn clone(
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd>,
    exit_signal: libc::c_int,
) -> Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (namespaces.bits() as u64) | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = exit_signal as u64;
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: args outlives the call; without CLONE_VM and with no stack given the
    // child runs on its own copy of this stack, as after fork. The process has one
    // thread, so that every lock in the copy is the child's own.
    let n = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    if n == 0 {
        IS_CHILD.store(true, Ordering::Relaxed);
        return Ok(Fork::Child);
    }
    let pid = Errno::result(n as i32).traced(|| {
        let into = match cgroup {
            Some(_) => ", <cgroup>",
            None => "",
        };
        format!("clone3({}{into})", crate::error::flags(namespaces))
    })?;
    Ok(Fork::Parent {
        pid: Pid::from_raw(pid),
        // SAFETY: the kernel has stored a new fd that nobody else owns.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    })
}

/// The number of this process's threads, from the link count of /proc/self/task.
/// Without /proc the answer is 1: it is a check against mistakes, not a control.
fn threads() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/task").map_or(1, |m| m.nlink().saturating_sub(2))
}

/// pidfd_open(2) for a process, not a thread.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: a new fd, owned by nobody else.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_send_signal(2). Signal 0 only asks whether the process exists.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo is allowed: the kernel fills one in.
    let n = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(n)
        .map(drop)
        .traced(|| format!("pidfd_send_signal({}, {signal})", pidfd.as_raw_fd()))
}

/// The wait status of a process that is not our child and has been reaped by
/// whoever is its parent: ioctl(PIDFD_GET_INFO) with PIDFD_INFO_EXIT, Linux 6.15.
/// `None` while it is not reaped. ENOTTY or EINVAL on kernels that cannot tell.
pub fn pidfd_exit_status(pidfd: BorrowedFd) -> Result<Option<i32>> {
    // struct pidfd_info of include/uapi/linux/pidfd.h, its first 64 bytes: the
    // size is part of the ioctl's number, and newer kernels accept older sizes.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup_id: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    const PIDFD_GET_INFO: libc::Ioctl =
        (3 << 30) | ((size_of::<Info>() as libc::Ioctl) << 16) | (0xff << 8) | 11;
    let mut info = Info {
        mask: PIDFD_INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: info is of the size that the request's number names.
    let n = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    Errno::result(n)?;
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

pub(super) const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// Marks every fd from `first` on close-on-exec: close_range(2).
pub(crate) fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: flags fds, closes none.
    let n = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    Errno::result(n).map(drop)
}

/// close_range(2) around every fd from 3 on that is not in `kept`.
///
/// # Panics
/// If the process is not the child of a clone: fds that its values own are closed.
pub(crate) fn close_all_but(kept: &[RawFd]) -> Result<()> {
    assert_child();
    let mut kept: Vec<u32> = kept
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().map(Some).chain([None]) {
        let last = fd.map_or(Some(u32::MAX), |fd| fd.checked_sub(1));
        if let Some(last) = last.filter(|last| *last >= first) {
            // SAFETY: the child of a clone drops no value that owns one.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = fd.map_or(first, |fd| first.max(fd + 1));
    }
    Ok(())
}

/// The kernel's own path of the working directory: getcwd(2). It begins with
/// "(unreachable)" if the directory is not below the process's root; getcwd(3) of libc
/// would search for another name then.
///
/// # Errors
/// ENOENT: the directory has been removed. ERANGE: the path is longer than PATH_MAX.
pub(crate) fn kernel_cwd() -> Result<PathBuf> {
    let mut buffer = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the given number of bytes.
    let n = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    // The length counts the NUL byte.
    buffer.truncate((Errno::result(n)? - 1) as usize);
    Ok(PathBuf::from(OsString::from_vec(buffer)))
}

/// Runs the program that `fd` refers to: execveat(2) with AT_EMPTY_PATH.
pub(crate) fn exec_fd(fd: BorrowedFd, argv: &[CString], envp: &[CString]) -> Errno {
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    let empty: &CStr = c"";
    // SAFETY: both lists end with null and outlive the call, as do their strings.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            empty.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}

/// dup2(2): makes `to` a copy of `from` that survives exec, whatever `to` was.
///
/// # Panics
/// If the process is not the child of a clone: a value may own `to`.
pub(crate) fn dup_to(from: impl AsFd, to: RawFd) -> Result<()> {
    assert_child();
    let from = from.as_fd().as_raw_fd();
    if from == to {
        // dup2 would leave close-on-exec set.
        // SAFETY: F_SETFD takes an integer.
        return Errno::result(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: the child of a clone drops no value that owns `to`.
    Errno::result(unsafe { libc::dup2(from, to) }).map(drop)
}

/// _exit(2): ends the child of a clone without running the parent's atexit work.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Gives SIGPIPE its default effect back, which Rust's runtime takes away.
pub(crate) fn default_sigpipe() {
    // SAFETY: SIG_DFL is no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Ignores SIGCHLD, so that the kernel reaps children by itself: wait(2), Notes.
pub(crate) fn reap_by_kernel() {
    // SAFETY: SIG_IGN is no handler of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Whether no signal is ignored but SIGPIPE, which Rust's runtime ignores.
static NONE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Every signal's default effect and an empty mask, as a program expects that is about
/// to be executed. execve(2) itself does that to signals that have a handler.
pub(crate) fn reset_signals() {
    if NONE_IGNORED.load(Ordering::Relaxed) {
        default_sigpipe();
    } else {
        for signal in 1..=libc::SIGRTMAX() {
            // SAFETY: SIG_DFL is no handler of ours; a signal that cannot be set is
            // refused with EINVAL, which is what we want for it.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .ignored("sigprocmask(2) refuses only wrong arguments");
}

/// For a program whose starter has called [`reset_signals`]: its children have nothing to
/// reset but what this program's own runtime has changed.
pub(crate) fn signals_are_default() {
    NONE_IGNORED.store(true, Ordering::Relaxed);
}

/// Ends this process at each signal whose default effect is to end one. The kernel
/// spares the first process of a pid namespace that effect (pid_namespaces(7)). execve(2)
/// gives signals their default effect back.
pub(crate) fn end_on_signals() {
    extern "C" fn end(signal: libc::c_int) {
        exit_now(128 + signal)
    }
    // And SIGPIPE, of which write(2) tells by its error.
    const NO_END: [libc::c_int; 10] = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGCHLD,
        libc::SIGURG,
        libc::SIGWINCH,
        libc::SIGPIPE,
    ];
    let handler = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in (1..=libc::SIGRTMAX()).filter(|s| !NO_END.contains(s)) {
        // SAFETY: the handler calls _exit(2) alone, which is async-signal-safe.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Returns freed heap pages to the kernel: malloc_trim(3).
pub(crate) fn trim_heap() {
    // SAFETY: glibc's, takes its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Unmaps this process's untouched pages of its own program file; the next access
/// maps them again from the page cache. Mappings that are writable, or of which
/// any page has been written (relocations), stay as they are.
pub(crate) fn drop_program_pages() {
    use std::os::unix::fs::MetadataExt;
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    let Ok(program) = std::fs::metadata("/proc/self/exe") else {
        return;
    };
    let inode = program.ino().to_string();
    let mut clean = None;
    for line in smaps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else {
            continue;
        };
        if let Some((from, to)) = first.split_once('-') {
            let parse = |s| usize::from_str_radix(s, 16).ok();
            clean = parse(from)
                .zip(parse(to))
                .filter(|_| !second.contains('w') && fields.nth(2) == Some(&inode));
        } else if first == "Anonymous:"
            && second == "0"
            && let Some((from, to)) = clean.take()
        {
            // SAFETY: a file mapping, not writable and with no page of its own: what
            // it shows is the file, before and after.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
        }
    }
}

/// Waits until the process has ended, at most so long. False: it has not.
pub(crate) fn await_end(pidfd: BorrowedFd, limit: std::time::Duration) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = std::time::Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            other => return other.map(|n| n > 0),
        }
    }
}

/// Kills a child and reaps it. One that SIGKILL does not end within 5 s is left to
/// whoever inherits it.
pub(crate) fn kill_and_reap(pidfd: BorrowedFd) {
    pidfd_send_signal(pidfd, libc::SIGKILL).ignored("the process may have ended already");
    await_end(pidfd, std::time::Duration::from_secs(5))
        .ignored("the next call reaps it if it has ended");
    wait_pidfd(pidfd).ignored("a child that is left is reaped by its next parent");
}

/// Waits for a child by its pidfd without blocking: waitid(2), P_PIDFD.
/// `None` while it runs. The status is as wait(2) encodes it.
pub(crate) fn wait_pidfd(pidfd: BorrowedFd) -> Result<Option<i32>> {
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: info outlives the call.
    let n = unsafe {
        libc::waitid(
            libc::P_PIDFD,
            pidfd.as_raw_fd() as libc::id_t,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG,
        )
    };
    Errno::result(n)?;
    // SAFETY: waitid fills the SIGCHLD fields, or leaves zeroes if nothing ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        _ => status & 0x7f,
    }))
}

/// The calling process works when no other wants the processor or the disk (setpriority(2),
/// ioprio_set(2)).
pub(crate) fn give_way() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: neither call takes a pointer.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}
