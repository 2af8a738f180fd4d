//! What is on the disk, whether it is sound, and what of it can go.

use std::path::Path;

use super::images;
use crate::Result;
use crate::image::{Pruned, Report, Store, Usage};
use crate::object;
use crate::pod::abandoned::{self, Abandoned};
use crate::pod::{claims, layers};
use crate::spec::ObjectKind;
use crate::store::{Layout, disk_usage};

/// Sizes are of allocated blocks, bytes.
#[derive(Debug)]
pub(crate) struct Disk {
    pub images: Usage,
    /// The writable layers of containers.
    pub containers: Kept,
    /// emptyDirs on the disk.
    pub volumes: Kept,
    /// What claims hold; active are those that Pods use.
    pub claims: Kept,
    pub used_claims: usize,
    pub logs: u64,
}

/// Directories of Pods.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    pub number: usize,
    pub bytes: u64,
}

impl Kept {
    fn add(&mut self, dir: &Path) -> Result<()> {
        if let Ok(entries) = std::fs::read_dir(dir) {
            self.number += entries.count();
            self.bytes += disk_usage(dir)?;
        }
        Ok(())
    }
}

/// What there is.
pub(crate) fn usage(layout: &Layout) -> Result<Disk> {
    let used = images::known(layout)?;
    let mut disk = Disk {
        images: Store::open(layout)?.usage(&|id| used.contains(id))?,
        containers: Kept::default(),
        volumes: Kept::default(),
        claims: Kept::default(),
        used_claims: 0,
        logs: disk_usage(&layout.logs)?,
    };
    if let Ok(pods) = std::fs::read_dir(layout.data.join("pods")) {
        for pod in pods.flatten() {
            disk.containers.add(&pod.path().join("containers"))?;
            disk.volumes.add(&pod.path().join("volumes"))?;
        }
    }
    for claim in object::list(layout, ObjectKind::PersistentVolumeClaim, None)? {
        disk.claims.number += 1;
        disk.claims.bytes += disk_usage(&layout.claim(&claim.uid))?;
        // Of one whose users are not known, some Pod may be one.
        let is_used = claims::users(layout, &claim).map_or(true, |users| !users.is_empty());
        disk.used_claims += usize::from(is_used);
    }
    Ok(disk)
}

/// Removes images that no Pod has: those without a name, and with `all` the others too.
pub(crate) fn prune(layout: &Layout, all: bool) -> Result<Pruned> {
    let used = images::used(layout)?;
    let pruned = Store::open(layout)?.prune(all, &|id| used.contains(id))?;
    layers::release(layout)?;
    claims::release_unused(layout)?;
    Ok(pruned)
}

/// Looks whether the images are sound, and for roots whose records are gone. `repair`:
/// removes what is damaged and not in use.
pub(crate) fn check(layout: &Layout, repair: bool) -> Result<(Report, Vec<Abandoned>)> {
    let used = match repair {
        true => images::used(layout)?,
        false => images::known(layout)?,
    };
    let report = Store::open(layout)?.check(repair, &|id| used.contains(id))?;
    Ok((report, abandoned::find(layout)?))
}
