//! configMap, secret, downwardAPI and projected: files that carob writes, in memory, and
//! keeps up to date.
//!
//! All volumes of a Pod that are of this kind are directories of one tmpfs, since each mount
//! costs. Containers have those of their volumes alone, read-only. [`content`] says which
//! files there are, as data; [`write`](mod@write) makes them so that readers see a whole set;
//! [`downward`]: what they say of the Pod.

mod content;
mod downward;
mod write;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::OFlag;

pub(crate) use content::{Content, Facts, VolumeObjects, plan};

use super::Making;
use crate::linux::mount::{ATTR_NODEV, ATTR_NOSUID, Mount};
use crate::linux::root::{Links, Root, open_dir};
use crate::spec::VolumeSource;
use crate::store::{PodPaths, make_dir};
use crate::{Context, Result};

/// What one source may take in bytes: two sets of 16,000 keys, each a page. Nobody but the
/// monitor writes there, unless a container has CAP_SYS_ADMIN.
const ROOM: usize = 128 << 20;
/// And in files and directories: what one that has may make the monitor look through.
const FILES: usize = 40_000;

/// The filesystem, and all files in it.
pub(super) fn make(m: &Making<'_>, contents: &[Content]) -> Result<()> {
    if contents.is_empty() {
        return Ok(());
    }
    let sources = m.spec.volumes.iter().map(|v| match &v.source {
        VolumeSource::Projected { sources, .. } => sources.len(),
        _ => 0,
    });
    let sources = sources.sum::<usize>().max(1);
    let size = sources.saturating_mul(ROOM).to_string();
    let files = sources.saturating_mul(FILES).to_string();
    let dir = m.paths.projected();
    make_dir(&dir)?;
    let mut options = vec![
        ("mode", "0700"),
        ("size", size.as_str()),
        ("nr_inodes", files.as_str()),
    ];
    options.extend(m.label.map(|l| ("context", l)));
    // Linux 6.4 can keep it out of the swap space.
    let attributes = ATTR_NOSUID | ATTR_NODEV;
    let without_swap: Vec<_> = options.iter().copied().chain([("noswap", "")]).collect();
    let tmpfs = Mount::new("tmpfs", &without_swap, attributes)
        .or_else(|_| Mount::new("tmpfs", &options, attributes))?;
    tmpfs
        .attach(open_dir(&dir)?.as_fd())
        .with_context(|| format!("mount at {}", dir.display()))?;
    for content in contents {
        make_dir(&m.paths.projected_volume(&content.volume))?;
    }
    update(m.paths, contents).map(drop)
}

/// Writes the volumes whose files are others; how many these are. Goes on past failures, and
/// returns the first.
pub(crate) fn update(paths: &PodPaths, contents: &[Content]) -> Result<usize> {
    if contents.is_empty() {
        return Ok(0);
    }
    let all = open_dir(&paths.projected())?;
    let mut written = 0;
    let mut result = Ok(());
    for content in contents {
        match write_one(all.as_fd(), content) {
            Ok(is_new) => written += usize::from(is_new),
            Err(e) => {
                let e = e.push_context(format!("volume {}", content.volume));
                result = result.and(Err(e));
            }
        }
    }
    result.map(|()| written)
}

fn write_one(all: BorrowedFd, content: &Content) -> Result<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let volume = Root::new(all).open(Path::new(&content.volume), flags, Links::Refuse)?;
    write::write(volume.as_fd(), content)
}
