//! One layer from its source to the transaction: its bytes as they came, verified,
//! and unpacked.
//!
//! The stream goes through these, each in the one before:
//!
//! 1. the source, watched: progress, and an early end if another layer went wrong;
//! 2. the partial file: first what is there from before, then what is written to it;
//! 3. the blob's size and digest;
//! 4. gzip, zstd or nothing;
//! 5. a thread of its own from here on, unless the layer is small;
//! 6. the diffID;
//! 7. the unpacker, or nothing if the store has the layer and lacks the blob alone.
//!
//! What the store has is its own source: a layer that is missing is unpacked from
//! the blob that is there.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

use nix::errno::Errno;

use crate::image::Progress;
use crate::image::archive::compression::{self, Compression};
use crate::image::digest::{Digest, HashingReader};
use crate::image::layer::erofs;
use crate::image::layer::form::LayerForm;
use crate::image::layer::relay::relay;
use crate::image::layer::unpack::Unpacked;
use crate::image::limits::{Bounded, Budget, Counted};
use crate::image::manifest::Descriptor;
use crate::image::store::index::{LayerBlob, LayerRecord, layer_name};
use crate::image::store::ingest::Wanted;
use crate::image::store::partial::Partial;
use crate::image::store::transaction::Transaction;
use crate::store::save;
use crate::{Context, Error, Ignored, Kind, Result};

/// Layers at work at once, each in two threads: some wait for the network or the
/// disk. As many as docker pulls.
pub(crate) const PARALLEL: usize = 3;

/// A layer of fewer bytes is not worth a thread.
const SMALL: u64 = 256 << 10;

/// Progress is told once per so many bytes of a layer.
const PROGRESS_STEP: u64 = 1 << 20;

const STOPPED: &str = "stopped as another layer went wrong";

/// Where layers come from. Asked from several threads.
pub(crate) trait LayerSource: Sync {
    /// The layer's bytes, compressed or not. Short, long or wrong content is
    /// the reader's to find out.
    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + '_>>;

    /// How many bytes it has, where that is known and not only promised.
    fn layer_size(&self, _index: usize) -> Option<u64> {
        None
    }

    /// From its byte `offset` on.
    fn open_layer_at(&self, index: usize, offset: u64) -> Result<Box<dyn Read + '_>> {
        let mut layer = self.open_layer(index)?;
        let passed = io::copy(&mut (&mut layer).take(offset), &mut io::sink());
        if passed.with_context(|| "pass over what is here")? < offset {
            return Err(Error::invalid(format!("it ends before byte {offset}")));
        }
        Ok(layer)
    }
}

/// What is to be done for a layer.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub i: usize,
    /// The store lacks it unpacked.
    pub unpack: bool,
    /// The store has its blob.
    pub stored: bool,
}

/// What a transaction has of a layer now, beside what the store has.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub i: usize,
    pub layer: Option<LayerRecord>,
    pub blob: LayerBlob,
    /// The blob is in the transaction.
    pub fresh: bool,
}

