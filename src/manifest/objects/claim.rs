//! PersistentVolumeClaims, checked as ValidatePersistentVolumeClaim of Kubernetes does it.

use k8s_openapi::api::core::v1 as core;

use crate::manifest::report::Report;
use crate::manifest::resources::quantity;
use crate::manifest::tree::Path;
use crate::spec::ClaimForm;

const MODES: [&str; 4] = [
    "ReadWriteOnce",
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOncePod",
];
const NO_SIZE: &str = "the claim is a directory of the machine's filesystem: its size is shown, \
                       and not bounded; storageClassName: carob-loop has a size that holds";
const NO_CLASS: &str = "there are no storage classes here but carob-loop: the claim is a \
                        directory of the machine's filesystem";
/// With its journal, bytes.
const SMALLEST: u64 = 4 << 20;
/// The largest file of an ext4, bytes.
const LARGEST: u64 = (16 << 40) - 4096;
const ONE_POD: &str = "ReadWriteOncePod";

pub(super) fn claim(r: &mut Report<'_>, claim: &mut core::PersistentVolumeClaim) {
    let path = Path::default().key("spec");
    match &claim.spec {
        Some(spec) => check(r, &path, spec),
        None => r.required(&path, ""),
    }
    claim.status = None;
    // What is shown says which volume it has: its own.
    if let Some(spec) = &mut claim.spec {
        spec.volume_name = None;
    }
}

/// What the API server fills in.
pub(super) fn defaults(claim: &mut core::PersistentVolumeClaim) {
    if let Some(spec) = &mut claim.spec {
        spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
    }
}

/// Also of the template of an ephemeral volume.
pub(in crate::manifest) fn check(
    r: &mut Report<'_>,
    path: &Path,
    spec: &core::PersistentVolumeClaimSpec,
) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let place = path.key("accessModes");
    if modes.is_empty() {
        r.required(&place, "at least 1 access mode is required");
    }
    for mode in modes {
        if !MODES.contains(&mode.as_str()) {
            r.unknown_value(&place, mode, &MODES);
        }
    }
    if modes.len() > 1 && modes.iter().any(|m| m == ONE_POD) {
        let why = "may not use ReadWriteOncePod with other access modes";
        r.forbidden(&place, why);
    }
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let storage = requests.and_then(|map| map.get("storage"));
    let place = path.keys("resources.requests").key("storage");
    match storage {
        None => r.required(&place, ""),
        Some(text) => {
            let bytes = quantity(r, &place, text).map(|q| q.units());
            let form = ClaimForm::of(
                spec.storage_class_name.as_deref(),
                spec.volume_mode.as_deref(),
            );
            match bytes {
                Some(0) => r.invalid(&place, &text.0, "must be greater than zero"),
                Some(n) if form == ClaimForm::Filesystem && n < SMALLEST => {
                    r.invalid(
                        &place,
                        &text.0,
                        "must be at least 4Mi: there is no ext4 so small",
                    );
                }
                Some(n) if form.is_sized() && n > LARGEST => {
                    r.invalid(&place, &text.0, "must be less than 16Ti: it is one file");
                }
                _ => {}
            }
        }
    }
    let mode = spec.volume_mode.as_deref();
    let class = spec.storage_class_name.as_deref();
    if !ClaimForm::of(class, mode).is_sized() {
        if storage.is_some() {
            r.no_effect(&place, NO_SIZE);
        }
        if class.is_some_and(|c| !c.is_empty()) {
            r.no_effect(&path.key("storageClassName"), NO_CLASS);
        }
    }
    r.choice(
        &path.key("volumeMode"),
        mode,
        &[("Filesystem", ()), ("Block", ())],
    );
}
