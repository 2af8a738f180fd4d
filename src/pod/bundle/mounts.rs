//! The mounts of a Pod's container: the kernel's filesystems, the Pod's files, the
//! volumes. The part of a volume that is meant (subPath) is an option of its mount.
//!
//! Sources: Kubernetes' API reference (VolumeMount), the defaults of containerd's CRI
//! plugin.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime as oci;

use super::expand::{Vars, expand_all_or_fail};
use super::fault::{config_error, from_builder};
use super::inputs::Inputs;
use crate::oci::plan::mount::SUB_DIRECTORY;
use crate::spec::{Mount, Propagation, VolumeSource};
use crate::{Context, Result};

/// The mounts in their order.
pub(super) fn plan_mounts(inputs: &Inputs, own: &Vars) -> Result<Vec<oci::Mount>> {
    let c = inputs.container;
    let access = if c.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        )?,
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        )?,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", access],
        )?,
    ];
    // A mount whose target is below another's comes after it, so that it is not
    // hidden: sorted by depth, as containerd does it. The Pod's files are the kubelet's
    // there, and lie above the volumes in the same way.
    let mut more = Vec::new();
    for (target, source, options) in pod_files(inputs) {
        more.push(bind(&target, &source, &options)?);
    }
    for m in &c.mounts {
        let source = volume_path(inputs, &m.volume)?;
        let mut options = Vec::new();
        if inputs.volume_images.contains_key(&m.volume) {
            // The mount has them already: a bundle says what holds.
            options.extend(["ro", "noexec", "nosuid", "nodev"]);
        } else if m.read_only || is_always_read_only(inputs, &m.volume) {
            options.push(if m.recursive_read_only { "rro" } else { "ro" });
        }
        options.push(match m.propagation {
            Propagation::None => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        });
        options.extend(m.options.iter().map(|o| o.word()));
        let sub = sub_path(m, own).with_context(|| format!("volumeMounts {}", m.path))?;
        let sub = sub.map(|sub| format!("{SUB_DIRECTORY}{sub}"));
        options.extend(sub.as_deref());
        more.push(bind(&m.path, &source, &options)?);
    }
    more.sort_by_key(|m| depth(m.destination()));
    mounts.append(&mut more);
    Ok(mounts)
}

fn depth(target: &Path) -> usize {
    let parts = target.components();
    parts.filter(|p| matches!(p, Component::Normal(_))).count()
}

/// What a container has of its Pod, where none of its volumes is at the very place:
/// target, source and options.
fn pod_files(inputs: &Inputs) -> Vec<(String, PathBuf, Vec<&'static str>)> {
    let (c, paths) = (inputs.container, inputs.paths);
    let shm = match inputs.pod.spec.host_ipc {
        true => PathBuf::from("/dev/shm"),
        false => paths.shm(),
    };
    let mut files = vec![(
        "/dev/shm".to_owned(),
        shm,
        vec!["nosuid", "nodev", "noexec"],
    )];
    for name in ["hosts", "hostname", "resolv.conf"] {
        let access = if c.security.read_only_root {
            vec!["ro"]
        } else {
            Vec::new()
        };
        files.push((format!("/etc/{name}"), paths.etc().join(name), access));
    }
    let log = inputs.termination_log.to_owned();
    files.push((c.termination_message_path.clone(), log, Vec::new()));
    // Compared by their parts: `/etc//hosts/` is the same place.
    let taken = |target: &str| {
        c.mounts
            .iter()
            .any(|m| Path::new(&m.path) == Path::new(target))
    };
    files.retain(|(target, ..)| !taken(target));
    files
}

fn bind(target: &str, source: &Path, options: &[&str]) -> Result<oci::Mount> {
    let mut all = vec!["rbind"];
    all.extend(options);
    mount(target, "bind", &source.to_string_lossy(), &all)
}

/// The part of the volume that is mounted, without `.`; `None` for all of it. An
/// expression never means all of it: the rest is another container's, or another
/// tenant's.
fn sub_path(m: &Mount, own: &Vars) -> Result<Option<String>> {
    let (field, text) = match (&m.sub_path_expr, &m.sub_path) {
        (Some(expr), _) => {
            let text = expand_all_or_fail(expr, own).context("subPathExpr")?;
            ("subPathExpr", text)
        }
        (None, Some(text)) => ("subPath", text.clone()),
        (None, None) => return Ok(None),
    };
    if text.contains('\0') {
        return Err(config_error(format!("{field}: a NUL byte in {text:?}")));
    }
    let mut inside = Vec::new();
    for part in Path::new(&text).components() {
        match part {
            Component::Normal(name) => inside.push(name.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                return Err(config_error(format!(
                    "{field}: {text:?} must be a relative path without `..`"
                )));
            }
        }
    }
    match (inside.is_empty(), &m.sub_path_expr) {
        (false, _) => Ok(Some(inside.join("/"))),
        (true, None) => Ok(None),
        (true, Some(_)) => Err(
            config_error(format!("{field}: {text:?} names the whole volume"))
                .hint("name a directory in it, or leave subPathExpr out"),
        ),
    }
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Result<oci::Mount> {
    oci::MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(from_builder)
}

/// Whether no container may write to the volume, whatever its mount says: nobody but carob
/// writes to what it projects, as with a kubelet.
fn is_always_read_only(inputs: &Inputs, name: &str) -> bool {
    let volume = inputs.pod.spec.volume(name);
    let source = volume.map(|v| &v.source);
    matches!(
        source,
        Some(
            VolumeSource::Projected { .. }
                | VolumeSource::Claim {
                    read_only: true,
                    ..
                }
        )
    )
}

/// Where a volume's content is on the host.
fn volume_path(inputs: &Inputs, name: &str) -> Result<PathBuf> {
    let volume = inputs
        .pod
        .spec
        .volume(name)
        .ok_or_else(|| config_error(format!("no volume {name:?} in the Pod")))?;
    Ok(match &volume.source {
        VolumeSource::EmptyDir { memory: true, .. } | VolumeSource::Nfs { .. } => {
            inputs.paths.memory_volume(name)
        }
        VolumeSource::EmptyDir { memory: false, .. } => inputs.paths.disk_volume(name),
        VolumeSource::Projected { .. } => inputs.paths.projected_volume(name),
        VolumeSource::HostPath { path, .. } => path.clone(),
        VolumeSource::Claim { .. } => {
            let at = inputs.claims.dirs.get(name);
            at.cloned()
                .ok_or_else(|| config_error(format!("volume {name}: its claim is not there")))?
        }
        VolumeSource::Image { .. } => {
            let at = inputs.volume_images.get(name);
            at.cloned()
                .ok_or_else(|| config_error(format!("volume {name}: no image is mounted")))?
        }
    })
}
