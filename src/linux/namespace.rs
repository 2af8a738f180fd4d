//! Namespaces: namespaces(7). A pinned one is a bind mount of its nsfs file, so
//! that it lives on without any process.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

use super::mount;
use super::root::open_dir;
use super::socket::Packets;
use crate::sys::process::{Fork, clone3, exit_now, kill_and_reap};
use crate::{Call, Context, Error, Ignored, Result};

/// The calling process's own namespace of a kind.
pub(crate) fn open_own(kind: &str) -> Result<OwnedFd> {
    open(Path::new(&format!("/proc/self/ns/{kind}")))
}

pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    File::open(path)
        .map(OwnedFd::from)
        .with_context(|| format!("open({})", path.display()))
}

/// As [`open`], checked to be a namespace of that kind: setns(2) would say no more
/// than EINVAL, and a FIFO would not even let itself be opened.
pub(crate) fn open_kind(path: &Path, kind: CloneFlags) -> Result<OwnedFd> {
    use nix::fcntl::OFlag;
    let file = nix::fcntl::open(
        path,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
        nix::sys::stat::Mode::empty(),
    )
    .map_err(|e| Error::sys(format!("open({})", path.display()), e))?;
    match crate::sys::namespace::kind(file.as_fd()) {
        Ok(found) if found == kind.bits() => Ok(file),
        Ok(_) => Err(Error::invalid("it is a namespace of another kind")),
        Err(_) => Err(Error::invalid("it is no namespace")),
    }
}

pub(crate) fn leave(kinds: CloneFlags) -> Result<()> {
    unshare(kinds)
        .call(|| format!("unshare({})", crate::error::flags(kinds)))
        .map_err(|e| match e.errno() {
            Some(Errno::ENOSPC) => e.hint(limit_hint(kinds)),
            _ => e,
        })
}

/// Names below /proc/sys/user: namespaces(7), "The /proc/sys/user directory".
const LIMITS: [(CloneFlags, &str); 8] = [
    (CloneFlags::CLONE_NEWNS, "max_mnt_namespaces"),
    (CloneFlags::CLONE_NEWNET, "max_net_namespaces"),
    (CloneFlags::CLONE_NEWUTS, "max_uts_namespaces"),
    (CloneFlags::CLONE_NEWIPC, "max_ipc_namespaces"),
    (CloneFlags::CLONE_NEWPID, "max_pid_namespaces"),
    (CloneFlags::CLONE_NEWUSER, "max_user_namespaces"),
    (CloneFlags::CLONE_NEWCGROUP, "max_cgroup_namespaces"),
    (
        CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
        "max_time_namespaces",
    ),
];

/// What mends the ENOSPC of a call that makes namespaces of these kinds.
pub(crate) fn limit_hint(kinds: CloneFlags) -> String {
    limit_hint_of(kinds, |name| {
        let text = std::fs::read_to_string(format!("/proc/sys/user/{name}")).ok()?;
        text.trim().parse().ok()
    })
}

/// The kernel does not tell which limit it was: the lowest is the likely one.
fn limit_hint_of(kinds: CloneFlags, value: impl Fn(&str) -> Option<u64>) -> String {
    let asked = LIMITS.iter().filter(|(kind, _)| kinds.contains(*kind));
    let lowest = asked
        .filter_map(|(_, name)| Some((value(name)?, name)))
        .min_by_key(|(value, _)| *value);
    match lowest {
        Some((value, name)) => format!(
            "a limit of namespaces is reached: the sysctl user.{name} is {value}; set it higher"
        ),
        None => "a limit in /proc/sys/user is reached".into(),
    }
}

/// Enters the namespace pinned at `path`.
pub(crate) fn enter(path: &Path, kind: CloneFlags) -> Result<()> {
    setns(open(path)?, kind)
        .call(|| format!("setns({}, {})", path.display(), crate::error::flags(kind)))
}

/// Pins the calling process's namespace of a kind at `path`, a file that is made.
pub(crate) fn pin_own(kind: &str, path: &Path) -> Result<()> {
    pin(Path::new(&format!("/proc/self/ns/{kind}")), path)
}

/// Pins a namespace at `path`, a file that is made.
pub(crate) fn pin(namespace: &Path, path: &Path) -> Result<()> {
    File::create(path).with_context(|| format!("open({}, O_CREAT)", path.display()))?;
    mount::bind(namespace, path)
}

