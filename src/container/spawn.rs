//! The parent's side of making a container: one clone, then waiting for its messages.
//!
//! ```text
//! parent                                   child (born in its new namespaces and
//!                                                 its v2 cgroup)
//!   opens what the host's paths name
//!   socketpair
//!   clone3 ------------------------------> not dumpable
//!   | systemd's scope, with its driver
//!   | uid_map, gid_map, oom_score_adj,
//!   | hard limits, with a user namespace
//!   | only
//!   | links moved in, if any
//!   | ---- go -------------------------->  (only if there was any of that)
//!   |                                      joins the v1 cgroups, then namespaces
//!   |                                      unshares the cgroup namespace
//!   |                                      root, mounts, devices
//!   | <--- Hooks ------------------------- (only with hooks of these two kinds)
//!   | prestart, createRuntime
//!   | ---- go -------------------------->
//!   |                                      createContainer hooks
//!   |                                      read-only and masked paths, pivot_root
//!   | <--- Terminal + the master's fd ---- (only with a terminal)
//!   | <--- Failed(error) ----------------- (at any time; then it exits)
//!   |                                      user, rights, the program looked up
//!   | <--- Waiting ----------------------- (only if it is to wait for `start`)
//!   v                                      accepts at its gate (see `gate`)
//!            start connects -------------->
//!            ---- go --------------------> startContainer hooks
//!            <--- Failed(error) ----------
//!            <--- Listener(fd) ----------- (only with a seccomp listener)
//!            ---- go -------------------->
//!   | <--- end of file ------------------- exec: the socket is close-on-exec
//! ```
//!
//! Where a user namespace and a namespace of somebody else's come together, a
//! process between the two enters the other's namespaces first, clones the child
//! as its own sibling (CLONE_PARENT), and ends. One more process in a container is
//! born that way too: see `exec`.
//!
//! The parent does not block on this: [`Starting`] is an fd to wait for.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::channel::{Message, Starting, send_steps, tell_failure};
use super::idmap::write_map;
use super::init;
use super::plan::namespace::{CGROUP, MOUNT, NET, PID, TIME, USER};
use super::wanted::{HostMounts, Spawn};
use crate::linux::cgroup::Join;
use crate::linux::namespace;
use crate::linux::socket::Packets;
use crate::sys::process::{self as sys, Fork};
use crate::{Call, Context, Error, Ignored, Result};

/// Clones the container's first process.
pub(crate) fn spawn(wanted: &Spawn) -> Result<Starting> {
    let starting = match wanted.host_mounts {
        Some(host) => clone_pinned(wanted, host)?,
        None => clone_child(wanted)?,
    };
    if wanted.waits_for_parent() {
        equip(wanted, starting.pid)
            .and_then(|()| starting.channel.go())
            .inspect_err(|_| starting.abandon())?;
    }
    Ok(starting)
}

fn clone_child(wanted: &Spawn) -> Result<Starting> {
    let (ours, theirs) = Packets::pair()?;
    let n = &wanted.plan.namespaces;
    let cloned = match n.has(USER) && !n.joined.is_empty() {
        true => clone_joined(wanted, &ours, &theirs),
        false => clone_directly(wanted, &ours, &theirs),
    };
    Starting::of(cloned, ours)
}

/// As [`clone_child`], with the child's mount namespace pinned.
fn clone_pinned(wanted: &Spawn, host: &HostMounts) -> Result<Starting> {
    let pinned = namespace::on_a_cpu_that_pins(|| {
        let starting = clone_child(wanted)?;
        let namespace = format!("/proc/{}/ns/mnt", starting.pid);
        match namespace::pin_mount_namespace(Path::new(&namespace), host.pin) {
            Ok(()) => Ok(starting),
            Err(e) => {
                starting.abandon();
                Err(e)
            }
        }
    });
    pinned.context("keep the container's mounts")
}

