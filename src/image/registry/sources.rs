//! The servers of one reference as one: each question goes to the first, and on
//! to the next where that one has no good answer.
//!
//! A mirror is believed about tags, as whoever configured it wanted; what is
//! asked for by digest is compared, and a mirror that has something else is
//! passed over like one that has nothing.

use crate::image::digest::Digest;
use crate::image::registry::blob::Blob;
use crate::image::registry::client::Registry;
use crate::image::registry::endpoint::Endpoint;
use crate::image::registry::registries::endpoints;
use crate::image::{PullOptions, Reference};
use crate::{Error, Kind, Result};

pub(crate) struct Sources(Vec<Registry>);

impl Sources {
    pub(crate) fn new(r: &Reference, options: &PullOptions) -> Result<Self> {
        let mut list: Vec<Registry> = endpoints(r, options)?
            .into_iter()
            .filter(|e| e.pulls || e.resolves)
            .map(|e: Endpoint| Registry::new(e, r.registry(), options, "pull"))
            .collect::<Result<_>>()?;
        // There is somebody else to ask.
        if let [mirrors @ .., _] = &mut list[..] {
            for mirror in mirrors {
                mirror.patience.tries = mirror.patience.tries.min(2);
            }
        }
        Ok(Sources(list))
    }

    /// As [`Registry::manifest`], with what a digest promises verified.
    pub(crate) fn manifest(
        &self,
        selector: &str,
        accept: &str,
        limit: u64,
    ) -> Result<(Vec<u8>, String)> {
        let wanted = Digest::parse(selector).ok();
        let fits = |e: &Endpoint| {
            if wanted.is_some() {
                e.pulls
            } else {
                e.resolves
            }
        };
        self.first(fits, |registry| {
            let (bytes, media_type) = registry.manifest(selector, accept, limit)?;
            if let Some(wanted) = &wanted {
                verify("manifest", wanted, &bytes)?;
            }
            Ok((bytes, media_type))
        })
    }

    /// A small blob, whole and verified.
    pub(crate) fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.first(
            |e| e.pulls,
            |registry| {
                let bytes = registry.small_blob(digest, limit)?;
                verify("blob", digest, &bytes)?;
                Ok(bytes)
            },
        )
    }

    /// As [`Registry::blob`]: not verified.
    pub(crate) fn blob(&self, digest: &Digest, size: u64, from: u64) -> Result<Blob<'_>> {
        self.first(|e| e.pulls, |registry| registry.blob(digest, size, from))
    }

    fn first<'a, T>(
        &'a self,
        fits: impl Fn(&Endpoint) -> bool,
        ask: impl Fn(&'a Registry) -> Result<T>,
    ) -> Result<T> {
        let mut errors: Vec<Error> = Vec::new();
        for registry in self.0.iter().filter(|r| fits(&r.endpoint)) {
            match ask(registry) {
                Ok(answer) => return Ok(answer),
                Err(e) => errors.push(e),
            }
        }
        match errors.len() {
            0 => Err(
                Error::new(Kind::Image, "no server is configured to answer this")
                    .hint("see capabilities in containerd's hosts.toml"),
            ),
            1 => Err(errors.remove(0)),
            _ => {
                let text: Vec<String> = errors.iter().map(Error::to_string).collect();
                let all = Error::new(Kind::Image, text.join("; "));
                Err(match errors.last().and_then(Error::get_hint) {
                    Some(hint) => all.hint(hint),
                    None => all,
                })
            }
        }
    }
}

fn verify(what: &str, wanted: &Digest, bytes: &[u8]) -> Result<()> {
    let found = Digest::of(bytes);
    if found == *wanted {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "asked for the {what} {wanted}, the registry sent {found}"
    )))
}
