//! Whether the store is what it says: every blob its digest, every layer's blob its
//! diffID, every name an image, every image its blobs and layers, and no file that
//! is nobody's.
//!
//! The files of an unpacked layer are not compared with its blob: what can be said
//! is that the layer was finished. An erofs file is, byte for byte.
//!
//! Looks without a lock first; what seems wrong is looked at again with nobody
//! writing, so that a pull or a removal at work is no fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::image::digest::{Digest, HashingReader};
use crate::image::layer::form::{LayerForm, stem};
use crate::image::limits::Limits;
use crate::image::manifest::parse_config;
use crate::image::store::index::{LayerRecord, Record, Store, layer_name, names_in, remove_file};
use crate::image::store::transaction::Transaction;
use crate::image::{archive::compression, layer::erofs};
use crate::store::load;
use crate::{Context, Kind, Result};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A file below the store's directory, or an image's name.
    pub at: String,
    pub problem: String,
    pub repaired: bool,
}

/// What [`Store::check`] has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub images: usize,
    pub layers: usize,
    pub blobs: usize,
    /// Bytes of blobs that were read.
    pub bytes: u64,
    pub faults: Vec<Fault>,
}

/// How a fault is mended.
enum Mend {
    /// The file goes; the next pull or load brings it.
    File,
    /// The layer and its record go.
    Layer(String),
    /// The image and its names go.
    Image(Digest),
    Name(String),
    /// The image no longer claims to have its layers as they came.
    Unkept(Digest),
    Not,
}

#[derive(Default)]
struct Look {
    report: Report,
    mends: Vec<Mend>,
}

impl Look {
    fn fault(&mut self, at: impl Into<String>, problem: impl Into<String>, mend: Mend) {
        self.report.faults.push(Fault {
            at: at.into(),
            problem: problem.into(),
            repaired: false,
        });
        self.mends.push(mend);
    }
}

/// A blob's content.
struct Content {
    sound: bool,
    size: u64,
    /// What it unpacks to, where a layer is said to be this blob.
    diff_id: Option<Digest>,
    /// The layer that was made of it is not what it makes.
    differs: bool,
}

const KNOWN: [&str; 8] = [
    "lock",
    "index.json",
    "index.json.spare",
    "settings.json",
    "records",
    "blobs",
    "layers",
    "ingest",
];

impl Store {
    /// Reads every blob. With `repair`, what is damaged is removed, so that the next
    /// pull or load brings it; an image that lacks a layer, its config or its
    /// manifest goes whole, unless it is `in_use`. Files that are nobody's stay.
    pub fn check(&self, repair: bool, in_use: &dyn Fn(&str) -> bool) -> Result<Report> {
        if !self.root().exists() {
            return Ok(Report::default());
        }
        let look = self.look()?;
        if look.report.faults.is_empty() {
            return Ok(look.report);
        }
        let transaction = repair.then(|| Transaction::begin(self)).transpose()?;
        let _lock = self.lock()?;
        let Look { mut report, mends } = self.look()?;
        if let Some(transaction) = &transaction {
            for (fault, mend) in report.faults.iter_mut().zip(mends) {
                fault.repaired = self
                    .mend(transaction, &fault.at, mend, in_use)
                    .with_context(|| format!("repair {}", fault.at))?;
            }
        }
        Ok(report)
    }

