//! `carob exec`: a process more in a container.
//!
//! Without a terminal the caller's own stdio goes to the process: not a byte
//! passes through here. But a terminal of the host is never handed into a
//! container (TIOCSTI could type into it): there is a pipe between then.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Args;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2, unlink};

use crate::cli::Verb;
use crate::cli::face::{Face, say};
use crate::cli::terminal::raw::{Signals, raw};
use crate::cli::terminal::stream::{self, End, Pump};
use crate::linux::selinux;
use crate::manifest;
use crate::pod::client::{Connection, View};
use crate::pod::protocol::{self, Reply, Request};
use crate::pod::watch::next_reply;
use crate::sys::tty;
use crate::{Context, Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// The Pod: NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The container; the first one if not given
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Hand stdin to the process
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// An environment variable of the process, beside the container's; may be given again
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Say nothing but what the process says
    #[arg(short, long)]
    quiet: bool,
    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Verb for Exec {
    const NAME: &'static str = "exec";
    const ABOUT: &'static str = "Run a command in a container";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob exec web -- ls -l /\n\
        \x20 carob exec -it web -c app -- sh\n\
        \x20 carob exec web --env LANG=C --env DEBUG=1 -- env";

    fn passes_through(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        for variable in &self.env {
            manifest::check_variable(variable)?;
        }
        let view = face.find(&self.pod)?;
        let container = container_of(&view, self.container.as_deref(), self.quiet)?;
        let connection = Connection::open(&face.layout, &view.pod.uid)?;
        let mut request = protocol::Exec {
            container,
            command: self.command,
            tty: self.tty,
            size: None,
            env: self.env,
        };
        let end = if self.tty {
            with_terminal(&connection, &mut request, self.stdin)?
        } else {
            without_terminal(&connection, request, self.stdin)?
        };
        code_of(end)
    }
}

/// A process that ended unseen counts as 137, as `kubectl` and `podman` say of
/// one that was killed from outside.
pub(crate) fn code_of(end: End) -> Result<u8> {
    Ok(match end {
        End::Exited(Some(code)) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        End::Exited(None) => {
            return Err(Error::failed(
                "the process has ended, but the kernel does not tell how",
            ));
        }
        End::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    })
}

/// The container that is meant: the one named, the one of the annotation
/// `kubectl.kubernetes.io/default-container`, or the first.
pub(crate) fn container_of(view: &View, given: Option<&str>, quiet: bool) -> Result<String> {
    let spec = &view.pod.spec;
    let names: Vec<&str> = spec
        .containers
        .iter()
        .chain(&spec.init_containers)
        .chain(&spec.ephemeral_containers)
        .map(|c| c.name.as_str())
        .collect();
    if let Some(name) = given {
        if names.contains(&name) {
            return Ok(name.to_owned());
        }
        return Err(Error::not_found(format!(
            "container {name:?} not found in pod {:?}",
            view.pod.name
        ))
        .hint(format!("its containers are: {}", names.join(", "))));
    }
    let annotated = view
        .pod
        .annotations
        .get("kubectl.kubernetes.io/default-container")
        .filter(|n| names.contains(&n.as_str()));
    if let Some(name) = annotated {
        return Ok(name.clone());
    }
    let Some(first) = spec.containers.first() else {
        return Err(Error::failed("the Pod has no container"));
    };
    if names.len() > 1 && !quiet {
        let mut all: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
        all.extend(
            spec.init_containers
                .iter()
                .map(|c| format!("{} (init)", c.name)),
        );
        let ephemeral = spec.ephemeral_containers.iter();
        all.extend(ephemeral.map(|c| format!("{} (ephem)", c.name)));
        say(&format!(
            "Defaulted container {:?} out of: {}",
            first.name,
            all.join(", ")
        ));
    }
    Ok(first.name.clone())
}

/// `Started`, with its fds.
fn await_started(connection: &Connection) -> Result<Vec<OwnedFd>> {
    loop {
        match next_reply(connection, None)? {
            Some((Reply::Started, fds)) => return Ok(fds),
            Some((Reply::Failed(e), _)) => return Err(e),
            Some(_) => {}
            None => {
                return Err(Error::failed(
                    "the Pod's monitor closed the connection without an answer",
                ));
            }
        }
    }
}

fn with_terminal(
    connection: &Connection,
    request: &mut protocol::Exec,
    stdin: bool,
) -> Result<End> {
    let terminal = std::io::stdin().is_terminal();
    if stdin && !terminal {
        // kubectl goes on without a terminal here, and says so.
        say("Unable to use a TTY - input is not a terminal or the right kind of file");
        request.tty = false;
        return without_terminal(connection, request.clone(), stdin);
    }
    request.size = tty::window_size(std::io::stdout())
        .or_else(|_| tty::window_size(std::io::stdin()))
        .ok();
    connection.send(&Request::Exec(request.clone()), &[])?;
    let Some(master) = await_started(connection)?.pop() else {
        return Err(Error::failed("the Pod's monitor sent no terminal"));
    };
    talk(connection, master, None, stdin)
}

/// Our terminal and a process' one, joined until the process ends. `output`: what
/// the terminal shows, if somebody else reads its master.
pub(crate) fn talk(
    connection: &Connection,
    master: OwnedFd,
    output: Option<OwnedFd>,
    stdin: bool,
) -> Result<End> {
    stream::set_nonblocking(&master)?;
    let output = match output {
        Some(output) => output,
        None => stream::own(&master)?,
    };
    let mut pumps = vec![Pump::outward(output, stream::own(std::io::stdout())?)];
    let signals = Signals::new()?;
    let raw = match stdin {
        true => Some(raw()?),
        false => None,
    };
    if stdin {
        pumps.push(Pump::inward(
            stream::own(std::io::stdin())?,
            stream::own(&master)?,
        ));
    }
    // It may have changed since it was asked for.
    stream::copy_size(&master);
    let end = stream::carry(connection, pumps, Some(&signals), Some(&master));
    drop(raw);
    end
}

fn without_terminal(connection: &Connection, request: protocol::Exec, stdin: bool) -> Result<End> {
    // The policy decides which of the caller's files a container may use. It may use FIFOs
    // that the monitor labels. A pipe has the label of the process that made it, which the
    // reference policy lets nobody change.
    let through = selinux::is_enabled();
    let channel = || match through {
        true => fifo(connection.dir()),
        false => pipe(),
    };
    let mut pumps = vec![];
    let input = match stdin {
        true if through || std::io::stdin().is_terminal() => {
            let (far, near) = channel()?;
            stream::set_nonblocking(&near)?;
            pumps.push(Pump::inward(stream::own(std::io::stdin())?, near));
            far
        }
        true => stream::own(std::io::stdin())?,
        false => OpenOptions::new()
            .read(true)
            .open("/dev/null")
            .context("open(/dev/null)")?
            .into(),
    };
    let mut output = |fd: &dyn AsFd, by_pipe: bool| -> Result<OwnedFd> {
        if !by_pipe {
            return stream::own(fd.as_fd());
        }
        let (near, far) = channel()?;
        pumps.push(Pump::outward(near, stream::own(fd.as_fd())?));
        Ok(far)
    };
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let out = output(&stdout, through || stdout.is_terminal())?;
    let err = output(&stderr, through || stderr.is_terminal())?;
    connection.send(
        &Request::Exec(request),
        &[input.as_fd(), out.as_fd(), err.as_fd()],
    )?;
    // The far ends are the process' own now: with ours open, no end would show.
    drop((input, out, err));
    await_started(connection)?;
    stream::carry(connection, pumps, None, None)
}

/// Read end, write end.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2(O_CLOEXEC)", e))
}

