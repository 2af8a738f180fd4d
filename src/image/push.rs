//! `push`: an image's manifest and blobs to a repository (distribution-spec,
//! "Pushing").
//!
//! What is there already, told by HEAD, is not sent; what another repository of
//! the same registry has is mounted from it; the rest goes up in one PUT each.
//! Blobs first, then the manifest, so that a push that was cut off leaves no
//! manifest without its blobs. Content is hashed on its way out: a store that
//! has rotted is found out here, not by whoever pulls.
//!
//! Goes to the registry itself, never to a mirror without the capability push.

use std::io::Read;

use ureq::SendBody;
use ureq::http::header;

use crate::image::digest::{Digest, HashingReader};
use crate::image::manifest::{Descriptor, Document, Manifest, parse};
use crate::image::registry::auth::percent;
use crate::image::registry::client::{Answer, Ask, Registry, text_of};
use crate::image::registry::connection::{join, logged, origin};
use crate::image::registry::registries::endpoints;
use crate::image::registry::retry::Failure;
use crate::image::{Limits, Progress, PullOptions, Reference, Store};
use crate::{Context, Error, Kind, Result};

/// Where content comes from, by its digest.
pub trait Blobs {
    /// The bytes as they were when their digest was taken, and how many.
    /// `None` if they are not here.
    fn open_blob(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + '_>, u64)>>;
}

/// A manifest to be pushed, with its media type if it does not say so itself.
pub struct Pushed<'a> {
    pub manifest: &'a [u8],
    pub media_type: &'a str,
    /// A repository at the same registry that has the blobs, perhaps: where
    /// the image was pulled from.
    pub origin: Option<&'a Reference>,
}

/// Pushes to `to` by its tag, or by digest if it has none. Returns the
/// manifest's digest. Errors are [`Kind::Image`].
pub fn push(
    to: &Reference,
    image: &Pushed<'_>,
    blobs: &dyn Blobs,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Digest> {
    push_image(to, image, blobs, options, progress)
        .map_err(|e| match e.kind() {
            Kind::Permission => e,
            _ => e.with_kind(Kind::Image),
        })
        .with_context(|| format!("push {to}"))
}

fn push_image(
    to: &Reference,
    image: &Pushed<'_>,
    blobs: &dyn Blobs,
    options: &PullOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Digest> {
    let digest = Digest::of(image.manifest);
    if let Some(wanted) = to.digest()
        && wanted != digest.as_str()
    {
        return Err(Error::invalid(format!(
            "the image has the digest {digest}, not the one that it is pushed by"
        )));
    }
    let Document::Manifest(Manifest { config, layers }) =
        parse(image.manifest, image.media_type, &Limits::of_the_store())?
    else {
        return Err(Error::unsupported(
            "an index is not pushed, only an image of one platform",
        ));
    };
    let endpoint = endpoints(to, options)?
        .into_iter()
        .filter(|e| e.pushes)
        .find(|e| !e.mirror)
        .ok_or_else(|| Error::new(Kind::Image, "no server is configured to be pushed to"))?;
    let from = image
        .origin
        .filter(|o| o.registry() == to.registry() && o.repository() != endpoint.repository);
    let mut registry = Registry::new(endpoint, to.registry(), options, "pull,push")?;
    if let Some(from) = from {
        registry.also_from(from.repository());
    }
    progress(Progress::Resolved {
        digest: digest.to_string(),
        layers: layers.len(),
        size: layers.iter().fold(0, |n, l| n.saturating_add(l.size)),
    });
    for blob in layers.iter().chain([&config]) {
        send_blob(&registry, blob, from, blobs, progress)
            .with_context(|| format!("blob {}", blob.digest))?;
    }
    let media_type = type_of(image)?;
    let selector = to.tag().unwrap_or(digest.as_str());
    send_manifest(&registry, selector, &media_type, image.manifest)?;
    Ok(digest)
}

/// What the registry is told that the manifest is: its own word, or else what
/// it was declared as.
fn type_of(image: &Pushed<'_>) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Own {
        #[serde(rename = "mediaType", default)]
        media_type: String,
    }
    let own: Own = serde_json::from_slice(image.manifest).context("manifest")?;
    let oci = "application/vnd.oci.image.manifest.v1+json";
    Ok([own.media_type.as_str(), image.media_type, oci]
        .into_iter()
        .find(|t| !t.is_empty())
        .unwrap_or(oci)
        .to_owned())
}

fn send_blob(
    registry: &Registry,
    blob: &Descriptor,
    from: Option<&Reference>,
    blobs: &dyn Blobs,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let layer = blob.digest.to_string();
    let there = Ask {
        head: true,
        what: &format!("blobs/{layer}"),
        accept: None,
        from: 0,
        size: 0,
    };
    let has = registry.retrying(|| match registry.ask(&there) {
        Ok(_) => Ok(true),
        Err(f) if f.status == 404 => Ok(false),
        Err(f) => Err(f),
    })?;
    if has {
        progress(Progress::Exists { layer });
        return Ok(());
    }
    let mut mount = from.map(|f| f.repository());
    let sent = registry.retrying(|| {
        let Some(location) = begin(registry, &blob.digest, mount.take())? else {
            return Ok(false);
        };
        send_bytes(registry, &location, blob, blobs, progress)?;
        Ok(true)
    })?;
    progress(match sent {
        true => Progress::Pushed { layer },
        false => Progress::Exists { layer },
    });
    Ok(())
}

/// Where to send a blob to; `None` if it was mounted and is there now.
fn begin(
    registry: &Registry,
    digest: &Digest,
    mount: Option<&str>,
) -> Result<Option<String>, Failure> {
    let what = match mount {
        Some(from) => format!("blobs/uploads/?mount={digest}&from={}", percent(from)),
        None => "blobs/uploads/".to_owned(),
    };
    let url = registry.url(registry.spoken(), &what);
    let response = registry.authorized(&url, &mut |value| {
        let mut request = registry.agent_for(&url).post(&url);
        for (name, value) in registry.headers_for(&url, value) {
            request = request.header(name, value);
        }
        logged("POST", &url, || {
            request
                .send_empty()
                .map_err(|e| registry.no_answer(&url, e))
        })
    })?;
    let response = registry.judge(response, 0)?;
    if response.status() == 201 {
        return Ok(None);
    }
    let location = text_of(response.headers(), header::LOCATION);
    let next = join(&url, &location).ok_or_else(|| registry.bad_url(&location))?;
    if url.starts_with("https://") && !next.starts_with("https://") {
        return Err(Failure::lasting(
            registry.error("it wants the upload in plain HTTP"),
        ));
    }
    Ok(Some(next))
}

fn send_bytes(
    registry: &Registry,
    location: &str,
    blob: &Descriptor,
    blobs: &dyn Blobs,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    let joint = if location.contains('?') { '&' } else { '?' };
    let url = format!("{location}{joint}digest={}", percent(blob.digest.as_str()));
    let response = registry.authorized(&url, &mut |value| -> Answer {
        let open = blobs.open_blob(&blob.digest).map_err(Failure::lasting)?;
        let (bytes, size) = open.ok_or_else(|| absent(registry, blob))?;
        if size != blob.size {
            return Err(absent(registry, blob));
        }
        let mut body = Told {
            inner: HashingReader::new(bytes, size, "blob"),
            layer: blob.digest.to_string(),
            size,
            told: 0,
            progress: &mut *progress,
        };
        let mut request = registry
            .agent_for(&url)
            .put(&url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size);
        for (name, value) in registry.headers_for(&url, value) {
            request = request.header(name, value);
        }
        let answer = logged("PUT", &url, || {
            request
                .send(SendBody::from_reader(&mut body))
                .map_err(|e| registry.no_answer(&url, e))
        });
        // Otherwise what the store has is wrong, and the registry said no.
        match body.inner.count() == size && body.inner.digest() != blob.digest {
            true => Err(Failure::lasting(Error::new(
                Kind::Image,
                "its content in the store has another digest",
            ))),
            false => answer,
        }
    })?;
    registry.judge(response, 0).map(drop)
}

fn absent(registry: &Registry, blob: &Descriptor) -> Failure {
    Failure::lasting(
        registry
            .error(&format!("it lacks {}, and so does the store", blob.digest))
            .hint("pull or load the image again, so that its layers are kept as they came"),
    )
}

fn send_manifest(
    registry: &Registry,
    selector: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<()> {
    let url = registry.url(registry.spoken(), &format!("manifests/{selector}"));
    registry.retrying(|| {
        let response = registry.authorized(&url, &mut |value| {
            let mut request = registry
                .agent_for(&url)
                .put(&url)
                .header(header::CONTENT_TYPE, media_type);
            for (name, value) in registry.headers_for(&url, value) {
                request = request.header(name, value);
            }
            logged("PUT", &url, || {
                request.send(bytes).map_err(|e| registry.no_answer(&url, e))
            })
        })?;
        let response = registry.judge(response, 0)?;
        let said = response.headers().get("docker-content-digest");
        let ours = Digest::of(bytes);
        match said.and_then(|v| v.to_str().ok()) {
            Some(theirs) if theirs != ours.as_str() => Err(Failure::lasting(
                registry.error(&format!("sent {ours}, it has stored {theirs}")),
            )),
            _ => Ok(()),
        }
    })
}

/// Tells how far a body is.
struct Told<'a, R> {
    inner: HashingReader<R>,
    layer: String,
    size: u64,
    told: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        let done = self.inner.count();
        if done - self.told >= 1 << 20 || (done == self.size && self.told < done) {
            self.told = done;
            (self.progress)(Progress::Layer {
                layer: self.layer.clone(),
                done,
                size: self.size,
            });
        }
        Ok(n)
    }
}

