//! OCI's `linux.resources` as [`Resources`] (runtime-spec, config-linux.md,
//! "Control groups"). Pure: which of it this machine can do is found when it is
//! applied.
//!
//! Numbers that Go's callers cannot leave out, because the type behind them has no
//! "unset", are unset when zero, as in runc and crun.

use std::fmt::Display;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

use super::devices::{Access, DeviceKind, DeviceRule, default_device_rules};
use super::resources::{
    HugepageLimit, IoWeight, Limit, RdmaLimit, Resources, Throttle, ThrottleOf,
};
use crate::{Error, Result};

fn invalid(field: impl Display, what: impl Display) -> Error {
    Error::invalid(format!("linux.resources.{field}: {what}"))
}

/// Bytes or microseconds where -1 lifts the limit.
fn limit(field: &str, n: Option<i64>) -> Result<Option<Limit>> {
    match n {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Limit::Max)),
        Some(n) if n > 0 => Ok(Some(Limit::from(n))),
        Some(n) => Err(invalid(
            field,
            format!("{n}: has to be -1, for no limit, or more"),
        )),
    }
}

fn range<T: PartialOrd + Display>(field: impl Display, n: T, from: T, to: T) -> Result<T> {
    match n >= from && n <= to {
        true => Ok(n),
        false => Err(invalid(field, format!("{n}: has to be {from} to {to}"))),
    }
}

/// A list of CPUs or memory nodes; the kernel knows which there are.
fn list(field: &str, text: &Option<String>) -> Result<Option<String>> {
    let Some(text) = text.as_deref().map(str::trim).filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    let known = |c: char| c.is_ascii_digit() || ",-:/ ".contains(c);
    match text.chars().all(known) {
        true => Ok(Some(text.to_owned())),
        false => Err(invalid(
            field,
            format!("{text:?}: has to be a list as in 0-3,5"),
        )),
    }
}

/// A word that goes into a line of several.
fn word(field: impl Display, text: &str) -> Result<&str> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    match text.is_empty() || text.contains(bad) {
        true => Err(invalid(field, format!("{text:?}: has to be a name"))),
        false => Ok(text),
    }
}

fn device_number(field: impl Display, n: i64) -> Result<u32> {
    u32::try_from(n).map_err(|_| invalid(field, format!("{n}: has to be a device number")))
}

