//! Claims whose size holds, and those of block devices: when their files are attached and
//! mounted, and when they are not any more. [`crate::volume::sized`] does it.
//!
//! All of it is done under one lock. A Pod has written down that it takes its claims before it
//! waits for the lock, so that either it finds a claim attached, or the process that detaches
//! it finds the Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{KIND, users};
use crate::linux::loop_device::{self, Node};
use crate::linux::{mount, mount_table};
use crate::object;
use crate::spec::{ClaimForm, Object, Pod, VolumeSource};
use crate::store::{Layout, Lock, make_dir, tag_in};
use crate::volume::sized::{SizedClaim, mark_of_root};
use crate::{Error, Result};

/// Where a Pod's claims are, by the names of its volumes.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub dirs: BTreeMap<String, PathBuf>,
    pub devices: BTreeMap<String, Node>,
}

fn lock(layout: &Layout) -> Result<Lock> {
    make_dir(&layout.claims())?;
    Lock::acquire(&layout.claims_lock())
}

/// Whether the Pod's containers have its claims as what they are, in the words of a kubelet.
pub(super) fn check_modes(layout: &Layout, pod: &Pod) -> Result<()> {
    for volume in &pod.spec.volumes {
        let VolumeSource::Claim { name, template, .. } = &volume.source else {
            continue;
        };
        let form = match (object::find(layout, KIND, &pod.namespace, name)?, template) {
            (Some(claim), _) => claim.claim_form(),
            (None, Some(template)) => {
                let text = |field: &str| template["spec"][field].as_str();
                ClaimForm::of(text("storageClassName"), text("volumeMode"))
            }
            (None, None) => continue,
        };
        let wrong = match form {
            ClaimForm::Block => "volumeMounts",
            ClaimForm::Directory | ClaimForm::Filesystem => "volumeDevices",
        };
        let has = pod.spec.every_container().any(|c| match form {
            ClaimForm::Block => c.mounts.iter().any(|m| m.volume == volume.name),
            _ => c.devices.iter().any(|d| d.volume == volume.name),
        });
        if has {
            return Err(Error::conflict(format!(
                "volume {} has volumeMode {}, but is specified in {wrong}",
                volume.name,
                form.mode()
            ))
            .hint(format!(
                "the volumeMode is that of the claim {name:?}: a block device belongs into \
                 volumeDevices, a filesystem into volumeMounts"
            )));
        }
    }
    Ok(())
}

/// Attaches the claim's file, and makes it where it is not there. `label`: the SELinux label of
/// its filesystem.
pub(super) fn take(layout: &Layout, claim: &Object, label: Option<&str>) -> Result<()> {
    let _lock = lock(layout)?;
    let new = layout.claims().join(format!(".new-{}", claim.uid));
    let filesystem = claim.claim_form() == ClaimForm::Filesystem;
    let bytes = claim.requested_bytes();
    SizedClaim::of(layout, &claim.uid).make(&new, bytes, filesystem)?;
    attach(layout, claim, label).map(drop)
}

enum Place {
    Dir(PathBuf),
    Device(Node),
}

/// The lock is held.
fn attach(layout: &Layout, claim: &Object, label: Option<&str>) -> Result<Place> {
    let (disk, bytes) = (SizedClaim::of(layout, &claim.uid), claim.requested_bytes());
    let (place, is_whole) = match claim.claim_form() {
        ClaimForm::Block => {
            let (node, is_whole) = disk.device(bytes)?;
            (Place::Device(node), is_whole)
        }
        _ => {
            let is_whole = disk.mount(bytes, label)?;
            (Place::Dir(disk.mount_point()), is_whole)
        }
    };
    if is_whole && claim.capacity.is_some() {
        object::enlarged(layout, claim)?;
    }
    Ok(place)
}

/// Where the claims are that the Pod has taken. What was unmounted meanwhile is mounted again:
/// a container would write to the machine's filesystem in its place.
pub(crate) fn places(layout: &Layout, pod: &Pod) -> Result<Places> {
    let mut places = Places::default();
    for (volume, name) in pod.spec.claims() {
        let Some(claim) = object::find(layout, KIND, &pod.namespace, name)? else {
            continue;
        };
        let volume = volume.to_owned();
        if !claim.claim_form().is_sized() {
            places.dirs.insert(volume, layout.claim(&claim.uid));
            continue;
        }
        let _lock = lock(layout)?;
        match attach(layout, &claim, None)? {
            Place::Dir(dir) => drop(places.dirs.insert(volume, dir)),
            Place::Device(node) => drop(places.devices.insert(volume, node)),
        }
    }
    Ok(places)
}

