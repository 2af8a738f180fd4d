//! A Pod's volumes on the host: emptyDir (a directory on disk, or a tmpfs) and
//! hostPath (what is there, checked for its type). Where a volume lies, for the mounts of
//! containers, says `pod/bundle/mounts.rs`.
//!
//! A new kind: `spec::VolumeSource` (the compiler finds what has to know it), its lines in
//! `manifest::fields`, `manifest::volumes`. If an object comes along with the Pod:
//! `manifest::mod` (`give_secrets` does so for Secrets), `spec::Pod`, and the comparison in
//! `pod::verbs::apply`, which the compiler does not find.
//!
//! Every function may be run twice and from any half-made state.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::linux::mount::{self, ATTR_NODEV, ATTR_NOSUID, Mount};
use crate::linux::root::{open_dir, remove_tree};
use crate::linux::selinux;
use crate::spec::{HostPathKind, Spec, Volume, VolumeSource};
use crate::store::{PodPaths, make_dir};
use crate::{Context, Error, Kind, Result};
use std::os::fd::AsFd;

/// Makes what the Pod's volumes need.
/// `label`: the SELinux label of what is made here. A hostPath keeps its own.
pub(crate) fn make(spec: &Spec, paths: &PodPaths, label: Option<&str>) -> Result<()> {
    let fs_group = spec.all_containers().find_map(|c| c.security.fs_group);
    let memory = spec.memory_limit();
    for v in &spec.volumes {
        make_one(v, paths, fs_group, memory, label)
            .with_context(|| format!("volume {}", v.name))?;
    }
    Ok(())
}

/// `memory`: what the Pod's containers may have together. A tmpfs that is larger would
/// show room that nobody can use: a kubelet sizes it so too.
fn make_one(
    v: &Volume,
    paths: &PodPaths,
    fs_group: Option<u32>,
    memory: Option<u64>,
    label: Option<&str>,
) -> Result<()> {
    match &v.source {
        VolumeSource::EmptyDir { memory: false, .. } => {
            let dir = paths.disk_volume(&v.name);
            make_dir(&dir)?;
            if let Some(label) = label {
                // What is made inside has the directory's type.
                selinux::label(&dir, label)?;
            }
            give(&dir, fs_group)
        }
        VolumeSource::EmptyDir {
            memory: true,
            size_limit,
        } => {
            let dir = paths.memory_volume(&v.name);
            make_dir(&dir)?;
            let size = size_limit.iter().copied().chain(memory).min();
            let size = size.map(|s| s.to_string());
            let mut options = vec![("mode", "0777")];
            options.extend(size.as_deref().map(|s| ("size", s)));
            options.extend(label.map(|l| ("context", l)));
            let tmpfs = Mount::new("tmpfs", &options, ATTR_NOSUID | ATTR_NODEV)?;
            tmpfs.attach(open_dir(&dir)?.as_fd())?;
            give(&dir, fs_group)
        }
        VolumeSource::HostPath { path, kind } => check_host_path(path, *kind),
    }
}

/// Everybody may write to an emptyDir; with an fsGroup it is that group's, and
/// what is made in it stays so.
fn give(dir: &Path, fs_group: Option<u32>) -> Result<()> {
    if let Some(gid) = fs_group {
        std::os::unix::fs::chown(dir, None, Some(gid))
            .with_context(|| format!("chown({}, -1, {gid})", dir.display()))?;
    }
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod({}, {mode:o})", dir.display()))
}

/// What makes a hostPath that is not there.
fn absent(path: &Path, kind: HostPathKind) -> String {
    let path = path.display();
    match kind {
        HostPathKind::Directory => {
            format!("make it on the host: mkdir -p {path}; or set hostPath.type: DirectoryOrCreate")
        }
        HostPathKind::File => {
            format!("make it on the host: touch {path}; or set hostPath.type: FileOrCreate")
        }
        HostPathKind::Socket => format!(
            "start the program that listens at {path}, or correct the path: the Pod starts when \
             the socket is there"
        ),
        _ => "make it on the host, or choose another hostPath.type".into(),
    }
}

/// hostPath's `type`, as the API reference defines each.
fn check_host_path(path: &Path, kind: HostPathKind) -> Result<()> {
    let found = std::fs::metadata(path).ok().map(|m| m.file_type());
    let wrong = |what: &str| {
        let message = match found {
            None => format!("hostPath {}: does not exist", path.display()),
            Some(_) => format!("hostPath {}: is not {what}", path.display()),
        };
        let hint = match found {
            None => return Err(Error::new(Kind::Invalid, message).hint(absent(path, kind))),
            Some(t) if t.is_dir() => {
                "it is a directory: set hostPath.type: Directory, or correct the path"
            }
            Some(t) if t.is_file() => "it is a file: set hostPath.type: File, or correct the path",
            Some(_) => "choose another hostPath.type, or leave it out",
        };
        Err(Error::new(Kind::Invalid, message).hint(hint))
    };
    match (kind, found) {
        (HostPathKind::Unset, Some(_)) => Ok(()),
        (HostPathKind::DirectoryOrCreate | HostPathKind::Unset, None) => {
            std::fs::create_dir_all(path).with_context(|| format!("mkdir({})", path.display()))
        }
        (HostPathKind::FileOrCreate, None) => std::fs::File::create_new(path)
            .map(drop)
            .with_context(|| format!("open({}, O_CREAT|O_EXCL)", path.display())),
        (HostPathKind::Directory | HostPathKind::DirectoryOrCreate, found) => match found {
            Some(t) if t.is_dir() => Ok(()),
            _ => wrong("a directory"),
        },
        (HostPathKind::File | HostPathKind::FileOrCreate, found) => match found {
            Some(t) if t.is_file() => Ok(()),
            _ => wrong("a regular file"),
        },
        (HostPathKind::Socket, found) => match found {
            Some(t) if t.is_socket() => Ok(()),
            _ => wrong("a socket"),
        },
        (HostPathKind::CharDevice, found) => match found {
            Some(t) if t.is_char_device() => Ok(()),
            _ => wrong("a character device"),
        },
        (HostPathKind::BlockDevice, found) => match found {
            Some(t) if t.is_block_device() => Ok(()),
            _ => wrong("a block device"),
        },
    }
}

/// Removes what [`make`] made, as far as it is there; hostPaths stay.
pub(crate) fn remove(paths: &PodPaths) -> Result<()> {
    let memory = paths.dir.join("volumes");
    for entry in std::fs::read_dir(&memory).into_iter().flatten().flatten() {
        mount::unmount(&entry.path())?;
        // Still a mount point, and so still the user's data: leave it.
        if entry.metadata().is_ok_and(|m| is_other_device(&m, &memory)) {
            return Err(Error::failed(format!(
                "{} is still mounted",
                entry.path().display()
            )));
        }
    }
    remove_tree(&memory)?;
    remove_tree(&paths.data.join("volumes"))
}

fn is_other_device(m: &std::fs::Metadata, parent: &Path) -> bool {
    std::fs::metadata(parent).is_ok_and(|p| p.dev() != m.dev())
}
