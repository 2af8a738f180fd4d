//! From requests and limits to what cgroups and the OOM killer are told: the
//! kubelet's arithmetic.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{SysconfVar, sysconf};
use oci_spec::runtime as oci;

use crate::linux::cgroup::{HugepageLimit, Limit, Resources};
use crate::linux::hugepages;
use crate::spec::{self, Bounds, Container, Hugepages, QosClass, Spec};
use crate::{Error, Result};

/// CPU time per period that a kubelet gives limits in, microseconds.
const PERIOD_US: u64 = 100_000;

/// Thousandths of a CPU.
pub(crate) fn node_cpu() -> u64 {
    // Not the standard library's: that is what the caller's own cgroup and affinity leave.
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.map_or(1000, |n| n.max(1) as u64 * 1000)
}

/// Bytes of the filesystem in which this directory is; 0 where that cannot be asked.
pub(crate) fn node_storage(dir: &Path) -> u64 {
    statvfs(dir).map_or(0, |s| s.blocks() * s.fragment_size())
}

/// Bytes, or more than there can be where the kernel does not tell.
pub(crate) fn node_memory() -> u64 {
    // MemTotal of /proc/meminfo, without the rest of that file.
    sysinfo().map_or(u64::MAX, |info| info.ram_total())
}

/// One container's cgroup, in a configuration's words.
///
/// `of_pod`: the huge pages of all of its Pod's containers. `memory_is_v2`: then, out of
/// memory, all of it is killed. v1 always kills one process.
pub(crate) fn plan_resources(
    c: &Container,
    of_pod: Hugepages,
    memory_is_v2: bool,
) -> oci::LinuxResources {
    let r = c.resources;
    let mut cpu = oci::LinuxCpu::default();
    cpu.set_shares(Some(shares(r.cpu_request.or(r.cpu_limit).unwrap_or(0))));
    if let Some(limit) = r.cpu_limit {
        cpu.set_quota(i64::try_from(quota(limit)).ok())
            .set_period(Some(PERIOD_US));
    }
    let mut resources = oci::LinuxResources::default();
    // The devices that every container has are the runtime's to add.
    resources.set_cpu(Some(cpu)).set_devices(None);
    if let Some(limit) = r.memory_limit {
        let limit = i64::try_from(limit).ok();
        let mut memory = oci::LinuxMemory::default();
        // Memory and swap together: no swap.
        memory.set_limit(limit).set_swap(limit);
        resources.set_memory(Some(memory));
    }
    if !of_pod.is_none() {
        // Of a size that only others of the Pod have, it may use none.
        let limit = |(size, _): (spec::PageSize, u64)| {
            let mut page = oci::LinuxHugepageLimit::default();
            let limit = c.resources.hugepages.of(size);
            page.set_page_size(size.in_cgroup().to_owned())
                .set_limit(i64::try_from(limit).unwrap_or(i64::MAX));
            page
        };
        resources.set_hugepage_limits(Some(of_pod.each().map(limit).collect()));
    }
    if c.security.privileged {
        let mut all = oci::LinuxDeviceCgroup::default();
        all.set_allow(true).set_access(Some("rwm".to_owned()));
        resources.set_devices(Some(vec![all]));
    }
    if memory_is_v2 {
        let group = ("memory.oom.group".to_owned(), "1".to_owned());
        resources.set_unified(Some([group].into()));
    }
    resources
}

/// The Pod's own cgroup: sums, and a bound only where every container has one.
pub(crate) fn plan_pod_resources(spec: &Spec) -> Resources {
    Resources {
        pids_max: Some(Limit::At(POD_PIDS)),
        hugepages: spec
            .hugepages()
            .each()
            .map(|(size, bytes)| page_limit(size.in_cgroup(), bytes))
            .collect(),
        ..plan_bounds(spec.bounds())
    }
}

fn page_limit(size: &str, bytes: u64) -> HugepageLimit {
    HugepageLimit {
        page_size: size.to_owned(),
        limit: Limit::At(bytes),
    }
}

/// A Pod may use no huge pages of the sizes that it does not ask for, as on a cluster: they
/// are reserved for others. `sizes`: those of the machine.
pub(crate) fn plan_no_hugepages(spec: &Spec, sizes: &[String]) -> Resources {
    let asked = spec.hugepages();
    let asks = |word: &String| asked.each().any(|(size, _)| size.in_cgroup() == word);
    let others = sizes.iter().filter(|word| !asks(word));
    Resources {
        hugepages: others.map(|word| page_limit(word, 0)).collect(),
        ..Resources::default()
    }
}

