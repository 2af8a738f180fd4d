//! Bytes become an image of the store: verified, unpacked, published at once.
//!
//! The order, which a crash may cut anywhere:
//!
//! 1. a directory of our own in `ingest/`, locked as long as we live;
//! 2. every layer that the store lacks, or whose blob it lacks, is made there, its
//!    size, digest and diffID verified on the way (`fetch`);
//! 3. one syncfs(2): what a name leads to must survive a power cut whole;
//! 4. under the store's lock: layers, blobs, record, name. A layer that we
//!    relied on and that was removed meanwhile sends us back to 2.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::image::archive::compression::Compression;
use crate::image::digest::Digest;
use crate::image::layer::fetch::{Fetched, Job, LayerSource, fetch, is_passing};
use crate::image::manifest::{Descriptor, ImageConfig, check_layers};
use crate::image::store::index::{LayerBlob, LayerRecord, Name, Record, Store, layer_name};
use crate::image::store::partial::discard;
use crate::image::store::transaction::Transaction;
use crate::image::{Image, Progress, Reference};
use crate::store::make_dir;
use crate::{Context, Error, Ignored, Kind, Result};

/// Stands in for the layers of an image that has none: overlayfs wants one.
const EMPTY_LAYER: &str = "00000000000000000000000000000000";

/// An image to be made, but for its layers' content.
pub(crate) struct Wanted {
    pub config_bytes: Vec<u8>,
    pub config: ImageConfig,
    /// As the manifest has them; `None` for a docker-archive, whose layers
    /// have no digest but their diffID.
    pub layers: Option<Vec<Descriptor>>,
    /// What the name resolves to: an index's or a manifest's digest.
    pub digest: Option<Digest>,
    /// The index and manifest that led here.
    pub documents: Vec<Vec<u8>>,
    pub names: Vec<Reference>,
}

/// Makes the image, from what the store has and `source` gives.
pub(crate) fn ingest(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    source: &dyn LayerSource,
    progress: &mut dyn FnMut(Progress),
) -> Result<Image> {
    let diff_ids = &wanted.config.diff_ids;
    let layers = wanted.layers.as_ref().map_or(diff_ids.len(), Vec::len);
    if layers != diff_ids.len() {
        return Err(Error::invalid(format!(
            "the manifest has {layers} layers, but the config {} diffIDs",
            diff_ids.len()
        )));
    }
    check_layers(layers, &transaction.store().limits)?;
    loop {
        transaction.keep_if_killed()?;
        let jobs = plan(transaction.store(), wanted, progress)?;
        let mut fetched = Vec::new();
        if !jobs.is_empty() {
            fetched = fetch(transaction, wanted, source, &jobs, progress)
                .inspect_err(|e| after_failure(transaction, wanted, &jobs, e))?;
            sync(transaction.path())?;
        }
        if let Some(image) = publish(transaction, wanted, &fetched)? {
            return Ok(image);
        }
        transaction.keep_finished()?;
    }
}

/// What is finished is kept for the next attempt, or nothing, where that would fail
/// too.
fn after_failure(transaction: &Transaction<'_>, wanted: &Wanted, jobs: &[Job], e: &Error) {
    if is_passing(e) {
        transaction
            .keep_finished()
            .ignored("the first error is the one to tell; the next attempt fetches all again");
        return;
    }
    for job in jobs {
        discard(&transaction.store().partial(), wanted.blob(job.i))
            .ignored("the first error is the one to tell; the next attempt checks the digest");
    }
}

