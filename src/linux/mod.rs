//! Kernel objects as safe Rust values.

pub mod netlink;
