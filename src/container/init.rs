//! The child's side of making a container, from the clone to exec.
//!
//! The order matters:
//!  1. not dumpable, so that nobody inside can look into this process while it
//!     holds the host's fds (runc CVE-2016-9962);
//!  2. cgroups before the cgroup namespace, whose root is where it is made;
//!  3. sources of bind mounts are opened while the host's paths still mean
//!     something, and before the tree is made private, so that a propagation that
//!     was asked for reaches the host;
//!  4. the tree is made private: nothing mounted here is seen outside;
//!  5. the root is attached and everything mounted below it by fd, resolved once
//!     each, no link followed out of it;
//!  6. masked and read-only paths come after the mounts they restrict;
//!  7. pivot_root, the old root detached: the host's paths are gone;
//!  8. the user, the rights and the filter, in [`super::process`];
//!  9. exec.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::create::{Stdio, Word};
use super::plan::{Mount as MountPlan, Plan, Source};
use super::{dev, process};
use crate::linux::cgroup::{Hierarchies, Join, Select};
use crate::linux::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount};
use crate::linux::root::{Links, Root, is_dir, open_dir};
use crate::linux::socket::Packets;
use crate::{Context, Error, Result};

/// Becomes the container's program, or says why not.
pub(super) fn run(
    plan: &Plan,
    root: &Mount,
    mountpoint: &Path,
    join: &Join,
    stdio: &Stdio,
    parent: &Packets,
) -> Result<Infallible> {
    process::seclude()?;
    nix::unistd::setsid().map_err(|e| Error::sys("setsid()", e))?;
    join.enter().context("join the cgroup")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|e| Error::sys("unshare(CLONE_NEWCGROUP)", e))?;
    if let Some(score) = plan.process.oom_score_adj {
        process::set_oom_score(score)?;
    }

    let mut sources = Vec::with_capacity(plan.mounts.len());
    for m in &plan.mounts {
        let source =
            open_source(&m.source).with_context(|| format!("mount at {}", m.target.display()))?;
        sources.push(source);
    }
    let null = open_null()?;
    mount::set_tree_propagation(MsFlags::MS_PRIVATE)?;

    let place = open_dir(mountpoint)?;
    root.attach(place.as_fd())
        .context("attach the root filesystem")?;
    let rootfs = Root::new(root.as_fd());
    let mut terminal = None;
    for (m, source) in plan.mounts.iter().zip(sources) {
        apply_mount(&rootfs, m, source, plan, &mut terminal)
            .with_context(|| format!("mount at {}", m.target.display()))?;
    }
    for path in &plan.read_only_paths {
        make_read_only(&rootfs, path)
            .with_context(|| format!("make {} read-only", path.display()))?;
    }
    for path in &plan.masked_paths {
        mask(&rootfs, path, null.as_fd()).with_context(|| format!("mask {}", path.display()))?;
    }
    // Made now, while the root may still be written to: many images name a
    // working directory that they do not have.
    let _ = rootfs.make_dir(
        &plan.process.cwd,
        Mode::from_bits_truncate(0o755),
        Links::InRoot,
    );
    if plan.root_read_only {
        root.set(ATTR_RDONLY, false)
            .context("make the root read-only")?;
    }
    nix::unistd::fchdir(root.as_fd()).map_err(|e| Error::sys("fchdir(<root>)", e))?;
    mount::pivot_here()?;

    let slave = match terminal {
        Some((master, slave)) => {
            let word = serde_json::to_vec(&Word::Terminal)?;
            parent
                .send(&word, &[master.as_fd()])
                .map_err(|e| Error::sys("sendmsg(<parent>)", e))?;
            Some(slave)
        }
        None => None,
    };
    match &slave {
        Some(slave) => process::take_terminal(slave.as_fd())?,
        None => process::take_stdio(stdio)?,
    }
    process::become_program(&plan.process)
}

fn open_source(source: &Source) -> Result<Option<Mount>> {
    match source {
        Source::Bind { path, recursive } => {
            Mount::copy(path, *recursive)
                .map(Some)
                .map_err(|e| match e.errno() {
                    Some(Errno::ENOENT) => e.hint(format!("{} does not exist", path.display())),
                    _ => e,
                })
        }
        Source::SubPath { volume, sub_path } => open_sub_path(volume, sub_path)
            .with_context(|| format!("subPath {}", sub_path.display()))
            .map(Some),
        Source::New(..) | Source::Dev(_) | Source::Cgroup => Ok(None),
    }
}

