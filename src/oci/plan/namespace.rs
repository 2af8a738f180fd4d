//! Namespaces of a configuration: config-linux.md, "Namespaces", "User namespace
//! mappings", "Offset for Time Namespace".

use nix::sched::CloneFlags;
use oci_spec::runtime as oci;

use crate::container::plan::namespace::{KINDS, TIME, USER};
use crate::container::plan::{IdMap, Namespaces};
use crate::{Context, Error, Result};

pub(super) fn plan(linux: Option<&oci::Linux>) -> Result<Namespaces> {
    let mut plan = Namespaces {
        new: CloneFlags::empty(),
        joined: Vec::new(),
        uid_map: Vec::new(),
        gid_map: Vec::new(),
        time_offsets: String::new(),
    };
    let Some(linux) = linux else {
        return Ok(plan);
    };
    for (i, n) in linux.namespaces().iter().flatten().enumerate() {
        let kind = CloneFlags::from_bits_retain(n.typ() as i32);
        let name = n.typ();
        let field = || format!("linux.namespaces[{i}]");
        if plan.has(kind) {
            return Err(
                Error::invalid(format!("type: {name} is there twice")).push_context(field())
            );
        }
        match n.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            None => plan.new |= kind,
            Some(path) if path.is_absolute() => plan.joined.push((kind, path.clone())),
            Some(path) => {
                let what = format!("path: {path:?} is not absolute");
                return Err(Error::invalid(what).push_context(field()));
            }
        }
    }
    let place = |kind| KINDS.iter().position(|(k, ..)| *k == kind);
    plan.joined.sort_by_key(|(kind, _)| place(*kind));

    plan.uid_map = plan_map("linux.uidMappings", linux.uid_mappings().as_deref())?;
    plan.gid_map = plan_map("linux.gidMappings", linux.gid_mappings().as_deref())?;
    let mapped = (!plan.uid_map.is_empty(), !plan.gid_map.is_empty());
    match (plan.new.contains(USER), mapped) {
        (true, (true, true)) | (false, (false, false)) => {}
        // Those that the namespace has already.
        (false, _) if plan.joins(USER) => {}
        (true, (has_uids, _)) => {
            let missing = if has_uids {
                "gidMappings"
            } else {
                "uidMappings"
            };
            return Err(Error::invalid(format!(
                "linux.{missing}: a new user namespace needs both mappings"
            )));
        }
        (false, (has_uids, _)) => {
            let there = if has_uids {
                "uidMappings"
            } else {
                "gidMappings"
            };
            return Err(Error::invalid(format!(
                "linux.{there}: mappings without a user namespace"
            ))
            .hint("add {\"type\": \"user\"} to linux.namespaces"));
        }
    }
    plan.time_offsets = plan_time_offsets(linux, &plan).context("linux.timeOffsets")?;
    Ok(plan)
}

/// The kernel takes 340 lines at most, and no line that wraps.
pub(super) fn plan_map(field: &str, map: Option<&[oci::LinuxIdMapping]>) -> Result<Vec<IdMap>> {
    let map = map.unwrap_or_default();
    if map.len() > 340 {
        return Err(Error::invalid(format!(
            "{field}: {} lines: 340 at most",
            map.len()
        )));
    }
    let mut lines = Vec::with_capacity(map.len());
    for (i, m) in map.iter().enumerate() {
        let fits = |start: u32| start.checked_add(m.size()).is_some();
        if m.size() == 0 || !fits(m.host_id()) || !fits(m.container_id()) {
            return Err(Error::invalid(format!(
                "{field}[{i}]: containerID {}, hostID {}, size {}: an empty range, or ids beyond 4294967295",
                m.container_id(),
                m.host_id(),
                m.size()
            )));
        }
        lines.push(IdMap {
            inside: m.container_id(),
            outside: m.host_id(),
            count: m.size(),
        });
    }
    Ok(lines)
}

fn plan_time_offsets(linux: &oci::Linux, plan: &Namespaces) -> Result<String> {
    let mut offsets: Vec<_> = linux.time_offsets().iter().flatten().collect();
    offsets.sort_by_key(|(clock, _)| *clock);
    if !offsets.is_empty() && !plan.new.contains(TIME) {
        return Err(Error::invalid("offsets without a new time namespace"));
    }
    let mut text = String::new();
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!(
                "{clock:?}: the kernel shifts monotonic and boottime"
            )));
        }
        let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanosecs >= 1_000_000_000 {
            return Err(Error::invalid(format!(
                "{clock}.nanosecs: {nanosecs} is a second or more"
            )));
        }
        text.push_str(&format!("{clock} {secs} {nanosecs}\n"));
    }
    Ok(text)
}
