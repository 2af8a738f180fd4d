//! "I am ready", from a container to whoever waits for it on the host: sd_notify(3).
//!
//! The container gets a socket of its own, in a directory that is mounted at
//! [`INSIDE`]; of what arrives there, READY=1 alone is passed on, and where the
//! caller goes away the pid that the host knows. The host's own socket is never seen inside.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use oci_spec::runtime as oci;

use super::config::Config;
use super::record::{Containers, Record};
use crate::store::make_dir;
use crate::{Context, Error, Ignored, Result};

/// The environment variable that names the socket, on both sides.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

const INSIDE: &str = "/run/notify";
const NAME: &str = "socket";

/// How long the host may take to read what it is told, milliseconds.
const READ_WITHIN: u16 = 5000;

/// Adds the mount and the variable to the configuration.
pub(super) fn add(containers: &Containers, id: &str, spec: &mut Config) -> Result<()> {
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    let mount = oci::MountBuilder::default()
        .destination(INSIDE)
        .typ("bind")
        .source(containers.notify_dir(id))
        .options(options.map(str::to_owned))
        .build()
        .map_err(|e| Error::failed(format!("the mount of {INSIDE}: {e}")))?;
    spec.mounts.get_or_insert_default().push(mount);
    if let Some(process) = &mut spec.process {
        let env = process.env.get_or_insert_default();
        env.retain(|e| !e.starts_with(&format!("{VARIABLE}=")));
        env.push(format!("{VARIABLE}={INSIDE}/{NAME}"));
    }
    Ok(())
}

/// Makes the directory. The socket comes with [`Ready::listen`].
pub(super) fn make_directory(containers: &Containers, id: &str) -> Result<()> {
    let dir = containers.notify_dir(id);
    make_dir(&dir)?;
    // The container's user need not be root. Only this mount leads here: what is
    // above is closed to everybody else.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("chmod({})", dir.display()))
}

/// The container's socket, and where its word goes.
#[derive(Debug)]
pub(crate) struct Ready {
    socket: UnixDatagram,
    /// Connected.
    host: UnixDatagram,
    pid: i32,
    pidfd: OwnedFd,
}

impl Ready {
    /// For a container that is about to start; its lock is held, so that no other
    /// start waits at the socket that this one replaces. `host` is what [`VARIABLE`]
    /// has: an absolute path, or @ and an abstract name. `None` if the container was
    /// made without a socket, or has ended.
    pub(super) fn listen(
        containers: &Containers,
        record: &Record,
        host: &str,
    ) -> Result<Option<Ready>> {
        let dir = containers.notify_dir(&record.id);
        // Taken now: what it says counts, however soon it ends.
        let pidfd = match record.pidfd() {
            Some(pidfd) if dir.is_dir() => pidfd,
            _ => return Ok(None),
        };
        let address = match host.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(host),
        };
        let address = address.map_err(|e| Error::invalid(format!("{VARIABLE}: {e}")))?;
        let to_host = UnixDatagram::unbound()?;
        to_host
            .connect_addr(&address)
            .with_context(|| format!("{VARIABLE}: connect({host})"))?;
        let path = dir.join(NAME);
        std::fs::remove_file(&path).ignored("only a start that failed has left one");
        Ok(Some(Ready {
            socket: bind(&path)?,
            host: to_host,
            pid: record.pid,
            pidfd,
        }))
    }

    /// Until the container has ended, or is ready and that is passed on, by a program
    /// that goes: from now on, the container is what the service is judged by.
    pub(crate) fn hand_over(&self) -> Result<()> {
        if !self.is_said()? {
            return Ok(());
        }
        self.tell(&format!("MAINPID={}\nREADY=1", self.pid), &[])?;
        // sd_notify_barrier(3): systemd asks whose process it was that spoke, and is
        // to find it.
        let (read, write) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2()", e))?;
        self.tell("BARRIER=1", &[write.as_raw_fd()])?;
        drop(write);
        let mut fds = [PollFd::new(read.as_fd(), PollFlags::empty())];
        poll(&mut fds, READ_WITHIN).ignored("a host that does not read is told all the same");
        Ok(())
    }

    /// As [`Self::hand_over`], by a program that stays until the container's end, and
    /// then ends as it did.
    pub(crate) fn pass_on(&self) -> Result<()> {
        match self.is_said()? {
            true => self.tell("READY=1", &[]),
            false => Ok(()),
        }
    }

    /// Waits; false if the container has ended without a word.
    fn is_said(&self) -> Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(|e| Error::sys("poll()", e))?,
            };
            // What it said before its end counts.
            if !fds[0].any().unwrap_or(false) {
                return Ok(false);
            }
            let n = self.socket.recv(&mut buffer).context("recv(<notify>)")?;
            if buffer[..n].split(|b| *b == b'\n').any(|l| l == b"READY=1") {
                return Ok(true);
            }
        }
    }

    fn tell(&self, word: &str, fds: &[RawFd]) -> Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let io = [IoSlice::new(word.as_bytes())];
        sendmsg::<()>(
            self.host.as_raw_fd(),
            &io,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
        .map_err(|e| Error::sys(format!("sendmsg(<{VARIABLE}>, {word:?})"), e))
    }
}

fn bind(path: &Path) -> Result<UnixDatagram> {
    let what = || format!("bind({})", path.display());
    // An address has 107 bytes, a --root may be longer.
    let dir = crate::linux::root::open_dir(path.parent().unwrap_or(path))?;
    let short = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
    let socket = UnixDatagram::bind(short).with_context(what)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).with_context(what)?;
    Ok(socket)
}
