//! criu(8), which takes a running process tree apart into files and puts it
//! together again: started as `criu swrk <fd>` and spoken to over that socket in the
//! messages of [`rpc`].
//!
//! Owns one criu process, from its start to its end; knows nothing of containers.
//! criu runs in a mount namespace of its own: whatever becomes of it, none of its
//! mounts stays. See docs/decisions/0009-criu.md for why RPC and why by hand.

mod rpc;

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{AccessFlags, Pid, access, execve, geteuid};

pub(super) use self::rpc::{LOCK_BY_NFTABLES, Message, Request, field};
use self::rpc::{NOTIFY, Response};
use crate::container::channel::wait_for_go;
use crate::linux::cgroup::Join;
use crate::linux::mount;
use crate::linux::root::open_dir;
use crate::linux::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Ignored, Result};

/// How much of its log criu writes: debugging, without which it says too little.
const LOG_LEVEL: u64 = 4;

/// The most lines of the log that an error shows.
const SHOWN: usize = 3;

/// What criu says is far shorter.
const MOST: usize = 64 * 1024;

/// What criu tells while it works, and waits to be answered.
#[derive(Debug)]
pub(super) struct Notice {
    /// As criu(8) has them at --action-script.
    pub name: String,
    /// The restored first process, once there is one.
    pub pid: i32,
    pub fd: Option<OwnedFd>,
}

/// A criu that waits for [`Criu::ask`], in its cgroup or about to be put there.
#[derive(Debug)]
pub(super) struct Criu {
    pub pid: Pid,
    log: Log,
    pidfd: OwnedFd,
    line: Packets,
}

impl Drop for Criu {
    /// It has ended by itself, unless nobody has asked it anything.
    fn drop(&mut self) {
        sys::kill_and_reap(self.pidfd.as_fd());
    }
}

/// Where criu is looked for, and where it looks for tar, ip and the rest: Debian has
/// some in sbin, which many a PATH is without.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn in_path(program: &Path) -> Option<PathBuf> {
    let runs = |p: &PathBuf| p.is_file() && access(p, AccessFlags::X_OK).is_ok();
    // An empty part would be the current directory.
    std::env::split_paths(&search_path())
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(runs)
}

/// The program that a name or path stands for.
pub(super) fn find(program: &Path) -> Result<PathBuf> {
    let found = match program.components().count() > 1 {
        true => Some(program.to_owned()).filter(|p| p.is_file()),
        false => in_path(program),
    };
    found.ok_or_else(|| {
        Error::unsupported(format!("{}: no such program", program.display()))
            .hint("checkpoints are made by criu: install the package criu, or name it: --criu")
    })
}

/// Whether there is a program of this name.
pub(super) fn is_in_path(program: &str) -> bool {
    in_path(Path::new(program)).is_some()
}

/// Opens one of criu's directories. criu follows the links it finds there, and
/// restores as root what the files say: nobody but us may be able to put any there.
pub(super) fn open_own_dir(path: &Path) -> Result<OwnedFd> {
    let dir = open_dir(path)?;
    let stat = fstat(&dir).map_err(|e| Error::sys(format!("fstat({path:?})"), e))?;
    let writers = Mode::S_IWGRP | Mode::S_IWOTH;
    let is_owned = [0, geteuid().as_raw()].contains(&stat.st_uid);
    match is_owned && !Mode::from_bits_truncate(stat.st_mode).intersects(writers) {
        true => Ok(dir),
        false => Err(Error::invalid(format!(
            "{}: is of uid {} and mode {:04o}: others may write there",
            path.display(),
            stat.st_uid,
            stat.st_mode & 0o7777
        ))
        .hint("whoever writes a checkpoint's files says what is restored, as root")),
    }
}

/// Where it logs.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub path: PathBuf,
    /// Or it goes with the container that fails.
    pub stays: bool,
}

/// What a criu is started with.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub program: &'a Path,
    pub join: Option<&'a Join>,
    /// Made a mount point, as criu wants it to restore into.
    pub root: Option<&'a Path>,
    /// The images' directory and that of the log, each opened.
    pub dirs: [(BorrowedFd<'a>, &'a Path); 2],
    /// Fds that keep their numbers.
    pub inherited: Vec<BorrowedFd<'a>>,
    pub log: Log,
}

