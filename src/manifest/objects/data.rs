//! ConfigMaps and Secrets: keys and values. The checks are those of ValidateConfigMap and
//! ValidateSecret of Kubernetes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use serde_json::json;

use crate::manifest::names;
use crate::manifest::report::Report;
use crate::manifest::tree::{Node, Path, Value};
use crate::spec::{Object, PullSecret};

/// The type of a Secret that names none.
const OPAQUE: &str = "Opaque";

/// The types' own complaint about what is not base64 would have no place.
pub(super) fn check_base64(r: &mut Report<'_>, node: &Node, field: &str) {
    let Some(Value::Map(entries)) = node.get(field).map(|d| &d.value) else {
        return;
    };
    for (key, value) in entries.iter().filter(|(_, v)| !v.is_null()) {
        let Some(text) = value.as_str() else { continue };
        if serde_json::from_value::<ByteString>(text.into()).is_err() {
            let path = Path::default().key(field).key(&key.name);
            r.problem(
                &path,
                "is not base64: encode it (printf %s VALUE | base64 -w0), or put the plain text under stringData",
            );
        }
    }
}

/// The types' own complaint about a value that is no text would show the value.
pub(super) fn check_texts(r: &mut Report<'_>, node: &Node) {
    for field in ["data", "stringData"] {
        let path = Path::default().key(field);
        match node.get(field).map(|d| &d.value) {
            None | Some(Value::Null) => {}
            Some(Value::Map(entries)) => {
                let is_text = |v: &Node| v.is_null() || v.as_str().is_some();
                for (key, _) in entries.iter().filter(|(_, v)| !is_text(v)) {
                    let why = "expected a string: write the value in quotes";
                    r.problem(&path.key(&key.name), why);
                }
            }
            Some(_) => r.problem(&path, "expected a mapping of keys to strings"),
        }
    }
}

pub(super) fn config_map(r: &mut Report<'_>, map: &mut core::ConfigMap) {
    let root = Path::default();
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        let path = root.key("data").key(key);
        r.check(&path, key, names::config_key(key));
        if map
            .binary_data
            .as_ref()
            .is_some_and(|b| b.contains_key(key))
        {
            r.invalid(&path, key, "duplicate of key present in binaryData");
        }
        size += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        let path = root.key("binaryData").key(key);
        r.check(&path, key, names::config_key(key));
        size += value.0.len();
    }
    check_size(r, size);
    drop_empty(&mut map.data);
    drop_empty(&mut map.binary_data);
}

/// `stringData` goes into `data`, and wins, as the API server merges it.
pub(super) fn secret(r: &mut Report<'_>, secret: &mut core::Secret) {
    let root = Path::default();
    for (field, keys) in [
        (
            "data",
            secret
                .data
                .iter()
                .flatten()
                .map(|(k, _)| k)
                .collect::<Vec<_>>(),
        ),
        (
            "stringData",
            secret
                .string_data
                .iter()
                .flatten()
                .map(|(k, _)| k)
                .collect(),
        ),
    ] {
        for key in keys {
            r.check(&root.key(field).key(key), key, names::config_key(key));
        }
    }
    for (key, text) in secret.string_data.take().into_iter().flatten() {
        let data = secret.data.get_or_insert_default();
        data.insert(key, ByteString(text.into_bytes()));
    }
    drop_empty(&mut secret.data);
    let size = secret.data.iter().flatten().map(|(_, v)| v.0.len()).sum();
    check_size(r, size);
    check_type(r, secret);
}

/// What the API server fills in.
pub(super) fn default_type(secret: &mut core::Secret) {
    if secret.type_.as_deref().is_none_or(str::is_empty) {
        secret.type_ = Some(OPAQUE.to_owned());
    }
}

fn check_size(r: &mut Report<'_>, size: usize) {
    let most = Object::DATA_MAX;
    if size > most {
        let message =
            format!("Too long: the values have {size} bytes; at most {most} are possible");
        r.problem(&Path::default().key("data"), message);
    }
}

fn drop_empty<T>(map: &mut Option<BTreeMap<String, T>>) {
    if map.as_ref().is_some_and(BTreeMap::is_empty) {
        *map = None;
    }
}

/// The keys that a Secret of a type has to have.
fn check_type(r: &mut Report<'_>, secret: &core::Secret) {
    let kind = secret.type_.as_deref().unwrap_or_default();
    let data = Path::default().key("data");
    let has = |key: &str| secret.data.as_ref().is_some_and(|d| d.contains_key(key));
    let required: &[&str] = match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            &["username", "password"]
        }
        _ => &[],
    };
    for key in required.iter().filter(|key| !has(key)) {
        r.required(&data.key(key), &format!("a Secret of type {kind} has it"));
    }
    let account = "kubernetes.io/service-account.name";
    let annotations = secret.metadata.annotations.as_ref();
    if kind == "kubernetes.io/service-account-token"
        && annotations.is_none_or(|a| a.get(account).is_none_or(String::is_empty))
    {
        r.required(
            &Path::default().keys("metadata.annotations").key(account),
            "",
        );
    }
    if PullSecret::is_kind(kind) && required.iter().all(|key| has(key)) {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let document = json!({"type": kind, "data": secret.data});
        if let Err(e) = PullSecret::new(name, document).auths() {
            r.problem(&data, e.to_string());
        }
    }
}
