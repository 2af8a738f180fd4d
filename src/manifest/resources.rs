//! Requests and limits, and the quantities elsewhere.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::quantity::Quantity;
use super::report::Report;
use super::tree::Path;
use crate::nearest::nearest;
use crate::spec::{Hugepages, PageSize, Resources};

/// A memory limit below this keeps any program from starting; it is nearly
/// always a forgotten suffix.
const TINY_MEMORY: u64 = 64 * 1024;

/// A quantity that is not negative, or a fault and `None`.
pub(super) fn quantity(r: &mut Report<'_>, path: &Path, text: &Text) -> Option<Quantity> {
    match Quantity::parse(&text.0) {
        Err(why) => r.invalid(path, &text.0, why),
        Ok(q) if q.is_negative() => r.invalid(path, &text.0, "must be greater than or equal to 0"),
        Ok(q) => return Some(q),
    }
    None
}

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Whether Kubernetes takes a resource of this name: without a domain it is one of its own
/// (ValidateContainerResourceName).
pub(super) fn is_known(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || STANDARD.contains(&name)
}

fn check_name(r: &mut Report<'_>, path: &Path, name: &str) {
    if is_known(name) {
        return;
    }
    let near = nearest(name, STANDARD);
    let near = near.map_or(String::new(), |n| format!(": did you mean {n:?}?"));
    r.invalid(
        path,
        name,
        format!("must be a standard resource for containers{near}"),
    );
}

pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    resources: Option<&core::ResourceRequirements>,
) -> Resources {
    let Some(resources) = resources else {
        return Resources::default();
    };
    for (side, map) in [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ] {
        for name in map.iter().flatten().map(|(name, _)| name) {
            let path = path.key(side).key(name);
            // A request that came from the limit is judged there.
            if r.is_set(&path) {
                check_name(r, &path, name);
            }
        }
    }
    let mut read = |side: &str, map: &Option<BTreeMap<String, Text>>, name: &str| {
        let text = map.as_ref()?.get(name)?;
        let path = path.key(side).key(name);
        // A request that came from the limit was judged there.
        if side == "requests" && !r.is_set(&path) {
            return Quantity::parse(&text.0).ok();
        }
        let q = quantity(r, &path, text)?;
        if name == "memory" && !q.is_whole() {
            let why = "a fraction of a byte is rounded up; the suffix m means thousandths";
            r.warn(&path, format!("{}: {why}, M means megabytes", text.0));
        }
        Some(q)
    };
    let cpu_limit = read("limits", &resources.limits, "cpu");
    let memory_limit = read("limits", &resources.limits, "memory");
    let cpu_request = read("requests", &resources.requests, "cpu");
    let memory_request = read("requests", &resources.requests, "memory");
    for (name, request, limit) in [
        ("cpu", cpu_request, cpu_limit),
        ("memory", memory_request, memory_limit),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let written = |m: &Option<BTreeMap<String, Text>>| {
                m.as_ref().and_then(|m| m.get(name)).map(|q| q.0.clone())
            };
            let request = written(&resources.requests).unwrap_or_default();
            let limit = written(&resources.limits).unwrap_or_default();
            r.invalid(
                &path.key("requests").key(name),
                &request,
                format!("must be less than or equal to {name} limit of {limit}"),
            );
        }
    }
    // A limit of nothing is no limit, as the kubelet reads it.
    let above_zero = |v: u64| (v > 0).then_some(v);
    let memory_limit = memory_limit.map(Quantity::units).and_then(above_zero);
    if let Some(limit) = memory_limit
        && limit < TINY_MEMORY
    {
        r.warn(
            &path.keys("limits.memory"),
            match limit {
                1 => "no program starts in 1 byte; is a suffix such as Mi missing?".to_owned(),
                _ => format!("no program starts in {limit} bytes; is a suffix such as Mi missing?"),
            },
        );
    }
    Resources {
        cpu_request: cpu_request.map(Quantity::millis),
        cpu_limit: cpu_limit.map(Quantity::millis).and_then(above_zero),
        memory_request: memory_request.map(Quantity::units),
        memory_limit,
        hugepages: hugepages(r, path, resources),
    }
}

/// Huge pages are never given twice: the request is the limit.
fn hugepages(r: &mut Report<'_>, path: &Path, resources: &core::ResourceRequirements) -> Hugepages {
    let all = |map: &Option<BTreeMap<String, Text>>| map.clone().unwrap_or_default();
    let (limits, requests) = (all(&resources.limits), all(&resources.requests));
    let is_huge = |name: &&String| name.starts_with("hugepages-");
    let mut pages = Hugepages::default();
    for (side, map) in [("limits", &limits), ("requests", &requests)] {
        for name in map.keys().filter(is_huge) {
            let place = path.key(side).key(name);
            // A request that came from the limit is judged there; a size that no machine has,
            // by the table of fields.
            let (Some(size), true) = (PageSize::of_resource(name), r.is_set(&place)) else {
                continue;
            };
            let text = &map[name];
            let Some(bytes) = quantity(r, &place, text) else {
                continue;
            };
            if !bytes.is_whole() || !bytes.units().is_multiple_of(size.bytes()) {
                let why = format!("{} is not positive integer multiple of {name}", text.0);
                r.invalid(&place, &text.0, why);
            }
            if side == "limits" {
                pages.set(size, bytes.units());
                continue;
            }
            match limits.get(name) {
                None => r.required(
                    &path.key("limits"),
                    "Limit must be set for non overcommitable resources",
                ),
                Some(limit) if Quantity::parse(&limit.0) != Ok(bytes) => {
                    let why = format!("must be equal to {name} limit of {}", limit.0);
                    r.invalid(&place, &text.0, why);
                }
                Some(_) => {}
            }
        }
    }
    let names = || limits.keys().chain(requests.keys());
    let others = ["cpu", "memory"];
    if names().any(|name| is_huge(&name)) && !names().any(|name| others.contains(&name.as_str())) {
        r.forbidden(path, "HugePages require cpu or memory");
    }
    pages
}
