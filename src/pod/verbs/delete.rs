//! Deletion: TERM, the grace period, KILL, and the end of all that the Pod had.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::linux::procfs::Stat;
use crate::pod::client::{self, Connection, View};
use crate::pod::monitor;
use crate::pod::protocol::{Reply, Request};
use crate::pod::state::Deletion;
use crate::pod::watch::next_reply;
use crate::store::Layout;
use crate::sys::process::pidfd_send_signal;
use crate::{Error, Kind, Result};

/// How a Pod is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    /// Seconds; `None` is the Pod's own.
    pub seconds: Option<u64>,
    /// The name is freed at once.
    pub force: bool,
}

impl Grace {
    /// Of a Pod whose own grace period is this.
    fn seconds(self, own: u64) -> u64 {
        self.seconds.unwrap_or(own)
    }
}

/// The state now that the deletion is noted in it; of a Pod that is gone already,
/// what it was, with what was asked for.
pub(crate) fn look_again(connection: &Connection, view: &mut View, grace: Grace) {
    if connection.send(&Request::State, &[]).is_ok() {
        while let Ok(Some((reply, _))) = next_reply(connection, None) {
            if let Reply::State(state) = reply {
                view.state = Some(*state);
                break;
            }
        }
    }
    if let Some(state) = &mut view.state {
        state.deletion.get_or_insert_with(|| Deletion {
            requested: Timestamp::now(),
            grace_period: grace.seconds(view.pod.spec.termination_grace_period),
        });
    }
}

/// Deletes one Pod and waits until it is gone.
pub(crate) fn delete(
    layout: &Layout,
    view: &View,
    grace: Grace,
    until: Option<Instant>,
) -> Result<()> {
    let connection = begin(layout, view, grace)?;
    end(layout, view, connection, grace, until)
}

/// Returns when the termination is under way, with the connection whose end is
/// the Pod's. A monitor that dies meanwhile is revived by the next connection;
/// one that dies each time is no longer asked.
pub(crate) fn begin(layout: &Layout, view: &View, grace: Grace) -> Result<Connection> {
    const ATTEMPTS: usize = 3;
    let request = Request::Delete {
        grace_period: grace.seconds(view.pod.spec.termination_grace_period),
        force: grace.force,
    };
    let mut before = None;
    for _ in 0..ATTEMPTS {
        let connection = match (Connection::open(layout, &view.pod.uid), before.take()) {
            // It went between two tries.
            (Err(e), Some(before)) if e.kind() == Kind::NotFound => return Ok(before),
            (opened, _) => opened?,
        };
        connection.send(&request, &[])?;
        loop {
            match next_answer(layout, view, &connection, grace, None)? {
                Some((Reply::Done, _)) => {
                    if grace.force {
                        client::force_release_name(layout, &view.pod)?;
                    }
                    return Ok(connection);
                }
                Some((Reply::Failed(e), _)) => return Err(e),
                Some(_) => {}
                None => break,
            }
        }
        if !exists(layout, view)? {
            return Ok(connection);
        }
        before = Some(connection);
    }
    Err(Error::failed(format!(
        "pod {}: its monitor ends each time it is asked to delete it",
        view.pod.name
    ))
    .hint(format!(
        "its last words are in {}",
        layout.pod(&view.pod.uid).monitor_errors().display()
    )))
}

/// As [`next_reply`], of a monitor that may be stopped and then never answers.
fn next_answer(
    layout: &Layout,
    view: &View,
    connection: &Connection,
    grace: Grace,
    until: Option<Instant>,
) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
    /// Until it is looked at, which has no event that tells of it.
    const PATIENCE: Duration = Duration::from_secs(1);
    loop {
        let look = Instant::now() + PATIENCE;
        let (first, last) = match until {
            Some(until) => (until.min(look), until <= look),
            None => (look, false),
        };
        match next_reply(connection, Some(first)) {
            Err(e) if e.kind() == Kind::Timeout && !last => end_if_stopped(layout, view, grace)?,
            other => return other,
        }
    }
}

/// Kills the Pod's monitor if a signal has stopped it: its connections end then, and the
/// next one is asked. Only a deletion by force does so.
fn end_if_stopped(layout: &Layout, view: &View, grace: Grace) -> Result<()> {
    let Some((pid, pidfd)) = monitor::find(layout, &view.pod.uid) else {
        return Ok(());
    };
    if !Stat::of(pid.as_raw()).is_some_and(|s| s.stopped) {
        return Ok(());
    }
    if !grace.force {
        return Err(Error::failed(format!(
            "pod {}: its monitor, process {pid}, is stopped (SIGSTOP)",
            view.pod.name
        ))
        .hint(format!(
            "let it go on: kill -CONT {pid}; or kill and replace it: carob delete pod {} -n {} \
             --grace-period=0 --force",
            view.pod.name, view.pod.namespace
        )));
    }
    pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)
        .map_err(|e| Error::sys(format!("pidfd_send_signal({pid}, SIGKILL)"), e))
}

/// Waits for the end. Whoever else asks for a shorter grace is not in the way:
/// only the connection's end counts.
pub(crate) fn end(
    layout: &Layout,
    view: &View,
    mut connection: Connection,
    grace: Grace,
    until: Option<Instant>,
) -> Result<()> {
    loop {
        match next_answer(layout, view, &connection, grace, until) {
            Ok(None) => {
                if !exists(layout, view)? {
                    return Ok(());
                }
                // The monitor died, not the Pod: the next one goes on with it.
                connection = match begin(layout, view, grace) {
                    Err(e) if e.kind() == Kind::NotFound => return Ok(()),
                    next => next?,
                };
            }
            Ok(Some((Reply::Failed(e), _))) => return Err(e),
            Ok(Some(_)) => {}
            Err(e) if e.kind() == Kind::Timeout => {
                return Err(Error::new(
                    Kind::Timeout,
                    format!("timed out waiting for the end of pods/{}", view.pod.name),
                ));
            }
            Err(e) => return Err(e),
        }
    }
}

/// Whether this very Pod still exists; the name alone may be another's.
fn exists(layout: &Layout, view: &View) -> Result<bool> {
    let dir = layout.pod(&view.pod.uid).dir;
    match dir.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::from(e).push_context(format!("lstat({})", dir.display()))),
    }
}
