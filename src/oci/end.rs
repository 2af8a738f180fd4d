//! How a container ends: signals, and its removal. runtime.md, "Kill", "Delete",
//! and "Lifecycle", steps 10 to 13.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as send};

use super::plan::plan_hooks;
use super::record::{Containers, Record, Status};
use crate::container::hook;
use crate::container::plan::namespace::PID;
use crate::linux::cgroup::{Cgroup, systemd};
use crate::linux::resctrl::Resctrl;
use crate::sys::process as sys;
use crate::{Error, Ignored, Kind, Result};

/// How long a killed process may take to end: one in an uninterruptible call (a
/// dead NFS server's) takes longer.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Signals the first process, or every process of the container.
pub(crate) fn kill(containers: &Containers, id: &str, signal: i32, all: bool) -> Result<()> {
    let record = containers.load(id)?;
    let pidfd = record.pidfd();
    if all {
        return kill_all(containers, &record, signal);
    }
    let Some(pidfd) = pidfd else {
        if signal == libc::SIGKILL
            && !record.namespaces().contains(PID)
            && let Some(cgroup) = containers.cgroup(&record)?
            && !cgroup.procs()?.is_empty()
        {
            // Its other processes did not end with the first one, as runc takes it.
            return cgroup.kill();
        }
        return Err(not_running());
    };
    match sys::pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Err(not_running()),
        Err(e) => {
            return Err(Error::sys(
                format!("pidfd_send_signal(<init>, {signal})"),
                e,
            ));
        }
    }
    if signal != libc::SIGKILL {
        return Ok(());
    }
    let Some(cgroup) = containers.cgroup(&record)? else {
        return Ok(());
    };
    // Its first process is not a pid namespace's: its end is nobody else's.
    if !record.namespaces().contains(PID) {
        cgroup.kill()?;
    }
    // v1 delivers no signal, not even this one, to a frozen process.
    if cgroup.is_frozen()? {
        cgroup.resume()?;
    }
    Ok(())
}

pub(crate) fn not_running() -> Error {
    Error::conflict("container not running")
}

/// That nothing is left to be signalled is no error, as with runc.
fn kill_all(containers: &Containers, record: &Record, signal: i32) -> Result<()> {
    let Some(cgroup) = containers.cgroup(record)? else {
        return Err(Error::unsupported(
            "--all: a container without a cgroup has no list of its processes",
        ));
    };
    if signal == libc::SIGKILL {
        return cgroup.kill();
    }
    let pids = cgroup.procs()?;
    let named = match signal {
        0 => None,
        signal => Some(
            Signal::try_from(signal)
                .map_err(|_| Error::invalid(format!("signal {signal}: not one that has a name")))?,
        ),
    };
    for pid in pids {
        match send(pid, named) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(Error::sys(format!("kill({pid}, {signal})"), e)),
        }
    }
    Ok(())
}

/// SIGKILL to everything in it, and its first process has ended when this returns.
pub(crate) fn stop(containers: &Containers, record: &Record) -> Result<()> {
    log::debug!("kill the container's processes");
    let pidfd = record.pidfd();
    if let Some(pidfd) = &pidfd {
        sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)
            .ignored("the process may have ended already");
    }
    if let Some(cgroup) = containers.cgroup(record)? {
        cgroup.kill()?;
        if cgroup.is_frozen()? {
            cgroup.freeze(false)?;
        }
    }
    match &pidfd {
        Some(pidfd) => wait_for_end(pidfd.as_fd()),
        None => Ok(()),
    }
}

fn wait_for_end(pidfd: BorrowedFd) -> Result<()> {
    match sys::await_end(pidfd, END_WITHIN) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(
            Kind::Timeout,
            "the container's first process has not ended within 10 s of SIGKILL",
        )),
        Err(e) => Err(Error::sys("poll(<init>)", e)),
    }
}

/// Removes what a container has left. One that has not started yet is ended, as
/// runc does and its callers rely on; one that runs only with `force`. Finding half
/// of it gone already is no error, and with `force` finding nothing is none. What
/// poststop hooks failed is returned, for the log: runtime.md, "Lifecycle", step 13.
///
/// The record goes last, and only when nothing is left that it leads to: what resists
/// today can be deleted tomorrow.
pub(crate) fn delete(containers: &Containers, id: &str, force: bool) -> Result<Vec<String>> {
    if force {
        unblock(containers, id);
    }
    let _lock = match containers.lock(id) {
        Err(e) if force && e.kind() == Kind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let record = match containers.load(id) {
        // Its maker died before it had written anything, or made anything.
        Err(e) if e.kind() == Kind::NotFound && force => {
            return containers.forget(id).map(|()| Vec::new());
        }
        other => other?,
    };
    match containers.status(&record) {
        status @ (Status::Running | Status::Paused) if !force => {
            let status = status.name();
            return Err(Error::conflict(format!(
                "cannot delete container {id} that is not stopped: {status}"
            )));
        }
        _ => {}
    }
    stop(containers, &record)?;
    log::debug!("remove what the container has left");
    let mut first = None;
    if let Some(scope) = &record.scope {
        first = systemd::stop(scope).err();
    }
    if let Some(cgroup) = containers.cgroup(&record)? {
        first = first.or(remove(&cgroup).err());
    }
    if let Some(place) = &record.resctrl {
        let removed = Resctrl::open().and_then(|r| r.remove(place));
        first = first.or(removed.err());
    }
    if let Some(e) = first {
        return Err(e);
    }
    let mut warnings = Vec::new();
    if record.hooks {
        let hooks = containers
            .config(id)
            .and_then(|c| plan_hooks(c.hooks.as_ref()));
        let state = record.subject().state("stopped", 0);
        match hooks {
            Ok(h) => warnings = hook::run_all("poststop", &h.poststop, &state),
            Err(e) => first = Some(e),
        }
    }
    first = first.or(containers.forget(id).err());
    first.map_or(Ok(warnings), Err)
}

/// The verb that holds the lock may be waiting for the container: `start` for a hook of
/// the image's that does not end, `create` for a process that was frozen as it was made.
/// Once the container's processes have ended, that verb ends too.
fn unblock(containers: &Containers, id: &str) {
    let Ok(record) = containers.load(id) else {
        return;
    };
    if let Some(pidfd) = record.pidfd() {
        sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)
            .ignored("the process may have ended already");
        if let Ok(Some(cgroup)) = containers.cgroup(&record) {
            // Also thaws it, without which no signal is delivered on v1.
            cgroup
                .kill()
                .ignored("the deletion that follows kills again, and tells what fails");
        }
    }
}

/// Also with an `exec` that was on its way in when the others were killed.
fn remove(cgroup: &Cgroup) -> Result<()> {
    match cgroup.remove() {
        Err(e) if !cgroup.procs()?.is_empty() => {
            cgroup.kill().map_err(|_| e)?;
            cgroup.remove()
        }
        other => other,
    }
}