/// kubernetes CVE-2017-1002101 and CVE-2021-25741: a volume's content must not
/// lead a subPath out of the volume, at no moment.
fn open_sub_path(volume: &Path, sub_path: &Path) -> Result<Mount> {
    let dir = open_dir(volume)?;
    let below = Root::new(dir.as_fd());
    let found = match below.open(sub_path, OFlag::O_PATH, Links::Beneath) {
        Err(e) if e.errno() == Some(Errno::ENOENT) => {
            below.make_dir(sub_path, Mode::from_bits_truncate(0o755), Links::Beneath)
        }
        other => other,
    };
    let found = found.map_err(|e| match e.errno() {
        Some(Errno::EXDEV) => e.hint("a symbolic link in the volume leads out of it"),
        _ => e,
    })?;
    Mount::copy_fd(found.as_fd(), true)
}

type Terminal = (OwnedFd, OwnedFd);

fn apply_mount(
    rootfs: &Root,
    m: &MountPlan,
    source: Option<Mount>,
    plan: &Plan,
    terminal: &mut Option<Terminal>,
) -> Result<()> {
    let mount = match (&m.source, source) {
        (Source::Bind { .. } | Source::SubPath { .. }, Some(copy)) => {
            copy.set_propagation(m.propagation)?;
            if m.attributes != 0 {
                copy.set(m.attributes, m.recursive_attributes)?;
            }
            copy
        }
        (Source::Dev(options), _) => dev::new_dev(&borrow(options), m.attributes, &plan.devices)?,
        (Source::Cgroup, _) => return mount_cgroups(rootfs, m),
        (Source::New(fstype, options), _) => Mount::new(fstype, &borrow(options), m.attributes)?,
        (Source::Bind { .. } | Source::SubPath { .. }, None) => return Ok(()),
    };
    if is_type(m, "devpts") && plan.process.terminal {
        let (master, slave) = dev::new_terminal(mount.as_fd(), plan.process.console_size)?;
        attach(rootfs, &mount, m)?;
        // Before Linux 6.15 only what is attached can be copied.
        let console = Mount::copy_fd(slave.as_fd(), false)?;
        let target = rootfs.make_file(Path::new("/dev/console"), Links::Refuse)?;
        console.attach(target.as_fd()).context("/dev/console")?;
        *terminal = Some((master, slave));
        return Ok(());
    }
    attach(rootfs, &mount, m)
}

fn is_type(m: &MountPlan, fstype: &str) -> bool {
    matches!(&m.source, Source::New(t, _) if t == fstype)
}

fn borrow(options: &[(String, String)]) -> Vec<(&str, &str)> {
    options
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect()
}

/// A kernel filesystem must be where everybody looks for it: a link in its place
/// would let an image move it (runc CVE-2023-27561). Other targets resolve as in
/// a chroot, since images link /var/run to /run; but what is not meant for /proc or
/// /sys must not get there through a link in an image or a volume (runc
/// CVE-2019-19921, CVE-2025-52881).
fn attach(rootfs: &Root, mount: &Mount, m: &MountPlan) -> Result<()> {
    const KERNEL_FILES: [&str; 2] = ["/proc", "/sys"];
    let in_kernel_files = KERNEL_FILES.iter().any(|p| m.target.starts_with(p));
    let links = match &m.source {
        Source::New(fstype, _) if fstype != "tmpfs" => Links::Refuse,
        Source::Dev(_) | Source::Cgroup => Links::Refuse,
        _ if in_kernel_files => Links::Refuse,
        _ => Links::InRoot,
    };
    let target = if is_dir(mount.as_fd()) {
        rootfs.make_dir(&m.target, Mode::from_bits_truncate(0o755), links)
    } else {
        rootfs.make_file(&m.target, links)
    };
    let target = target.map_err(|e| match e.errno() {
        Some(Errno::ENOTDIR | Errno::EEXIST) => {
            e.hint("the image has something else than a directory on the way")
        }
        Some(Errno::EISDIR) => e.hint("a file cannot be mounted over the image's directory"),
        Some(Errno::ELOOP) => {
            e.hint("the image has a symbolic link there; a link is not mounted over")
        }
        Some(Errno::EROFS) => e.hint("the place does not exist and cannot be made: read-only"),
        _ => e,
    })?;
    // Asked of the fd: nobody can change the answer any more.
    let path = rootfs.path_of(target.as_fd())?;
    if !in_kernel_files && KERNEL_FILES.iter().any(|p| path.starts_with(p)) {
        return Err(
            Error::failed(format!("the place is {} in truth", path.display()))
                .hint("a symbolic link in the image or in a volume leads there"),
        );
    }
    mount.attach(target.as_fd())
}

