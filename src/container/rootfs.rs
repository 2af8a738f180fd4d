//! What is mounted in a container's root filesystem, and what is hidden there.
//! Runs in the child, between the clone and pivot_root; its order is in
//! [`super::init`].
//!
//! Every path of the container is resolved once, from the root's fd, with
//! openat2(2), and mounted over through the fd that comes back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use super::channel::{Message, say, wait_for_go};
use super::plan::mount::IdMapped;
use super::plan::namespace::{CGROUP, USER};
use super::plan::{Mount as MountPlan, Plan, Source};
use super::{copy, dev, idmap, sub_path};
use crate::linux::cgroup::{Hierarchies, Join};
use crate::linux::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Change, Mount};
use crate::linux::root::{Links, Root, is_dir};
use crate::linux::socket::Packets;
use crate::{Context, Error, Result};

pub(super) type Terminal = (OwnedFd, OwnedFd);

const DIR_MODE: Mode = Mode::from_bits_truncate(0o755);

fn at(m: &MountPlan) -> String {
    format!("mount at {}", m.target.display())
}

/// What the host's paths name, copied: a bind mount's source with its attributes,
/// ready to be attached.
pub(crate) fn open_sources(plan: &Plan) -> Result<Vec<Option<Mount>>> {
    let mut sources = Vec::with_capacity(plan.mounts.len());
    for m in &plan.mounts {
        sources.push(open_source(m, plan).with_context(|| at(m))?);
    }
    Ok(sources)
}

fn open_source(m: &MountPlan, plan: &Plan) -> Result<Option<Mount>> {
    let copy = match &m.source {
        Source::Bind { path, recursive } => {
            // A link to bind is followed, as mount(8) does; /proc/self/fd/N too.
            let copy = match m.propagation.is_empty() {
                true => Mount::copy(path, *recursive),
                false => Mount::copy_as_peer(path, *recursive),
            };
            copy.map_err(|e| match e.errno() {
                Some(Errno::ENOENT) => e.hint(format!("{} does not exist", path.display())),
                _ => e,
            })?
        }
        Source::SubPath { volume, sub_path } => sub_path::open(volume, sub_path)
            .and_then(|found| match m.propagation.is_empty() {
                true => Mount::copy_fd(found.as_fd(), true),
                false => Mount::copy_fd_as_peer(found.as_fd(), true),
            })
            .with_context(|| format!("subPath {}", sub_path.display()))?,
        Source::New { .. } | Source::Dev(_) | Source::Cgroup | Source::Inside { .. } => {
            return Ok(None);
        }
    };
    if let Some(i) = &m.idmap {
        map_ids(&copy, i, plan)?;
    }
    Ok(Some(copy))
}

fn map_ids(copy: &Mount, i: &IdMapped, plan: &Plan) -> Result<()> {
    let n = &plan.namespaces;
    let namespace = match (i.uids.is_empty(), n.joined.iter().find(|(k, _)| *k == USER)) {
        (false, _) => idmap::user_namespace(&i.uids, &i.gids)?,
        (true, Some((_, path))) => crate::linux::namespace::open(path)?,
        (true, None) => idmap::user_namespace(&n.uid_map, &n.gid_map)?,
    };
    copy.map_ids(namespace.as_fd(), i.recursive)
}

/// For the child in a user namespace, which has made `mount` and may not do this itself.
pub(crate) fn map_ids_of(plan: &Plan, place: usize, mount: &Mount) -> Result<()> {
    let Some(m) = plan.mounts.get(place) else {
        return Err(Error::failed("the child's mount is not in the plan"));
    };
    match &m.idmap {
        Some(i) => map_ids(mount, i, plan).with_context(|| at(m)),
        None => Ok(()),
    }
}

