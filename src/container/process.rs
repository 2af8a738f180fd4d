//! From a process of ours inside a container to the program it was made for:
//! what [`super::init`] and [`super::exec`] have in common.
//!
//! The order matters:
//!  1. every fd of the host is closed before a path of the container is resolved:
//!     /proc/self/fd/N would lead out through it (runc CVE-2024-21626), and a process
//!     inside with CAP_SYS_PTRACE could open it (runc CVE-2016-9962);
//!  2. groups, then gid, then uid: each needs the right that the next gives up;
//!  3. the working directory as that user, opened below the root and entered by fd;
//!  4. the filter before the capabilities if `no_new_privileges` is off, since
//!     installing it then needs CAP_SYS_ADMIN; else last;
//!  5. exec, which closes what is left of our own fds: the sockets to the parent and
//!     to `start`, and the files of labels.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};

use super::channel::Message;
use super::plan::{DEFAULT_PATH, Process};
use super::refusal;
use super::wanted::Stdio;
use crate::linux::capability;
use crate::linux::cgroup::Join;
use crate::linux::procfs::Procfs;
use crate::linux::root::{Links, Root, open_dir};
use crate::linux::socket::Packets;
use crate::sys::attribute;
use crate::sys::process as sys;
use crate::{Call, Context, Error, Ignored, Kind, Result};

/// No process inside may trace this one or read its memory and fds.
pub(super) fn seclude() -> Result<()> {
    prctl::set_dumpable(false).call(|| "prctl(PR_SET_DUMPABLE, 0)")
}

/// A session of its own, and its cgroup.
pub(super) fn stand_alone(join: Option<&Join>) -> Result<()> {
    nix::unistd::setsid().map_err(|e| Error::sys("setsid()", e))?;
    match join {
        Some(join) => join.enter().context("join the cgroup"),
        None => Ok(()),
    }
}

/// oom_score_adj(5) of `who`, a pid or `self`. Without CAP_SYS_RESOURCE a value
/// below the inherited one is refused; the process then keeps what it inherited,
/// the lowest allowed.
pub(super) fn set_oom_score(who: &str, score: i32) -> Result<()> {
    let path = format!("/proc/{who}/oom_score_adj");
    match std::fs::write(&path, score.to_string()) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.with_context(|| format!("write({path}, {score})")),
    }
}

/// Raises the hard limits of a process (0: the calling one) to what is asked for,
/// while it has the right to. To what is lower [`launch`] comes last: until then it
/// would bind us, who need fds and memory.
pub(super) fn raise_limits(pid: Pid, limits: &[(u32, u64, u64)]) -> Result<()> {
    for (i, (resource, _, hard)) in limits.iter().enumerate() {
        let (now, most) = attribute::limits(pid, *resource)
            .map_err(|e| Error::sys(format!("prlimit({pid}, {resource})"), e))?;
        if *hard > most {
            set_limit(pid, (*resource, now, *hard))
                .with_context(|| format!("process.rlimits[{i}].hard"))?;
        }
    }
    Ok(())
}

fn set_limit(pid: Pid, (resource, soft, hard): (u32, u64, u64)) -> Result<()> {
    attribute::set_limit(pid, resource, soft, hard)
        .call(|| format!("prlimit({pid}, {resource}, {{{soft}, {hard}}})"))
        .map_err(|e| match e.errno() {
            Some(Errno::EPERM) => e.hint("more than this program itself may have"),
            _ => e,
        })
}

