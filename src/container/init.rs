//! The child's side of making a container, from the clone to exec.
//!
//! The order matters:
//!  1. not dumpable, so that nobody inside can look into this process while it
//!     holds the host's fds (runc CVE-2016-9962);
//!  2. with a user namespace or links to move in, a message of the parent that they
//!     are there;
//!  3. cgroups before the cgroup namespace, whose root is where it is made;
//!     namespaces of others before both, but for the user's (see `create`);
//!  4. what needs the host's /proc: labels, oom_score_adj;
//!  5. root inside: in a user namespace, what is made from here on is its root's;
//!  6. sources of bind mounts are opened while the host's paths still mean
//!     something, and before the tree is made private, so that a propagation that
//!     was asked for reaches the host (with [`super::wanted::Sources`], the parent
//!     has opened them), but for those inside the root that an earlier mount makes;
//!  7. the tree is made private, or left for a copy of the bare namespace, which is
//!     private ([`crate::linux::bare`]): nothing mounted here is seen outside;
//!  8. the root is attached and everything mounted below it by fd, resolved once
//!     each, no link followed out of it ([`super::rootfs`]);
//!  9. sysctls, hostname, hooks;
//! 10. read-only and masked paths come after the mounts they restrict;
//! 11. pivot_root, the old root detached: the host's paths are gone;
//! 12. stdio, then every other fd of the host and of the caller is closed: a link of
//!     /proc/self/fd would lead out, and so would /proc/1/fd for a process inside with
//!     CAP_SYS_PTRACE while the container waits for `start`. Of the debug log there is
//!     none to close: [`super::channel::send_steps`] did so after the clone;
//! 13. the user, the working directory, the program looked up, in [`super::process`];
//! 14. the gate, where a container that is created waits for `start`;
//! 15. rights, filter, startContainer hooks, exec.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::fstatfs;
use nix::unistd::{Gid, Uid};

use super::channel::{Message, say, send_steps, tell_failure, wait_for_go};
use super::plan::Process;
use super::plan::namespace::{CGROUP, MOUNT, PID, USER};
use super::wanted::{Spawn, StartGate};
use super::{dev, gate, hook, process, rootfs, settings};
use crate::linux::bare;
use crate::linux::caller;
use crate::linux::mount::{self, ATTR_RDONLY};
use crate::linux::move_root;
use crate::linux::procfs::Procfs;
use crate::linux::resctrl;
use crate::linux::root::{Links, Root, open_dir};
use crate::linux::socket::Packets;
use crate::{Call, Context, Error, Ignored, Result};

/// Becomes the container's program, or says why not. `joined` is what has still to
/// be entered.
pub(super) fn run(
    wanted: &Spawn,
    joined: &[(CloneFlags, OwnedFd)],
    parent: &Packets,
) -> Result<Infallible> {
    let labels = enter(wanted, joined, parent)?;
    let gate = wanted.start.map(|start| start.gate.as_raw_fd());
    let kept: [Option<RawFd>; 2] = [Some(parent.as_fd().as_raw_fd()), gate];
    let kept = kept
        .into_iter()
        .flatten()
        .chain(process::label_fds(&labels));
    process::close_host_fds(&wanted.plan.process, kept)?;
    become_program(wanted, labels, parent)
}

