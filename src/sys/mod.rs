//! System calls that no safe crate offers. The only `unsafe` of the package.
//!
//! Every function here is a thin, safe wrapper: owned or borrowed fds in, owned
//! fds out, `Errno` on refusal, close-on-exec from birth. Nothing here decides
//! anything; [`crate::linux`] gives the calls their meaning and their errors
//! their text.
#![allow(unsafe_code)]

pub mod attribute;
pub mod bpf;
pub mod capability;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod notify;
pub mod probe;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod tty;
pub mod xattr;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Owns an fd that a call of a crate has just returned as a number: accept4(2),
/// SCM_RIGHTS.
pub fn own_received_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made it for this process; the callers are the
    // places where it arrives, and pass it nowhere else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
