//! The devices of a container beside those that every container has: the machine's, of one
//! that is privileged, and claims of block devices (volumeDevices).

use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use super::fault::{config_error, from_builder};
use super::inputs::Inputs;
use crate::Result;
use crate::linux::loop_device::Node;
use crate::spec::{VolumeDevice, VolumeSource};

/// The nodes.
pub(super) fn plan(inputs: &Inputs) -> Result<Vec<oci::LinuxDevice>> {
    let mut devices = match inputs.container.security.privileged {
        true => of_host()?,
        false => Vec::new(),
    };
    for wanted in &inputs.container.devices {
        let node = node_of(inputs, wanted)?;
        // Owner and permissions are the machine's, as with containerd: root and a group
        // such as `disk`.
        let device = oci::LinuxDeviceBuilder::default()
            .path(&wanted.path)
            .typ(oci::LinuxDeviceType::B)
            .major(i64::from(node.major))
            .minor(i64::from(node.minor))
            .file_mode(node.mode)
            .uid(0_u32)
            .gid(node.gid)
            .build()
            .map_err(from_builder)?;
        let target = Path::new(&wanted.path);
        devices.retain(|d| d.path() != target);
        devices.push(device);
    }
    Ok(devices)
}

/// Lets the container open its own block devices, and no others.
pub(super) fn allow(inputs: &Inputs, resources: &mut oci::LinuxResources) -> Result<()> {
    if inputs.container.security.privileged || inputs.container.devices.is_empty() {
        return Ok(());
    }
    let mut rules = Vec::new();
    for wanted in &inputs.container.devices {
        let node = node_of(inputs, wanted)?;
        let volume = inputs.pod.spec.volume(&wanted.volume);
        let read_only = matches!(
            volume.map(|v| &v.source),
            Some(VolumeSource::Claim {
                read_only: true,
                ..
            })
        );
        let mut rule = oci::LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(oci::LinuxDeviceType::B))
            .set_major(Some(i64::from(node.major)))
            .set_minor(Some(i64::from(node.minor)))
            .set_access(Some(if read_only { "r" } else { "rwm" }.to_owned()));
        rules.push(rule);
    }
    resources.set_devices(Some(rules));
    Ok(())
}

fn node_of(inputs: &Inputs, wanted: &VolumeDevice) -> Result<Node> {
    let node = inputs.claims.devices.get(&wanted.volume);
    node.copied().ok_or_else(|| {
        config_error(format!(
            "volumeDevices {}: volume {} is no block device",
            wanted.path, wanted.volume
        ))
    })
}

/// A privileged container has every device of the host, terminals excepted.
fn of_host() -> Result<Vec<oci::LinuxDevice>> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    const OWN: [&str; 6] = ["pts", "shm", "mqueue", "console", "ptmx", "fd"];
    let mut devices = Vec::new();
    let mut left = vec![PathBuf::from("/dev")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            if OWN.contains(&name.as_str()) || name.starts_with("tty") {
                continue;
            }
            let kind = match meta.file_type() {
                t if t.is_dir() => {
                    left.push(entry.path());
                    continue;
                }
                t if t.is_char_device() => oci::LinuxDeviceType::C,
                t if t.is_block_device() => oci::LinuxDeviceType::B,
                _ => continue,
            };
            let device = oci::LinuxDeviceBuilder::default()
                .path(entry.path())
                .typ(kind)
                .major(nix::sys::stat::major(meta.rdev()) as i64)
                .minor(nix::sys::stat::minor(meta.rdev()) as i64)
                .file_mode(meta.mode() & 0o7777)
                .uid(meta.uid())
                .gid(meta.gid())
                .build()
                .map_err(from_builder)?;
            devices.push(device);
        }
    }
    Ok(devices)
}