/// Steps 1 to 11 and stdio. What it opens on the host's side it drops at its end.
fn enter(
    wanted: &Spawn,
    joined: &[(CloneFlags, OwnedFd)],
    parent: &Packets,
) -> Result<process::Labels> {
    let plan = wanted.plan;
    let user_namespace = plan.namespaces.has(USER);
    process::seclude()?;
    nix::unistd::setsid().map_err(|e| Error::sys("setsid()", e))?;
    if wanted.waits_for_parent() {
        wait_for_go(parent)?;
    }
    if let Some(join) = wanted.join {
        log::debug!("join the cgroup");
        join.enter().context("join the cgroup")?;
    }
    // The umask is for what is made in the root filesystem; the program has its own.
    caller::reset_umask();
    caller::reset_affinity();
    resctrl::join(wanted.resctrl).context("linux.intelRdt")?;
    for (kind, fd) in joined.iter().filter(|(k, _)| *k != PID) {
        setns(fd, *kind)
            .call(|| format!("setns(<fd>, {})", crate::error::flags(kind)))
            .context("linux.namespaces")?;
    }
    if plan.namespaces.new.contains(CGROUP) {
        nix::sched::unshare(CGROUP).call(|| "unshare(CLONE_NEWCGROUP)")?;
    }
    let labels = process::open_labels(&plan.process, Procfs::open)?;
    if !user_namespace {
        if let Some(score) = plan.process.oom_score_adj {
            process::set_oom_score("self", score)?;
        }
        process::raise_limits(nix::unistd::Pid::from_raw(0), &plan.process.rlimits)?;
    }
    settings::apply_inherited(plan)?;
    if user_namespace {
        become_root_inside()?;
    }

    let opened;
    let sources = match wanted.sources.and_then(|s| s.mounts.as_ref()) {
        Some(mounts) => mounts,
        None => {
            opened = rootfs::open_sources(plan)?;
            &opened
        }
    };
    let mountpoint = leave_host_mounts(wanted)?;
    let null = rootfs::open_null()?;
    let place = open_dir(mountpoint)?;
    log::debug!("attach the root filesystem");
    wanted
        .root
        .attach(place.as_fd())
        .context("attach the root filesystem")?;
    let root = Root::new(wanted.root.as_fd());
    let terminal = rootfs::mount_all(&root, plan, sources, wanted.join, parent)?;
    settings::apply_to_namespaces(plan)?;
    if let Some(start) = wanted.start {
        run_hooks(wanted, start, parent)?;
    }
    log::debug!("hide and protect paths");
    rootfs::restrict(&root, plan, null.as_fd())?;
    // Made now, while the root may still be written to: many images name a
    // working directory that they do not have.
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
    root.make_dir(&plan.process.cwd, mode, Links::InRoot)
        .ignored("chdir(2) says what is wrong with it");
    if plan.root_read_only {
        wanted
            .root
            .set(ATTR_RDONLY, false)
            .context("make the root read-only")?;
    }
    log::debug!("change to the container's root");
    change_root(wanted)?;
    let terminal = match (plan.process.terminal, terminal) {
        (true, None) => Some(container_terminal(&plan.process)?),
        (_, terminal) => terminal,
    };
    match &terminal {
        Some((master, slave)) => {
            say(parent, &Message::Terminal, &[master.as_fd()])?;
            process::take_terminal(slave.as_fd())?;
        }
        None => process::take_stdio(wanted.stdio)?,
    }
    Ok(labels)
}

/// Step 7. Where the root is to be attached.
fn leave_host_mounts<'w>(wanted: &Spawn<'w>) -> Result<&'w Path> {
    log::debug!("leave the host's mount tree");
    match wanted.bare_mounts {
        Some(bare) => {
            bare::enter_copy(bare)?;
            Ok(Path::new(bare::PLACE))
        }
        None => {
            // A copy that was made as a slave or peer of a host's mount stays one.
            mount::set_tree_propagation(MsFlags::MS_PRIVATE)?;
            Ok(wanted.mountpoint)
        }
    }
}

/// Hooks that run before the root is entered: those of the runtime's namespaces by the
/// parent, those of the container's here.
fn run_hooks(wanted: &Spawn, start: &StartGate, parent: &Packets) -> Result<()> {
    if start.runtime_hooks {
        say(parent, &Message::Hooks, &[])?;
        wait_for_go(parent)?;
    }
    if start.create_container.is_empty() {
        return Ok(());
    }
    // As runc has it: a hook writes to the root filesystem by relative paths.
    nix::unistd::fchdir(wanted.root.as_fd()).map_err(|e| Error::sys("fchdir(<root>)", e))?;
    let state = start.subject.state("creating", std::process::id() as i32);
    hook::run("createContainer", start.create_container, &state)
}

