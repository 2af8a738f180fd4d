//! Volumes, and how containers mount them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{HugeMedium, ObjectRef, PullPolicy, Spec};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum VolumeSource {
    EmptyDir {
        /// In memory (tmpfs, or huge pages) rather than on disk.
        memory: bool,
        /// In huge pages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        huge: Option<HugeMedium>,
        /// Bytes.
        size_limit: Option<u64>,
        /// The permissions of its directory, if not 0777.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    HostPath {
        path: PathBuf,
        kind: HostPathKind,
    },
    /// What another machine exports.
    Nfs {
        /// A host's name or an address.
        server: String,
        path: String,
        read_only: bool,
    },
    /// The files of an image, read-only.
    Image {
        /// As written.
        reference: String,
        policy: PullPolicy,
    },
    /// A directory of this machine that outlives the Pod.
    Claim {
        /// Of the claim, which is in the Pod's namespace.
        name: String,
        read_only: bool,
        /// It comes and goes with the Pod: a v1 PersistentVolumeClaimTemplate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        template: Option<serde_json::Value>,
    },
    /// Files that carob writes and keeps up to date: the volumes `configMap`, `secret`,
    /// `downwardAPI` and `projected`. The first three are one source alone.
    Projected {
        /// In their order; the later one wins where two have the same path.
        sources: Vec<Projection>,
        /// Of files whose item has none.
        mode: u32,
        /// The owner of files whose item has none; else root.
        #[serde(default)]
        user: Option<u32>,
    },
}

impl VolumeSource {
    /// Of an emptyDir, in Kubernetes' word.
    pub(crate) fn medium(&self) -> &'static str {
        match self {
            VolumeSource::EmptyDir { huge: Some(m), .. } => m.word(),
            VolumeSource::EmptyDir { memory: true, .. } => "Memory",
            _ => "",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Projection {
    /// Keys of a ConfigMap or a Secret: those of `items`, or all where it is empty.
    Object {
        object: ObjectRef,
        items: Vec<KeyToPath>,
    },
    Downward(Vec<DownwardItem>),
}

impl Spec {
    /// The objects that files of volumes are made from, each as often as it is named.
    pub(crate) fn objects_of_volumes(&self) -> impl Iterator<Item = &ObjectRef> {
        let sources = self.volumes.iter().flat_map(|v| match &v.source {
            VolumeSource::Projected { sources, .. } => sources.as_slice(),
            _ => &[],
        });
        sources.filter_map(|source| match source {
            Projection::Object { object, .. } => Some(object),
            Projection::Downward(_) => None,
        })
    }

    /// Whether there are files in volumes that carob keeps up to date.
    pub(crate) fn has_projected(&self) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|v| matches!(v.source, VolumeSource::Projected { .. }))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyToPath {
    pub key: String,
    /// Relative, without `..`.
    pub path: String,
    pub mode: Option<u32>,
    #[serde(default)]
    pub user: Option<u32>,
}

/// What a file says of the Pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DownwardItem {
    /// Relative, without `..`.
    pub path: String,
    pub value: DownwardValue,
    pub mode: Option<u32>,
    #[serde(default)]
    pub user: Option<u32>,
}

/// As in [`super::EnvValue`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum DownwardValue {
    Field(String),
    Resource {
        container: String,
        resource: String,
        divisor: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HostPathKind {
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mount {
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
    /// bindMountOptions: of the mount itself, not of those below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<MountOption>,
}

/// A claim of a block device, in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VolumeDevice {
    pub volume: String,
    /// Absolute.
    pub path: String,
}

/// What a container may not do with files of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum MountOption {
    Nodev,
    Noexec,
    Nosuid,
}

impl MountOption {
    /// mount(8)'s words, which are Kubernetes' too.
    pub(crate) const ALL: [(&'static str, MountOption); 3] = [
        ("nodev", MountOption::Nodev),
        ("noexec", MountOption::Noexec),
        ("nosuid", MountOption::Nosuid),
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            MountOption::Nodev => "nodev",
            MountOption::Noexec => "noexec",
            MountOption::Nosuid => "nosuid",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}
