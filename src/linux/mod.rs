//! Kernel objects as safe Rust values, and the kernel's refusals as errors that
//! name the call.

pub mod apparmor;
pub mod bare;
pub mod caller;
pub mod capability;
pub mod cgroup;
pub mod dbus;
pub mod elf;
pub mod kernel;
pub mod module;
pub mod mount;
pub mod mount_table;
pub mod move_root;
pub mod namespace;
pub mod netlink;
pub mod procfs;
pub mod resctrl;
pub mod root;
pub mod seccomp;
pub mod selinux;
pub mod signal;
pub mod socket;
pub mod terminal;
