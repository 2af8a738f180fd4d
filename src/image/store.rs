//! What is on the disk, and who may change it.
//!
//! ```text
//! <data>/images/
//!   lock                 held for every change below but in ingest/
//!   index.json           name -> image id and digest
//!   records/<hex>.json   one image: what lookup returns, ready made
//!   blobs/sha256/<hex>   manifests, indexes and configs, as they came
//!   layers/<32 hex>/     a layer unpacked, by the first half of its diffID
//!   layers/<32 hex>.json its whole diffID and size
//!   ingest/<name>/       a load or pull at work; its lock says whether it lives
//! ```
//!
//! Readers take no lock: every file appears by rename, and a record appears
//! after the layers that it names. An image is made in `ingest/` and published
//! at the end under the lock, layers first, name last, so that a crash leaves
//! nothing but a directory in `ingest/` whose lock is free, or layers and
//! records that no name leads to; the former is removed by the next to ingest,
//! which keeps its finished layers, the latter by the next removal.
//!
//! 128 bits of the diffID name a layer: short enough for a hundred lowerdirs
//! in a page of mount options. The whole diffID is compared before a layer is
//! shared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::transaction::Transaction;
use super::{Config, Image, Reference};
use crate::store::{Layout, Lock, load, make_dir, save_durable};
use crate::{Context, Error, Kind, Result};

const VERSION: u32 = 1;

/// The shortest id prefix that [`Store::lookup_any`] takes.
const MIN_ID_PREFIX: usize = 6;

/// The images of one data root.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// By canonical reference.
    pub names: BTreeMap<String, Name>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Name {
    pub id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub version: u32,
    pub id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The names of lowerdirs below `layers/`, lowest first.
    pub stack: Vec<String>,
    pub diff_ids: Vec<Digest>,
    pub blobs: Vec<Digest>,
    pub config: Config,
    pub size: u64,
    pub created: Option<String>,
    pub architecture: String,
    pub os: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerRecord {
    pub version: u32,
    pub diff_id: Digest,
    pub bytes: u64,
    pub entries: u64,
    pub opaque_root: bool,
}

/// What [`Store::remove`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that no longer lead to an image.
    pub untagged: Vec<String>,
    /// The ids of images that are gone.
    pub deleted: Vec<String>,
}

impl Store {
    /// The store of `layout`. Touches nothing: directories are made when
    /// something is put into them.
    pub fn open(layout: &Layout) -> Result<Store> {
        Ok(Store {
            root: layout.images(),
        })
    }

    /// The image of this name, if it is in the store. With a digest, the name
    /// must have been given that digest by its registry or archive; a tag
    /// beside it does not matter, as for a kubelet.
    pub fn lookup(&self, r: &Reference) -> Result<Option<Image>> {
        let index = self.index()?;
        match find(&index, r) {
            Some(name) => self.image(&name.id, name.digest.as_ref(), &index),
            None => Ok(None),
        }
    }

