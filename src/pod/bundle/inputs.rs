//! What decides how a container looks inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::objects::EnvObjects;
use crate::container::user::Accounts;
use crate::image;
use crate::linux::capability::Set;
use crate::pod::claims::Places;
use crate::spec::{Container, Node, Pod};
use crate::store::PodPaths;

/// Everything that decides what a container looks like inside.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    pub pod: &'a Pod,
    pub paths: &'a PodPaths,
    pub container: &'a Container,
    pub image: &'a image::Config,
    /// Where its Pod's claims are.
    pub claims: &'a Places,
    /// Where the images that are volumes are mounted, by the names of volumes.
    pub volume_images: &'a BTreeMap<String, PathBuf>,
    pub accounts: &'a Accounts,
    /// The file that becomes terminationMessagePath.
    pub termination_log: &'a Path,
    /// The AppArmor profile that it runs under.
    pub app_armor: Option<&'a str>,
    /// What this program has: it cannot give more.
    pub permitted: Set,
    /// getrlimit(2): number, soft and hard limit.
    pub rlimits: &'a [(u32, u64, u64)],
    /// Absolute: [`crate::linux::cgroup::Place::from_path`].
    pub cgroup: &'a str,
    /// Of another: the Pod's, or that of another container. None: one of its own.
    pub pid_namespace: Option<&'a Path>,
    /// Whether the memory controller is cgroup v2's.
    pub memory_is_v2: bool,
    /// SELinux labels of its process and of its files.
    pub process_label: Option<&'a str>,
    pub file_label: Option<&'a str>,
    pub env: EnvInputs<'a>,
}

/// What decides the part of a container's environment that its manifest sets.
#[derive(Debug)]
pub(crate) struct EnvInputs<'a> {
    pub pod: &'a Pod,
    pub paths: &'a PodPaths,
    pub container: &'a Container,
    /// Those that it names.
    pub objects: EnvObjects,
    pub ips: &'a [std::net::IpAddr],
    pub host_ip: Option<std::net::IpAddr>,
    pub node_name: &'a str,
    /// What the host has: limits that are not set mean this to a resourceFieldRef.
    pub node: Node,
}
