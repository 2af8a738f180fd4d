//! A process: config.md, "process"; and what config-linux.md says of its first.

use std::path::PathBuf;
use std::rc::Rc;

use crate::linux::{capability, seccomp};

/// The PATH of a process that has none.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug)]
pub struct Process {
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub umask: u32,
    pub capabilities: capability::Sets,
    pub no_new_privileges: bool,
    /// Shared by the containers that have the same.
    pub seccomp: Option<Rc<seccomp::Filter>>,
    /// Where the filter's notifications are served, and what is told there.
    pub seccomp_listener: Option<(PathBuf, String)>,
    pub oom_score_adj: Option<i32>,
    pub terminal: bool,
    /// Columns and rows.
    pub console_size: Option<(u16, u16)>,
    /// The terminal puts no carriage return before a newline, since its output is carried
    /// to a file or pipe.
    pub plain_newlines: bool,
    /// RLIMIT_*, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// ioprio_set(2).
    pub io_priority: Option<i32>,
    pub scheduler: Option<Scheduler>,
    /// CPUs of an exec process: before it joins the cgroup, and from then on.
    pub affinity: (Option<Vec<usize>>, Option<Vec<usize>>),
    /// personality(2).
    pub personality: Option<u64>,
    /// set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicy>,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    /// The fds from 3 on that it inherits, this many.
    pub preserve_fds: u32,
    /// HOME is taken from /etc/passwd if `env` does not have it, or it is empty there.
    pub find_home: bool,
    /// A session keyring of its own: its caller's keys are not the container's.
    pub own_keyring: bool,
    /// It is killed when its caller ends, as long as it keeps its user and capabilities
    /// (prctl(2), PR_SET_PDEATHSIG).
    pub dies_with_caller: bool,
    /// What was asked for and is passed over, for the log.
    pub warnings: Vec<String>,
}

/// sched_setattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, as the two below: SCHED_DEADLINE's.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// MPOL_* and MPOL_F_*.
    pub mode: i32,
    pub nodes: Vec<usize>,
}
