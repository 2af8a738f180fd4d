//! A container that a bundle describes, and that a caller leads from verb to verb:
//! OCI runtime-spec 1.3, runtime.md.
//!
//! The file config.json: [`config`] (its types), [`json`] (reading, with the field of each
//! fault), [`plan`] (to a [`crate::container::plan::Plan`]), [`resources`], [`seccomp`] and
//! [`resctrl`] (to limits and filters). A Pod's bundles are read by these too.
//!
//! The verbs: [`create`] (which begins in [`prepared`]), [`start`], [`end`] (kill and delete), [`checkpoint`] and
//! [`restore`] by criu. What they keep on disk between them is in [`record`]; [`notify`]
//! carries what the container tells the service manager.
//!
//! Never prints, never reads the command line.

pub mod checkpoint;
pub mod config;
pub mod create;
mod criu;
pub mod end;
pub mod json;
pub mod notify;
pub mod plan;
pub mod prepared;
pub mod record;
mod resctrl;
pub mod resources;
pub mod restore;
pub mod seccomp;
pub mod start;
mod strict;
