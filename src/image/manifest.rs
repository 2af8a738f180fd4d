//! Manifests, indexes and configs: untrusted JSON to checked values.
//!
//! OCI image-spec (manifest.md, image-index.md, config.md) and Docker's schema
//! 2, which differ in media types only. Every document is bounded in size
//! before it is parsed, in depth and in the number of values. A document that
//! could be read as both a manifest and an index is refused (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::image::digest::Digest;
use crate::image::{Config, Limits};
use crate::{Context, Error, Kind, Result};

/// Platforms that an error names.
const MAX_SHOWN: usize = 50;

/// Manifests of one index.
const MAX_MANIFESTS: usize = 4096;

/// What a manifest request says that it takes, the first preferred.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Platform {
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl Platform {
    pub fn parse(s: &str) -> Result<Self> {
        let parts: Vec<&str> = s.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, variant),
            _ => ("", "", ""),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(Error::new(
                Kind::Usage,
                format!("{s:?} is no platform; one is written linux/amd64 or linux/arm/v7"),
            ));
        }
        Ok(Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
        })
    }

    /// This machine's, in Go's words.
    pub fn host() -> Self {
        let architecture = crate::linux::elf::host();
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: if architecture == "arm" { "v7" } else { "" }.into(),
        }
    }

    /// How well an image for `self` runs where `wanted` is asked for; lower is
    /// better. Without a variant the baseline is meant.
    fn distance(&self, wanted: &Platform) -> Option<u32> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        let level = |p: &Platform| -> Option<u32> {
            match (p.architecture.as_str(), p.variant.as_str()) {
                ("amd64", "") => Some(1),
                ("arm64", "") => Some(8),
                ("arm", "") => Some(7),
                (_, "") => Some(0),
                (_, v) => v.strip_prefix('v')?.split('.').next()?.parse().ok(),
            }
        };
        match (level(self), level(wanted)) {
            // A CPU of a higher level runs what a lower one does.
            (Some(mine), Some(wanted)) if mine <= wanted => Some(wanted - mine),
            _ => (self.variant == wanted.variant).then_some(0),
        }
    }
}

#[derive(Debug)]
pub enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Debug)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: u64,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Docker schema 1 only.
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Parses a manifest or an index. `declared` is the media type that a
/// descriptor or a registry gave it; empty if nobody did.
pub fn parse(bytes: &[u8], declared: &str, limits: &Limits) -> Result<Document> {
    limits.check_json("manifest", bytes)?;
    let raw: RawDocument = serde_json::from_slice(bytes).context("manifest")?;
    let declared = declared.split(';').next().unwrap_or_default().trim();
    let schema1 = "application/vnd.docker.distribution.manifest.v1";
    if raw.schema_version == 1 || raw.fs_layers.is_some() || declared.starts_with(schema1) {
        return Err(
            Error::unsupported("manifest: Docker's schema 1 is not supported")
                .hint("push the image again with a tool of this decade"),
        );
    }
    let media_type = match (declared, raw.media_type.as_str()) {
        // Static file servers and old registries know no better.
        ("" | "application/json" | "application/octet-stream" | "text/plain", inner) => inner,
        (outer, "") => outer,
        (outer, inner) if outer == inner => inner,
        (outer, inner) => {
            return Err(Error::invalid(format!(
                "manifest: its media type is {inner:?}, but {outer:?} was declared"
            )));
        }
    };
    let is_index = match media_type {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => true,
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => false,
        "" => raw.manifests.is_some(),
        other => {
            return Err(Error::unsupported(format!(
                "manifest: the media type {other:?} is not supported"
            )));
        }
    };
    match (is_index, raw.manifests, raw.config, raw.layers) {
        (true, Some(manifests), None, None) => {
            if manifests.len() > MAX_MANIFESTS {
                return Err(Error::invalid(format!(
                    "index: more than {MAX_MANIFESTS} manifests"
                )));
            }
            Ok(Document::Index(manifests))
        }
        (false, None, Some(config), Some(layers)) => {
            check_manifest(&config, &layers, limits)?;
            Ok(Document::Manifest(Manifest { config, layers }))
        }
        (true, ..) => Err(Error::invalid(
            "index: it must have manifests, and no layers",
        )),
        (false, ..) => Err(Error::invalid(
            "manifest: it must have a config and layers, and no manifests",
        )),
    }
}

