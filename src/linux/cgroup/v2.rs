//! What is particular to cgroup v2: switching controllers on for children, the
//! limit files, the events. Documentation/admin-guide/cgroup-v2.rst.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::hierarchy::{Controllers, Hierarchy};
use super::resources::{Absent, Io, Limit, RdmaLimit, Resources, ThrottleOf, Write};
use super::{OomEvents, io};
use crate::{Error, Ignored, Result};

const SUBTREE: &str = "cgroup.subtree_control";

/// The controllers that are switched on for children, by the kernel's names.
const SWITCHABLE: [(&str, Controllers); 8] = [
    ("cpu", Controllers::CPU),
    ("memory", Controllers::MEMORY),
    ("pids", Controllers::PIDS),
    ("io", Controllers::IO),
    ("cpuset", Controllers::CPUSET),
    ("hugetlb", Controllers::HUGETLB),
    ("rdma", Controllers::RDMA),
    ("misc", Controllers::MISC),
];

/// Makes the controllers of `wanted` that the hierarchy has available in `path`,
/// by switching them on in every ancestor.
///
/// A parent can only have on what its own ancestors have on: where the nearest
/// one has everything, one read is enough. Otherwise from the top down. What an
/// ancestor refuses (cpu while real-time processes run, for one) is left out
/// here; the limit that needs it reports it.
pub(super) fn enable(h: &Hierarchy, path: &str, wanted: Controllers) -> Result<()> {
    let on = |level: &str| -> Result<Controllers> {
        Ok(Controllers::parse_list(&io::read(h, level, SUBTREE)?, ' '))
    };
    let wanted = wanted & h.controllers();
    let wanted = SWITCHABLE
        .iter()
        .fold(Controllers::NONE, |s, (_, c)| s | (wanted & *c));
    if wanted.is_empty() {
        return Ok(());
    }
    let parent = path.rsplit_once('/').map_or("", |(p, _)| p);
    if on(parent)?.has(wanted) {
        return Ok(());
    }
    let ends = path.match_indices('/').map(|(i, _)| i);
    for end in [0].into_iter().chain(ends) {
        let level = &path[..end];
        let missing = wanted - on(level)?;
        let names: Vec<String> = SWITCHABLE
            .iter()
            .filter(|(_, c)| missing.meets(*c))
            .map(|(name, _)| format!("+{name}"))
            .collect();
        if names.is_empty() {
            continue;
        }
        // One write is all or nothing: on a refusal, each by itself.
        if io::write(h, level, SUBTREE, &names.join(" ")).is_err() {
            for name in &names {
                io::write(h, level, SUBTREE, name)
                    .ignored("a setting that needs this controller says that it is not there");
            }
        }
    }
    Ok(())
}

/// cgroup v1's cpu.shares (2 to 262144, usually 1024) as v2's cpu.weight (1 to
/// 10000, usually 100).
///
/// The curve of runc 1.3.2 and crun 1.23 on: a quadratic in log2(shares) through
/// (2, 1), (1024, 100) and (262144, 10000). The older straight line
/// 1 + (shares - 2) * 9999 / 262142 gave the usual 1024 a weight of 39, so that a
/// container with the default lost against any process outside.
pub(crate) fn weight_from_shares(shares: u64) -> u64 {
    let l = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // The three fixed points come out as 99.99999 or 100.00001 by rounding.
    let weight = 10f64.powf(exponent);
    let near = weight.round();
    let exact = if (weight - near).abs() < 1e-6 {
        near
    } else {
        weight.ceil()
    };
    (exact as u64).clamp(1, 10_000)
}

/// blkio's weight (10 to 1000) as io.weight (1 to 10000): a straight line, as
/// other runtimes have it.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

impl Limit {
    pub(super) fn v2(self) -> String {
        match self {
            Limit::Max => "max".to_owned(),
            Limit::At(n) => n.to_string(),
        }
    }
}

impl RdmaLimit {
    /// v1 and v2 alike.
    pub(super) fn line(&self) -> String {
        let (handles, objects) = (self.handles.v2(), self.objects.v2());
        format!("{} hca_handle={handles} hca_object={objects}", self.device)
    }
}