/// Pins a mount namespace in `dir`, which is made if it is missing and becomes a private
/// mount of itself.
///
/// The kernel copies no mount of a mount namespace's file: EINVAL from copy_tree() in
/// fs/namespace.c. A mount below a shared one is copied to the other mount namespaces,
/// and systemd makes every mount shared.
pub(crate) fn pin_mount_namespace(namespace: &Path, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("mkdir({})", dir.display()))?;
    mount::make_private(dir)?;
    pin(namespace, &dir.join("mnt"))
}

/// Repeats `attempt`, which makes a mount namespace in a child of the calling thread and
/// pins it, on one CPU after the other while it fails with EINVAL.
///
/// The kernel binds the file of a mount namespace only into one with a lower number
/// (mnt_ns_loop() of fs/namespace.c). Since Linux 6.18 each CPU takes numbers from a
/// batch of its own, so that the child's may be the lower one, although it is newer. On
/// the CPU where the caller's namespace was made it cannot be; since nothing tells which
/// one that was, all are tried.
pub(crate) fn on_a_cpu_that_pins<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let own = Pid::from_raw(0);
    let affinity = sched_getaffinity(own).map_err(|e| Error::sys("sched_getaffinity()", e))?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| {
        let mut one = CpuSet::new();
        // EINVAL: there is no such CPU, or the cpuset cgroup does not allow it.
        one.set(*cpu).is_ok() && sched_setaffinity(own, &one).is_ok()
    });
    let made = loop {
        match attempt() {
            Err(e) if e.errno() == Some(Errno::EINVAL) && cpus.next().is_some() => {}
            other => break other,
        }
    };
    sched_setaffinity(own, &affinity).ignored("a container gets all CPUs of its cgroup in the end");
    made
}

/// The root directory of a mount namespace, as an O_PATH fd: what a process has as its root
/// that enters it, whatever root the processes inside have taken since (chroot(2)).
pub(crate) fn root_of_mounts(namespace: BorrowedFd) -> Result<OwnedFd> {
    let (ours, theirs) = Packets::pair()?;
    let child = match clone3(CloneFlags::empty(), None) {
        Ok(Fork::Parent { pidfd, .. }) => pidfd,
        Ok(Fork::Child) => {
            let root = setns(namespace, CloneFlags::CLONE_NEWNS)
                .map_err(|e| Error::sys("setns(<container>, CLONE_NEWNS)", e))
                .and_then(|()| open_dir(Path::new("/")));
            let (word, fds) = match &root {
                Ok(root) => (Vec::from(b"ok"), vec![root.as_fd()]),
                Err(e) => (serde_json::to_vec(e).unwrap_or_default(), vec![]),
            };
            theirs
                .send(&word, &fds)
                .ignored("a parent that has ended needs no answer");
            exit_now(0)
        }
        Err(e) => return Err(Error::sys("clone3()", e)),
    };
    drop(theirs);
    let mut buffer = vec![0; 16 << 10];
    let received = ours.receive(&mut buffer);
    // It has sent its message, or has died.
    kill_and_reap(child.as_fd());
    let (word, mut fds) = received.map_err(|e| Error::sys("recvmsg(<child>)", e))?;
    match fds.pop() {
        Some(root) => Ok(root),
        None => Err(serde_json::from_slice(word).unwrap_or_else(|_| {
            Error::failed("the process that enters the container's mount namespace died")
        })),
    }
}

/// Undoes [`pin_mount_namespace`] but for the directory; nothing there is fine.
pub(crate) fn unpin_mount_namespace(dir: &Path) -> Result<()> {
    // MNT_DETACH takes the mounts below too.
    mount::unmount(dir)
}

/// Undoes [`pin`]; nothing there is fine.
pub(crate) fn unpin(path: &Path) -> Result<()> {
    mount::unmount(path)?;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("unlink({})", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_namespaces_is_named() {
        let kinds = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
        let hint = limit_hint_of(kinds, |name| match name {
            "max_net_namespaces" => Some(3),
            "max_uts_namespaces" => Some(9),
            _ => Some(0),
        });
        assert!(hint.contains("user.max_net_namespaces is 3"), "{hint}");
        assert!(limit_hint_of(kinds, |_| None).contains("/proc/sys/user"));
        // The name is one of this kernel's.
        assert!(limit_hint(kinds).contains("_namespaces is "));
    }
}
