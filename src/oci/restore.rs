//! A container made from the files of a checkpoint: what [`super::create`] does, with
//! criu in the place of a clone and an exec.
//!
//! 1. the configuration is read and planned, and the files looked at;
//! 2. the id is claimed (a container of that id that a checkpoint has stopped makes
//!    room), the record written;
//! 3. the cgroup with its limits, criu in it, so that what it makes is born there;
//! 4. the places of mounts are made in the root filesystem, if it is a new one;
//! 5. criu restores: hooks of the runtime's namespaces when these are there, the
//!    terminal handed over, and the pid recorded before anything goes on running.
//!
//! What belongs to others is named here again, more of it than a checkpoint may
//! have: criu takes what it asks for. The first process is this process's child.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::checkpoint::{BY_INODE, DESCRIPTORS, OUTSIDE, Options, Outside, check_can_be_restored};
use super::create::{Made, Order, Undo, announce, hand_over_terminal, run_runtime_hooks};
use super::criu::{self, Criu, Log, Message, Request, Start, field};
use super::end;
use super::prepared::Prepared;
use super::record::{Containers, Status};
use crate::container::dev;
use crate::container::plan::namespace::{IPC, UTS};
use crate::container::plan::{Mount, Plan, Source};
use crate::container::wanted::Stdio;
use crate::linux::cgroup::{Cgroup, Hierarchies};
use crate::linux::procfs::Stat;
use crate::linux::root::{Links, Root, is_dir, open_dir, reopen};
use crate::linux::{mount_table, namespace};
use crate::store::Lock;
use crate::sys::process as sys;
use crate::{Context, Error, Ignored, Result};

/// What a restore is told beside what a new container is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restore {
    pub options: Options,
    /// AppArmor's or SELinux's, in place of the one at the checkpoint.
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

impl Restore {
    fn add_to(&self, opts: &mut Message) {
        self.options.add_to(opts);
        opts.flag(field::RST_SIBLING, true);
        for (number, value) in [
            (field::LSM_PROFILE, &self.lsm_profile),
            (field::LSM_MOUNT_CONTEXT, &self.lsm_mount_context),
        ] {
            if let Some(value) = value {
                opts.bytes(number, value.as_bytes());
            }
        }
    }
}