/// What v2 has no file for, at all.
pub(crate) fn expressible(r: &Resources, on_v2: impl Fn(Controllers) -> bool) -> Result<()> {
    use Controllers as C;
    let rt = r.cpu_rt_runtime_us.is_some() || r.cpu_rt_period_us.is_some();
    let leaf = r.io.devices.iter().any(|d| d.leaf_weight.is_some());
    for (asked, controller, field) in [
        (rt, C::CPU, "cpu.realtimeRuntime and realtimePeriod"),
        (
            r.memory_swappiness.is_some(),
            C::MEMORY,
            "memory.swappiness",
        ),
        (r.oom_kill_disable, C::MEMORY, "memory.disableOOMKiller"),
        (
            leaf || r.io.leaf_weight.is_some(),
            C::IO,
            "blockIO.leafWeight",
        ),
        (r.net_class.is_some(), C::NET_CLS, "network.classID"),
        (
            !r.net_priorities.is_empty(),
            C::NET_PRIO,
            "network.priorities",
        ),
    ] {
        if asked && on_v2(controller) {
            return Err(Error::unsupported(format!(
                "{field}: cgroup v2 has nothing like it"
            )));
        }
    }
    Ok(())
}

/// The writes for these limits. What depends on a limit that stands is filled in
/// before, by [`complete`].
pub(crate) fn plan(r: &Resources) -> Vec<Write> {
    use Controllers as C;
    let mut w = Vec::with_capacity(16);
    let mut add = |write: Write| w.push(write);
    // An idle group takes no weight, so that it has to be one no longer, first.
    if r.cpu_idle == Some(false) {
        add(Write::new(C::CPU, "cpu.idle", 0).or(Absent::Skip));
    }
    if let (Some(shares), true) = (r.cpu_shares, r.cpu_idle != Some(true)) {
        add(Write::new(C::CPU, "cpu.weight", weight_from_shares(shares)));
    }
    match (r.cpu_quota_us, r.cpu_period_us) {
        (None, None) => {}
        // The kernel keeps a period that is not written.
        (Some(quota), None) => add(Write::new(C::CPU, "cpu.max", quota.v2())),
        (quota, Some(period)) => {
            let quota = quota.unwrap_or(Limit::Max).v2();
            add(Write::new(C::CPU, "cpu.max", format!("{quota} {period}")));
        }
    }
    if let Some(burst) = r.cpu_burst_us {
        add(Write::new(C::CPU, "cpu.max.burst", burst));
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
    if let Some(low) = r.memory_reservation {
        add(Write::new(C::MEMORY, "memory.low", low.v2()));
    }
    if let Some(max) = r.memory_max {
        add(Write::new(C::MEMORY, "memory.max", max.v2()));
    }
    if let Some(swap) = r.memory_swap_max {
        add(Write::new(C::MEMORY, "memory.swap.max", swap.v2()));
    }
    if let Some(group) = r.oom_group {
        add(Write::new(C::MEMORY, "memory.oom.group", group as u8));
    }
    if let Some(pids) = r.pids_max {
        add(Write::new(C::PIDS, "pids.max", pids.v2()));
    }
    io_writes(&r.io, &mut add);
    for page in &r.hugepages {
        let file = |middle: &str| format!("hugetlb.{}{middle}.max", page.page_size);
        add(Write::new(C::HUGETLB, file(""), page.limit.v2()));
        add(Write::new(C::HUGETLB, file(".rsvd"), page.limit.v2()).or(Absent::Skip));
    }
    for limit in &r.rdma {
        add(Write::new(C::RDMA, "rdma.max", limit.line()));
    }
    w
}

/// The weights are the BFQ scheduler's where the kernel has it, on v1's scale;
/// otherwise those of blk-iocost.
fn io_writes(io: &Io, add: &mut impl FnMut(Write)) {
    let mut weight = |device: &str, n: u16| {
        let cost = format!("{device}{}", io_weight(n));
        let other = Absent::Instead("io.weight", cost);
        add(Write::new(Controllers::IO, "io.bfq.weight", format!("{device}{n}")).or(other));
    };
    if let Some(n) = io.weight {
        weight("", n);
    }
    for d in &io.devices {
        if let Some(n) = d.weight {
            weight(&format!("{}:{} ", d.major, d.minor), n);
        }
    }
    for t in &io.throttles {
        let key = match t.of {
            ThrottleOf::ReadBytes => "rbps",
            ThrottleOf::WriteBytes => "wbps",
            ThrottleOf::ReadOperations => "riops",
            ThrottleOf::WriteOperations => "wiops",
        };
        let rate = match t.rate {
            0 => Limit::Max,
            n => Limit::At(n),
        };
        let value = format!("{}:{} {key}={}", t.major, t.minor, rate.v2());
        add(Write::new(Controllers::IO, "io.max", value));
    }
}

/// What is said only together with a limit that stands: a period without a quota
/// means that quota, and a sum of memory and swap that memory.
pub(super) fn complete(
    h: &Hierarchy,
    path: &str,
    r: &Resources,
    on_v2: impl Fn(Controllers) -> bool,
) -> Result<Resources> {
    let mut r = r.clone();
    // Without the file, the write of the limit tells what is missing.
    let now = |file| io::read(h, path, file).unwrap_or_default();
    if r.cpu_period_us.is_some() != r.cpu_quota_us.is_some() && on_v2(Controllers::CPU) {
        let now = now("cpu.max");
        let mut now = now.split_whitespace();
        let quota = now.next().and_then(|q| q.parse().ok()).map(Limit::At);
        let period = now.next().and_then(|p| p.parse().ok());
        r.cpu_quota_us = r.cpu_quota_us.or(quota);
        r.cpu_period_us = r.cpu_period_us.or(period);
    }
    if let (Some(sum), true) = (r.memory_and_swap_max, on_v2(Controllers::MEMORY)) {
        let standing = || now("memory.max").trim().parse().ok().map(Limit::At);
        r.memory_swap_max = Some(match (sum, r.memory_max.or_else(standing)) {
            (Limit::Max, _) => Limit::Max,
            (Limit::At(sum), Some(Limit::At(max))) if sum >= max => Limit::At(sum - max),
            (Limit::At(sum), Some(Limit::At(max))) => {
                return Err(Error::invalid(format!(
                    "memory.swap: {sum} bytes of memory and swap together are \
                     less than the {max} of memory alone"
                )));
            }
            // The whole sum may be swap where memory has no bound.
            (sum, Some(Limit::Max)) => sum,
            (Limit::At(_), None) => {
                return Err(Error::invalid(
                    "memory.swap: counts memory and swap together, and so needs \
                     a memory limit",
                ));
            }
        });
    }
    Ok(r)
}

/// v1 refuses a limit below what is in use. v2 takes it and kills.
pub(super) fn check_memory(h: &Hierarchy, path: &str, r: &Resources) -> Result<()> {
    if !r.memory_check {
        return Ok(());
    }
    // No such file: a fresh cgroup whose controller is not on.
    let now = io::read(h, path, "memory.current").ok();
    let Some(now) = now.and_then(|t| t.trim().parse::<u64>().ok()) else {
        return Ok(());
    };
    for (limit, field) in [(r.memory_and_swap_max, "swap"), (r.memory_max, "limit")] {
        if let Some(Limit::At(limit)) = limit
            && limit <= now
        {
            return Err(Error::invalid(format!(
                "memory.{field}: {limit} bytes, but {now} are in use"
            ))
            .hint("checkBeforeUpdate is set: without it, the kernel would kill"));
        }
    }
    Ok(())
}

/// The value of `key` in a file of lines "key value".
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|l| l.split_once(' '));
    lines.find(|(k, _)| *k == key)?.1.trim().parse().ok()
}

