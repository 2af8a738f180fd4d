//! A bare mount namespace: /proc, /dev and an empty directory, and no other mount of
//! the host. Mount namespaces of containers are copied from it.
//!
//! clone(2) and unshare(2) copy a mount namespace with every mount in it, and the
//! copies are taken down again once the container has its own root. On a machine
//! with 500 Pods these are some 2,500 mounts: 5 ms of each container's start. Of the
//! bare namespace they copy three, however many the host has.
//!
//! It has no process. What keeps it is a bind mount of its nsfs file, in a directory
//! that is a private mount of its own, for Linux refuses such a file on a shared
//! mount (mount_namespaces(7)). Such bind mounts are left out of copies.
//!
//! A namespace is made in this order; a directory that any crash has left half made
//! is made anew by the next call of [`open_or_make`] and removed by [`remove`]:
//!
//! 1. a child is cloned with a mount namespace of its own, and strips it;
//! 2. the directory is mounted on itself, private;
//! 3. the child's namespace is pinned below it; the child ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::Pid;

use super::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount};
use super::namespace;
use super::root::open_dir;
use super::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Call, Context, Error, Ignored, Result};

/// The empty directory, for the container's root to be attached at.
pub(crate) const PLACE: &str = "/rootfs";

const OWNER_ONLY: Mode = Mode::S_IRWXU;

fn pin_in(dir: &Path) -> PathBuf {
    dir.join("mnt")
}

/// The bare namespace that is pinned in `dir`, made if it is not there. The caller
/// has one thread, is in the host's mount namespace, and keeps others from making
/// or removing it meanwhile.
pub(crate) fn open_or_make(dir: &Path) -> Result<OwnedFd> {
    if let Some(there) = open(dir) {
        return Ok(there);
    }
    make(dir).context("make a bare mount namespace")?;
    namespace::open_kind(&pin_in(dir), CloneFlags::CLONE_NEWNS)
}

/// `None` if it is not there, or only half made.
pub(crate) fn open(dir: &Path) -> Option<OwnedFd> {
    namespace::open_kind(&pin_in(dir), CloneFlags::CLONE_NEWNS).ok()
}

/// Undoes [`open_or_make`], from any half-made state. The namespace itself lives on
/// while somebody has it open.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    mount::unmount(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Moves the calling process into a copy of the bare namespace.
pub(crate) fn enter_copy(bare: BorrowedFd) -> Result<()> {
    setns(bare, CloneFlags::CLONE_NEWNS).call(|| "setns(<bare>, CLONE_NEWNS)")?;
    namespace::leave(CloneFlags::CLONE_NEWNS)
}

/// Moves the calling process, the child of a clone, into a mount namespace of its own with
/// nothing in it but an empty, read-only root directory.
pub(crate) fn enter_empty(bare: Option<BorrowedFd>) -> Result<()> {
    match bare {
        Some(bare) => enter_copy(bare)?,
        None => namespace::leave(CloneFlags::CLONE_NEWNS)?,
    }
    mount::set_tree_propagation(MsFlags::MS_PRIVATE)?;
    let options = [("mode", "555"), ("size", "4k"), ("nr_inodes", "2")];
    let attributes = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_RDONLY;
    let root = Mount::new("tmpfs", &options, attributes)?;
    // It needs /proc, which is covered below: any place will do.
    mount::leave_chroot()?;
    root.attach(open_dir(Path::new("/proc"))?.as_fd())?;
    nix::unistd::fchdir(&root).map_err(|e| Error::sys("fchdir(<root>)", e))?;
    mount::pivot_here()
}

fn make(dir: &Path) -> Result<()> {
    log::debug!("make a bare mount namespace at {}", dir.display());
    remove(dir)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("mkdir({})", dir.display()))?;
    let made = namespace::on_a_cpu_that_pins(|| {
        let (pid, pidfd, child) = clone_stripped(dir)?;
        let pinned = stripped(&child).and_then(|()| {
            let namespace = format!("/proc/{pid}/ns/mnt");
            namespace::pin_mount_namespace(Path::new(&namespace), dir)
        });
        sys::kill_and_reap(pidfd.as_fd());
        pinned
    });
    made.map_err(|e| e.with_cleanup(remove(dir)))
}

/// A child that has stripped its own mount namespace, or says why it could not, and
/// then waits.
fn clone_stripped(dir: &Path) -> Result<(Pid, OwnedFd, Packets)> {
    let (ours, theirs) = Packets::pair()?;
    match sys::clone3(CloneFlags::CLONE_NEWNS, None) {
        Ok(Fork::Parent { pid, pidfd }) => Ok((pid, pidfd, ours)),
        Ok(Fork::Child) => {
            drop(ours);
            let why = strip(dir).err().map(|e| e.to_string());
            let word = format!("!{}", why.unwrap_or_default());
            theirs
                .send(word.as_bytes(), &[])
                .ignored("the parent has ended and needs no word");
            // Until the parent has pinned what this process is in.
            theirs
                .receive(&mut [0])
                .ignored("the process ends in either case");
            sys::exit_now(0)
        }
        Err(e) => Err(Error::sys("clone3(CLONE_NEWNS)", e)),
    }
}

/// What the child says when it is done.
fn stripped(child: &Packets) -> Result<()> {
    let mut word = vec![0; 4096];
    match child.receive(&mut word) {
        Ok((b"!", _)) => Ok(()),
        Ok(([b'!', why @ ..], _)) => Err(Error::failed(String::from_utf8_lossy(why))),
        Ok(_) => Err(Error::failed("the child that was to make it has died")),
        Err(e) => Err(Error::sys("recvmsg(<child>)", e)),
    }
}

/// Leaves nothing in the caller's own mount namespace but what the module's head
/// lists. `dir` is only a place to begin at.
fn strip(dir: &Path) -> Result<()> {
    mount::set_tree_propagation(MsFlags::MS_PRIVATE)?;
    let options = [("mode", "700"), ("size", "4k"), ("nr_inodes", "8")];
    let root = Mount::new("tmpfs", &options, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
    // First, since before Linux 6.15 nothing can be mounted on what is attached nowhere.
    root.attach(open_dir(dir)?.as_fd())?;
    for (name, host) in [
        ("proc", Some("/proc")),
        ("dev", Some("/dev")),
        ("rootfs", None),
    ] {
        mkdirat(&root, name, OWNER_ONLY)
            .map_err(|e| Error::sys(format!("mkdirat(<bare>, {name:?})"), e))?;
        let Some(host) = host else { continue };
        let copy = Mount::copy(Path::new(host), false)?;
        let place = nix::fcntl::openat(
            &root,
            name,
            nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| Error::sys(format!("openat(<bare>, {name:?})"), e))?;
        copy.attach(place.as_fd())?;
    }
    mount::leave_chroot()?;
    nix::unistd::fchdir(&root).map_err(|e| Error::sys("fchdir(<bare>)", e))?;
    mount::pivot_here()
}
