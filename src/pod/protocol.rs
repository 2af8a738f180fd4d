//! What clients and a Pod's monitor say to each other.
//!
//! A connection is a SOCK_SEQPACKET Unix socket (`monitor.sock`, mode 0600 in a
//! 0700 directory, never abstract: every process of the Pod's netns could reach
//! that). One packet is one JSON message, at most [`MAX_MESSAGE`] bytes; fds go
//! along by SCM_RIGHTS. The client sends one [`Request`]; the monitor answers
//! with [`Reply`] packets until the request's last one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::state::State;
use crate::Error;

/// Bytes of one packet. Beyond it the sender gets an error.
pub(crate) const MAX_MESSAGE: usize = 192 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Answers `State` once.
    State,
    /// Answers `State` now and at each change until either side closes.
    Watch,
    /// Answers `Settled` once every container has been started, or it is known
    /// why one is not: then `Failed` with that. Before, `Waits` whenever what is waited
    /// for changes.
    AwaitStarted,
    /// The record `pod.json` has changed. Answers `Done`.
    Update,
    /// Answers `Done` when the termination is under way. The end of the Pod is
    /// seen by the connection's end after that.
    Delete { grace_period: u64, force: bool },
    /// Ends the containers with the Pod's own grace period, because the machine goes
    /// down, and keeps the Pod. Answers `Done` when all have ended.
    Terminate,
    /// Makes a container anew, or all but the init containers that end: with its hooks and
    /// grace period, whatever its restart policy. Answers `Done` when that is under way.
    Restart { container: Option<String> },
    /// Lets all processes of the Pod stand still. Answers `Done` when they do.
    Pause,
    /// Lets them go on. Answers `Done`.
    Resume,
    /// Runs a process in a container. Without a tty, the three fds that go with
    /// it become its stdio; with one, `Started` brings the terminal's master.
    /// Then `Exited`, or `Failed`.
    Exec(Exec),
    /// `Attached` brings the fds that are named in it, at once or when the container
    /// starts; reading from them ends when it does. Then `Exited`.
    Attach { container: String, stdin: bool },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub container: String,
    pub command: Vec<String>,
    pub tty: bool,
    /// Columns and rows at the start.
    pub size: Option<(u16, u16)>,
    /// `NAME=VALUE`, beside the container's own or in their place.
    #[serde(default)]
    pub env: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    State(Box<State>),
    Waits(Vec<Wait>),
    Settled,
    Done,
    /// One fd with a tty (its master), none without.
    Started,
    /// 0..255; 128 + n for signal n. `None`: the kernel did not tell.
    Exited(Option<i32>),
    /// The fds, in this order: if `tty`, the terminal's master, to write to and
    /// to size, and a pipe with what it shows; else stdin's write end if `stdin`,
    /// then stdout's and stderr's read ends.
    Attached {
        tty: bool,
        stdin: bool,
    },
    Failed(Error),
}

/// What the start of a Pod waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// So many bytes of an image of so many, compressed; 0 of 0 while its size is not known.
    Pull { image: String, done: u64, size: u64 },
    /// The end of an init container.
    Init { container: String },
    /// The end of a postStart hook.
    PostStart { container: String },
    /// The first success of a startup probe.
    StartupProbe { container: String },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Pull { image, .. } => write!(f, "pulling image {image}"),
            Wait::Init { container } => {
                write!(f, "waiting for the end of init container {container}")
            }
            Wait::PostStart { container } => {
                write!(f, "waiting for the postStart hook of container {container}")
            }
            Wait::StartupProbe { container } => {
                write!(f, "waiting for the startup probe of container {container}")
            }
        }
    }
}
