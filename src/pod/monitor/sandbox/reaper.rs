//! The pid namespace of a Pod with `shareProcessNamespace`, and its first process.
//!
//! Processes whose parents have ended become children of a pid namespace's first process,
//! which has to reap them; and when it ends, the kernel kills all others. So it is none of a
//! container: it is this program, as `/pause`, which does nothing but ignore SIGCHLD, so
//! that the kernel reaps by itself. It has a cgroup of its own below the Pod's, and outlives
//! the monitor. Containers are born in its namespace ([`crate::container::spawn`]); that one
//! has ended is known from its own first process and its cgroup.
//!
//! Containers can see it, and those with CAP_SYS_PTRACE see into it. So it has no fd but to
//! a null device, no file but an empty, read-only root directory, no capability, the user
//! 65535 (that of Kubernetes' pause image), a cgroup namespace of its own, a seccomp filter that leaves it the calls to wait and to end,
//! and is executed anew, with nothing of the monitor's memory.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};

use super::cgroup_path;
use crate::container::settle;
use crate::linux::cgroup::{Cgroup, Join, Select};
use crate::linux::procfs::Stat;
use crate::linux::seccomp::{Action, Filter, Flags, Profile, Rule};
use crate::linux::{bare, capability, namespace};
use crate::pod::monitor::Monitor;
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Ignored, Result};

/// Not the name of a container, which has no underscore.
const CGROUP: &str = "_pause";
const USER: u32 = 65535;
/// As a kubelet's.
const OOM_SCORE: i32 = -998;
const REPORT_FD: i32 = 3;
const READY: &[u8] = b"ready";

impl Monitor {
    /// The namespace that the next container of a Pod with a shared one is born in. A first
    /// process that has been killed has taken all containers along: there is a new one then.
    pub(in crate::pod::monitor) fn shared_pid_namespace(&mut self) -> Result<Option<OwnedFd>> {
        if !self.pod().spec.share_process_namespace {
            return Ok(None);
        }
        let pin = self.paths.namespace("pid");
        let hierarchies = &self.host.hierarchies;
        let lives = |pid: &Pid| Stat::of(pid.as_raw()).is_some_and(|s| !s.ended && !s.exiting);
        // Each has a cgroup of its own: one that is dying is in its until this monitor has
        // reaped the containers that it takes along, and Linux 6.18 kills what is cloned into
        // a cgroup that has ever been killed (kill_seq in kernel/cgroup/cgroup.c).
        let mut number = 0;
        let free = loop {
            let pod = cgroup_path(&self.layout, &self.pod().uid);
            let path = format!("{pod}/{CGROUP}{number}");
            match Cgroup::open(hierarchies, &path, Select::Pod)? {
                None => break path,
                Some(cgroup) if pin.exists() && cgroup.procs()?.iter().any(lives) => {
                    return namespace::open_kind(&pin, CloneFlags::CLONE_NEWPID).map(Some);
                }
                Some(cgroup) => {
                    cgroup.kill()?;
                    number += 1;
                }
            }
        };
        namespace::unpin(&pin)?;
        let cgroup = Cgroup::create(hierarchies, &free, Select::Pod)?;
        let pid = self.start_reaper(&cgroup.join_plan()?)?;
        namespace::pin(format!("/proc/{pid}/ns/pid").as_ref(), &pin)?;
        namespace::open_kind(&pin, CloneFlags::CLONE_NEWPID).map(Some)
    }

    fn start_reaper(&mut self, join: &Join) -> Result<Pid> {
        log::debug!("start the first process of the Pod's pid namespace");
        let null = self.open_null()?;
        let program = open_program()?;
        let bare = bare::open(&self.layout.bare_mounts());
        let (ours, theirs) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2()", e))?;
        let cloned = sys::clone3(CloneFlags::CLONE_NEWPID, join.v2_fd());
        let (pid, pidfd) = match cloned {
            Ok(Fork::Parent { pid, pidfd }) => (pid, pidfd),
            Ok(Fork::Child) => {
                let fds = [null.as_fd(), program.as_fd(), theirs.as_fd()];
                let why = become_reaper(join, bare.as_ref().map(AsFd::as_fd), fds);
                nix::unistd::write(&theirs, why.to_string().as_bytes())
                    .ignored("the monitor has ended");
                sys::exit_now(1)
            }
            Err(e) => return Err(Error::sys("clone3(CLONE_NEWPID)", e)),
        };
        drop(theirs);
        let mut report = Vec::new();
        let read = std::fs::File::from(ours)
            .take(4096)
            .read_to_end(&mut report)
            .context("read(<first process>)");
        if read.is_ok() && report == READY {
            return Ok(pid);
        }
        sys::kill_and_reap(pidfd.as_fd());
        read?;
        let why = match report.is_empty() {
            true => "it was killed".into(),
            false => String::from_utf8_lossy(&report),
        };
        Err(Error::failed(format!(
            "the first process of the Pod's pid namespace did not start: {why}"
        )))
    }
}

