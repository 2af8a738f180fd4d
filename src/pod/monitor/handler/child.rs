//! The child process that sends the requests which the monitor does not send itself. It is a
//! fork of the monitor in the Pod's network namespace, for one request; it reports JSON on its
//! pipe, and is killed at the timeout, with its container and with the monitor.
//!
//! It parses what a container answers, so it is treated as if that container controlled it.
//! Before it opens a socket:
//!
//! 1. the debug log is off, and every fd is closed but the pipe and standard streams;
//! 2. it cannot extend any file (RLIMIT_FSIZE): standard error is the Pod's monitor.err;
//! 3. its root directory is an empty one, so that it names no file of the host;
//! 4. it is the user 65534 without capabilities, and cannot get any (no_new_privs);
//! 5. a seccomp filter leaves it sockets of IPv4 and IPv6, its fds, and memory without
//!    programs in it. It has no way to open a file, start a process, signal or trace one.
//!
//! What remains: it can talk with what the Pod's network namespace reaches, as the container
//! can (with hostNetwork: what the host reaches), read the memory that the fork has copied
//! (the Pod's specification, with Secrets for the environment of its containers and for
//! pulls), and lie about the answer, as the container can. What it reports is bounded, and
//! only text.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, chdir, chroot, getppid, setgroups, setresgid, setresuid};

use super::exchange::Outcome;
use super::question::{Asker, Question};
use super::{Caller, Handler};
use crate::linux::capability;
use crate::linux::seccomp::{Action, Arg, Filter, Flags, Op, Profile, Rule};
use crate::pod::monitor::helper::Helper;
use crate::pod::monitor::{Monitor, Source};
use crate::spec::HttpGet;
use crate::sys::process as sys;
use crate::{Context, Error, Ignored, Result};

/// `nobody`.
const USER: u32 = 65534;
/// Bytes of a report: a header of 64 KiB may be one `Location`, and JSON spells bytes longer.
const REPORT_MOST: usize = 1 << 20;
/// Characters of why a question has failed, part of which is a server's text.
const TEXT_MOST: usize = 1024;
/// How long a hook's addresses may take to accept. Its answer may take any time.
const HOOK_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Child {
    helper: Helper,
    received: Vec<u8>,
}

type Report = Result<Outcome>;

impl Monitor {
    pub(super) fn begin_child(
        &mut self,
        name: &str,
        caller: Caller,
        question: Question,
        get: Option<(HttpGet, u32)>,
    ) -> Result<()> {
        let patience = match caller {
            Caller::Hook(_) => HOOK_PATIENCE,
            Caller::Probe(kind) => {
                let probe = self.pod().spec.container(name).and_then(|c| c.probe(kind));
                probe.map_or(HOOK_PATIENCE, |p| p.timeout())
            }
        };
        let monitor = nix::unistd::getpid();
        let source = Source::Handler(name.to_owned(), caller);
        let helper = self.start_helper(source, |this, mut pipe| {
            let own_network = !this.pod().spec.host_network;
            let prepared = Asker::prepare(question, patience, own_network);
            let report = prepared.and_then(|asker| answer(&asker, &pipe, monitor));
            let text = serde_json::to_vec(&report).unwrap_or_default();
            pipe.write_all(&text)
                .ignored("a monitor that has died has no use for it");
        })?;
        let child = Child {
            helper,
            received: Vec::new(),
        };
        self.keep_child(name, caller, child, get);
        Ok(())
    }

    fn keep_child(
        &mut self,
        name: &str,
        caller: Caller,
        child: Child,
        get: Option<(HttpGet, u32)>,
    ) {
        let asker = super::Asker::Child(child);
        self.handlers
            .insert((name.to_owned(), caller), Handler { asker, get });
    }