/// As [`pipe`], of a FIFO in `dir` that has no name any more.
fn fifo(dir: &Path) -> Result<(OwnedFd, OwnedFd)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("exec-{}-{number}", std::process::id()));
    let at = |call: &str| format!("{call}({})", path.display());
    mkfifo(&path, Mode::from_bits_truncate(0o600)).map_err(|e| Error::sys(at("mkfifo"), e))?;
    let open = |flags| {
        nix::fcntl::open(&path, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::sys(at("open"), e))
    };
    // open(2) of one end waits for the other end: both are there while this fd is open.
    let ends = open(OFlag::O_RDWR).and_then(|_both| {
        let read = open(OFlag::O_RDONLY)?;
        Ok((read, open(OFlag::O_WRONLY)?))
    });
    unlink(&path).map_err(|e| Error::sys(at("unlink"), e))?;
    ends
}

/// podman's and the shells' codes for what kept a command from running.
pub(crate) fn cannot_run(e: &Error) -> u8 {
    use nix::errno::Errno;
    match (e.kind(), e.errno()) {
        (crate::Kind::StartFailed, Some(Errno::ENOENT)) => 127,
        (
            crate::Kind::StartFailed,
            Some(Errno::EACCES | Errno::ENOEXEC | Errno::EISDIR | Errno::ENOTDIR),
        ) => 126,
        _ => 125,
    }
}

/// `-t` needs `-i`'s terminal; `attach` and `run` refuse what exec forgives.
pub(crate) fn need_terminal(tty: bool, stdin: bool) -> Result<()> {
    if tty && stdin && !std::io::stdin().is_terminal() {
        return Err(Error::usage(
            "Unable to use a TTY - input is not a terminal or the right kind of file",
        )
        .hint("leave -t out when stdin is a pipe or a file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::Kind;

    #[test]
    fn codes() {
        assert_eq!(code_of(End::Exited(Some(3))).unwrap(), 3);
        assert_eq!(code_of(End::Exited(Some(137))).unwrap(), 137);
        assert_eq!(code_of(End::Interrupted(15)).unwrap(), 143);
        assert!(code_of(End::Exited(None)).is_err());
        let start = |e| Error::sys("execve(\"x\")", e).with_kind(Kind::StartFailed);
        assert_eq!(cannot_run(&start(Errno::ENOENT)), 127);
        assert_eq!(cannot_run(&start(Errno::EACCES)), 126);
        assert_eq!(cannot_run(&start(Errno::ENOMEM)), 125);
        assert_eq!(cannot_run(&Error::not_found("pods \"x\" not found")), 125);
    }
}
