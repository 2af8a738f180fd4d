//! One container's life, a file a step: [`plan`] (data), [`create`] (the parent),
//! [`init`] (the child, up to exec), [`exec`] (one more process in a running
//! one). Starting, waiting and ending are the monitor's, by pidfd.
//!
//! Kernel objects: the container's pid, mount and cgroup namespaces, its mounts,
//! its first process. The net, UTS and IPC namespaces are the caller's own: a
//! Pod's monitor lives in those of its Pod. Cgroups are given, not made, here.
//!
//! Never prints, never retries, never clones from a threaded process.

mod copy;
pub mod create;
pub mod dev;
pub mod exec;
pub mod gate;
pub mod hook;
mod idmap;
pub mod init;
mod netdev;
pub mod plan;
mod process;
pub mod rootfs;
mod settings;
pub mod user;