/// Files that take a label for the next exec, the labels, and who asks for them.
pub(super) type Labels = Vec<(std::fs::File, String, &'static str)>;

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";

/// `open`: a procfs that nobody inside has put anything into.
pub(super) fn open_labels(p: &Process, open: fn() -> Result<Procfs>) -> Result<Labels> {
    if p.apparmor_profile.is_none() && p.selinux_label.is_none() {
        return Ok(Vec::new());
    }
    let proc = open()?;
    let mut labels = Vec::new();
    if let Some(profile) = &p.apparmor_profile {
        let own = Path::new("thread-self/attr/apparmor/exec");
        let file = match proc.open_file(own) {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {
                proc.open_file(Path::new("thread-self/attr/exec"))
            }
            other => other,
        };
        labels.push((file.context(APPARMOR)?, format!("exec {profile}"), APPARMOR));
    }
    if let Some(label) = &p.selinux_label {
        let file = proc.open_file(Path::new("thread-self/attr/exec"));
        labels.push((file.context(SELINUX)?, label.clone(), SELINUX));
    }
    Ok(labels)
}

/// Closes every fd but stdio, the fds that the program inherits, and `kept`: our own
/// sockets, and files that lead to no directory. To be called once the process is
/// inside, before a path of the container is resolved. For the child of a clone only,
/// as [`sys::close_all_but`].
pub(super) fn close_host_fds(p: &Process, kept: impl IntoIterator<Item = RawFd>) -> Result<()> {
    let inherited = 3..3 + p.preserve_fds as RawFd;
    let numbers: Vec<RawFd> = inherited.chain(kept).collect();
    sys::close_all_but(&numbers).map_err(|e| Error::sys("close_range()", e))
}

/// What [`close_host_fds`] keeps of labels.
pub(super) fn label_fds(labels: &Labels) -> impl Iterator<Item = RawFd> {
    labels.iter().map(|(file, ..)| file.as_raw_fd())
}

pub(super) fn take_stdio(stdio: &Stdio) -> Result<()> {
    // None of the three may be overwritten before it has been copied.
    let copy = |fd: BorrowedFd| {
        crate::sys::fd::duplicate(fd, 10).map_err(|e| Error::sys("fcntl(F_DUPFD_CLOEXEC)", e))
    };
    let copies = [copy(stdio.stdin)?, copy(stdio.stdout)?, copy(stdio.stderr)?];
    for (number, fd) in copies.iter().enumerate() {
        sys::dup_to(fd, number as i32).map_err(|e| Error::sys("dup2()", e))?;
    }
    Ok(())
}

/// The terminal becomes the controlling one and the stdio.
pub(super) fn take_terminal(slave: BorrowedFd) -> Result<()> {
    crate::sys::pty::make_controlling(slave).map_err(|e| Error::sys("ioctl(TIOCSCTTY)", e))?;
    for number in 0..3 {
        sys::dup_to(slave, number).map_err(|e| Error::sys("dup2()", e))?;
    }
    Ok(())
}

/// What is to be executed.
pub(super) struct Program {
    path: String,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Program {
    pub(super) fn env(&self) -> Vec<String> {
        let entries = self.envp.iter().map(|e| e.to_string_lossy());
        entries.map(|e| e.into_owned()).collect()
    }
}

/// Becomes the user, in its directory, and finds the program. The rights that the
/// kernel lets one keep through that are kept.
pub(super) fn settle(p: &Process) -> Result<Program> {
    // The program opens /dev/stdout anew as its own user, which the fd's owner
    // decides on.
    for fd in [
        std::io::stdin().as_fd(),
        std::io::stdout().as_fd(),
        std::io::stderr().as_fd(),
    ] {
        own_stdio(fd, p);
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(p.umask));
    sys::reset_signals();
    sys::close_on_exec_from(3 + p.preserve_fds)
        .map_err(|e| Error::sys("close_range(3, ~0, CLOEXEC)", e))?;
    let mut env = p.env.clone();
    // As with runc, one that is empty is as good as none.
    let given = env.iter().any(|e| e.starts_with("HOME=") && e != "HOME=");
    if p.find_home && !given {
        env.retain(|e| e != "HOME=");
        env.push(format!("HOME={}", home(p.uid)));
    }

    log::debug!("become user {}:{}", p.uid, p.gid);
    prctl::set_keepcaps(true).map_err(|e| Error::sys("prctl(PR_SET_KEEPCAPS, 1)", e))?;
    capability::drop_bounding(p.capabilities.bounding)?;
    let groups: Vec<Gid> = p.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    match nix::unistd::setgroups(&groups) {
        // Denied in this user namespace: nobody in it has any.
        Err(Errno::EPERM) if groups.is_empty() => {}
        other => other
            .call(|| format!("setgroups({:?})", p.groups))
            .context("process.user.additionalGids")?,
    }
    let (uid, gid) = (Uid::from_raw(p.uid), Gid::from_raw(p.gid));
    let unmapped = |e: Error| match e.errno() {
        Some(Errno::EINVAL) => e.hint("the user namespace does not map it"),
        _ => e,
    };
    nix::unistd::setresgid(gid, gid, gid)
        .call(|| format!("setresgid({gid})"))
        .map_err(unmapped)
        .context("process.user.gid")?;
    log::debug!("enter the working directory {:?}", p.cwd);
    // The directory may be one that only the user, or only root, can enter.
    let entered_as_root = enter_cwd(p).is_ok();
    nix::unistd::setresuid(uid, uid, uid)
        .call(|| format!("setresuid({uid})"))
        .map_err(unmapped)
        .context("process.user.uid")?;
    // The change of user made us dumpable again where the uid did change.
    seclude()?;
    if p.dies_with_caller {
        // It would not have outlived that change.
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|e| Error::sys("prctl(PR_SET_PDEATHSIG, SIGKILL)", e))?;
    }
    if !entered_as_root {
        enter_cwd(p)?;
    }
    // Seen from the new root, the kernel's path of a directory outside begins with
    // "(unreachable)". libc's getcwd(3) then walks `..` upwards, and takes a directory
    // with the root's own device and inode for "/": the directory of the host that the
    // root filesystem is mounted from is one.
    match sys::kernel_cwd() {
        Ok(path) if path.starts_with("/") => {}
        Ok(_) => {
            return Err(Error::failed(format!(
                "the working directory {:?} is not below the root",
                p.cwd
            )));
        }
        Err(e) => {
            return Err(Error::sys("getcwd()", e)
                .push_context(format!("the working directory {:?}", p.cwd)));
        }
    }
    let to_c = |s: &String| {
        CString::new(s.as_str())
            .map_err(|_| Error::invalid(format!("{s:?}: a NUL byte in an argument or variable")))
    };
    Ok(Program {
        path: capability::with_effective(p.capabilities.effective, || find_program(p))??,
        argv: p.argv.iter().map(to_c).collect::<Result<Vec<_>>>()?,
        envp: env.iter().map(to_c).collect::<Result<Vec<_>>>()?,
    })
}

/// Enters the working directory by an fd that was opened below the root: a link with an
/// absolute target stays inside, and a link of /proc that leads to an open file or to
/// another process's directories is not followed.
fn enter_cwd(p: &Process) -> Result<()> {
    let root = open_dir(Path::new("/"))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let entered = Root::new(root.as_fd())
        .open(&p.cwd, flags, Links::InRoot)
        .and_then(|dir| nix::unistd::fchdir(dir).call(|| format!("fchdir({:?})", p.cwd)));
    entered.map_err(|e| {
        let hint = match e.errno() {
            Some(Errno::ELOOP) => {
                "a working directory is not entered through a link of /proc/<pid>/fd, cwd or root"
            }
            _ => "the working directory cannot be entered",
        };
        e.hint(hint).with_kind(Kind::StartFailed)
    })
}

/// Takes the limits, gives up the rights, puts the filter in force, does `last`, and
/// executes. `channel` leads to whoever serves a seccomp listener.
pub(super) fn launch(
    p: &Process,
    program: &Program,
    labels: Labels,
    channel: &Packets,
    last: impl FnOnce() -> Result<()>,
) -> Result<Infallible> {
    use std::io::Write;
    for (mut file, label, field) in labels {
        file.write_all(label.as_bytes())
            .with_context(|| format!("write(/proc/self/attr/exec, {label:?})"))
            .map_err(|e| match e.errno() {
                Some(Errno::EINVAL) => e.hint("the loaded policy does not know it"),
                Some(Errno::ENOENT) => e.hint("no such profile is loaded: apparmor_parser(8)"),
                _ => e,
            })
            .context(field)?;
    }
    for (i, limit) in p.rlimits.iter().enumerate() {
        set_limit(Pid::from_raw(0), *limit).with_context(|| format!("process.rlimits[{i}]"))?;
    }
    log::debug!(
        "{} give up rights, and execute {:?}",
        match &p.seccomp {
            Some(_) => "put the seccomp filter in force,",
            None => "no seccomp filter;",
        },
        program.path
    );
    // The filter may deny what it takes to send a line.
    crate::debug_log::stop();
    let filter = || match &p.seccomp {
        Some(filter) => serve(filter.install()?, channel),
        None => Ok(()),
    };
    if p.no_new_privileges {
        prctl::set_no_new_privs().map_err(|e| Error::sys("prctl(PR_SET_NO_NEW_PRIVS, 1)", e))?;
        capability::apply(&p.capabilities)?;
        filter()?;
    } else {
        if p.seccomp.is_some() {
            // Without no_new_privs it takes an effective CAP_SYS_ADMIN, which an
            // ordinary user has lost by now.
            capability::make_permitted_effective()?;
            filter()?;
        }
        capability::apply(&p.capabilities)?;
    }
    last()?;
    let path = CString::new(program.path.as_str()).unwrap_or_default();
    let Err(errno) = nix::unistd::execve(&path, &program.argv, &program.envp);
    Err(refusal::explain(&program.path, errno))
}

/// The listener's number is told, and the process goes on once somebody has it.
/// With plain write(2) and read(2): a profile may send sendmsg(2) to the listener
/// that is not served yet, and [`crate::linux::seccomp`] refuses one that does so
/// with write(2).
fn serve(listener: Option<std::os::fd::OwnedFd>, channel: &Packets) -> Result<()> {
    use std::os::fd::AsRawFd;
    let Some(listener) = listener else {
        return Ok(());
    };
    let message = serde_json::to_vec(&Message::Listener(listener.as_raw_fd()))?;
    nix::unistd::write(channel, &message).map_err(|e| Error::sys("write(<channel>)", e))?;
    let fd = channel.as_fd().as_raw_fd();
    match nix::unistd::read(channel, &mut [0; 16]) {
        Ok(0) => Err(Error::failed("nobody serves linux.seccomp.listenerPath")),
        Ok(_) => Ok(()),
        Err(e) => Err(Error::sys(format!("read({fd})"), e)),
    }
}

/// The home of a user as the container's /etc/passwd has it.
fn home(uid: u32) -> String {
    let root = crate::linux::root::open_dir(Path::new("/"));
    let accounts =
        root.and_then(|r| super::user::Accounts::read(&crate::linux::root::Root::new(r.as_fd())));
    let user = accounts.map(|a| a.by_uid(uid)).unwrap_or_default();
    user.home.unwrap_or_else(|| "/".to_owned())
}

fn own_stdio(fd: BorrowedFd, p: &Process) {
    use nix::sys::stat::{SFlag, fstat};
    let is_pipe_or_tty = fstat(fd).is_ok_and(|s| {
        let kind = SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT;
        // Not the host's /dev/null, and not a file somebody redirected to.
        kind == SFlag::S_IFIFO
            || (kind == SFlag::S_IFCHR && nix::unistd::isatty(fd).unwrap_or(false))
    });
    if is_pipe_or_tty && p.uid != 0 {
        nix::unistd::fchown(fd, Some(Uid::from_raw(p.uid)), None)
            .ignored("an owner that is not in the user namespace stays; the fd is open");
    }
}

/// execvp(3)'s search, in the container's PATH, with an answer for people.
fn find_program(p: &Process) -> Result<String> {
    let name = &p.argv[0];
    if name.contains('/') {
        return match refusal::is_executable(Path::new(name)) {
            Ok(()) if Path::new(name).is_dir() => Err(refusal::explain(name, Errno::EACCES)),
            Ok(()) => Ok(name.clone()),
            Err(e) => Err(refusal::explain(name, e)),
        };
    }
    let path = p
        .env
        .iter()
        .rev()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let (mut refused, mut closed, mut searched) = (None, None, false);
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = Path::new(dir).join(name);
        match refusal::is_executable(&candidate) {
            Ok(()) if candidate.is_file() => return Ok(candidate.to_string_lossy().into_owned()),
            Err(Errno::EACCES) if candidate.is_file() => refused = refused.or(Some(candidate)),
            Err(Errno::EACCES) => closed = closed.or(Some(candidate)),
            _ => searched = true,
        }
    }
    // A directory that this user may not search, as /root/bin, says nothing if there are others.
    let refused = refused.or(closed.filter(|_| !searched));
    Err(refusal::not_found(name, path, refused))
}
