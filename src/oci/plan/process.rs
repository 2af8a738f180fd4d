//! Processes of a configuration, the first and one more: config.md, "process"; and what
//! config-linux.md says of the first.

use std::collections::HashMap;
use std::rc::Rc;

use oci_spec::runtime as oci;

use crate::container::plan::Process;
use crate::container::plan::process::{MemoryPolicy, Scheduler};
use crate::linux::capability;
use crate::linux::seccomp::Filter;
use crate::oci::config;
use crate::oci::seccomp;
use crate::{Context, Error, Result};

/// Plans a process of a container, its first or one more. `linux` is the container's:
/// its filter, personality and memory policy are those of each of its processes.
pub fn plan_process(process: &config::Process, linux: Option<&oci::Linux>) -> Result<Process> {
    plan_with(process, linux, None)
}

/// As [`plan_process`]; `filter` is in the place of `linux.seccomp`.
pub(super) fn plan_with(
    process: &config::Process,
    linux: Option<&oci::Linux>,
    filter: Option<Rc<Filter>>,
) -> Result<Process> {
    let described = linux.and_then(|l| l.seccomp().as_ref());
    let argv = process.args.clone().unwrap_or_default();
    if argv.is_empty() || argv[0].is_empty() {
        return Err(Error::invalid("process.args: no command to run"));
    }
    if let Some(i) = argv.iter().position(|s| s.contains('\0')) {
        return Err(Error::invalid(format!("process.args[{i}]: a NUL byte")));
    }
    let env = plan_env(process.env.as_deref().unwrap_or_default())?;
    if !process.cwd.is_absolute() {
        return Err(Error::invalid(format!(
            "process.cwd: {:?} is not absolute",
            process.cwd
        )));
    }
    let user = &process.user;
    check_user(user)?;
    let program = match (filter, described) {
        (None, Some(described)) => Some(seccomp::compile(&seccomp::plan(described)?)?),
        (filter, _) => filter,
    };
    let listener = described.and_then(|s| s.listener_path().clone());
    let (capabilities, unknown) = plan_capabilities(process.capabilities.as_ref());
    let label = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    Ok(Process {
        argv,
        env,
        cwd: process.cwd.clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022) & 0o7777,
        capabilities,
        no_new_privileges: process.no_new_privileges.unwrap_or(false),
        seccomp: program,
        seccomp_listener: listener.map(|path| {
            let metadata = described.and_then(|s| s.listener_metadata().clone());
            (path, metadata.unwrap_or_default())
        }),
        oom_score_adj: match process.oom_score_adj {
            Some(n) if !(-1000..=1000).contains(&n) => {
                return Err(Error::invalid(format!(
                    "process.oomScoreAdj: {n}: -1000 to 1000"
                )));
            }
            n => n,
        },
        terminal: process.terminal.unwrap_or(false),
        console_size: plan_console_size(process)?,
        plain_newlines: false,
        rlimits: plan_rlimits(process)?,
        io_priority: process
            .io_priority
            .as_ref()
            .map(plan_io_priority)
            .transpose()?,
        scheduler: process.scheduler.as_ref().map(plan_scheduler).transpose()?,
        affinity: match &process.exec_cpu_affinity {
            Some(a) => (
                numbers(&a.initial, "process.execCPUAffinity.initial", 8191)?,
                numbers(&a.r#final, "process.execCPUAffinity.final", 8191)?,
            ),
            None => (None, None),
        },
        personality: linux
            .and_then(|l| l.personality().as_ref())
            .map(plan_personality)
            .transpose()
            .context("linux.personality")?,
        memory_policy: linux
            .and_then(|l| l.memory_policy().as_ref())
            .map(plan_memory_policy)
            .transpose()
            .context("linux.memoryPolicy")?,
        apparmor_profile: label(&process.apparmor_profile),
        selinux_label: label(&process.selinux_label),
        preserve_fds: 0,
        find_home: false,
        dies_with_caller: false,
        own_keyring: true,
        warnings: match unknown.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "process.capabilities: {}: no such capability",
                unknown.join(", ")
            )],
        },
    })
}

/// To setresuid(2), 4294967295 means "leave it", which would leave root.
fn check_user(user: &oci::User) -> Result<()> {
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    for (field, ids) in [
        ("uid", &[user.uid()][..]),
        ("gid", &[user.gid()]),
        ("additionalGids", groups),
    ] {
        if ids.contains(&u32::MAX) {
            return Err(Error::invalid(format!(
                "process.user.{field}: 4294967295 is no id"
            )));
        }
    }
    Ok(())
}

