//! Where an image is made before it is in the store: a directory of its own in
//! `ingest/`, under a lock that its process' death frees, and what becomes of the
//! directories of the dead.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::image::digest::Digest;
use crate::image::store::index::{LayerRecord, Store, layer_name, names_in};
use crate::image::store::ingest::sync;
use crate::store::{Lock, is_full, load, make_dir};
use crate::{Context, Error, Ignored, Result};

/// In a transaction's directory: this boot's id, and that finished layers there
/// may be adopted.
const MARK: &str = "boot";

/// A directory in `ingest/`, removed when dropped or, after a crash, by the
/// next transaction to begin.
pub(crate) struct Transaction<'a> {
    store: &'a Store,
    dir: PathBuf,
    _alive: Lock,
}

impl<'a> Transaction<'a> {
    pub(crate) fn begin(store: &'a Store) -> Result<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        make_dir(&store.ingest_dir())?;
        let lock = store.lock()?;
        let dead = collect_dead(&store.ingest_dir())?;
        let name = format!(
            "{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let dir = store.ingest_dir().join(name);
        make_dir(&dir)?;
        let alive = Lock::acquire(&dir.join("lock")).inspect_err(|_| {
            std::fs::remove_dir_all(&dir).ignored("the next transaction removes what stays");
        })?;
        store.remove_temporaries()?;
        for (path, _) in &dead {
            adopt(store, path)?;
        }
        drop(lock);
        for (path, held) in dead {
            remove_dead(&path)?;
            drop(held);
        }
        Ok(Transaction {
            store,
            dir,
            _alive: alive,
        })
    }

    /// For a removal: `None` if the disk has not even room for a directory.
    pub(crate) fn begin_removal(store: &'a Store) -> Result<Option<Self>> {
        match Transaction::begin(store) {
            Err(e) if is_full(&e) => Ok(None),
            other => other.map(Some),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    /// Finished layers are adopted should this process be killed. Not by `begin`:
    /// a removal moves layers out of the store into its transaction, and wants none
    /// of them back.
    pub(crate) fn keep_if_killed(&self) -> Result<()> {
        let mark = self.dir.join(MARK);
        std::fs::write(&mark, boot_id()?).with_context(|| format!("write {}", mark.display()))
    }

    /// Where a layer's blob is once it is verified.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.blob", digest.hex()))
    }

    /// What is finished goes into the store now, as it would after a kill.
    pub(crate) fn keep_finished(&self) -> Result<()> {
        let _lock = self.store.lock()?;
        adopt(self.store, &self.dir)
    }

    /// A file without a name, for what must be read twice.
    pub(crate) fn scratch_file(&self) -> Result<File> {
        use nix::fcntl::{OFlag, open};
        use nix::sys::stat::Mode;
        let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let fd: OwnedFd = open(&self.dir, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|e| Error::sys(format!("open({}, O_TMPFILE)", self.dir.display()), e))?;
        Ok(File::from(fd))
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // First: a directory half removed must not be adopted from.
        match std::fs::remove_file(self.dir.join(MARK)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                log::debug!("{} stays whole: {MARK}: {e}", self.dir.display());
            }
            _ => std::fs::remove_dir_all(&self.dir)
                .ignored("the next transaction removes what stays"),
        }
    }
}

/// Directories whose process is gone, each with its lock. The store's lock is
/// held, under which a new directory is made and locked.
fn collect_dead(ingest: &Path) -> Result<Vec<(PathBuf, Lock)>> {
    let mut dead = Vec::new();
    let entries =
        std::fs::read_dir(ingest).with_context(|| format!("open({})", ingest.display()))?;
    for entry in entries {
        let path = entry.context("getdents(ingest)")?.path();
        match Lock::try_acquire(&path.join("lock")) {
            Ok(Some(lock)) => dead.push((path, lock)),
            Ok(None) => {}
            // Removed by its owner between the two calls.
            Err(_) if !path.exists() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(dead)
}

/// Removes a directory that [`collect_dead`] found. The store's lock is free again by
/// now, so that two others may be at it, too: the owner, which is just ending, and the
/// next transaction to begin, which makes a lock file anew where ours is removed
/// already, and then removes the rest itself.
fn remove_dead(path: &Path) -> Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match std::fs::remove_dir_all(path) {
        Err(e) if !matches!(e.kind(), NotFound | DirectoryNotEmpty) => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Takes the finished layers and blobs of a killed transaction into the store,
/// where the next to want them finds them and the next removal sweeps them if nobody
/// does.
///
/// A layer's record is written, and a blob gets its name, after the content was
/// verified, so that a kill leaves either both or neither. A power cut may leave the
/// record and lose content that was not synced: what another boot has left is not
/// trusted, and what is taken is synced first. The store's lock is held, and the
/// dead one's.
fn adopt(store: &Store, dead: &Path) -> Result<()> {
    let mark = dead.join(MARK);
    match std::fs::read_to_string(&mark) {
        Ok(boot) if boot == boot_id()? => {}
        _ => return Ok(()),
    }
    let mut moves = Vec::new();
    for file in names_in(dead)? {
        let Some((stem, kind)) = file.rsplit_once('.') else {
            continue;
        };
        let blob = Digest::parse(&format!("sha256:{stem}"));
        if let (Ok(blob), "blob") = (blob, kind) {
            if store.blob_size(&blob)?.is_none() {
                moves.push((file, store.blobs().join(blob.hex())));
            }
            continue;
        }
        // A whole record by a temporary name has lost the race with the kill.
        if kind != "json" {
            continue;
        }
        let Ok(record) = load::<LayerRecord>(&dead.join(&file)) else {
            continue;
        };
        let name = layer_name(&record.diff_id);
        let layer = record.file();
        if dead.join(&layer).exists() && !store.layer_path(&name).exists() {
            // The record first, as in `publish`.
            let to = store.layers().join(&file);
            moves.push((file, to));
            let to = store.layers().join(&layer);
            moves.push((layer, to));
        }
    }
    if !moves.is_empty() {
        make_dir(&store.layers())?;
        make_dir(&store.blobs())?;
        sync(dead)?;
    }
    for (from, to) in moves {
        std::fs::rename(dead.join(&from), &to)
            .with_context(|| format!("rename({})", to.display()))?;
    }
    // Before it is taken apart.
    std::fs::remove_file(&mark).with_context(|| format!("unlink({})", mark.display()))
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
}
