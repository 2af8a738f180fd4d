//! The mechanism of one container, a file a step: [`plan`] (data), [`spawn`] (the
//! parent), [`init`] (the child, up to exec), [`exec`] (one more process in a running
//! one), [`gate`] (where the child waits to be started). A Pod's monitor and
//! `crate::oci` use it; who leads the container from verb to verb is not known here.
//!
//! Kernel objects: the container's namespaces, its mounts, its first process.
//! Those namespaces that its plan does not name are the caller's own: a Pod's
//! monitor lives in those of its Pod.
//!
//! Never prints, never retries, never clones from a threaded process.

pub(crate) mod channel;
mod copy;
pub(crate) mod dev;
pub(crate) mod exec;
pub(crate) mod gate;
pub(crate) mod hook;
mod idmap;
pub(crate) mod init;
mod netdev;
pub(crate) mod plan;
mod process;
mod refusal;
pub(crate) mod rootfs;
mod settings;
pub(crate) mod spawn;
mod steps;
mod sub_path;
pub(crate) mod user;
pub(crate) mod wanted;

use crate::Result;
use crate::linux::cgroup::Join;

/// The first steps of a child that becomes no container but is in its Pod's namespaces: no
/// process there may look into it, it leads a session of its own, and it is in its cgroup.
pub(crate) fn settle(join: &Join, oom_score_adj: i32) -> Result<()> {
    process::seclude()?;
    process::set_oom_score("self", oom_score_adj)?;
    process::stand_alone(Some(join))
}
