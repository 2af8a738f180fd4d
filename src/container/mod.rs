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

pub mod channel;
mod copy;
pub mod dev;
pub mod exec;
pub mod gate;
pub mod hook;
mod idmap;
pub mod init;
mod netdev;
pub mod plan;
mod process;
mod refusal;
pub mod rootfs;
mod settings;
pub mod spawn;
mod steps;
mod sub_path;
pub mod user;
pub mod wanted;
