//! `carob-oci` behind the engines that call an OCI runtime: Debian's podman and
//! containerd. Every test has an engine of its own, in namespaces of its own, and
//! what is left in the end fails it.

#[path = "engines/cage.rs"]
mod cage;
#[path = "engines/containerd.rs"]
mod containerd;
#[path = "engines/images.rs"]
mod images;
#[path = "engines/podman.rs"]
mod podman;
#[path = "engines/podman_options.rs"]
mod podman_options;
#[path = "engines/run.rs"]
mod run;
