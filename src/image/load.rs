//! `load`: images from an OCI layout (image-layout.md), as a directory or a
//! tar, or from a docker-archive (`docker save`).
//!
//! An archive that is both, as recent `docker save` writes, is read as an OCI
//! layout for its content and as a docker-archive for its names.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::image::archive::read::Archive;
use crate::image::digest::Digest;
use crate::image::layer::fetch::LayerSource;
use crate::image::manifest::{
    Descriptor, Document, Manifest, Platform, check_layers, choose, parse, parse_config,
};
use crate::image::store::ingest::{Wanted, ingest};
use crate::image::store::transaction::Transaction;
use crate::image::{Image, Limits, Progress, Reference, Store};
use crate::{Context, Error, Kind, Result};

/// Images of one archive.
const MAX_IMAGES: usize = 1000;
/// Their names in docker's manifest.json together.
const MAX_NAMES: usize = 10_000;
/// Indexes within indexes.
const MAX_NESTING: usize = 3;

const ARCHIVES: &str = "name what docker save, podman save or skopeo copy (to oci-archive:, \
                        docker-archive: or oci:) wrote";

/// The names that containerd and Docker give, and the one of the OCI.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image of an archive, whose documents have been read, verified, and not kept: a
/// thousand may have 12 MiB each, or be the same ones again and again.
struct Found {
    at: At,
    names: Vec<Reference>,
}

/// Where an image is entered.
enum At {
    Top(Descriptor),
    Docker(DockerImage),
}

/// What is to be made of it, and the members of its layers.
struct Contents {
    wanted: Wanted,
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

    fn layer_size(&self, index: usize) -> Option<u64> {
        self.archive.read(&self.names[index]).ok().map(|(_, n)| n)
    }
}

impl Store {
    /// Loads all images of an archive: an OCI layout directory, an OCI tar or a
    /// docker-archive, plain or compressed with gzip, zstd, xz or bzip2; `-` is standard
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
        let archive = Archive::open(from, &transaction).map_err(|e| match e.kind() {
            Kind::Invalid if e.get_hint().is_none() => e.hint(ARCHIVES),
            _ => e,
        })?;
        let mut found = if archive.has("index.json") {
            oci_images(&archive, &self.limits)?
        } else if archive.has("manifest.json") {
            docker_images(&archive, &self.limits)?
        } else {
            return Err(Error::invalid(
                "neither an OCI layout (index.json) nor a docker-archive (manifest.json)",
            )
            .hint(ARCHIVES));
        };
        if found.is_empty() {
            return Err(Error::invalid("it holds no image"));
        }
        if let Some(name) = name {
            select(&mut found, name)?;
        }
        let mut images = Vec::new();
        for Found { at, names } in found {
            let Contents { mut wanted, layers } = at.read(&archive, &self.limits)?;
            if let Some(name) = name
                && wanted.honest(name.clone()).as_ref() != Some(name)
            {
                return Err(Error::invalid(format!(
                    "the image has another digest than the name {name}"
                )));
            }
            wanted.names = names;
            let members = Members {
                archive: &archive,
                names: &layers,
            };
            images.push(ingest(&transaction, &wanted, &members, progress)?);
        }
        Ok(images)
    }
}

fn select(found: &mut Vec<Found>, name: &Reference) -> Result<()> {
    if found.len() > 1 {
        let names: Vec<String> = found
            .iter()
            .flat_map(|f| &f.names)
            .take(20)
            .map(Reference::to_string)
            .collect();
        found.retain(|f| f.names.contains(name));
        found.truncate(1);
        if found.is_empty() {
            return Err(Error::invalid(format!(
                "it holds several images, and none is named {name}: {}",
                names.join(", ")
            )));
        }
    }
    for image in found {
        image.names = vec![name.clone()];
    }
    Ok(())
}

impl At {
    fn read(&self, archive: &Archive, limits: &Limits) -> Result<Contents> {
        match self {
            At::Top(top) => {
                oci_image(archive, top, limits).with_context(|| format!("image {}", top.digest))
            }
            At::Docker(image) => docker_image(archive, image, limits),
        }
    }
}

impl Wanted {
    /// A name whose digest is no document's here is a lie, or was an index's of which
    /// the archive has one image: it is its tag, or none.
    fn honest(&self, name: Reference) -> Option<Reference> {
        let is = |d: &str| self.documents.iter().any(|b| Digest::of(b).as_str() == d);
        match name.digest() {
            Some(d) if !is(d) => name.without_digest(),
            _ => Some(name),
        }
    }
}

