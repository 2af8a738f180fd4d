//! Control groups: one path in all the hierarchies that a container needs.
//!
//! Owns the directory of that path in each hierarchy, its limits, its accounts, its
//! death and its removal, on pure v2, hybrid and pure v1 alike ([`hierarchy`]).
//! Limits come as [`Resources`]; they are planned as data first (`v1::plan`,
//! `v2::plan`, [`devices`]) and then written. [`Place`] says where the cgroup is.
//!
//! The life of a container's cgroup:
//! 1. [`Cgroup::create`] (or [`Cgroup::create_fresh`], which refuses one in use)
//!    makes the directories and switches controllers on.
//! 2. [`Cgroup::apply`] writes limits and device rules, before any process is in
//!    it: v1's device rules pass through intermediate states.
//! 3. [`Cgroup::join_plan`] opens what the child needs. The parent gives
//!    [`Join::v2_fd`] to `clone3(CLONE_INTO_CGROUP)`; the child, while it has one
//!    thread, calls [`Join::enter`].
//! 4. [`Cgroup::pause`], [`Cgroup::resume`], [`Cgroup::stat`], [`Cgroup::accounts`].
//! 5. [`Cgroup::kill`], then [`Cgroup::remove`].
//!
//! Never mounts a hierarchy, never moves a process of another program, never
//! removes a cgroup above its path.

mod accounts;
mod apply;
pub(crate) mod devices;
mod end;
pub(crate) mod hierarchy;
mod io;
mod measure;
mod owner;
mod place;
pub(crate) mod resources;
pub(crate) mod systemd;
pub(crate) mod v1;
pub(crate) mod v2;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, write};

pub(crate) use accounts::*;
pub(crate) use devices::{Access, DeviceKind, DeviceRule, default_device_rules};
pub(crate) use hierarchy::{Controllers, Hierarchies, Hierarchy, Select};
pub(crate) use measure::{OomEvents, page_sizes};
pub(crate) use place::Place;
pub(crate) use resources::{HugepageLimit, Limit, Resources};
pub(crate) use v2::weight_from_shares;

use crate::{Call, Context, Error, Kind, Result};

/// A cgroup of ours; see the module's head. Holds no fds of its own.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    place: Place,
    set: Controllers,
}

/// What a process needs to get into a cgroup. Close-on-exec throughout.
#[derive(Debug)]
pub struct Join {
    hierarchies: Hierarchies,
    set: Controllers,
    v2: Option<OwnedFd>,
    v1: Vec<(String, OwnedFd)>,
}

impl Join {
    /// Of a process that another program puts into every hierarchy: nothing is left
    /// for it to do.
    pub fn done_by_another(h: &Hierarchies) -> Join {
        Join {
            hierarchies: h.clone(),
            set: h.resolve(Select::All),
            v2: None,
            v1: Vec::new(),
        }
    }

