//! System calls that no safe crate offers. The only `unsafe` of the package.
//!
//! Every function here is a thin, safe wrapper: owned or borrowed fds in, owned
//! fds out, `Errno` on refusal, close-on-exec from birth. Nothing here decides
//! anything; [`crate::linux`] gives the calls their meaning and their errors
//! their text.
//!
//! No function is `unsafe`, since no caller may write `unsafe`. What is sound under a
//! condition alone asks for the condition: [`process::clone3`] for one thread, and what
//! only the child of a clone may do to its fds for being one.
#![allow(unsafe_code)]

pub(crate) mod attribute;
pub(crate) mod bpf;
pub(crate) mod capability;
pub(crate) mod fd;
pub(crate) mod loop_device;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod notify;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod quota;
pub(crate) mod seccomp;
pub(crate) mod tty;
pub(crate) mod xattr;
