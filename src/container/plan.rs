//! What will be done to make a container: pure data, made from an OCI
//! `config.json` and printable, applied by [`super::init`] in the child.
//!
//! Source: OCI runtime-spec 1.3, config.md and config-linux.md. Only what a Pod
//! needs is read so far; the rest is refused by name, never passed over.

use std::path::PathBuf;
use std::rc::Rc;

use nix::mount::MsFlags;
use oci_spec::runtime as oci;

use crate::linux::capability;
use crate::linux::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, ATTR_STRICTATIME};
use crate::linux::seccomp;
use crate::{Context, Error, Result};

#[derive(Clone, Debug)]
pub struct Plan {
    pub id: String,
    pub root_read_only: bool,
    /// In their order. A target below an earlier one's comes later.
    pub mounts: Vec<Mount>,
    /// In /dev, beside the standard ones.
    pub devices: Vec<Device>,
    pub masked_paths: Vec<PathBuf>,
    pub read_only_paths: Vec<PathBuf>,
    pub process: Process,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute, inside the container.
    pub target: PathBuf,
    pub source: Source,
    /// MOUNT_ATTR_*.
    pub attributes: u64,
    /// Whether the attributes hold for every mount below as well.
    pub recursive_attributes: bool,
    pub propagation: MsFlags,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A new filesystem: its type and options.
    New(String, Vec<(String, String)>),
    /// The tmpfs of /dev with the standard devices and links in it.
    Dev(Vec<(String, String)>),
    /// The cgroup hierarchies as this container sees them.
    Cgroup,
    Bind {
        path: PathBuf,
        recursive: bool,
    },
    /// `sub_path` of the volume at `volume`, looked up so that no link in it leads
    /// out, and made as a directory where it is missing.
    SubPath {
        volume: PathBuf,
        sub_path: PathBuf,
    },
}

/// A node to be made: config-linux.md, "Devices".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute, below /dev.
    pub path: PathBuf,
    /// S_IFCHR, S_IFBLK or S_IFIFO, and the permissions.
    pub mode: u32,
    pub major: u64,
    pub minor: u64,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub umask: u32,
    pub capabilities: capability::Sets,
    pub no_new_privileges: bool,
    /// Shared by the containers that have the same.
    pub seccomp: Option<Rc<seccomp::Filter>>,
    pub oom_score_adj: Option<i32>,
    pub terminal: bool,
    /// Columns and rows.
    pub console_size: Option<(u16, u16)>,
}

/// The PATH of a process that has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Plans what `spec` asks for.
pub fn plan_container(id: &str, spec: &oci::Spec) -> Result<Plan> {
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("process: a container needs one to run"))?;
    let linux = spec.linux().as_ref();
    let seccomp = linux.and_then(|l| l.seccomp().as_ref());
    let paths =
        |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect::<Vec<_>>();
    let mut mounts = Vec::new();
    for (i, m) in spec.mounts().iter().flatten().enumerate() {
        mounts.push(plan_mount(m).with_context(|| format!("mounts[{i}]"))?);
    }
    Ok(Plan {
        id: id.to_owned(),
        root_read_only: spec
            .root()
            .as_ref()
            .and_then(|r| r.readonly())
            .unwrap_or(false),
        mounts,
        devices: linux
            .and_then(|l| l.devices().as_ref())
            .into_iter()
            .flatten()
            .map(plan_device)
            .collect::<Result<_>>()?,
        masked_paths: linux.map(|l| paths(l.masked_paths())).unwrap_or_default(),
        read_only_paths: linux.map(|l| paths(l.readonly_paths())).unwrap_or_default(),
        process: plan_process(process, seccomp)?,
    })
}

