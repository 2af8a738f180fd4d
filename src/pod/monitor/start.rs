//! Bringing a monitor to life.
//!
//! Whoever starts one takes its lock and binds its socket first, and hands both
//! over: a client can connect before the monitor has run an instruction, and no
//! two monitors ever live at once.
//!
//! The monitor is this program, executed through a read-only copy of its mount
//! ([`Mount::of_this_program`]), since its children become processes of containers.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::kubelet;
use super::sandbox::monitor_cgroup_path;
use crate::linux::cgroup::{Cgroup, Hierarchies, Join, Select, systemd};
use crate::linux::mount::Mount;
use crate::linux::socket::listen_at;
use crate::linux::{capability, kernel};
use crate::store::{Layout, Lock, PodPaths};
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Ignored, Result, debug_log};

const LOCK_FD: i32 = 3;
const LISTENER_FD: i32 = 4;
const PROGRAM_FD: i32 = 5;

/// What a monitor keeps of its starter's environment: what a pull goes by, and where to
/// record what happens.
const ENVIRONMENT: [&str; 13] = [
    kubelet::trace::VARIABLE,
    "PATH",
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_CONFIG",
];

/// Starts the Pod's monitor unless one lives. Returns once it can be connected to.
pub(crate) fn start(layout: &Layout, uid: &str) -> Result<()> {
    let paths = layout.pod(uid);
    let Some(lock) = Lock::try_acquire(&paths.monitor_lock())? else {
        return Ok(());
    };
    let listener = listen_at(&paths.monitor_socket())?;
    fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|e| Error::sys("fcntl(F_SETFL, O_NONBLOCK)", e))?;
    spawn(layout, uid, &paths, &lock, &listener).context("start the monitor")
}

/// The Pod's monitor, if one lives: the process that has its lock open at the place
/// where a monitor has it.
pub(crate) fn find(layout: &Layout, uid: &str) -> Option<(Pid, OwnedFd)> {
    let lock = layout.pod(uid).monitor_lock();
    let lock = lock.canonicalize().ok()?;
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|e| {
        let pid: i32 = e.file_name().to_str()?.parse().ok()?;
        let pidfd = sys::pidfd_open(Pid::from_raw(pid)).ok()?;
        // Asked after the pidfd is there: it is this process or none.
        let fd = std::fs::read_link(format!("/proc/{pid}/fd/{LOCK_FD}")).ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is = fd == lock && line.starts_with(b"carob\0monitor\0");
        is.then(|| (Pid::from_raw(pid), pidfd))
    })
}

fn spawn(
    layout: &Layout,
    uid: &str,
    paths: &PodPaths,
    lock: &Lock,
    listener: &OwnedFd,
) -> Result<()> {
    kernel::check()?;
    capability::require(&["CAP_SYS_ADMIN"])?;
    let program = Mount::of_this_program()?;
    let errors = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(paths.monitor_errors())
        .with_context(|| format!("open({})", paths.monitor_errors().display()))?;
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::sys("open(/dev/null)", e))?;
    let mut argv = vec![c"carob".to_owned(), c"monitor".to_owned()];
    if let Some(root) = layout.root() {
        argv.push(c"--root".to_owned());
        argv.push(to_c(root.as_os_str().as_bytes())?);
    }
    argv.push(to_c(uid.as_bytes())?);
    let mut envp = Vec::new();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            envp.push(to_c(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
    }
    // What the environment says is another level where `--log-level` was given.
    if let Some(level) = debug_log::level() {
        log::debug!(
            "start the monitor; its log is {}",
            paths.monitor_log().display()
        );
        envp.push(to_c(format!("{}={level}", debug_log::VARIABLE).as_bytes())?);
    }
    let hierarchies = Hierarchies::detect()?;
    hierarchies.require_writable()?;
    let cgroup = monitor_cgroup_path(layout);
    // The last monitor of a root removes the cgroup, perhaps right now.
    for _ in 0..10 {
        let made = Cgroup::create(&hierarchies, &cgroup, Select::Pod);
        // All monitors of a root are in it: together they may have more in swap than
        // any other cgroup has.
        let made = made.inspect(systemd::omit_from_oomd);
        let join = match made.and_then(|c| c.join_plan()) {
            Err(e) if matches!(e.errno(), Some(Errno::ENODEV | Errno::ENOENT)) => continue,
            other => other?,
        };
        match sys::clone3(CloneFlags::empty(), join.v2_fd()) {
            Ok(Fork::Parent { .. }) => return Ok(()),
            Ok(Fork::Child) => become_monitor(
                &program, &join, lock, listener, &errors, &null, &argv, &envp,
            ),
            Err(Errno::ENODEV | Errno::ENOENT) => {}
            Err(e) => return Err(Error::sys("clone3(CLONE_INTO_CGROUP)", e)),
        }
    }
    Err(Error::failed(format!(
        "cgroup {cgroup}: removed each time it was made"
    )))
}

