//! Kernel objects as safe Rust values.

pub mod capability;
pub mod cgroup;
pub mod seccomp;
