//! The processes of a cgroup and their end; the cgroup's own end; the freezer.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::hierarchy::{Controllers, Hierarchy};
use super::{Cgroup, io, missing, v1, v2};
use crate::{Call, Context, Error, Ignored, Kind, Result};

/// How long [`Cgroup::remove`] waits for processes that are on their way out.
const REMOVE_WITHIN: Duration = Duration::from_secs(2);

/// How long [`Cgroup::pause`] waits. A process in an uninterruptible call stops when
/// that ends, and some calls (a dead NFS server's) end late.
const PAUSE_WITHIN: Duration = Duration::from_secs(10);

impl Cgroup {
    /// SIGKILL to every process in it and below. Does not wait for their end; a
    /// cgroup that is gone holds none.
    pub fn kill(&self) -> Result<()> {
        let doing = || format!("kill cgroup {}", self.path());
        if let Some(v2) = self.hierarchies.v2() {
            match io::write(v2, self.path_in(v2), "cgroup.kill", "1") {
                // v1's freezer would keep them from dying. Whoever made the cgroup may
                // have died before it was there.
                Ok(()) => {
                    let Some(h) = self.v1_with(Controllers::FREEZER) else {
                        return Ok(());
                    };
                    return match v1::freeze(h, self.path_in(h), false) {
                        Err(e) if is_gone(&e) => Ok(()),
                        other => other.with_context(doing),
                    };
                }
                // Gone (ENODEV: since the file was opened), or a kernel before 5.14.
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e).with_context(doing),
            }
        }
        if !self.exists() {
            return Ok(());
        }
        // Frozen processes cannot fork, so that one pass finds them all; where
        // freezing fails, passes are repeated until one finds nothing new.
        let frozen = self.freeze(true).is_ok();
        let killed = self.kill_each();
        if frozen {
            self.freeze(false).with_context(doing)?;
        }
        killed.with_context(doing)
    }

    pub(super) fn kill_each(&self) -> Result<()> {
        let mut known = std::collections::HashSet::new();
        loop {
            let fresh: Vec<Pid> = self
                .procs()?
                .into_iter()
                .filter(|p| known.insert(*p))
                .collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for pid in fresh {
                let call = || format!("kill({pid}, SIGKILL)");
                match kill(pid, Signal::SIGKILL).traced(call) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(Error::sys(call(), e)),
                }
            }
        }
    }

    /// Asks every process in it and below to stop (or continue), and does not wait.
    pub fn freeze(&self, on: bool) -> Result<()> {
        if let Some(h) = self.v1_with(Controllers::FREEZER) {
            return v1::freeze(h, self.path_in(h), on);
        }
        match self.hierarchies.v2() {
            Some(h) => {
                let value = if on { "1" } else { "0" };
                io::write(h, self.path_in(h), "cgroup.freeze", value)
            }
            None => Err(missing("freezer", None)),
        }
    }

    /// Stops every process in it and below, and returns when all stand still. If
    /// that takes more than 10 s, they go on and it is an error of
    /// [`Kind::Timeout`].
    pub fn pause(&self) -> Result<()> {
        self.pause_within(PAUSE_WITHIN)
            .with_context(|| format!("freeze cgroup {}", self.path()))
    }

    fn pause_within(&self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        self.freeze(true)?;
        let stopped = match (self.v1_with(Controllers::FREEZER), self.hierarchies.v2()) {
            (Some(h), _) => v1::wait_frozen(h, self.path_in(h), deadline)?,
            (None, Some(h)) => v2::wait_event(h, self.path_in(h), "frozen", 1, deadline)?,
            (None, None) => true,
        };
        if stopped {
            return Ok(());
        }
        self.freeze(false)?;
        let what = format!("not all of it stood still within {} s", time.as_secs());
        Err(Error::new(Kind::Timeout, what)
            .hint("a process is in a call that cannot be interrupted, or has a vforked child"))
    }

    /// Lets them go on, and returns when they may.
    pub fn resume(&self) -> Result<()> {
        let doing = || format!("thaw cgroup {}", self.path());
        self.freeze(false).with_context(doing)?;
        if self.v1_with(Controllers::FREEZER).is_none()
            && let Some(h) = self.hierarchies.v2()
        {
            let deadline = Instant::now() + PAUSE_WITHIN;
            let thawed = v2::wait_event(h, self.path_in(h), "frozen", 0, deadline);
            // What is frozen above it stays frozen.
            if !thawed.with_context(doing)? {
                let e = Error::new(Kind::Timeout, "it stays frozen");
                return Err(e.hint("a cgroup above it is frozen").push_context(doing()));
            }
        }
        Ok(())
    }

    /// Whether it is frozen or freezing; a cgroup that is gone is not.
    pub fn is_frozen(&self) -> Result<bool> {
        let read = match (self.v1_with(Controllers::FREEZER), self.hierarchies.v2()) {
            (Some(h), _) => {
                io::read(h, self.path_in(h), "freezer.state").map(|s| s.trim() != "THAWED")
            }
            (None, Some(h)) => {
                io::read(h, self.path_in(h), "cgroup.freeze").map(|s| s.trim() == "1")
            }
            (None, None) => return Ok(false),
        };
        match read {
            Err(e) if is_gone(&e) => Ok(false),
            other => other,
        }
    }

    /// A process that joins a frozen cgroup stops there, and its maker waits for it in
    /// vain.
    ///
    /// # Errors
    /// [`Kind::Conflict`]: it is frozen in a hierarchy, or a cgroup above it is. It need
    /// not be there.
    pub fn refuse_frozen(&self) -> Result<()> {
        for h in self.joined() {
            let is_stopped = match h.list().is_empty() {
                true => v2::is_stopped,
                false if h.controllers().meets(Controllers::FREEZER) => v1::is_stopped,
                false => continue,
            };
            let mut left = Some(self.path_in(h));
            while let Some(path) = left.filter(|p| !p.is_empty()) {
                match is_stopped(h, path) {
                    Ok(true) => {
                        let dir = h.point().join(path);
                        let what = format!("cgroup {} is frozen", dir.display());
                        return Err(Error::conflict(what).hint(
                            "a process in it would not run: let it go on by `resume`, by `0` in \
                             its cgroup.freeze or by `THAWED` in its freezer.state",
                        ));
                    }
                    Err(e) if !is_gone(&e) => return Err(e),
                    Ok(false) | Err(_) => {}
                }
                left = path.rsplit_once('/').map(|(above, _)| above);
            }
        }
        Ok(())
    }

    pub fn exists(&self) -> bool {
        let found = |h| io::open_dir(h, self.path_in(h), OFlag::O_PATH).is_ok();
        self.joined().any(found)
    }

    /// Removes it in every hierarchy, what is below it first. Does not kill: it
    /// waits up to 2 s for processes that are dying. Goes on past an error and
    /// reports all; finding nothing to remove is none.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_WITHIN;
        let is_v2 = self.hierarchies.v2().is_some();
        let mut errors = Vec::new();
        for (i, h) in self.joined().enumerate() {
            errors.extend(self.remove_in(h, is_v2 && i == 0, deadline).err());
        }
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else {
            return Ok(());
        };
        let rest: String = errors.map(|e| format!("; {e}")).collect();
        let pids = self.procs().unwrap_or_default();
        let mut error = match rest.is_empty() {
            true => first,
            false => Error::failed(format!("{first}{rest}")),
        };
        if !pids.is_empty() {
            let pids: Vec<String> = pids.iter().take(8).map(Pid::to_string).collect();
            error = error.hint(format!("still in it: pid {}", pids.join(", ")));
        }
        Err(error.push_context(format!("remove cgroup {}", self.path())))
    }

    /// rmdir in each hierarchy, once: what has processes or children stays, and so
    /// does what somebody else is just moving into.
    pub fn remove_if_empty(&self) {
        for h in self.joined() {
            unlinkat(h, self.path_in(h), UnlinkatFlags::RemoveDir)
                .ignored("it has processes or children, or is gone already");
        }
    }

    fn remove_in(&self, h: &Hierarchy, is_v2: bool, deadline: Instant) -> Result<()> {
        let mut pause = Duration::from_millis(1);
        loop {
            match remove_tree(h, self.path_in(h)) {
                Err(e) if e.errno() == Some(Errno::EBUSY) => {
                    if Instant::now() >= deadline {
                        return Err(e);
                    }
                    if is_v2 && !v2::wait_event(h, self.path_in(h), "populated", 0, deadline)? {
                        return Err(e);
                    }
                    // v1 has no event for this; on v2 a cgroup of a thousand
                    // dying ones may still refuse for a moment.
                    std::thread::sleep(pause.min(deadline.duration_since(Instant::now())));
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }

    /// The processes in it and below it; none if it is gone.
    pub fn procs(&self) -> Result<Vec<Pid>> {
        let Some(h) = self.main() else {
            return Ok(Vec::new());
        };
        let mut pids = Vec::new();
        let mut left = vec![self.path_in(h).to_owned()];
        while let Some(path) = left.pop() {
            match io::read(h, &path, "cgroup.procs") {
                Ok(text) => pids.extend(
                    text.lines()
                        .filter_map(|l| l.parse().ok())
                        .map(Pid::from_raw),
                ),
                // ENODEV: removed between open and read. EOPNOTSUPP: a threaded
                // cgroup, whose processes its domain lists.
                Err(e) => match e.errno() {
                    Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => {}
                    _ => return Err(e),
                },
            }
            left.extend(io::children(h, &path)?);
        }
        Ok(pids)
    }
}

/// The cgroup, or a file of it.
fn is_gone(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno::ENOENT | Errno::ENODEV))
}

/// rmdir, and only if that is refused, of what is below it too.
fn remove_tree(h: &Hierarchy, path: &str) -> Result<()> {
    let call = || format!("rmdir({:?})", h.point().join(path));
    let rmdir = || match unlinkat(h, path, UnlinkatFlags::RemoveDir).traced(call) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    };
    let error = |e| Error::sys(call(), e);
    match rmdir() {
        Err(Errno::EBUSY) => {}
        other => return other.map_err(error),
    }
    for child in io::children(h, path)? {
        remove_tree(h, &child)?;
    }
    rmdir().map_err(error)
}