impl Resources {
    /// The limits of a container. Its device rules are the runtime's own behind
    /// those of `spec`, as in runc: what every container may use stays usable. A
    /// caller that updates a container clears `devices`.
    pub fn from_oci(spec: &LinuxResources) -> Result<Resources> {
        let mut r = Resources {
            devices: device_rules(spec.devices().as_deref().unwrap_or_default())?,
            ..Resources::default()
        };
        if let Some(cpu) = spec.cpu() {
            r.set_cpu(cpu)?;
        }
        if let Some(memory) = spec.memory() {
            r.set_memory(memory)?;
        }
        if let Some(pids) = spec.pids() {
            // 0 is what podman writes for no limit, and what `{}` is read as; what it means
            // in a newer configuration is seen to in `container::resources`.
            r.pids_max = Some(match pids.limit() {
                0 => Limit::Max,
                n => limit("pids.limit", Some(n))?.unwrap_or(Limit::Max),
            });
        }
        if let Some(io) = spec.block_io() {
            r.set_io(io)?;
        }
        for (i, page) in spec.hugepage_limits().iter().flatten().enumerate() {
            // Unsigned in the spec; -1 is no limit here as everywhere else.
            if page.limit() < -1 {
                let what = format!("{}: has to be 0 or more", page.limit());
                return Err(invalid(format!("hugepageLimits[{i}].limit"), what));
            }
            let field = format!("hugepageLimits[{i}].pageSize");
            let size = page.page_size();
            let digits = size.trim_end_matches("KB").trim_end_matches("MB");
            let digits = digits.trim_end_matches("GB");
            let is_number = digits.bytes().all(|b| b.is_ascii_digit());
            if digits.is_empty() || digits.len() + 2 != size.len() || !is_number {
                return Err(invalid(
                    field,
                    format!("{size:?}: has to be a size as in 2MB"),
                ));
            }
            r.hugepages.push(HugepageLimit {
                page_size: size.clone(),
                limit: page.limit().into(),
            });
        }
        if let Some(network) = spec.network() {
            r.net_class = network.class_id().filter(|id| *id != 0);
            for (i, p) in network.priorities().iter().flatten().enumerate() {
                let name = word(format!("network.priorities[{i}].name"), p.name())?;
                r.net_priorities.push((name.to_owned(), p.priority()));
            }
        }
        // Maps without an order: sorted, so that a plan is always the same.
        for (device, limits) in spec.rdma().iter().flatten() {
            let count = |n: Option<u32>| n.map_or(Limit::Max, |n| Limit::At(n.into()));
            r.rdma.push(RdmaLimit {
                device: word(format!("rdma[{device:?}]"), device)?.to_owned(),
                handles: count(limits.hca_handles()),
                objects: count(limits.hca_objects()),
            });
        }
        r.rdma.sort_by(|a, b| a.device.cmp(&b.device));
        for (file, value) in spec.unified().iter().flatten() {
            let field = || format!("unified[{file:?}]");
            if file.contains('/') {
                return Err(invalid(field(), "has to be a file's name, without a slash"));
            }
            match file.split_once('.') {
                Some((controller, parameter))
                    if !controller.is_empty() && !parameter.is_empty() => {}
                _ => return Err(invalid(field(), "has to be CONTROLLER.PARAMETER")),
            }
            if file.contains('\0') {
                return Err(invalid(field(), "has a NUL byte"));
            }
            r.unified.push((file.clone(), value.clone()));
        }
        r.unified.sort();
        Ok(r)
    }

