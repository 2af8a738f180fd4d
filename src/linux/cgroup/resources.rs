//! A container's limits, and the way they get to the right hierarchy.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::devices::{self, DeviceRule};
use super::hierarchy::{Controllers, Hierarchy};
use super::{Cgroup, io, missing, v1, v2};
use crate::{Error, Kind, Result};

/// A limit that can be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Max,
    At(u64),
}

/// OCI and CRI write "no limit" as -1 (any negative number).
impl From<i64> for Limit {
    fn from(n: i64) -> Self {
        u64::try_from(n).map_or(Limit::Max, Limit::At)
    }
}

/// What a cgroup is limited to; `None` leaves things as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Weight among siblings: v1's scale, 2 to 262144, usually 1024 for a CPU
    /// (see [`super::weight_from_shares`] for v2).
    pub cpu_shares: Option<u64>,
    /// CPU time per period, microseconds.
    pub cpu_quota_us: Option<Limit>,
    /// Microseconds, 1000 to 1000000.
    pub cpu_period_us: Option<u64>,
    /// As in `0-3,5`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes.
    pub memory_max: Option<Limit>,
    /// Bytes that are reclaimed last: v2 memory.low, v1 soft limit.
    pub memory_reservation: Option<Limit>,
    /// Bytes of swap alone, not memory and swap together as OCI has it. On v1 it
    /// needs `memory_max`, because the kernel there limits the sum.
    pub memory_swap_max: Option<Limit>,
    /// Out of memory, kill all of it or one process. v1 always kills one.
    pub oom_group: Option<bool>,
    pub pids_max: Option<Limit>,
    /// Who may make and open which device; empty leaves the rules alone.
    pub devices: Vec<DeviceRule>,
    /// Files of v2 and their values, written as they are after all else: OCI's
    /// `unified`.
    pub unified: Vec<(String, String)>,
}

/// One write of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub controller: Controllers,
    pub file: &'static str,
    pub value: String,
}

impl Write {
    pub fn new(controller: Controllers, file: &'static str, value: String) -> Self {
        Write {
            controller,
            file,
            value,
        }
    }

    /// v2 names a file after its controller.
    fn controller_name(&self) -> &'static str {
        self.file.split('.').next().unwrap_or(self.file)
    }
}

impl Cgroup {
    pub(super) fn apply_all(&self, r: &Resources) -> Result<()> {
        let v2 = self.hierarchies.v2();
        let completed;
        let new = match v2 {
            Some(h) if self.v1_with(Controllers::CPU).is_none() => {
                completed = v2::complete(h, &self.path, r)?;
                v2::plan(&completed)
            }
            _ => v2::plan(r),
        };
        let old = v1::plan(r);
        let joined_v1 = self.joined().skip(v2.is_some() as usize);
        for h in joined_v1 {
            let here: Vec<_> = old
                .iter()
                .filter(|w| h.controllers().meets(w.controller))
                .collect();
            v1::apply(h, &self.path, &here, || no_swap_to_limit(r)).map_err(explain)?;
        }
        for w in new.iter().filter(|w| self.v1_with(w.controller).is_none()) {
            let Some(h) = v2.filter(|h| h.controllers().meets(w.controller)) else {
                let name = w.controller_name();
                // The v1 hierarchy is there, but this cgroup was made without it.
                return Err(missing(name, self.why_not(w.controller).as_deref()));
            };
            match io::write(h, &self.path, w.file, &w.value) {
                Ok(()) => {}
                Err(e) if e.errno() == Some(Errno::ENOENT) && self.exists() => {
                    if !(w.file == "memory.swap.max" && no_swap_to_limit(r)) {
                        return Err(not_switched_on(h, &self.path, w, e));
                    }
                }
                Err(e) => return Err(explain(e)),
            }
        }
        self.apply_devices(&r.devices)?;
        self.apply_unified(&r.unified)
    }

    fn apply_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        if let Some(h) = self.v1_with(Controllers::DEVICES) {
            // One open serves a run of writes to the same file.
            let mut open: Option<(&str, _)> = None;
            for (file, text) in devices::plan_v1(rules) {
                let fd = match open.take() {
                    Some((name, fd)) if name == file => fd,
                    _ => io::open_write(h, &self.path, file)?,
                };
                nix::unistd::write(&fd, text.as_bytes()).map_err(|e| {
                    let file = io::full(h, &self.path, file);
                    let error = Error::sys(format_args!("write({file:?}, {text:?})"), e);
                    match e {
                        Errno::EPERM => error.hint("the cgroup above it denies this device"),
                        _ => error,
                    }
                })?;
                open = Some((file, fd));
            }
            return Ok(());
        }
        match self.hierarchies.v2() {
            Some(h) => {
                use std::os::fd::AsFd;
                let dir = io::open_dir(h, &self.path, OFlag::O_RDONLY)?;
                devices::apply_v2(dir.as_fd(), rules)
            }
            None => Err(missing(
                "devices",
                self.why_not(Controllers::DEVICES).as_deref(),
            )),
        }
    }

    fn apply_unified(&self, writes: &[(String, String)]) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let Some(h) = self.hierarchies.v2() else {
            return Err(Error::unsupported("unified: no cgroup v2 hierarchy here"));
        };
        for (file, value) in writes {
            if file.contains('/') || file.is_empty() {
                return Err(Error::invalid(format!(
                    "unified: {file:?}: has to be a file name, without a slash"
                )));
            }
            io::write(h, &self.path, file, value).map_err(|e| match e.errno() {
                Some(Errno::ENOENT) => e.with_kind(Kind::Unsupported),
                _ => explain(e),
            })?;
        }
        Ok(())
    }

    fn why_not(&self, controller: Controllers) -> Option<String> {
        let h = self.hierarchies.v1_with(controller)?;
        let point = h.point().display();
        Some(format!(
            "{point} has it, but this cgroup was made without it"
        ))
    }
}

/// A limit on swap is kept by itself where there is no swap.
fn no_swap_to_limit(r: &Resources) -> bool {
    let none = || std::fs::read_to_string("/proc/swaps").is_ok_and(|s| s.lines().count() <= 1);
    r.memory_swap_max == Some(Limit::Max) || none()
}

fn explain(e: Error) -> Error {
    match e.errno() {
        Some(Errno::EBUSY) => e.hint("more is in use already, or a process is where none may be"),
        Some(Errno::EINVAL | Errno::ERANGE) => e.with_kind(Kind::Invalid),
        Some(Errno::EACCES | Errno::EPERM) => e.with_kind(Kind::Permission),
        _ => e,
    }
}

fn not_switched_on(h: &Hierarchy, path: &str, w: &Write, e: Error) -> Error {
    let name = w.controller_name();
    // cpu.max exists from the controller on; the controller's other files may
    // need more of the kernel.
    let probe = match name {
        "memory" => "memory.max",
        "cpu" => "cpu.weight",
        _ => w.file,
    };
    let file = |f: &str| Path::new(h.point()).join(path).join(f);
    if file(probe).exists() {
        let hint = match w.file {
            "memory.swap.max" => "boot the kernel with swapaccount=1, or without swap",
            _ => "the kernel was built without it, or is too old",
        };
        return e.with_kind(Kind::Unsupported).hint(hint);
    }
    let parent = Path::new(path).parent().unwrap_or(Path::new(""));
    let parent = h.point().join(parent).join("cgroup.subtree_control");
    let hint = format!(
        "switch it on: echo +{name} > {}, and above",
        parent.display()
    );
    missing(name, Some(&hint))
}