fn check_manifest(config: &Descriptor, layers: &[Descriptor], limits: &Limits) -> Result<()> {
    match config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => {}
        other => {
            return Err(Error::unsupported(format!(
                "manifest: not a container image but an artifact: its config is of type {other:?}"
            )));
        }
    }
    if config.size > limits.config_size {
        return Err(limits.exceeded("config-size", "the config has more bytes"));
    }
    check_layers(layers.len(), limits)?;
    for layer in layers {
        match layer.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {}
            other => {
                return Err(Error::unsupported(format!(
                    "manifest: layers of type {other:?} are not supported"
                )));
            }
        }
    }
    Ok(())
}

/// Whether an image may have so many.
pub(crate) fn check_layers(n: usize, limits: &Limits) -> Result<()> {
    if n as u64 > limits.layers {
        let what = format!("the image has {n} layers, more");
        return Err(limits.exceeded("layers", &what));
    }
    Ok(())
}

/// The manifest of an index that fits `wanted` best.
pub fn choose<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor> {
    let known = |d: &&Descriptor| {
        // Attestations hide in indexes as platform unknown/unknown.
        d.platform.as_ref().is_some_and(|p| p.os != "unknown")
    };
    let best = manifests
        .iter()
        .filter_map(|d| Some((d.platform.as_ref()?.distance(wanted)?, d)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, descriptor)) = best {
        return Ok(descriptor);
    }
    if let [only] = manifests
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut there: Vec<String> = manifests
        .iter()
        .filter(known)
        .filter_map(|d| d.platform.as_ref().map(Platform::to_string))
        // It is anybody's text, for a terminal's line.
        .map(|p| p.escape_debug().take(100).collect())
        .collect();
    there.sort();
    there.dedup();
    there.truncate(MAX_SHOWN);
    let there = if there.is_empty() {
        "none".to_owned()
    } else {
        there.join(", ")
    };
    Err(Error::new(
        Kind::Image,
        format!("the image has no manifest for {wanted}, only for: {there}"),
    ))
}

/// What is used of an image's config.
#[derive(Debug)]
pub struct ImageConfig {
    pub config: Config,
    pub diff_ids: Vec<Digest>,
    pub created: Option<String>,
    pub architecture: String,
    pub os: String,
}

pub fn parse_config(bytes: &[u8], limits: &Limits) -> Result<ImageConfig> {
    limits.check_json("config", bytes)?;
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default, deserialize_with = "or_default")]
        architecture: String,
        #[serde(default, deserialize_with = "or_default")]
        os: String,
        #[serde(default)]
        created: Option<String>,
        #[serde(default, deserialize_with = "or_default")]
        config: RawConfig,
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default, deserialize_with = "or_default")]
        diff_ids: Vec<Digest>,
    }
    // Docker writes null for what is empty, hence `or_default` everywhere.
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct RawConfig {
        #[serde(default, deserialize_with = "or_default")]
        env: Vec<String>,
        #[serde(default, deserialize_with = "or_default")]
        entrypoint: Vec<String>,
        #[serde(default, deserialize_with = "or_default")]
        cmd: Vec<String>,
        #[serde(default, deserialize_with = "or_default")]
        user: String,
        #[serde(default, deserialize_with = "or_default")]
        working_dir: String,
        #[serde(default, deserialize_with = "or_default")]
        volumes: BTreeMap<String, serde::de::IgnoredAny>,
        #[serde(default, deserialize_with = "or_default")]
        stop_signal: String,
        #[serde(default, deserialize_with = "or_default")]
        exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
        #[serde(default, deserialize_with = "or_default")]
        labels: BTreeMap<String, String>,
    }
    let raw: Raw = serde_json::from_slice(bytes).context("image config")?;
    check_layers(raw.rootfs.diff_ids.len(), limits)?;
    Ok(ImageConfig {
        diff_ids: raw.rootfs.diff_ids,
        created: raw.created.filter(|c| !c.is_empty()),
        architecture: raw.architecture,
        os: raw.os,
        config: Config {
            env: raw.config.env,
            entrypoint: raw.config.entrypoint,
            cmd: raw.config.cmd,
            user: raw.config.user,
            working_dir: raw.config.working_dir,
            volumes: raw.config.volumes.into_keys().collect(),
            stop_signal: Some(raw.config.stop_signal).filter(|s| !s.is_empty()),
            exposed_ports: raw.config.exposed_ports.into_keys().collect(),
            labels: raw.config.labels,
        },
    })
}

