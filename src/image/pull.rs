//! `pull`: a reference at a registry to an image of the store.
//!
//! The manifest is asked for by the reference's digest, or its tag; everything
//! behind it by digest, and verified. What the store has is not asked for.

use std::io::Read;

use crate::image::digest::Digest;
use crate::image::layer::fetch::LayerSource;
use crate::image::manifest::{
    ACCEPT, Descriptor, Document, Manifest, Platform, choose, parse, parse_config,
};
use crate::image::registry::sources::Sources;
use crate::image::store::ingest::{Wanted, ingest};
use crate::image::store::transaction::Transaction;
use crate::image::{Image, Progress, PullOptions, Reference, Store};
use crate::{Context, Error, Kind, Result};

/// Indexes on the way to a manifest.
const MAX_NESTING: usize = 3;

struct Remote<'a> {
    sources: &'a Sources,
    layers: &'a [Descriptor],
}

impl LayerSource for Remote<'_> {
    fn open_layer(&self, index: usize) -> Result<Box<dyn Read + '_>> {
        self.open_layer_at(index, 0)
    }

    fn open_layer_at(&self, index: usize, offset: u64) -> Result<Box<dyn Read + '_>> {
        let layer = &self.layers[index];
        let blob = self.sources.blob(&layer.digest, layer.size, offset)?;
        Ok(Box::new(blob))
    }
}

impl Store {
    /// Pulls an image and gives it the name `r`. Of an index, the image for
    /// `opts.platform`. Blocks, with up to two threads of its own that end
    /// before it returns; `progress` is called on the caller's thread.
    ///
    /// Errors are [`Kind::Image`], but for a wrong platform's spelling
    /// ([`Kind::Usage`]) and a lack of rights.
    pub fn pull(
        &self,
        r: &Reference,
        opts: &PullOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image> {
        let platform = match &opts.platform {
            Some(p) => Platform::parse(p)?,
            None => Platform::host(),
        };
        self.pull_for(r, opts, &platform, progress)
            .map_err(|e| match e.kind() {
                Kind::Permission => e,
                _ => e.with_kind(Kind::Image),
            })
            .with_context(|| format!("pull {r}"))
            .map_err(|e| self.without_pull(r, e))
    }

    fn pull_for(
        &self,
        r: &Reference,
        opts: &PullOptions,
        platform: &Platform,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image> {
        log::debug!("pull {r}");
        progress(Progress::Resolving {
            name: r.to_string(),
        });
        let limits = &self.limits;
        let sources = Sources::new(r, opts)?;
        let (bytes, media_type) = sources.manifest(r.selector(), ACCEPT, limits.manifest_size)?;
        let digest = Digest::of(&bytes);
        let mut documents = Vec::new();
        let mut document = parse(&bytes, &media_type, limits)?;
        documents.push(bytes);
        // An index may lead to another, as buildkit and containerd have it.
        while let Document::Index(list) = &document {
            if documents.len() > MAX_NESTING {
                return Err(Error::invalid(format!(
                    "more than {MAX_NESTING} indexes within each other"
                )));
            }
            let chosen = choose(list, platform)?;
            let bytes = sources
                .manifest(chosen.digest.as_str(), ACCEPT, limits.manifest_size)?
                .0;
            check_size("manifest", &bytes, chosen)?;
            document = parse(&bytes, &chosen.media_type, limits)?;
            documents.push(bytes);
        }
        let Document::Manifest(Manifest { config, layers }) = document else {
            return Err(Error::invalid("neither a manifest nor an index"));
        };
        progress(Progress::Resolved {
            digest: digest.to_string(),
            layers: layers.len(),
            size: layers.iter().fold(0, |n, l| n.saturating_add(l.size)),
        });
        let config_bytes = sources.small_blob(&config.digest, limits.config_size)?;
        check_size("config", &config_bytes, &config)?;
        let wanted = Wanted {
            config: parse_config(&config_bytes, limits)?,
            config_bytes,
            layers: Some(layers.clone()),
            digest: Some(digest),
            documents,
            names: vec![r.clone()],
        };
        let transaction = Transaction::begin(self)?;
        let remote = Remote {
            sources: &sources,
            layers: &layers,
        };
        ingest(&transaction, &wanted, &remote, progress)
    }
}

fn check_size(what: &str, bytes: &[u8], descriptor: &Descriptor) -> Result<()> {
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::invalid(format!(
            "the {what} has {} bytes, not {} as was declared",
            bytes.len(),
            descriptor.size
        )));
    }
    Ok(())
}
