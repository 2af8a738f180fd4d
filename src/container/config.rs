//! A `config.json`: runtime-spec 1.3, config.md. The types are oci-spec's, but for
//! `process`, since oci-spec's own checks one string of it (`execCPUAffinity`) by
//! a regular expression, whose engine would be an eighth of `carob-oci`, and takes
//! a capability that it does not know for an error, where the spec wants a warning
//! and a container without it.
//!
//! Says what is written, not what is meant: that is [`super::plan`]. What the spec
//! has for other systems, or not at all, is passed over.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime as oci;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

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

/// Of `process`, and what `exec --process` is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<oci::Box>,
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
    pub scheduler: Option<oci::Scheduler>,
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
    fn takes_what_go_writes_for_nothing_as_nothing() {
        let p: Process = serde_json::from_value(json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": null, "env": null,
            "capabilities": {"bounding": null}, "rlimits": null, "scheduler": null
        }))
        .unwrap();
        assert!(p.args.is_none() && p.rlimits.is_none() && p.scheduler.is_none());
        assert!(p.capabilities.unwrap().bounding.is_none());
    }
}
