//! A container's processes and memory, put into files by [`super::criu`].
//!
//! criu takes what belongs to the container as it finds it: its namespaces, the
//! filesystems that it has for itself, what its files and pipes hold. What belongs
//! to others is told it by name ("external"), and found again at the restore: bind
//! mounts, masks, the container's cgroup, namespaces joined by path, and the files
//! that the first process was given as stdio.
//!
//! Beside criu's files there are `descriptors.json`, as runc has it: what stdio was;
//! and `outside.json`: the files of stdio that are none of the container's.
//!
//! While criu works, the container is frozen; if it fails, the container goes on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag, fstat, major};
use serde::{Deserialize, Serialize};

use super::criu::{self, Criu, Log, Message, Request, Start, field};
use super::end;
use super::plan::mount::SUB_DIRECTORY;
use super::record::{Containers, Record, Status};
use crate::container::plan::namespace::{CGROUP, MOUNT, NET, PID, TIME, USER};
use crate::container::plan::{self, Mount, Plan, Source};
use crate::linux::cgroup::Cgroup;
use crate::linux::mount_table::{self, Entry};
use crate::linux::root::{Links, Root, fd_path};
use crate::store::make_dir;
use crate::sys::attribute::take_fd_of;
use crate::{Context, Error, Result};

pub(super) const DESCRIPTORS: &str = "descriptors.json";
pub(super) const OUTSIDE: &str = "outside.json";

/// A file that stdio was, on none of the container's mounts: the host's /dev/null,
/// mostly. It is opened again for the restore, since criu insists on its size and
/// position; what was a pipe becomes whatever the restore's stdio is.
///
/// The container chooses what its stdio is, and the path of a file in a mount that
/// it has taken away reads like one of the host's. So the path is believed only if
/// the same file is there: now, and at the restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outside {
    /// As criu wants it named: `file[<mount>:<inode>]`, in hexadecimal.
    pub key: String,
    pub path: PathBuf,
    /// O_*
    pub flags: i32,
    pub same: Same,
}

/// What makes a file the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Same {
    /// A character device that is no terminal, by its number: /dev is made anew at
    /// every boot.
    Device(u64),
    /// A regular file: its filesystem and inode.
    File(u64, u64),
}

impl Same {
    /// `None` of what is not opened again: a terminal is somebody's, and to open a
    /// FIFO may wait for ever.
    fn of(fd: BorrowedFd) -> Option<Same> {
        /// tty and console, and those of devpts: devices.txt.
        const TERMINALS: [u64; 10] = [4, 5, 136, 137, 138, 139, 140, 141, 142, 143];
        let stat = fstat(fd).ok()?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFCHR if !TERMINALS.contains(&major(stat.st_rdev)) => {
                Some(Same::Device(stat.st_rdev))
            }
            SFlag::S_IFREG => Some(Same::File(stat.st_dev, stat.st_ino)),
            _ => None,
        }
    }
}

impl Outside {
    /// The file, not yet opened for reading or writing; an error if it is another.
    pub(super) fn find(&self) -> Result<OwnedFd> {
        let fd = open(
            &self.path,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| Error::sys(format!("open({:?}, O_PATH|O_NOFOLLOW)", self.path), e))?;
        match Same::of(fd.as_fd()) == Some(self.same) {
            true => Ok(fd),
            false => Err(Error::invalid(format!(
                "{}: is not the file it was",
                self.path.display()
            ))),
        }
    }
}

/// What criu is to do with cgroups: criu_cg_mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cgroups {
    Ignore = 0,
    /// What is there already keeps its limits.
    #[default]
    Soft = 3,
    Full = 4,
    Strict = 5,
}

/// What a checkpoint and a restore are told alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// A path, or a name to be looked for.
    pub criu: PathBuf,
    /// criu's files.
    pub images: PathBuf,
    /// Where criu logs; the record's own directory if none.
    pub work: Option<PathBuf>,
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub auto_dedup: bool,
    pub cgroups: Cgroups,
    /// Kinds of namespace whose contents somebody else takes care of.
    pub empty: Option<CloneFlags>,
}

