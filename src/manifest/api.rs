//! The API's kinds, types and fields as Kubernetes describes them: what build.rs has taken
//! from the schemas of k8s-openapi. Expanded when it is asked for, once: some 200 KiB.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::DeflateDecoder;
use serde::Deserialize;

use crate::{Context, Error, Result};

static FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.json.deflate"));

#[derive(Debug, Deserialize)]
pub(crate) struct Api {
    pub kinds: Vec<Kind>,
    /// By their names, without the `io.k8s.` that all have.
    types: BTreeMap<String, Type>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Kind {
    pub kind: String,
    pub group: String,
    pub version: String,
    /// In lower case: the singular, the plural, short ones.
    pub names: Vec<String>,
    #[serde(rename = "type")]
    type_name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Type {
    pub description: String,
    /// What it is in JSON, unless that is an object or not always the same.
    plain: Option<String>,
    /// In the order that kubectl shows them in.
    pub fields: BTreeMap<String, Field>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Field {
    /// Such as `[]api.core.v1.Container` and `map[string]string`.
    #[serde(rename = "type")]
    type_name: String,
    pub required: bool,
    pub description: String,
    /// Those that there are, where they are few and known.
    pub values: Vec<String>,
}

impl Api {
    /// An error would be a fault of the build.
    pub(crate) fn get() -> Result<&'static Api> {
        static API: LazyLock<Result<Api>> = LazyLock::new(read);
        API.as_ref().map_err(Error::clone)
    }

    pub(crate) fn type_of_kind(&self, kind: &Kind) -> Option<&Type> {
        self.types.get(&kind.type_name)
    }

    /// The type of a field, or of the items or values of one that is a list or a map; none
    /// for `string` and other plain values.
    pub(crate) fn type_of(&self, field: &Field) -> Option<&Type> {
        self.types.get(item(&field.type_name))
    }

    /// As kubectl shows it: `[]Container`, `map[string]Quantity`, `string`.
    pub(crate) fn shown_type(&self, field: &Field) -> String {
        let item = item(&field.type_name);
        let around = &field.type_name[..field.type_name.len() - item.len()];
        let plain = self.types.get(item).and_then(|t| t.plain.as_deref());
        let name = plain.or(item.rsplit('.').next()).unwrap_or(item);
        format!("{around}{name}")
    }
}

impl Field {
    pub(crate) fn is_list(&self) -> bool {
        self.type_name.starts_with("[]")
    }

    pub(crate) fn is_map(&self) -> bool {
        self.type_name.starts_with("map[string]")
    }
}

fn item(type_name: &str) -> &str {
    let mut item = type_name;
    while let Some(rest) = item
        .strip_prefix("[]")
        .or_else(|| item.strip_prefix("map[string]"))
    {
        item = rest;
    }
    item
}

fn read() -> Result<Api> {
    const DOING: &str = "read the API's descriptions, which this program contains";
    let mut text = Vec::new();
    let file = DeflateDecoder::new(FILE).read_to_end(&mut text);
    file.map_err(|e| Error::failed(e.to_string()))
        .context(DOING)?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::failed(e.to_string()))
        .context(DOING)
}
