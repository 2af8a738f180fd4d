//! Kernel objects as safe Rust values, and the kernel's refusals as errors that
//! name the call.

pub mod cgroup;
pub mod mount;
pub mod namespace;
pub mod root;
pub mod socket;
//! Kernel objects as safe Rust values.

pub mod netlink;
