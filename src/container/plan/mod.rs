//! What will be done to make a container: pure data, printable, applied by
//! [`super::init`] in the child. `crate::oci::plan` makes it from a `config.json`.

pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod process;

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

pub(crate) use mount::{Mount, Source};
pub(crate) use namespace::{IdMap, Namespaces};
pub(crate) use process::{DEFAULT_PATH, Process};

use crate::linux::resctrl;
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub struct Plan {
    pub root_read_only: bool,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE.
    pub root_propagation: MsFlags,
    pub namespaces: Namespaces,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Paths below /proc/sys and their values.
    pub sysctls: Vec<(PathBuf, String)>,
    /// In their order. A target below an earlier one's comes later.
    pub mounts: Vec<Mount>,
    /// Whether they have an SELinux label among their options.
    pub mount_label: bool,
    /// Beside the standard ones.
    pub devices: Vec<Device>,
    /// Whether /dev gets the standard devices; not one that is bind-mounted.
    pub standard_devices: bool,
    pub masked_paths: Vec<PathBuf>,
    pub read_only_paths: Vec<PathBuf>,
    pub process: Process,
    /// Shares of caches and memory bandwidth.
    pub resctrl: Option<resctrl::Wanted>,
    /// Links of the host that move in: name there, name inside.
    pub net_devices: Vec<(String, String)>,
    /// pivot_root(2), or on a root that cannot be pivoted from (an initramfs)
    /// MS_MOVE and chroot(2).
    pub pivot: bool,
}

/// A node to be made: config-linux.md, "Devices".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute.
    pub path: PathBuf,
    /// S_IFCHR, S_IFBLK or S_IFIFO, and the permissions.
    pub mode: u32,
    pub major: u64,
    pub minor: u64,
    pub uid: u32,
    pub gid: u32,
}

/// What would otherwise change the host. A Pod's monitor needs no such check: it
/// lives in the namespaces that its containers share.
pub fn check_namespaces(plan: &Plan) -> Result<()> {
    let n = &plan.namespaces;
    let needs = |field: &str, kind: &str| {
        Err(Error::invalid(format!(
            "{field}: without a {kind} namespace of its own this would be the host's"
        ))
        .hint(format!("add {{\"type\": \"{kind}\"}} to linux.namespaces")))
    };
    if !n.has(namespace::MOUNT) && n.has(namespace::USER) {
        return needs("root", "mount");
    }
    if plan.hostname.is_some() && !n.has(namespace::UTS) {
        return needs("hostname", "uts");
    }
    if plan.domainname.is_some() && !n.has(namespace::UTS) {
        return needs("domainname", "uts");
    }
    Ok(())
}

/// Labels that this kernel cannot give: found out before anything is made.
pub(crate) fn check_labels(plan: &Plan) -> Result<()> {
    check_process_labels(&plan.process)?;
    match plan.mount_label && !has_selinux() {
        true => Err(no_selinux("linux.mountLabel")),
        false => Ok(()),
    }
}

/// As [`check_labels`], of a process that comes later.
pub(crate) fn check_process_labels(p: &Process) -> Result<()> {
    let has_apparmor = Path::new("/sys/module/apparmor/parameters/enabled").exists();
    if p.apparmor_profile.is_some() && !has_apparmor {
        return Err(Error::unsupported(
            "process.apparmorProfile: this kernel has no AppArmor",
        ));
    }
    match p.selinux_label.is_some() && !has_selinux() {
        true => Err(no_selinux("process.selinuxLabel")),
        false => Ok(()),
    }
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn no_selinux(field: &str) -> Error {
    Error::unsupported(format!("{field}: SELinux is not enabled on this machine"))
}
