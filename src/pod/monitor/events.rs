//! What the monitor waits for: file descriptors in one epoll(7) set, and deadlines of its
//! own. What a Pod's rules wait for is the kubelet's.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};

use super::handler::Caller;
use crate::pod::logs::Stream;
use crate::{Error, Ignored, Result};

/// What an fd in the epoll set stands for. The token is its index here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Client(u64),
    /// A container's first process: the socket on which it says how its start goes, then
    /// its pidfd.
    Container(String),
    /// The same of a process beside it.
    Exec(u64),
    /// What a probe's command writes.
    ExecOutput(u64),
    /// The socket of a probe or hook.
    Handler(String, Caller),
    Output(String, Stream),
    Oom(String),
    Pull(String),
    /// Notifications of nftables.
    Rules,
    /// Something has gone from the Pod's directory.
    Directory,
    /// The child that restores the Pods' rules.
    Restoring,
    /// The child that measures volumes.
    Measurement,
    /// The child that mounts volumes, or gives them to a group.
    Mounting,
}

/// What a deadline of the engine is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The log could not be written, or there is more for it: try again.
    Log(String),
    /// Look again whether the memory limit has killed a process.
    Oom(String),
    /// Look whether the Pods' rules are still there.
    Rules,
    /// The state could not be written: try again.
    Record,
    /// No client could be accepted for want of fds: try again.
    Listen,
    /// That child has had its time.
    Mounting,
    /// Long enough idle to give memory back.
    Settle,
}

#[derive(Debug)]
pub(super) struct Events {
    epoll: Epoll,
    sources: BTreeMap<u64, Source>,
    next_id: u64,
    /// On the clock of [`clock`].
    pub timers: BTreeMap<Timer, Duration>,
}

impl Events {
    pub(super) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|e| Error::sys("epoll_create1()", e))?;
        Ok(Events {
            epoll,
            sources: BTreeMap::new(),
            next_id: 0,
            timers: BTreeMap::new(),
        })
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn watch(&mut self, fd: impl AsFd, flags: EpollFlags, source: Source) -> Result<()> {
        let id = self.new_id();
        self.epoll
            .add(fd, EpollEvent::new(flags, id))
            .map_err(|e| Error::sys("epoll_ctl(EPOLL_CTL_ADD)", e))?;
        self.sources.insert(id, source);
        Ok(())
    }

    /// Forgets a source; its fd is about to be closed, but a child may share it.
    pub(super) fn unwatch(&mut self, fd: impl AsFd, source: &Source) {
        self.epoll
            .delete(fd)
            .ignored("one that is not in the set need not be taken out");
        self.sources.retain(|_, s| s != source);
    }

    /// Changes what is awaited of a source.
    pub(super) fn modify(&mut self, fd: impl AsFd, flags: EpollFlags, source: &Source) {
        let id = self.sources.iter().find(|(_, s)| *s == source);
        if let Some((id, _)) = id {
            let mut event = EpollEvent::new(flags, *id);
            self.epoll
                .modify(fd, &mut event)
                .ignored("epoll_ctl(2) does not refuse an fd that is in the set");
        }
    }

    pub(super) fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.insert(timer, clock() + after);
    }

    /// The engine's deadlines that have passed, which it forgets.
    pub(super) fn due(&mut self) -> Vec<Timer> {
        let now = clock();
        let due = self.timers.iter().filter(|(_, at)| **at <= now);
        let due: Vec<Timer> = due.map(|(t, _)| t.clone()).collect();
        self.timers.retain(|_, at| *at > now);
        due
    }

    /// Waits until a source has something to say, one of the engine's deadlines or `until`
    /// has come; which sources have.
    pub(super) fn wait(&mut self, until: Option<Duration>) -> Result<Vec<u64>> {
        let timeout = match self.timers.values().copied().chain(until).min() {
            None => EpollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_sub(clock());
                // Rounded up: a deadline is never met too early.
                let ms = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
                EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
            }
        };
        let mut events = [EpollEvent::empty(); 32];
        match self.epoll.wait(&mut events, timeout) {
            Ok(n) => Ok(events[..n].iter().map(EpollEvent::data).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(e) => Err(Error::sys("epoll_wait()", e)),
        }
    }

    /// A source may have gone while an earlier event of the same wait was handled.
    pub(super) fn source(&self, id: u64) -> Option<Source> {
        self.sources.get(&id).cloned()
    }
}

/// CLOCK_MONOTONIC, on which the deadlines are.
pub(super) fn clock() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
