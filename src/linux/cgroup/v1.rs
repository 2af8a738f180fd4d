//! What is particular to cgroup v1: the limit files' names and order, the
//! freezer, the out-of-memory event.
//!
//! Documentation/admin-guide/cgroup-v1/{memory,cpusets,freezer-subsystem}.rst.

use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::hierarchy::{Controllers, Hierarchy};
use super::resources::{Absent, Io, Limit, Resources, ThrottleOf, Write};
use super::{OomEvents, io};
use crate::{Error, Result};

impl Limit {
    pub(super) fn v1(self) -> String {
        match self {
            Limit::Max => "-1".to_owned(),
            Limit::At(n) => n.to_string(),
        }
    }
}

/// The writes for these limits. Their order serves a fresh cgroup; [`super::apply`]
/// finds the one that an update needs.
pub(crate) fn plan(r: &Resources) -> Vec<Write> {
    use Controllers as C;
    let mut w = Vec::with_capacity(16);
    let mut add = |write: Write| w.push(write);
    // An idle group takes no shares, so that it has to be one no longer, first.
    if r.cpu_idle == Some(false) {
        add(Write::new(C::CPU, "cpu.idle", 0).or(Absent::Skip));
    }
    if let (Some(shares), true) = (r.cpu_shares, r.cpu_idle != Some(true)) {
        add(Write::new(C::CPU, "cpu.shares", shares));
    }
    if let Some(period) = r.cpu_period_us {
        add(Write::new(C::CPU, "cpu.cfs_period_us", period));
    }
    if let Some(quota) = r.cpu_quota_us {
        add(Write::new(C::CPU, "cpu.cfs_quota_us", quota.v1()));
    }
    if let Some(burst) = r.cpu_burst_us {
        add(Write::new(C::CPU, "cpu.cfs_burst_us", burst));
    }
    if let Some(period) = r.cpu_rt_period_us {
        add(Write::new(C::CPU, "cpu.rt_period_us", period));
    }
    if let Some(runtime) = r.cpu_rt_runtime_us {
        add(Write::new(C::CPU, "cpu.rt_runtime_us", runtime));
    }
    if r.cpu_idle == Some(true) {
        add(Write::new(C::CPU, "cpu.idle", 1));
    }
    if let Some(cpus) = &r.cpuset_cpus {
        add(Write::new(C::CPUSET, "cpuset.cpus", cpus));
    }
    if let Some(mems) = &r.cpuset_mems {
        add(Write::new(C::CPUSET, "cpuset.mems", mems));
    }
    memory(r, &mut add);
    if let Some(pids) = r.pids_max {
        add(Write::new(C::PIDS, "pids.max", pids.v2()));
    }
    io_writes(&r.io, &mut add);
    for page in &r.hugepages {
        let file = |middle: &str| format!("hugetlb.{}{middle}.limit_in_bytes", page.page_size);
        add(Write::new(C::HUGETLB, file(""), page.limit.v1()));
        add(Write::new(C::HUGETLB, file(".rsvd"), page.limit.v1()).or(Absent::Skip));
    }
    if let Some(class) = r.net_class {
        add(Write::new(C::NET_CLS, "net_cls.classid", class));
    }
    for (interface, priority) in &r.net_priorities {
        let value = format!("{interface} {priority}");
        add(Write::new(C::NET_PRIO, "net_prio.ifpriomap", value));
    }
    for limit in &r.rdma {
        add(Write::new(C::RDMA, "rdma.max", limit.line()));
    }
    w
}

fn memory(r: &Resources, add: &mut impl FnMut(Write)) {
    const C: Controllers = Controllers::MEMORY;
    if let Some(max) = r.memory_max {
        add(Write::new(C, "memory.limit_in_bytes", max.v1()));
    }
    if let Some(low) = r.memory_reservation {
        add(Write::new(C, "memory.soft_limit_in_bytes", low.v1()));
    }
    // v1 counts memory and swap together.
    let sum = match (r.memory_and_swap_max, r.memory_swap_max, r.memory_max) {
        (Some(sum), _, _) => Some(sum),
        (None, Some(Limit::At(swap)), Some(Limit::At(max))) => {
            Some(Limit::At(max.saturating_add(swap).min(i64::MAX as u64)))
        }
        // Without a memory limit there is no sum that would bound the swap.
        (None, Some(Limit::At(_)), _) => None,
        (None, swap, _) => swap,
    };
    if let Some(sum) = sum {
        add(Write::new(C, "memory.memsw.limit_in_bytes", sum.v1()));
    }
    if let Some(swappiness) = r.memory_swappiness {
        add(Write::new(C, "memory.swappiness", swappiness));
    }
    if r.oom_kill_disable {
        add(Write::new(C, "memory.oom_control", 1));
    }
}

