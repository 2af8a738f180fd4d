//! What is wanted: a Pod after checking and defaulting, as plain data.
//!
//! [`crate::manifest`] makes it, the record `pod.json` keeps it, the monitor does it.
//! Every field here is honoured: a field of a manifest that carob does not honour is
//! refused or reported before this exists. Units are in the fields' documentation; an
//! absent value means "no limit" or "the image's own". Nothing here reads the machine,
//! and nothing of carob but [`crate::error`] is imported.

mod container;
mod pod;
mod probe;
mod pull_secret;
mod resources;
mod restart;
mod security;
mod volume;

pub use container::{Container, EnvValue, EnvVar, Hook, Port, Protocol, PullPolicy};
pub use pod::{Dns, HostAlias, Pod, QosClass, RestartPolicy, Spec, WhenLogFull};
pub use probe::{Check, FirstProbes, Host, HttpGet, HttpVersion, Probe, ProbeKind};
pub use pull_secret::{PullSecret, RegistryAuth};
pub use resources::Resources;
pub use restart::{AfterExit, RestartAction, RestartRule};
pub use security::{AppArmor, SeLinuxOptions, Seccomp, Security};
pub use volume::{HostPathKind, Mount, Propagation, Volume, VolumeSource};
