//! From a `config.json` to the plan of its container ([`crate::container::plan`]). Pure:
//! nothing is opened and nothing is asked of the kernel but what it knows.
//!
//! Source: OCI runtime-spec 1.3, config.md and config-linux.md. What this program
//! or this kernel cannot do is refused by its field's name, never passed over.

mod hook;
pub(crate) mod mount;
mod namespace;
mod process;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::mount::MsFlags;
use oci_spec::runtime as oci;

pub use hook::plan_hooks;
pub(crate) use process::describe_rlimits;
pub use process::plan_process;

use super::config::Config;
use super::resctrl;
use crate::container::plan::namespace::{IPC, NET, USER, UTS};
use crate::container::plan::{Device, Namespaces, Plan, Source};
use crate::linux::seccomp::Filter;
use crate::{Context, Error, Result};

/// They take no `context` option.
const KERNELS_OWN: [&str; 3] = ["proc", "sysfs", "mqueue"];

/// Plans what `spec` asks for.
pub fn plan_container(spec: &Config) -> Result<Plan> {
    plan_with(spec, None)
}

/// As [`plan_container`]; `filter` is in the place of `linux.seccomp`.
pub(crate) fn plan_with(spec: &Config, filter: Option<Rc<Filter>>) -> Result<Plan> {
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| Error::invalid("process: a container needs one to run"))?;
    let linux = spec.linux.as_ref();
    let namespaces = namespace::plan(linux)?;
    let (mut mounts, mut warnings) = (Vec::new(), Vec::new());
    for (i, m) in spec.mounts.iter().flatten().enumerate() {
        let mut own = Vec::new();
        let planned = mount::plan(m, &namespaces, &mut own);
        mounts.push(planned.with_context(|| format!("mounts[{i}]"))?);
        warnings.extend(own.iter().map(|w| format!("mounts[{i}].{w}")));
    }
    let paths = |field: &str, list: Option<&Vec<String>>| {
        let mut out = Vec::new();
        for (i, path) in list.into_iter().flatten().enumerate() {
            out.push(absolute(path).with_context(|| format!("linux.{field}[{i}]"))?);
        }
        Ok::<_, Error>(out)
    };
    let mut plan = Plan {
        root_read_only: spec
            .root
            .as_ref()
            .and_then(|r| r.readonly())
            .unwrap_or(false),
        root_propagation: match linux.and_then(|l| l.rootfs_propagation().as_deref()) {
            Some(word) => plan_propagation(word).context("linux.rootfsPropagation")?,
            None => MsFlags::MS_PRIVATE,
        },
        hostname: name("hostname", spec.hostname.as_deref())?,
        domainname: name("domainname", spec.domainname.as_deref())?,
        sysctls: plan_sysctls(spec, &namespaces).context("linux.sysctl")?,
        standard_devices: !mounts
            .iter()
            .any(|m| m.target == Path::new("/dev") && matches!(m.source, Source::Bind { .. })),
        mounts,
        mount_label: false,
        devices: plan_devices(linux)?,
        masked_paths: paths("maskedPaths", linux.and_then(|l| l.masked_paths().as_ref()))?,
        read_only_paths: paths(
            "readonlyPaths",
            linux.and_then(|l| l.readonly_paths().as_ref()),
        )?,
        process: process::plan_with(process, linux, filter)?,
        resctrl: linux
            .and_then(|l| l.intel_rdt().as_ref())
            .map(resctrl::plan)
            .transpose()
            .context("linux.intelRdt")?,
        net_devices: plan_net_devices(linux, &namespaces).context("linux.netDevices")?,
        pivot: true,
        namespaces,
    };
    plan.process.warnings.append(&mut warnings);
    let destinations = spec.mounts.iter().flatten().map(|m| m.destination());
    let relative: Vec<_> = destinations.filter(|d| d.is_relative()).collect();
    if !relative.is_empty() {
        plan.process.warnings.push(format!(
            "mounts: the spec deprecates relative destinations, taken from /: {relative:?}"
        ));
    }
    if let Some(label) = linux.and_then(|l| l.mount_label().as_deref()) {
        label_mounts(&mut plan, label).context("linux.mountLabel")?;
    }
    Ok(plan)
}

/// The SELinux label of everything in the filesystems that are made for the
/// container, as runc gives it; those of the kernel have labels by its policy.
fn label_mounts(plan: &mut Plan, label: &str) -> Result<()> {
    if label.contains('\0') {
        return Err(Error::invalid("a NUL byte"));
    }
    if label.is_empty() {
        return Ok(());
    }
    for m in &mut plan.mounts {
        let options = match &mut m.source {
            Source::New { fstype, .. } if KERNELS_OWN.contains(&fstype.as_str()) => continue,
            Source::New { options, .. } | Source::Dev(options) => options,
            Source::Cgroup
            | Source::Bind { .. }
            | Source::Inside { .. }
            | Source::SubPath { .. } => continue,
        };
        options.push(("context".into(), label.to_owned()));
    }
    plan.mount_label = true;
    Ok(())
}

fn absolute(path: &str) -> Result<PathBuf> {
    match path.starts_with('/') && !path.contains('\0') {
        true => Ok(PathBuf::from(path)),
        false => Err(Error::invalid(format!("{path:?} is no absolute path"))),
    }
}

/// A host or NIS domain name: uname(2).
fn name(field: &str, text: Option<&str>) -> Result<Option<String>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) if text.len() > 64 || text.contains(['\0', '\n']) => Err(Error::invalid(
            format!("{field}: {text:?}: at most 64 bytes, and no NUL or newline"),
        )),
        Some(text) => Ok(Some(text.to_owned())),
    }
}

