//! What is kept of a container that somebody outside commands, one verb at a time:
//! a directory per container below `--root`.
//!
//! ```text
//! <root>/                0700
//!   <id>/                0700; its making is what claims the id
//!     lock               held by the verb that changes the container
//!     state.json         see [`Record`]; written before the container is made
//!     config.json        the bundle's, byte for byte as it was at creation
//!     mounts/mnt         pinned, of a container in the host's mount namespace; `mounts`
//!                        is a private mount
//!     notify/socket      if its maker wants to know when it is ready
//!     criu               criu's logs, if it was called and told no other place
//!     gate               as long as the container waits for `start`
//! ```
//!
//! The status is computed: a pid is alive only if the process that has it started
//! when the record says.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::json;
use crate::container::hook::Subject;
use crate::linux::cgroup::systemd::Scope;
use crate::linux::cgroup::{Cgroup, Hierarchies, Place, Select};
use crate::linux::procfs;
use crate::linux::resctrl::{self, Resctrl};
use crate::linux::root::open_dir;
use crate::store::{self, Lock, Versioned, make_dir};
use crate::sys::process as sys;
use crate::{Context, Error, Result};

/// Of the record's format; one that is newer is not touched.
const VERSION: u32 = 1;

impl Versioned for Record {
    const VERSION: u32 = VERSION;
    fn version(&self) -> u32 {
        self.version
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub oci_version: String,
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// 0 until there is a process.
    pub pid: i32,
    /// In clock ticks since boot: field 22 of /proc/<pid>/stat.
    pub pid_start: u64,
    /// CLONE_NEW*: the namespaces that are not its maker's.
    pub namespaces: i32,
    pub cgroup: Option<Place>,
    /// systemd's, if it makes the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Its class of service, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<resctrl::Place>,
    /// Whether config.json has hooks of the kinds that run later.
    pub hooks: bool,
    /// `--no-new-keyring`: `exec` leaves its caller's keyring to the process, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub callers_keyring: bool,
    /// It has been put away whole: `restore` may take its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpointed: bool,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// All containers of one `--root`.
#[derive(Debug)]
pub struct Containers {
    root: PathBuf,
    hierarchies: OnceCell<Hierarchies>,
}

impl Containers {
    pub fn new(root: &Path) -> Self {
        Containers {
            root: root.into(),
            hierarchies: OnceCell::new(),
        }
    }

    /// Of this machine, found at the first call.
    pub fn hierarchies(&self) -> Result<&Hierarchies> {
        if let Some(h) = self.hierarchies.get() {
            return Ok(h);
        }
        let found = Hierarchies::detect()?;
        Ok(self.hierarchies.get_or_init(|| found))
    }

    /// The container's cgroup, whether or not it is there.
    pub fn cgroup(&self, record: &Record) -> Result<Option<Cgroup>> {
        let Some(place) = &record.cgroup else {
            return Ok(None);
        };
        Cgroup::at(self.hierarchies()?, place, Select::All).map(Some)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }
    pub fn gate(&self, id: &str) -> PathBuf {
        self.dir(id).join("gate")
    }
    /// See [`crate::container::wanted::HostMounts`].
    pub fn mounts_pin(&self, id: &str) -> PathBuf {
        self.dir(id).join("mounts")
    }
    /// See [`super::notify`].
    pub fn notify_dir(&self, id: &str) -> PathBuf {
        self.dir(id).join("notify")
    }
    /// Where criu works and logs.
    pub fn criu_dir(&self, id: &str) -> PathBuf {
        self.dir(id).join("criu")
    }
    fn config_path(&self, id: &str) -> PathBuf {
        self.dir(id).join("config.json")
    }

    /// Claims an id.
    pub fn claim(&self, id: &str) -> Result<Lock> {
        make_dir(&self.root)?;
        match std::fs::DirBuilder::new().mode(0o700).create(self.dir(id)) {
            Ok(()) => Lock::acquire(&self.dir(id).join("lock")),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::conflict(
                format!("container with given ID already exists: {id}"),
            )),
            Err(e) => Err(e).with_context(|| format!("mkdir({})", self.dir(id).display())),
        }
    }

    /// For a verb that changes the container.
    pub fn lock(&self, id: &str) -> Result<Lock> {
        check_id(id)?;
        Lock::acquire(&self.dir(id).join("lock")).map_err(|e| not_there(id, e))
    }

    pub fn load(&self, id: &str) -> Result<Record> {
        check_id(id)?;
        let path = self.dir(id).join("state.json");
        let record: Record = store::load_existing(&path).map_err(|e| not_there(id, e))?;
        match record.id == id {
            true => Ok(record),
            false => Err(Error::failed(format!(
                "the record {} is of another container, {:?}",
                path.display(),
                record.id
            ))),
        }
    }

    pub fn save(&self, record: &Record) -> Result<()> {
        store::save(&self.dir(&record.id).join("state.json"), record)
    }

    /// Whether the directory below which they are exists.
    pub fn check_root(&self) -> Result<()> {
        match std::fs::metadata(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::not_found(format!(
                "--root {}: no such directory",
                self.root.display()
            ))),
            _ => Ok(()),
        }
    }