/// Whether the machine has the huge pages now that the Pod asks for. A scheduler would not
/// place the Pod: it waits until they are there.
pub(crate) fn require_hugepages(spec: &Spec) -> Result<()> {
    for (size, bytes) in spec.hugepages().each() {
        let (name, wanted) = (size.resource(), bytes / size.bytes());
        let Some(free) = hugepages::free(size.bytes())? else {
            let text = format!("Insufficient {name}: the kernel has no pages of this size");
            return Err(Error::unsupported(text)
                .hint("/sys/kernel/mm/hugepages has a directory for each size that there is"));
        };
        if free < wanted {
            let text = format!(
                "Insufficient {name}: the Pod asks for {wanted} pages, and {free} of this \
                 machine's are free"
            );
            return Err(Error::failed(text).hint(format!(
                "reserve more, in {}/nr_hugepages, or end what uses them; the Pod starts when \
                 they are there",
                hugepages::pool(size.bytes()).display()
            )));
        }
    }
    Ok(())
}

/// The same where it changes. A limit is never taken away: Kubernetes does not allow that.
pub(crate) fn plan_bounds(bounds: Bounds) -> Resources {
    Resources {
        cpu_shares: Some(shares(bounds.cpu_requests)),
        cpu_quota_us: bounds.cpu_limit.map(|limit| Limit::At(quota(limit))),
        cpu_period_us: bounds.cpu_limit.map(|_| PERIOD_US),
        memory_max: bounds.memory_limit.map(Limit::At),
        ..Resources::default()
    }
}

/// A container's own cgroup where it changes: as [`plan_resources`] has it.
pub(crate) fn plan_resize(r: spec::Resources) -> Resources {
    let memory = r.memory_limit.map(Limit::At);
    Resources {
        cpu_shares: Some(shares(r.cpu_request.or(r.cpu_limit).unwrap_or(0))),
        cpu_quota_us: r.cpu_limit.map(|limit| Limit::At(quota(limit))),
        cpu_period_us: r.cpu_limit.map(|_| PERIOD_US),
        memory_max: memory,
        // No swap.
        memory_and_swap_max: memory,
        ..Resources::default()
    }
}

/// What the Pod asks for and the machine does not have, for a warning: a cluster would
/// not run it. `cpu` in thousandths of a CPU.
pub(crate) fn beyond_machine(spec: &Spec, cpu: u64, memory: u64) -> Vec<String> {
    let (wants_cpu, wants_memory) = (spec.cpu_requests(), spec.memory_requests());
    let mut beyond = Vec::new();
    if wants_cpu > cpu {
        beyond.push(format!(
            "it requests {} CPUs, and this machine has {}: it runs with what there is, where a \
             cluster would not start it; lower resources.requests.cpu",
            thousandths(wants_cpu),
            thousandths(cpu)
        ));
    }
    if wants_memory > memory {
        beyond.push(format!(
            "it requests {} MiB of memory, and this machine has {}: it runs with what there is, \
             where a cluster would not start it; lower resources.requests.memory",
            wants_memory >> 20,
            memory >> 20
        ));
    }
    beyond
}

/// The kernel's own memory for a cgroup is charged to the one above, so that mkdir(2) fails
/// with ENOMEM where the limit of the Pod is too low for any program.
pub(crate) fn out_of_memory(e: Error, c: &Container) -> Error {
    match (e.errno(), c.resources.memory_limit) {
        (Some(Errno::ENOMEM), Some(limit)) => e.hint(format!(
            "resources.limits.memory of this container is {}: raise it, such as to 64Mi (the \
             suffix m means thousandths, Mi means mebibytes)",
            bytes(limit)
        )),
        _ => e,
    }
}

/// As a manifest has it: 64Mi, or a number of bytes.
pub(crate) fn bytes(n: u64) -> String {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units
        .iter()
        .find(|(_, shift)| n > 0 && n.is_multiple_of(1 << shift));
    match (unit, n) {
        (Some((suffix, shift)), _) => format!("{}{suffix}", n >> shift),
        (None, 1) => "1 byte".to_owned(),
        (None, _) => format!("{n} bytes"),
    }
}