/// Mounts everything and makes the devices. Returns the terminal, if the process
/// has one and the container a devpts.
pub(super) fn mount_all(
    root: &Root,
    plan: &Plan,
    sources: &[Option<Mount>],
    join: Option<&Join>,
    parent: &Packets,
) -> Result<Option<Terminal>> {
    let mut terminal = None;
    let mut read_only = Vec::new();
    for (place, (m, source)) in plan.mounts.iter().zip(sources).enumerate() {
        log::debug!("{}", at(m));
        match &m.source {
            Source::Cgroup => mount_cgroups(root, m, plan, join),
            Source::Dev(options) => {
                mount_dev(root, m, options, plan).map(|dev| read_only.extend(dev))
            }
            Source::Inside { path, recursive } => {
                copy_inside(root, path, *recursive, plan, (place, parent))
                    .and_then(|copy| finish_mount(root, &copy, m))
            }
            _ => mount_one(root, m, source.as_ref(), plan, &mut terminal),
        }
        .with_context(|| at(m))?;
    }
    dev::finish(root, plan)?;
    if let Some((_, slave)) = &terminal {
        // Before Linux 6.15 only what is attached can be copied, and now it is.
        let console = Mount::copy_fd(slave.as_fd(), false)?;
        let target = root.make_file(Path::new("/dev/console"), Links::Refuse)?;
        console.attach(target.as_fd()).context("/dev/console")?;
    }
    for dev in read_only {
        dev.set(ATTR_RDONLY, false).context("make /dev read-only")?;
    }
    Ok(terminal)
}

/// Returns the mount if it is to be read-only, which it can be once everything is made
/// in it.
fn mount_dev(
    root: &Root,
    m: &MountPlan,
    options: &[(String, String)],
    plan: &Plan,
) -> Result<Option<Mount>> {
    let attributes = m.own.set | m.tree.set;
    let dev = dev::new_dev(&borrow(options), attributes & !ATTR_RDONLY, plan)?;
    for (propagation, recursive) in &m.propagation {
        dev.set_propagation(*propagation, *recursive)?;
    }
    attach(root, &dev, m)?;
    Ok((attributes & ATTR_RDONLY != 0).then_some(dev))
}

fn mount_one(
    root: &Root,
    m: &MountPlan,
    source: Option<&Mount>,
    plan: &Plan,
    terminal: &mut Option<Terminal>,
) -> Result<()> {
    let made;
    let mount = match (&m.source, source) {
        (Source::Bind { .. } | Source::SubPath { .. }, Some(opened)) => {
            // Since Linux 6.8, mountinfo lists mounts in the order of their making,
            // and who reads it takes the last one of a place for the one on top. It
            // takes Linux 6.15 to copy what is attached nowhere.
            let again = match m.propagation.is_empty() {
                true => Mount::copy_fd(opened.as_fd(), true),
                false => Mount::copy_fd_as_peer(opened.as_fd(), true),
            };
            let copy = match again {
                Ok(again) => {
                    made = again;
                    &made
                }
                Err(_) => opened,
            };
            change(copy, m)?;
            copy
        }
        (Source::Bind { .. } | Source::SubPath { .. }, None)
        | (Source::Cgroup | Source::Dev(_) | Source::Inside { .. }, _) => return Ok(()),
        (
            Source::New {
                fstype,
                name,
                options,
            },
            _,
        ) => {
            made = new_filesystem(root, m, (fstype, name, options))?;
            &made
        }
    };
    if matches!(&m.source, Source::New { fstype, .. } if fstype == "devpts")
        && m.target == Path::new("/dev/pts")
        && plan.process.terminal
    {
        *terminal = Some(dev::new_terminal(mount.as_fd(), &plan.process)?);
    }
    finish_mount(root, mount, m)
}

fn finish_mount(root: &Root, mount: &Mount, m: &MountPlan) -> Result<()> {
    for (propagation, recursive) in &m.propagation {
        mount.set_propagation(*propagation, *recursive)?;
    }
    attach(root, mount, m)
}