/// What the store lacks of the image. What it has is told.
fn plan(store: &Store, wanted: &Wanted, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let (mut layers, mut pairs) = (HashSet::new(), HashSet::new());
    for (i, diff_id) in wanted.config.diff_ids.iter().enumerate() {
        let blob = wanted.blob(i);
        if !pairs.insert((diff_id, blob)) {
            continue;
        }
        let layer = store.layer(diff_id)?;
        let unpack = layer.is_none() && layers.insert(diff_id);
        let size = wanted.layers.as_ref().map(|l| l[i].size);
        let stored = store
            .blob_size(blob)?
            .is_some_and(|n| size.is_none_or(|s| s == n));
        let matched = diff_id == blob
            || layer.is_some_and(|l| l.blob.as_ref() == Some(blob))
            || store.knows(diff_id, blob)?;
        if !unpack && stored && matched {
            progress(Progress::Exists {
                layer: wanted.shown(i),
            });
        } else {
            jobs.push(Job { i, unpack, stored });
        }
    }
    Ok(jobs)
}

impl Wanted {
    /// A layer for people: its digest, or diffID where there is none.
    pub(crate) fn shown(&self, i: usize) -> String {
        self.blob(i).to_string()
    }

    /// A layer's digest; its diffID, where the archive tells no other: that is its
    /// digest too, if it is plain.
    fn blob(&self, i: usize) -> &Digest {
        match &self.layers {
            Some(layers) => &layers[i].digest,
            None => &self.config.diff_ids[i],
        }
    }
}

/// Everything at once under the store's lock, the name last. `None` if a layer
/// that was there has been removed since.
fn publish(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    fetched: &[Fetched],
) -> Result<Option<Image>> {
    let store = transaction.store();
    make_dir(&store.layers())?;
    make_dir(&store.blobs())?;
    let _lock = store.lock()?;
    let Some((layers, mut layer_blobs)) = layers_of(store, wanted, fetched)? else {
        return Ok(None);
    };
    move_layers(transaction, &layers)?;
    move_blobs(transaction, fetched)?;
    let mut stack = stack_of(&layers);
    if stack.is_empty() {
        let empty = store.layers().join(EMPTY_LAYER);
        make_dir(&empty)?;
        std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("chmod({})", empty.display()))?;
        stack.push(EMPTY_LAYER.to_owned());
    }
    let mut blobs = write_documents(transaction, wanted)?;
    // Small, and on the disk before the record that names them.
    sync(&store.layers())?;
    let id = Digest::of(&wanted.config_bytes);
    let config = &wanted.config;
    // The same image by another manifest: whoever has it by that one can push it so.
    if let Ok(Some(before)) = store.record(&id) {
        let more = before.blobs.into_iter().filter(|b| !blobs.contains(b));
        blobs.extend(more.collect::<Vec<_>>());
        for blob in before.layer_blobs {
            if !layer_blobs.contains(&blob) && store.blob_size(&blob.digest)?.is_some() {
                layer_blobs.push(blob);
            }
        }
    }
    store.save_record(&Record {
        version: 1,
        id: id.clone(),
        digest: wanted.digest.clone(),
        stack,
        diff_ids: config.diff_ids.clone(),
        blobs,
        layer_blobs,
        config: config.config.clone(),
        size: layers.iter().map(|l| l.bytes).sum(),
        created: config.created.clone(),
        architecture: config.architecture.clone(),
        os: config.os.clone(),
    })?;
    let mut index = store.index()?;
    if !wanted.names.is_empty() {
        for name in &wanted.names {
            index.names.insert(
                name.to_string(),
                Name {
                    id: id.clone(),
                    digest: wanted.digest.clone(),
                },
            );
        }
        store.save_index(&index)?;
    }
    store
        .image(&id, wanted.digest.as_ref(), &index)?
        .map(Some)
        .ok_or_else(|| Error::new(Kind::Failed, format!("the record of {id} is gone")))
}