/// The container's root becomes this process's.
fn change_root(wanted: &Spawn) -> Result<()> {
    let plan = wanted.plan;
    mount::leave_chroot()?;
    nix::unistd::fchdir(wanted.root.as_fd()).call(|| "fchdir(<root>)")?;
    match plan.pivot {
        true => mount::pivot_here()?,
        false => move_root::move_here()?,
    }
    if !matches!(
        plan.root_propagation,
        MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE
    ) {
        wanted
            .root
            .set_propagation(plan.root_propagation, false)
            .context("linux.rootfsPropagation")?;
    }
    if let Some(host) = wanted.host_mounts {
        let root = open_dir(Path::new("/"))?;
        setns(host.namespace, MOUNT).call(|| "setns(<host>, CLONE_NEWNS)")?;
        mount::change_root(root.as_fd())?;
    }
    Ok(())
}

fn become_program(wanted: &Spawn, labels: process::Labels, parent: &Packets) -> Result<Infallible> {
    let plan = wanted.plan;
    let program = process::settle(&plan.process)?;
    let Some(start) = wanted.start else {
        return process::launch(&plan.process, &program, labels, parent, || Ok(()));
    };
    crate::sys::process::end_on_signals();
    log::debug!("wait for `start`");
    say(parent, &Message::Waiting, &[])?;
    let channel = gate::wait(start.gate)?;
    // Its command may have a log; that of `create` has ended.
    send_steps(&channel);
    // Their programs are the image's: they may what the container's own may.
    let hooks = || {
        if start.start_container.is_empty() {
            return Ok(());
        }
        let state = start.subject.state("created", std::process::id() as i32);
        // In the program's environment, with the HOME that was found for it.
        let mut hooks = start.start_container.to_vec();
        for hook in &mut hooks {
            hook.env.get_or_insert_with(|| program.env());
        }
        hook::run("startContainer", &hooks, &state)
    };
    let Err(e) = process::launch(&plan.process, &program, labels, &channel, hooks);
    // `start` is told, not whoever created the container long ago.
    tell_failure(&channel, e)
}

/// Whoever made the namespace is nobody in it until it becomes its root. Where 0
/// is not mapped it stays what it is, with every right inside all the same.
pub(super) fn become_root_inside() -> Result<()> {
    let as_is = |e| matches!(e, Errno::EINVAL);
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    match nix::unistd::setresgid(group, group, group) {
        Err(e) if !as_is(e) => return Err(Error::sys("setresgid(0)", e)),
        _ => {}
    }
    match nix::unistd::setgroups(&[]) {
        // setgroups was denied in this namespace: user_namespaces(7).
        Ok(()) | Err(Errno::EPERM) => {}
        Err(e) => return Err(Error::sys("setgroups([])", e)),
    }
    match nix::unistd::setresuid(root, root, root) {
        Err(e) if !as_is(e) => return Err(Error::sys("setresuid(0)", e)),
        _ => {}
    }
    process::seclude()
}

/// A terminal of the container's own devpts. The container may have put anything
/// at /dev/pts by now: it is used only if it is a devpts.
pub(super) fn container_terminal(p: &Process) -> Result<(OwnedFd, OwnedFd)> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let root = open_dir(Path::new("/"))?;
    let pts = Root::new(root.as_fd())
        .open(
            Path::new("/dev/pts"),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            Links::Refuse,
        )
        .context("process.terminal: a terminal is made at the container's /dev/pts")?;
    let kind = fstatfs(&pts)
        .map_err(|e| Error::sys("fstatfs(/dev/pts)", e))?
        .filesystem_type();
    if kind.0 as i64 != DEVPTS_SUPER_MAGIC {
        return Err(Error::failed("/dev/pts of the container is no devpts"));
    }
    dev::new_terminal(pts.as_fd(), p)
}
