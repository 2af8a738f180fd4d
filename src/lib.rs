//! carob: a container runtime for Pods on one Linux machine.
//!
//! The layers, from the top; calls go down, never up (`docs/ARCHITECTURE.md`):
//!
//! - [`cli`], [`oci_cli`]: the faces. They parse a command line, call, print.
//! - [`manifest`]: bytes to a checked, defaulted Pod. [`pod`]: one Pod's life.
//! - [`image`], [`volume`], [`network`], [`object`]: what a Pod is made of.
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

mod cli;
mod container;
mod debug_log;
mod error;
mod image;
mod linux;
mod manifest;
mod nearest;
mod network;
mod object;
mod oci;
mod oci_cli;
mod plain;
mod pod;
mod spec;
mod store;
mod sys;
mod volume;

pub(crate) use debug_log::{Call, Ignored};
pub(crate) use error::Context;
pub use error::{Error, Kind, Result};

/// What the two programs, the tests of `tests/` and the fuzz targets of `fuzz/` use of this
/// library, and no more. Nothing here is a stable interface: what none of them uses any
/// longer goes out of the list, so that the compiler can tell which code is dead.
#[doc(hidden)]
pub mod inside {
    pub mod cli {
        pub use crate::cli::main;
    }
    pub mod oci_cli {
        pub use crate::oci_cli::main;
    }
    pub mod container {
        pub use crate::container::plan::check_namespaces;
    }
    pub mod image {
        pub use crate::image::archive::tar::{EntryKind, Reader};
        pub use crate::image::manifest::{Document, Platform, choose, parse, parse_config};
        pub use crate::image::{
            Blobs, Config, Credentials, Digest, Form, Image, Keyring, Limits, Progress,
            PullOptions, Pushed, Reference, Store, push,
        };
    }
    pub mod linux {
        pub use crate::linux::cgroup::systemd::{Scope, annotated};
        pub use crate::linux::mount::{Mount, bind, unmount};
        pub use crate::linux::root::open_dir;
        pub use crate::linux::seccomp::{Action, Arch, Arg, Filter, Flags, Op, Profile, Rule};
        pub use crate::linux::socket::Packets;
    }
    pub mod manifest {
        pub use crate::manifest::check_settled;
    }
    pub mod oci {
        pub use crate::oci::config::{Config, Process};
        pub use crate::oci::json::parse;
        pub use crate::oci::plan::{plan_container, plan_hooks, plan_process};
        pub use crate::oci::record::{Containers, Record};
        pub use crate::oci::resources::plan as plan_resources;
    }
    pub mod pod {
        pub mod http2 {
            pub use crate::pod::monitor::handler::http2::{Connection, Request};
        }
        pub use crate::pod::monitor::kubelet::trace::{VARIABLE, replay};
    }
    pub mod store {
        pub use crate::store::{Layout, Lock};
    }
    pub mod sys {
        pub use crate::sys::fd::receive;
        pub use crate::sys::process::{pidfd_exit_status, pidfd_open};
        pub use crate::sys::xattr::fgetxattr;
    }
}