fn oci_images(archive: &Archive, limits: &Limits) -> Result<Vec<Found>> {
    let bytes = archive.read_all("index.json", limits, "manifest-size")?;
    let index = "application/vnd.oci.image.index.v1+json";
    let Document::Index(tops) = parse(&bytes, index, limits).context("index.json")? else {
        return Err(Error::invalid("index.json is no index"));
    };
    if tops.len() > MAX_IMAGES {
        return Err(Error::invalid(format!("more than {MAX_IMAGES} images")));
    }
    let mut docker_names = docker_names(archive, limits)?;
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
            let at = At::Top(top.clone());
            let wanted = at.read(archive, limits)?.wanted;
            let id = Digest::of(&wanted.config_bytes);
            let docker = docker_names.remove(&id).unwrap_or_default();
            let all = name.clone().into_iter().chain(docker);
            let names = all.filter_map(|n| wanted.honest(n)).collect();
            found.push(Found { at, names });
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

fn oci_image(archive: &Archive, top: &Descriptor, limits: &Limits) -> Result<Contents> {
    let mut documents = Vec::new();
    let mut at = top.clone();
    loop {
        let bytes = verified(archive, &at, limits, "manifest-size")?;
        let document = parse(&bytes, &at.media_type, limits)?;
        documents.push(bytes);
        match document {
            Document::Index(list) if documents.len() <= MAX_NESTING => {
                at = choose(&list, &Platform::host())?.clone();
            }
            Document::Index(_) => return Err(Error::invalid("indexes are nested too deep")),
            Document::Manifest(Manifest { config, layers }) => {
                let config_bytes = verified(archive, &config, limits, "config-size")?;
                return Ok(Contents {
                    layers: layers.iter().map(|l| blob(&l.digest)).collect(),
                    wanted: Wanted {
                        config: parse_config(&config_bytes, limits)?,
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

fn verified(
    archive: &Archive,
    d: &Descriptor,
    limits: &Limits,
    limit: &'static str,
) -> Result<Vec<u8>> {
    let bytes = archive.read_all(&blob(&d.digest), limits, limit)?;
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

fn docker_manifest(archive: &Archive, limits: &Limits) -> Result<Vec<DockerImage>> {
    let bytes = archive.read_all("manifest.json", limits, "manifest-size")?;
    limits.check_json("manifest.json", &bytes)?;
    let images: Vec<DockerImage> = serde_json::from_slice(&bytes).context("manifest.json")?;
    if images.len() > MAX_IMAGES {
        return Err(Error::invalid(format!("more than {MAX_IMAGES} images")));
    }
    let names = images.iter().flat_map(|i| &i.repo_tags);
    if names.map(Vec::len).sum::<usize>() > MAX_NAMES {
        return Err(Error::invalid(format!(
            "manifest.json: more than {MAX_NAMES} names"
        )));
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
fn docker_names(archive: &Archive, limits: &Limits) -> Result<HashMap<Digest, Vec<Reference>>> {
    let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
    if archive.has("manifest.json") {
        for image in docker_manifest(archive, limits)? {
            let hex = image.config.rsplit('/').next().unwrap_or_default();
            let hex = hex.strip_suffix(".json").unwrap_or(hex);
            if let Ok(id) = Digest::parse(&format!("sha256:{hex}")) {
                names.entry(id).or_default().extend(repo_tags(&image)?);
            }
        }
    }
    Ok(names)
}

fn docker_images(archive: &Archive, limits: &Limits) -> Result<Vec<Found>> {
    docker_manifest(archive, limits)?
        .into_iter()
        .map(|image| {
            let wanted = docker_image(archive, &image, limits)?.wanted;
            let names = repo_tags(&image)?.into_iter();
            Ok(Found {
                names: names.filter_map(|n| wanted.honest(n)).collect(),
                at: At::Docker(image),
            })
        })
        .collect()
}

fn docker_image(archive: &Archive, image: &DockerImage, limits: &Limits) -> Result<Contents> {
    let config_bytes = archive.read_all(&image.config, limits, "config-size")?;
    let layers = image.layers.clone().unwrap_or_default();
    check_layers(layers.len(), limits)?;
    let config = parse_config(&config_bytes, limits)?;
    if layers.len() != config.diff_ids.len() {
        return Err(Error::invalid(format!(
            "manifest.json has {} layers, but the config {} diffIDs",
            layers.len(),
            config.diff_ids.len()
        )));
    }
    Ok(Contents {
        layers,
        wanted: Wanted {
            config,
            config_bytes,
            layers: None,
            digest: None,
            documents: Vec::new(),
            names: Vec::new(),
        },
    })
}

#[cfg(test)]
#[path = "load_tests.rs"]
pub(in crate::image) mod tests;
