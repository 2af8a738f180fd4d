//! Images of given layers: as blobs, an OCI archive, or a docker-archive.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tar::tar;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

pub(crate) fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a registry or a layout holds, and how it is entered.
#[derive(Clone, Default)]
pub(crate) struct Oci {
    /// By digest, which need not be right.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// The descriptor of what the name means.
    pub top: Value,
}

impl Oci {
    pub(crate) fn put(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, bytes.to_vec());
        descriptor
    }

    /// Of layers as they come, and plain, with changes to the config's `config`.
    pub(crate) fn packed(layers: &[(Vec<u8>, &[u8])], config: Value) -> Oci {
        let mut oci = Oci::default();
        let packed: Vec<Value> = layers.iter().map(|(l, _)| oci.put(LAYER, l)).collect();
        let plain: Vec<String> = layers.iter().map(|(_, plain)| digest(plain)).collect();
        let config = config_of(&plain, config);
        let config = oci.put(CONFIG, config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": packed,
        });
        oci.top = oci.put(MANIFEST, manifest.to_string().as_bytes());
        oci
    }

    pub(crate) fn new(layers: &[Vec<u8>]) -> Oci {
        let layers: Vec<(Vec<u8>, &[u8])> = layers.iter().map(|l| (gzip(l), &l[..])).collect();
        Oci::packed(&layers, json!({}))
    }

    /// With another manifest, after changes to it.
    pub(crate) fn with_manifest(mut self, change: impl Fn(&mut Value)) -> Oci {
        let old = self.top["digest"].as_str().unwrap().to_owned();
        let mut manifest: Value =
            serde_json::from_slice(&self.blobs.remove(&old).unwrap()).unwrap();
        change(&mut manifest);
        let media_type = self.top["mediaType"].as_str().unwrap().to_owned();
        self.top = self.put(&media_type, manifest.to_string().as_bytes());
        self
    }

    /// With the manifest's text changed.
    pub(crate) fn with_text(mut self, change: impl Fn(String) -> String) -> Oci {
        let old = self.top["digest"].as_str().unwrap().to_owned();
        let text = String::from_utf8(self.blobs.remove(&old).unwrap()).unwrap();
        let media_type = self.top["mediaType"].as_str().unwrap().to_owned();
        self.top = self.put(&media_type, change(text).as_bytes());
        self
    }

    /// With these bytes for its config.
    pub(crate) fn with_config(mut self, config: &[u8]) -> Oci {
        let config = self.put(CONFIG, config);
        self.with_manifest(|m| m["config"] = config.clone())
    }

    /// The bytes of the blob of that role are others, its digest is not.
    pub(crate) fn with_content(mut self, pointer: &str, change: impl Fn(&mut Vec<u8>)) -> Oci {
        let top = &self.blobs[self.top["digest"].as_str().unwrap()];
        let manifest: Value = serde_json::from_slice(top).unwrap();
        let digest = manifest.pointer(pointer).unwrap()["digest"]
            .as_str()
            .unwrap();
        change(self.blobs.get_mut(digest).unwrap());
        self
    }

    pub(crate) fn archive(&self, name: &str) -> Vec<u8> {
        let mut top = self.top.clone();
        top["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        let mut t = tar()
            .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", index.to_string());
        for (digest, bytes) in &self.blobs {
            t = t.file(digest.replace("sha256:", "blobs/sha256/"), bytes);
        }
        t.end()
    }
}

pub(crate) fn config_of(diff_ids: &[String], config: Value) -> Value {
    json!({
        "architecture": arch(), "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// A docker-archive; `layers` are what manifest.json calls them.
pub(crate) fn docker(layer: &[u8], layers: &[&str], tag: &str) -> crate::tar::Tar {
    let diff_ids: Vec<String> = layers.iter().map(|_| digest(layer)).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": layers}]);
    tar()
        .file("config.json", config_of(&diff_ids, json!({})).to_string())
        .file("manifest.json", manifest.to_string())
}