/// The layers of the image, lowest first, and their blobs. `None` if one that was there
/// has been removed since.
fn layers_of(
    store: &Store,
    wanted: &Wanted,
    fetched: &[Fetched],
) -> Result<Option<(Vec<LayerRecord>, Vec<LayerBlob>)>> {
    let mut layers = Vec::new();
    let mut layer_blobs = Vec::new();
    for (i, diff_id) in wanted.config.diff_ids.iter().enumerate() {
        let ours = fetched
            .iter()
            .filter(|f| wanted.config.diff_ids[f.i] == *diff_id);
        let unpacked = ours.clone().find_map(|f| f.layer.clone());
        match store.layer(diff_id)?.or(unpacked) {
            Some(layer) => layers.push(layer),
            None => return Ok(None),
        }
        let ours = ours.clone().find(|f| wanted.blob(f.i) == wanted.blob(i));
        let there = store.blob_size(ours.map_or(wanted.blob(i), |f| &f.blob.digest))?;
        layer_blobs.push(match (ours, &wanted.layers, there) {
            (Some(f), ..) if f.fresh || there.is_some() => f.blob.clone(),
            (None, Some(layers), Some(_)) => LayerBlob {
                diff_id: diff_id.clone(),
                media_type: layers[i].media_type.clone(),
                digest: layers[i].digest.clone(),
                size: layers[i].size,
            },
            (None, None, Some(size)) => LayerBlob {
                diff_id: diff_id.clone(),
                media_type: LayerBlob::media_type_of(Compression::None).to_owned(),
                digest: diff_id.clone(),
                size,
            },
            _ => return Ok(None),
        });
    }
    Ok(Some((layers, layer_blobs)))
}

/// What was fetched into the transaction becomes the store's.
fn move_layers(transaction: &Transaction<'_>, layers: &[LayerRecord]) -> Result<()> {
    let store = transaction.store();
    for record in layers {
        if store.layer(&record.diff_id)?.is_none() {
            let name = layer_name(&record.diff_id);
            // Its record first: a layer without one would be in nobody's way.
            for file in [format!("{name}.json"), record.file()] {
                std::fs::rename(transaction.path().join(&file), store.layers().join(&file))
                    .with_context(|| format!("rename(layers/{file})"))?;
            }
        }
    }
    Ok(())
}

fn move_blobs(transaction: &Transaction<'_>, fetched: &[Fetched]) -> Result<()> {
    let store = transaction.store();
    for blob in fetched.iter().filter(|f| f.fresh).map(|f| &f.blob.digest) {
        let from = transaction.blob(blob);
        // Of two layers' equal blobs one is enough.
        if from.exists() {
            std::fs::rename(&from, store.blobs().join(blob.hex()))
                .with_context(|| format!("rename({})", from.display()))?;
        }
    }
    Ok(())
}

/// The manifests and the configuration, which are blobs too; returns their digests.
fn write_documents(transaction: &Transaction<'_>, wanted: &Wanted) -> Result<Vec<Digest>> {
    let store = transaction.store();
    let mut blobs = Vec::new();
    for bytes in wanted.documents.iter().chain([&wanted.config_bytes]) {
        let digest = Digest::of(bytes);
        let path = store.blobs().join(digest.hex());
        if !path.exists() {
            let temporary = transaction.path().join("blob");
            std::fs::write(&temporary, bytes)
                .and_then(|()| std::fs::rename(&temporary, &path))
                .with_context(|| format!("write {}", path.display()))?;
        }
        blobs.push(digest);
    }
    Ok(blobs)
}

/// The lowerdirs, lowest first. overlayfs refuses one that appears twice
/// (ELOOP); of two the upper hides all that the lower could show. It merges the
/// roots of all layers whatever their attributes say, so that an opaque root
/// ends the stack here.
fn stack_of(layers: &[LayerRecord]) -> Vec<String> {
    let mut stack = Vec::new();
    for layer in layers.iter().rev() {
        let name = layer_name(&layer.diff_id);
        if !stack.contains(&name) {
            stack.push(name);
        }
        if layer.opaque_root {
            break;
        }
    }
    stack.reverse();
    stack
}

pub(crate) fn sync(dir: &Path) -> Result<()> {
    let fd = File::open(dir).with_context(|| format!("open({})", dir.display()))?;
    nix::unistd::syncfs(&fd).map_err(|e| Error::sys(format!("syncfs({})", dir.display()), e))
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