/// See [`Source::Inside`]. No link leads out of the root.
fn copy_inside(
    root: &Root,
    path: &Path,
    recursive: bool,
    plan: &Plan,
    (place, parent): (usize, &Packets),
) -> Result<Mount> {
    let m = &plan.mounts[place];
    let found = root.open(path, OFlag::O_PATH, Links::InRoot)?;
    let copy = match m.propagation.is_empty() {
        true => Mount::copy_fd(found.as_fd(), recursive)?,
        false => Mount::copy_fd_as_peer(found.as_fd(), recursive)?,
    };
    match &m.idmap {
        Some(_) if plan.namespaces.has(USER) => {
            say(parent, &Message::MapIds(place), &[copy.as_fd()])?;
            wait_for_go(parent)?;
        }
        Some(i) => map_ids(&copy, i, plan)?,
        None => {}
    }
    change(&copy, m)?;
    Ok(copy)
}

fn change(mount: &Mount, m: &MountPlan) -> Result<()> {
    if !m.tree.is_none() {
        mount.change(m.tree, true)?;
    }
    if !m.own.is_none() {
        mount.change(m.own, false)?;
    }
    Ok(())
}

fn new_filesystem(
    root: &Root,
    m: &MountPlan,
    (fstype, name, options): (&str, &str, &[(String, String)]),
) -> Result<Mount> {
    let mut options = borrow(options);
    let mode;
    let covered = match fstype {
        "tmpfs" => root
            .open(&m.target, OFlag::O_PATH | OFlag::O_DIRECTORY, Links::InRoot)
            .ok(),
        _ => None,
    };
    if let Some(dir) = &covered {
        refuse_kernel_files(root, dir.as_fd(), m)?;
    }
    // A tmpfs over /tmp is to be what /tmp was.
    if let Some(dir) = &covered
        && !options.iter().any(|(key, _)| *key == "mode")
    {
        let stat = fstat(dir).map_err(|e| Error::sys("fstat(<target>)", e))?;
        mode = format!("{:o}", stat.st_mode & 0o7777);
        options.push(("mode", &mode));
    }
    let later = m.own.set & ATTR_RDONLY;
    let attributes = (m.own.set | m.tree.set) & !ATTR_RDONLY;
    let mount = Mount::from(fstype, name, &options, attributes)?;
    if m.copy_up
        && let Some(dir) = covered
    {
        copy::copy_tree(dir.as_fd(), mount.as_fd()).context("tmpcopyup")?;
    }
    if later | m.tree.set & ATTR_RDONLY != 0 {
        mount.change(Change::READ_ONLY, false)?;
    }
    Ok(mount)
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
fn attach(root: &Root, mount: &Mount, m: &MountPlan) -> Result<()> {
    let in_kernel_files = is_kernels(&m.target);
    let links = match &m.source {
        Source::New { fstype, .. } if fstype != "tmpfs" => Links::Refuse,
        Source::Dev(_) | Source::Cgroup => Links::Refuse,
        _ if in_kernel_files => Links::Refuse,
        _ => Links::InRoot,
    };
    let target = if is_dir(mount.as_fd()) {
        root.make_dir(&m.target, DIR_MODE, links)
    } else {
        root.make_file(&m.target, links)
    };
    let target = target.map_err(|e| match e.errno() {
        Some(Errno::ENOTDIR | Errno::EEXIST) => e.hint(
            "a part of this path is a file in the image, and has to be a directory: mount \
                 it at another path",
        ),
        Some(Errno::EISDIR) => e.hint("a file cannot be mounted over the image's directory"),
        Some(Errno::ELOOP) => {
            e.hint("the image has a symbolic link there; a link is not mounted over")
        }
        Some(Errno::EROFS) => e.hint("the place does not exist and cannot be made: read-only"),
        _ => e,
    })?;
    refuse_proc(target.as_fd(), mount, m)?;
    refuse_kernel_files(root, target.as_fd(), m)?;
    mount.attach(target.as_fd())
}

fn is_kernels(path: &Path) -> bool {
    ["/proc", "/sys"].iter().any(|p| path.starts_with(p))
}

/// See [`attach`]. Asked of the fd: nobody can change the answer any more.
fn refuse_kernel_files(root: &Root, target: BorrowedFd, m: &MountPlan) -> Result<()> {
    let path = root.path_of(target)?;
    match !is_kernels(&m.target) && is_kernels(&path) {
        true => Err(
            Error::failed(format!("the place is {} in truth", path.display()))
                .hint("a symbolic link in the image or in a volume leads there"),
        ),
        false => Ok(()),
    }
}

/// Nothing but the container's own files of /proc may be covered: a false
/// /proc/self/attr or /proc/sys would swallow what is written there (runc
/// CVE-2019-16884, CVE-2025-52881). LXCFS's are harmless and wanted.
fn refuse_proc(target: BorrowedFd, mount: &Mount, m: &MountPlan) -> Result<()> {
    const HARMLESS: [&str; 12] = [
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/net/dev",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
        "/proc/acpi",
    ];
    if !m.target.starts_with("/proc") || m.target == Path::new("/proc") {
        return Ok(());
    }
    use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
    let is_proc =
        |fd: BorrowedFd| fstatfs(fd).is_ok_and(|s| s.filesystem_type() == PROC_SUPER_MAGIC);
    let harmless = HARMLESS.iter().any(|h| m.target == Path::new(h));
    match !is_proc(target) || harmless || is_proc(mount.as_fd()) {
        true => Ok(()),
        false => Err(Error::invalid(
            "destination: nothing is mounted inside /proc but a few files known to be harmless",
        )),
    }
}

/// What the container sees of its own cgroups: the namespace's root, or without a
/// namespace the container's own directory, bound. On v1 and hybrid, a tmpfs with
/// one directory per hierarchy.
fn mount_cgroups(root: &Root, m: &MountPlan, plan: &Plan, join: Option<&Join>) -> Result<()> {
    let flags = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ((m.own.set | m.tree.set) & ATTR_RDONLY);
    let detected;
    let hierarchies = match join {
        Some(join) => join.hierarchies(),
        None => {
            detected = Hierarchies::detect()?;
            &detected
        }
    };
    let own = match plan.namespaces.has(CGROUP) {
        true => None,
        false => Some(own_cgroups()?),
    };
    let one = |point: &Path, controllers: &str, options: &[(&str, &str)], fstype: &str| {
        match &own {
            // The namespace's root in the host's eyes (runc CVE-2023-25809).
            Some(paths) => {
                let path = paths
                    .iter()
                    .find(|(c, _)| c == controllers)
                    .map_or("/", |p| &p.1);
                let copy = Mount::copy(&point.join(path.trim_start_matches('/')), false)?;
                copy.set(flags, false)?;
                Ok(copy)
            }
            None => Mount::from(fstype, "cgroup", options, flags),
        }
    };
    if hierarchies.is_pure_v2() {
        let point = hierarchies.v2().map_or(Path::new("/"), |h| h.point());
        return attach(root, &one(point, "", &[], "cgroup2")?, m);
    }
    let top = Mount::new("tmpfs", &[("mode", "755")], flags & !ATTR_RDONLY)?;
    attach(root, &top, m)?;
    let below = Root::new(top.as_fd());
    // Only what the container was put into: the namespace's root in any other
    // hierarchy is the host's.
    let joined: Vec<_> = join.into_iter().flat_map(Join::joined_v1).collect();
    for h in joined {
        let Some(name) = h.point().file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let place = below.make_dir(Path::new(name), DIR_MODE, Links::Refuse)?;
        // The directory is named after its controllers, by convention and systemd.
        let (list, options): (String, Vec<(&str, &str)>) = match name {
            "systemd" => (
                "name=systemd".into(),
                vec![("none", ""), ("name", "systemd")],
            ),
            controllers => (
                controllers.into(),
                controllers.split(',').map(|c| (c, "")).collect(),
            ),
        };
        one(h.point(), &list, &options, "cgroup")?.attach(place.as_fd())?;
        for controller in name.split(',').filter(|c| *c != name) {
            nix::unistd::symlinkat(name, &top, controller)
                .map_err(|e| Error::sys(format!("symlinkat({name:?}, {controller:?})"), e))?;
        }
    }
    if let Some(v2) = hierarchies.v2() {
        let place = below.make_dir(Path::new("unified"), DIR_MODE, Links::Refuse)?;
        one(v2.point(), "", &[], "cgroup2")?.attach(place.as_fd())?;
    }
    top.set(flags, false)
}

/// The calling process's cgroup by hierarchy, each by its controllers: cgroups(7).
fn own_cgroups() -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    Ok(text
        .lines()
        .filter_map(|l| {
            let mut fields = l.splitn(3, ':').skip(1);
            Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
        })
        .collect())
}