/// Unmounts and detaches a claim if no Pod uses it.
pub(super) fn release(layout: &Layout, claim: &Object) -> Result<()> {
    let _lock = lock(layout)?;
    match users(layout, claim)?.is_empty() {
        true => SizedClaim::of(layout, &claim.uid).release(),
        false => Ok(()),
    }
}

/// As [`release`], of all claims, and of what claims have left whose records are gone.
pub(crate) fn release_unused(layout: &Layout) -> Result<()> {
    let held = held(layout)?;
    if held.is_empty() {
        return Ok(());
    }
    let _lock = lock(layout)?;
    let claims = object::list(layout, KIND, None)?;
    for uid in held {
        let claim = claims.iter().find(|c| c.uid == uid);
        if claim.is_none_or(|c| users(layout, c).is_ok_and(|users| users.is_empty())) {
            SizedClaim::of(layout, &uid).release()?;
        }
    }
    Ok(())
}

/// The uids of the claims of a root that are mounted or attached.
pub(crate) fn held(layout: &Layout) -> Result<BTreeSet<String>> {
    let mark = mark_of_root(layout.tag());
    let mut held = BTreeSet::new();
    for keeper in loop_device::keepers()? {
        held.extend(keeper.mark.strip_prefix(&mark).map(str::to_owned));
    }
    let claims = layout.claims();
    // The table has no links in its paths.
    let claims = claims.canonicalize().unwrap_or(claims);
    for entry in mount_table::of("self")? {
        held.extend(claim_of(&entry.point, &claims));
    }
    Ok(held)
}

/// The uid of the claim whose filesystem is mounted there.
fn claim_of(point: &Path, claims: &Path) -> Option<String> {
    let below = point.strip_prefix(claims).ok()?;
    let (uid, name) = (below.parent()?.to_str()?, below.file_name()?);
    (name == "mnt" && !uid.is_empty()).then(|| uid.to_owned())
}

/// The data directory of a root of which a claim is mounted there, if one is.
pub(crate) fn data_of_mount(point: &Path) -> Option<&Path> {
    let claims = point.parent()?.parent()?;
    let is = point.ends_with("mnt") && claims.ends_with("claims");
    claims.parent().filter(|_| is)
}

/// The loop devices that roots have attached for claims, by the roots' tags.
pub(crate) fn devices_of_roots() -> Result<BTreeMap<String, Vec<String>>> {
    let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for keeper in loop_device::keepers()? {
        let root = keeper.mark.split_once('/').map(|(root, _)| root);
        if let Some(tag) = root.and_then(|root| tag_in(root, "carob", "carob-")) {
            let device = format!("loop device {}", keeper.number());
            devices.entry(tag).or_default().push(device);
        }
    }
    Ok(devices)
}

/// Unmounts and detaches all claims of a root that is no more. `layout`: where it was, if that
/// is known.
pub(crate) fn remove_all(tag: &str, layout: Option<&Layout>) -> Result<()> {
    if let Some(layout) = layout {
        for uid in held(layout)? {
            mount::unmount_all(&layout.claim(&uid))?;
        }
    }
    let mark = mark_of_root(tag);
    for keeper in loop_device::keepers()? {
        if keeper.mark.starts_with(&mark) {
            keeper.detach()?;
        }
    }
    Ok(())
}

/// Gives a claim the size that it has been asked to have. The claim as it is then.
///
/// # Errors
/// It cannot be enlarged now. It is tried again when a Pod takes it.
pub(crate) fn expand(layout: &Layout, claim: &Object) -> Result<Object> {
    if claim.capacity.is_none() || !claim.claim_form().is_sized() {
        return Ok(claim.clone());
    }
    let _lock = lock(layout)?;
    let filesystem = claim.claim_form() == ClaimForm::Filesystem;
    SizedClaim::of(layout, &claim.uid).grow(claim.requested_bytes(), filesystem)?;
    object::enlarged(layout, claim)
}
