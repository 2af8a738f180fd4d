//! Mounts and their options: config.md, "Mounts"; mount(8), mount_setattr(2).

use std::path::PathBuf;

use nix::mount::MsFlags;

use super::namespace::IdMap;
use crate::linux::mount::{
    ATIME_MASK, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID,
    ATTR_NOSYMFOLLOW, ATTR_RDONLY, ATTR_STRICTATIME, Change,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute, inside the container.
    pub target: PathBuf,
    pub source: Source,
    /// Of the mount itself.
    pub own: Change,
    /// Of it and of every mount below it.
    pub tree: Change,
    /// In their order; of it alone, or of those below too.
    pub propagation: Vec<(MsFlags, bool)>,
    pub idmap: Option<IdMapped>,
    /// The tmpfs gets a copy of what it covers.
    pub copy_up: bool,
}

/// Owners that differ from those on disk: "idmap" and "ridmap".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMapped {
    pub recursive: bool,
    /// Both empty: as in the container's user namespace.
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A new filesystem: its type, what /proc/mounts shows as its source, its
    /// options.
    New {
        fstype: String,
        name: String,
        options: Vec<(String, String)>,
    },
    /// The tmpfs of /dev with the standard devices and links in it.
    Dev(Vec<(String, String)>),
    /// The cgroup hierarchies as this container sees them.
    Cgroup,
    Bind {
        path: PathBuf,
        recursive: bool,
    },
    /// A part of the container's own tree, as the mounts before this one have made it.
    /// `path` is from its root.
    Inside {
        path: PathBuf,
        recursive: bool,
    },
    /// `sub_path` of the volume at `volume`, looked up so that no link in it leads
    /// out, and made as a directory where it is missing.
    SubPath {
        volume: PathBuf,
        sub_path: PathBuf,
    },
}

/// The names that change an attribute of a mount: what they set, what they clear.
/// With an `r` before them they hold for the whole tree.
pub(crate) const ATTRIBUTES: [(&str, u64, u64); 16] = [
    ("ro", ATTR_RDONLY, 0),
    ("rw", 0, ATTR_RDONLY),
    ("nosuid", ATTR_NOSUID, 0),
    ("suid", 0, ATTR_NOSUID),
    ("nodev", ATTR_NODEV, 0),
    ("dev", 0, ATTR_NODEV),
    ("noexec", ATTR_NOEXEC, 0),
    ("exec", 0, ATTR_NOEXEC),
    ("nodiratime", ATTR_NODIRATIME, 0),
    ("diratime", 0, ATTR_NODIRATIME),
    ("nosymfollow", ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, ATTR_NOSYMFOLLOW),
    // One field of three values; 0 is relatime, the kernel's default.
    ("noatime", ATTR_NOATIME, ATIME_MASK),
    ("strictatime", ATTR_STRICTATIME, ATIME_MASK),
    ("relatime", 0, ATIME_MASK),
    ("atime", 0, ATIME_MASK),
];

/// The opposites of the atime options, which mean relatime again.
pub(crate) const PROPAGATIONS: [(&str, MsFlags); 4] = [
    ("private", MsFlags::MS_PRIVATE),
    ("slave", MsFlags::MS_SLAVE),
    ("shared", MsFlags::MS_SHARED),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// What the superblock takes from fsconfig(2) as flags.
pub(crate) const SUPERBLOCK_FLAGS: [&str; 10] = [
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "silent",
];