    /// The ids there are, in order.
    pub fn ids(&self) -> Result<Vec<String>> {
        let dir = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("open({})", self.root.display()))?,
        };
        let names = dir
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|n| check_id(n).is_ok()).collect();
        ids.sort();
        Ok(ids)
    }

    pub fn keep_config(&self, id: &str, bytes: &[u8]) -> Result<()> {
        std::fs::write(self.config_path(id), bytes)
            .with_context(|| format!("write({})", self.config_path(id).display()))
    }

    /// The configuration that the container was made with.
    pub fn config(&self, id: &str) -> Result<Config> {
        read_config(&self.config_path(id)).map(|(spec, _)| spec)
    }

    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            return match Lock::is_held(&self.dir(&record.id).join("lock")) {
                Ok(true) => Status::Creating,
                _ => Status::Stopped,
            };
        }
        if !record.is_alive() {
            return Status::Stopped;
        }
        if self.gate(&record.id).exists() {
            return Status::Created;
        }
        match self.cgroup(record).ok().flatten().map(|c| c.is_frozen()) {
            Some(Ok(true)) => Status::Paused,
            _ => Status::Running,
        }
    }

    /// The last step of a container's end.
    pub fn forget(&self, id: &str) -> Result<()> {
        crate::linux::namespace::unpin_mount_namespace(&self.mounts_pin(id))?;
        let mut left = 100;
        loop {
            match crate::linux::root::remove_tree(&self.dir(id)) {
                // Another verb has made a lock in it, to wait at.
                Err(e) if e.errno() == Some(Errno::ENOTEMPTY) && left > 0 => left -= 1,
                other => return other,
            }
        }
    }
}

fn not_there(id: &str, e: Error) -> Error {
    match e.errno() {
        Some(Errno::ENOENT) => {
            Error::not_found(format!("container {id}: container does not exist"))
        }
        _ => e,
    }
}

/// As runc has them: they become names of files and of cgroups.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'.' | b'-');
    match !id.is_empty() && id.len() <= 1024 && !id.starts_with('.') && id.bytes().all(good) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "invalid container ID format: {id:?}: letters, digits, _, +, . and -, and no . in \
             front"
        ))),
    }
}

impl Record {
    pub fn new(id: &str, bundle: &Path, rootfs: &Path, spec: &Config) -> Self {
        Record {
            version: VERSION,
            oci_version: spec.oci_version.clone(),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            rootfs: rootfs.to_owned(),
            created: jiff::Timestamp::now().to_string(),
            pid: 0,
            pid_start: 0,
            namespaces: 0,
            cgroup: None,
            scope: None,
            resctrl: None,
            hooks: false,
            callers_keyring: false,
            checkpointed: false,
            annotations: spec.annotations.clone().unwrap_or_default(),
        }
    }

    pub fn subject(&self) -> Subject {
        Subject {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }

    pub fn namespaces(&self) -> CloneFlags {
        CloneFlags::from_bits_retain(self.namespaces)
    }

    /// The files whose writing puts a process into the container's class of service.
    pub fn resctrl_tasks(&self) -> Result<Vec<std::fs::File>> {
        match &self.resctrl {
            Some(place) => Resctrl::open()
                .and_then(|r| r.tasks(place))
                .context("linux.intelRdt"),
            None => Ok(Vec::new()),
        }
    }

    pub fn is_alive(&self) -> bool {
        self.pid > 0 && procfs::lives(self.pid, self.pid_start)
    }

    /// The root of the first process.
    pub fn open_root(&self) -> Result<OwnedFd> {
        let root = open_dir(Path::new(&format!("/proc/{}/root", self.pid)))?;
        // Asked afterwards: if it lives now, it was its root.
        match self.is_alive() {
            true => Ok(root),
            false => Err(super::end::not_running()),
        }
    }

    /// A pidfd of the first process; `None` if it has ended.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        if self.pid <= 0 {
            return None;
        }
        // The fd first: what is found out afterwards is true of it.
        let pidfd = sys::pidfd_open(Pid::from_raw(self.pid)).ok()?;
        self.is_alive().then_some(pidfd)
    }
}

/// Reads a config.json: what it says, and its bytes.
pub(crate) fn read_config(path: &Path) -> Result<(Config, Vec<u8>)> {
    let read = std::fs::File::open(path).map_err(Error::from);
    let bytes = read
        .and_then(json::read_bytes)
        .with_context(|| path.display().to_string())?;
    let spec = json::parse(&bytes).with_context(|| path.display().to_string())?;
    Ok((spec, bytes))
}