/// Plans a process of a container, its first or one more.
pub fn plan_process(
    process: &oci::Process,
    seccomp: Option<&oci::LinuxSeccomp>,
) -> Result<Process> {
    let argv = process.args().clone().unwrap_or_default();
    if argv.is_empty() || argv[0].is_empty() {
        return Err(Error::invalid("process.args: no command to run"));
    }
    let user = process.user();
    let program = seccomp
        .map(|s| seccomp::Profile::from_oci(s).and_then(|p| seccomp::Filter::new(&p)))
        .transpose()
        .context("linux.seccomp")?
        .map(Rc::new);
    Ok(Process {
        argv,
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        capabilities: match process.capabilities() {
            Some(c) => plan_capabilities(c)?,
            None => capability::Sets::default(),
        },
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp: program,
        oom_score_adj: process.oom_score_adj(),
        terminal: process.terminal().unwrap_or(false),
        console_size: process
            .console_size()
            .as_ref()
            .map(|b| (b.width() as u16, b.height() as u16)),
    })
}

fn plan_device(d: &oci::LinuxDevice) -> Result<Device> {
    let kind = match d.typ() {
        oci::LinuxDeviceType::B => libc::S_IFBLK,
        oci::LinuxDeviceType::P => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    if !d.path().starts_with("/dev") {
        return Err(Error::unsupported(format!(
            "linux.devices: {}: not below /dev",
            d.path().display()
        )));
    }
    Ok(Device {
        path: d.path().clone(),
        mode: kind | (d.file_mode().unwrap_or(0o666) & 0o7777),
        major: d.major() as u64,
        minor: d.minor() as u64,
        uid: d.uid().unwrap_or(0),
        gid: d.gid().unwrap_or(0),
    })
}

fn plan_mount(m: &oci::Mount) -> Result<Mount> {
    let target = m.destination().clone();
    if !target.is_absolute() {
        return Err(Error::invalid(format!(
            "destination: {target:?} is not absolute"
        )));
    }
    let mut attributes = 0;
    let mut recursive_attributes = false;
    let mut propagation = MsFlags::MS_PRIVATE;
    let mut bind = None;
    let mut data = Vec::new();
    for option in m.options().iter().flatten() {
        match option.as_str() {
            "defaults" | "rw" | "suid" | "dev" | "exec" | "relatime" | "async" => {}
            "ro" => attributes |= ATTR_RDONLY,
            "rro" => {
                attributes |= ATTR_RDONLY;
                recursive_attributes = true;
            }
            "nosuid" => attributes |= ATTR_NOSUID,
            "nodev" => attributes |= ATTR_NODEV,
            "noexec" => attributes |= ATTR_NOEXEC,
            "strictatime" => attributes |= ATTR_STRICTATIME,
            "bind" => bind = Some(false),
            "rbind" => bind = Some(true),
            "private" | "rprivate" => propagation = MsFlags::MS_PRIVATE,
            "slave" | "rslave" => propagation = MsFlags::MS_SLAVE,
            "shared" | "rshared" => propagation = MsFlags::MS_SHARED,
            other => {
                let (key, value) = other.split_once('=').unwrap_or((other, ""));
                data.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    let fstype = m
        .typ()
        .as_deref()
        .unwrap_or(if bind.is_some() { "bind" } else { "" });
    let path = || {
        m.source()
            .clone()
            .ok_or_else(|| Error::invalid("source: a bind mount needs one"))
    };
    let source = match (fstype, bind) {
        (_, Some(recursive)) => Source::Bind {
            path: path()?,
            recursive,
        },
        ("bind", None) => Source::Bind {
            path: path()?,
            recursive: false,
        },
        ("cgroup" | "cgroup2", None) => Source::Cgroup,
        ("tmpfs", None) if target.as_os_str() == "/dev" => Source::Dev(data),
        ("", None) => return Err(Error::invalid("type: missing, and no bind option")),
        (fstype, None) => Source::New(fstype.to_owned(), data),
    };
    Ok(Mount {
        target,
        source,
        attributes,
        recursive_attributes,
        propagation,
    })
}

fn plan_capabilities(c: &oci::LinuxCapabilities) -> Result<capability::Sets> {
    let set = |names: &Option<oci::Capabilities>| {
        let names: Vec<String> = names.iter().flatten().map(|c| format!("CAP_{c}")).collect();
        capability::Set::from_names(&names)
    };
    Ok(capability::Sets {
        bounding: set(c.bounding())?,
        effective: set(c.effective())?,
        permitted: set(c.permitted())?,
        inheritable: set(c.inheritable())?,
        ambient: set(c.ambient())?,
    })
}
