//! Waits until the containers of Pods are started, or it is known why one is not.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use crate::pod::client::Connection;
use crate::pod::protocol::{Reply, Request, Wait};
use crate::pod::watch::poll_until;
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// What the caller is told of while it waits. Its answer is when it wants to be called
/// again if nothing else happens.
pub(crate) enum Progress<'p> {
    /// The Pod waits for these, and for nothing else; for nothing when it is started or
    /// has failed.
    Waits { pod: &'p Pod, waits: &'p [Wait] },
    /// The time that the caller named has come.
    Due,
}

/// A Pod that is neither started nor known not to start.
struct Open<'p> {
    pod: &'p Pod,
    connection: Connection,
    waits: Vec<Wait>,
}

/// Waits for all of `pods`, each with the UID of the one that exists, together. Returns
/// the errors of those that do not start; the Pods stay, to be looked at. Input on
/// `interrupt` ends the waiting without an error, and is left for the caller to read.
pub(crate) fn await_started(
    layout: &Layout,
    pods: &[(Pod, String)],
    until: Option<Instant>,
    interrupt: Option<BorrowedFd<'_>>,
    progress: &mut dyn FnMut(Progress<'_>) -> Option<Instant>,
) -> Vec<Error> {
    let mut errors = vec![];
    let mut open: Vec<Open<'_>> = vec![];
    for (pod, uid) in pods {
        match ask(layout, uid) {
            Ok(connection) => open.push(Open {
                pod,
                connection,
                waits: vec![],
            }),
            Err(e) => errors.push(of_pod(e, pod)),
        }
    }
    let mut due = progress(Progress::Due);
    while !open.is_empty() {
        match sleep(&open, due.into_iter().chain(until).min(), interrupt) {
            Ok(Woken::Ready(ready)) => {
                let mut ready = ready.into_iter();
                open.retain_mut(|o| {
                    if !ready.next().unwrap_or(false) {
                        return true;
                    }
                    let left = o.hear();
                    if let Some(waits) = left.told {
                        o.waits = waits;
                        due = progress(Progress::Waits {
                            pod: o.pod,
                            waits: &o.waits,
                        });
                    }
                    errors.extend(left.error.map(|e| of_pod(e, o.pod)));
                    left.stays
                });
            }
            Ok(Woken::Interrupted) => break,
            Ok(Woken::Late) if until.is_none_or(|u| Instant::now() < u) => {
                due = progress(Progress::Due);
            }
            Ok(Woken::Late) => {
                errors.extend(open.iter().map(|o| late(o.pod, &o.waits)));
                break;
            }
            Err(e) => {
                errors.push(e);
                break;
            }
        }
    }
    errors
}

fn ask(layout: &Layout, uid: &str) -> Result<Connection> {
    let connection = Connection::open(layout, uid)?;
    connection.send(&Request::AwaitStarted, &[])?;
    Ok(connection)
}

enum Woken {
    /// Which of the connections have something to read, in their order.
    Ready(Vec<bool>),
    Interrupted,
    Late,
}

fn sleep(
    open: &[Open<'_>],
    until: Option<Instant>,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<Woken> {
    let connections = open.iter().map(|o| o.connection.as_fd());
    let mut fds: Vec<PollFd> = connections
        .chain(interrupt)
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    if !poll_until(&mut fds, until)? {
        return Ok(Woken::Late);
    }
    let mut ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(true)).collect();
    Ok(match interrupt.is_some() && ready.pop() == Some(true) {
        true => Woken::Interrupted,
        false => Woken::Ready(ready),
    })
}

/// What one message of a monitor means.
struct Heard {
    /// What the Pod waits for now, if that was said.
    told: Option<Vec<Wait>>,
    error: Option<Error>,
    /// There is more to come.
    stays: bool,
}

impl Open<'_> {
    fn hear(&self) -> Heard {
        let heard = |told, error, stays| Heard { told, error, stays };
        match self.connection.recv(Some(Duration::ZERO)) {
            Ok(Some((Reply::Waits(waits), _))) => heard(Some(waits), None, true),
            Ok(Some((Reply::Settled, _))) => heard(Some(vec![]), None, false),
            Ok(Some((Reply::Failed(e), _))) => heard(Some(vec![]), Some(e), false),
            Ok(Some(_)) => heard(None, None, true),
            Err(e) if e.kind() == Kind::Timeout => heard(None, None, true),
            Ok(None) => {
                let e = Error::failed("its monitor ended before it was started").hint(format!(
                    "look at it with: carob describe pod {}",
                    self.pod.name
                ));
                heard(None, Some(e), false)
            }
            Err(e) => heard(None, Some(e), false),
        }
    }
}

/// The time is over before the Pod is started.
fn late(pod: &Pod, waits: &[Wait]) -> Error {
    let mut text = format!("timed out waiting for the start of {}", pod.name);
    if !waits.is_empty() {
        let waits: Vec<String> = waits.iter().map(Wait::to_string).collect();
        text = format!("{text}: {}", waits.join("; "));
    }
    let init = waits.iter().find_map(|w| match w {
        Wait::Init { container } => Some(container),
        _ => None,
    });
    Error::new(Kind::Timeout, text).hint(match init {
        Some(init) => pod.logs_command(init, false),
        None => format!("carob describe pod {}", pod.as_arguments()),
    })
}

/// The monitor's errors name their Pod; others may not.
fn of_pod(e: Error, pod: &Pod) -> Error {
    match e.to_string().starts_with("pod ") {
        true => e,
        false => e.push_context(format!("pod {}", pod.name)),
    }
}