fn thousandths(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Processes and threads of a Pod. Kubernetes leaves this to the node; without
/// any bound a fork bomb takes the machine (docs/decisions/0006-pods.md).
const POD_PIDS: u64 = 16_384;

fn shares(milli_cpu: u64) -> u64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// The kernel refuses less than 1 ms and more than this (MAX_BW in kernel/sched/core.c).
const MOST_QUOTA_US: u64 = (1 << 44) - 1;

fn quota(milli_cpu: u64) -> u64 {
    (milli_cpu.saturating_mul(PERIOD_US) / 1000).clamp(1000, MOST_QUOTA_US)
}

/// oom_score_adj by QoS class, as a kubelet sets it.
pub(crate) fn oom_score(spec: &Spec, c: &Container, node_memory: u64) -> i32 {
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
        assert_eq!(quota(500), 50_000);
        assert_eq!(quota(1), 1000);
        // A manifest may say `cpu: 8E`.
        assert_eq!(shares(u64::MAX), 262_144);
        assert_eq!(quota(u64::MAX), (1 << 44) - 1);
        let mut c = Container::default();
        c.resources.cpu_limit = Some(u64::MAX);
        let spec = Spec {
            containers: vec![c.clone(), c],
            ..Spec::default()
        };
        assert_eq!(spec.cpu_requests(), u64::MAX);
    }

    #[test]
    fn huge_pages_of_containers_and_of_their_pod() {
        use spec::PageSize::{G1, M2};
        let container = |size, bytes| {
            let mut c = Container::default();
            c.resources.hugepages.set(size, bytes);
            c
        };
        let spec = Spec {
            containers: vec![container(M2, 4 << 20), container(G1, 1 << 30)],
            ..Spec::default()
        };
        let words = |limits: &[HugepageLimit]| -> Vec<String> {
            let word = |l: &HugepageLimit| format!("{}={:?}", l.page_size, l.limit);
            limits.iter().map(word).collect()
        };
        let pod = plan_pod_resources(&spec).hugepages;
        assert_eq!(words(&pod), ["2MB=At(4194304)", "1GB=At(1073741824)"]);
        let machine = ["1GB", "2MB", "64KB"].map(str::to_owned);
        let none = plan_no_hugepages(&spec, &machine).hugepages;
        assert_eq!(words(&none), ["64KB=At(0)"]);
        let of = |c: &Container, pod| {
            let plan = plan_resources(c, pod, true);
            let limits = plan.hugepage_limits().iter().flatten();
            limits
                .map(|l| (l.page_size().clone(), l.limit()))
                .collect::<Vec<_>>()
        };
        let [first, second] = [("2MB".to_owned(), 4 << 20), ("1GB".to_owned(), 0)];
        assert_eq!(of(&spec.containers[0], spec.hugepages()), [first, second]);
        // The Pod's own cgroup says that there are none.
        assert_eq!(of(&Container::default(), Hugepages::default()), []);
    }

    #[test]
    fn requests_beyond_the_machine_are_told() {
        let mut c = Container::default();
        c.resources.cpu_request = Some(1500);
        c.resources.memory_limit = Some(3 << 30);
        let spec = Spec {
            containers: vec![c.clone(), c],
            ..Spec::default()
        };
        assert_eq!(beyond_machine(&spec, 3000, 6 << 30), [""; 0]);
        let told = beyond_machine(&spec, 2500, 4 << 30);
        assert!(
            told[0].contains("3 CPUs, and this machine has 2.5"),
            "{told:?}"
        );
        assert!(
            told[1].contains("6144 MiB of memory, and this machine has 4096"),
            "{told:?}"
        );
        assert_eq!(spec.memory_limit(), Some(6 << 30));
    }

    /// On cgroup v1 mkdir(2) fails so; on v2 the container's first process is ended.
    #[test]
    fn a_memory_limit_too_low_for_a_cgroup_is_named() {
        let hint = |errno, limit| {
            let mut c = Container::default();
            c.resources.memory_limit = limit;
            let e = out_of_memory(Error::sys("mkdir", errno), &c);
            e.get_hint().unwrap_or_default().to_owned()
        };
        let text = "resources.limits.memory of this container is 1 byte: raise it";
        assert!(hint(Errno::ENOMEM, Some(1)).starts_with(text));
        assert!(hint(Errno::ENOMEM, Some(64 << 10)).contains("is 64Ki: raise it"));
        assert_eq!(hint(Errno::ENOMEM, None), "");
        assert_eq!(hint(Errno::EROFS, Some(1)), "");
    }

    #[test]
    fn bytes_are_written_as_in_a_manifest() {
        let texts = [0, 1, 1000, 1 << 10, 3 << 19, 1 << 30].map(bytes);
        let want = ["0 bytes", "1 byte", "1000 bytes", "1Ki", "1536Ki", "1Gi"];
        assert_eq!(texts, want);
    }
}
