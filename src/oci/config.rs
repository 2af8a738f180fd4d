//! A `config.json`: runtime-spec 1.3, config.md. The types are oci-spec's, but for
//! `process`, since oci-spec's own checks one string of it (`execCPUAffinity`) by
//! a regular expression, whose engine would be an eighth of `carob-oci`, and takes
//! a capability that it does not know for an error, where the spec wants a warning
//! and a container without it. It also spells two flags of `scheduler` differently from
//! the spec.
//!
//! Says what is written, not what is meant: that is [`crate::container::plan`]. What the spec
//! has for other systems, or not at all, is passed over.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime as oci;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub oci_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<oci::Root>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<oci::Mount>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<oci::Hooks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<HashMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<oci::Linux>,
    /// Whether it is there is all that matters here.
    #[serde(skip_serializing)]
    pub vm: Option<IgnoredAny>,
}

impl Config {
    /// As JSON, with a filter that is JSON already: the containers of a Pod have the same
    /// one, and it is most of the text.
    ///
    /// # Errors
    /// A filter belongs to `linux`, which is not there.
    pub fn to_json(&self, filter: Option<&str>) -> Result<String> {
        let mut text = serde_json::to_string(self)?;
        let Some(filter) = filter else {
            return Ok(text);
        };
        // The last field is `linux`.
        let end = match &self.linux {
            Some(_) => text.strip_suffix("}}").map(str::len),
            None => None,
        };
        text.truncate(end.ok_or_else(|| Error::invalid("linux: has to be there for a filter"))?);
        for part in [",\"seccomp\":", filter, "}}"] {
            text.push_str(part);
        }
        Ok(text)
    }
}

/// Of `process`, and what `exec --process` is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<oci::Box>,
    /// The spec requires it; runc and crun take its absence for 0:0, and process files
    /// that people write do without.
    #[serde(default)]
    pub user: oci::User,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    pub cwd: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimits: Option<Vec<oci::PosixRlimit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<oci::LinuxIOPriority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// Names as in capabilities(7), of which this program need not know each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Capabilities {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounding: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inheritable: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permitted: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Vec<String>>,
}

/// sched_setattr(2).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduler {
    pub policy: oci::LinuxSchedulerPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<SchedulerFlag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum SchedulerFlag {
    #[serde(rename = "SCHED_FLAG_RESET_ON_FORK")]
    ResetOnFork,
    #[serde(rename = "SCHED_FLAG_RECLAIM")]
    Reclaim,
    #[serde(rename = "SCHED_FLAG_DL_OVERRUN")]
    DlOverrun,
    #[serde(rename = "SCHED_FLAG_KEEP_POLICY")]
    KeepPolicy,
    #[serde(rename = "SCHED_FLAG_KEEP_PARAMS")]
    KeepParams,
    #[serde(rename = "SCHED_FLAG_UTIL_CLAMP_MIN")]
    UtilClampMin,
    #[serde(rename = "SCHED_FLAG_UTIL_CLAMP_MAX")]
    UtilClampMax,
}

