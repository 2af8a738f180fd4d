//! `start`: the gate of a created container is opened, and its program runs.
//! runtime.md, "Lifecycle", steps 6 to 9; 12 and 13 if a poststart hook fails.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use serde::Serialize;

use super::config::Config;
use super::end;
use super::notify::Ready;
use super::plan::plan_hooks;
use super::record::{Containers, Record, Status};
use crate::container::channel::{Channel, Event};
use crate::container::gate;
use crate::container::hook;
use crate::linux::socket;
use crate::sys::attribute::take_fd_of;
use crate::{Context, Error, Result};

/// `notify` is where somebody wants to hear that the container is ready; what comes
/// back is to be passed on.
pub(crate) fn start(
    containers: &Containers,
    id: &str,
    notify: Option<&str>,
) -> Result<Option<Ready>> {
    let lock = containers.lock(id)?;
    let record = containers.load(id)?;
    match containers.status(&record) {
        Status::Created => {}
        Status::Stopped => {
            return Err(Error::conflict(format!(
                "cannot start a container that has stopped: {id}"
            )));
        }
        Status::Creating => {
            return Err(Error::conflict(format!("container {id} is being created")));
        }
        Status::Running | Status::Paused => {
            return Err(Error::conflict(format!(
                "cannot start an already running container: {id}"
            )));
        }
    }
    if let Some(cgroup) = containers.cgroup(&record)? {
        cgroup.refuse_frozen()?;
    }
    let ready = match notify {
        Some(host) => Ready::listen(containers, &record, host)?,
        None => None,
    };
    let channel = gate::open(&containers.gate(id), record.pid).map_err(|e| match e.errno() {
        Some(Errno::ECONNREFUSED) => {
            Error::conflict(format!("cannot start a container that has stopped: {id}"))
        }
        _ => e,
    })?;
    log::debug!("process {} waits no longer at its gate", record.pid);
    channel.go()?;
    run(containers, &record, &channel)?;
    if !record.hooks {
        return Ok(ready);
    }
    let hooks = plan_hooks(containers.config(id)?.hooks.as_ref())?;
    let state = record.subject().state("running", record.pid);
    if let Err(e) = hook::run("poststart", &hooks.poststart, &state) {
        // "stop the container, and continue the lifecycle at step 12".
        drop(lock);
        return Err(match end::delete(containers, id, true) {
            Ok(failed) if failed.is_empty() => e,
            Ok(failed) => e.hint(failed.join("; ")),
            Err(left) => e.hint(format!("the container is left behind: {left}")),
        });
    }
    Ok(ready)
}

fn run(containers: &Containers, record: &Record, channel: &Channel) -> Result<()> {
    loop {
        match channel.next() {
            Event::Exec => return Ok(()),
            Event::Failed(e) => return Err(e.push_context("unable to start container process")),
            Event::Listener(number) => {
                let spec = containers.config(&record.id)?;
                let pidfd = record
                    .pidfd()
                    .ok_or_else(|| Error::failed("the container has ended"))?;
                deliver_listener(&spec, record, pidfd.as_fd(), record.pid, number)?;
                channel.go()?;
            }
            Event::NotYet
            | Event::Hooks
            | Event::Waiting
            | Event::Terminal(_)
            | Event::MapIds(..) => {}
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: serde_json::Value,
}

/// Takes the seccomp listener, which is fd `number` of the process, out of it and
/// hands it to whoever serves the filter's notifications: config-linux.md, "The
/// Container Process State".
pub(crate) fn deliver_listener(
    spec: &Config,
    record: &Record,
    process: BorrowedFd,
    pid: i32,
    number: i32,
) -> Result<()> {
    let seccomp = spec.linux.as_ref().and_then(|l| l.seccomp().as_ref());
    let path = seccomp.and_then(|s| s.listener_path().as_deref());
    let metadata = seccomp.and_then(|s| s.listener_metadata().as_deref());
    let path = path.ok_or_else(|| {
        Error::invalid("linux.seccomp.listenerPath: a profile that notifies needs one")
    })?;
    let fd = take_fd_of(process, number)
        .map_err(|e| Error::sys(format!("pidfd_getfd(<init>, {number})"), e))?;
    let subject = record.subject();
    let state = ProcessState {
        oci_version: &subject.oci_version,
        fds: ["seccompFd"],
        pid,
        metadata: metadata.unwrap_or(""),
        state: serde_json::from_slice(&subject.state("running", record.pid))?,
    };
    socket::hand_over(path, &serde_json::to_vec(&state)?, fd.as_fd())
        .context("linux.seccomp.listenerPath")
}