impl Options {
    pub(super) fn add_to(&self, opts: &mut Message) {
        opts.flag(field::TCP_ESTABLISHED, self.tcp_established);
        opts.flag(field::EXT_UNIX_SK, self.ext_unix_sk);
        opts.flag(field::SHELL_JOB, self.shell_job);
        opts.flag(field::FILE_LOCKS, self.file_locks);
        opts.flag(field::AUTO_DEDUP, self.auto_dedup);
        opts.number(field::MANAGE_CGROUPS_MODE, self.cgroups as u64);
        opts.flag(field::EXT_MASTERS, true);
        if let Some(kinds) = self.empty {
            opts.number(field::EMPTY_NS, kinds.bits() as u64);
        }
        // Whichever of the two this machine has.
        if !criu::is_in_path("iptables-restore") {
            opts.number(field::NETWORK_LOCK, criu::LOCK_BY_NFTABLES);
        }
    }

    /// The log's directory, made.
    pub(super) fn work_dir(&self, containers: &Containers, id: &str) -> Result<PathBuf> {
        let dir = match &self.work {
            Some(dir) => dir.clone(),
            None => containers.criu_dir(id),
        };
        make_dir(&dir)?;
        Ok(dir)
    }
}

/// What a checkpoint is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub options: Options,
    /// An earlier pre-dump's files, relative to these: what has not changed since
    /// is not written again.
    pub parent: Option<PathBuf>,
    pub leave_running: bool,
    /// Memory only, while the container runs.
    pub pre_dump: bool,
}

/// Puts a container into files. It is stopped then, unless it is to be left running.
pub(crate) fn checkpoint(containers: &Containers, id: &str, order: &Order) -> Result<()> {
    let _lock = containers.lock(id)?;
    let mut record = containers.load(id)?;
    let status = containers.status(&record);
    match status {
        Status::Running | Status::Paused => {}
        Status::Stopped => return Err(end::not_running()),
        Status::Created | Status::Creating => {
            let status = status.name();
            return Err(Error::conflict(format!(
                "container cannot be checkpointed in {status} state"
            )));
        }
    }
    let mut plan = super::plan::plan_container(&containers.config(id)?)?;
    check_can_be_restored(&plan)?;
    let root = record.open_root()?;
    find_targets(&mut plan, &Root::new(root.as_fd()));
    let program = criu::find(&order.options.criu)?;
    let images = &order.options.images;
    let is_new = !images.exists();
    make_dir(images).context("--image-path")?;
    let done = dump(containers, &record, &plan, order, &program);
    if let Err(mut e) = done {
        if is_new {
            let removed = std::fs::remove_dir_all(images);
            let what = || format!("remove {}", images.display());
            e = e.with_cleanup(removed.with_context(what));
        }
        // criu thaws what it froze, if it lives to do it.
        if let Ok(Some(cgroup)) = containers.cgroup(&record)
            && status == Status::Running
            && cgroup.is_frozen().unwrap_or(false)
        {
            e = e.with_cleanup(cgroup.freeze(false).context("thaw the container"));
        }
        return Err(e);
    }
    if order.leave_running || order.pre_dump {
        return Ok(());
    }
    record.checkpointed = true;
    containers.save(&record)?;
    // criu has killed what it has written; others came in by `exec`.
    end::stop(containers, &record)
}

/// What no restore could bring back.
pub(super) fn check_can_be_restored(plan: &Plan) -> Result<()> {
    let n = &plan.namespaces;
    if !n.new.contains(MOUNT) {
        return Err(Error::unsupported(
            "linux.namespaces: a container without a mount namespace of its own has no \
             checkpoints",
        ));
    }
    for (kind, path) in &n.joined {
        if [USER, CGROUP, TIME].contains(kind) {
            return Err(Error::unsupported(format!(
                "linux.namespaces: {}: a container that joins a namespace of this kind has no \
                 checkpoints",
                path.display()
            )));
        }
    }
    // criu would follow the links that the container has put there.
    let in_part = |m: &&Mount| matches!(m.source, Source::SubPath { .. });
    match plan.mounts.iter().find(in_part) {
        Some(m) => Err(Error::unsupported(format!(
            "mounts: {}: a container with {SUB_DIRECTORY}... among its mounts has no checkpoints",
            m.target.display()
        ))),
        None => Ok(()),
    }
}

