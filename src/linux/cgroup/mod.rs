//! Control groups: one path in all the hierarchies that a container needs.
//!
//! Owns the directory of that path in each hierarchy, its limits, its death and
//! its removal, on pure v2, hybrid and pure v1 alike ([`hierarchy`]). Limits are
//! planned as data first (`v1::plan`, `v2::plan`, [`devices`]) and then written.
//!
//! The life of a container's cgroup:
//! 1. [`Cgroup::create`] makes the directories and switches controllers on.
//! 2. [`Cgroup::apply`] writes limits and device rules, before any process is in
//!    it: v1's device rules pass through intermediate states.
//! 3. [`Cgroup::join_plan`] opens what the child needs. The parent gives
//!    [`Join::v2_fd`] to `clone3(CLONE_INTO_CGROUP)`; the child, while it has one
//!    thread, calls [`Join::enter`].
//! 4. [`Cgroup::kill`], then [`Cgroup::remove`].
//!
//! Never mounts a hierarchy, never moves a process of another program, never
//! removes a cgroup above its path.

pub mod devices;
pub mod hierarchy;
mod io;
mod resources;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat, write};

pub use devices::{Access, DeviceKind, DeviceRule, default_device_rules};
pub use hierarchy::{Controllers, Hierarchies, Hierarchy, Select};
pub use resources::{Limit, Resources};
pub use v2::weight_from_shares;

use crate::{Context, Error, Kind, Result};

/// How long [`Cgroup::remove`] waits for processes that are on their way out.
const REMOVE_WITHIN: Duration = Duration::from_secs(2);

/// A cgroup of ours; see the module's head. Holds no fds of its own.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: String,
    set: Controllers,
}

/// What a process needs to get into a cgroup. Close-on-exec throughout.
#[derive(Debug)]
pub struct Join {
    v2: Option<OwnedFd>,
    v1: Vec<(String, OwnedFd)>,
}

impl Join {
    /// For `clone3(CLONE_INTO_CGROUP)`: the v2 directory, also on hybrid.
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Called in the child after the clone, while it has a single thread: moves
    /// it into the v1 cgroups.
    ///
    /// Through `tasks`, which moves one thread, not `cgroup.procs`: the latter
    /// takes the write side of `cgroup_threadgroup_rwsem` and so waits for an RCU
    /// grace period, 7 to 9 ms on a machine that was idle, against 0.3.
    pub fn enter(&self) -> Result<()> {
        for (file, fd) in &self.v1 {
            write(fd, b"0").map_err(|e| {
                let error = Error::sys(format_args!("write({file:?}, \"0\")"), e);
                match e {
                    Errno::ENOSPC => error.hint("the cpuset has no cpus or mems"),
                    _ => error,
                }
            })?;
        }
        Ok(())
    }
}

