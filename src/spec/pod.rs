//! The Pod: what its containers share, and the record of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Container, SeLinuxOptions, Volume};

/// The record `pod.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pod<Manifest = serde_json::Value> {
    /// The record's version; this program reads [`Pod::VERSION`] only.
    pub version: u32,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub created: Timestamp,
    pub spec: Spec,
    /// The v1 Pod as the user gave it with Kubernetes' defaults filled in, for
    /// showing back. The monitor never looks at it.
    pub manifest: Manifest,
    /// The v1 Pod as the last `apply` was given it, without defaults: what a later one may
    /// take away again. `None`: it was made or replaced otherwise.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub applied: Option<Manifest>,
}

fn none<T>() -> Option<T> {
    None
}

impl Pod {
    pub(crate) const VERSION: u32 = 1;
    /// Annotations together, keys and values, in bytes.
    pub(crate) const ANNOTATIONS_MAX: usize = 256 * 1024;

    /// The Pod's name as arguments of a command, for hints.
    pub(crate) fn as_arguments(&self) -> String {
        match self.namespace.as_str() {
            "default" => self.name.clone(),
            namespace => format!("{} -n {namespace}", self.name),
        }
    }

    /// `carob logs` with what names this container, for hints.
    pub(crate) fn logs_command(&self, container: &str, previous: bool) -> String {
        let previous = if previous { "-p " } else { "" };
        let which = match self.spec.every_container().count() {
            1 => String::new(),
            _ => format!(" -c {container}"),
        };
        format!("carob logs {previous}{}{which}", self.as_arguments())
    }
}

impl Pod<serde::de::IgnoredAny> {
    /// A record that was read without its manifest, which is the larger half of it.
    pub(crate) fn without_manifest(self) -> Pod {
        Pod {
            version: self.version,
            uid: self.uid,
            namespace: self.namespace,
            name: self.name,
            labels: self.labels,
            annotations: self.annotations,
            created: self.created,
            spec: self.spec,
            manifest: serde_json::Value::Null,
            applied: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
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
    /// All containers are in one pid namespace, which is the Pod's.
    #[serde(default)]
    pub share_process_namespace: bool,
    pub host_ipc: bool,
    pub host_aliases: Vec<HostAlias>,
    pub dns: Dns,
    /// Name in dotted form, value.
    pub sysctls: Vec<(String, String)>,
    /// The Pod's own, for what its containers share.
    #[serde(default)]
    pub se_linux: Option<SeLinuxOptions>,
    pub volumes: Vec<Volume>,
    /// Secrets of the Pod's namespace, by name, to pull images with.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// In their order; those with `restart_policy: Always` are sidecars.
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
    /// What `carob debug` has added. They are started once, and nothing waits for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ephemeral_containers: Vec<Container>,
}

impl Spec {
    /// Init containers, then the ordinary ones.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// Also those that `carob debug` has added.
    pub(crate) fn every_container(&self) -> impl Iterator<Item = &Container> {
        self.all_containers().chain(&self.ephemeral_containers)
    }

    pub(crate) fn container(&self, name: &str) -> Option<&Container> {
        self.every_container().find(|c| c.name == name)
    }

    pub(crate) fn is_ephemeral(&self, name: &str) -> bool {
        self.ephemeral_containers.iter().any(|c| c.name == name)
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|v| v.name == name)
    }

    /// The group that volumes are given: the Pod's own, which each container has.
    pub(crate) fn fs_group(&self) -> Option<u32> {
        self.all_containers().find_map(|c| c.security.fs_group)
    }

    pub(crate) fn qos_class(&self) -> QosClass {
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostAlias {
    pub ip: IpAddr,
    pub hostnames: Vec<String>,
}

/// resolv.conf, already worked out from dnsPolicy and dnsConfig except for the
/// host's own file, which is read when the sandbox is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dns {
    /// Whether the host's resolv.conf is the base (dnsPolicy Default and
    /// ClusterFirst) or nothing is (None).
    pub from_host: bool,
    pub nameservers: Vec<IpAddr>,
    pub searches: Vec<String>,
    /// `name` or `name:value`.
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// What becomes of a container's output that there is no room to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WhenLogFull {
    #[default]
    Drop,
    /// It waits, and the container with it.
    Block,
}

impl WhenLogFull {
    pub(crate) const ANNOTATION: &str = "carob/when-log-full";
    pub(crate) const VALUES: [(&str, WhenLogFull); 2] =
        [("drop", WhenLogFull::Drop), ("block", WhenLogFull::Block)];

    /// As annotations say it.
    pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Self {
        annotated(annotations, Self::ANNOTATION, &Self::VALUES)
    }
}

/// The value that an annotation names, else the default.
pub(super) fn annotated<T: Copy + Default>(
    annotations: &BTreeMap<String, String>,
    key: &str,
    values: &[(&str, T)],
) -> T {
    let word = annotations.get(key);
    let found = values
        .iter()
        .find(|(name, _)| word.is_some_and(|w| w == name));
    found.map(|(_, value)| *value).unwrap_or_default()
}