#[allow(clippy::too_many_arguments)]
fn become_monitor(
    program: &Mount,
    join: &Join,
    lock: &Lock,
    listener: &OwnedFd,
    errors: &std::fs::File,
    null: &OwnedFd,
    argv: &[CString],
    envp: &[CString],
) -> ! {
    let run = || -> Result<()> {
        join.enter()
            .ignored("a v1 cgroup that has just gone leaves the monitor in its starter's");
        nix::unistd::setsid().map_err(|e| Error::sys("setsid()", e))?;
        nix::unistd::chdir("/").ignored("the monitor works in every directory");
        let dup = |fd: std::os::fd::BorrowedFd| {
            crate::sys::fd::duplicate(fd, 20).map_err(|e| Error::sys("fcntl(F_DUPFD_CLOEXEC)", e))
        };
        let (program, lock, listener) = (
            dup(program.as_fd())?,
            dup(lock.as_fd())?,
            dup(listener.as_fd())?,
        );
        let (errors, null) = (dup(errors.as_fd())?, dup(null.as_fd())?);
        for (fd, number) in [(&null, 0), (&null, 1), (&errors, 2), (&lock, LOCK_FD)] {
            sys::dup_to(fd, number).map_err(|e| Error::sys("dup2()", e))?;
        }
        for (fd, number) in [(&listener, LISTENER_FD), (&program, PROGRAM_FD)] {
            sys::dup_to(fd, number).map_err(|e| Error::sys("dup2()", e))?;
        }
        sys::reset_signals();
        sys::close_on_exec_from(6).map_err(|e| Error::sys("close_range()", e))?;
        Err(Error::sys(
            "execveat(<carob>)",
            sys::exec_fd(program.as_fd(), argv, envp),
        ))
    };
    if let Err(e) = run() {
        use std::io::Write;
        writeln!(&*errors, "start the monitor: {e}").ignored("there may be no room for it");
    }
    sys::exit_now(1)
}

fn to_c(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::invalid("a NUL byte in a path or variable"))
}

/// `[--root DIR] UID`.
pub(super) fn parse_arguments(arguments: &[OsString]) -> Result<(Layout, String)> {
    let usage = || Error::new(crate::Kind::Usage, "monitor is started by carob itself");
    let (root, uid) = match arguments {
        [flag, root, uid] if flag == "--root" => (Some(Path::new(root)), uid),
        [uid] => (None, uid),
        _ => return Err(usage()),
    };
    let uid = uid.to_str().ok_or_else(usage)?;
    Ok((Layout::new(root)?, uid.to_owned()))
}

/// The lock, the listening socket, and the mount that this program runs from.
pub(super) fn take_inherited() -> Result<(Lock, OwnedFd, Mount)> {
    let take = |fd| {
        crate::sys::fd::inherited(fd).map_err(|e| {
            Error::sys(format!("fd {fd}"), e).push_context("monitor is started by carob itself")
        })
    };
    nix::sys::prctl::set_name(c"carob-monitor").ignored("the name is for people alone");
    let lock = Lock::from(take(LOCK_FD)?);
    Ok((lock, take(LISTENER_FD)?, Mount::received(take(PROGRAM_FD)?)))
}
