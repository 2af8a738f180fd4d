//! What is particular to cgroup v2: switching controllers on for children, the
//! limit files, the events. Documentation/admin-guide/cgroup-v2.rst.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::hierarchy::{Controllers, Hierarchy};
use super::io;
use super::resources::{Limit, Resources, Write};
use crate::{Error, Result};

const SUBTREE: &str = "cgroup.subtree_control";

/// The controllers that are switched on for children, by the kernel's names.
const SWITCHABLE: [(&str, Controllers); 6] = [
    ("cpu", Controllers::CPU),
    ("memory", Controllers::MEMORY),
    ("pids", Controllers::PIDS),
    ("io", Controllers::IO),
    ("cpuset", Controllers::CPUSET),
    ("hugetlb", Controllers::HUGETLB),
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
                let _ = io::write(h, level, SUBTREE, name);
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
pub fn weight_from_shares(shares: u64) -> u64 {
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

impl Limit {
    fn v2(self) -> String {
        match self {
            Limit::Max => "max".to_owned(),
            Limit::At(n) => n.to_string(),
        }
    }
}

/// The writes for these limits. `cpu.max` needs both of its numbers: a caller
/// that sets one alone fills in the other from the file (see [`complete`]).
pub(super) fn plan(r: &Resources) -> Vec<Write> {
    use Controllers as C;
    let mut w = Vec::with_capacity(8);
    let mut add = |controller, file, value| w.push(Write::new(controller, file, value));
    if let Some(shares) = r.cpu_shares {
        add(C::CPU, "cpu.weight", weight_from_shares(shares).to_string());
    }
    match (r.cpu_quota_us, r.cpu_period_us) {
        (None, None) => {}
        // The kernel keeps a period that is not written.
        (Some(quota), None) => add(C::CPU, "cpu.max", quota.v2()),
        (quota, Some(period)) => {
            let quota = quota.unwrap_or(Limit::Max);
            add(C::CPU, "cpu.max", format!("{} {period}", quota.v2()));
        }
    }
    if let Some(cpus) = &r.cpuset_cpus {
        add(C::CPUSET, "cpuset.cpus", cpus.clone());
    }
    if let Some(mems) = &r.cpuset_mems {
        add(C::CPUSET, "cpuset.mems", mems.clone());
    }
    if let Some(low) = r.memory_reservation {
        add(C::MEMORY, "memory.low", low.v2());
    }
    if let Some(max) = r.memory_max {
        add(C::MEMORY, "memory.max", max.v2());
    }
    if let Some(swap) = r.memory_swap_max {
        add(C::MEMORY, "memory.swap.max", swap.v2());
    }
    if let Some(group) = r.oom_group {
        add(C::MEMORY, "memory.oom.group", (group as u8).to_string());
    }
    if let Some(pids) = r.pids_max {
        add(C::PIDS, "pids.max", pids.v2());
    }
    w
}

/// A period without a quota means the quota that stands.
pub(super) fn complete(h: &Hierarchy, path: &str, r: &Resources) -> Result<Resources> {
    let mut r = r.clone();
    if r.cpu_period_us.is_some() && r.cpu_quota_us.is_none() {
        // Without the file, the write of the limit tells what is missing.
        let now = io::read(h, path, "cpu.max").unwrap_or_default();
        let quota = now.split_whitespace().next();
        r.cpu_quota_us = quota.and_then(|q| q.parse().ok()).map(Limit::At);
    }
    Ok(r)
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

/// An inotify fd that becomes readable whenever memory.events changes: also for
/// `high` and `max`, so that the reader compares `oom_kill` with what it was.
pub(super) fn oom_event_fd(h: &Hierarchy, path: &str) -> Result<OwnedFd> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|e| Error::sys("inotify_init1(IN_CLOEXEC|IN_NONBLOCK)", e))?;
    let file = io::full(h, path, "memory.events");
    watch
        .add_watch(&file, AddWatchFlags::IN_MODIFY)
        .map_err(|e| Error::sys(format_args!("inotify_add_watch({file:?}, IN_MODIFY)"), e))?;
    Ok(watch.into())
}