/// Columns and rows; zero by zero is none.
fn plan_console_size(process: &config::Process) -> Result<Option<(u16, u16)>> {
    let Some(b) = process
        .console_size
        .filter(|b| b.width() != 0 || b.height() != 0)
    else {
        return Ok(None);
    };
    let side = |field: &str, n: u64| {
        u16::try_from(n)
            .map_err(|_| Error::invalid(format!("process.consoleSize.{field}: {n}: 65535 at most")))
    };
    Ok(Some((
        side("width", b.width())?,
        side("height", b.height())?,
    )))
}

/// The last one of a name counts, in the place of the first: getenv(3) finds the
/// first, and what `exec --env` says comes after what config.json says.
fn plan_env(list: &[String]) -> Result<Vec<String>> {
    let mut env: Vec<String> = Vec::with_capacity(list.len());
    let mut places = HashMap::with_capacity(list.len());
    for (i, entry) in list.iter().enumerate() {
        let invalid = |what| Err(Error::invalid(format!("process.env[{i}]: {what}")));
        if entry.contains('\0') {
            return invalid("a NUL byte");
        }
        match entry.split_once('=') {
            None => return invalid("no `=`"),
            Some(("", _)) => return invalid("no name before the `=`"),
            Some((name, _)) => match places.insert(name, env.len()) {
                None => env.push(entry.clone()),
                Some(place) => {
                    env[place].clone_from(entry);
                    places.insert(name, place);
                }
            },
        }
    }
    Ok(env)
}

/// The names of getrlimit(2)'s resources, and their numbers.
const RLIMITS: [(oci::PosixRlimitType, u32); 16] = {
    use oci::PosixRlimitType as T;
    [
        (T::RlimitCpu, libc::RLIMIT_CPU),
        (T::RlimitFsize, libc::RLIMIT_FSIZE),
        (T::RlimitData, libc::RLIMIT_DATA),
        (T::RlimitStack, libc::RLIMIT_STACK),
        (T::RlimitCore, libc::RLIMIT_CORE),
        (T::RlimitRss, libc::RLIMIT_RSS),
        (T::RlimitNproc, libc::RLIMIT_NPROC),
        (T::RlimitNofile, libc::RLIMIT_NOFILE),
        (T::RlimitMemlock, libc::RLIMIT_MEMLOCK),
        (T::RlimitAs, libc::RLIMIT_AS),
        (T::RlimitLocks, libc::RLIMIT_LOCKS),
        (T::RlimitSigpending, libc::RLIMIT_SIGPENDING),
        (T::RlimitMsgqueue, libc::RLIMIT_MSGQUEUE),
        (T::RlimitNice, libc::RLIMIT_NICE),
        (T::RlimitRtprio, libc::RLIMIT_RTPRIO),
        (T::RlimitRttime, libc::RLIMIT_RTTIME),
    ]
};

/// Limits, as number, soft and hard one, as a configuration has them.
pub(crate) fn describe_rlimits(limits: &[(u32, u64, u64)]) -> Result<Vec<oci::PosixRlimit>> {
    let known = limits.iter().filter_map(|(number, soft, hard)| {
        let (kind, _) = RLIMITS.iter().find(|(_, n)| n == number)?;
        let limit = oci::PosixRlimitBuilder::default();
        Some(limit.typ(*kind).soft(*soft).hard(*hard).build())
    });
    known
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::failed(format!("process.rlimits: {e}")))
}

fn plan_rlimits(process: &config::Process) -> Result<Vec<(u32, u64, u64)>> {
    let mut limits: Vec<(u32, u64, u64)> = Vec::new();
    for (i, r) in process.rlimits.iter().flatten().enumerate() {
        let field = format!("process.rlimits[{i}]");
        let Some((_, number)) = RLIMITS.iter().find(|(kind, _)| *kind == r.typ()) else {
            return Err(Error::unsupported(format!("{field}.type: {}", r.typ())));
        };
        if limits.iter().any(|(n, ..)| n == number) {
            return Err(Error::invalid(format!(
                "{field}.type: {} is there twice",
                r.typ()
            )));
        }
        if r.soft() > r.hard() {
            return Err(Error::invalid(format!(
                "{field}.soft: {} is more than hard, {}",
                r.soft(),
                r.hard()
            )));
        }
        limits.push((*number, r.soft(), r.hard()));
    }
    Ok(limits)
}

fn plan_io_priority(p: &oci::LinuxIOPriority) -> Result<i32> {
    use oci::IOPriorityClass as C;
    let class = match p.class() {
        C::IoprioClassRt => 1,
        C::IoprioClassBe => 2,
        C::IoprioClassIdle => 3,
    };
    match p.priority() {
        level @ 0..=7 => Ok(class << 13 | level as i32),
        other => Err(Error::invalid(format!(
            "process.ioPriority.priority: {other}: 0 to 7"
        ))),
    }
}

