//! A Pod's volumes on the host, a file a kind: [`empty_dir`] (a directory on disk, a
//! tmpfs, or huge pages), [`host_path`] (what is there, checked for its type), [`projected`]
//! (files that carob writes) and [`nfs`]; [`sized`]: claims whose size holds. [`owner`]: the
//! group that volumes are given; [`usage`]: how large one has grown; [`walk`] goes through all
//! files for both. Where a volume lies, for the mounts of containers, says
//! `pod/bundle/mounts.rs`.
//!
//! A new kind: `spec::VolumeSource` (the compiler finds what has to know it), its lines in
//! `manifest::fields`, a function in `manifest::volumes`, a file here.
//!
//! Every function may be run twice and from any half-made state.

mod empty_dir;
mod host_path;
pub(crate) mod nfs;
pub(crate) mod owner;
pub(crate) mod projected;
pub(crate) mod sized;
pub(crate) mod usage;
mod walk;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::linux::root::remove_tree;
use crate::linux::{detach, mount, quota};
use crate::spec::{Spec, Volume, VolumeSource};
use crate::store::PodPaths;
use crate::{Context, Error, Ignored, Result};

use projected::Content;

/// What the making of any volume may need.
struct Making<'a> {
    spec: &'a Spec,
    paths: &'a PodPaths,
    /// The SELinux label of what is made. A hostPath keeps its own.
    label: Option<&'a str>,
    fs_group: Option<u32>,
}

/// Makes what the Pod's volumes need. `label`: the SELinux label of what is made here.
/// `contents`: of the projected ones.
pub(crate) fn make(
    spec: &Spec,
    paths: &PodPaths,
    label: Option<&str>,
    contents: &[Content],
) -> Result<()> {
    let making = Making {
        spec,
        paths,
        label,
        fs_group: spec.fs_group(),
    };
    projected::make(&making, contents)?;
    for v in &spec.volumes {
        making
            .make(v)
            .with_context(|| format!("volume {}", v.name))?;
    }
    Ok(())
}

impl Making<'_> {
    fn make(&self, v: &Volume) -> Result<()> {
        match &v.source {
            VolumeSource::EmptyDir {
                memory,
                huge,
                size_limit,
                mode,
            } => {
                let mode = mode.unwrap_or(empty_dir::MODE);
                match (memory, huge) {
                    (_, Some(medium)) => {
                        empty_dir::make_in_huge_pages(self, &v.name, *medium, *size_limit, mode)
                    }
                    (false, None) => empty_dir::make_on_disk(self, &v.name, *size_limit, mode),
                    (true, None) => empty_dir::make_in_memory(self, &v.name, *size_limit, mode),
                }
            }
            VolumeSource::HostPath { path, kind } => host_path::make(path, *kind),
            // It outlives the Pod: pod/claims.rs.
            VolumeSource::Claim { .. } => Ok(()),
            // All of them at once: `projected::make`.
            VolumeSource::Projected { .. } => Ok(()),
            // It is mounted for the containers that have it: pod/layers.rs.
            VolumeSource::Image { .. } => Ok(()),
            // A child of the monitor mounts it: monitor/sandbox/mounting.rs.
            VolumeSource::Nfs { .. } => Ok(()),
        }
    }
}

/// Removes what [`make`] made, as far as it is there; hostPaths stay.
pub(crate) fn remove(paths: &PodPaths) -> Result<()> {
    mount::unmount(&paths.projected())?;
    remove_tree(&paths.projected())?;
    let memory = paths.dir.join("volumes");
    let entries: Vec<_> = std::fs::read_dir(&memory)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let remote = match entries.is_empty() {
        true => BTreeSet::new(),
        false => detach::remote_in(&memory)?,
    };
    for entry in entries {
        let path = entry.path();
        match remote.contains(&entry.file_name()) {
            true => detach::unmount_remote(&path)?,
            false => mount::unmount(&path)?,
        }
        // Still a mount point, and so still the user's data: leave it.
        if entry.metadata().is_ok_and(|m| is_other_device(&m, &memory)) {
            let text = format!("{} is still mounted", path.display());
            return Err(Error::failed(text));
        }
        // What was a mount point is empty. Were something mounted there after all, whose
        // files are another machine's, this would fail, where the removal of a tree would not.
        if let Err(e) = std::fs::remove_dir(&path)
            && e.kind() == ErrorKind::ResourceBusy
        {
            let text = format!("rmdir({}): it is mounted again", path.display());
            return Err(Error::failed(text));
        }
    }
    remove_tree(&memory)?;
    let disk = paths.data.join("volumes");
    for entry in std::fs::read_dir(&disk).into_iter().flatten().flatten() {
        quota::release(&entry.path()).ignored("no other volume has the number of its project");
    }
    mount::remove_written_tree(&disk)
}

fn is_other_device(m: &std::fs::Metadata, parent: &Path) -> bool {
    std::fs::metadata(parent).is_ok_and(|p| p.dev() != m.dev())
}