/// Waits until `key` of cgroup.events is `value`, at most until `deadline`; says
/// whether it came. The kernel marks the file POLLPRI at each change.
pub(super) fn wait_event(
    h: &Hierarchy,
    path: &str,
    key: &str,
    value: u64,
    deadline: Instant,
) -> Result<bool> {
    let file = io::open_read(h, path, "cgroup.events")?;
    loop {
        // The read arms the next wake-up: read first, then wait.
        let text = io::read_fd(&file).map_err(|e| Error::sys("pread(cgroup.events)", e))?;
        if keyed(&text, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut fds, left) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("poll(cgroup.events, POLLPRI)", e)),
        }
    }
}

/// Whether it is to stand still; of those above it, each tells for itself.
pub(super) fn is_stopped(h: &Hierarchy, path: &str) -> Result<bool> {
    Ok(io::read(h, path, "cgroup.freeze")?.trim() == "1")
}

/// memory.events, which changes for `high` and `max` too: the reader compares
/// `oom_kill` with what it was. Its own poll(2) is used rather than inotify(7), of
/// which a user has 128 instances by default (fs.inotify.max_user_instances): as
/// many containers with a memory limit, and no editor or `logs -f` beside them.
pub(super) fn oom_events(h: &Hierarchy, path: &str) -> Result<OomEvents> {
    let events = OomEvents::File(io::open_read(h, path, "memory.events")?);
    events.acknowledge()?;
    Ok(events)
}
