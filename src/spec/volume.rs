//! Volumes, and how containers mount them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum VolumeSource {
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}
