//! What a process has from its caller and passes on to its children: umask(2),
//! getrlimit(2), sched_setaffinity(2), sched(7), ioprio_set(2), set_mempolicy(2),
//! personality(2). A Pod must not depend on the shell from which it was made, nor on
//! the one whose command happened to start its next monitor.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::Ignored;
use crate::sys::attribute as sys;

/// Why a refusal changes nothing.
const FILTERED: &str = "only a seccomp filter refuses it; the process keeps its caller's";

/// What is made has the modes 0755 and 0644, whatever the caller's umask.
const UMASK: Mode = Mode::from_bits_truncate(0o022);

const MIB: u64 = 1 << 20;

/// The soft and hard limits of a service manager's daemon with those of containerd's
/// unit above them: docs/cli.md has the table.
fn daemon_limits() -> [(u32, u64, u64); 16] {
    const ALL: u64 = libc::RLIM64_INFINITY;
    // The kernel's own default for the first process, fork_init(): half of what the
    // memory has room for.
    let signals = std::fs::read_to_string("/proc/sys/kernel/threads-max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map_or(ALL, |threads| threads / 2);
    [
        (libc::RLIMIT_CPU, ALL, ALL),
        (libc::RLIMIT_FSIZE, ALL, ALL),
        (libc::RLIMIT_DATA, ALL, ALL),
        (libc::RLIMIT_STACK, 8 * MIB, ALL),
        (libc::RLIMIT_CORE, ALL, ALL),
        (libc::RLIMIT_RSS, ALL, ALL),
        (libc::RLIMIT_NPROC, ALL, ALL),
        (libc::RLIMIT_NOFILE, MIB, MIB),
        (libc::RLIMIT_MEMLOCK, 8 * MIB, 8 * MIB),
        (libc::RLIMIT_AS, ALL, ALL),
        (libc::RLIMIT_LOCKS, ALL, ALL),
        (libc::RLIMIT_SIGPENDING, signals, signals),
        (libc::RLIMIT_MSGQUEUE, 819_200, 819_200),
        (libc::RLIMIT_NICE, 0, 0),
        (libc::RLIMIT_RTPRIO, 0, 0),
        (libc::RLIMIT_RTTIME, ALL, ALL),
    ]
}

/// Gives the calling process the values that a daemon has. One that the process has
/// no right to (a hard limit is raised by CAP_SYS_RESOURCE alone) comes as near to it
/// as the kernel allows: a Pod is not refused for it.
pub(crate) fn leave() {
    reset_umask();
    reset_affinity();
    for (resource, soft, hard) in daemon_limits() {
        set_limit(resource, soft, hard);
    }
    sys::set_scheduler(sys::SchedAttr::default()).ignored(FILTERED);
    sys::set_io_priority(0).ignored(FILTERED);
    sys::set_memory_policy(libc::MPOL_DEFAULT, &[])
        .ignored("a kernel without NUMA has no policy to leave");
    sys::set_personality(0).ignored(FILTERED);
}

/// Number, soft and hard limit of each that is in force for the calling process: those of
/// a daemon after [`leave`], or what the kernel allowed of them.
pub(crate) fn limits() -> Vec<(u32, u64, u64)> {
    let own = Pid::from_raw(0);
    let limit = |n| sys::limits(own, n).ok().map(|(soft, hard)| (n, soft, hard));
    // The last one that Linux has.
    (0..=libc::RLIMIT_RTTIME).filter_map(limit).collect()
}

pub(crate) fn reset_umask() {
    nix::sys::stat::umask(UMASK);
}

/// Lets the process run on every CPU that its cpuset cgroup allows: the kernel leaves
/// out the others. To be called when that cgroup has been joined.
pub(crate) fn reset_affinity() {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu)
            .ignored("every number below the count is taken");
    }
    sched_setaffinity(Pid::from_raw(0), &all).ignored(FILTERED);
}

fn set_limit(resource: u32, soft: u64, hard: u64) {
    let own = Pid::from_raw(0);
    if sys::set_limit(own, resource, soft, hard) != Err(Errno::EPERM) {
        return;
    }
    if let Ok((_, most)) = sys::limits(own, resource) {
        let hard = hard.min(most);
        sys::set_limit(own, resource, soft.min(hard), hard).ignored(FILTERED);
    }
}
