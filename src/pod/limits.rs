//! From requests and limits to what cgroups and the OOM killer are told: the
//! kubelet's arithmetic.

use super::spec::{Container, QosClass, Spec};
use crate::linux::cgroup::{DeviceRule, Limit, Resources, default_device_rules};

/// CPU time per period that a kubelet gives limits in, microseconds.
const PERIOD_US: u64 = 100_000;

/// One container's cgroup.
pub fn plan_resources(c: &Container) -> Resources {
    let r = c.resources;
    let mut devices = default_device_rules();
    if c.security.privileged {
        devices = vec![DeviceRule::ALLOW_ALL];
    }
    Resources {
        cpu_shares: Some(shares(r.cpu_request.or(r.cpu_limit).unwrap_or(0))),
        cpu_quota_us: r.cpu_limit.map(quota),
        cpu_period_us: r.cpu_limit.map(|_| PERIOD_US),
        memory_max: r.memory_limit.map(Limit::At),
        memory_swap_max: r.memory_limit.map(|_| Limit::At(0)),
        oom_group: Some(true),
        devices,
        ..Resources::default()
    }
}

/// The Pod's own cgroup: sums, and a bound only where every container has one.
pub fn plan_pod_resources(spec: &Spec) -> Resources {
    let sum = |f: &dyn Fn(&Container) -> Option<u64>| -> Option<u64> {
        let ordinary: Option<u64> = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().filter(|c| c.sidecar))
            .map(f)
            .sum();
        let init = spec
            .init_containers
            .iter()
            .filter(|c| !c.sidecar)
            .map(f)
            .collect::<Vec<_>>();
        init.into_iter()
            .fold(ordinary, |most, one| Some(most?.max(one?)))
    };
    let requests = sum(&|c| {
        Some(
            c.resources
                .cpu_request
                .or(c.resources.cpu_limit)
                .unwrap_or(0),
        )
    });
    let cpu = sum(&|c| c.resources.cpu_limit);
    let memory = sum(&|c| c.resources.memory_limit);
    Resources {
        cpu_shares: Some(shares(requests.unwrap_or(0))),
        cpu_quota_us: cpu.map(quota),
        cpu_period_us: cpu.map(|_| PERIOD_US),
        memory_max: memory.map(Limit::At),
        pids_max: Some(Limit::At(POD_PIDS)),
        ..Resources::default()
    }
}

/// Processes and threads of a Pod. Kubernetes leaves this to the node; without
/// any bound a fork bomb takes the machine (docs/decisions/0006-pods.md).
const POD_PIDS: u64 = 16_384;

fn shares(milli_cpu: u64) -> u64 {
    (milli_cpu * 1024 / 1000).clamp(2, 262_144)
}

fn quota(milli_cpu: u64) -> Limit {
    // The kernel refuses less than 1 ms.
    Limit::At((milli_cpu * PERIOD_US / 1000).max(1000))
}

/// oom_score_adj by QoS class, as a kubelet sets it.
pub fn oom_score(spec: &Spec, c: &Container, node_memory: u64) -> i32 {
    match spec.qos_class() {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = c
                .resources
                .memory_request
                .or(c.resources.memory_limit)
                .unwrap_or(0);
            let share = u128::from(request) * 1000 / u128::from(node_memory.max(1));
            (1000 - share.min(1000) as i32).clamp(2, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_becomes_shares_and_quota() {
        assert_eq!(shares(0), 2);
        assert_eq!(shares(500), 512);
        assert_eq!(quota(500), Limit::At(50_000));
        assert_eq!(quota(1), Limit::At(1000));
    }
}
