//! Which namespaces a container gets: config-linux.md, "Namespaces", "User
//! namespace mappings", "Offset for Time Namespace"; namespaces(7).

use std::path::PathBuf;

use nix::sched::CloneFlags;

pub(crate) const MOUNT: CloneFlags = CloneFlags::CLONE_NEWNS;
pub(crate) const CGROUP: CloneFlags = CloneFlags::CLONE_NEWCGROUP;
pub(crate) const UTS: CloneFlags = CloneFlags::CLONE_NEWUTS;
pub(crate) const IPC: CloneFlags = CloneFlags::CLONE_NEWIPC;
pub(crate) const USER: CloneFlags = CloneFlags::CLONE_NEWUSER;
pub(crate) const PID: CloneFlags = CloneFlags::CLONE_NEWPID;
pub(crate) const NET: CloneFlags = CloneFlags::CLONE_NEWNET;
/// linux/sched.h; neither libc nor nix knows it among these.
pub(crate) const TIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// Every kind: its flag, its name in OCI, its name below /proc/<pid>/ns.
pub(crate) const KINDS: [(CloneFlags, &str, &str); 8] = [
    (NET, "network", "net"),
    (IPC, "ipc", "ipc"),
    (UTS, "uts", "uts"),
    (CGROUP, "cgroup", "cgroup"),
    (TIME, "time", "time"),
    (PID, "pid", "pid"),
    (USER, "user", "user"),
    // Last: whoever enters it loses sight of the host's paths.
    (MOUNT, "mount", "mnt"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Made for the container.
    pub new: CloneFlags,
    /// Those of others, by the path of each, in the order of [`KINDS`].
    pub joined: Vec<(CloneFlags, PathBuf)>,
    pub uid_map: Vec<IdMap>,
    pub gid_map: Vec<IdMap>,
    /// For /proc/self/timens_offsets: lines of clock, seconds, nanoseconds.
    pub time_offsets: String,
}

/// A line of uid_map: user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl Namespaces {
    /// Every kind that is not the caller's own.
    pub fn all(&self) -> CloneFlags {
        let joined = self.joined.iter().map(|(kind, _)| *kind);
        joined.fold(self.new, |all, kind| all | kind)
    }

    pub fn has(&self, kind: CloneFlags) -> bool {
        self.all().contains(kind)
    }

    pub fn joins(&self, kind: CloneFlags) -> bool {
        self.joined.iter().any(|(k, _)| *k == kind)
    }
}