    /// The image of this name, id (with or without `sha256:`), id prefix of at
    /// least six digits, or manifest digest. A name wins over an id prefix. An
    /// ambiguous prefix is [`Kind::Invalid`].
    pub fn lookup_any(&self, s: &str) -> Result<Option<Image>> {
        let hex = s.strip_prefix("sha256:").unwrap_or(s);
        if let Ok(r) = s.parse::<Reference>()
            && let Some(image) = self.lookup(&r)?
        {
            return Ok(Some(image));
        }
        let index = self.index()?;
        if hex.len() < MIN_ID_PREFIX || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            // Not an id: then it should have been a name.
            s.parse::<Reference>()?;
            return Ok(None);
        }
        let ids = self.ids()?;
        let mut found = ids.iter().filter(|id| id.hex().starts_with(hex));
        if let Some(id) = found.next() {
            if found.next().is_some() {
                return Err(Error::invalid(format!(
                    "the id {s} is ambiguous: more than one image starts with it"
                )));
            }
            return self.image(id, None, &index);
        }
        for id in &ids {
            let Some(record) = self.record(id)? else {
                continue;
            };
            let has = |d: &Digest| d.hex() == hex;
            let named = index
                .names
                .values()
                .any(|n| n.id == *id && n.digest.as_ref().is_some_and(has));
            if named || record.digest.as_ref().is_some_and(has) {
                return self.image(id, None, &index);
            }
        }
        Ok(None)
    }

    /// All images, by their first name, the unnamed last.
    pub fn list(&self) -> Result<Vec<Image>> {
        let index = self.index()?;
        let mut images = Vec::new();
        for id in self.ids()? {
            images.extend(self.image(&id, None, &index)?);
        }
        images.sort_by(|a, b| {
            (a.names.is_empty(), &a.names, &a.id).cmp(&(b.names.is_empty(), &b.names, &b.id))
        });
        Ok(images)
    }

    /// Removes a name, and the image with its last name; or an image by its id
    /// with all its names, which takes `force` if there are several.
    ///
    /// An image that is `in_use` is not deleted ([`Kind::Conflict`]); with
    /// `force` it only loses the name. [`Kind::NotFound`] if there is none.
    pub fn remove(
        &self,
        name_or_id: &str,
        force: bool,
        in_use: &dyn Fn(&str) -> bool,
    ) -> Result<Removed> {
        if !self.root.exists() {
            return Err(absent(name_or_id));
        }
        let transaction = Transaction::begin(self)?;
        let lock = self.lock()?;
        let mut index = self.index()?;
        let by_name = name_or_id
            .parse::<Reference>()
            .ok()
            .and_then(|r| find_key(&index, &r).map(str::to_owned));
        let image = match &by_name {
            Some(key) => {
                let name = &index.names[key];
                self.image(&name.id.clone(), None, &index)?
            }
            None => self.lookup_any(name_or_id)?,
        }
        .ok_or_else(|| absent(name_or_id))?;
        let id = Digest::parse(&image.id)?;
        let keys: Vec<String> = match by_name {
            Some(key) => vec![key],
            None => index
                .names
                .iter()
                .filter(|(_, n)| n.id == id)
                .map(|(k, _)| k.clone())
                .collect(),
        };
        if keys.len() > 1 && !force {
            return Err(Error::conflict(format!(
                "image {name_or_id} has several names: {}",
                keys.join(", ")
            ))
            .hint("remove it by name, or use --force"));
        }
        let others = index
            .names
            .iter()
            .any(|(k, n)| n.id == id && !keys.contains(k));
        let used = in_use(&image.id);
        if used && !others && (!force || keys.is_empty()) {
            return Err(
                Error::conflict(format!("image {name_or_id} is in use by a pod"))
                    .hint("delete the pods that use it first"),
            );
        }
        for key in &keys {
            index.names.remove(key);
        }
        let mut removed = Removed {
            untagged: keys,
            ..Removed::default()
        };
        self.save_index(&index)?;
        if !others && !used {
            // The record first: what it names may then go in any order.
            remove_file(&self.record_path(&id))?;
            removed.deleted.push(image.id);
            self.sweep(&transaction)?;
        }
        drop(lock);
        Ok(removed)
    }

    /// Takes what no record names to the transaction's directory, which is
    /// deleted after the lock is free. The lock is held.
    fn sweep(&self, transaction: &Transaction<'_>) -> Result<()> {
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for id in self.ids()? {
            if let Some(record) = self.record(&id)? {
                layers.extend(record.diff_ids.iter().map(layer_name));
                layers.extend(record.stack);
                blobs.extend(record.blobs.iter().map(|d| d.hex().to_owned()));
            }
        }
        for name in names_in(&self.layers())? {
            let layer = name.strip_suffix(".json").unwrap_or(&name);
            if !layers.contains(layer) {
                let from = self.layers().join(&name);
                std::fs::rename(&from, transaction.path().join(&name))
                    .with_context(|| format!("rename({})", from.display()))?;
            }
        }
        for name in names_in(&self.blobs())? {
            if !blobs.contains(&name) {
                remove_file(&self.blobs().join(name))?;
            }
        }
        Ok(())
    }

    pub(super) fn image(
        &self,
        id: &Digest,
        digest: Option<&Digest>,
        index: &Index,
    ) -> Result<Option<Image>> {
        let Some(record) = self.record(id)? else {
            return Ok(None);
        };
        let layers = self.layers();
        Ok(Some(Image {
            digest: digest.or(record.digest.as_ref()).map(Digest::to_string),
            names: index
                .names
                .iter()
                .filter(|(_, n)| n.id == *id)
                .map(|(k, _)| k.clone())
                .collect(),
            id: record.id.into(),
            config: record.config,
            layers: record.stack.iter().map(|l| layers.join(l)).collect(),
            size: record.size,
            created: record.created,
            architecture: record.architecture,
            os: record.os,
        }))
    }

    pub(super) fn index(&self) -> Result<Index> {
        match load::<Index>(&self.root.join("index.json")) {
            Ok(index) if index.version == VERSION => Ok(index),
            Ok(index) => Err(Error::unsupported(format!(
                "the image store {} has version {}, not {VERSION}",
                self.root.display(),
                index.version
            ))),
            Err(e) if e.kind() == Kind::NotFound => Ok(Index {
                version: VERSION,
                names: BTreeMap::new(),
            }),
            Err(e) => Err(e),
        }
    }

    /// The lock is held.
    pub(super) fn save_index(&self, index: &Index) -> Result<()> {
        save_durable(&self.root.join("index.json"), index)
    }

    /// The lock is held.
    pub(super) fn save_record(&self, record: &Record) -> Result<()> {
        make_dir(&self.root.join("records"))?;
        save_durable(&self.record_path(&record.id), record)
    }

    pub(super) fn record(&self, id: &Digest) -> Result<Option<Record>> {
        match load(&self.record_path(id)) {
            Ok(record) => Ok(Some(record)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn record_path(&self, id: &Digest) -> PathBuf {
        self.root.join("records").join(format!("{}.json", id.hex()))
    }

    fn ids(&self) -> Result<Vec<Digest>> {
        Ok(names_in(&self.root.join("records"))?
            .iter()
            .filter_map(|n| Digest::parse(&format!("sha256:{}", n.strip_suffix(".json")?)).ok())
            .collect())
    }

    /// A published layer. One whose name collides with `diff_id`'s is an error.
    pub(super) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        let name = layer_name(diff_id);
        if !self.layers().join(&name).is_dir() {
            return Ok(None);
        }
        let record: LayerRecord = load(&self.layers().join(format!("{name}.json")))?;
        if record.diff_id != *diff_id {
            return Err(Error::failed(format!(
                "the layers {} and {diff_id} share half their digest",
                record.diff_id
            )));
        }
        Ok(Some(record))
    }

    pub(super) fn lock(&self) -> Result<Lock> {
        Lock::acquire(&self.root.join("lock"))
    }
    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }
    pub(super) fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }
}

/// The directory of a layer below `layers/`.
pub(super) fn layer_name(diff_id: &Digest) -> String {
    diff_id.hex()[..32].to_owned()
}

fn find<'a>(index: &'a Index, r: &Reference) -> Option<&'a Name> {
    index.names.get(find_key(index, r)?)
}

fn find_key<'a>(index: &'a Index, r: &Reference) -> Option<&'a str> {
    if let Some((key, _)) = index.names.get_key_value(&r.to_string()) {
        return Some(key);
    }
    let digest = r.digest()?;
    index
        .names
        .iter()
        .find(|(key, name)| {
            name.digest.as_ref().is_some_and(|d| d.as_str() == digest)
                && key.parse::<Reference>().is_ok_and(|k| k.name() == r.name())
        })
        .map(|(key, _)| key.as_str())
}

/// The names in a directory; none if it does not exist.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).context(format!("open({})", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("getdents({})", dir.display()))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(format!("unlink({})", path.display()))
        }
        _ => Ok(()),
    }
}

fn absent(name_or_id: &str) -> Error {
    Error::not_found(format!("image {name_or_id} is not in the store"))
        .hint("carob images lists what is")
}
