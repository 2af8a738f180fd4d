//! A container's limits as data, in the kernel's units. How they get to the right
//! hierarchy is in [`super::apply`]; `crate::oci::resources` makes one of a config.json.

use std::borrow::Cow;

use super::devices::DeviceRule;
use super::hierarchy::Controllers;

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

/// What a cgroup is limited to; `None` (or nothing in a list) leaves things as
/// they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Weight among siblings: v1's scale, 2 to 262144, usually 1024 for a CPU
    /// (see [`super::weight_from_shares`] for v2).
    pub cpu_shares: Option<u64>,
    /// CPU time per period, microseconds.
    pub cpu_quota_us: Option<Limit>,
    /// Microseconds, 1000 to 1000000.
    pub cpu_period_us: Option<u64>,
    /// CPU time beyond the quota that may be saved up, microseconds.
    pub cpu_burst_us: Option<u64>,
    /// SCHED_IDLE for the group: then it has no weight.
    pub cpu_idle: Option<bool>,
    /// v1, and only of a kernel with CONFIG_RT_GROUP_SCHED; microseconds, -1 for
    /// all of the period.
    pub cpu_rt_runtime_us: Option<i64>,
    pub cpu_rt_period_us: Option<u64>,
    /// As in `0-3,5`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes.
    pub memory_max: Option<Limit>,
    /// Bytes that are reclaimed last: v2 memory.low, v1 soft limit.
    pub memory_reservation: Option<Limit>,
    /// Bytes of swap alone. On v1 it needs `memory_max`, because the kernel there
    /// limits the sum.
    pub memory_swap_max: Option<Limit>,
    /// Bytes of memory and swap together, as OCI has it; goes before
    /// `memory_swap_max`. On v2 the memory limit, new or standing, is taken off.
    pub memory_and_swap_max: Option<Limit>,
    /// Fail where more than `memory_max` is in use, which v2 answers by killing.
    pub memory_check: bool,
    /// 0 to 100; v1 alone.
    pub memory_swappiness: Option<u64>,
    /// Out of memory, its processes wait instead of being killed; v1 alone.
    pub oom_kill_disable: bool,
    /// Out of memory, kill all of it or one process. v1 always kills one.
    pub oom_group: Option<bool>,
    pub pids_max: Option<Limit>,
    pub io: Io,
    pub hugepages: Vec<HugepageLimit>,
    /// Tag on its packets, `0xAAAABBBB` for tc's class AAAA:BBBB; v1 alone.
    pub net_class: Option<u32>,
    /// Priority of what it sends, by network interface; v1 alone.
    pub net_priorities: Vec<(String, u32)>,
    pub rdma: Vec<RdmaLimit>,
    /// Who may make and open which device; empty leaves the rules alone.
    pub devices: Vec<DeviceRule>,
    /// Files of v2 and their values, written as they are after all else: OCI's
    /// `unified`. A value of several lines is as many writes.
    pub unified: Vec<(String, String)>,
    /// What was asked for and means nothing to any kernel of today, by its field:
    /// for a log.
    pub ignored: Vec<&'static str>,
}

/// Block devices: shares and bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// v1's scale, 10 to 1000, usually 500.
    pub weight: Option<u16>,
    /// Against its own children; kernels before 5.0.
    pub leaf_weight: Option<u16>,
    pub devices: Vec<IoWeight>,
    pub throttles: Vec<Throttle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoWeight {
    pub major: u32,
    pub minor: u32,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    pub major: u32,
    pub minor: u32,
    pub of: ThrottleOf,
    /// Per second; 0 lifts it.
    pub rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleOf {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugepageLimit {
    /// As the kernel's files have it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes, in use and reserved alike.
    pub limit: Limit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaLimit {
    /// As in `mlx5_0`.
    pub device: String,
    pub handles: Limit,
    pub objects: Limit,
}

/// One write of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub controller: Controllers,
    pub file: Cow<'static, str>,
    pub value: String,
    pub absent: Absent,
}

/// What to do where the kernel has no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    Fail,
    /// The file came later than its fellow, which does most of the work.
    Skip,
    /// Another file says the same.
    Instead(&'static str, String),
}

impl Write {
    /// What decides on it, as OCI has it below `linux.resources`.
    pub(crate) fn field(&self) -> Option<&'static str> {
        Some(match &*self.file {
            "cpu.shares" | "cpu.weight" => "cpu.shares",
            "cpu.cfs_period_us" => "cpu.period",
            "cpu.cfs_quota_us" | "cpu.max" => "cpu.quota",
            "cpu.cfs_burst_us" | "cpu.max.burst" => "cpu.burst",
            "cpu.rt_period_us" => "cpu.realtimePeriod",
            "cpu.rt_runtime_us" => "cpu.realtimeRuntime",
            "cpu.idle" => "cpu.idle",
            "cpuset.cpus" => "cpu.cpus",
            "cpuset.mems" => "cpu.mems",
            "memory.limit_in_bytes" | "memory.max" => "memory.limit",
            "memory.soft_limit_in_bytes" | "memory.low" => "memory.reservation",
            "memory.memsw.limit_in_bytes" | "memory.swap.max" => "memory.swap",
            "memory.swappiness" => "memory.swappiness",
            "memory.oom_control" => "memory.disableOOMKiller",
            "pids.max" => "pids.limit",
            "blkio.bfq.weight" | "io.bfq.weight" if !self.value.contains(':') => "blockIO.weight",
            "blkio.bfq.leaf_weight" => "blockIO.leafWeight",
            "io.bfq.weight" | "blkio.bfq.weight_device" | "blkio.bfq.leaf_weight_device" => {
                "blockIO.weightDevice"
            }
            "blkio.throttle.read_bps_device" => "blockIO.throttleReadBpsDevice",
            "blkio.throttle.write_bps_device" => "blockIO.throttleWriteBpsDevice",
            "blkio.throttle.read_iops_device" => "blockIO.throttleReadIOPSDevice",
            "blkio.throttle.write_iops_device" => "blockIO.throttleWriteIOPSDevice",
            "io.max" if self.value.contains("rbps") => "blockIO.throttleReadBpsDevice",
            "io.max" if self.value.contains("wbps") => "blockIO.throttleWriteBpsDevice",
            "io.max" if self.value.contains("riops") => "blockIO.throttleReadIOPSDevice",
            "io.max" => "blockIO.throttleWriteIOPSDevice",
            "net_cls.classid" => "network.classID",
            "net_prio.ifpriomap" => "network.priorities",
            "rdma.max" => "rdma",
            file if file.starts_with("hugetlb.") => "hugepageLimits",
            _ => return None,
        })
    }

    pub(crate) fn new(
        controller: Controllers,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Write {
            controller,
            file: file.into(),
            value: value.to_string(),
            absent: Absent::Fail,
        }
    }

    pub(crate) fn or(mut self, absent: Absent) -> Self {
        self.absent = absent;
        self
    }

    /// Both versions name a file after its controller.
    pub(crate) fn controller_name(&self) -> &str {
        self.file.split('.').next().unwrap_or(&self.file)
    }
}