/// Does the jobs, `PARALLEL` at a time, in threads that end here. After an error
/// those that were done are in the transaction's directory.
pub(crate) fn fetch(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    source: &dyn LayerSource,
    jobs: &[Job],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Fetched>> {
    let form = transaction.store().layer_form()?;
    if jobs.iter().any(|j| j.unpack) {
        form.probe(transaction.path())?;
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let unpacked = AtomicU64::new(stored_content(transaction, wanted)?);
    std::thread::scope(|scope| {
        let (events, received) = mpsc::channel();
        let workers: Vec<_> = (0..PARALLEL.min(jobs.len()))
            .map(|_| {
                let events = events.clone();
                let (next, stop, unpacked) = (&next, &stop, &unpacked);
                scope.spawn(move || -> Result<Vec<Fetched>> {
                    let mut done = Vec::new();
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let layer = Layer {
                            transaction,
                            wanted,
                            source,
                            job,
                            form,
                            events: &events,
                            stop,
                            unpacked,
                        };
                        let fetched = layer
                            .fetch()
                            .with_context(|| format!("layer {}", wanted.shown(job.i)))
                            .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                        done.push(fetched);
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

struct Layer<'a> {
    transaction: &'a Transaction<'a>,
    wanted: &'a Wanted,
    source: &'a dyn LayerSource,
    job: &'a Job,
    form: LayerForm,
    events: &'a mpsc::Sender<Progress>,
    stop: &'a AtomicBool,
    /// The content of the image's files so far.
    unpacked: &'a AtomicU64,
}

/// The content of those of the image's layers that the store has.
fn stored_content(transaction: &Transaction<'_>, wanted: &Wanted) -> Result<u64> {
    let mut sum = 0u64;
    let distinct: HashSet<&Digest> = wanted.config.diff_ids.iter().collect();
    for diff_id in distinct {
        let layer = transaction.store().layer(diff_id)?;
        sum = sum.saturating_add(layer.map_or(0, |l| l.bytes));
    }
    Ok(sum)
}

/// What a stream turned out to be.
struct Seen {
    blob: Digest,
    size: u64,
    compression: Compression,
    unpacked: Option<Unpacked>,
}

impl Layer<'_> {
    fn descriptor(&self) -> Option<&Descriptor> {
        self.wanted.layers.as_ref().map(|l| &l[self.job.i])
    }

    fn fetch(&self) -> Result<Fetched> {
        match self.descriptor() {
            Some(layer) => log::debug!("layer {} ({} bytes)", layer.digest, layer.size),
            None => log::debug!("layer {} of an archive", self.job.i),
        }
        if let Some(seen) = self.read_stored()? {
            log::debug!("layer {}: its content is in the store", self.job.i);
            return self.done(seen, false);
        }
        let digest = self.descriptor().map(|d| &d.digest);
        let mut partial = Partial::open(self.transaction, digest, self.job.i)?;
        loop {
            let mut from = partial.len()?;
            if self.descriptor().is_some_and(|d| from > d.size) {
                partial.clear()?;
                from = 0;
            }
            let source_failed = Cell::new(false);
            let failure = RefCell::new(None);
            let result = self.through_partial(&mut partial, from, &source_failed, &failure);
            let e = match result {
                Ok(seen) => {
                    partial.finish(self.transaction, &seen.blob)?;
                    return self.done(seen, true);
                }
                Err(e) => failure.take().unwrap_or(e),
            };
            match judge(e, source_failed.get()) {
                // What was here from before may be what is wrong.
                e if from > 0 && e.kind() == Kind::Invalid => partial.clear()?,
                e => {
                    // Nothing of it has come, or nothing will come of it.
                    if !is_passing(&e) || partial.len().is_ok_and(|n| n == 0) {
                        partial.remove();
                    }
                    return Err(e);
                }
            }
        }
    }

    fn through_partial(
        &self,
        partial: &mut Partial,
        from: u64,
        source_failed: &Cell<bool>,
        failure: &RefCell<Option<Error>>,
    ) -> Result<Seen> {
        let size = self.descriptor().map_or(0, |d| d.size);
        let whole = self.descriptor().is_some_and(|d| from == d.size);
        let rest: Box<dyn Read + '_> = match whole {
            true => Box::new(io::empty()),
            false => self
                .source
                .open_layer_at(self.job.i, from)
                .inspect_err(|_| source_failed.set(true))?,
        };
        let watched = Watched {
            inner: rest,
            failed: source_failed,
            layer: self.wanted.shown(self.job.i),
            done: from,
            told: from,
            size,
            events: self.events,
            stop: self.stop,
        };
        // A registry's word, or the archive's own size.
        let size = match (self.source.layer_size(self.job.i), self.descriptor()) {
            (Some(there), Some(d)) => there.min(d.size),
            (there, d) => there.or(d.map(|d| d.size)).unwrap_or(u64::MAX),
        };
        self.read(partial.tee(watched, failure)?, size)
    }

    /// From the store's blob, if it is there and what it should be: one that has
    /// rotted is fetched anew, and replaced.
    fn read_stored(&self) -> Result<Option<Seen>> {
        if !self.job.stored {
            return Ok(None);
        }
        let digest = match self.descriptor() {
            Some(d) => &d.digest,
            // Plain, as in most docker-archives.
            None => &self.wanted.config.diff_ids[self.job.i],
        };
        let path = self.transaction.store().blobs().join(digest.hex());
        let file = match File::open(&path) {
            Ok(file) => file,
            // Removed meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(format!("open({})", path.display())),
        };
        let size = file.metadata().context("fstat")?.len();
        match self.read(file, size) {
            Ok(seen) => Ok(Some(seen)),
            Err(e) => match judge(e, false) {
                e if e.kind() == Kind::Invalid => Ok(None),
                e => Err(e),
            },
        }
    }

    /// Reads it to its end, and compares all that is known of it. It should have
    /// `size` bytes.
    fn read<R: Read>(&self, bytes: R, size: u64) -> Result<Seen> {
        let limits = &self.transaction.store().limits;
        let come = AtomicU64::new(0);
        let budget = Budget::layer(limits, size, &come, self.unpacked);
        let diff_id = &self.wanted.config.diff_ids[self.job.i];
        let descriptor = self.descriptor();
        if descriptor.map_or(size, |d| d.size) > limits.blob_size {
            return Err(limits.exceeded("blob-size", "it has more bytes, as it comes,"));
        }
        let limit = descriptor.map_or(limits.blob_size, |d| d.size);
        let mut head = Head {
            inner: Counted {
                inner: bytes,
                count: &come,
            },
            head: [0; 4],
            have: 0,
        };
        let mut blob = HashingReader::new(&mut head, limit, "blob");
        let plain = Bounded::new(
            compression::open_within(&mut blob, limits.zstd_window)?,
            &budget,
        );
        let (found, unpacked) = match size < SMALL {
            true => self.take(plain, &budget)?,
            false => self.take_beside(plain, &budget)?,
        };
        let size = blob.count();
        let digest = blob.digest();
        if let Some(d) = descriptor {
            if size != d.size {
                return Err(Error::invalid(format!(
                    "its size is {size} bytes, not {} as the manifest says",
                    d.size
                )));
            }
            if digest != d.digest {
                return Err(Error::invalid(format!(
                    "its content has the digest {digest}"
                )));
            }
        }
        if found != *diff_id {
            return Err(Error::invalid(format!(
                "its unpacked content has the digest {found}, but the config says {diff_id}"
            )));
        }
        budget.keep();
        Ok(Seen {
            blob: digest,
            size,
            compression: compression::detect(&head.head[..head.have]),
            unpacked,
        })
    }

    /// The layer's plain bytes: their digest, and what was unpacked of them.
    fn take<R: Read>(&self, plain: R, budget: &Budget<'_>) -> Result<(Digest, Option<Unpacked>)> {
        // The budget has bounded it already.
        let mut plain = HashingReader::new(plain, u64::MAX, "unpacked layer");
        let unpacked = match self.job.unpack {
            true => {
                let diff_id = &self.wanted.config.diff_ids[self.job.i];
                let (dir, name) = (self.transaction.path(), layer_name(diff_id));
                Some(self.form.make(&mut plain, dir, &name, diff_id, budget)?)
            }
            false => {
                io::copy(&mut plain, &mut io::sink())?;
                None
            }
        };
        Ok((plain.digest(), unpacked))
    }

    /// The same while the next bytes are read and inflated.
    fn take_beside<R: Read>(
        &self,
        plain: R,
        budget: &Budget<'_>,
    ) -> Result<(Digest, Option<Unpacked>)> {
        let (feed, relayed) = relay();
        std::thread::scope(|scope| {
            let taker = scope.spawn(move || self.take(relayed, budget));
            let fed = feed.all(plain);
            let taken = taker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // If the stream broke, the taker's error is only that it did.
            fed?;
            taken
        })
    }

    fn done(&self, seen: Seen, fresh: bool) -> Result<Fetched> {
        let diff_id = &self.wanted.config.diff_ids[self.job.i];
        let layer = seen.unpacked.map(|unpacked| LayerRecord {
            version: 1,
            diff_id: diff_id.clone(),
            blob: Some(seen.blob.clone()),
            bytes: unpacked.bytes,
            entries: unpacked.entries,
            opaque_root: unpacked.opaque_root,
            erofs: (self.form == LayerForm::Erofs).then_some(erofs::LAYOUT),
        });
        if let Some(layer) = &layer {
            let record = format!("{}.json", layer_name(diff_id));
            save(&self.transaction.path().join(record), layer)?;
        }
        let unpacked = Progress::Unpacked {
            layer: self.wanted.shown(self.job.i),
        };
        self.events
            .send(unpacked)
            .ignored("the thread that shows progress has ended");
        let media_type = match self.descriptor() {
            Some(d) => d.media_type.clone(),
            None => LayerBlob::media_type_of(seen.compression).to_owned(),
        };
        Ok(Fetched {
            i: self.job.i,
            layer,
            blob: LayerBlob {
                diff_id: diff_id.clone(),
                media_type,
                digest: seen.blob,
                size: seen.size,
            },
            fresh,
        })
    }
}

/// An error that is neither the source's nor the kernel's is the content's; so are
/// those of the kernel's that another attempt would end with again.
fn judge(e: Error, source_failed: bool) -> Error {
    use Errno::{EFBIG, EINVAL, EISDIR, ELOOP, EMLINK, ENAMETOOLONG, ENOTDIR};
    let lasting = [EFBIG, EINVAL, EISDIR, ELOOP, EMLINK, ENAMETOOLONG, ENOTDIR];
    match e.kind() {
        Kind::Failed if !source_failed && e.errno().is_none_or(|n| lasting.contains(&n)) => {
            e.with_kind(Kind::Invalid)
        }
        _ => e,
    }
}

/// Whether the next attempt may go on with what this one has: not where the image
/// is wrong, nor where a disk is full and an image that does not fit fills it.
pub(crate) fn is_passing(e: &Error) -> bool {
    !matches!(e.kind(), Kind::Invalid | Kind::Unsupported)
        && !matches!(e.errno(), Some(Errno::ENOSPC | Errno::EDQUOT))
}

/// Remembers how a stream begins.
struct Head<R> {
    inner: R,
    head: [u8; 4],
    have: usize,
}

impl<R: Read> Read for Head<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        let more = n.min(self.head.len() - self.have);
        self.head[self.have..self.have + more].copy_from_slice(&buf[..more]);
        self.have += more;
        Ok(n)
    }
}

/// Tells of progress, and ends early once another layer went wrong.
struct Watched<'a, R> {
    inner: R,
    /// It was the source that ended the stream.
    failed: &'a Cell<bool>,
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
            self.failed.set(true);
            return Err(io::Error::other(STOPPED));
        }
        let n = self.inner.read(buf).inspect_err(|e| {
            self.failed.set(e.kind() != io::ErrorKind::Interrupted);
        })?;
        self.done += n as u64;
        if self.done - self.told >= PROGRESS_STEP || (n == 0 && self.told < self.done) {
            self.told = self.done;
            let progress = Progress::Layer {
                layer: self.layer.clone(),
                done: self.done,
                size: self.size,
            };
            self.events
                .send(progress)
                .ignored("the thread that shows progress has ended");
        }
        Ok(n)
    }
}