    /// For `clone3(CLONE_INTO_CGROUP)`: the v2 directory, also on hybrid.
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// What [`Join::enter`] writes to.
    pub fn v1_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.v1.iter().map(|(_, fd)| fd.as_fd())
    }

    /// The machine's hierarchies, as they were found for this cgroup.
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// The v1 hierarchies that the process is put into: what it may see of its own.
    /// In any other, the root of its cgroup namespace is the host's.
    pub fn joined_v1(&self) -> impl Iterator<Item = &Hierarchy> {
        let joined = |h: &&Hierarchy| h.controllers().meets(self.set);
        self.hierarchies.v1().iter().filter(joined)
    }

    /// Called in the child after the clone, while it has a single thread: moves
    /// it into the v1 cgroups.
    ///
    /// Through `tasks`, which moves one thread, not `cgroup.procs`: the latter
    /// takes the write side of `cgroup_threadgroup_rwsem` and so waits for an RCU
    /// grace period, 7 to 9 ms on a machine that was idle, against 0.3.
    pub fn enter(&self) -> Result<()> {
        self.write_tasks("0")
    }

    /// The same for another process, that has one thread and is in the v2 cgroup
    /// already: systemd has put it there.
    pub fn put(&self, pid: Pid) -> Result<()> {
        self.write_tasks(&pid.to_string())
    }

    fn write_tasks(&self, pid: &str) -> Result<()> {
        for (file, fd) in &self.v1 {
            write(fd, pid.as_bytes())
                .call(|| format!("write({file:?}, {pid:?})"))
                .map_err(|e| match e.errno() {
                    Some(Errno::ENOSPC) => e.hint("the cpuset has no cpus or mems"),
                    // cpu.rt_runtime_us of the new group is 0.
                    Some(Errno::EINVAL) if file.contains("/cpu") => e.hint(
                        "a real-time process can only be in a group with real-time bandwidth",
                    ),
                    _ => e,
                })?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// Makes the cgroup, and those above it that are missing, in every hierarchy
    /// that `select` means. Finding it there already is no error. `path` is
    /// relative, as in `carob/pod<uid>/app`.
    pub fn create(h: &Hierarchies, path: &str, select: Select) -> Result<Cgroup> {
        let cgroup = Cgroup::new(h, Place::new(path)?, select)?;
        cgroup.make().map(|_| cgroup)
    }

    /// As [`Self::create`], for a container that shall have it alone: a cgroup that
    /// is there already must hold no process, and neither it nor one above it may be
    /// frozen ([`Kind::Conflict`]).
    pub fn create_fresh(h: &Hierarchies, place: &Place, select: Select) -> Result<Cgroup> {
        let cgroup = Cgroup::new(h, place.clone(), select)?;
        cgroup.refuse_frozen()?;
        if cgroup.make()? {
            return Ok(cgroup);
        }
        let conflict = |what: String| {
            Err(Error::conflict(what).push_context(format!("cgroup {}", cgroup.path())))
        };
        match cgroup.procs()?.len() {
            0 => Ok(cgroup),
            n => conflict(format!(
                "the container's cgroup is not empty: {n} process(es) found"
            )),
        }
    }

    /// As [`Self::create`], by place: for the scope that systemd has made, which has
    /// processes.
    pub fn create_at(h: &Hierarchies, place: &Place, select: Select) -> Result<Cgroup> {
        let cgroup = Cgroup::new(h, place.clone(), select)?;
        cgroup.make().map(|_| cgroup)
    }

    /// Says whether it is new in the first hierarchy.
    fn make(&self) -> Result<bool> {
        let mut new = None;
        let made = (|| {
            let mut fresh_cpuset = false;
            for h in self.joined() {
                let made = make_dirs(h, self.path_in(h))?;
                fresh_cpuset |= made && h.controllers().meets(Controllers::CPUSET);
                new.get_or_insert(made);
            }
            if let Some(v2) = self.hierarchies.v2() {
                // On hybrid, a limit that needs one switches it on.
                let wanted = match self.hierarchies.is_pure_v2() {
                    true => self.set,
                    false => Controllers::NONE,
                };
                v2::enable(v2, self.path_in(v2), wanted)?;
            }
            match self.v1_with(Controllers::CPUSET) {
                Some(h) => v1::fill_cpuset(h, self.path_in(h), fresh_cpuset),
                None => Ok(()),
            }
        })();
        if let Err(e) = made {
            if new == Some(true) {
                self.remove_if_empty();
            }
            return Err(e.push_context(format!("create cgroup {}", self.path())));
        }
        Ok(new.unwrap_or(true))
    }

    /// The cgroup if any hierarchy that `select` means has it.
    pub fn open(h: &Hierarchies, path: &str, select: Select) -> Result<Option<Cgroup>> {
        Cgroup::open_at(h, &Place::new(path)?, select)
    }

    /// As [`Self::open`], by place.
    pub fn open_at(h: &Hierarchies, place: &Place, select: Select) -> Result<Option<Cgroup>> {
        let cgroup = Cgroup::new(h, place.clone(), select)?;
        Ok(cgroup.exists().then_some(cgroup))
    }

    /// The cgroup at that place without a look whether it is there: for ending what
    /// a record tells of.
    pub fn at(h: &Hierarchies, place: &Place, select: Select) -> Result<Cgroup> {
        Cgroup::new(h, place.clone(), select)
    }

    fn new(h: &Hierarchies, place: Place, select: Select) -> Result<Cgroup> {
        place.check()?;
        Ok(Cgroup {
            hierarchies: h.clone(),
            place,
            set: h.resolve(select),
        })
    }

    /// The path in most hierarchies; see [`Place`].
    pub fn path(&self) -> &str {
        self.place.path()
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A cgroup below this one; it is not made.
    pub fn below(&self, path: &str) -> Result<Cgroup> {
        Ok(Cgroup {
            place: self.place.join(path)?,
            ..self.clone()
        })
    }

    /// As [`Self::below`] in some of the hierarchies, each by a controller of it (or by
    /// `name=NAME`), and the same as this one in the others.
    pub fn below_each(&self, parts: &[(&str, &str)]) -> Result<Cgroup> {
        let mut cgroup = self.clone();
        for (controller, path) in parts {
            let mut all = self.joined();
            let found = all.find(|h| {
                let mut names = h.list().split(',');
                names.any(|name| name == *controller && !name.is_empty())
            });
            let h = found.ok_or_else(|| {
                Error::invalid(format!("unknown controller {controller:?}"))
                    .hint("/proc/self/cgroup lists those of v1")
            })?;
            let below = path.trim_matches('/');
            let path = match below.is_empty() {
                true => self.path_in(h).to_owned(),
                false => format!("{}/{below}", self.path_in(h)),
            };
            let before = cgroup.path_in(h);
            if before != self.path_in(h) && before != path {
                return Err(Error::invalid(format!(
                    "the controllers {} are in one hierarchy, and a process is in one cgroup of it",
                    h.list()
                )));
            }
            cgroup.place = cgroup.place.moved(h, path)?;
        }
        Ok(cgroup)
    }

    fn path_in(&self, h: &Hierarchy) -> &str {
        self.place.path_in(h)
    }

    /// The directory in the v2 hierarchy, for what has to name it (`podman`, an
    /// error's text); on pure v1 in the first hierarchy joined.
    pub fn directory(&self) -> Option<std::path::PathBuf> {
        let h = self.main()?;
        Some(h.point().join(self.path_in(h)))
    }

    /// Where it is in each hierarchy, by the controllers' list as /proc/self/cgroup
    /// has it (empty for v2): what runc's state calls `cgroup_paths`.
    pub fn directories(&self) -> Vec<(&str, std::path::PathBuf)> {
        let place = |h: &Hierarchy| h.point().join(self.path_in(h));
        self.joined().map(|h| (h.list(), place(h))).collect()
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
            .with_context(|| format!("set limits of cgroup {}", self.path()))
    }

    /// Opens what a process needs to get in.
    pub fn join_plan(&self) -> Result<Join> {
        let v2 = self.hierarchies.v2();
        let open = |h| io::open_dir(h, self.path_in(h), OFlag::O_PATH);
        self.join_through(v2.map(open).transpose()?)
    }

    /// The same for a further process of a container, in v2 where `init` is now. A
    /// container that manages cgroups itself may have moved it, and may have enabled
    /// controllers for cgroups below its own: then no process can be in its own (EBUSY).
    pub fn join_plan_beside(&self, init: Pid) -> Result<Join> {
        let mut v2 = None;
        if let Some(h) = self.hierarchies.v2() {
            let file = format!("/proc/{init}/cgroup");
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
            let line = text.lines().find_map(|l| l.strip_prefix("0::/"));
            let path = line.ok_or_else(|| Error::failed(format!("{file}: has no v2 cgroup")))?;
            v2 = Some(io::open_dir(h, path, OFlag::O_PATH)?);
        }
        self.join_through(v2)
    }

    fn join_through(&self, v2: Option<OwnedFd>) -> Result<Join> {
        let mut join = Join {
            hierarchies: self.hierarchies.clone(),
            set: self.set,
            v1: Vec::new(),
            v2,
        };
        for h in self.joined().skip(join.v2.is_some() as usize) {
            let path = self.path_in(h);
            let file = io::full(h, path, "tasks").display().to_string();
            join.v1.push((file, io::open_write(h, path, "tasks")?));
        }
        Ok(join)
    }
}

/// mkdir of the last part first: the parents are there nearly always. Says whether
/// it is new.
fn make_dirs(h: &Hierarchy, path: &str) -> Result<bool> {
    let call = || format!("mkdir({:?}, 0755)", h.point().join(path));
    let make = || match mkdirat(h, path, Mode::from_bits_truncate(0o755)).traced(call) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(e) => Err(e),
    };
    match make() {
        Err(Errno::ENOENT) if path.contains('/') => {
            let (parent, _) = path.rsplit_once('/').unwrap_or_default();
            make_dirs(h, parent)?;
            make()
        }
        other => other,
    }
    .map_err(|e| mkdir_error(h, path, e))
}

fn mkdir_error(h: &Hierarchy, path: &str, e: Errno) -> Error {
    let error = Error::sys(format_args!("mkdir({:?}, 0755)", h.point().join(path)), e);
    match e {
        Errno::EROFS => error.hint(hierarchy::read_only_hint(h.point())),
        // The kernel's own memory for it is charged to the cgroup above.
        Errno::ENOMEM => error.hint(
            "the memory limit of a cgroup above leaves no room for another: raise it (of a Pod: \
             resources.limits.memory, such as 64Mi)",
        ),
        Errno::EACCES | Errno::EPERM => error.with_kind(Kind::Permission),
        Errno::EAGAIN => {
            error.hint("cgroup.max.descendants or cgroup.max.depth above it is reached")
        }
        _ => error,
    }
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
