//! `save`: images of the store to an archive.
//!
//! Blobs leave as they came, hashed on their way out, so that what is loaded again
//! has the same digests. Members have no owner and no time: the same images give
//! the same bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::archive::compression;
use crate::image::digest::{Digest, HashingReader};
use crate::image::load::{FULL_NAME, REF_NAME};
use crate::image::manifest::{Document, parse};
use crate::image::store::index::Record;
use crate::image::{Limits, Reference, Store};
use crate::{Context, Error, Kind, Result};

const BLOCK: usize = 512;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// How an archive is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout (image-layout.md) with docker's manifest.json in it, which
    /// names the same blobs: what `docker save` writes by now.
    Both,
    /// An OCI layout alone.
    Oci,
    /// As `docker save` was before: every layer a plain tar.
    Docker,
}

/// Takes files by their paths in the archive.
trait Sink {
    fn put(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()>;
}

/// An image that is to be saved.
struct Saved {
    record: Record,
    manifest: Vec<u8>,
    names: Vec<Reference>,
}

impl Store {
    /// Writes images, each named as for [`Store::lookup_any`], as a tar to `out`.
    /// One that is given by a name has that name there, one by its ID has none.
    pub fn save(&self, images: &[String], form: Form, out: &mut dyn Write) -> Result<()> {
        let mut tar = Tar(out);
        self.save_to(images, form, &mut tar)?;
        tar.0
            .write_all(&[0; 2 * BLOCK])
            .and_then(|()| tar.0.flush())
            .context("write")
    }

    /// Writes images as an OCI layout into the empty directory `dir`.
    pub fn save_layout(&self, images: &[String], dir: &Path) -> Result<()> {
        self.save_to(images, Form::Oci, &mut Directory(dir.to_owned()))
    }

    fn save_to(&self, images: &[String], form: Form, sink: &mut dyn Sink) -> Result<()> {
        let all = images
            .iter()
            .map(|i| self.to_be_saved(i).with_context(|| format!("save {i}")))
            .collect::<Result<Vec<Saved>>>()?;
        let done = match form {
            Form::Docker => self.save_docker(&all, sink),
            _ => self.save_oci(&all, form, sink),
        };
        done.with_context(|| format!("save {}", images.join(" ")))
    }

    fn to_be_saved(&self, image: &str) -> Result<Saved> {
        let found = self.lookup_any(image)?.ok_or_else(|| self.absent(image))?;
        let id = Digest::parse(&found.id)?;
        let record = self.record(&id)?.ok_or_else(|| self.absent(image))?;
        let by_name = image
            .parse::<Reference>()
            .ok()
            .filter(|r| r.tag().is_some() && found.names.contains(&r.to_string()));
        Ok(Saved {
            manifest: self.manifest_of(&record, found.digest.as_deref())?,
            record,
            names: by_name.into_iter().collect(),
        })
    }

    /// The manifest that `digest` is or, as an index's, led to; else any that led
    /// here. For an image of a docker-archive, which has none, the one that its blobs
    /// make, always the same.
    pub(in crate::image) fn manifest_of(
        &self,
        record: &Record,
        digest: Option<&str>,
    ) -> Result<Vec<u8>> {
        let mut manifests = Vec::new();
        let mut wanted: Vec<Digest> = digest.iter().flat_map(|d| Digest::parse(d)).collect();
        for digest in record.blobs.iter().filter(|d| **d != record.id) {
            let path = self.blobs().join(digest.hex());
            let bytes =
                std::fs::read(&path).with_context(|| format!("open({})", path.display()))?;
            match parse(&bytes, "", &Limits::of_the_store()) {
                Ok(Document::Manifest(m)) if m.config.digest == record.id => {
                    manifests.push((digest, bytes));
                }
                // An index comes before what it leads to.
                Ok(Document::Index(list)) if wanted.contains(digest) => {
                    wanted.extend(list.into_iter().map(|d| d.digest));
                }
                _ => {}
            }
        }
        let at = manifests.iter().position(|(d, _)| wanted.contains(d));
        if !manifests.is_empty() {
            return Ok(manifests.swap_remove(at.unwrap_or(0)).1);
        }
        let config = self
            .blob_size(&record.id)?
            .ok_or_else(|| not_kept("its config"))?;
        let mut layers = Vec::new();
        for diff_id in &record.diff_ids {
            let blob = record
                .layer_blob(diff_id)
                .ok_or_else(|| not_kept(&format!("the layer {diff_id} as it came")))?;
            layers.push(json!({
                "mediaType": blob.media_type,
                "digest": blob.digest,
                "size": blob.size,
            }));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": record.id, "size": config},
            "layers": layers,
        });
        Ok(manifest.to_string().into_bytes())
    }

