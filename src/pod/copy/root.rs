//! A running container's root directory, as `exec` would see it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::Deserialize;

use super::rights::Rights;
use crate::linux::capability::Set;
use crate::linux::namespace;
use crate::linux::procfs;
use crate::linux::root::Root;
use crate::pod::client::View;
use crate::pod::state::Now;
use crate::store::Layout;
use crate::sys::process::pidfd_open;
use crate::{Context, Error, Result};

#[derive(Debug)]
pub(crate) struct ContainerRoot {
    name: String,
    root: OwnedFd,
    /// The pidfd of the container's first process.
    init: OwnedFd,
    /// Keeps the container's mounts: when the last process of a mount namespace ends, the
    /// volumes go from its tree, and what is written to them then would land below.
    _mounts: OwnedFd,
    /// Where relative paths begin.
    pub cwd: PathBuf,
    /// Those of its first process.
    pub rights: Rights,
}

impl ContainerRoot {
    /// Of what the Pod's monitor has recorded; the monitor itself is not needed.
    pub(crate) fn open(layout: &Layout, view: &View, name: &str) -> Result<Self> {
        let pod = view.pod.as_arguments();
        let not_running = |why: &str| {
            Error::conflict(format!("container {name:?} is not running: {why}"))
                .hint(format!("carob describe pod {pod}"))
        };
        let state = view.state.as_ref();
        let Some(container) = state.and_then(|s| s.containers.get(name)) else {
            return Err(not_running("it has not started"));
        };
        let running = match &container.now {
            Now::Running(running) => running,
            Now::Waiting { reason, .. } => return Err(not_running(reason.as_str())),
            Now::Ended(e) => {
                return Err(not_running(&format!(
                    "ended with {} ({})",
                    e.exit_code, e.reason
                )));
            }
        };
        let pid = running.pid;
        let (Ok(init), Ok(mounts)) = (
            pidfd_open(Pid::from_raw(pid)),
            namespace::open(Path::new(&format!("/proc/{pid}/ns/mnt"))),
        ) else {
            return Err(not_running("its process has ended"));
        };
        // Both were opened by the pid: had it been another process's meanwhile, the recorded
        // one could not have it now.
        if !procfs::lives(pid, running.pid_start) {
            return Err(not_running("its process has ended"));
        }
        let root = namespace::root_of_mounts(mounts.as_fd())?;
        let paths = layout.pod(&view.pod.uid);
        let bundle = paths.bundle(name, container.attempt).join("config.json");
        let config: Config = crate::store::load(&bundle).context("the container's bundle")?;
        Ok(ContainerRoot {
            name: name.to_owned(),
            root,
            init,
            _mounts: mounts,
            rights: Rights::new(
                container.user.as_ref(),
                config.process.capabilities.effective(),
            )?,
            cwd: config.process.cwd,
        })
    }

    pub(crate) fn root(&self) -> Root<'_> {
        Root::new(self.root.as_fd())
    }

    /// Is readable when the container has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.init.as_fd()
    }

    /// # Errors
    /// The container has ended.
    pub(crate) fn check(&self) -> Result<()> {
        let mut fds = [PollFd::new(self.init.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(n) if n > 0 => Err(Error::conflict(format!(
                "container {:?} has ended while files were copied",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

/// The only part of the bundle that is needed.
#[derive(Deserialize)]
struct Config {
    process: Process,
}

#[derive(Deserialize)]
struct Process {
    cwd: PathBuf,
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    effective: Vec<String>,
}

impl Capabilities {
    fn effective(&self) -> Set {
        let known = self
            .effective
            .iter()
            .filter_map(|n| Set::from_exact_name(n));
        known.fold(Set::EMPTY, |all, one| all | one)
    }
}
