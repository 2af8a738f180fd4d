//! Carries bytes between the caller's stdio and a process in a container, in one
//! poll(2) loop with bounded buffers, until the monitor tells how it ended.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{read, write};

use crate::cli::terminal::raw::{Signals, Wake};
use crate::pod::client::Connection;
use crate::pod::protocol::Reply;
use crate::pod::watch::{next_reply, poll_until};
use crate::sys::tty;
use crate::{Error, Ignored, Result};

const BUFFER: usize = 32 * 1024;
/// The most that is still read after the process has ended: a pipe's and a
/// terminal's capacity with room to spare. A child left behind in the container
/// may hold the other end and write forever.
const LEFTOVER: usize = 1 << 20;

/// One direction. Both ends are closed when it is over, so that the reader on
/// the far side sees the end too.
pub(crate) struct Pump {
    ends: Option<(OwnedFd, OwnedFd)>,
    pending: VecDeque<u8>,
    /// From the container to us: to be emptied after the process' end.
    outward: bool,
}

impl Pump {
    pub(crate) fn inward(from: OwnedFd, to: OwnedFd) -> Self {
        Self::new(from, to, false)
    }
    pub(crate) fn outward(from: OwnedFd, to: OwnedFd) -> Self {
        Self::new(from, to, true)
    }
    fn new(from: OwnedFd, to: OwnedFd, outward: bool) -> Self {
        Pump {
            ends: Some((from, to)),
            pending: VecDeque::new(),
            outward,
        }
    }

    fn poll_fd(&self) -> Option<PollFd<'_>> {
        let (from, to) = self.ends.as_ref()?;
        Some(match self.pending.is_empty() {
            true => PollFd::new(from.as_fd(), PollFlags::POLLIN),
            false => PollFd::new(to.as_fd(), PollFlags::POLLOUT),
        })
    }

    /// One read or one write on an fd that poll has found ready. Returns how
    /// much was read.
    fn step(&mut self) -> usize {
        let Some((from, to)) = &self.ends else {
            return 0;
        };
        if self.pending.is_empty() {
            let mut buffer = [0; BUFFER];
            match read(from, &mut buffer) {
                // EIO: the last process has closed the terminal.
                Ok(0) | Err(Errno::EIO) => self.ends = None,
                Ok(n) => {
                    self.pending.extend(&buffer[..n]);
                    return n;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => self.ends = None,
            }
            return 0;
        }
        match write(to, self.pending.as_slices().0) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The reader is gone; so is the reason to read.
            Err(_) => {
                self.pending.clear();
                self.ends = None;
            }
        }
        0
    }
}

/// What a session ends with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process' exit code, if the kernel told.
    Exited(Option<i32>),
    /// A signal to this program; nothing was sent to the process.
    Interrupted(i32),
}

/// `master` is the terminal of the process, whose size follows ours.
pub(crate) fn carry(
    connection: &Connection,
    mut pumps: Vec<Pump>,
    signals: Option<&Signals>,
    master: Option<&OwnedFd>,
) -> Result<End> {
    loop {
        let (talk, signalled, ready) = {
            let mut fds = vec![PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
            fds.extend(signals.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
            let first = fds.len();
            let mut which = vec![];
            for (i, p) in pumps.iter().enumerate() {
                if let Some(fd) = p.poll_fd() {
                    fds.push(fd);
                    which.push(i);
                }
            }
            poll_until(&mut fds, None)?;
            let up = |fd: &PollFd| fd.any().unwrap_or(true);
            let ready: Vec<usize> = which
                .into_iter()
                .zip(&fds[first..])
                .filter(|(_, fd)| up(fd))
                .map(|(i, _)| i)
                .collect();
            (up(&fds[0]), first == 2 && up(&fds[1]), ready)
        };
        for i in ready {
            pumps[i].step();
        }
        if signalled && let Some(s) = signals {
            match s.take() {
                Some(Wake::Resized) => {
                    if let Some(m) = master {
                        copy_size(m);
                    }
                }
                Some(Wake::End(n)) => return Ok(End::Interrupted(n)),
                None => {}
            }
        }
        if talk {
            match next_reply(connection, None)? {
                Some((Reply::Exited(code), _)) => {
                    empty(&mut pumps)?;
                    return Ok(End::Exited(code));
                }
                Some((Reply::Failed(e), _)) => return Err(e),
                Some(_) => {}
                None => {
                    empty(&mut pumps)?;
                    return Err(Error::failed(
                        "the Pod's monitor closed the connection before the process ended",
                    ));
                }
            }
        }
    }
}

/// What the process had written before its end, and no more.
fn empty(pumps: &mut [Pump]) -> Result<()> {
    for pump in pumps.iter_mut().filter(|p| p.outward) {
        let mut taken = 0;
        while taken < LEFTOVER {
            let flushing = !pump.pending.is_empty();
            let Some(fd) = pump.poll_fd() else { break };
            // Reading ends when nothing is there now; writing waits for stdout.
            let until = (!flushing).then(Instant::now);
            if !poll_until(&mut [fd], until)? {
                break;
            }
            taken += pump.step();
        }
        while !pump.pending.is_empty() {
            if let Some(fd) = pump.poll_fd() {
                poll_until(&mut [fd], None)?;
            }
            pump.step();
        }
    }
    Ok(())
}

/// Our terminal's size to the process' terminal.
pub(crate) fn copy_size(master: &OwnedFd) {
    if let Ok(size) =
        tty::window_size(std::io::stdout()).or_else(|_| tty::window_size(std::io::stdin()))
    {
        tty::set_window_size(master, size).ignored("a terminal works without a size");
    }
}

/// For ends that only we read or write: a full pipe must not stop the loop.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(|e| Error::sys("fcntl(F_GETFL)", e))?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map_err(|e| Error::sys("fcntl(F_SETFL)", e))?;
    Ok(())
}

/// A copy of one of our own standard fds.
pub(crate) fn own(fd: impl AsFd) -> Result<OwnedFd> {
    Ok(fd.as_fd().try_clone_to_owned()?)
}