    fn look(&self) -> Result<Look> {
        let mut look = Look::default();
        for name in names_in(self.root())? {
            let known = KNOWN.contains(&name.as_str()) || name == "partial";
            if !known && !name.ends_with(".tmp") {
                look.fault(name, "is no file of the store", Mend::Not);
            }
        }
        let mut records = BTreeMap::new();
        for name in names_in(&self.root().join("records"))? {
            let at = format!("records/{name}");
            let Some(id) = name
                .strip_suffix(".json")
                .and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok())
            else {
                if !name.ends_with(".tmp") {
                    look.fault(at, "is no file of the store", Mend::Not);
                }
                continue;
            };
            match load::<Record>(&self.record_path(&id)) {
                Ok(record) if record.id == id => {
                    records.insert(id, record);
                }
                Ok(record) => {
                    let problem = format!("is the record of {}", record.id);
                    look.fault(at, problem, Mend::Image(id));
                }
                Err(e) => look.fault(at, e.to_string(), Mend::Image(id)),
            }
        }
        match self.index() {
            Ok(index) => {
                for (name, to) in &index.names {
                    if !records.contains_key(&to.id) {
                        let problem = format!("leads to {}, which is not here", to.id);
                        look.fault(name, problem, Mend::Name(name.clone()));
                    }
                }
            }
            Err(e) if e.kind() == Kind::Unsupported => {
                look.fault("index.json", e.to_string(), Mend::Not);
            }
            Err(e) => look.fault("index.json", e.to_string(), Mend::File),
        }
        let mut layers = self.look_at_layers(&mut look)?;
        let packed: BTreeSet<String> = records
            .values()
            .flat_map(|r| &r.layer_blobs)
            .map(|b| b.digest.hex().to_owned())
            .chain(
                layers
                    .values()
                    .filter_map(|l| Some(l.blob.as_ref()?.hex().to_owned())),
            )
            .collect();
        let blobs = self.look_at_blobs(&packed, &mut layers, &mut look)?;
        look.report.images = records.len();
        for record in records.values() {
            self.look_at_image(record, &layers, &blobs, &mut look)?;
        }
        for name in names_in(&self.partial())? {
            if Digest::parse(&format!("sha256:{name}")).is_err() {
                let at = format!("partial/{name}");
                look.fault(at, "is no file of the store", Mend::Not);
            }
        }
        Ok(look)
    }

    /// The records of the layers that are whole.
    fn look_at_layers(&self, look: &mut Look) -> Result<BTreeMap<String, LayerRecord>> {
        let mut layers = BTreeMap::new();
        for file in names_in(&self.layers())? {
            let at = format!("layers/{file}");
            let name = stem(&file);
            if name.len() != 32 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
                look.fault(at, "is no file of the store", Mend::Not);
                continue;
            }
            // A record without its layer is what a kill may leave, and in nobody's way.
            if file.ends_with(".json") || name.bytes().all(|b| b == b'0') {
                continue;
            }
            look.report.layers += 1;
            let record = self.layers().join(format!("{name}.json"));
            match load::<LayerRecord>(&record) {
                Ok(record) if record.file() == file => {
                    layers.insert(name.to_owned(), record);
                }
                Ok(record) => {
                    let problem = format!("has the record of {}", record.diff_id);
                    look.fault(at, problem, Mend::Layer(name.to_owned()));
                }
                Err(e) => look.fault(at, e.to_string(), Mend::Layer(name.to_owned())),
            }
        }
        Ok(layers)
    }

    fn look_at_blobs(
        &self,
        packed: &BTreeSet<String>,
        layers: &mut BTreeMap<String, LayerRecord>,
        look: &mut Look,
    ) -> Result<BTreeMap<String, Content>> {
        // Those that can be made anew: by the same rules.
        let comparable = layers.values().filter(|l| l.erofs == Some(erofs::LAYOUT));
        let made_of: BTreeMap<Digest, LayerRecord> = comparable
            .filter_map(|l| Some((l.blob.clone()?, l.clone())))
            .collect();
        let mut blobs = BTreeMap::new();
        for name in names_in(&self.blobs())? {
            let at = format!("blobs/sha256/{name}");
            let Ok(digest) = Digest::parse(&format!("sha256:{name}")) else {
                look.fault(at, "is no file of the store", Mend::Not);
                continue;
            };
            let path = self.blobs().join(&name);
            let made = made_of.get(&digest);
            let file = made.map(|l| (self.layers().join(l.file()), &l.diff_id));
            let content = match read(&path, &digest, packed.contains(&name), file) {
                Ok(content) => content,
                // Removed meanwhile; missed below if an image has it.
                Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => continue,
                Err(e) => return Err(e),
            };
            look.report.blobs += 1;
            look.report.bytes += content.size;
            if !content.sound {
                look.fault(at, "its content has another digest", Mend::File);
            }
            if let (true, Some(layer)) = (content.differs, made) {
                let name = layer_name(&layer.diff_id);
                let at = format!("layers/{}", layer.file());
                look.fault(at, "is not what its blob makes", Mend::Layer(name.clone()));
                layers.remove(&name);
            }
            blobs.insert(name, content);
        }
        Ok(blobs)
    }

    fn look_at_image(
        &self,
        record: &Record,
        layers: &BTreeMap<String, LayerRecord>,
        blobs: &BTreeMap<String, Content>,
        look: &mut Look,
    ) -> Result<()> {
        let at = format!("records/{}.json", record.id.hex());
        let whole = || Mend::Image(record.id.clone());
        let mut wrong = |problem: String, mend: Mend| look.fault(at.clone(), problem, mend);
        for digest in record.blobs.iter().chain([&record.id]) {
            match blobs.get(digest.hex()) {
                None => wrong(format!("the blob {digest} is missing"), whole()),
                Some(b) if !b.sound => wrong(format!("the blob {digest} is damaged"), whole()),
                Some(_) => {}
            }
        }
        if let Ok(bytes) = std::fs::read(self.blobs().join(record.id.hex())) {
            match parse_config(&bytes, &Limits::of_the_store()) {
                Ok(config) if config.diff_ids == record.diff_ids => {}
                _ => wrong("its config has other layers".to_owned(), whole()),
            }
        }
        for name in record.diff_ids.iter().map(layer_name) {
            if !layers.contains_key(&name) {
                wrong(format!("the layer layers/{name} is missing"), whole());
            }
        }
        for name in &record.stack {
            if !self.layer_path(name).exists() && !layers.contains_key(name) {
                wrong(format!("the layer layers/{name} is missing"), whole());
            }
        }
        for blob in &record.layer_blobs {
            let digest = &blob.digest;
            match blobs.get(digest.hex()) {
                // Without it the image runs; what lacks is brought by the next pull.
                None => {
                    let problem = format!("the layer's blob {digest} is missing");
                    wrong(problem, Mend::Unkept(record.id.clone()));
                }
                Some(b) if !b.sound => {
                    let problem = format!("the layer's blob {digest} is damaged");
                    wrong(problem, Mend::Unkept(record.id.clone()));
                }
                Some(b) if b.size != blob.size || b.diff_id.as_ref() != Some(&blob.diff_id) => {
                    let problem = format!("the layer's blob {digest} unpacks to another diffID");
                    wrong(problem, whole());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether it is mended now. The lock is held.
    fn mend(
        &self,
        transaction: &Transaction<'_>,
        at: &str,
        mend: Mend,
        in_use: &dyn Fn(&str) -> bool,
    ) -> Result<bool> {
        match mend {
            Mend::Not => return Ok(false),
            Mend::File => remove_file(&self.root().join(at))?,
            Mend::Name(name) => {
                let mut index = self.index()?;
                index.names.remove(&name);
                self.save_index(&index)?;
            }
            Mend::Unkept(id) => {
                if let Some(mut record) = self.record(&id)? {
                    record.layer_blobs.clear();
                    self.save_record(&record)?;
                }
            }
            Mend::Image(id) if in_use(id.as_str()) => return Ok(false),
            Mend::Image(id) => {
                if let Ok(mut index) = self.index() {
                    index.names.retain(|_, n| n.id != id);
                    self.save_index(&index)?;
                }
                remove_file(&self.record_path(&id))?;
            }
            Mend::Layer(name) => {
                for id in self.ids()? {
                    let needs = |r: &Record| r.diff_ids.iter().any(|d| layer_name(d) == name);
                    if in_use(id.as_str())
                        && self.record(&id).ok().flatten().is_some_and(|r| needs(&r))
                    {
                        return Ok(false);
                    }
                }
                for form in [LayerForm::Dir, LayerForm::Erofs] {
                    let from = self.layers().join(form.file(&name));
                    if from.exists() {
                        std::fs::rename(&from, transaction.path().join(form.file(&name)))
                            .with_context(|| format!("rename({})", from.display()))?;
                    }
                }
                remove_file(&self.layers().join(format!("{name}.json")))?;
            }
        }
        Ok(true)
    }
}

/// `layer`: an erofs file to be compared with what the blob makes.
fn read(
    path: &Path,
    digest: &Digest,
    packed: bool,
    layer: Option<(PathBuf, &Digest)>,
) -> Result<Content> {
    let about = || format!("read {}", path.display());
    let file = File::open(path).with_context(about)?;
    let mut bytes = HashingReader::new(file, u64::MAX, "blob");
    let (mut diff_id, mut differs) = (None, false);
    if packed {
        let mut plain = HashingReader::new(compression::open(&mut bytes)?, u64::MAX, "layer");
        let mut same = Ok(true);
        if let Some((path, diff_id)) = &layer {
            let file = File::open(path).with_context(|| format!("open({})", path.display()))?;
            same = erofs::same(&mut plain, &file, diff_id);
        }
        // What does not unpack has no diffID; its digest says the rest.
        if same.is_ok() && io::copy(&mut plain, &mut io::sink()).is_ok() {
            diff_id = Some(plain.digest());
        }
        let sound = layer.is_some_and(|(_, of)| diff_id.as_ref() == Some(of));
        differs = sound && matches!(same, Ok(false));
    }
    io::copy(&mut bytes.by_ref(), &mut io::sink()).with_context(about)?;
    let size = bytes.count();
    Ok(Content {
        sound: bytes.digest() == *digest,
        size,
        diff_id,
        differs,
    })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