fn dump(
    containers: &Containers,
    record: &Record,
    plan: &Plan,
    order: &Order,
    program: &Path,
) -> Result<()> {
    let images_path = &order.options.images;
    let images = criu::open_own_dir(images_path).context("--image-path")?;
    let work_path = order.options.work_dir(containers, &record.id)?;
    let work = criu::open_own_dir(&work_path).context("--work-path")?;
    let mut opts = criu::common(images.as_fd(), work.as_fd(), "dump.log");
    order.options.add_to(&mut opts);
    opts.number(field::PID, record.pid as u64);
    opts.path(field::ROOT, &record.rootfs);
    opts.flag(field::LEAVE_RUNNING, order.leave_running || order.pre_dump);
    opts.flag(field::TRACK_MEM, order.pre_dump || order.parent.is_some());
    opts.flag(field::ORPHAN_PTS_MASTER, plan.process.terminal);
    if let Some(parent) = &order.parent {
        opts.path(field::PARENT_IMG, parent);
    }
    if let Some(cgroup) = containers.cgroup(record)?
        && let Some(dir) = freezer(&cgroup)
    {
        opts.path(field::FREEZE_CGROUP, &dir);
    }
    for (kind, file, key) in BY_INODE {
        if plan.namespaces.joins(kind) {
            let path = format!("/proc/{}/ns/{file}", record.pid);
            let inode = std::fs::metadata(&path)
                .with_context(|| format!("stat({path})"))?
                .ino();
            opts.bytes(field::EXTERNAL, format!("{file}[{inode}]:{key}").as_bytes());
        }
    }
    let request = match order.pre_dump {
        true => Request::PreDump,
        false => {
            let table = mount_table::of(&record.pid.to_string())?;
            for point in external_mounts(plan, &table) {
                let point = point.as_os_str().as_encoded_bytes();
                opts.pair(field::EXT_MNT, point, point);
            }
            let (descriptors, outside) = stdio(record, &table)?;
            for file in &outside {
                opts.bytes(field::EXTERNAL, file.key.as_bytes());
            }
            let keep = |name: &str, json: Vec<u8>| {
                let path = images_path.join(name);
                std::fs::write(&path, json).with_context(|| format!("write({})", path.display()))
            };
            keep(DESCRIPTORS, serde_json::to_vec(&descriptors)?)?;
            keep(OUTSIDE, serde_json::to_vec(&outside)?)?;
            Request::Dump
        }
    };
    let criu = Criu::start(&Start {
        program,
        join: None,
        root: None,
        dirs: [(images.as_fd(), images_path), (work.as_fd(), &work_path)],
        inherited: Vec::new(),
        log: Log {
            path: work_path.join("dump.log"),
            stays: true,
        },
    })?;
    criu.ask(request, &opts, |_| Ok(()))
        .context("checkpoint")
        .map(drop)
}

/// The namespaces that criu leaves to whoever restores, if they were joined: the
/// kind, its name, and the name by which it is asked for then (runc's).
pub(super) const BY_INODE: [(CloneFlags, &str, &str); 2] =
    [(NET, "net", "extRootNetNS"), (PID, "pid", "extRootPidNS")];

/// The directory whose freezing stops all of the container.
fn freezer(cgroup: &Cgroup) -> Option<PathBuf> {
    let dirs = cgroup.directories();
    let v1 = dirs.iter().find(|(list, _)| *list == "freezer");
    let found = v1.or_else(|| dirs.iter().find(|(list, _)| list.is_empty()))?;
    // v1's is moved into only if there is one.
    found.1.is_dir().then(|| found.1.clone())
}

/// Has the plan name mounts as the kernel does, where links have led: /run/secrets,
/// and not /var/run/secrets.
fn find_targets(plan: &mut Plan, root: &Root) {
    let found = |path: &PathBuf| {
        let fd = root.open(path, OFlag::O_PATH, Links::InRoot).ok()?;
        root.path_of(fd.as_fd()).ok()
    };
    let targets = plan.mounts.iter_mut().map(|m| &mut m.target);
    for path in targets.chain(&mut plan.masked_paths) {
        if let Some(at) = found(path) {
            *path = at;
        }
    }
}

/// The plan's mount that a path is on, unless that is the root.
pub(super) fn planned_at<'p>(plan: &'p Plan, path: &Path) -> Option<&'p plan::Mount> {
    let over = plan.mounts.iter().filter(|m| path.starts_with(&m.target));
    over.max_by_key(|m| m.target.components().count())
}