    fn set_cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        let some = |n: Option<u64>| n.filter(|n| *n != 0);
        self.cpu_shares = some(cpu.shares());
        self.cpu_quota_us = limit("cpu.quota", cpu.quota())?;
        self.cpu_burst_us = cpu.burst();
        if let Some(period) = some(cpu.period()) {
            self.cpu_period_us = Some(range("cpu.period", period, 1000, 1_000_000)?);
        }
        self.cpu_rt_period_us = some(cpu.realtime_period());
        if let Some(n) = cpu.realtime_runtime().filter(|n| *n != 0) {
            self.cpu_rt_runtime_us = Some(range("cpu.realtimeRuntime", n, -1, i64::MAX)?);
        }
        if let Some(idle) = cpu.idle() {
            self.cpu_idle = Some(range("cpu.idle", idle, 0, 1)? == 1);
        }
        if let (Some(Limit::At(quota)), Some(burst)) = (self.cpu_quota_us, self.cpu_burst_us)
            && burst > quota
        {
            return Err(invalid(
                "cpu.burst",
                format!("{burst}: is more than the quota, {quota}"),
            ));
        }
        self.cpuset_cpus = list("cpu.cpus", cpu.cpus())?;
        self.cpuset_mems = list("cpu.mems", cpu.mems())?;
        Ok(())
    }

    fn set_memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        self.memory_max = limit("memory.limit", memory.limit())?;
        self.memory_reservation = limit("memory.reservation", memory.reservation())?;
        self.memory_and_swap_max = limit("memory.swap", memory.swap())?;
        match (self.memory_max, self.memory_and_swap_max) {
            // Whoever lifts the one limit does not mean to keep the sum's.
            (Some(Limit::Max), None) => self.memory_and_swap_max = Some(Limit::Max),
            (Some(Limit::At(max)), Some(Limit::At(sum))) if sum < max => {
                let what = "counts memory and swap together, and so cannot be less than";
                return Err(invalid(
                    "memory.swap",
                    format!("{sum}: {what} memory.limit, {max}"),
                ));
            }
            _ => {}
        }
        if let Some(n) = memory.swappiness() {
            self.memory_swappiness = Some(range("memory.swappiness", n, 0, 100)?);
        }
        self.oom_kill_disable = memory.disable_oom_killer() == Some(true);
        self.memory_check = memory.check_before_update() == Some(true);
        // The kernel has none of these since 5.16 and 5.11; runc ignores them too.
        let old = [
            (memory.kernel().is_some(), "memory.kernel"),
            (memory.kernel_tcp().is_some(), "memory.kernelTCP"),
            (memory.use_hierarchy() == Some(false), "memory.useHierarchy"),
        ];
        let asked = old.into_iter().filter(|(asked, _)| *asked);
        self.ignored.extend(asked.map(|(_, field)| field));
        Ok(())
    }

    fn set_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        let weight = |field: &str, n: Option<u16>| match n {
            None | Some(0) => Ok(None),
            Some(n) => range(format!("blockIO.{field}"), n, 10, 1000).map(Some),
        };
        self.io.weight = weight("weight", io.weight())?;
        self.io.leaf_weight = weight("leafWeight", io.leaf_weight())?;
        for (i, d) in io.weight_device().iter().flatten().enumerate() {
            let field = format!("weightDevice[{i}]");
            self.io.devices.push(IoWeight {
                major: device_number(format!("blockIO.{field}.major"), d.major())?,
                minor: device_number(format!("blockIO.{field}.minor"), d.minor())?,
                weight: weight(&format!("{field}.weight"), d.weight())?,
                leaf_weight: weight(&format!("{field}.leafWeight"), d.leaf_weight())?,
            });
        }
        use ThrottleOf as T;
        let mut throttle = |name, of, devices: &Option<Vec<LinuxThrottleDevice>>| {
            for (i, d) in devices.iter().flatten().enumerate() {
                let number = |part, n| device_number(format!("blockIO.{name}[{i}].{part}"), n);
                self.io.throttles.push(Throttle {
                    major: number("major", d.major())?,
                    minor: number("minor", d.minor())?,
                    of,
                    rate: d.rate(),
                });
            }
            Ok::<(), Error>(())
        };
        throttle(
            "throttleReadBpsDevice",
            T::ReadBytes,
            io.throttle_read_bps_device(),
        )?;
        throttle(
            "throttleWriteBpsDevice",
            T::WriteBytes,
            io.throttle_write_bps_device(),
        )?;
        throttle(
            "throttleReadIOPSDevice",
            T::ReadOperations,
            io.throttle_read_iops_device(),
        )?;
        throttle(
            "throttleWriteIOPSDevice",
            T::WriteOperations,
            io.throttle_write_iops_device(),
        )
    }
}

fn device_rules(spec: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    let mut rules = vec![DeviceRule::DENY_ALL];
    for (i, d) in spec.iter().enumerate() {
        let field = |part: &str| format!("devices[{i}].{part}");
        let number = |part, n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => device_number(field(part), n).map(Some),
        };
        let access = match d.access().as_deref() {
            None | Some("") => Access::ALL,
            Some(letters) => Access::parse(letters)
                .map_err(|_| invalid(field("access"), format!("{letters:?}: only r, w and m")))?,
        };
        rules.push(DeviceRule {
            allow: d.allow(),
            kind: match d.typ() {
                None | Some(LinuxDeviceType::A) => DeviceKind::All,
                Some(LinuxDeviceType::B) => DeviceKind::Block,
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Char,
                Some(LinuxDeviceType::P) => {
                    return Err(invalid(field("type"), "a FIFO is no device: a, b or c"));
                }
            },
            major: number("major", d.major())?,
            minor: number("minor", d.minor())?,
            access,
        });
    }
    rules.extend(default_device_rules().into_iter().skip(1));
    Ok(rules)
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
