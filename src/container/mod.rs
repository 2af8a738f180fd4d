//! One container's life, a file a step: [`plan`] (data), [`create`] (the parent),
//! [`init`] (the child, up to exec), [`exec`] (one more process in a running
//! one). A Pod's monitor starts, watches and ends by pidfd.
//!
//! For a container that an outside commander leads from verb to verb: [`make`],
//! [`gate`], [`start`], [`end`], with what they keep on disk in [`record`]; put away
//! and taken up again: [`checkpoint`], [`restore`].
//!
//! Kernel objects: the container's namespaces, its mounts, its first process.
//! Those namespaces that its plan does not name are the caller's own: a Pod's
//! monitor lives in those of its Pod.
//!
//! Never prints, never retries, never clones from a threaded process.

pub mod checkpoint;
pub mod config;
mod copy;
pub mod create;
mod criu;
pub mod dev;
pub mod end;
pub mod exec;
pub mod gate;
pub mod hook;
mod idmap;
pub mod init;
pub mod json;
pub mod make;
mod netdev;
pub mod notify;
pub mod plan;
mod process;
pub mod record;
mod refusal;
pub mod resources;
pub mod restore;
pub mod rootfs;
mod settings;
pub mod start;
mod strict;
mod sub_path;
pub mod user;