/// See the module's head. The container runs when this returns.
pub(crate) fn restore(
    containers: &Containers,
    order: &Order,
    how: &Restore,
    stdio: &Stdio,
) -> Result<Made> {
    let mut prepared = Prepared::read(containers, order)?;
    check_restorable(&prepared.plan)?;
    let program = criu::find(&how.options.criu)?;
    let images = criu::open_own_dir(&how.options.images).context("--image-path")?;
    let descriptors: Vec<String> = kept(&how.options.images, DESCRIPTORS)?;
    let outside: Vec<Outside> = kept(&how.options.images, OUTSIDE)?;

    let lock = claim(containers, &order.id)?;
    let mut undo = Undo::new(containers, &order.id);
    let mut restored = None;
    let done = (|| {
        let (mut record, join) = prepared.record(containers, order, &mut undo)?;
        make_places(&prepared.rootfs, &mut prepared.plan)?;
        let (plan, hooks) = (&prepared.plan, &prepared.hooks);
        let rootfs = &prepared.rootfs;

        let work_path = how.options.work_dir(containers, &order.id)?;
        let work = criu::open_own_dir(&work_path).context("--work-path")?;
        let mut opts = criu::common(images.as_fd(), work.as_fd(), "restore.log");
        how.add_to(&mut opts);
        opts.path(field::ROOT, rootfs);
        opts.flag(field::ORPHAN_PTS_MASTER, plan.process.terminal);
        let mut inherited = Inherited::default();
        inherited.stdio(&descriptors, &outside, stdio)?;
        inherited.namespaces(plan, &mut opts)?;
        inherited.add_to(&mut opts);
        let criu = Criu::start(&Start {
            program: &program,
            join: join.as_ref(),
            root: Some(rootfs),
            dirs: [
                (images.as_fd(), &how.options.images),
                (work.as_fd(), &work_path),
            ],
            inherited: inherited.fds(),
            log: Log {
                path: work_path.join("restore.log"),
                stays: how.options.work.is_some(),
            },
        })?;
        drop(join);
        if let Some(scope) = &prepared.scope {
            let cgroup = prepared.start_scope(containers, scope, criu.pid)?;
            // Not before it is ours, should we be killed: another's may have its name.
            undo.has_scope(&mut record, scope, cgroup);
        }
        let cgroup = undo.cgroup.as_ref();
        add_places(containers.hierarchies()?, plan, rootfs, cgroup, &mut opts)?;
        let subject = record.subject();
        let mut terminal = None;
        let pid = criu.ask(Request::Restore, &opts, |notice| match &*notice.name {
            "orphan-pts-master" => {
                let master = notice.fd;
                let master = master.ok_or_else(|| Error::failed("criu sent no terminal"))?;
                terminal = hand_over_terminal(order, master)?;
                Ok(())
            }
            "setup-namespaces" => {
                undo.hooks = Some((hooks.clone(), subject.clone()));
                run_runtime_hooks(hooks, &subject, notice.pid)
            }
            "post-restore" => {
                let pidfd = sys::pidfd_open(Pid::from_raw(notice.pid));
                restored = Some(pidfd.map_err(|e| Error::sys("pidfd_open(<restored>)", e))?);
                record.pid = notice.pid;
                record.pid_start = Stat::of(notice.pid).map_or(0, |s| s.start);
                containers.save(&record)?;
                announce(order, notice.pid, restored.as_ref().map(AsFd::as_fd))
            }
            _ => Ok(()),
        });
        Ok((pid.context("restore")?, terminal))
    })();
    drop(lock);
    let (pid, terminal) = done.map_err(|e| {
        abandon(order, restored.as_ref());
        undo.everything(e)
    })?;
    Ok(Made {
        pid,
        pidfd: restored.ok_or_else(|| Error::failed("criu restored no process"))?,
        terminal,
        warnings: prepared.warnings,
    })
}

fn check_restorable(plan: &Plan) -> Result<()> {
    check_can_be_restored(plan)?;
    match plan.resctrl {
        Some(_) => Err(Error::unsupported(
            "linux.intelRdt: a class of service is not restored",
        )),
        None => Ok(()),
    }
}

/// What was restored ends, and nobody reads its pid.
fn abandon(order: &Order, restored: Option<&OwnedFd>) {
    if let Some(pidfd) = restored {
        sys::kill_and_reap(pidfd.as_fd());
    }
    if let Some(path) = &order.pid_file {
        std::fs::remove_file(path).ignored("it may not have been written yet");
    }
}

/// A container that is stopped because it was checkpointed makes room.
fn claim(containers: &Containers, id: &str) -> Result<Lock> {
    let refused = match containers.claim(id) {
        Ok(lock) => return Ok(lock),
        Err(e) => e,
    };
    let is_put_away = containers
        .load(id)
        .is_ok_and(|r| r.checkpointed && containers.status(&r) == Status::Stopped);
    if !is_put_away {
        return Err(refused);
    }
    end::delete(containers, id, false)?;
    containers.claim(id)
}

