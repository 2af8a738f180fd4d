//! Kernel objects as safe Rust values, and the kernel's refusals as errors that
//! name the call.

pub(crate) mod apparmor;
pub(crate) mod bare;
pub(crate) mod caller;
pub(crate) mod capability;
pub(crate) mod cgroup;
pub(crate) mod credential;
pub(crate) mod dbus;
pub(crate) mod detach;
pub(crate) mod elf;
pub(crate) mod hugepages;
pub(crate) mod kernel;
pub(crate) mod loop_device;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod mount_table;
pub(crate) mod move_root;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod procfs;
pub(crate) mod quota;
pub(crate) mod resctrl;
pub(crate) mod root;
pub(crate) mod seccomp;
pub(crate) mod selinux;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod terminal;
