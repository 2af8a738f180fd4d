//! What Pods use: two readings of their containers' cgroups, and the time between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Result;
use crate::linux::cgroup::{Cgroup, Hierarchies, Pressures, Select, Usage};
use crate::pod::client::View;
use crate::pod::monitor::cgroup_path;
use crate::pod::state::Now;
use crate::store::Layout;

#[derive(Debug)]
pub(crate) struct PodUse {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub containers: Vec<ContainerUse>,
    /// Of the Pod's cgroup.
    pub pressure: Pressures,
}

#[derive(Debug)]
pub(crate) struct ContainerUse {
    pub name: String,
    pub used: Used,
    pub pressure: Pressures,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Billionths of a CPU: nanoseconds of CPU time a second.
    pub nanocores: u64,
    /// Bytes.
    pub memory: u64,
}

impl Used {
    fn plus(self, other: Used) -> Used {
        Used {
            nanocores: self.nanocores.saturating_add(other.nanocores),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    pub(crate) fn sum(all: impl IntoIterator<Item = Used>) -> Used {
        all.into_iter().fold(Used::default(), Used::plus)
    }
}

impl PodUse {
    pub(crate) fn used(&self) -> Used {
        Used::sum(self.containers.iter().map(|c| c.used))
    }
}

/// A reading of a container's cgroup.
struct Reading {
    usage: Usage,
    at: Instant,
}

/// Measures the running containers of these Pods for so long. Pods and containers that do
/// not run, or end meanwhile, are left out.
pub(crate) fn measure(layout: &Layout, views: &[View], interval: Duration) -> Result<Vec<PodUse>> {
    let hierarchies = Hierarchies::detect()?;
    // What has gone is not shown.
    let usage = |path: &str| -> Option<Usage> {
        let cgroup = Cgroup::open(&hierarchies, path, Select::Pod).ok()??;
        cgroup.usage().ok()
    };
    let read = |path: &str| {
        let usage = usage(path)?;
        let at = Instant::now();
        Some(Reading { usage, at })
    };
    let mut first = Vec::new();
    let began = Instant::now();
    for view in views {
        let pod = cgroup_path(layout, &view.pod.uid);
        for name in running(view) {
            let path = format!("{pod}/{name}");
            first.push((read(&path), name, path));
        }
    }
    if first.iter().any(|(reading, ..)| reading.is_some()) {
        std::thread::sleep(interval.saturating_sub(began.elapsed()));
    }
    let mut first = first.into_iter();
    let mut pods = Vec::new();
    for view in views {
        let mut containers = Vec::new();
        for (before, name, path) in first.by_ref().take(running(view).count()) {
            let (Some(before), Some(after)) = (before, read(&path)) else {
                continue;
            };
            containers.push(ContainerUse {
                name: name.to_owned(),
                used: between(&before, &after),
                pressure: after.usage.pressure,
            });
        }
        if containers.is_empty() {
            continue;
        }
        let pod = usage(&cgroup_path(layout, &view.pod.uid));
        pods.push(PodUse {
            namespace: view.pod.namespace.clone(),
            name: view.pod.name.clone(),
            labels: view.pod.labels.clone(),
            containers,
            pressure: pod.map_or_else(Pressures::default, |usage| usage.pressure),
        });
    }
    Ok(pods)
}

/// The containers that run, in the order of the specification.
fn running(view: &View) -> impl Iterator<Item = &str> {
    let states = view.state.as_ref().map(|state| &state.containers);
    let runs = move |name: &str| {
        states
            .and_then(|s| s.get(name))
            .is_some_and(|c| matches!(c.now, Now::Running(_)))
    };
    let all = view.pod.spec.every_container().map(|c| c.name.as_str());
    all.filter(move |name| runs(name))
}

fn between(before: &Reading, after: &Reading) -> Used {
    let elapsed = after.at.duration_since(before.at).as_nanos().max(1);
    let (old, new) = (
        before.usage.cpu_ns.unwrap_or(0),
        after.usage.cpu_ns.unwrap_or(0),
    );
    // A container that has started again meanwhile counts from 0.
    let used = new.checked_sub(old).unwrap_or(new);
    let nanocores = u128::from(used) * 1_000_000_000 / elapsed;
    Used {
        nanocores: u64::try_from(nanocores).unwrap_or(u64::MAX),
        memory: after.usage.working_set.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_becomes_cores() {
        let at = Instant::now();
        let reading = |ms: u64, cpu_ms: u64| Reading {
            usage: Usage {
                cpu_ns: Some(cpu_ms * 1_000_000),
                working_set: Some(5),
                ..Usage::default()
            },
            at: at + Duration::from_millis(ms),
        };
        let used = |a, b| between(&a, &b).nanocores;
        assert_eq!(used(reading(0, 100), reading(500, 350)), 500_000_000);
        assert_eq!(used(reading(0, 100), reading(500, 10)), 20_000_000);
        assert_eq!(used(reading(0, 100), reading(0, 100)), 0);
        let two = [between(&reading(0, 0), &reading(1000, 1)); 2];
        let sum = Used::sum(two);
        assert_eq!((sum.nanocores, sum.memory), (2_000_000, 10));
    }
}