fn clone_directly(wanted: &Spawn, ours: &Packets, theirs: &Packets) -> Result<(Pid, OwnedFd)> {
    let n = &wanted.plan.namespaces;
    let joined_pid = wanted.joined().iter().find(|(kind, _)| *kind == PID);
    let _lent = joined_pid
        .map(|(_, fd)| Lent::enter(fd.as_fd(), PID, "pid"))
        .transpose()?;
    let _time = n
        .new
        .contains(TIME)
        .then(|| Lent::new_time(&n.time_offsets))
        .transpose()?;
    let mut new = clone_flags(n.new);
    if wanted.host_mounts.is_some() {
        new |= MOUNT;
    }
    if wanted.bare_mounts.is_some() {
        // The child leaves the host's mounts by itself, and copies none of them.
        new -= MOUNT;
    }
    match sys::clone3(new, wanted.join.and_then(Join::v2_fd)) {
        Ok(Fork::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Ok(Fork::Child) => {
            send_steps(theirs);
            close_parents(wanted, &[ours.as_fd()]);
            let Err(e) = init::run(wanted, wanted.joined(), theirs);
            tell_failure(theirs, e)
        }
        Err(e) => Err(clone_error(n.new, e)),
    }
}

/// Closes the child's copies of fds whose end it has to notice, or whose keeping
/// would be noticed. Their owners are values of the parent's, never dropped here.
fn close_parents(wanted: &Spawn, fds: &[BorrowedFd]) {
    use std::os::fd::AsRawFd;
    for fd in fds.iter().copied().chain(wanted.start.map(|h| h.lock)) {
        nix::unistd::close(fd.as_raw_fd()).ignored("this process never uses the fd");
    }
}

/// What clone3 makes. The cgroup namespace's root is where its maker is, so that
/// the child makes it, once it is in its cgroup; the offsets of a time namespace
/// are fixed as soon as anybody is in it.
fn clone_flags(new: CloneFlags) -> CloneFlags {
    new - CGROUP - TIME
}

fn clone_error(new: CloneFlags, e: Errno) -> Error {
    let error = Error::sys(
        format!("clone3({})", crate::error::flags(clone_flags(new))),
        e,
    );
    match e {
        Errno::ENOSPC => error.hint(namespace::limit_hint(new)),
        Errno::EAGAIN => error.hint(
            "no room for one more process: see kernel.pid_max, kernel.threads-max, and \
             pids.max of the cgroup and of those above it",
        ),
        Errno::EBUSY => error.hint("the cgroup has controllers for cgroups below it"),
        Errno::EPERM if new.contains(USER) => {
            error.hint("the kernel makes no user namespace for a program in a chroot")
        }
        _ => error,
    }
}

/// A namespace that the next child is born in, given back when dropped.
struct Lent {
    own: OwnedFd,
    kind: CloneFlags,
}

impl Lent {
    fn enter(fd: BorrowedFd, kind: CloneFlags, name: &str) -> Result<Self> {
        let own = namespace::open_own(name)?;
        nix::sched::setns(fd, kind)
            .call(|| format!("setns(<{name}>, {})", crate::error::flags(kind)))?;
        Ok(Lent { own, kind })
    }

    fn new_time(offsets: &str) -> Result<Self> {
        let own = namespace::open_own("time")?;
        make_time_namespace(offsets)?;
        Ok(Lent { own, kind: TIME })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        nix::sched::setns(&self.own, self.kind)
            .ignored("the kernel does not refuse the namespace that this process came from");
    }
}

fn make_time_namespace(offsets: &str) -> Result<()> {
    nix::sched::unshare(TIME).call(|| "unshare(CLONE_NEWTIME)")?;
    if offsets.is_empty() {
        return Ok(());
    }
    std::fs::write("/proc/self/timens_offsets", offsets)
        .with_context(|| format!("write(/proc/self/timens_offsets, {offsets:?})"))
        .map_err(|e| match e.errno() {
            Some(Errno::ERANGE) => e.hint("with these secs a clock would be before 0, or too late"),
            _ => e,
        })
        .context("linux.timeOffsets")
}

/// See the module's head.
fn clone_joined(wanted: &Spawn, ours: &Packets, theirs: &Packets) -> Result<(Pid, OwnedFd)> {
    let n = &wanted.plan.namespaces;
    let enter = |_: BorrowedFd| {
        let left = enter_all(wanted.joined())?;
        if n.new.contains(TIME) {
            make_time_namespace(&n.time_offsets)?;
        }
        Ok(left)
    };
    // From within the cgroup namespace of another container the kernel sees no cgroup of
    // this one (ENOENT, with the mount option nsdelegate). The process between is born in
    // the cgroup then, and its sibling with it.
    let cgroup = wanted.join.and_then(Join::v2_fd);
    let (first, second) = match n.joins(CGROUP) {
        true => (cgroup, None),
        false => (None, cgroup),
    };
    let sibling =
        |_: &_| sys::clone_sibling(clone_flags(n.new), second).map_err(|e| clone_error(n.new, e));
    let child = |left, answer: BorrowedFd| {
        close_parents(wanted, &[ours.as_fd(), answer]);
        init::run(wanted, left, theirs)
    };
    clone_between(enter, sibling, child, theirs, first)
}

/// A process between the caller and its child: it enters namespaces, clones the child
/// as its own `sibling`, says which, and ends. `enter` and `child` are given the fd
/// that it answers through, which is not the child's to keep. What goes wrong in `child` is told to
/// its commander, through `theirs`. It is born in `cgroup`, if there is one.
pub(super) fn clone_between<T>(
    enter: impl FnOnce(BorrowedFd) -> Result<T>,
    sibling: impl FnOnce(&T) -> Result<Fork>,
    child: impl FnOnce(T, BorrowedFd) -> Result<Infallible>,
    theirs: &Packets,
    cgroup: Option<BorrowedFd>,
) -> Result<(Pid, OwnedFd)> {
    let (question, answer) = Packets::pair()?;
    let between = match sys::clone3(CloneFlags::empty(), cgroup) {
        Ok(Fork::Parent { pidfd, .. }) => pidfd,
        Ok(Fork::Child) => {
            send_steps(theirs);
            drop(question);
            let entered = enter(answer.as_fd());
            let cloned = entered.and_then(|e| sibling(&e).map(|fork| (e, fork)));
            match cloned {
                Ok((_, Fork::Parent { pid, pidfd })) => {
                    answer
                        .send(pid.to_string().as_bytes(), &[pidfd.as_fd()])
                        .ignored("a parent that has ended needs no answer");
                    sys::exit_now(0)
                }
                Ok((entered, Fork::Child)) => {
                    let Err(e) = child(entered, answer.as_fd());
                    tell_failure(theirs, e)
                }
                Err(e) => tell_failure(&answer, e),
            }
        }
        Err(e) => return Err(clone_error(CloneFlags::empty(), e)),
    };
    drop(answer);
    let mut buffer = vec![0; 16 * 1024];
    let received = question.receive(&mut buffer);
    // It has sent its message, or has died: there is nothing that a kill could cut off.
    sys::kill_and_reap(between.as_fd());
    let (bytes, mut fds) = received.map_err(|e| Error::sys("recvmsg(<child>)", e))?;
    if let Some(pidfd) = fds.pop()
        && let Some(pid) = std::str::from_utf8(bytes).ok().and_then(|t| t.parse().ok())
    {
        return Ok((Pid::from_raw(pid), pidfd));
    }
    match serde_json::from_slice(bytes) {
        Ok(Message::Failed(e)) => Err(e),
        _ => Err(Error::failed("the process that joins namespaces died")),
    }
}

/// The namespaces that only the caller's rights open come first, then the user
/// namespace, then those that belong to it. Returns what is left for the child:
/// the mount namespace.
fn enter_all(joined: &[(CloneFlags, OwnedFd)]) -> Result<&[(CloneFlags, OwnedFd)]> {
    let end = joined.len() - usize::from(joined.last().is_some_and(|(k, _)| *k == MOUNT));
    let (now, left) = joined.split_at(end);
    let enter = |(kind, fd): &(CloneFlags, OwnedFd)| {
        nix::sched::setns(fd, *kind).call(|| format!("setns(<fd>, {})", crate::error::flags(kind)))
    };
    let mut later = Vec::new();
    for one in now.iter().filter(|(kind, _)| *kind != USER) {
        match enter(one) {
            Err(e) if e.errno() == Some(Errno::EPERM) => later.push(one),
            other => other.context("linux.namespaces")?,
        }
    }
    let user = now.iter().find(|(kind, _)| *kind == USER);
    for one in user.into_iter().chain(later) {
        enter(one).context("linux.namespaces")?;
    }
    Ok(left)
}

/// What the child of a user namespace has no right to do for itself.
fn equip(wanted: &Spawn, pid: Pid) -> Result<()> {
    let n = &wanted.plan.namespaces;
    if let Some(attend) = wanted.prepare_child {
        attend(pid)?;
    }
    if n.new.contains(USER) {
        write_map(pid, "uid_map", &n.uid_map).context("linux.uidMappings")?;
        write_map(pid, "gid_map", &n.gid_map).context("linux.gidMappings")?;
    }
    if n.has(USER) {
        if let Some(score) = wanted.plan.process.oom_score_adj {
            super::process::set_oom_score(&pid.to_string(), score)?;
        }
        super::process::raise_limits(pid, &wanted.plan.process.rlimits)?;
    }
    let net = wanted.joined().iter().find(|(kind, _)| *kind == NET);
    super::netdev::move_in(pid, net.map(|(_, fd)| fd.as_fd()), &wanted.plan.net_devices)
}