impl Criu {
    pub(super) fn start(s: &Start) -> Result<Criu> {
        // An earlier one's would be shown for this one's.
        std::fs::remove_file(&s.log.path).ignored("mostly there is none");
        let (ours, theirs) = Packets::pair()?;
        match sys::clone3(CloneFlags::CLONE_NEWNS, s.join.and_then(Join::v2_fd)) {
            Ok(Fork::Parent { pid, pidfd }) => Ok(Criu {
                pid,
                log: s.log.clone(),
                pidfd,
                line: ours,
            }),
            Ok(Fork::Child) => {
                drop(ours);
                let Err(e) = become_criu(s, &theirs);
                fail(&theirs, &e)
            }
            Err(e) => Err(Error::sys("clone3(CLONE_NEWNS)", e)),
        }
    }

    /// Has criu do something, which may take as long as the container's memory
    /// takes to be written. Returns the pid of what was restored.
    pub(super) fn ask(
        &self,
        request: Request,
        opts: &Message,
        mut told: impl FnMut(Notice) -> Result<()>,
    ) -> Result<i32> {
        let mut buffer = vec![0; MOST];
        say(&self.line, b"go")?;
        let criu = match self.line.receive(&mut buffer) {
            Ok((bytes, mut fds)) => match fds.pop() {
                Some(fd) => Packets::from(fd),
                None => return Err(explain(&Response::parse(bytes).message, &self.log)),
            },
            Err(e) => return Err(Error::sys("recvmsg(<child>)", e)),
        };
        let mut asked = Message::default();
        asked.number(field::TYPE, request as u64);
        asked.message(field::OPTS, opts);
        say(&criu, &asked.0)?;
        let mut ours = None;
        loop {
            let (bytes, mut fds) = match criu.receive(&mut buffer) {
                Ok(([], _)) | Err(Errno::ECONNRESET) => {
                    sys::await_end(self.pidfd.as_fd(), std::time::Duration::from_secs(5))
                        .ignored("criu's silence is the error to tell");
                    return Err(ours.unwrap_or_else(|| explain("criu gave no answer", &self.log)));
                }
                other => other.map_err(|e| Error::sys("recvmsg(<criu>)", e))?,
            };
            let response = Response::parse(bytes);
            if response.kind == NOTIFY {
                let done = told(Notice {
                    name: response.notice,
                    pid: response.pid,
                    fd: fds.pop(),
                });
                let mut answer = Message::default();
                answer.number(field::TYPE, NOTIFY);
                answer.number(field::NOTIFY_SUCCESS, done.is_ok().into());
                ours = ours.or(done.err());
                say(&criu, &answer.0)?;
                continue;
            }
            // Its mount namespace, and what it holds, go with it.
            sys::await_end(self.pidfd.as_fd(), std::time::Duration::from_secs(5))
                .ignored("criu has answered, and its answer counts");
            return match (response.success, ours) {
                (_, Some(e)) => Err(e),
                (true, None) => Ok(response.pid),
                (false, None) => Err(explain(&response.message, &self.log)),
            };
        }
    }
}

fn say(line: &Packets, bytes: &[u8]) -> Result<()> {
    match line.send(bytes, &[]) {
        // It may have said why before it ended.
        Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(e) => Err(Error::sys("sendmsg(<criu>)", e)),
    }
}

/// In criu's own words, which is what is waited for.
fn fail(line: &Packets, e: &Error) -> ! {
    let mut response = Message::default();
    response.number(field::TYPE, 0);
    response.number(field::SUCCESS, 0);
    response.bytes(field::MESSAGE, e.to_string().as_bytes());
    line.send(&response.0, &[])
        .ignored("the parent sees that this process ends without an answer");
    sys::exit_now(1)
}

