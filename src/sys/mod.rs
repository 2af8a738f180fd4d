//! System calls that no safe crate offers. The only `unsafe` of the package.
//!
//! Every function here is a thin, safe wrapper: owned or borrowed fds in, owned
//! fds out, `Errno` on refusal, close-on-exec from birth. Nothing here decides
//! anything; [`crate::linux`] gives the calls their meaning and their errors
//! their text.
#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod seccomp;
