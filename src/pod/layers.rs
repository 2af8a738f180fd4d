//! An image's layers as overlayfs takes them: directories as they are, erofs files
//! mounted first.
//!
//! A file is mounted once for all Pods of a root, at `<state>/layers/<32 hex>`: two
//! mounts made of one file are two filesystems to the kernel, which share no page of
//! what they have read. An overlay clones the mounts of its layers, so that what is
//! mounted here is needed only for the next container to find it: it can go at any
//! time, and nothing breaks but the sharing.
//!
//! An image that is a volume is mounted in the same way, as an overlay of its layers at
//! `<state>/layers/image-<32 hex>`.
//!
//! What is mounted is computed, not remembered: a layer stays as long as a Pod's
//! record names an image that has it. A container's record names its image before
//! the layers are mounted.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::damage;
use crate::image::{Image, LayerForm, Store};
use crate::linux::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Mount};
use crate::linux::root::open_dir;
use crate::store::{Layout, Lock, make_dir, tag_of};
use crate::{Context, Error, Ignored, Result};

/// The directories, the topmost first. Until this is dropped nobody unmounts them.
#[derive(Debug)]
pub(crate) struct Lowers {
    paths: Vec<PathBuf>,
    _lock: Option<Lock>,
}

impl Lowers {
    pub(crate) fn mount(layout: &Layout, image: &Image) -> Result<Self> {
        let is_file = |l: &PathBuf| LayerForm::of(l) == LayerForm::Erofs;
        let lock = match image.layers.iter().any(is_file) {
            true => Some(lock(layout)?),
            false => None,
        };
        let mut paths = Vec::new();
        for layer in image.layers.iter().rev() {
            paths.push(match is_file(layer) {
                true => mounted(layout, layer)?,
                false => layer.clone(),
            });
        }
        Ok(Lowers { paths, _lock: lock })
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// Mounts all that an image holds, unless that is mounted, for volumes: nothing in it can be
/// changed or executed, whoever mounts it. Where that is. `label`: the SELinux label of the
/// files; a mount has one, so that each label has a mount of its own.
pub(crate) fn mount_image(layout: &Layout, image: &Image, label: Option<&str>) -> Result<PathBuf> {
    let lowers = Lowers::mount(layout, image)?;
    let _lock = match lowers._lock {
        Some(_) => None,
        None => Some(lock(layout)?),
    };
    let mounts = layout.layer_mounts();
    let mut name = image_name(&image.id);
    if let Some(label) = label {
        name = format!("{name}.{}", tag_of(label.as_bytes()));
    }
    let (at, empty) = (mounts.join(name), mounts.join(EMPTY));
    make_dir(&at)?;
    make_dir(&empty)?;
    mount::make_private(&mounts)?;
    if !is_mounted(layout, &at)? {
        log::debug!("mount the image {} at {}", image.id, at.display());
        let mut all = lowers.paths().to_vec();
        // An overlay without a writable layer has at least two.
        all.push(empty);
        let base = layout.images().join("layers");
        let overlay = Mount::overlay_to_read(&base, &all, &at, label)?;
        overlay.set(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, false)?;
        overlay
            .attach(open_dir(&at)?.as_fd())
            .with_context(|| format!("mount the image {} at {}", image.id, at.display()))?;
    }
    Ok(at)
}

/// A directory without a file.
const EMPTY: &str = "empty";

fn image_name(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    format!("image-{}", hex.get(..32).unwrap_or(hex))
}

fn lock(layout: &Layout) -> Result<Lock> {
    Lock::acquire(&layout.state.join("layers.lock"))
}

fn mounted(layout: &Layout, layer: &Path) -> Result<PathBuf> {
    let name = layer.file_stem().unwrap_or_default();
    let at = layout.layer_mounts().join(name);
    make_dir(&at)?;
    mount::make_private(&layout.layer_mounts())?;
    if !is_mounted(layout, &at)? {
        log::debug!("mount the layer {} at {}", layer.display(), at.display());
        Mount::erofs(layer)
            .and_then(|m| m.attach(open_dir(&at)?.as_fd()))
            .with_context(|| format!("mount {} at {}", layer.display(), at.display()))?;
    }
    Ok(at)
}

fn is_mounted(layout: &Layout, at: &Path) -> Result<bool> {
    let device = |path: &Path| {
        let meta = std::fs::metadata(path);
        meta.map(|m| m.dev())
            .with_context(|| format!("stat({})", path.display()))
    };
    Ok(device(at)? != device(&layout.layer_mounts())?)
}

/// Unmounts the layers that no Pod has.
pub(crate) fn release(layout: &Layout) -> Result<()> {
    let dir = layout.layer_mounts();
    if !dir.exists() {
        return Ok(());
    }
    let _lock = lock(layout)?;
    let Some(used) = used(layout)? else {
        return Ok(());
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).context(format!("open({})", dir.display())),
    };
    let mut first: Option<Error> = None;
    let mut kept = false;
    for entry in entries {
        let path = entry.context("getdents(layers)")?.path();
        if path.file_stem().is_some_and(|n| used.contains(n)) {
            kept = true;
            continue;
        }
        let gone = mount::unmount(&path).and_then(|()| {
            std::fs::remove_dir(&path).with_context(|| format!("rmdir({})", path.display()))
        });
        first = first.or(gone.err());
    }
    if !kept && first.is_none() {
        first = mount::unmount(&dir).err();
        std::fs::remove_dir(&dir).ignored("it may not be empty");
    }
    first.map_or(Ok(()), Err)
}

/// The names of layers of images that Pods' containers have; `None` if a Pod's record
/// cannot be read.
fn used(layout: &Layout) -> Result<Option<HashSet<std::ffi::OsString>>> {
    let store = Store::open(layout)?;
    let mut used = HashSet::new();
    let pods = match std::fs::read_dir(layout.pods()) {
        Ok(pods) => pods,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Some(used)),
        Err(e) => return Err(e).context(format!("open({})", layout.pods().display())),
    };
    for pod in pods {
        let name = pod.context("getdents(pods)")?.file_name();
        let Some(uid) = name.to_str().filter(|n| !n.starts_with('.')) else {
            continue;
        };
        let state = match damage::load_state(layout, uid) {
            Ok(Some(state)) => state,
            // Before the first, or after the last.
            Ok(None) => continue,
            // Nobody knows what this Pod uses: all layers stay.
            Err(_) => return Ok(None),
        };
        for container in state.containers.into_values() {
            for id in container.images() {
                let layers = store.lookup_any(id)?.map(|i| i.layers);
                let names = layers.iter().flatten().filter_map(|l| l.file_stem());
                used.extend(names.map(ToOwned::to_owned));
            }
            for id in container.volume_images.values() {
                used.extend([image_name(id).into(), EMPTY.into()]);
            }
        }
    }
    Ok(Some(used))
}
