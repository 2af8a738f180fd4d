//! `load`: images from an OCI layout (image-layout.md), as a directory or a
//! tar, or from a docker-archive (`docker save`).
//!
//! An archive that is both, as recent `docker save` writes, is read as an OCI
//! layout for its content and as a docker-archive for its names.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::archive::Archive;
use super::digest::Digest;
use super::fetch::LayerSource;
use super::ingest::{Wanted, ingest};
use super::manifest::{
    Descriptor, Document, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, Manifest, Platform, choose, parse,
    parse_config,
};
use super::transaction::Transaction;
use super::{Image, Progress, Reference, Store};
use crate::{Context, Error, Kind, Result};

/// Images of one archive.
const MAX_IMAGES: usize = 1000;
/// Indexes within indexes.
const MAX_NESTING: usize = 3;

/// The names that containerd and Docker give, and the one of the OCI.
pub const FULL_NAME: &str = "io.containerd.image.name";
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image of an archive, before its layers are read.
struct Found {
    wanted: Wanted,
    /// The members of the layers.
    layers: Vec<String>,
}

struct Members<'a> {
    archive: &'a Archive,
    names: &'a [String],
}

impl LayerSource for Members<'_> {
    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + '_>> {
        Ok(self.archive.read(&self.names[index])?.0)
    }
}

impl Store {
    /// Loads all images of an archive: an OCI layout directory, an OCI tar or a
    /// docker-archive, plain or compressed with gzip or zstd; `-` is standard
    /// input. Of an index, the image for this machine.
    ///
    /// With `name`, the one image of the archive gets that name instead of its
    /// own; from an archive of several, the one of that name is loaded alone.
    /// Without, an image without a name of its own stays untagged.
    ///
    /// Errors are [`Kind::Image`], but for a file that does not exist.
    pub fn load(&self, from: &Path, name: Option<&Reference>) -> Result<Vec<Image>> {
        self.load_watched(from, name, &mut |_| {})
    }

