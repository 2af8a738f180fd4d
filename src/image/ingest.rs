//! Bytes become an image of the store: verified, unpacked, published at once.
//!
//! The order, which a crash may cut anywhere:
//!
//! 1. a directory of our own in `ingest/`, locked as long as we live;
//! 2. every layer that the store lacks is unpacked into it, its size, digest
//!    and diffID verified on the way; two at a time, in threads that end here;
//! 3. one syncfs(2): what a name leads to must survive a power cut whole;
//! 4. under the store's lock: layers, blobs, record, name. A layer that we
//!    relied on and that was removed meanwhile sends us back to 2.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::digest::{Digest, HashingReader};
use super::manifest::{Descriptor, ImageConfig, MAX_LAYERS};
use super::store::{LayerRecord, Name, Record, layer_name};
use super::transaction::Transaction;
use super::unpack::unpack;
use super::{Image, Progress, Reference, compression};
use crate::store::{make_dir, save};
use crate::{Context, Error, Kind, Result};

/// A layer unpacked: bounds what a few megabytes of zeros can become.
const MAX_LAYER_BYTES: u64 = 64 << 30;
/// A layer as it comes.
const MAX_BLOB_BYTES: u64 = 64 << 30;

/// Layers at work at once: one inflates while another writes, or waits.
const PARALLEL: usize = 2;

/// Progress is told once per so many bytes of a layer.
const PROGRESS_STEP: u64 = 1 << 20;

/// Stands in for the layers of an image that has none: overlayfs wants one.
const EMPTY_LAYER: &str = "00000000000000000000000000000000";

/// An image to be made, but for its layers' content.
pub struct Wanted {
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

/// Where layers come from. Asked from several threads.
pub trait LayerSource: Sync {
    /// The layer's bytes, compressed or not. Short, long or wrong content is
    /// the reader's to find out.
    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + '_>>;
}

/// Makes the image, from what the store has and `source` gives.
pub fn ingest(
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
    if layers > MAX_LAYERS {
        return Err(Error::invalid(format!(
            "the image has {layers} layers, more than {MAX_LAYERS}"
        )));
    }
    let store = transaction.store();
    transaction.keep_if_killed()?;
    let mut staged: HashMap<Digest, LayerRecord> = HashMap::new();
    loop {
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for (i, diff_id) in diff_ids.iter().enumerate() {
            if staged.contains_key(diff_id) || !seen.insert(diff_id) {
                continue;
            }
            if store.layer(diff_id)?.is_some() {
                progress(Progress::Exists {
                    layer: wanted.shown(i),
                });
            } else {
                missing.push(i);
            }
        }
        if !missing.is_empty() {
            for (i, record) in fetch(transaction, wanted, source, &missing, progress)? {
                staged.insert(diff_ids[i].clone(), record);
            }
            sync(transaction.path())?;
        }
        if let Some(image) = publish(transaction, wanted, &mut staged)? {
            return Ok(image);
        }
    }
}

impl Wanted {
    /// A layer for people: its digest, or diffID where there is none.
    fn shown(&self, i: usize) -> String {
        match &self.layers {
            Some(layers) => layers[i].digest.to_string(),
            None => self.config.diff_ids[i].to_string(),
        }
    }
}

fn fetch(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    source: &dyn LayerSource,
    missing: &[usize],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<(usize, LayerRecord)>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (events, received) = mpsc::channel();
        let workers: Vec<_> = (0..PARALLEL.min(missing.len()))
            .map(|_| {
                let events = events.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || -> Result<Vec<(usize, LayerRecord)>> {
                    let mut done = Vec::new();
                    while let Some(&i) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let record = fetch_layer(transaction, wanted, source, i, &events, stop)
                            .with_context(|| format!("layer {}", wanted.shown(i)))
                            .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                        done.push((i, record));
                    }
                    Ok(done)
                })
            })
            .collect();
        drop(events);
        for event in received {
            progress(event);
        }
        let mut all = Vec::new();
        let mut first: Option<Error> = None;
        for worker in workers {
            match worker.join() {
                Ok(Ok(done)) => all.extend(done),
                // Of two, the cause is the one that did not just stop.
                Ok(Err(e)) if first.is_none() || !e.to_string().contains(STOPPED) => {
                    first = Some(e);
                }
                Ok(Err(_)) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        first.map_or(Ok(all), Err)
    })
}

const STOPPED: &str = "stopped as another layer went wrong";

