//! What a container's first process sets for itself and its namespaces before it
//! is confined: keyrings(7), personality(2), set_mempolicy(2), ioprio_set(2),
//! sched(7), sethostname(2), and sysctls (proc(5), /proc/sys).

use nix::errno::Errno;

use super::plan::namespace::{NET, UTS};
use super::plan::process::Scheduler;
use super::plan::{Plan, Process};
use crate::linux::procfs::Procfs;
use crate::sys::attribute as sys;
use crate::{Call, Context, Error, Result};

/// What goes with the process through exec.
pub(super) fn apply_inherited(plan: &Plan) -> Result<()> {
    if plan.process.own_keyring {
        match new_keyring() {
            // One user may have only so many, and a container without a keyring of its
            // own is better than none at all.
            Err(e) if e.errno() == Some(Errno::EDQUOT) => {}
            other => other?,
        }
    }
    apply_to_process(&plan.process)
}

pub(super) fn apply_to_process(p: &Process) -> Result<()> {
    if let Some(policy) = &p.memory_policy {
        let mut mask = Vec::new();
        for node in &policy.nodes {
            if mask.len() <= node / 64 {
                mask.resize(node / 64 + 1, 0_u64);
            }
            mask[node / 64] |= 1 << (node % 64);
        }
        sys::set_memory_policy(policy.mode, &mask)
            .call(|| format!("set_mempolicy({:#x}, {:?})", policy.mode, policy.nodes))
            .context("linux.memoryPolicy")?;
    }
    if let Some(value) = p.personality {
        sys::set_personality(value)
            .call(|| format!("personality({value:#x})"))
            .context("linux.personality")?;
    }
    if let Some(value) = p.io_priority {
        sys::set_io_priority(value)
            .call(|| format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {value:#x})"))
            .context("process.ioPriority")?;
    }
    if let Some(s) = p.scheduler {
        let attr = sys::SchedAttr {
            policy: s.policy,
            flags: s.flags,
            nice: s.nice,
            priority: s.priority,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
            ..Default::default()
        };
        sys::set_scheduler(attr)
            .map_err(|e| scheduler_error(s, e))
            .context("process.scheduler")?;
    }
    Ok(())
}

/// sched_setattr(2) and sched(7) have these rules; the kernel's errno does not say which.
fn scheduler_error(s: Scheduler, e: Errno) -> Error {
    let error = Error::sys(format!("sched_setattr(0, {s:?})"), e);
    match (s.policy as i32, e) {
        (libc::SCHED_DEADLINE, Errno::EINVAL) => error.hint(
            "runtime is 1024 ns at least and not more than deadline, deadline is not more than \
             period, and period is within kernel.sched_deadline_period_min_us and _max_us",
        ),
        (libc::SCHED_FIFO | libc::SCHED_RR, Errno::EPERM) => error.hint(
            "CAP_SYS_NICE is needed, and on cgroup v1 realtime time, which a cgroup has none of \
             until linux.resources.cpu.realtimeRuntime gives it some",
        ),
        _ => error,
    }
}

/// So that the caller's keys are not the container's. Without a name: one that has a
/// name may be found by it, and be there already, made by a container of the same user
/// that wants to share keys. A kernel without keyrings has none to leak.
pub(super) fn new_keyring() -> Result<()> {
    match sys::new_session_keyring() {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(e) => Err(Error::sys("keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)", e)),
    }
}

/// While the host's /proc is still there: it shows the namespaces of whoever
/// looks, and no container has had its hands on it.
pub(super) fn apply_to_namespaces(plan: &Plan) -> Result<()> {
    let n = &plan.namespaces;
    if n.new.contains(NET) {
        super::netdev::loopback_up().context("bring loopback up")?;
    }
    if let Some(name) = plan.hostname.as_ref().filter(|_| n.has(UTS)) {
        nix::unistd::sethostname(name).call(|| format!("sethostname({name:?})"))?;
    }
    let proc = match (&plan.domainname, plan.sysctls.is_empty()) {
        (None, true) => return Ok(()),
        _ => Procfs::open()?,
    };
    if let Some(name) = plan.domainname.as_ref().filter(|_| n.has(UTS)) {
        proc.write("sys/kernel/domainname".as_ref(), name)
            .context("domainname")?;
    }
    for (path, value) in &plan.sysctls {
        proc.write(&std::path::Path::new("sys").join(path), value)
            .map_err(|e| match e.errno() {
                Some(Errno::ENOENT) => e.hint("this kernel has no such sysctl"),
                _ => e,
            })
            .with_context(|| format!("linux.sysctl: {}", path.display()))?;
    }
    Ok(())
}