/// `null` is the default, as Go's decoder has it.
fn or_default<'de, D, T>(d: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "size": 2, "digest": Digest::of(b"{}").as_str()})
    }

    fn manifest(config: &str, layer: &str) -> Value {
        json!({"schemaVersion": 2, "config": descriptor(config), "layers": [descriptor(layer)]})
    }

    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn refused(v: &Value, declared: &str) -> String {
        parse(v.to_string().as_bytes(), declared, &Limits::default())
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn one_document_has_one_meaning() {
        let good = manifest(CONFIG, LAYER);
        for declared in [
            "",
            MANIFEST,
            "application/json",
            &format!("{MANIFEST}; charset=utf-8"),
        ] {
            let d = parse(good.to_string().as_bytes(), declared, &Limits::default()).unwrap();
            assert!(matches!(d, Document::Manifest(_)));
        }
        let mut both = good.clone();
        both["manifests"] = json!([]);
        refused(&both, MANIFEST);
        refused(&both, INDEX);
        refused(&both, "");
        refused(&good, INDEX);
        let mut inner = good.clone();
        inner["mediaType"] = INDEX.into();
        assert!(refused(&inner, MANIFEST).contains("was declared"));
    }

    #[test]
    fn unknown_types_are_refused_by_name() {
        assert!(refused(&manifest("application/x.helm", LAYER), "").contains("x.helm"));
        assert!(refused(&manifest(CONFIG, "x/layer+encrypted"), "").contains("x/layer+encrypted"));
        assert!(refused(&manifest(CONFIG, LAYER), "text/html").contains("text/html"));
        assert!(refused(&json!({"schemaVersion": 1, "fsLayers": []}), "").contains("schema 1"));
        let mut bad = manifest(CONFIG, LAYER);
        bad["layers"][0]["digest"] = "sha256:../../etc/passwd".into();
        refused(&bad, "");
    }

    #[test]
    fn chooses_the_platform() {
        let m = |p: &str| Descriptor {
            platform: Some(Platform::parse(p).unwrap()),
            ..serde_json::from_value(descriptor(MANIFEST)).unwrap()
        };
        let list = [
            m("linux/amd64/v3"),
            m("linux/amd64"),
            m("linux/arm/v6"),
            m("linux/arm/v7"),
            m("linux/arm64/v8"),
            m("windows/amd64"),
            m("unknown/unknown"),
        ];
        let pick = |want: &str| {
            choose(&list, &Platform::parse(want).unwrap())
                .map(|d| d.platform.clone().unwrap().to_string())
        };
        assert_eq!(pick("linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(pick("linux/amd64/v3").unwrap(), "linux/amd64/v3");
        assert_eq!(pick("linux/arm").unwrap(), "linux/arm/v7");
        assert_eq!(pick("linux/arm/v6").unwrap(), "linux/arm/v6");
        assert_eq!(pick("linux/arm64").unwrap(), "linux/arm64/v8");
        let e = pick("linux/s390x").unwrap_err().to_string();
        assert!(
            e.contains("linux/arm64/v8") && !e.contains("unknown"),
            "{e}"
        );
    }

    #[test]
    fn configs_with_nulls_and_depth() {
        let c = parse_config(
            br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["a"],
            "Volumes":{"/v":{}},"Labels":null,"ExposedPorts":{"80/tcp":{}}},
            "rootfs":{"type":"layers","diff_ids":null}}"#,
            &Limits::default(),
        )
        .unwrap();
        assert_eq!(c.config.cmd, ["a"]);
        assert_eq!(c.config.volumes, ["/v"]);
        assert_eq!(c.config.exposed_ports, ["80/tcp"]);
        // Where nobody looks, too.
        let deep = |n: usize| {
            let lists = "[".repeat(n) + &"]".repeat(n);
            format!("{{\"rootfs\":{{}},\"history\":{lists}}}")
        };
        let limits = Limits::default();
        parse_config(deep(60).as_bytes(), &limits).unwrap();
        let e = parse_config(deep(10_000).as_bytes(), &limits).unwrap_err();
        assert!(
            e.to_string().contains("nested deeper than json-depth=64"),
            "{e}"
        );
    }
}