/// criu looks for the fds that it is told of in whoever has made its socket, and
/// mounts in the directory of the log: so the socket and the directories are made
/// and opened anew in here, where the mounts are its own.
fn become_criu(s: &Start, parent: &Packets) -> Result<Infallible> {
    wait_for_go(parent)?;
    if let Some(join) = s.join {
        join.enter().context("join the cgroup")?;
    }
    // What the host mounts is still seen; what is mounted here is not seen there.
    mount::set_tree_propagation(MsFlags::MS_SLAVE)?;
    if let Some(root) = s.root {
        mount::bind(root, root)?;
    }
    sys::reset_signals();
    sys::close_on_exec_from(3).map_err(|e| Error::sys("close_range(3, ~0, CLOEXEC)", e))?;
    for (fd, path) in s.dirs {
        let again = open_own_dir(path)?;
        sys::dup_to(again, fd.as_raw_fd()).map_err(|e| Error::sys("dup2()", e))?;
    }
    let (ours, theirs) = Packets::pair()?;
    for fd in s.inherited.iter().copied().chain([theirs.as_fd()]) {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|e| Error::sys("fcntl(F_SETFD, 0)", e))?;
    }
    let to_c = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let path = to_c(s.program.as_os_str().as_bytes().to_vec());
    let number = to_c(theirs.as_fd().as_raw_fd().to_string().into_bytes());
    // Nothing else of the caller's: criu reads configuration by HOME and by
    // CRIU_CONFIG_FILE, and runs what that says.
    let environment = [to_c([b"PATH=", search_path().as_bytes()].concat())];
    parent
        .send(b"criu", &[ours.as_fd()])
        .map_err(|e| Error::sys("sendmsg(<parent>)", e))?;
    drop(ours);
    let Err(e) = execve(
        &path,
        &[c"criu".into(), c"swrk".into(), number],
        &environment,
    );
    let call = format!("execve({:?})", s.program.display());
    fail(&theirs, &Error::sys(call, e))
}

/// What every request has.
pub(super) fn common(images: BorrowedFd, work: BorrowedFd, log: &str) -> Message {
    let mut opts = Message::default();
    opts.number(field::IMAGES_DIR_FD, images.as_raw_fd() as u64);
    opts.number(field::WORK_DIR_FD, work.as_raw_fd() as u64);
    opts.number(field::LOG_LEVEL, LOG_LEVEL);
    opts.bytes(field::LOG_FILE, log.as_bytes());
    opts.flag(field::NOTIFY_SCRIPTS, true);
    opts
}

/// The last errors of criu's log, or without any what it has answered.
fn explain(message: &str, log: &Log) -> Error {
    let text = std::fs::read(&log.path).unwrap_or_default();
    let told = tail(&String::from_utf8_lossy(&text));
    let message = message.trim();
    if told.is_empty() {
        return match message.is_empty() {
            true => Error::failed("criu failed, and said nothing"),
            false => Error::failed(message),
        }
        .hint("`criu check` says whether it works on this kernel");
    }
    let error = Error::failed(format!("criu: {told}"));
    match log.stays {
        true => error.hint(format!("all of criu's log: {}", log.path.display())),
        false => error.hint("--work-path is where criu's log is kept"),
    }
}

/// The last errors of a log, or its last lines if it has none; without the times in
/// front.
fn tail(log: &str) -> String {
    let lines = || log.lines().map(str::trim).filter(|l| !l.is_empty());
    let mut errors: Vec<&str> = lines().filter(|l| l.contains("Error (")).collect();
    if errors.is_empty() {
        errors = lines().collect();
    }
    let from = errors.len().saturating_sub(SHOWN);
    let untimed = errors[from..].iter().map(|l| {
        let after = l.strip_prefix('(').and_then(|l| l.split_once(')'));
        after.map_or(*l, |(_, rest)| rest.trim())
    });
    untimed.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log() {
        let log = "(00.1) Warn  (a.c:1): odd\n(00.2) Error (b.c:2): bad\n(00.3) Error (c.c:3): Dumping FAILED.\n(00.4) bye\n";
        assert_eq!(
            tail(log),
            "Error (b.c:2): bad; Error (c.c:3): Dumping FAILED."
        );
        assert_eq!(tail("(00.1) one\n"), "one");
        assert_eq!(tail(""), "");
    }
}
