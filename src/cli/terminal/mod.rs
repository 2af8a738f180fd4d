//! The caller's terminal, and bytes between it and a container.

pub(in crate::cli) mod raw;
pub(in crate::cli) mod stream;
