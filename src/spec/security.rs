//! The securityContext of a container, with the Pod's merged in.

use serde::{Deserialize, Serialize};

/// The container's securityContext with the Pod's merged in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Security {
    pub privileged: bool,
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: bool,
    pub supplemental_groups: Vec<u32>,
    /// supplementalGroupsPolicy: Strict leaves out the groups of the image's
    /// /etc/group.
    pub strict_groups: bool,
    pub fs_group: Option<u32>,
    /// fsGroupChangePolicy: OnRootMismatch.
    #[serde(default)]
    pub fs_group_on_mismatch: bool,
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
pub(crate) struct SeLinuxOptions {
    pub user: Option<String>,
    pub role: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    pub level: Option<String>,
}

/// appArmorProfile, or the annotation that came before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppArmor {
    RuntimeDefault,
    /// The name of a profile that the host has loaded.
    Localhost(String),
    Unconfined,
}

impl AppArmor {
    /// Kubernetes' way to name a container's profile before appArmorProfile: an annotation
    /// whose key is this and the container's name.
    pub(crate) const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Seccomp {
    /// Ours where Kubernetes' default is Unconfined; stated in the docs.
    #[default]
    RuntimeDefault,
    Unconfined,
}
