//! capset(2) in one call, and capabilities by number.
//!
//! The caps crate sets one of the three sets per call, which does not do where
//! one call has to change all, and knows capabilities by name only, which leaves
//! out those of a kernel newer than the crate.

use nix::errno::Errno;

/// `_LINUX_CAPABILITY_VERSION_3`: two words per set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets all three sets of the calling thread.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let word = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: both live across the call and have the layout that the version
    // names; the kernel writes at most the header's version.
    let r = unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) };
    Errno::result(r).map(drop)
}

pub(crate) fn drop_bounding(capability: u32) -> Result<(), Errno> {
    // SAFETY: takes and writes no memory.
    let r = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
    Errno::result(r).map(drop)
}
