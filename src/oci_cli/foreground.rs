//! A process of a container that this program stays for: its end awaited, signals
//! passed on, its terminal carried to and from ours.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::linux::terminal::Raw;
use crate::sys::process as sys;
use crate::sys::tty;
use crate::{Error, Ignored, Result};

/// Signals as events, from before there is a process to pass them on to.
pub(super) struct Foreground(SignalFd);

/// Whether what a container's terminal says goes to a terminal.
pub(super) fn has_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// As a shell tells it.
pub(super) fn exit_code(status: i32) -> u8 {
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => 128 + signal as u8,
    }
}

impl Foreground {
    pub(super) fn prepare() -> Result<Self> {
        let mut set = SigSet::all();
        for fatal in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGPIPE,
            // What stops this program stops it alone.
            Signal::SIGTSTP,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGCONT,
        ] {
            set.remove(fatal);
        }
        set.thread_block()
            .map_err(|e| Error::sys("sigprocmask(SIG_BLOCK)", e))?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Foreground)
            .map_err(|e| Error::sys("signalfd4()", e))
    }

    /// Until our child ends. Returns its wait status.
    pub(super) fn attend(&self, pidfd: OwnedFd, terminal: Option<OwnedFd>) -> Result<i32> {
        let mut console = terminal.map(Console::new).transpose()?;
        loop {
            let timeout = self.turn(&pidfd, console.as_mut())?;
            if let Some(status) = timeout {
                if let Some(c) = &mut console {
                    c.drain();
                }
                return Ok(status);
            }
        }
    }

    fn turn(&self, pidfd: &OwnedFd, mut console: Option<&mut Console>) -> Result<Option<i32>> {
        let stdin = std::io::stdin();
        let mut fds = vec![
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(c) = &console {
            if c.master_open {
                fds.push(PollFd::new(c.master.as_fd(), PollFlags::POLLIN));
            }
            if c.stdin_open {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(None),
            Err(e) => return Err(Error::sys("poll()", e)),
        }
        let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        if let Some(c) = &mut console {
            let mut rest = ready[2..].iter();
            if c.master_open && rest.next() == Some(&true) {
                c.master_open = carry(&c.master, std::io::stdout());
            }
            if c.stdin_open && rest.next() == Some(&true) {
                c.stdin_open = carry(&stdin, &c.master);
            }
        }
        if ready[0] {
            self.pass_on(pidfd, console.as_deref())?;
        }
        match ready[1] {
            true => sys::wait_pidfd(pidfd.as_fd()).map_err(|e| Error::sys("waitid(<child>)", e)),
            false => Ok(None),
        }
    }

    fn pass_on(&self, pidfd: &OwnedFd, console: Option<&Console>) -> Result<()> {
        while let Ok(Some(info)) = self.0.read_signal() {
            let signal = info.ssi_signo as i32;
            match Signal::try_from(signal) {
                Ok(Signal::SIGCHLD) => reap_orphans(pidfd),
                Ok(Signal::SIGWINCH) => {
                    if let Some(c) = console {
                        c.take_size();
                    }
                }
                _ => match sys::pidfd_send_signal(pidfd.as_fd(), signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(Error::sys("pidfd_send_signal(<child>)", e)),
                },
            }
        }
        Ok(())
    }
}

/// A subreaper has children that it never made. The one that counts is left to
/// [`Foreground::attend`].
fn reap_orphans(pidfd: &OwnedFd) {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, peek) {
        let pid = match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => pid,
            _ => return,
        };
        let ours = matches!(
            waitid(Id::PIDFd(pidfd.as_fd()), peek),
            Ok(WaitStatus::Exited(p, _) | WaitStatus::Signaled(p, ..)) if p == pid
        );
        if ours || waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err() {
            return;
        }
    }
}

struct Console {
    master: OwnedFd,
    master_open: bool,
    stdin_open: bool,
    _raw: Option<Raw>,
}

impl Console {
    fn new(master: OwnedFd) -> Result<Self> {
        let is_terminal = std::io::stdin().is_terminal();
        let raw = is_terminal.then(Raw::enter).transpose()?;
        let console = Console {
            master,
            master_open: true,
            stdin_open: true,
            _raw: raw,
        };
        console.take_size();
        Ok(console)
    }

    fn take_size(&self) {
        if let Ok(size) = tty::window_size(std::io::stdin()) {
            tty::set_window_size(&self.master, size).ignored("a terminal works without a size");
        }
    }

    /// What was written before the end and not read yet.
    fn drain(&mut self) {
        while self.master_open {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(1..) => self.master_open = carry(&self.master, std::io::stdout()),
                _ => return,
            }
        }
    }
}

/// One piece from one to the other. False: there will be no more.
fn carry(from: impl AsFd, to: impl AsFd) -> bool {
    let mut buffer = [0; 8192];
    let n = match nix::unistd::read(from.as_fd(), &mut buffer) {
        Ok(0) | Err(Errno::EIO) => return false,
        Ok(n) => n,
        Err(Errno::EINTR | Errno::EAGAIN) => return true,
        Err(_) => return false,
    };
    let mut left = &buffer[..n];
    while !left.is_empty() {
        match nix::unistd::write(to.as_fd(), left) {
            Ok(n) => left = &left[n..],
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}