/// Read-only and masked paths.
pub(super) fn restrict(root: &Root, plan: &Plan, null: BorrowedFd) -> Result<()> {
    for path in &plan.read_only_paths {
        make_read_only(root, path).with_context(|| format!("make {} read-only", path.display()))?;
    }
    let mut empty = None;
    for (i, path) in plan.masked_paths.iter().enumerate() {
        if plan.masked_paths[..i].contains(path) {
            continue;
        }
        mask(root, path, null, &mut empty).with_context(|| format!("mask {}", path.display()))?;
    }
    Ok(())
}

/// The path is bound over itself, read-only. What does not exist needs none.
fn make_read_only(root: &Root, path: &Path) -> Result<()> {
    let Some(fd) = open_existing(root, path)? else {
        return Ok(());
    };
    let copy = Mount::copy_fd(fd.as_fd(), true)?;
    let kernel = path.starts_with("/proc") || path.starts_with("/sys");
    let more = if kernel {
        ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
    } else {
        0
    };
    copy.set(ATTR_RDONLY | more, true)?;
    copy.attach(fd.as_fd())
}

/// The host's null device, found before the container's own /dev is there (runc
/// CVE-2025-31133). Copied anew for each masked file: before Linux 6.15, a detached
/// copy cannot be copied in its turn.
pub(crate) fn open_null() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open("/dev/null", flags, Mode::empty())
        .map_err(|e| Error::sys("open(\"/dev/null\", O_PATH|O_NOFOLLOW)", e))
}