/// Lists of CPUs, as in `0-3,7`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecCpuAffinity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#final: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Field for field what oci-spec reads and writes, where that has no opinion
    /// of its own.
    #[test]
    fn says_what_oci_spec_says() {
        let written = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "process": {
                "terminal": true,
                "consoleSize": {"height": 24, "width": 80},
                "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]},
                "args": ["sh"],
                "env": ["A=b"],
                "cwd": "/",
                "capabilities": {
                    "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
                    "inheritable": [], "permitted": ["CAP_KILL"], "ambient": []
                },
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1}],
                "noNewPrivileges": true,
                "apparmorProfile": "a",
                "oomScoreAdj": 100,
                "selinuxLabel": "s",
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
                "scheduler": {"policy": "SCHED_OTHER", "nice": 5},
                "execCPUAffinity": {"initial": "0-1", "final": "0"}
            },
            "hostname": "h",
            "domainname": "d",
            "hooks": {"prestart": [{"path": "/bin/true"}]},
            "annotations": {"a": "b"},
            "linux": {"namespaces": [{"type": "pid"}]}
        });
        let ours: Config = serde_json::from_value(written.clone()).unwrap();
        let theirs: oci::Spec = serde_json::from_value(written).unwrap();
        let (ours, theirs): (Value, Value) = (
            serde_json::to_value(ours).unwrap(),
            serde_json::to_value(theirs).unwrap(),
        );
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_filter_that_is_written_already_is_part_of_the_text() {
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []});
        let whole =
            json!({"ociVersion": "1.3.0", "linux": {"cgroupsPath": "/c", "seccomp": filter}});
        let mut config: Config = serde_json::from_value(whole.clone()).unwrap();
        let written = config.to_json(None).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), whole);
        config.linux.as_mut().unwrap().set_seccomp(None);
        let written = config.to_json(Some(&filter.to_string())).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), whole);
        config.linux = None;
        assert!(config.to_json(Some("{}")).is_err());
    }

    #[test]
    fn takes_what_go_writes_for_nothing_as_nothing() {
        let p: Process = serde_json::from_value(json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": null, "env": null,
            "capabilities": {"bounding": null}, "rlimits": null, "scheduler": null
        }))
        .unwrap();
        assert!(p.args.is_none() && p.rlimits.is_none() && p.scheduler.is_none());
        assert!(p.capabilities.unwrap().bounding.is_none());
    }

    /// Each value of a list in config.md and config-linux.md of runtime-spec 1.3.
    #[test]
    fn knows_every_name_of_the_spec() {
        fn all<T: serde::de::DeserializeOwned>(names: &str) {
            for name in names.split_whitespace() {
                let read = serde_json::from_value::<T>(name.into());
                assert!(read.is_ok(), "{name}: {:?}", read.err());
            }
        }
        all::<oci::LinuxSchedulerPolicy>(
            "SCHED_OTHER SCHED_FIFO SCHED_RR SCHED_BATCH SCHED_ISO SCHED_IDLE SCHED_DEADLINE",
        );
        all::<SchedulerFlag>(
            "SCHED_FLAG_RESET_ON_FORK SCHED_FLAG_RECLAIM SCHED_FLAG_DL_OVERRUN \
             SCHED_FLAG_KEEP_POLICY SCHED_FLAG_KEEP_PARAMS SCHED_FLAG_UTIL_CLAMP_MIN \
             SCHED_FLAG_UTIL_CLAMP_MAX",
        );
        all::<oci::IOPriorityClass>("IOPRIO_CLASS_RT IOPRIO_CLASS_BE IOPRIO_CLASS_IDLE");
        all::<oci::PosixRlimitType>(
            "RLIMIT_AS RLIMIT_CORE RLIMIT_CPU RLIMIT_DATA RLIMIT_FSIZE RLIMIT_LOCKS \
             RLIMIT_MEMLOCK RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_NOFILE RLIMIT_NPROC RLIMIT_RSS \
             RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_STACK",
        );
        all::<oci::LinuxNamespaceType>("pid network mount ipc uts user cgroup time");
        all::<oci::LinuxDeviceType>("a b c u p");
        all::<oci::LinuxPersonalityDomain>("LINUX LINUX32");
        all::<oci::MemoryPolicyModeType>(
            "MPOL_DEFAULT MPOL_BIND MPOL_INTERLEAVE MPOL_WEIGHTED_INTERLEAVE MPOL_PREFERRED \
             MPOL_PREFERRED_MANY MPOL_LOCAL",
        );
        all::<oci::MemoryPolicyFlagType>(
            "MPOL_F_NUMA_BALANCING MPOL_F_RELATIVE_NODES MPOL_F_STATIC_NODES",
        );
        all::<oci::LinuxSeccompAction>(
            "SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD SCMP_ACT_TRAP \
             SCMP_ACT_ERRNO SCMP_ACT_TRACE SCMP_ACT_ALLOW SCMP_ACT_LOG SCMP_ACT_NOTIFY",
        );
        all::<oci::LinuxSeccompOperator>(
            "SCMP_CMP_NE SCMP_CMP_LT SCMP_CMP_LE SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT \
             SCMP_CMP_MASKED_EQ",
        );
        all::<oci::LinuxSeccompFilterFlag>(
            "SECCOMP_FILTER_FLAG_TSYNC SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW \
             SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        );
        all::<oci::Arch>(
            "SCMP_ARCH_X86 SCMP_ARCH_X86_64 SCMP_ARCH_X32 SCMP_ARCH_ARM SCMP_ARCH_AARCH64 \
             SCMP_ARCH_MIPS SCMP_ARCH_MIPS64 SCMP_ARCH_MIPS64N32 SCMP_ARCH_MIPSEL \
             SCMP_ARCH_MIPSEL64 SCMP_ARCH_MIPSEL64N32 SCMP_ARCH_PPC SCMP_ARCH_PPC64 \
             SCMP_ARCH_PPC64LE SCMP_ARCH_S390 SCMP_ARCH_S390X SCMP_ARCH_PARISC \
             SCMP_ARCH_PARISC64 SCMP_ARCH_RISCV64 SCMP_ARCH_LOONGARCH64 SCMP_ARCH_M68K \
             SCMP_ARCH_SH SCMP_ARCH_SHEB",
        );
    }
}
