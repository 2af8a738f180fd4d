//! A container's block devices (volumeDevices), checked as ValidateVolumeDevices of Kubernetes
//! does it.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as core;

use super::around::Known;
use super::names;
use super::report::Report;
use super::tree::{Path, quote};
use crate::nearest::nearest;
use crate::spec::VolumeDevice;

pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
    known: &Known<'_>,
) -> Vec<VolumeDevice> {
    let devices = c.volume_devices.as_deref().unwrap_or_default();
    let mounts = c.volume_mounts.as_deref().unwrap_or_default();
    let (mut names_seen, mut places) = (HashSet::new(), HashSet::new());
    let mut lowered = Vec::new();
    for (i, d) in devices.iter().enumerate() {
        let path = path.key("volumeDevices").index(i);
        let (name, place) = (path.key("name"), path.key("devicePath"));
        let written = d.name.as_str();
        if written.is_empty() {
            r.required(&name, "");
        } else if !known.all.contains(written) {
            let near = nearest(written, known.all.iter().copied());
            let near = near.map_or(String::new(), |n| format!(": did you mean {n:?}?"));
            r.problem(&name, format!("Not found: {}{near}", quote(written)));
        } else if !known.claims.contains(written) {
            let why = "can only use volume source type of PersistentVolumeClaim for block mode";
            r.invalid(&name, written, why);
        } else if !names_seen.insert(written) {
            r.invalid(&name, written, "must be unique");
        } else if mounts.iter().any(|m| m.name == written) {
            r.invalid(&name, written, "must not already exist in volumeMounts");
        }
        let target = names::from_root(&d.device_path);
        let is_mounted = |m: &core::VolumeMount| names::from_root(&m.mount_path) == target;
        if d.device_path.is_empty() {
            r.required(&place, "");
        } else if target.split('/').any(|part| part == "..") {
            r.invalid(&place, &d.device_path, "can not contain backsteps ('..')");
        } else if names::is_root(&target) {
            r.invalid(&place, &d.device_path, "must be a file, not the root");
        } else if !places.insert(target.clone()) {
            r.invalid(&place, &d.device_path, "must be unique");
        } else if mounts.iter().any(is_mounted) {
            let why = "must not already exist as a path in volumeMounts";
            r.invalid(&place, &d.device_path, why);
        } else {
            r.check(&place, &d.device_path, names::absolute_path(&target));
        }
        lowered.push(VolumeDevice {
            volume: d.name.clone(),
            path: target,
        });
    }
    lowered
}
