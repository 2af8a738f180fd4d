//! What a child says between its clone and its exec, and how its commander hears it: a
//! socket of packets that closes with the exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use log::LevelFilter;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::steps::Step;
use crate::debug_log::{self, Line};
use crate::linux::mount::Mount;
use crate::linux::socket::Packets;
use crate::sys::process as sys;
use crate::{Error, Ignored, Result};

/// What a child says to whoever commands it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    Failed(Error),
    Terminal,
    Hooks,
    Waiting,
    /// The number of an fd in the child.
    Listener(i32),
    /// The place in the plan of a mount, which is sent too.
    MapIds(usize),
    /// A line of the debug log.
    Step(Step),
}

/// What a commander hears.
#[derive(Debug)]
pub(crate) enum Event {
    NotYet,
    /// Why there will be no program. The child ends by itself.
    Failed(Error),
    /// The master of the process's terminal.
    Terminal(OwnedFd),
    /// The hooks of the runtime's namespaces are due; answered by [`Channel::go`].
    Hooks,
    /// The child waits at its gate.
    Waiting,
    /// The seccomp listener is this fd of the child's; answered by [`Channel::go`].
    Listener(i32),
    /// The mount of this place in the plan is to be idmapped, which a process in a user
    /// namespace may not do: mount_setattr(2) asks for CAP_SYS_ADMIN over the filesystem.
    /// Answered by [`Channel::go`].
    MapIds(usize, Mount),
    /// The program runs, or the child has died without a message.
    Exec,
}

/// The connection between a child and its commander.
#[derive(Debug)]
pub(crate) struct Channel {
    packets: Packets,
    /// The child.
    pid: i32,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

impl Channel {
    pub(super) fn new(packets: Packets, pid: i32) -> Self {
        Channel { packets, pid }
    }

    /// Blocks unless the fd does not.
    pub(crate) fn next(&self) -> Event {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.receive(&mut buffer) {
                Ok(event) => return event,
                Err(step) => step.write(self.pid),
            }
        }
    }

    /// An event, or else a line of the debug log.
    fn receive(&self, buffer: &mut [u8]) -> Result<Event, Step> {
        Ok(match self.packets.receive(buffer) {
            Ok(([], _)) => Event::Exec,
            Ok((bytes, mut fds)) => match serde_json::from_slice(bytes) {
                Ok(Message::Step(step)) => return Err(step),
                Ok(Message::Failed(e)) => Event::Failed(e),
                Ok(Message::Terminal) => match fds.pop() {
                    Some(fd) => Event::Terminal(fd),
                    None => Event::Failed(Error::failed("the child sent no terminal")),
                },
                Ok(Message::Hooks) => Event::Hooks,
                Ok(Message::Waiting) => Event::Waiting,
                Ok(Message::Listener(n)) => Event::Listener(n),
                Ok(Message::MapIds(place)) => match fds.pop() {
                    Some(fd) => Event::MapIds(place, Mount::received(fd)),
                    None => Event::Failed(Error::failed("the child sent no mount")),
                },
                Err(e) => Event::Failed(Error::failed(format!("the child's message: {e}"))),
            },
            Err(Errno::EAGAIN) => Event::NotYet,
            // Unread words of ours at its end: it died, or runs, all the same.
            Err(Errno::ECONNRESET) => Event::Exec,
            Err(e) => Event::Failed(Error::sys("recvmsg(<child>)", e)),
        })
    }

    pub(crate) fn go(&self) -> Result<()> {
        self.packets
            .send(b"go", &[])
            .map_err(|e| Error::sys("sendmsg(<child>)", e))
    }
}

/// The child's end.
pub(super) fn say(channel: &Packets, message: &Message, fds: &[BorrowedFd]) -> Result<()> {
    channel
        .send(&serde_json::to_vec(message)?, fds)
        .map_err(|e| Error::sys("sendmsg(<parent>)", e))
}

/// Waits for [`Channel::go`].
pub(crate) fn wait_for_go(channel: &Packets) -> Result<()> {
    match channel.receive(&mut [0; 16]) {
        Ok(([], _)) => Err(Error::failed("whoever was making this container has died")),
        Ok(_) => Ok(()),
        Err(e) => Err(Error::sys("recvmsg(<parent>)", e)),
    }
}

/// A child between its clone and its exec.
#[derive(Debug)]
pub(crate) struct Starting {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub channel: Channel,
    terminal: Option<OwnedFd>,
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Started {
    /// No message yet.
    NotYet,
    /// The program runs. With a terminal, its master.
    Running(Option<OwnedFd>),
    /// Why it does not. The child ends by itself.
    Failed(Error),
}

impl AsFd for Starting {
    /// Readable when [`Starting::progress`] has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Starting {
    /// `packets` leads to the process that was cloned, or was to be.
    pub(super) fn of(cloned: Result<(Pid, OwnedFd)>, packets: Packets) -> Result<Self> {
        match cloned {
            Ok((pid, pidfd)) => {
                log::debug!("process {pid} is cloned");
                Ok(Starting {
                    pid,
                    pidfd,
                    channel: Channel::new(packets, pid.as_raw()),
                    terminal: None,
                })
            }
            Err(e) => {
                drain_steps(packets);
                Err(e)
            }
        }
    }

    /// Reads what a child without gate, hooks and listener has said, blocking only
    /// if nothing can be read.
    pub(crate) fn progress(&mut self) -> Started {
        match self.channel.next() {
            Event::Exec => {
                log::debug!("process {} runs its program, or has died", self.pid);
                Started::Running(self.terminal.take())
            }
            Event::Terminal(fd) => {
                self.terminal = Some(fd);
                Started::NotYet
            }
            Event::Failed(e) => Started::Failed(e),
            Event::NotYet => Started::NotYet,
            Event::Hooks | Event::Waiting | Event::Listener(_) | Event::MapIds(..) => {
                Started::Failed(Error::failed(
                    "the child waits for what nobody here will do",
                ))
            }
        }
    }

    /// Ends a child that is not to become anything.
    pub(crate) fn abandon(&self) {
        sys::kill_and_reap(self.pidfd.as_fd());
    }
}

/// For the child of a clone: from now on lines of the debug log go to `parent`, which the
/// process keeps until its exec. Its copy of the log's own file is closed.
pub(super) fn send_steps(parent: &Packets) {
    let level = log::max_level();
    debug_log::stop();
    if level < LevelFilter::Debug {
        return;
    }
    let fd = parent.as_fd().as_raw_fd();
    let output = move |line: &Line| {
        let message = Message::Step(Step::of(line, LAST_WORDS));
        let bytes = serde_json::to_vec(&message).unwrap_or_default();
        #[expect(
            clippy::let_underscore_must_use,
            reason = "this is the log: if nobody reads it any more, it alone is lost"
        )]
        let _ = send(fd, &bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_EOR);
    };
    debug_log::start(level, Box::new(output));
}

/// Writes what a child has said that never became one of the caller's. Why is known already.
fn drain_steps(packets: Packets) {
    if log::max_level() >= LevelFilter::Debug
        && fcntl(&packets, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
    {
        Channel::new(packets, 0).next();
    }
}

/// The most that a child says of an error, bytes: in JSON six times as many, which
/// still fits what [`Channel::next`] receives.
const LAST_WORDS: usize = 2048;

/// The child's last words.
pub(super) fn tell_failure(parent: &Packets, e: Error) -> ! {
    let bytes = serde_json::to_vec(&Message::Failed(e.shortened(LAST_WORDS)));
    parent
        .send(&bytes.unwrap_or_default(), &[])
        .ignored("the parent sees that the child ends without a word");
    sys::exit_now(127)
}