/// Executed through the mount that the monitor itself is executed from, which is read-only.
fn open_program() -> Result<OwnedFd> {
    let path = "/proc/self/exe";
    nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::sys(format!("open({path})"), e))
}

/// In the child. Returns only why it could not.
fn become_reaper(
    join: &Join,
    bare_mounts: Option<BorrowedFd>,
    [null, program, report]: [BorrowedFd; 3],
) -> Error {
    let run = || -> Result<()> {
        settle(join, OOM_SCORE)?;
        // The host's would lead whoever may enter it to all cgroups of the machine.
        namespace::leave(CloneFlags::CLONE_NEWCGROUP)?;
        bare::enter_empty(bare_mounts)?;
        let dup = |fd| {
            crate::sys::fd::duplicate(fd, 20).map_err(|e| Error::sys("fcntl(F_DUPFD_CLOEXEC)", e))
        };
        let (null, program, report) = (dup(null)?, dup(program)?, dup(report)?);
        for (fd, number) in [(&null, 0), (&null, 1), (&null, 2), (&report, REPORT_FD)] {
            sys::dup_to(fd, number).map_err(|e| Error::sys("dup2()", e))?;
        }
        sys::reset_signals();
        sys::close_on_exec_from(4).map_err(|e| Error::sys("close_range()", e))?;
        let argv = [c"/pause".to_owned(), ARGUMENT.to_owned()];
        Err(Error::sys(
            "execveat(<carob>)",
            sys::exec_fd(program.as_fd(), &argv, &[]),
        ))
    };
    match run() {
        Err(e) => e,
        Ok(()) => Error::failed("nothing was executed"),
    }
}

/// What tells this program to be a reaper, where its own name is `/pause`.
const ARGUMENT: &std::ffi::CStr = c"of-a-pod";

/// Whether these are the arguments of a reaper.
pub(crate) fn is_meant(arguments: &[OsString]) -> bool {
    matches!(arguments, [name, what] if name == "/pause" && what.as_encoded_bytes() == ARGUMENT.to_bytes())
}

/// The reaper's life.
pub(crate) fn main() -> ExitCode {
    let give_rights_up = || -> Result<()> {
        nix::sys::prctl::set_dumpable(false)?;
        nix::sys::prctl::set_name(c"pause")?;
        let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
        capability::drop_bounding(capability::Set::EMPTY)?;
        setgroups(&[])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        capability::apply(&capability::Sets::default())?;
        nix::sys::prctl::set_no_new_privs()?;
        // The change of user has set it to fs.suid_dumpable.
        nix::sys::prctl::set_dumpable(false)?;
        sys::reap_by_kernel();
        Ok(())
    };
    let report = match crate::sys::fd::inherited(REPORT_FD) {
        Ok(fd) => fd,
        Err(_) => return ExitCode::FAILURE,
    };
    let done = give_rights_up().and_then(|()| Filter::new(&profile()));
    let filter = match done {
        Ok(filter) => filter,
        Err(e) => {
            nix::unistd::write(&report, e.to_string().as_bytes()).ignored("the monitor has ended");
            return ExitCode::FAILURE;
        }
    };
    nix::unistd::write(&report, READY).ignored("the monitor has ended");
    drop(report);
    match filter.install() {
        Ok(_) => loop {
            nix::unistd::pause();
        },
        Err(_) => ExitCode::FAILURE,
    }
}

fn profile() -> Profile {
    let names = "pause ppoll rt_sigreturn restart_syscall exit_group";
    Profile {
        default_action: Action::KillProcess,
        architectures: Vec::new(),
        rules: vec![Rule {
            names: names.split_whitespace().map(Into::into).collect(),
            action: Action::Allow,
            args: Vec::new(),
        }],
        flags: Flags::default(),
    }
}