/// Nothing of a checkpoint that another program has made, and this file not.
fn kept<T: DeserializeOwned + Default>(images: &Path, name: &str) -> Result<T> {
    let path = images.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// Fds that restored processes get, by what criu calls them.
#[derive(Default)]
struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// `stdio` for the pipes that it was, and the same files for files.
    fn stdio(&mut self, descriptors: &[String], outside: &[Outside], stdio: &Stdio) -> Result<()> {
        let ours = [stdio.stdin, stdio.stdout, stdio.stderr];
        for (name, fd) in descriptors.iter().zip(ours) {
            if !name.starts_with("pipe:[") || self.0.iter().any(|(key, _)| key == name) {
                continue;
            }
            let copy = fd.try_clone_to_owned().context("fcntl(F_DUPFD_CLOEXEC)")?;
            self.0.push((name.clone(), copy));
        }
        for file in outside {
            let flags = OFlag::from_bits_truncate(file.flags)
                & (OFlag::O_ACCMODE | OFlag::O_APPEND)
                | OFlag::O_CLOEXEC
                | OFlag::O_NOCTTY;
            let fd = file.find().and_then(|fd| reopen(fd.as_fd(), flags));
            let fd = fd.context("stdio, which was a file")?;
            self.0.push((file.key.clone(), fd));
        }
        Ok(())
    }

    /// The namespaces that the container joins: some as fds, some by path.
    fn namespaces(&mut self, plan: &Plan, opts: &mut Message) -> Result<()> {
        for (kind, path) in &plan.namespaces.joined {
            let fd = namespace::open_kind(path, *kind)
                .with_context(|| format!("linux.namespaces: {}", path.display()))?;
            if let Some((_, _, key)) = BY_INODE.iter().find(|(k, ..)| k == kind) {
                self.0.push(((*key).to_owned(), fd));
            }
            let by_path = [(IPC, "ipc"), (UTS, "uts")];
            if let Some((_, name)) = by_path.iter().find(|(k, _)| k == kind) {
                let path = path.as_os_str().as_encoded_bytes();
                opts.pair(field::JOIN_NS, name.as_bytes(), path);
            }
        }
        Ok(())
    }

    fn add_to(&self, opts: &mut Message) {
        for (key, fd) in &self.0 {
            opts.inherit(key, fd.as_fd());
        }
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|(_, fd)| fd.as_fd()).collect()
    }
}

/// The mount points, in a root filesystem that the container has not been in yet.
/// What is inside of another mount is not of the root filesystem. The plan then has
/// the places that links lead to, by which criu asks for them.
fn make_places(rootfs: &Path, plan: &mut Plan) -> Result<()> {
    let dir = open_dir(rootfs)?;
    let root = Root::new(dir.as_fd());
    // (as config.json has it, where it is)
    let mut places: Vec<(PathBuf, PathBuf)> = Vec::new();
    for m in &mut plan.mounts {
        let above = places.iter().filter(|(t, _)| m.target.starts_with(t));
        let above = above.max_by_key(|(t, _)| t.components().count());
        let at = match above {
            Some((planned, at)) => {
                let rest = m.target.strip_prefix(planned).unwrap_or(&m.target);
                at.components().chain(rest.components()).collect()
            }
            None => make_place(&root, m)
                .with_context(|| format!("mount at {}", m.target.display()))?
                .unwrap_or_else(|| m.target.clone()),
        };
        places.push((std::mem::replace(&mut m.target, at.clone()), at));
    }
    Ok(())
}

/// Where it is; nowhere if the filesystem is read-only, and criu says so.
fn make_place(root: &Root, m: &Mount) -> Result<Option<PathBuf>> {
    let is_file = match &m.source {
        Source::Bind { path, .. } => !is_dir(
            open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|e| Error::sys(format!("open({path:?}, O_PATH)"), e))?
                .as_fd(),
        ),
        Source::Inside { path, .. } => {
            !is_dir(root.open(path, OFlag::O_PATH, Links::InRoot)?.as_fd())
        }
        _ => false,
    };
    let made = match is_file {
        true => root.make_file(&m.target, Links::InRoot),
        false => root.make_dir(&m.target, Mode::from_bits_truncate(0o755), Links::InRoot),
    };
    match made {
        Err(e) if e.errno() == Some(Errno::EROFS) => Ok(None),
        other => root.path_of(other?.as_fd()).map(Some),
    }
}