    /// [`Store::load`], telling of its progress.
    pub fn load_watched(
        &self,
        from: &Path,
        name: Option<&Reference>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Image>> {
        self.load_from(from, name, progress)
            .map_err(|e| match e.kind() {
                Kind::NotFound | Kind::Permission => e,
                _ => e.with_kind(Kind::Image),
            })
            .with_context(|| format!("load {}", from.display()))
    }

    fn load_from(
        &self,
        from: &Path,
        name: Option<&Reference>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Image>> {
        let transaction = Transaction::begin(self)?;
        let archive = Archive::open(from, &transaction)?;
        let mut found = if archive.has("index.json") {
            oci_images(&archive)?
        } else if archive.has("manifest.json") {
            docker_images(&archive)?
        } else {
            return Err(Error::invalid(
                "neither an OCI layout (index.json) nor a docker-archive (manifest.json)",
            ));
        };
        if found.is_empty() {
            return Err(Error::invalid("it holds no image"));
        }
        if let Some(name) = name {
            select(&mut found, name)?;
        }
        let mut images = Vec::new();
        for image in &found {
            let members = Members {
                archive: &archive,
                names: &image.layers,
            };
            images.push(ingest(&transaction, &image.wanted, &members, progress)?);
        }
        Ok(images)
    }
}

fn select(found: &mut Vec<Found>, name: &Reference) -> Result<()> {
    if found.len() > 1 {
        let names: Vec<String> = found
            .iter()
            .flat_map(|f| &f.wanted.names)
            .map(Reference::to_string)
            .collect();
        found.retain(|f| f.wanted.names.contains(name));
        found.truncate(1);
        if found.is_empty() {
            return Err(Error::invalid(format!(
                "it holds several images, and none is named {name}: {}",
                names.join(", ")
            )));
        }
    }
    for image in found {
        image.wanted.names = vec![name.clone()];
    }
    Ok(())
}

fn oci_images(archive: &Archive) -> Result<Vec<Found>> {
    let bytes = archive.read_all("index.json", MAX_MANIFEST)?;
    let index = "application/vnd.oci.image.index.v1+json";
    let Document::Index(tops) = parse(&bytes, index).context("index.json")? else {
        return Err(Error::invalid("index.json is no index"));
    };
    let docker_names = docker_names(archive)?;
    // Descriptors of one name (or of none) are platforms of one image.
    let mut groups: BTreeMap<Option<Reference>, Vec<Descriptor>> = BTreeMap::new();
    for top in tops {
        groups.entry(name_of(&top)).or_default().push(top);
    }
    let mut found: Vec<Found> = Vec::new();
    for (name, tops) in groups {
        // Without a platform there is nothing to choose by: all are meant.
        let chosen: Vec<&Descriptor> =
            if tops.len() > 1 && tops.iter().all(|t| t.platform.is_some()) {
                vec![choose(&tops, &Platform::host())?]
            } else {
                tops.iter().collect()
            };
        for top in chosen {
            let mut image =
                oci_image(archive, top).with_context(|| format!("image {}", top.digest))?;
            image.wanted.names.extend(name.clone());
            let id = Digest::of(&image.wanted.config_bytes);
            for docker in docker_names.iter().filter(|(d, _)| *d == id) {
                if !image.wanted.names.contains(&docker.1) {
                    image.wanted.names.push(docker.1.clone());
                }
            }
            found.push(image);
        }
        if found.len() > MAX_IMAGES {
            return Err(Error::invalid(format!("more than {MAX_IMAGES} images")));
        }
    }
    Ok(found)
}

/// A full name; a lone word in `ref.name` is a tag, which names no image.
fn name_of(top: &Descriptor) -> Option<Reference> {
    if let Some(full) = top.annotations.get(FULL_NAME)
        && let Ok(r) = full.parse()
    {
        return Some(r);
    }
    top.annotations
        .get(REF_NAME)
        .filter(|n| n.contains(['/', ':']))
        .and_then(|n| n.parse().ok())
}

fn oci_image(archive: &Archive, top: &Descriptor) -> Result<Found> {
    let mut documents = Vec::new();
    let mut at = top.clone();
    loop {
        let bytes = verified(archive, &at, MAX_MANIFEST)?;
        let document = parse(&bytes, &at.media_type)?;
        documents.push(bytes);
        match document {
            Document::Index(list) if documents.len() <= MAX_NESTING => {
                at = choose(&list, &Platform::host())?.clone();
            }
            Document::Index(_) => return Err(Error::invalid("indexes are nested too deep")),
            Document::Manifest(Manifest { config, layers }) => {
                let config_bytes = verified(archive, &config, MAX_CONFIG)?;
                return Ok(Found {
                    layers: layers.iter().map(|l| blob(&l.digest)).collect(),
                    wanted: Wanted {
                        config: parse_config(&config_bytes)?,
                        config_bytes,
                        layers: Some(layers),
                        digest: Some(top.digest.clone()),
                        documents,
                        names: Vec::new(),
                    },
                });
            }
        }
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn verified(archive: &Archive, d: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    let bytes = archive.read_all(&blob(&d.digest), limit)?;
    if bytes.len() as u64 != d.size || Digest::of(&bytes) != d.digest {
        return Err(Error::invalid(format!(
            "the blob {} has another size or content",
            d.digest
        )));
    }
    Ok(bytes)
}

/// An image of a docker-archive's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn docker_manifest(archive: &Archive) -> Result<Vec<DockerImage>> {
    let bytes = archive.read_all("manifest.json", MAX_MANIFEST)?;
    let images: Vec<DockerImage> = serde_json::from_slice(&bytes).context("manifest.json")?;
    if images.len() > MAX_IMAGES {
        return Err(Error::invalid(format!("more than {MAX_IMAGES} images")));
    }
    Ok(images)
}

fn repo_tags(image: &DockerImage) -> Result<Vec<Reference>> {
    image
        .repo_tags
        .iter()
        .flatten()
        .map(|t| t.parse().context("manifest.json: RepoTags"))
        .collect()
}

/// The names that manifest.json beside an OCI layout gives, by config.
fn docker_names(archive: &Archive) -> Result<Vec<(Digest, Reference)>> {
    let mut names = Vec::new();
    if archive.has("manifest.json") {
        for image in docker_manifest(archive)? {
            let hex = image.config.rsplit('/').next().unwrap_or_default();
            let hex = hex.strip_suffix(".json").unwrap_or(hex);
            if let Ok(id) = Digest::parse(&format!("sha256:{hex}")) {
                names.extend(repo_tags(&image)?.into_iter().map(|r| (id.clone(), r)));
            }
        }
    }
    Ok(names)
}

fn docker_images(archive: &Archive) -> Result<Vec<Found>> {
    docker_manifest(archive)?
        .into_iter()
        .map(|image| {
            let config_bytes = archive.read_all(&image.config, MAX_CONFIG)?;
            let layers = image.layers.clone().unwrap_or_default();
            if layers.len() > MAX_LAYERS {
                return Err(Error::invalid(format!(
                    "the image has {} layers, more than {MAX_LAYERS}",
                    layers.len()
                )));
            }
            let config = parse_config(&config_bytes)?;
            if layers.len() != config.diff_ids.len() {
                return Err(Error::invalid(format!(
                    "manifest.json has {} layers, but the config {} diffIDs",
                    layers.len(),
                    config.diff_ids.len()
                )));
            }
            Ok(Found {
                layers,
                wanted: Wanted {
                    config,
                    config_bytes,
                    layers: None,
                    digest: None,
                    documents: Vec::new(),
                    names: repo_tags(&image)?,
                },
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "load_tests.rs"]
pub(super) mod tests;
