//! A container: its program, environment, ports, probes and hooks.
//!
//! A new field has `#[serde(default)]`, since records of Pods that run are without it; a line
//! in `manifest::fields` and docs/fields.md; it is filled in `manifest::container`. What it
//! changes inside the container goes to `pod::bundle`, what it changes of its life to
//! `pod::monitor::kubelet`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Check, Mount, ObjectRef, Probe, ProbeKind, Resources, RestartPolicy, RestartRule, Security,
    VolumeDevice,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub name: String,
    /// Of an ephemeral one: the container whose processes it sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// As written; the image layer reads it as Docker and Kubernetes do.
    pub image: String,
    pub pull_policy: PullPolicy,
    /// Replaces the image's ENTRYPOINT and drops its CMD if not empty.
    pub command: Vec<String>,
    /// Replaces the image's CMD if not empty.
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    /// In their order; later wins, and `env` over all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
    /// In their order; later wins. `$(VAR)` is expanded when the container is
    /// made, since a value may come from the Pod's status.
    pub env: Vec<EnvVar>,
    pub ports: Vec<Port>,
    pub resources: Resources,
    #[serde(default)]
    pub resize_policy: ResizePolicy,
    pub mounts: Vec<Mount>,
    /// volumeDevices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<VolumeDevice>,
    pub security: Security,
    #[serde(default)]
    pub startup: Option<Probe>,
    #[serde(default)]
    pub readiness: Option<Probe>,
    #[serde(default)]
    pub liveness: Option<Probe>,
    pub post_start: Option<Hook>,
    pub pre_stop: Option<Hook>,
    /// A signal's number, from lifecycle.stopSignal; else the image's, else TERM.
    pub stop_signal: Option<i32>,
    pub termination_message_path: String,
    pub termination_message_from_logs: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    /// An init container with `restartPolicy: Always`.
    pub sidecar: bool,
    /// In the place of the Pod's.
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
    /// At most 20; the first one that fits decides.
    #[serde(default)]
    pub restart_rules: Vec<RestartRule>,
}

impl Container {
    pub(crate) fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
        }
    }
}

/// Whether the container restarts when one of its resources is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResizePolicy {
    pub cpu_restarts: bool,
    pub memory_restarts: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub(crate) const ALL: [(&'static str, PullPolicy); 3] = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];

    /// Where a manifest has none: `Always` for what may change under its name, without a
    /// tag or with `latest`.
    pub(crate) fn by_tag(image: &str) -> Self {
        if image.contains('@') {
            return PullPolicy::IfNotPresent;
        }
        let last = image.rsplit('/').next().unwrap_or_default();
        match last.split_once(':') {
            None | Some((_, "latest" | "")) => PullPolicy::Always,
            Some(_) => PullPolicy::IfNotPresent,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum EnvValue {
    /// Text in which `$(VAR)` is expanded.
    Text(String),
    /// `metadata.name`, `metadata.labels['k']`, `status.podIP`, ...
    Field(String),
    /// `limits.memory` and the like of a container, divided (rounding up) by
    /// `divisor`, which is in thousandths for cpu and in bytes otherwise.
    Resource {
        container: String,
        resource: String,
        divisor: u64,
    },
    /// The value of a key of a ConfigMap or a Secret.
    Key { object: ObjectRef, key: String },
    /// A variable from a file in the form of a shell's assignments (KEP-3721), in a volume
    /// of the Pod: an emptyDir that an init container has written to.
    File {
        volume: String,
        /// Relative, without `..`.
        path: String,
        key: String,
        optional: bool,
    },
}

/// Every key of a ConfigMap or a Secret as a variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EnvFrom {
    /// In front of each key.
    pub prefix: String,
    pub object: ObjectRef,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Port {
    pub name: Option<String>,
    pub container_port: u16,
    pub host_port: Option<u16>,
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Hook {
    /// A command, a request, a connection; gRPC is not among a hook's.
    Check(Check),
    /// Seconds.
    Sleep(u64),
}