/// The mount points of what is not the container's own; see the module's head.
fn external_mounts<'t>(plan: &Plan, table: &'t [Entry]) -> Vec<&'t Path> {
    let is_root = |e: &Entry| e.point == Path::new("/");
    let planned = |e: &Entry| planned_at(plan, &e.point);
    let is_new = |e: &Entry| match planned(e) {
        Some(m) if m.target == e.point => matches!(m.source, Source::New { .. } | Source::Dev(_)),
        // The mask of a directory.
        _ => {
            e.fstype == "tmpfs" && e.root == Path::new("/") && plan.masked_paths.contains(&e.point)
        }
    };
    let own: Vec<&str> = table
        .iter()
        .filter(|e| !is_root(e) && is_new(e))
        .map(|e| &*e.device)
        .collect();
    let is_external = |e: &&Entry| {
        if is_root(e) {
            return false;
        }
        match planned(e).map(|m| &m.source) {
            Some(Source::Bind { .. } | Source::Inside { .. } | Source::SubPath { .. }) => true,
            Some(Source::Cgroup) => e.fstype != "tmpfs",
            _ => !own.contains(&&*e.device),
        }
    };
    table
        .iter()
        .filter(is_external)
        .map(|e| &*e.point)
        .collect()
}

/// What the first process has as stdio, links' targets as in /proc/<pid>/fd, and
/// what of that is [`Outside`].
fn stdio(record: &Record, table: &[Entry]) -> Result<(Vec<String>, Vec<Outside>)> {
    let (mut all, mut outside) = (Vec::new(), Vec::new());
    let init = record.pidfd().ok_or_else(end::not_running)?;
    for number in 0..3 {
        // Ours by now: what is asked of it is true of one and the same file.
        let file = match take_fd_of(init.as_fd(), number) {
            Ok(fd) => fd,
            Err(Errno::EBADF) => {
                all.push(String::new());
                continue;
            }
            Err(e) => {
                let call = format!("pidfd_getfd(<init>, {number})");
                return Err(Error::sys(call, e));
            }
        };
        let path = fd_path(file.as_fd());
        let target = std::fs::read_link(&path).with_context(|| format!("readlink({path})"))?;
        all.push(target.to_string_lossy().into_owned());
        let mount = mount_table::id_of(file.as_fd())?;
        let same = Same::of(file.as_fd());
        let (true, Some(same)) = (target.is_absolute(), same) else {
            continue;
        };
        if table.iter().any(|e| e.id == mount) {
            continue;
        }
        let stat = fstat(&file).map_err(|e| Error::sys(format!("fstat({path})"), e))?;
        let flags = fcntl(&file, FcntlArg::F_GETFL)
            .map_err(|e| Error::sys(format!("fcntl({path}, F_GETFL)"), e))?;
        let file = Outside {
            key: format!("file[{mount:x}:{:x}]", stat.st_ino),
            path: target,
            flags,
            same,
        };
        file.find().with_context(|| format!("stdio: fd {number}"))?;
        if !outside.contains(&file) {
            outside.push(file);
        }
    }
    Ok((all, outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(path: &Path) -> Outside {
        let fd = open(path, OFlag::O_PATH, Mode::empty()).unwrap();
        Outside {
            key: String::new(),
            path: path.to_owned(),
            flags: 0,
            same: Same::of(fd.as_fd()).unwrap(),
        }
    }

    #[test]
    fn files_are_known_again_and_others_are_not() {
        let dir = std::env::temp_dir().join(format!("carob-outside-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("log");
        std::fs::write(&path, "one").unwrap();
        let file = outside(&path);
        file.find().unwrap();
        std::fs::rename(&path, dir.join("old")).unwrap();
        file.find().unwrap_err();
        std::os::unix::fs::symlink("old", &path).unwrap();
        file.find().unwrap_err();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        let e = file.find().unwrap_err().to_string();
        assert!(e.ends_with("log: is not the file it was"), "{e}");

        let mut null = outside(Path::new("/dev/null"));
        null.find().unwrap();
        null.path = "/dev/zero".into();
        null.find().unwrap_err();
        let fd = open(&dir, OFlag::O_PATH, Mode::empty()).unwrap();
        assert_eq!(Same::of(fd.as_fd()), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
