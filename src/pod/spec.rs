//! What was asked for: a Pod after checking and defaulting, in our own words.
//!
//! [`crate::manifest`] makes it, the record `pod.json` keeps it, the monitor
//! obeys it. Every field here is honoured; what a manifest says and carob does
//! not do is refused or reported before this exists. Units are in the names'
//! documentation; absent means "no limit" or "the image's own".

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The record `pod.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod<Manifest = serde_json::Value> {
    /// The record's version; this program reads [`Pod::VERSION`] only.
    pub version: u32,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub created: Timestamp,
    pub spec: Spec,
    /// What its imagePullSecrets name, of those that were given with it.
    #[serde(default)]
    pub pull_secrets: Vec<PullSecret>,
    /// The v1 Pod as the user gave it with Kubernetes' defaults filled in, for
    /// showing back. The monitor never looks at it.
    pub manifest: Manifest,
}

impl Pod {
    pub const VERSION: u32 = 1;

    /// The Pod's name as arguments of a command, for hints.
    pub fn as_arguments(&self) -> String {
        match self.namespace.as_str() {
            "default" => self.name.clone(),
            namespace => format!("{} -n {namespace}", self.name),
        }
    }
}

/// What becomes of a container's output that there is no room to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenLogFull {
    #[default]
    Drop,
    /// It waits, and the container with it.
    Block,
}

impl WhenLogFull {
    pub const ANNOTATION: &str = "carob/when-log-full";
    pub const VALUES: [(&str, WhenLogFull); 2] =
        [("drop", WhenLogFull::Drop), ("block", WhenLogFull::Block)];

    /// As annotations say it.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let word = annotations.get(Self::ANNOTATION);
        let found = Self::VALUES
            .iter()
            .find(|(name, _)| word.is_some_and(|w| w == name));
        found.map(|(_, value)| *value).unwrap_or_default()
    }
}

impl Pod<serde::de::IgnoredAny> {
    /// A record that was read without its manifest, which is the larger half of it.
    pub fn without_manifest(self) -> Pod {
        Pod {
            version: self.version,
            uid: self.uid,
            namespace: self.namespace,
            name: self.name,
            labels: self.labels,
            annotations: self.annotations,
            created: self.created,
            spec: self.spec,
            pull_secrets: self.pull_secrets,
            manifest: serde_json::Value::Null,
        }
    }
}

/// A v1 Secret with a registry's credentials. It is in the record, which is root's
/// alone, and in nothing that is printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PullSecret {
    pub name: String,
    document: serde_json::Value,
}

impl PullSecret {
    pub fn new(name: String, document: serde_json::Value) -> Self {
        PullSecret { name, document }
    }

    /// The Secret, whole.
    pub fn document(&self) -> &serde_json::Value {
        &self.document
    }
}

impl std::fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullSecret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// At most 63 characters.
    pub hostname: String,
    /// Set if the Pod has a fully qualified name (hostname.subdomain...).
    pub fqdn: Option<String>,
    pub set_hostname_as_fqdn: bool,
    pub restart_policy: RestartPolicy,
    /// Seconds.
    pub termination_grace_period: u64,
    /// Seconds since the Pod's start.
    pub active_deadline: Option<u64>,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub host_aliases: Vec<HostAlias>,
    pub dns: Dns,
    /// Name in dotted form, value.
    pub sysctls: Vec<(String, String)>,
    /// The Pod's own, for what its containers share.
    #[serde(default)]
    pub se_linux: Option<SeLinuxOptions>,
    pub volumes: Vec<Volume>,
    /// In their order; those with `restart_policy: Always` are sidecars.
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostAlias {
    pub ip: IpAddr,
    pub hostnames: Vec<String>,
}

/// resolv.conf, already worked out from dnsPolicy and dnsConfig except for the
/// host's own file, which is read when the sandbox is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// Whether the host's resolv.conf is the base (dnsPolicy Default and
    /// ClusterFirst) or nothing is (None).
    pub from_host: bool,
    pub nameservers: Vec<IpAddr>,
    pub searches: Vec<String>,
    /// `name` or `name:value`.
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VolumeSource {
    EmptyDir {
        /// In memory (tmpfs) rather than on disk.
        memory: bool,
        /// Bytes.
        size_limit: Option<u64>,
    },
    HostPath {
        path: PathBuf,
        kind: HostPathKind,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathKind {
    /// No check at all.
    #[default]
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// As written; the image layer reads it as Docker and Kubernetes do.
    pub image: String,
    pub pull_policy: PullPolicy,
    /// Replaces the image's ENTRYPOINT and drops its CMD if not empty.
    pub command: Vec<String>,
    /// Replaces the image's CMD if not empty.
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    /// In their order; later wins. `$(VAR)` is expanded when the container is
    /// made, since a value may come from the Pod's status.
    pub env: Vec<EnvVar>,
    pub ports: Vec<Port>,
    pub resources: Resources,
    pub mounts: Vec<Mount>,
    pub security: Security,
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// Where a manifest has none: `Always` for what may change under its name, without a
    /// tag or with `latest`.
    pub fn by_tag(image: &str) -> Self {
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
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EnvValue {
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
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: Option<String>,
    pub container_port: u16,
    pub host_port: Option<u16>,
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

/// Requests and limits. A limit without a request is also the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_request: Option<u64>,
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub volume: String,
    /// Absolute.
    pub path: String,
    pub read_only: bool,
    /// Every mount below too (recursiveReadOnly: Enabled).
    pub recursive_read_only: bool,
    /// Relative, without `..`; `$(VAR)` not expanded.
    pub sub_path: Option<String>,
    /// As sub_path, with `$(VAR)` from the container's environment.
    pub sub_path_expr: Option<String>,
    pub propagation: Propagation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

/// The container's securityContext with the Pod's merged in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Security {
    pub privileged: bool,
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: bool,
    pub supplemental_groups: Vec<u32>,
    /// supplementalGroupsPolicy: Strict leaves out the groups of the image's
    /// /etc/group.
    pub strict_groups: bool,
    pub fs_group: Option<u32>,
    /// Names without `CAP_`; `ALL` allowed.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub read_only_root: bool,
    pub allow_privilege_escalation: Option<bool>,
    pub seccomp: Seccomp,
    /// `None`: not said, which is RuntimeDefault where the host can enforce it.
    #[serde(default)]
    pub app_armor: Option<AppArmor>,
    #[serde(default)]
    pub se_linux: Option<SeLinuxOptions>,
    /// procMount: Unmasked.
    pub unmasked_proc: bool,
}

/// Parts of an SELinux label that are not to be the default's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeLinuxOptions {
    pub user: Option<String>,
    pub role: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    pub level: Option<String>,
}

/// appArmorProfile, or the annotation that came before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppArmor {
    RuntimeDefault,
    /// The name of a profile that the host has loaded.
    Localhost(String),
    Unconfined,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Ours where Kubernetes' default is Unconfined; stated in the docs.
    #[default]
    RuntimeDefault,
    Unconfined,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Hook {
    Exec(Vec<String>),
    /// Seconds.
    Sleep(u64),
}

impl Spec {
    /// Init containers, then the ordinary ones.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all_containers().find(|c| c.name == name)
    }

    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|v| v.name == name)
    }

    pub fn qos_class(&self) -> QosClass {
        let mut all_guaranteed = true;
        let mut any = false;
        for c in self.all_containers() {
            let r = c.resources;
            any |= r.cpu_request.or(r.cpu_limit).is_some_and(|v| v > 0)
                || r.memory_request.or(r.memory_limit).is_some_and(|v| v > 0);
            let guaranteed = |request: Option<u64>, limit: Option<u64>| {
                limit.is_some_and(|l| l > 0 && request.unwrap_or(l) == l)
            };
            all_guaranteed &= guaranteed(r.cpu_request, r.cpu_limit)
                && guaranteed(r.memory_request, r.memory_limit);
        }
        match (any, all_guaranteed) {
            (false, _) => QosClass::BestEffort,
            (true, true) => QosClass::Guaranteed,
            (true, false) => QosClass::Burstable,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}
