//! emptyDir: a directory on disk, a tmpfs, or a hugetlbfs.

use std::os::fd::AsFd;

use super::{Making, owner};
use crate::linux::mount::{ATTR_NODEV, ATTR_NOSUID, Mount};
use crate::linux::root::open_dir;
use crate::linux::{quota, selinux};
use crate::spec::HugeMedium;
use crate::store::make_dir;
use crate::{Error, Ignored, Result};

/// Everybody may write to an emptyDir, unless its `mode` says otherwise.
pub(super) const MODE: u32 = 0o777;

/// `mode`: of the directory.
pub(super) fn make_on_disk(
    m: &Making,
    name: &str,
    size_limit: Option<u64>,
    mode: u32,
) -> Result<()> {
    let dir = m.paths.disk_volume(name);
    make_dir(&dir)?;
    if let Some(limit) = size_limit {
        quota::begin(&dir, limit).ignored("the volume is measured all the same");
    }
    if let Some(label) = m.label {
        // What is made inside has the directory's type.
        selinux::label(&dir, label)?;
    }
    owner::give(&dir, m.fs_group, mode)
}

/// As [`make_on_disk`].
pub(super) fn make_in_memory(
    m: &Making,
    name: &str,
    size_limit: Option<u64>,
    mode: u32,
) -> Result<()> {
    let dir = m.paths.memory_volume(name);
    make_dir(&dir)?;
    // A tmpfs that is larger than what the Pod's containers may have together would show
    // room that nobody can use: a kubelet sizes it so too.
    let size = size_limit
        .iter()
        .copied()
        .chain(m.spec.memory_limit())
        .min();
    let size = size.map(|s| s.to_string());
    let mut options = vec![("mode", "0777")];
    options.extend(size.as_deref().map(|s| ("size", s)));
    options.extend(m.label.map(|l| ("context", l)));
    let tmpfs = Mount::new("tmpfs", &options, ATTR_NOSUID | ATTR_NODEV)?;
    tmpfs.attach(open_dir(&dir)?.as_fd())?;
    owner::give(&dir, m.fs_group, mode)
}

/// As [`make_on_disk`]. What is in it counts against the limits of the containers that took
/// the pages (hugetlb controller), which alone bound it, as on a cluster, unless it has a limit
/// of its own: Linux 6.18 keeps counting a page of the volume as used that the controller has
/// refused, so that a volume with a size shrinks.
pub(super) fn make_in_huge_pages(
    m: &Making,
    name: &str,
    medium: HugeMedium,
    size_limit: Option<u64>,
    mode: u32,
) -> Result<()> {
    let page = m.spec.page_size(medium).map_err(Error::invalid)?;
    let dir = m.paths.memory_volume(name);
    make_dir(&dir)?;
    let page = page.bytes().to_string();
    let size = size_limit.map(|s| s.to_string());
    let mut options = vec![("mode", "0777"), ("pagesize", page.as_str())];
    options.extend(size.as_deref().map(|s| ("size", s)));
    options.extend(m.label.map(|l| ("context", l)));
    let pages = Mount::new("hugetlbfs", &options, ATTR_NOSUID | ATTR_NODEV)?;
    pages.attach(open_dir(&dir)?.as_fd())?;
    owner::give(&dir, m.fs_group, mode)
}
