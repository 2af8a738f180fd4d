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

pub(crate) mod checkpoint;
pub(crate) mod config;
pub(crate) mod create;
mod criu;
pub(crate) mod end;
pub(crate) mod json;
pub(crate) mod notify;
pub(crate) mod plan;
pub(crate) mod prepared;
pub(crate) mod record;
mod resctrl;
pub(crate) mod resources;
pub(crate) mod restore;
pub(crate) mod seccomp;
pub(crate) mod start;
mod strict;