/// A cgroup's accounts; a value is missing where its controller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes.
    pub memory_current: Option<u64>,
    /// Bytes, the highest so far.
    pub memory_peak: Option<u64>,
    /// Nanoseconds, user and system.
    pub cpu_usage_ns: Option<u64>,
    pub pids_current: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Cgroup {
    /// Makes the cgroup, and those above it that are missing, in every hierarchy
    /// that `select` means. Finding it there already is no error. `path` is
    /// relative, as in `carob/pod<uid>/app`.
    pub fn create(h: &Hierarchies, path: &str, select: Select) -> Result<Cgroup> {
        let cgroup = Cgroup::new(h, path, select)?;
        let made = (|| {
            for h in cgroup.joined() {
                make_dirs(h, path)?;
            }
            if let Some(v2) = h.v2() {
                v2::enable(v2, path, cgroup.set)?;
            }
            match cgroup.v1_with(Controllers::CPUSET) {
                Some(cpuset) => v1::fill_cpuset(cpuset, path),
                None => Ok(()),
            }
        })();
        made.with_context(|| format!("create cgroup {path}"))?;
        Ok(cgroup)
    }

    /// The cgroup if any hierarchy that `select` means has it.
    pub fn open(h: &Hierarchies, path: &str, select: Select) -> Result<Option<Cgroup>> {
        let cgroup = Cgroup::new(h, path, select)?;
        Ok(cgroup.exists().then_some(cgroup))
    }

    fn new(h: &Hierarchies, path: &str, select: Select) -> Result<Cgroup> {
        // The kernel would follow `..` out of our part of the tree.
        let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(['\0', '\n']);
        if path.split('/').any(bad) {
            return Err(Error::invalid(format!(
                "cgroup path {path:?}: has to be relative, without empty parts, . and .."
            )));
        }
        Ok(Cgroup {
            hierarchies: h.clone(),
            path: path.to_owned(),
            set: h.resolve(select),
        })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The directory in the v2 hierarchy, for what has to name it (`podman`, an
    /// error's text); on pure v1 in the first hierarchy joined.
    pub fn directory(&self) -> Option<std::path::PathBuf> {
        Some(self.main()?.point().join(&self.path))
    }

    /// v2 first: where it exists it knows of the processes and of their end.
    fn joined(&self) -> impl Iterator<Item = &Hierarchy> {
        let v1 = self.hierarchies.v1().iter();
        let v1 = v1.filter(|h| h.controllers().meets(self.set));
        self.hierarchies.v2().into_iter().chain(v1)
    }

    fn main(&self) -> Option<&Hierarchy> {
        self.joined().next()
    }

    fn v1_with(&self, controller: Controllers) -> Option<&Hierarchy> {
        let h = self.hierarchies.v1_with(controller)?;
        h.controllers().meets(self.set).then_some(h)
    }

    /// Writes limits and device rules; what is `None` stays as it is. See
    /// [`Resources`].
    ///
    /// A limit whose controller is missing is an error of [`Kind::Unsupported`]
    /// that names the controller and says how to get it.
    pub fn apply(&self, r: &Resources) -> Result<()> {
        self.apply_all(r)
            .with_context(|| format!("set limits of cgroup {}", self.path))
    }

    /// Opens what a process needs to get in.
    pub fn join_plan(&self) -> Result<Join> {
        let v2 = self.hierarchies.v2();
        let mut join = Join {
            v2: v2
                .map(|h| io::open_dir(h, &self.path, OFlag::O_PATH))
                .transpose()?,
            v1: Vec::new(),
        };
        for h in self.joined().skip(v2.is_some() as usize) {
            let file = io::full(h, &self.path, "tasks").display().to_string();
            join.v1
                .push((file, io::open_write(h, &self.path, "tasks")?));
        }
        Ok(join)
    }

    /// SIGKILL to every process in it and below. Does not wait for their end; a
    /// cgroup that is gone holds none.
    pub fn kill(&self) -> Result<()> {
        let doing = || format!("kill cgroup {}", self.path);
        if let Some(v2) = self.hierarchies.v2() {
            match io::write(v2, &self.path, "cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                // Gone, or a kernel before 5.14.
                Err(e) if e.errno() == Some(Errno::ENOENT) => {}
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

    fn kill_each(&self) -> Result<()> {
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
                match kill(pid, Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(Error::sys(format_args!("kill({pid}, SIGKILL)"), e)),
                }
            }
        }
    }

    /// Stops (or continues) every process in it and below.
    pub fn freeze(&self, on: bool) -> Result<()> {
        if let Some(freezer) = self.v1_with(Controllers::FREEZER) {
            return v1::freeze(freezer, &self.path, on);
        }
        match self.hierarchies.v2() {
            Some(v2) => io::write(v2, &self.path, "cgroup.freeze", if on { "1" } else { "0" }),
            None => Err(missing("freezer", None)),
        }
    }

    pub fn exists(&self) -> bool {
        let found = |h| io::open_dir(h, &self.path, OFlag::O_PATH).is_ok();
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
        Err(error.push_context(format!("remove cgroup {}", self.path)))
    }

    /// rmdir in each hierarchy, once: what has processes or children stays, and so
    /// does what somebody else is just moving into.
    pub fn remove_if_empty(&self) {
        for h in self.joined() {
            let _ = unlinkat(h, self.path.as_str(), UnlinkatFlags::RemoveDir);
        }
    }

    fn remove_in(&self, h: &Hierarchy, is_v2: bool, deadline: Instant) -> Result<()> {
        let mut pause = Duration::from_millis(1);
        loop {
            match remove_tree(h, &self.path) {
                Err(e) if e.errno() == Some(Errno::EBUSY) => {
                    if Instant::now() >= deadline {
                        return Err(e);
                    }
                    if is_v2 && !v2::wait_event(h, &self.path, "populated", 0, deadline)? {
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
        let mut left = vec![self.path.clone()];
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

    pub fn stat(&self) -> Result<Stats> {
        use Controllers as C;
        let v2 = self.hierarchies.v2();
        let number = |h: &Hierarchy, file| -> Option<u64> {
            io::read(h, &self.path, file).ok()?.trim().parse().ok()
        };
        let one = |c, old, new| match self.v1_with(c) {
            Some(h) => number(h, old),
            None => number(v2?, new),
        };
        if !self.exists() {
            return Err(Error::not_found(format!("cgroup {}: is gone", self.path)));
        }
        Ok(Stats {
            memory_current: one(C::MEMORY, "memory.usage_in_bytes", "memory.current"),
            memory_peak: one(C::MEMORY, "memory.max_usage_in_bytes", "memory.peak"),
            pids_current: one(C::PIDS, "pids.current", "pids.current"),
            // v2 keeps the account of CPU time without any controller.
            cpu_usage_ns: match self.v1_with(C::CPUACCT) {
                Some(h) => number(h, "cpuacct.usage"),
                None => v2
                    .and_then(|h| io::read(h, &self.path, "cpu.stat").ok())
                    .and_then(|text| v2::keyed(&text, "usage_usec"))
                    .map(|us| us * 1000),
            },
            oom_kills: self.oom_kills_if_known(),
        })
    }

    fn oom_kills_if_known(&self) -> Option<u64> {
        let text = match self.v1_with(Controllers::MEMORY) {
            Some(h) => io::read(h, &self.path, "memory.oom_control"),
            None => io::read(self.hierarchies.v2()?, &self.path, "memory.events"),
        };
        v2::keyed(&text.ok()?, "oom_kill")
    }

    /// How many processes were killed for want of memory; 0 where that is not
    /// accounted.
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(self.oom_kills_if_known().unwrap_or(0))
    }

    /// An fd that becomes readable when the cgroup runs out of memory, if its
    /// memory is controlled. It also does for lesser reasons (v1: the cgroup's
    /// removal; v2: any change of memory.events): then compare [`Self::oom_kills`].
    pub fn oom_event_fd(&self) -> Result<Option<OwnedFd>> {
        let fd = match (self.v1_with(Controllers::MEMORY), self.hierarchies.v2()) {
            (Some(h), _) => v1::oom_event_fd(h, &self.path),
            (None, Some(h)) => v2::oom_event_fd(h, &self.path),
            (None, None) => return Ok(None),
        };
        match fd {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.errno() == Some(Errno::ENOENT) && self.exists() => Ok(None),
            Err(e) => Err(e.push_context(format!("watch memory of cgroup {}", self.path))),
        }
    }
}

/// mkdir of the last part first: the parents are there nearly always.
fn make_dirs(h: &Hierarchy, path: &str) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    match mkdirat(h, path, mode) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(Errno::ENOENT) if path.contains('/') => {
            let (parent, _) = path.rsplit_once('/').unwrap_or_default();
            make_dirs(h, parent)?;
            match mkdirat(h, path, mode) {
                Ok(()) | Err(Errno::EEXIST) => Ok(()),
                Err(e) => Err(mkdir_error(h, path, e)),
            }
        }
        Err(e) => Err(mkdir_error(h, path, e)),
    }
}

fn mkdir_error(h: &Hierarchy, path: &str, e: Errno) -> Error {
    let error = Error::sys(format_args!("mkdir({:?}, 0755)", h.point().join(path)), e);
    match e {
        Errno::EROFS => error.hint("the cgroup filesystem is mounted read-only"),
        Errno::EACCES | Errno::EPERM => error.with_kind(Kind::Permission),
        Errno::EAGAIN => {
            error.hint("cgroup.max.descendants or cgroup.max.depth above it is reached")
        }
        _ => error,
    }
}

/// rmdir, and only if that is refused, of what is below it too.
fn remove_tree(h: &Hierarchy, path: &str) -> Result<()> {
    let rmdir = || match unlinkat(h, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    };
    let error = |e| Error::sys(format_args!("rmdir({:?})", h.point().join(path)), e);
    match rmdir() {
        Err(Errno::EBUSY) => {}
        other => return other.map_err(error),
    }
    for child in io::children(h, path)? {
        remove_tree(h, &child)?;
    }
    rmdir().map_err(error)
}

/// The error for a controller that this machine does not give.
fn missing(controller: &str, v1: Option<&str>) -> Error {
    let hint = match v1 {
        Some(hint) => hint.to_owned(),
        None => format!(
            "the kernel needs it built in and not disabled (cgroup_enable={controller} on its \
             command line), and the hierarchy mounted"
        ),
    };
    Error::unsupported(format!("no cgroup controller {controller} here")).hint(hint)
}
