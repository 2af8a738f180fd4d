//! carob: a container runtime for Pods on one Linux machine.
//!
//! The layers, from the top; calls go down, never up (`docs/ARCHITECTURE.md`):
//!
//! - [`cli`], [`oci_cli`]: the faces. They parse a command line, call, print.
//! - [`manifest`]: bytes to a checked, defaulted Pod. [`pod`]: one Pod's life.
//! - [`image`], [`volume`], [`network`]: what a Pod is made of.
//! - [`oci`]: a container that a bundle describes. [`container`]: the mechanism of one.
//! - [`spec`]: what is wanted, as plain data.
//! - [`error`], [`nearest`], [`plain`], [`debug_log`]: what every layer says of a fault, of a
//!   misspelt name and of its steps, and text of others made harmless for a terminal.
//! - [`store`]: records, locks, the layout on disk.
//! - [`linux`]: kernel objects as safe Rust values; [`sys`]: the only `unsafe`.

// A panic ends a monitor: what can fail is an error.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]
// An error that is ignored says why: `debug_log::Ignored`.
#![cfg_attr(not(test), deny(clippy::let_underscore_must_use))]

pub mod cli;
pub mod container;
pub mod debug_log;
pub mod error;
pub mod image;
pub mod linux;
pub mod manifest;
pub mod nearest;
pub mod network;
pub mod oci;
pub mod oci_cli;
pub mod plain;
pub mod pod;
pub mod spec;
pub mod store;
pub mod sys;
pub mod volume;

pub(crate) use debug_log::{Call, Ignored};
pub use error::{Context, Error, Kind, Result};