fn plan_propagation(word: &str) -> Result<MsFlags> {
    Ok(match word.strip_prefix('r').unwrap_or(word) {
        "" | "private" => MsFlags::MS_PRIVATE,
        "slave" => MsFlags::MS_SLAVE,
        "shared" => MsFlags::MS_SHARED,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => {
            return Err(Error::invalid(format!(
                "{word:?}: it is shared, slave, private or unbindable"
            )));
        }
    })
}

/// A sysctl is a namespace's own or it is the host's.
fn plan_sysctls(spec: &Config, namespaces: &Namespaces) -> Result<Vec<(PathBuf, String)>> {
    let mut sysctls = Vec::new();
    for (key, value) in spec
        .linux
        .as_ref()
        .and_then(|l| l.sysctl().as_ref())
        .into_iter()
        .flatten()
    {
        // "a.b" is a/b, and "a/b.c" is a/b.c: sysctl(8).
        let slashes = key
            .find(['.', '/'])
            .is_some_and(|at| key[at..].starts_with('/'));
        let path = match slashes {
            true => key.clone(),
            false => key.replace('.', "/"),
        };
        let bad = |part: &str| matches!(part, "" | "." | "..");
        if path.split('/').any(bad) || path.contains('\0') || value.contains('\0') {
            return Err(Error::invalid(format!("{key:?}: no name of a sysctl")));
        }
        let kind = match path.as_str() {
            p if p.starts_with("net/") => (NET, "network"),
            "kernel/hostname" => {
                return Err(Error::invalid(format!(
                    "{key}: it is what the field `hostname` sets"
                )));
            }
            "kernel/domainname" => {
                let field = spec.domainname.as_deref().filter(|d| !d.is_empty());
                if field.is_some_and(|d| d != value) {
                    return Err(Error::invalid(format!(
                        "{key}: it is what the field `domainname` sets, to another value"
                    )));
                }
                (UTS, "uts")
            }
            "kernel/msgmax"
            | "kernel/msgmnb"
            | "kernel/msgmni"
            | "kernel/sem"
            | "kernel/shmall"
            | "kernel/shmmax"
            | "kernel/shmmni"
            | "kernel/shm_rmid_forced"
            | "kernel/auto_msgmni"
            | "kernel/msg_next_id"
            | "kernel/sem_next_id"
            | "kernel/shm_next_id" => (IPC, "ipc"),
            p if p.starts_with("fs/mqueue/") => (IPC, "ipc"),
            p if p.starts_with("user/") => (USER, "user"),
            _ => {
                return Err(Error::invalid(format!(
                    "{key}: it belongs to no namespace, so it would change the host"
                )));
            }
        };
        if !namespaces.has(kind.0) {
            return Err(Error::invalid(format!(
                "{key}: without a {} namespace of its own this would be the host's",
                kind.1
            )));
        }
        sysctls.push((path.into(), value.clone()));
    }
    sysctls.sort();
    Ok(sysctls)
}

fn plan_devices(linux: Option<&oci::Linux>) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    for (i, d) in linux
        .and_then(|l| l.devices().as_ref())
        .into_iter()
        .flatten()
        .enumerate()
    {
        devices.push(plan_device(d).with_context(|| format!("linux.devices[{i}]"))?);
    }
    Ok(devices)
}

fn plan_device(d: &oci::LinuxDevice) -> Result<Device> {
    let kind = match d.typ() {
        oci::LinuxDeviceType::B => libc::S_IFBLK,
        oci::LinuxDeviceType::P => libc::S_IFIFO,
        oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => libc::S_IFCHR,
        oci::LinuxDeviceType::A => {
            return Err(Error::invalid("type: \"a\" is no kind of device node"));
        }
    };
    let path = absolute(&d.path().to_string_lossy()).context("path")?;
    if path.components().any(|c| c.as_os_str() == "..") || path.file_name().is_none() {
        return Err(Error::invalid(format!("path: {path:?} names no node")));
    }
    // The kernel has 12 and 20 bits.
    let number = |field: &str, n: i64, most: i64| match n {
        n if (0..=most).contains(&n) => Ok(n as u64),
        n => Err(Error::invalid(format!("{field}: {n}: 0 to {most}"))),
    };
    Ok(Device {
        path,
        mode: kind | (d.file_mode().unwrap_or(0o666) & 0o7777),
        major: number("major", d.major(), (1 << 12) - 1)?,
        minor: number("minor", d.minor(), (1 << 20) - 1)?,
        uid: d.uid().unwrap_or(0),
        gid: d.gid().unwrap_or(0),
    })
}

fn plan_net_devices(
    linux: Option<&oci::Linux>,
    namespaces: &Namespaces,
) -> Result<Vec<(String, String)>> {
    let mut moves = Vec::new();
    for (host, inside) in linux
        .and_then(|l| l.net_devices().as_ref())
        .into_iter()
        .flatten()
    {
        let inside = inside.name().as_deref().filter(|n| !n.is_empty());
        let inside = inside.unwrap_or(host);
        for link in [host.as_str(), inside] {
            let bad = link.contains(['/', ':', '\0', '%']) || link.contains(char::is_whitespace);
            if link.is_empty() || link.len() > 15 || bad || matches!(link, "." | "..") {
                return Err(Error::invalid(format!("{link:?}: no name of a link")));
            }
        }
        moves.push((host.clone(), inside.to_owned()));
    }
    if !moves.is_empty() && !namespaces.has(NET) {
        return Err(Error::invalid(
            "a container without a network namespace of its own has the host's links already",
        ));
    }
    moves.sort();
    Ok(moves)
}