impl Registry {
    /// What a request to `url` carries beside its own: all of it for the
    /// registry's origin, nothing for another.
    fn headers_for<'a>(&'a self, url: &str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        if origin(url) != origin(&self.url(self.spoken(), "")) {
            return Vec::new();
        }
        let own = self.endpoint.headers.iter();
        let own = own.map(|(n, v)| (n.as_str(), v.as_str()));
        own.chain(value.map(|v| ("authorization", v))).collect()
    }
}

impl Store {
    /// Pushes an image, given by name or id, to `to`; see [`push`].
    pub fn push(
        &self,
        image: &str,
        to: &Reference,
        options: &PullOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest> {
        let found = self.lookup_any(image)?.ok_or_else(|| self.absent(image))?;
        let id = Digest::parse(&found.id)?;
        let record = self.record(&id)?.ok_or_else(|| self.absent(image))?;
        let manifest = self.manifest_of(&record, found.digest.as_deref())?;
        let names: Vec<Reference> = found.names.iter().filter_map(|n| n.parse().ok()).collect();
        let origin = names
            .iter()
            .find(|n| n.registry() == to.registry() && n.repository() != to.repository());
        let pushed = Pushed {
            manifest: &manifest,
            media_type: "",
            origin,
        };
        push(to, &pushed, self, options, progress)
    }
}

impl Blobs for Store {
    fn open_blob(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + '_>, u64)>> {
        let path = self.blobs().join(digest.hex());
        match std::fs::File::open(&path) {
            Ok(file) => {
                let size = file.metadata().context("fstat()")?.len();
                Ok(Some((Box::new(file), size)))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context(format!("open({})", path.display())),
        }
    }
}
