//! The fd-based mount calls: open_tree(2), move_mount(2), mount_setattr(2),
//! fsopen(2), fsconfig(2), fsmount(2). Linux 5.12 has them all.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;

use crate::debug_log::Returned;

type Result<T> = std::result::Result<T, Errno>;

/// AT_FDCWD, for calls that take a directory.
pub(crate) fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is a value that these calls define; it is never closed.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

fn owned(n: libc::c_long) -> Result<OwnedFd> {
    // SAFETY: the callers pass what a call that returns a new fd has returned.
    Errno::result(n).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const AT_RECURSIVE: u32 = 0x8000;

/// A detached copy of the mount at (`dir`, `path`), of what is below too if
/// `recursive`. An empty path means `dir` itself.
pub(crate) fn clone_tree(dir: BorrowedFd, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    owned(path.with_nix_path(|p| {
        // SAFETY: p is a C string that outlives the call.
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), p.as_ptr(), flags) }
    })?)
}

/// Attaches the detached mount `mount` on top of what `target` refers to.
pub(crate) fn move_mount(mount: BorrowedFd, target: BorrowedFd) -> Result<()> {
    const FROM_EMPTY: u32 = 4;
    const TO_EMPTY: u32 = 0x40;
    // SAFETY: both paths are empty C strings.
    let n = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            FROM_EMPTY | TO_EMPTY,
        )
    };
    Errno::result(n).map(drop)
}

/// MOUNT_ATTR_* bits to set and to clear, and a propagation type (MS_PRIVATE...).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'fd> {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    /// The user namespace of MOUNT_ATTR_IDMAP.
    pub user_namespace: Option<BorrowedFd<'fd>>,
}

pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
pub(crate) const ATTR_NOATIME: u64 = 0x10;
pub(crate) const ATTR_STRICTATIME: u64 = 0x20;
/// The field that the two above are values of; 0 is relatime.
pub(crate) const ATIME_MASK: u64 = 0x70;
pub(crate) const ATTR_NODIRATIME: u64 = 0x80;
pub(crate) const ATTR_IDMAP: u64 = 0x10_0000;
pub(crate) const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// mount_setattr(2) on the mount that `mount` refers to.
pub(crate) fn set_attributes(
    mount: BorrowedFd,
    attributes: Attributes,
    recursive: bool,
) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    let user_namespace = attributes
        .user_namespace
        .map_or(0, |fd| fd.as_raw_fd() as u64);
    let attr: [u64; 4] = [
        attributes.set,
        attributes.clear,
        attributes.propagation,
        user_namespace,
    ];
    // SAFETY: struct mount_attr is four u64, and its size is given.
    let n = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    Errno::result(n).map(drop)
}

/// A filesystem context, made of a type and options, turned into a mount.
#[derive(Debug)]
pub(crate) struct FsContext(OwnedFd);

impl Returned for FsContext {
    fn returned(&self) -> i64 {
        self.0.returned()
    }
}

impl FsContext {
    pub(crate) fn open(fstype: &str) -> Result<Self> {
        const FSOPEN_CLOEXEC: u32 = 1;
        let fstype = CString::new(fstype).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a C string that outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
            .map(FsContext)
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> Result<()> {
        let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: null or C strings that outlive the call.
        let n = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        Errno::result(n).map(drop)
    }

    /// FSCONFIG_SET_STRING. The kernel takes at most 255 bytes of value.
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        let value = CString::new(value).map_err(|_| Errno::EINVAL)?;
        self.config(1, Some(&key), Some(&value))
    }

    /// FSCONFIG_SET_FLAG.
    pub(crate) fn flag(&self, key: &str) -> Result<()> {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        self.config(0, Some(&key), None)
    }

    /// FSCONFIG_CMD_CREATE and fsmount(2): the mount, detached. `attributes` are
    /// MOUNT_ATTR_*.
    pub(crate) fn mount(self, attributes: u64) -> Result<OwnedFd> {
        const FSMOUNT_CLOEXEC: u32 = 1;
        self.config(6, None, None)?;
        // SAFETY: no pointers.
        owned(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            )
        })
    }

    /// What the filesystem itself had to say about a refusal, if anything.
    pub(crate) fn message(&self) -> Option<String> {
        let mut buffer = [0_u8; 512];
        let n = nix::unistd::read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]);
        // "e overlay: text": a severity letter goes before each message.
        Some(
            text.split_once(' ')
                .map_or(&*text, |(_, t)| t)
                .trim()
                .to_owned(),
        )
    }
}

/// pivot_root(".", "."): the current directory becomes the root and the old root
/// is stacked on top of it, to be unmounted (pivot_root(2), NOTES).
pub(crate) fn pivot_root_here() -> Result<()> {
    // SAFETY: C strings.
    let n = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    Errno::result(n).map(drop)
}
