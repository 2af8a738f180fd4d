//! Kernel objects as safe Rust values.
