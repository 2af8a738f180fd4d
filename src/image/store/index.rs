//! What is on the disk, and who may change it.
//!
//! ```text
//! <data>/images/
//!   lock                 held for every change below but in ingest/
//!   index.json           name -> image id and digest
//!   index.json.spare     room to write it when an image goes and the disk is full
//!   records/<hex>.json   one image: what lookup returns, ready made
//!   blobs/sha256/<hex>   manifests, indexes, configs and layers, as they came
//!   layers/<32 hex>/     a layer unpacked, by the first half of its diffID; or
//!   layers/<32 hex>.erofs   the same as a file that the kernel mounts
//!   layers/<32 hex>.json its whole diffID and size, and which of the two it is
//!   settings.json        which of the two the next layers become
//!   partial/<hex>        a layer's blob on its way, locked by who fetches it
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

use crate::image::archive::compression::Compression;
use crate::image::digest::Digest;
use crate::image::{Config, Image, Limits, Reference};
use crate::store::{Layout, Lock, load, make_dir, save_durable, save_reserved_durable};
use crate::{Context, Error, Kind, Result};

const VERSION: u32 = 1;

/// The shortest id prefix that [`Store::lookup_any`] takes.
const MIN_ID_PREFIX: usize = 6;

/// The images of one data root.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// For what is to come in.
    pub(in crate::image) limits: Limits,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::image) struct Index {
    version: u32,
    /// By canonical reference.
    pub names: BTreeMap<String, Name>,
    /// Images that only a removal by force deletes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pinned: BTreeSet<Digest>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::image) struct Name {
    pub id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::image) struct Record {
    pub version: u32,
    pub id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The names of lowerdirs below `layers/`, lowest first.
    pub stack: Vec<String>,
    pub diff_ids: Vec<Digest>,
    /// Manifests, indexes, config.
    pub blobs: Vec<Digest>,
    /// Of each diffID, the blob that it came as; the latest first, where registries
    /// have the same image differently packed. Empty if none are kept.
    #[serde(default)]
    pub layer_blobs: Vec<LayerBlob>,
    pub config: Config,
    pub size: u64,
    pub created: Option<String>,
    pub architecture: String,
    pub os: String,
}

/// A layer as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::image) struct LayerBlob {
    pub diff_id: Digest,
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