    /// The child has reported something, or closed its pipe.
    pub(super) fn follow_child(
        &mut self,
        name: &str,
        caller: Caller,
        mut child: Child,
        get: Option<(HttpGet, u32)>,
    ) -> Result<()> {
        let report = match child.receive() {
            Ok(None) => {
                self.keep_child(name, caller, child, get);
                return Ok(());
            }
            Ok(Some(report)) => report,
            Err(e) => Err(e),
        };
        self.end_child(&child, &Source::Handler(name.to_owned(), caller));
        let mut outcome = report?;
        if let Outcome::Failed(why) | Outcome::NotTls(why) = &mut outcome {
            let line = why.chars().take(TEXT_MOST);
            *why = line.map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
        self.conclude(name, caller, get, outcome)
    }

    /// Also one that has reported: it may not end by itself.
    pub(super) fn end_child(&mut self, child: &Child, source: &Source) {
        self.kill_helper(&child.helper, source);
    }
}

impl Child {
    /// Takes what has come; the report at the pipe's end.
    fn receive(&mut self) -> Result<Option<Report>> {
        let mut buffer = [0; 4096];
        let n = self
            .helper
            .pipe()
            .read(&mut buffer)
            .context("read(<probe>)")?;
        self.received.extend_from_slice(&buffer[..n]);
        if self.received.len() > REPORT_MOST {
            return Err(Error::failed(
                "the report of the process that asks has no end",
            ));
        }
        Ok((n == 0).then(|| parse(&self.received)))
    }
}

fn parse(report: &[u8]) -> Report {
    let report = serde_json::from_slice(report);
    report.unwrap_or_else(|_| {
        Err(Error::failed(
            "the process that asks ended without a report",
        ))
    })
}

/// In the child.
fn answer(asker: &Asker, pipe: &File, monitor: Pid) -> Report {
    // Its file is closed below, and the number may be a socket's next.
    log::set_max_level(log::LevelFilter::Off);
    let filter = Filter::new(&profile())?;
    give_rights_up(pipe, monitor, &filter)?;
    Ok(asker.ask())
}

/// See the module's head.
fn give_rights_up(pipe: &File, monitor: Pid, filter: &Filter) -> Result<()> {
    sys::close_all_but(&[pipe.as_raw_fd()]).map_err(|e| Error::sys("close_range()", e))?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)
        .map_err(|e| Error::sys("setrlimit(RLIMIT_FSIZE, 0)", e))?;
    // A directory of this process in /proc, where nobody can make anything.
    chroot("/proc/self/fdinfo").map_err(|e| Error::sys("chroot(/proc/self/fdinfo)", e))?;
    chdir("/").map_err(|e| Error::sys("chdir(/)", e))?;
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
    capability::drop_bounding(capability::Set::EMPTY)?;
    setgroups(&[]).map_err(|e| Error::sys("setgroups([])", e))?;
    setresgid(gid, gid, gid).map_err(|e| Error::sys(format!("setresgid({USER})"), e))?;
    setresuid(uid, uid, uid).map_err(|e| Error::sys(format!("setresuid({USER})"), e))?;
    capability::apply(&capability::Sets::default())?;
    nix::sys::prctl::set_no_new_privs().map_err(|e| Error::sys("prctl(PR_SET_NO_NEW_PRIVS)", e))?;
    // The change of user has cleared it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|e| Error::sys("prctl(PR_SET_PDEATHSIG)", e))?;
    if getppid() != monitor {
        return Err(Error::failed("the monitor has ended"));
    }
    filter.install().map(drop)
}

/// The system calls that [`Asker::ask`] needs, and the report of it.
fn profile() -> Profile {
    const ANY: &str = "read readv write writev sendto sendmsg recvfrom recvmsg poll ppoll close \
                       fcntl connect bind getsockname getpeername getsockopt setsockopt shutdown \
                       getrandom brk munmap mremap madvise futex clock_gettime gettimeofday \
                       clock_nanosleep rt_sigprocmask rt_sigreturn sigaltstack restart_syscall \
                       exit exit_group";
    let arg = |index: u8, value: u64| Arg {
        index,
        value,
        value_two: 0,
        op: Op::Eq,
    };
    let rule = |names: &'static str, args: Vec<Arg>| Rule {
        names: names.split_whitespace().map(Into::into).collect(),
        action: Action::Allow,
        args,
    };
    let not_executable = Arg {
        op: Op::MaskedEq,
        ..arg(2, libc::PROT_EXEC as u64)
    };
    Profile {
        default_action: Action::Errno(libc::EPERM as u16),
        architectures: Vec::new(),
        rules: vec![
            rule(ANY, Vec::new()),
            rule("socket", vec![arg(0, libc::AF_INET as u64)]),
            rule("socket", vec![arg(0, libc::AF_INET6 as u64)]),
            rule("ioctl", vec![arg(1, libc::FIONBIO)]),
            rule("mmap mprotect", vec![not_executable]),
        ],
        flags: Flags::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports() {
        let sent: Report = Ok(Outcome::Answered {
            status: 302,
            location: Some("/a".into()),
        });
        assert_eq!(parse(&serde_json::to_vec(&sent).unwrap()), sent);
        let sent: Report = Err(Error::failed("no socket"));
        assert_eq!(parse(&serde_json::to_vec(&sent).unwrap()), sent);
        for text in ["", "{\"Ok\":\"Suc", "[]"] {
            let e = parse(text.as_bytes()).unwrap_err();
            assert!(e.to_string().contains("without a report"), "{e}");
        }
    }

    /// What it needs to ask is allowed, what reaches beyond that is not.
    #[test]
    fn the_filter() {
        let filter = Filter::new(&profile()).unwrap();
        // EAFNOSUPPORT where the kernel is without.
        let has_ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
        let results = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            filter.install().unwrap();
            let socket = |family| {
                use nix::sys::socket::{SockFlag, SockType, socket};
                socket(family, SockType::Stream, SockFlag::empty(), None).is_ok()
            };
            use nix::sys::socket::AddressFamily::{Inet, Inet6, Unix};
            let pid = Pid::from_raw(std::process::id() as i32);
            [
                socket(Inet),
                socket(Inet6) || !has_ipv6,
                socket(Unix),
                File::open("/").is_ok(),
                nix::sys::signal::kill(pid, None).is_ok(),
            ]
        })
        .join()
        .unwrap();
        assert_eq!(results, [true, true, false, false, false]);
    }
}
