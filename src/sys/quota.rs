//! Project quotas: ioctl_xfs_fsgetxattr(2), quotactl_fd(2) of Linux 5.14.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// struct fsxattr of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    reserved: [u8; 8],
}

/// Files of a project, as the filesystem counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    pub bytes: u64,
    pub inodes: u64,
    /// In KiB; 0 is no limit.
    pub limit_kib: u64,
}

const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820;
/// What is made in the directory has its project.
const INHERIT: u32 = 0x200;

fn attributes(dir: BorrowedFd) -> Result<Attributes, Errno> {
    let mut found = Attributes::default();
    // SAFETY: the kernel writes one struct fsxattr, which this is.
    let n = unsafe { libc::ioctl(dir.as_raw_fd(), GET_ATTRIBUTES, &raw mut found) };
    Errno::result(n).map(|_| found)
}

/// The project of a file or directory; 0 is none.
pub(crate) fn project(dir: BorrowedFd) -> Result<u32, Errno> {
    attributes(dir).map(|found| found.project)
}

/// Makes a directory, and what will be made in it, part of a project.
pub(crate) fn set_project(dir: BorrowedFd, id: u32) -> Result<(), Errno> {
    let mut wanted = attributes(dir)?;
    wanted.project = id;
    wanted.flags |= INHERIT;
    // SAFETY: the kernel reads one struct fsxattr, which this is.
    let n = unsafe { libc::ioctl(dir.as_raw_fd(), SET_ATTRIBUTES, &raw const wanted) };
    Errno::result(n).map(drop)
}

/// struct if_dqblk of linux/quota.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    hard_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    blocks_until: u64,
    inodes_until: u64,
    valid: u32,
}

const GET_QUOTA: u32 = 0x80_0007;
const SET_QUOTA: u32 = 0x80_0008;
/// QIF_BLIMITS: the limits of blocks alone.
const LIMITS_OF_BLOCKS: u32 = 1;

fn quotactl(fd: BorrowedFd, command: u32, id: u32, block: &mut Block) -> Result<(), Errno> {
    const OF_PROJECTS: u32 = 2;
    let command = command << 8 | OF_PROJECTS;
    // SAFETY: with both commands the kernel reads or writes one struct if_dqblk, which this
    // is.
    let n = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            fd.as_raw_fd(),
            command,
            id,
            std::ptr::from_mut(block),
        )
    };
    Errno::result(n).map(drop)
}

/// Of the filesystem that `fd` is in. ENOSYS, ESRCH and others where it has no such quotas.
pub(crate) fn quota(fd: BorrowedFd, id: u32) -> Result<Quota, Errno> {
    let mut block = Block::default();
    quotactl(fd, GET_QUOTA, id, &mut block)?;
    Ok(Quota {
        bytes: block.bytes,
        inodes: block.inodes,
        limit_kib: block.hard_blocks.max(block.soft_blocks),
    })
}

/// 0 takes the limit away.
pub(crate) fn set_limit(fd: BorrowedFd, id: u32, kib: u64) -> Result<(), Errno> {
    let mut block = Block {
        hard_blocks: kib,
        valid: LIMITS_OF_BLOCKS,
        ..Block::default()
    };
    quotactl(fd, SET_QUOTA, id, &mut block)
}