fn fetch_layer(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    source: &dyn LayerSource,
    i: usize,
    events: &mpsc::Sender<Progress>,
    stop: &AtomicBool,
) -> Result<LayerRecord> {
    let descriptor = wanted.layers.as_ref().map(|l| &l[i]);
    let diff_id = &wanted.config.diff_ids[i];
    let dir = transaction.path().join(layer_name(diff_id));
    // A layer that was unpacked before and lost a race is unpacked again.
    if dir.exists() {
        // Its record first, which says that the directory is whole.
        let record = dir.with_extension("json");
        match std::fs::remove_file(&record) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).context(format!("unlink({})", record.display()));
            }
            _ => {}
        }
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .and_then(|()| {
            // Not by umask: it becomes the mode of / in the container.
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
        })
        .with_context(|| format!("mkdir({})", dir.display()))?;
    let target = File::open(&dir).with_context(|| format!("open({})", dir.display()))?;

    let size = descriptor.map_or(MAX_BLOB_BYTES, |d| d.size.min(MAX_BLOB_BYTES));
    let mut blob = HashingReader::new(
        Watched {
            inner: source.open_layer(i)?,
            layer: wanted.shown(i),
            done: 0,
            told: 0,
            size: descriptor.map_or(0, |d| d.size),
            events,
            stop,
        },
        size,
        "blob",
    );
    let mut plain = HashingReader::new(
        compression::open(&mut blob)?,
        MAX_LAYER_BYTES,
        "unpacked layer",
    );
    let unpacked = unpack(&mut plain, OwnedFd::from(target))?;
    let found = plain.digest();
    if let Some(d) = descriptor {
        if blob.count() != d.size {
            return Err(Error::invalid(format!(
                "its size is {} bytes, not {} as the manifest says",
                blob.count(),
                d.size
            )));
        }
        let found = blob.digest();
        if found != d.digest {
            return Err(Error::invalid(format!(
                "its content has the digest {found}"
            )));
        }
    }
    if found != *diff_id {
        return Err(Error::invalid(format!(
            "its unpacked content has the digest {found}, but the config says {diff_id}"
        )));
    }
    let _ = events.send(Progress::Unpacked {
        layer: wanted.shown(i),
    });
    let record = LayerRecord {
        version: 1,
        diff_id: diff_id.clone(),
        bytes: unpacked.bytes,
        entries: unpacked.entries,
        opaque_root: unpacked.opaque_root,
    };
    save(&dir.with_extension("json"), &record)?;
    Ok(record)
}

/// Tells of progress, and ends early once another layer went wrong.
struct Watched<'a, R> {
    inner: R,
    layer: String,
    done: u64,
    told: u64,
    size: u64,
    events: &'a mpsc::Sender<Progress>,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(STOPPED));
        }
        let n = self.inner.read(buf)?;
        self.done += n as u64;
        if self.done - self.told >= PROGRESS_STEP || (n == 0 && self.told < self.done) {
            self.told = self.done;
            let _ = self.events.send(Progress::Layer {
                layer: self.layer.clone(),
                done: self.done,
                size: self.size,
            });
        }
        Ok(n)
    }
}

/// Everything at once under the store's lock, the name last. `None` if a layer
/// that was there has been removed since.
fn publish(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    staged: &mut HashMap<Digest, LayerRecord>,
) -> Result<Option<Image>> {
    let store = transaction.store();
    make_dir(&store.layers())?;
    make_dir(&store.blobs())?;
    let _lock = store.lock()?;
    let mut layers = Vec::new();
    for diff_id in &wanted.config.diff_ids {
        match (store.layer(diff_id)?, staged.get(diff_id)) {
            (Some(there), _) => layers.push(there),
            (None, Some(ours)) => layers.push(ours.clone()),
            (None, None) => return Ok(None),
        }
    }
    for record in &layers {
        if store.layer(&record.diff_id)?.is_none() {
            let name = layer_name(&record.diff_id);
            // Its record first: a layer without one would be in nobody's way.
            for file in [format!("{name}.json"), name] {
                std::fs::rename(transaction.path().join(&file), store.layers().join(&file))
                    .with_context(|| format!("rename(layers/{file})"))?;
            }
            staged.remove(&record.diff_id);
        }
    }
    let mut stack = stack_of(&layers);
    if stack.is_empty() {
        let empty = store.layers().join(EMPTY_LAYER);
        make_dir(&empty)?;
        std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("chmod({})", empty.display()))?;
        stack.push(EMPTY_LAYER.to_owned());
    }
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
    // Small, and on the disk before the record that names them.
    sync(&store.layers())?;
    let id = Digest::of(&wanted.config_bytes);
    let config = &wanted.config;
    store.save_record(&Record {
        version: 1,
        id: id.clone(),
        digest: wanted.digest.clone(),
        stack,
        diff_ids: config.diff_ids.clone(),
        blobs,
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

fn sync(dir: &Path) -> Result<()> {
    let fd = File::open(dir).with_context(|| format!("open({})", dir.display()))?;
    nix::unistd::syncfs(&fd).map_err(|e| Error::sys(format!("syncfs({})", dir.display()), e))
}