/// The weights are the BFQ scheduler's since Linux 5.0, were CFQ's before.
fn io_writes(io: &Io, add: &mut impl FnMut(Write)) {
    let mut weight = |bfq: &'static str, cfq: &'static str, value: String| {
        let other = Absent::Instead(cfq, value.clone());
        add(Write::new(Controllers::IO, bfq, value).or(other));
    };
    const DEVICE: &str = "blkio.weight_device";
    const LEAF_DEVICE: &str = "blkio.leaf_weight_device";
    if let Some(n) = io.weight {
        weight("blkio.bfq.weight", "blkio.weight", n.to_string());
    }
    if let Some(n) = io.leaf_weight {
        weight("blkio.bfq.leaf_weight", "blkio.leaf_weight", n.to_string());
    }
    for d in &io.devices {
        let line = |n: u16| format!("{}:{} {n}", d.major, d.minor);
        if let Some(n) = d.weight {
            weight("blkio.bfq.weight_device", DEVICE, line(n));
        }
        if let Some(n) = d.leaf_weight {
            weight("blkio.bfq.leaf_weight_device", LEAF_DEVICE, line(n));
        }
    }
    for t in &io.throttles {
        let file = match t.of {
            ThrottleOf::ReadBytes => "blkio.throttle.read_bps_device",
            ThrottleOf::WriteBytes => "blkio.throttle.write_bps_device",
            ThrottleOf::ReadOperations => "blkio.throttle.read_iops_device",
            ThrottleOf::WriteOperations => "blkio.throttle.write_iops_device",
        };
        let value = format!("{}:{} {}", t.major, t.minor, t.rate);
        add(Write::new(Controllers::IO, file, value));
    }
}

/// A cpuset is born without CPUs and memory nodes, and joining it then fails with
/// ENOSPC: give every level that has none what its parent has. What is `fresh`
/// needs no look.
pub(super) fn fill_cpuset(h: &Hierarchy, path: &str, fresh: bool) -> Result<()> {
    const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
    let read = |level: &str, file| io::read(h, level, file).map(|text| text.trim().to_owned());
    if !fresh
        && FILES
            .into_iter()
            .all(|f| read(path, f).is_ok_and(|s| !s.is_empty()))
    {
        return Ok(());
    }
    let parent = path.rsplit_once('/').map_or("", |(p, _)| p);
    for file in FILES {
        let mut above = read(parent, file)?;
        if above.is_empty() && !parent.is_empty() {
            fill_cpuset(h, parent, false)?;
            above = read(parent, file)?;
        }
        if fresh || read(path, file)?.is_empty() {
            io::write(h, path, file, &above)?;
        }
    }
    Ok(())
}

/// Stops or continues every process of the freezer cgroup.
pub(super) fn freeze(h: &Hierarchy, path: &str, on: bool) -> Result<()> {
    let state = if on { "FROZEN" } else { "THAWED" };
    io::write(h, path, "freezer.state", state)
}

/// Whether it or a cgroup above it is to stand still: freezer.state tells of both.
pub(super) fn is_stopped(h: &Hierarchy, path: &str) -> Result<bool> {
    Ok(io::read(h, path, "freezer.state")?.trim() != "THAWED")
}

/// Waits for FROZEN; says whether it came. There is no event for it. A process that
/// is made while the others stop can be missed for good, so that the request is
/// repeated, now and then from the start.
pub(super) fn wait_frozen(h: &Hierarchy, path: &str, deadline: Instant) -> Result<bool> {
    let mut pause = Duration::from_micros(20);
    for turn in 1.. {
        if io::read(h, path, "freezer.state")?.trim() == "FROZEN" {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
        if turn % 25 == 0 {
            freeze(h, path, false)?;
        }
        freeze(h, path, true)?;
    }
    Ok(false)
}

/// An eventfd that counts out-of-memory situations in this cgroup (and becomes
/// readable once more when the cgroup is removed).
pub(super) fn oom_events(h: &Hierarchy, path: &str) -> Result<OomEvents> {
    use std::os::fd::AsRawFd;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|e| Error::sys("eventfd2(0, EFD_CLOEXEC|EFD_NONBLOCK)", e))?;
    let control = io::open_read(h, path, "memory.oom_control")?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    io::write(h, path, "cgroup.event_control", &line)?;
    Ok(OomEvents::Counter(event.into()))
}