impl LayerBlob {
    /// The OCI's name of a layer in this form.
    pub(crate) fn media_type_of(c: Compression) -> &'static str {
        match c {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

impl Record {
    pub(crate) fn all_blobs(&self) -> impl Iterator<Item = &Digest> {
        let layers = self.layer_blobs.iter().map(|b| &b.digest);
        self.blobs.iter().chain(layers)
    }

    /// A layer as it came; `None` if it is not kept.
    pub(crate) fn layer_blob(&self, diff_id: &Digest) -> Option<&LayerBlob> {
        self.layer_blobs.iter().find(|b| b.diff_id == *diff_id)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::image) struct LayerRecord {
    pub version: u32,
    pub diff_id: Digest,
    /// What it was unpacked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    pub bytes: u64,
    pub entries: u64,
    pub opaque_root: bool,
    /// An erofs file, and by which rules it was written; else a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erofs: Option<u32>,
}

impl Store {
    /// The store of `layout`. Touches nothing: directories are made when
    /// something is put into them.
    pub fn open(layout: &Layout) -> Result<Store> {
        Ok(Store {
            root: layout.images(),
            limits: Limits::default(),
        })
    }

    /// The same, with the bounds that the machine has configured and `changes`, each
    /// `NAME=VALUE`, to them: for [`Store::pull`] and [`Store::load`].
    pub fn configured(layout: &Layout, changes: &[String]) -> Result<Store> {
        Ok(Store {
            limits: Limits::configured(layout, changes)?,
            ..Store::open(layout)?
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
        if let Ok(r) = s.parse::<Reference>()
            && let Some(image) = self.lookup(&r)?
        {
            return Ok(Some(image));
        }
        let index = self.index()?;
        let Some(hex) = as_id(s) else {
            // Not an id: then it should have been a name.
            s.parse::<Reference>()?;
            return Ok(None);
        };
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

    /// Gives an image, named as for [`Store::lookup_any`], another name. What had
    /// that name before loses it. The digest goes along to a name in the same
    /// repository alone: no other registry has promised it.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<Image> {
        if name.digest().is_some() {
            return Err(Error::new(
                Kind::Usage,
                format!("{name} has a digest, which is not given to an image"),
            ));
        }
        let (_lock, found, mut index) = self.hold(image)?;
        let id = Digest::parse(&found.id)?;
        let digest = index.names.iter().find_map(|(key, known)| {
            let same = key
                .parse::<Reference>()
                .is_ok_and(|k| k.name() == name.name());
            known.digest.clone().filter(|_| same && known.id == id)
        });
        let entry = Name {
            id: id.clone(),
            digest,
        };
        index.names.insert(name.to_string(), entry);
        self.save_index(&index)?;
        self.image(&id, None, &index)?
            .ok_or_else(|| self.absent(image))
    }

    /// An image, named as for [`Store::lookup_any`], with the lock under which it stays.
    fn hold(&self, image: &str) -> Result<(Lock, Image, Index)> {
        if !self.root.exists() {
            return Err(self.absent(image));
        }
        let lock = self.lock()?;
        let found = self.lookup_any(image)?.ok_or_else(|| self.absent(image))?;
        Ok((lock, found, self.index()?))
    }

    /// Pins an image, named as for [`Store::lookup_any`], or lets it go again. The pin
    /// is the image's, not a name's.
    pub fn pin(&self, image: &str, pinned: bool) -> Result<Image> {
        let (_lock, found, mut index) = self.hold(image)?;
        let id = Digest::parse(&found.id)?;
        let changed = match pinned {
            true => index.pinned.insert(id),
            false => index.pinned.remove(&id),
        };
        if changed {
            self.save_index(&index)?;
        }
        Ok(Image { pinned, ..found })
    }

    /// What a kill in the middle of a record's writing has left. The lock is held,
    /// under which all of them are written.
    pub(in crate::image) fn remove_temporaries(&self) -> Result<()> {
        for dir in [self.root.clone(), self.root.join("records")] {
            for name in names_in(&dir)?.iter().filter(|n| n.ends_with(".tmp")) {
                remove_file(&dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Bytes of a blob that is here.
    pub(in crate::image) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blobs().join(digest.hex());
        match std::fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context(format!("stat({})", path.display())),
        }
    }

    /// Whether an image here has this layer as this blob, so that they were seen to
    /// be the same.
    pub(in crate::image) fn knows(&self, diff_id: &Digest, blob: &Digest) -> Result<bool> {
        for id in self.ids()? {
            if let Some(record) = self.record(&id)?
                && record
                    .layer_blobs
                    .iter()
                    .any(|b| b.diff_id == *diff_id && b.digest == *blob)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An image's config, as it came (OCI image-spec, config.md).
    pub fn config_of(&self, image: &Image) -> Result<Vec<u8>> {
        let id = Digest::parse(&image.id)?;
        let path = self.blobs().join(id.hex());
        std::fs::read(&path).with_context(|| format!("open({})", path.display()))
    }

    pub(in crate::image) fn image(
        &self,
        id: &Digest,
        digest: Option<&Digest>,
        index: &Index,
    ) -> Result<Option<Image>> {
        let Some(record) = self.record(id)? else {
            return Ok(None);
        };
        Ok(Some(Image {
            pinned: index.pinned.contains(id),
            digest: digest.or(record.digest.as_ref()).map(Digest::to_string),
            names: index
                .names
                .iter()
                .filter(|(_, n)| n.id == *id)
                .map(|(k, _)| k.clone())
                .collect(),
            id: record.id.into(),
            config: record.config,
            layers: record.stack.iter().map(|l| self.layer_path(l)).collect(),
            size: record.size,
            created: record.created,
            architecture: record.architecture,
            os: record.os,
        }))
    }

    pub(in crate::image) fn index(&self) -> Result<Index> {
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
                pinned: BTreeSet::new(),
            }),
            Err(e) => Err(e),
        }
    }

    /// The lock is held.
    pub(in crate::image) fn save_index(&self, index: &Index) -> Result<()> {
        save_reserved_durable(&self.root.join("index.json"), index)
    }

    /// The lock is held.
    pub(in crate::image) fn save_record(&self, record: &Record) -> Result<()> {
        make_dir(&self.root.join("records"))?;
        save_durable(&self.record_path(&record.id), record)
    }

    pub(in crate::image) fn record(&self, id: &Digest) -> Result<Option<Record>> {
        match load(&self.record_path(id)) {
            Ok(record) => Ok(Some(record)),
            Err(e) if e.kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(in crate::image) fn record_path(&self, id: &Digest) -> PathBuf {
        self.root.join("records").join(format!("{}.json", id.hex()))
    }

    pub(in crate::image) fn ids(&self) -> Result<Vec<Digest>> {
        Ok(names_in(&self.root.join("records"))?
            .iter()
            .filter_map(|n| Digest::parse(&format!("sha256:{}", n.strip_suffix(".json")?)).ok())
            .collect())
    }

    /// A published layer. One whose name collides with `diff_id`'s is an error.
    pub(in crate::image) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        let name = layer_name(diff_id);
        if !self.layer_path(&name).exists() {
            return Ok(None);
        }
        let record: LayerRecord = load(&self.layers().join(format!("{name}.json")))?;
        if record.diff_id != *diff_id {
            return Err(Error::failed(format!(
                "the layers {} and {diff_id} share half their digest",
                record.diff_id
            )));
        }
        Ok(self.layers().join(record.file()).exists().then_some(record))
    }

    pub(in crate::image) fn lock(&self) -> Result<Lock> {
        Lock::acquire(&self.root.join("lock"))
    }
    pub(in crate::image) fn root(&self) -> &Path {
        &self.root
    }
    pub(in crate::image) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }
    pub(in crate::image) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }
    pub(in crate::image) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }
    pub(in crate::image) fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }
}

/// The directory of a layer below `layers/`.
pub(in crate::image) fn layer_name(diff_id: &Digest) -> String {
    diff_id.hex()[..32].to_owned()
}

fn find<'a>(index: &'a Index, r: &Reference) -> Option<&'a Name> {
    index.names.get(find_key(index, r)?)
}

pub(in crate::image) fn find_key<'a>(index: &'a Index, r: &Reference) -> Option<&'a str> {
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
pub(in crate::image) fn names_in(dir: &Path) -> Result<Vec<String>> {
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

pub(in crate::image) fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(format!("unlink({})", path.display()))
        }
        _ => Ok(()),
    }
}

/// The digits of what may be an id, or the beginning of one.
pub(in crate::image) fn as_id(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let long = hex.len() >= MIN_ID_PREFIX;
    (long && hex.bytes().all(|b| b.is_ascii_hexdigit())).then_some(hex)
}