fn plan_scheduler(s: &config::Scheduler) -> Result<Scheduler> {
    use config::SchedulerFlag as F;
    use oci::LinuxSchedulerPolicy as P;
    let policy = match s.policy {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    let invalid = |what: String| Err(Error::invalid(format!("process.scheduler.{what}")));
    let real_time = matches!(policy, 1 | 2);
    let priority = s.priority.unwrap_or(0);
    if real_time && !(1..=99).contains(&priority) || !real_time && priority != 0 {
        return invalid(format!(
            "priority: {priority}: 1 to 99 with SCHED_FIFO and SCHED_RR, else 0"
        ));
    }
    let nice = s.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return invalid(format!("nice: {nice}: -20 to 19"));
    }
    let flags = s.flags.iter().flatten().fold(0, |all, f| {
        all | match f {
            F::ResetOnFork => 0x01,
            F::Reclaim => 0x02,
            F::DlOverrun => 0x04,
            F::KeepPolicy => 0x08,
            F::KeepParams => 0x10,
            F::UtilClampMin => 0x20,
            F::UtilClampMax => 0x40,
        }
    });
    let (runtime, deadline, period) = (s.runtime, s.deadline, s.period);
    if policy != 6 && (runtime, deadline, period) != (None, None, None) {
        return invalid("runtime: it, deadline and period are SCHED_DEADLINE's".into());
    }
    Ok(Scheduler {
        policy,
        flags,
        nice,
        priority: priority as u32,
        runtime: runtime.unwrap_or(0),
        deadline: deadline.unwrap_or(0),
        period: period.unwrap_or(0),
    })
}

fn plan_personality(p: &oci::LinuxPersonality) -> Result<u64> {
    if p.flags().iter().flatten().next().is_some() {
        return Err(Error::invalid("flags: runtime-spec 1.3 defines none"));
    }
    Ok(match p.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        // PER_LINUX32 of linux/personality.h.
        oci::LinuxPersonalityDomain::PerLinux32 => 0x0008,
    })
}

fn plan_memory_policy(p: &oci::LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    use oci::{MemoryPolicyFlagType as F, MemoryPolicyModeType as M};
    // linux/mempolicy.h
    let mode = match p.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flags = p.flags().iter().flatten().fold(0, |all, f| {
        all | match f {
            F::MpolFNumaBalancing => 1 << 13,
            F::MpolFRelativeNodes => 1 << 14,
            F::MpolFStaticNodes => 1 << 15,
        }
    });
    let nodes = numbers(p.nodes(), "nodes", 1023)?.unwrap_or_default();
    if nodes.is_empty()
        && matches!(
            p.mode(),
            M::MpolBind | M::MpolInterleave | M::MpolPreferredMany | M::MpolWeightedInterleave
        )
    {
        return Err(Error::invalid("nodes: this mode needs some"));
    }
    Ok(MemoryPolicy {
        mode: mode | flags,
        nodes,
    })
}

/// A list as in `0-3,7`.
fn numbers(list: &Option<String>, field: &str, most: usize) -> Result<Option<Vec<usize>>> {
    let Some(list) = list.as_deref().filter(|l| !l.is_empty()) else {
        return Ok(None);
    };
    let bad = || {
        Error::invalid(format!(
            "{field}: {list:?} is no list of numbers up to {most}"
        ))
    };
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n <= most);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => all.extend(first..=last),
            _ => return Err(bad()),
        }
    }
    Ok(Some(all))
}

/// The sets, and the names that stand for nothing, of which config.md wants a
/// warning and no error.
fn plan_capabilities(c: Option<&config::Capabilities>) -> (capability::Sets, Vec<String>) {
    let mut unknown = Vec::new();
    let mut set = |names: Option<&Vec<String>>| {
        let mut set = capability::Set::EMPTY;
        for name in names.into_iter().flatten() {
            match capability::Set::from_exact_name(name) {
                Some(one) => set = set | one,
                None if unknown.contains(name) => {}
                None => unknown.push(name.clone()),
            }
        }
        set
    };
    let sets = capability::Sets {
        bounding: set(c.and_then(|c| c.bounding.as_ref())),
        effective: set(c.and_then(|c| c.effective.as_ref())),
        permitted: set(c.and_then(|c| c.permitted.as_ref())),
        inheritable: set(c.and_then(|c| c.inheritable.as_ref())),
        ambient: set(c.and_then(|c| c.ambient.as_ref())),
    };
    (sets, unknown)
}
