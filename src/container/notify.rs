//! "I am ready", from a container to whoever waits for it on the host: sd_notify(3).
//!
//! The container gets a socket of its own, in a directory that is mounted at
//! [`INSIDE`]; of what arrives there, READY=1 alone is passed on, with the pid that
//! the host knows. The host's own socket is never seen inside.

use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::plan::Plan;
use super::plan::mount::{Mount, Source};
use super::record::{Containers, Record};
use crate::linux::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Change};
use crate::store::make_dir;
use crate::{Context, Error, Result};

/// The environment variable that names the socket, on both sides.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

const INSIDE: &str = "/run/notify";
const NAME: &str = "socket";

/// Makes the directory and plans its mount. The socket comes with [`Ready::listen`].
pub(super) fn prepare(containers: &Containers, plan: &mut Plan) -> Result<()> {
    let dir = containers.notify_dir(&plan.id);
    make_dir(&dir)?;
    // The container's user need not be root. Only this mount leads here: what is
    // above is closed to everybody else.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("chmod({})", dir.display()))?;
    let mut own = Change::default();
    own.then(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, 0);
    plan.mounts.push(Mount {
        target: INSIDE.into(),
        source: Source::Bind {
            path: dir,
            recursive: false,
        },
        own,
        tree: Change::default(),
        propagation: Vec::new(),
        idmap: None,
        copy_up: false,
    });
    let env = &mut plan.process.env;
    env.retain(|e| !e.starts_with(&format!("{VARIABLE}=")));
    env.push(format!("{VARIABLE}={INSIDE}/{NAME}"));
    Ok(())
}

/// The container's socket, and where to its word goes.
#[derive(Debug)]
pub struct Ready {
    socket: UnixDatagram,
    host: SocketAddr,
}

impl Ready {
    /// For a container that is about to start. `host` is what [`VARIABLE`] has: an
    /// absolute path, or @ and an abstract name. `None` if the container was made
    /// without a socket.
    pub fn listen(containers: &Containers, id: &str, host: &str) -> Result<Option<Ready>> {
        let dir = containers.notify_dir(id);
        if !dir.is_dir() {
            return Ok(None);
        }
        let host = match host.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(host),
        };
        let host = host.map_err(|e| Error::invalid(format!("{VARIABLE}: {e}")))?;
        let path = dir.join(NAME);
        // A start that failed has left it.
        let _ = std::fs::remove_file(&path);
        let socket = bind(&path)?;
        Ok(Some(Ready { socket, host }))
    }

    /// Until the container is ready, and that is passed on, or has ended.
    pub fn pass_on(&self, record: &Record) -> Result<()> {
        let Some(pidfd) = record.pidfd() else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(|e| Error::sys("poll()", e))?,
            };
            // What it said before its end counts.
            if !fds[0].any().unwrap_or(false) {
                return Ok(());
            }
            let n = self.socket.recv(&mut buffer).context("recv(<notify>)")?;
            if buffer[..n].split(|b| *b == b'\n').any(|l| l == b"READY=1") {
                let word = format!("MAINPID={}\nREADY=1", record.pid);
                return self
                    .socket
                    .send_to_addr(word.as_bytes(), &self.host)
                    .map(drop)
                    .with_context(|| format!("tell {VARIABLE} that the container is ready"));
            }
        }
    }
}

fn bind(path: &Path) -> Result<UnixDatagram> {
    let what = || format!("bind({})", path.display());
    // An address has 107 bytes, a --root may be longer.
    let dir = crate::linux::root::open_dir(path.parent().unwrap_or(path))?;
    use std::os::fd::AsRawFd;
    let short = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
    let socket = UnixDatagram::bind(short).with_context(what)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).with_context(what)?;
    Ok(socket)
}
