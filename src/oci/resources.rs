//! `linux.resources` of a configuration or of `update` as limits of a cgroup
//! (runtime-spec, config-linux.md, "Control groups"). Pure: which of it this machine can
//! do is found when it is applied.
//!
//! Numbers that Go's callers cannot leave out, because the type behind them has no
//! "unset", are unset when zero, as in runc and crun.

use std::fmt::Display;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

use crate::linux::cgroup::resources::{HugepageLimit, IoWeight, RdmaLimit, Throttle, ThrottleOf};
use crate::linux::cgroup::{
    Access, DeviceKind, DeviceRule, Limit, Resources, default_device_rules,
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

/// `version` is the configuration's ociVersion, `written` the JSON that has the resources
/// at `pointer`.
pub fn plan(
    version: &str,
    resources: &LinuxResources,
    written: &[u8],
    pointer: &str,
) -> Result<Resources> {
    let mut planned = limits(resources)?;
    // From runtime-spec 1.3 on "0 is a valid value": no process more. Before, it was what
    // podman writes for no limit, and still is in Debian 12. As with runc it becomes 1,
    // since systemd knows no 0, and the container's first process needs one.
    let is_zero = resources.pids().as_ref().is_some_and(|p| p.limit() == 0);
    if is_zero && is_since_1_3(version) {
        planned.pids_max = match is_written(written, &format!("{pointer}/pids/limit")) {
            true => Some(Limit::At(1)),
            false => None,
        };
    }
    Ok(planned)
}

fn is_since_1_3(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|p| p.parse::<u32>().ok());
    matches!(
        (parts.next(), parts.next()),
        (Some(Some(1)), Some(Some(3..)))
    )
}

/// What a type with a default cannot tell.
fn is_written(json: &[u8], pointer: &str) -> bool {
    let json = serde_json::from_slice::<serde_json::Value>(json);
    json.is_ok_and(|v| v.pointer(pointer).is_some_and(|n| !n.is_null()))
}

/// The limits of a container. Its device rules are the runtime's own behind
/// those of `spec`, as in runc: what every container may use stays usable. A
/// caller that updates a container clears `devices`. `pids.limit: 0` is no limit, as
/// before 1.3: [`plan`] knows better.
pub(crate) fn limits(spec: &LinuxResources) -> Result<Resources> {
    let mut r = Resources {
        devices: device_rules(spec.devices().as_deref().unwrap_or_default())?,
        ..Resources::default()
    };
    if let Some(cpu) = spec.cpu() {
        set_cpu(&mut r, cpu)?;
    }
    if let Some(memory) = spec.memory() {
        set_memory(&mut r, memory)?;
    }
    if let Some(pids) = spec.pids() {
        // 0 is what podman writes for no limit, and what `{}` is read as; `plan` knows
        // what it means in a newer configuration.
        r.pids_max = Some(match pids.limit() {
            0 => Limit::Max,
            n => limit("pids.limit", Some(n))?.unwrap_or(Limit::Max),
        });
    }
    if let Some(io) = spec.block_io() {
        set_io(&mut r, io)?;
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
            Some((controller, parameter)) if !controller.is_empty() && !parameter.is_empty() => {}
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

fn set_cpu(r: &mut Resources, cpu: &LinuxCpu) -> Result<()> {
    let some = |n: Option<u64>| n.filter(|n| *n != 0);
    r.cpu_shares = some(cpu.shares());
    r.cpu_quota_us = limit("cpu.quota", cpu.quota())?;
    r.cpu_burst_us = cpu.burst();
    if let Some(period) = some(cpu.period()) {
        r.cpu_period_us = Some(range("cpu.period", period, 1000, 1_000_000)?);
    }
    r.cpu_rt_period_us = some(cpu.realtime_period());
    if let Some(n) = cpu.realtime_runtime().filter(|n| *n != 0) {
        r.cpu_rt_runtime_us = Some(range("cpu.realtimeRuntime", n, -1, i64::MAX)?);
    }
    if let Some(idle) = cpu.idle() {
        r.cpu_idle = Some(range("cpu.idle", idle, 0, 1)? == 1);
    }
    if let (Some(Limit::At(quota)), Some(burst)) = (r.cpu_quota_us, r.cpu_burst_us)
        && burst > quota
    {
        return Err(invalid(
            "cpu.burst",
            format!("{burst}: is more than the quota, {quota}"),
        ));
    }
    r.cpuset_cpus = list("cpu.cpus", cpu.cpus())?;
    r.cpuset_mems = list("cpu.mems", cpu.mems())?;
    Ok(())
}

fn set_memory(r: &mut Resources, memory: &LinuxMemory) -> Result<()> {
    r.memory_max = limit("memory.limit", memory.limit())?;
    r.memory_reservation = limit("memory.reservation", memory.reservation())?;
    r.memory_and_swap_max = limit("memory.swap", memory.swap())?;
    match (r.memory_max, r.memory_and_swap_max) {
        // Whoever lifts the one limit does not mean to keep the sum's.
        (Some(Limit::Max), None) => r.memory_and_swap_max = Some(Limit::Max),
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
        r.memory_swappiness = Some(range("memory.swappiness", n, 0, 100)?);
    }
    r.oom_kill_disable = memory.disable_oom_killer() == Some(true);
    r.memory_check = memory.check_before_update() == Some(true);
    // The kernel has none of these since 5.16 and 5.11; runc ignores them too.
    let old = [
        (memory.kernel().is_some(), "memory.kernel"),
        (memory.kernel_tcp().is_some(), "memory.kernelTCP"),
        (memory.use_hierarchy() == Some(false), "memory.useHierarchy"),
    ];
    let asked = old.into_iter().filter(|(asked, _)| *asked);
    r.ignored.extend(asked.map(|(_, field)| field));
    Ok(())
}

fn set_io(r: &mut Resources, io: &LinuxBlockIo) -> Result<()> {
    let weight = |field: &str, n: Option<u16>| match n {
        None | Some(0) => Ok(None),
        Some(n) => range(format!("blockIO.{field}"), n, 10, 1000).map(Some),
    };
    r.io.weight = weight("weight", io.weight())?;
    r.io.leaf_weight = weight("leafWeight", io.leaf_weight())?;
    for (i, d) in io.weight_device().iter().flatten().enumerate() {
        let field = format!("weightDevice[{i}]");
        r.io.devices.push(IoWeight {
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
            r.io.throttles.push(Throttle {
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
#[path = "resources_tests.rs"]
mod tests;