/// What the container sees of its own cgroups: the namespace's root, read-only.
/// On v1 and hybrid, a tmpfs with one directory per hierarchy.
fn mount_cgroups(rootfs: &Root, m: &MountPlan) -> Result<()> {
    let flags = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | (m.attributes & ATTR_RDONLY);
    let hierarchies = Hierarchies::detect()?;
    if hierarchies.is_pure_v2() {
        return attach(rootfs, &Mount::new("cgroup2", &[], flags)?, m);
    }
    let top = Mount::new("tmpfs", &[("mode", "755")], flags & !ATTR_RDONLY)?;
    attach(rootfs, &top, m)?;
    let below = Root::new(top.as_fd());
    // Only what the container was put into: the namespace's root in any other
    // hierarchy is the host's (runc CVE-2023-25809).
    let joined = hierarchies.resolve(Select::Pod);
    for h in hierarchies.v1() {
        let Some(name) = h.point().file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        if !joined.meets(h.controllers()) {
            continue;
        }
        let place = below.make_dir(
            Path::new(name),
            Mode::from_bits_truncate(0o755),
            Links::Refuse,
        )?;
        // The directory is named after its controllers, by convention and systemd.
        let options: Vec<(&str, &str)> = match name {
            "systemd" => vec![("none", ""), ("name", "systemd")],
            controllers => controllers.split(',').map(|c| (c, "")).collect(),
        };
        Mount::new("cgroup", &options, flags)?.attach(place.as_fd())?;
        for controller in name.split(',').filter(|c| *c != name) {
            nix::unistd::symlinkat(name, &top, controller)
                .map_err(|e| Error::sys(format!("symlinkat({name:?}, {controller:?})"), e))?;
        }
    }
    if hierarchies.v2().is_some() {
        let place = below.make_dir(
            Path::new("unified"),
            Mode::from_bits_truncate(0o755),
            Links::Refuse,
        )?;
        Mount::new("cgroup2", &[], flags)?.attach(place.as_fd())?;
    }
    top.set(flags, false)
}

/// The path is bound over itself, read-only. What does not exist needs none.
fn make_read_only(rootfs: &Root, path: &Path) -> Result<()> {
    let Some(fd) = open_existing(rootfs, path)? else {
        return Ok(());
    };
    let copy = Mount::copy_fd(fd.as_fd(), true)?;
    copy.set(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, true)?;
    copy.attach(fd.as_fd())
}

/// The host's null device, found before the container's own /dev is there (runc
/// CVE-2025-31133). Copied anew for each masked file: before Linux 6.15, a detached
/// copy cannot be copied in its turn.
fn open_null() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open("/dev/null", flags, Mode::empty())
        .map_err(|e| Error::sys("open(\"/dev/null\", O_PATH|O_NOFOLLOW)", e))
}

/// A file gets /dev/null over it, a directory an empty read-only tmpfs.
fn mask(rootfs: &Root, path: &Path, null: BorrowedFd) -> Result<()> {
    let Some(fd) = open_existing(rootfs, path)? else {
        return Ok(());
    };
    let cover = if is_dir(fd.as_fd()) {
        Mount::new("tmpfs", &[("nr_inodes", "1"), ("size", "0")], ATTR_RDONLY)?
    } else {
        // Read-only, so that root inside cannot change the host's node; a device is
        // written to all the same.
        let cover = Mount::copy_fd(null, false)?;
        cover.set(ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC, false)?;
        cover
    };
    cover.attach(fd.as_fd())
}

fn open_existing(rootfs: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match rootfs.open(path, OFlag::O_PATH, Links::Refuse) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
        Err(e) => Err(e),
    }
}