/// Tells criu where the container's cgroup and the sources of its mounts are.
fn add_places(
    h: &Hierarchies,
    plan: &Plan,
    rootfs: &Path,
    cgroup: Option<&Cgroup>,
    opts: &mut Message,
) -> Result<()> {
    if let Some(cgroup) = cgroup {
        add_cgroup_roots(h, cgroup, opts);
    }
    for (target, source) in sources(h, plan, rootfs, cgroup)? {
        let (target, source) = (target.as_os_str(), source.as_os_str());
        let (target, source) = (target.as_encoded_bytes(), source.as_encoded_bytes());
        opts.pair(field::EXT_MNT, target, source);
    }
    Ok(())
}

/// Where the container's cgroup is now, which may not be where it was.
fn add_cgroup_roots(h: &Hierarchies, cgroup: &Cgroup, opts: &mut Message) {
    if h.is_pure_v2() {
        // Without a controller's name it holds for all.
        let mut root = Message::default();
        root.bytes(field::VALUE, format!("/{}", cgroup.path()).as_bytes());
        opts.message(field::CG_ROOT, &root);
        return;
    }
    for hierarchy in h.v1() {
        let path = cgroup
            .directories()
            .into_iter()
            .find(|(list, _)| *list == hierarchy.list())
            .and_then(|(_, dir)| Some(dir.strip_prefix(hierarchy.point()).ok()?.to_owned()));
        if let Some(path) = path {
            let path = Path::new("/").join(path);
            let path = path.as_os_str().as_encoded_bytes();
            opts.pair(field::CG_ROOT, hierarchy.list().as_bytes(), path);
        }
    }
}

/// The name of a hierarchy's directory where a container sees several.
fn name_inside<'h>(h: &'h Hierarchies, list: &str) -> Option<&'h OsStr> {
    match list {
        "" if h.is_pure_v2() => None,
        "" => Some(OsStr::new("unified")),
        list => {
            let found = h.v1().iter().find(|v1| v1.list() == list);
            found.and_then(|v1| v1.point().file_name())
        }
    }
}

/// What is mounted where, of all that is not the container's own.
fn sources(
    h: &Hierarchies,
    plan: &Plan,
    rootfs: &Path,
    cgroup: Option<&Cgroup>,
) -> Result<Vec<(PathBuf, PathBuf)>> {
    let table = mount_table::of("self")?;
    let mut all = Vec::new();
    // Of the mounts that the root filesystem came with, those that nothing covers.
    let mut below_root = Vec::new();
    for e in &table {
        if let Some(rest) = e.below(rootfs) {
            below_root.push((Path::new("/").join(rest), e.point.clone()));
        }
    }
    for m in &plan.mounts {
        match &m.source {
            Source::Bind { path, recursive } => {
                let path = path.canonicalize().with_context(|| {
                    format!("mount at {}: {}", m.target.display(), path.display())
                })?;
                if *recursive {
                    for e in &table {
                        if let Some(rest) = e.below(&path) {
                            all.push((m.target.join(rest), e.point.clone()));
                        }
                    }
                }
                all.push((m.target.clone(), path));
            }
            Source::Cgroup => {
                for (list, dir) in cgroup.map(Cgroup::directories).unwrap_or_default() {
                    if let Some(name) = name_inside(h, list) {
                        all.push((m.target.join(name), dir.clone()));
                    }
                    if h.is_pure_v2() {
                        all.push((m.target.clone(), dir));
                    }
                }
            }
            Source::Inside { path, .. } => {
                let rest = path.strip_prefix("/").unwrap_or(path);
                all.push((m.target.clone(), rootfs.join(rest)));
            }
            Source::New { .. } | Source::Dev(_) | Source::SubPath { .. } => {}
        }
    }
    for path in &plan.masked_paths {
        all.push((path.clone(), "/dev/null".into()));
    }
    for path in dev::paths(plan) {
        all.push((path.clone(), path));
    }
    all.extend(below_root);
    let mut seen = std::collections::HashSet::new();
    all.retain(|(target, _)| seen.insert(target.clone()));
    Ok(all)
}