/// A file gets /dev/null over it, a directory an empty read-only tmpfs: the same for all
/// of them, since a superblock is most of the work.
fn mask(root: &Root, path: &Path, null: BorrowedFd, empty: &mut Option<Mount>) -> Result<()> {
    let Some(fd) = open_existing(root, path)? else {
        return Ok(());
    };
    if !is_dir(fd.as_fd()) {
        // Read-only, so that root inside cannot change the host's node; a device is
        // written to all the same.
        let cover = Mount::copy_fd(null, false)?;
        cover.set(ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC, false)?;
        return cover.attach(fd.as_fd());
    }
    match empty {
        // It is attached: before Linux 6.15 a detached mount cannot be copied.
        Some(first) => Mount::copy_fd(first.as_fd(), false)?.attach(fd.as_fd()),
        None => {
            let tmpfs = Mount::new("tmpfs", &[("nr_inodes", "1"), ("size", "0")], ATTR_RDONLY)?;
            tmpfs.attach(fd.as_fd())?;
            *empty = Some(tmpfs);
            Ok(())
        }
    }
}

/// In /proc and /sys no link is followed: what is meant there is what is named.
fn open_existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    let kernel = path.starts_with("/proc") || path.starts_with("/sys");
    let links = if kernel { Links::Refuse } else { Links::InRoot };
    match root.open(path, OFlag::O_PATH, links) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
        Err(e) => Err(e),
    }
}
