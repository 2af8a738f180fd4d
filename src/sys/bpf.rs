//! bpf(2): loading a program and tying it to a cgroup.
//!
//! Only what the device controller of cgroup v2 needs; maps, links and BTF are
//! not here. The attributes are declared by hand because libc has none: each is
//! a prefix of the kernel's `union bpf_attr`, which accepts any prefix and takes
//! what is missing as zero.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// One eBPF instruction as the kernel reads it (`struct bpf_insn`). The two
/// 4-bit register fields share `regs`: destination low, source high.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Insn {
    pub code: u8,
    pub regs: u8,
    pub off: i16,
    pub imm: i32,
}

pub(crate) const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
pub(crate) const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of ancestors and of other owners stay in force beside this one.
pub(crate) const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// Every address inside `attr` has to be valid for what `cmd` does with it.
unsafe fn bpf<T>(cmd: libc::c_int, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is a live, exclusively borrowed value of the size that is
    // passed; the addresses in it are the caller's promise.
    let r = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            cmd,
            attr as *mut T,
            std::mem::size_of::<T>() as libc::c_uint,
        )
    };
    Errno::result(r)
}

/// Loads a program. The kernel makes the fd close-on-exec itself. `name` is for
/// `bpftool prog`: at most 15 bytes of letters, digits and underscores.
pub(crate) fn prog_load(prog_type: u32, insns: &[Insn], name: &str) -> Result<OwnedFd, Errno> {
    let mut prog_name = [0u8; 16];
    let n = name.len().min(15);
    prog_name[..n].copy_from_slice(&name.as_bytes()[..n]);
    // A licence is asked for only by helpers that are GPL-only; none is called.
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
    };
    // SAFETY: `insns` and `license` outlive the call and are only read.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr)? };
    // SAFETY: a successful BPF_PROG_LOAD returns a new fd that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Ties `prog` to the cgroup directory `cgroup` (not an `O_PATH` fd).
pub(crate) fn prog_attach(
    cgroup: impl AsFd,
    prog: impl AsFd,
    attach_type: u32,
    flags: u32,
) -> Result<(), Errno> {
    attach(PROG_ATTACH, cgroup, prog, attach_type, flags, 0)
}

/// Puts `prog` in the place of `old`, which is tied to `cgroup`, in one step (Linux
/// 5.6).
pub(crate) fn prog_replace(
    cgroup: impl AsFd,
    prog: impl AsFd,
    old: impl AsFd,
    attach_type: u32,
    flags: u32,
) -> Result<(), Errno> {
    let old = old.as_fd().as_raw_fd() as u32;
    attach(
        PROG_ATTACH,
        cgroup,
        prog,
        attach_type,
        flags | F_REPLACE,
        old,
    )
}

pub(crate) fn prog_detach(
    cgroup: impl AsFd,
    prog: impl AsFd,
    attach_type: u32,
) -> Result<(), Errno> {
    attach(PROG_DETACH, cgroup, prog, attach_type, 0, 0)
}

fn attach(
    command: i32,
    cgroup: impl AsFd,
    prog: impl AsFd,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: prog.as_fd().as_raw_fd() as u32,
        attach_type,
        attach_flags,
        replace_bpf_fd,
    };
    // SAFETY: the attribute holds no addresses.
    unsafe { bpf(command, &mut attr) }.map(drop)
}

/// The ids of the programs tied to exactly this cgroup (not to its ancestors).
pub(crate) fn prog_query(cgroup: impl AsFd, attach_type: u32) -> Result<Vec<u32>, Errno> {
    // The kernel allows 64 programs on one cgroup and attach type.
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        pad: 0,
    };
    // SAFETY: the kernel writes at most `prog_cnt` ids into `ids`, which lives.
    unsafe { bpf(PROG_QUERY, &mut attr)? };
    Ok(ids[..(attr.prog_cnt as usize).min(ids.len())].to_vec())
}

pub(crate) fn prog_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = IdAttr {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the attribute holds no addresses.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr)? };
    // SAFETY: a successful BPF_PROG_GET_FD_BY_ID returns a new fd that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
