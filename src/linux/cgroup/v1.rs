//! What is particular to cgroup v1: the limit files' names and order, the
//! freezer, the out-of-memory event.
//!
//! Documentation/admin-guide/cgroup-v1/{memory,cpusets,freezer-subsystem}.rst.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::hierarchy::{Controllers, Hierarchy};
use super::io;
use super::resources::{Limit, Resources, Write};
use crate::{Error, Kind, Result};

impl Limit {
    fn v1(self) -> String {
        match self {
            Limit::Max => "-1".to_owned(),
            Limit::At(n) => n.to_string(),
        }
    }
}

/// The writes for these limits, in the order the kernel accepts them.
pub(super) fn plan(r: &Resources) -> Vec<Write> {
    use Controllers as C;
    let mut w = Vec::with_capacity(8);
    let mut add = |controller, file, value| w.push(Write::new(controller, file, value));
    if let Some(shares) = r.cpu_shares {
        add(C::CPU, "cpu.shares", shares.to_string());
    }
    // The period first: the kernel judges a quota by the period that stands.
    if let Some(period) = r.cpu_period_us {
        add(C::CPU, "cpu.cfs_period_us", period.to_string());
    }
    if let Some(quota) = r.cpu_quota_us {
        add(C::CPU, "cpu.cfs_quota_us", quota.v1());
    }
    if let Some(cpus) = &r.cpuset_cpus {
        add(C::CPUSET, "cpuset.cpus", cpus.clone());
    }
    if let Some(mems) = &r.cpuset_mems {
        add(C::CPUSET, "cpuset.mems", mems.clone());
    }
    if let Some(max) = r.memory_max {
        add(C::MEMORY, "memory.limit_in_bytes", max.v1());
    }
    if let Some(low) = r.memory_reservation {
        add(C::MEMORY, "memory.soft_limit_in_bytes", low.v1());
    }
    // v1 counts memory and swap together.
    match (r.memory_swap_max, r.memory_max) {
        (Some(Limit::Max), _) => add(C::MEMORY, "memory.memsw.limit_in_bytes", "-1".to_owned()),
        (Some(Limit::At(swap)), Some(Limit::At(max))) => {
            let sum = max.saturating_add(swap).min(i64::MAX as u64);
            add(C::MEMORY, "memory.memsw.limit_in_bytes", sum.to_string());
        }
        // Without a memory limit there is no sum that would bound the swap.
        (Some(Limit::At(_)), _) | (None, _) => {}
    }
    if let Some(pids) = r.pids_max {
        let value = match pids {
            Limit::Max => "max".to_owned(),
            Limit::At(n) => n.to_string(),
        };
        add(C::PIDS, "pids.max", value);
    }
    w
}

/// A cpuset is born without CPUs and memory nodes, and joining it then fails with
/// ENOSPC: give every level that has none what its parent has.
pub(super) fn fill_cpuset(h: &Hierarchy, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
    let mut parent = String::new();
    for end in ends {
        let level = &path[..end];
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if io::read(h, level, file)?.trim().is_empty() {
                let above = io::read(h, &parent, file)?;
                io::write(h, level, file, above.trim())?;
            }
        }
        parent = level.to_owned();
    }
    Ok(())
}

/// Stops or continues every process of the freezer cgroup.
pub(super) fn freeze(h: &Hierarchy, path: &str, on: bool) -> Result<()> {
    let state = if on { "FROZEN" } else { "THAWED" };
    io::write(h, path, "freezer.state", state)
}

/// An eventfd that counts out-of-memory situations in this cgroup (and becomes
/// readable once more when the cgroup is removed).
pub(super) fn oom_event_fd(h: &Hierarchy, path: &str) -> Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|e| Error::sys("eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)", e))?;
    let control = io::open_read(h, path, "memory.oom_control")?;
    let mut line = String::new();
    let _ = write!(line, "{} {}", event.as_raw_fd(), control.as_raw_fd());
    io::write(h, path, "cgroup.event_control", &line)?;
    Ok(event.into())
}

/// Memory before memory+swap when lowering, the other way round when raising:
/// the kernel refuses a memory limit above the sum's with EINVAL.
pub(super) fn apply(
    h: &Hierarchy,
    path: &str,
    writes: &[&Write],
    no_swap: impl Fn() -> bool,
) -> Result<()> {
    let mut again: Option<&Write> = None;
    for w in writes {
        match io::write(h, path, w.file, &w.value) {
            Ok(()) => {}
            Err(e)
                if w.file == "memory.limit_in_bytes"
                    && e.errno() == Some(Errno::EINVAL)
                    && writes.iter().any(|w| w.file.contains("memsw")) =>
            {
                again = Some(w);
            }
            Err(e) if w.file.contains("memsw") && e.errno() == Some(Errno::ENOENT) => {
                if !no_swap() {
                    return Err(e
                        .with_kind(Kind::Unsupported)
                        .hint("the kernel does not account swap: boot it with swapaccount=1"));
                }
            }
            Err(e) => return Err(e),
        }
    }
    match again {
        Some(w) => io::write(h, path, w.file, &w.value),
        None => Ok(()),
    }
}
