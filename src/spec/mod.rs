//! What is wanted: a Pod after checking and defaulting, as plain data.
//!
//! [`crate::manifest`] makes it, the record `pod.json` keeps it, the monitor does it.
//! Every field here is honoured: a field of a manifest that carob does not honour is
//! refused or reported before this exists. Units are in the fields' documentation; an
//! absent value means "no limit" or "the image's own". Nothing here reads the machine,
//! and nothing of carob but [`crate::error`] is imported.

mod claim;
mod container;
mod downward;
mod hugepages;
mod object;
mod pod;
mod probe;
mod pull_secret;
pub(crate) mod quantity;
mod resources;
mod restart;
mod security;
mod volume;

pub(crate) use claim::ClaimForm;
pub(crate) use container::{
    Container, EnvFrom, EnvValue, EnvVar, Hook, Port, Protocol, PullPolicy, ResizePolicy,
};
pub(crate) use hugepages::{HugeMedium, Hugepages, PageSize};
pub(crate) use object::{Object, ObjectKind, ObjectRef, Owner};
pub(crate) use pod::{Dns, HostAlias, Pod, QosClass, RestartPolicy, Spec, WhenLogFull};
pub(crate) use probe::{Check, FirstProbes, Host, HttpGet, HttpVersion, Probe, ProbeKind};
pub(crate) use pull_secret::{PullSecret, RegistryAuth};
pub(crate) use resources::{Bounds, Node, Resources};
pub(crate) use restart::{AfterExit, RestartAction, RestartRule};
pub(crate) use security::{AppArmor, SeLinuxOptions, Seccomp, Security};
pub(crate) use volume::{
    DownwardItem, DownwardValue, HostPathKind, KeyToPath, Mount, MountOption, Projection,
    Propagation, Volume, VolumeDevice, VolumeSource,
};