    fn save_oci(&self, all: &[Saved], form: Form, sink: &mut dyn Sink) -> Result<()> {
        let mut tops = Vec::new();
        let mut docker = Vec::new();
        for image in all {
            let media_type = parse_type(&image.manifest);
            let top = json!({
                "mediaType": media_type,
                "digest": Digest::of(&image.manifest),
                "size": image.manifest.len(),
            });
            for name in &image.names {
                let mut top = top.clone();
                top["annotations"] =
                    json!({FULL_NAME: name.to_string(), REF_NAME: name.to_string()});
                tops.push(top);
            }
            if image.names.is_empty() {
                tops.push(top);
            }
            let Document::Manifest(manifest) = parse(&image.manifest, "", &Limits::of_the_store())?
            else {
                continue;
            };
            docker.push(json!({
                "Config": blob_path(&image.record.id),
                "RepoTags": tags(image),
                "Layers": manifest.layers.iter().map(|l| blob_path(&l.digest)).collect::<Vec<_>>(),
            }));
        }
        put_bytes(sink, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": tops});
        put_bytes(sink, "index.json", index.to_string().as_bytes())?;
        if form == Form::Both {
            let text = Value::from(docker).to_string();
            put_bytes(sink, "manifest.json", text.as_bytes())?;
        }
        let mut there = BTreeSet::new();
        for image in all {
            let digest = Digest::of(&image.manifest);
            let path = blob_path(&digest);
            if there.insert(digest) {
                put_bytes(sink, &path, &image.manifest)?;
            }
            let Document::Manifest(manifest) = parse(&image.manifest, "", &Limits::of_the_store())?
            else {
                continue;
            };
            for blob in [&manifest.config].into_iter().chain(&manifest.layers) {
                if there.insert(blob.digest.clone()) {
                    self.put_blob(sink, &blob.digest)?;
                }
            }
        }
        Ok(())
    }

    fn save_docker(&self, all: &[Saved], sink: &mut dyn Sink) -> Result<()> {
        let mut there = BTreeSet::new();
        let mut list = Vec::new();
        for Saved { record, .. } in all {
            let config = format!("{}.json", record.id.hex());
            if there.insert(config.clone()) {
                let (mut bytes, size) = self.kept(&record.id)?;
                sink.put(&config, size, &mut bytes)?;
            }
            for diff_id in &record.diff_ids {
                let blob = record
                    .layer_blob(diff_id)
                    .ok_or_else(|| not_kept(&format!("the layer {diff_id} as it came")))?;
                let path = layer_path(diff_id);
                if !there.insert(path.clone()) {
                    continue;
                }
                let open =
                    || -> Result<Box<dyn Read>> { compression::open(self.kept(&blob.digest)?.0) };
                // A member's size comes before it, so that it is read twice.
                let size = io::copy(&mut open()?, &mut io::sink())
                    .with_context(|| format!("blob {}", blob.digest))?;
                put_verified(sink, &path, size, open()?, diff_id)?;
            }
        }
        for image in all {
            let layers: Vec<String> = image.record.diff_ids.iter().map(layer_path).collect();
            list.push(json!({
                "Config": format!("{}.json", image.record.id.hex()),
                "RepoTags": tags(image),
                "Layers": layers,
            }));
        }
        put_bytes(
            sink,
            "manifest.json",
            Value::from(list).to_string().as_bytes(),
        )
    }

    fn put_blob(&self, sink: &mut dyn Sink, digest: &Digest) -> Result<()> {
        let (bytes, size) = self.kept(digest)?;
        put_verified(sink, &blob_path(digest), size, bytes, digest)
    }

    fn kept(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.blobs().join(digest.hex());
        match File::open(&path) {
            Ok(file) => {
                let size = file.metadata().context("fstat()")?.len();
                Ok((file, size))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(not_kept(&format!("the blob {digest}")))
            }
            Err(e) => Err(e).context(format!("open({})", path.display())),
        }
    }
}

fn not_kept(what: &str) -> Error {
    Error::new(Kind::Image, format!("the store lacks {what}"))
        .hint("pull or load the image again, so that its layers are kept as they came")
}

fn parse_type(manifest: &[u8]) -> String {
    let value: Value = serde_json::from_slice(manifest).unwrap_or_default();
    value["mediaType"].as_str().unwrap_or(MANIFEST).to_owned()
}

fn tags(image: &Saved) -> Vec<String> {
    image.names.iter().map(Reference::familiar).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn layer_path(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

fn put_bytes(sink: &mut dyn Sink, path: &str, bytes: &[u8]) -> Result<()> {
    sink.put(path, bytes.len() as u64, &mut &*bytes)
}

fn put_verified(
    sink: &mut dyn Sink,
    path: &str,
    size: u64,
    content: impl Read,
    digest: &Digest,
) -> Result<()> {
    let mut content = HashingReader::new(content, size, "blob");
    sink.put(path, size, &mut content)?;
    if content.count() != size || content.digest() != *digest {
        return Err(
            Error::failed(format!("{digest} has another content in the store"))
                .hint("carob system check --repair, then pull or load the image again"),
        );
    }
    Ok(())
}

/// ustar (POSIX.1-1988): paths here are short. Sizes from 8 GiB on are base-256,
/// as GNU tar and Go write them.
struct Tar<'a>(&'a mut dyn Write);

impl Sink for Tar<'_> {
    fn put(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = [0u8; BLOCK];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        if size < 1 << 33 {
            header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        } else {
            header[124] = 0x80;
            header[128..136].copy_from_slice(&size.to_be_bytes());
        }
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&header).context("write")?;
        // Not io::copy to its end: more than was announced would be headers.
        let copied = io::copy(&mut content.take(size), &mut self.0).context("write")?;
        if copied < size {
            return Err(Error::failed(format!("{path} is shorter than it was")));
        }
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.0.write_all(&[0; BLOCK][..padding]).context("write")
    }
}

struct Directory(PathBuf);

impl Sink for Directory {
    fn put(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("mkdir({})", parent.display()))?;
        }
        let about = || format!("write {}", path.display());
        let mut file = File::create_new(&path).with_context(about)?;
        io::copy(&mut content.take(size), &mut file)
            .map(drop)
            .with_context(about)
    }
}
