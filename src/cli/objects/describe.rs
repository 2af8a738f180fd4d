//! `carob describe` of objects that are no Pods, laid out as kubectl does. Of a Secret only
//! the sizes of its values are shown.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::objects::rows;
use crate::cli::show::rows as show;
use crate::spec::{Object, ObjectKind};

/// The annotation in which `kubectl apply` keeps what it was given, with a Secret's data.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Labels or annotations, without what holds the whole object once more.
pub(crate) fn public(object: &Object, field: &str) -> BTreeMap<String, String> {
    let mut map = object.metadata(field);
    if object.kind == ObjectKind::Secret {
        map.remove(LAST_APPLIED);
    }
    map
}

/// `users`: the Pods that use a claim.
pub(crate) fn describe(object: &Object, users: &[String]) -> String {
    let mut annotations = object.metadata("annotations");
    annotations.remove(LAST_APPLIED);
    let mut pairs = vec![("Name", vec![object.name.clone()])];
    if object.kind.is_namespaced() {
        pairs.push(("Namespace", vec![object.namespace.clone()]));
    }
    let v1 = object.v1();
    if object.kind == ObjectKind::PersistentVolumeClaim {
        let status = match object.deletion {
            Some(_) => "Terminating".to_owned(),
            None => text_at(&v1, "/status/phase"),
        };
        pairs.push(("StorageClass", vec![text_at(&v1, "/spec/storageClassName")]));
        pairs.push(("Status", vec![status]));
        pairs.push(("Volume", vec![text_at(&v1, "/spec/volumeName")]));
    }
    pairs.push(("Labels", lines(&object.metadata("labels"), "=")));
    pairs.push(("Annotations", lines(&annotations, ": ")));
    let mut text = match object.kind {
        ObjectKind::Namespace => {
            pairs.push(("Status", vec![text_at(&v1, "/status/phase")]));
            aligned(&pairs)
        }
        ObjectKind::PersistentVolumeClaim => {
            let modes = rows::access_modes(&v1["status"]["accessModes"]);
            let users = match users {
                [] => vec!["<none>".to_owned()],
                users => users.to_vec(),
            };
            pairs.push(("Capacity", vec![text_at(&v1, "/status/capacity/storage")]));
            pairs.push(("Access Modes", vec![modes]));
            pairs.push(("VolumeMode", vec![text_at(&v1, "/spec/volumeMode")]));
            pairs.push(("Used By", users));
            pairs.push(("Events", vec!["<none>".to_owned()]));
            aligned(&pairs)
        }
        _ => aligned(&pairs),
    };
    match object.kind {
        ObjectKind::Namespace => text.push_str("\nNo resource quota.\n\nNo LimitRange resource.\n"),
        ObjectKind::ConfigMap => config_map(&mut text, object),
        ObjectKind::Secret => secret(&mut text, object),
        ObjectKind::PersistentVolumeClaim => {}
    }
    text
}

fn text_at(v1: &Value, path: &str) -> String {
    let text = v1.pointer(path).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn config_map(text: &mut String, object: &Object) {
    text.push_str("\nData\n====\n");
    for (key, value) in object.manifest["data"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        text.push_str(&format!("{key}:\n----\n{value}\n\n"));
    }
    text.push_str("\nBinaryData\n====\n");
    let binary = object.manifest["binaryData"].as_object();
    let data = object.data();
    for key in binary.into_iter().flatten().map(|(key, _)| key) {
        let size = data.get(key).map_or(0, Vec::len);
        text.push_str(&format!("{key}: {size} bytes\n"));
    }
    text.push_str("\nEvents:  <none>\n");
}

fn secret(text: &mut String, object: &Object) {
    let kind = object.manifest["type"].as_str().unwrap_or_default();
    text.push_str(&format!("\nType:  {kind}\n\nData\n====\n"));
    let data = object.data();
    let sizes = data.iter().map(|(key, value)| {
        let size = format!("{} bytes", value.len());
        (key.as_str(), vec![size])
    });
    text.push_str(&aligned(&sizes.collect::<Vec<_>>()));
}

fn lines(map: &BTreeMap<String, String>, by: &str) -> Vec<String> {
    match map.is_empty() {
        true => vec![show::pairs(map)],
        false => map
            .iter()
            .map(|(k, v)| format!("{k}{by}{}", v.replace('\n', "\\n")))
            .collect(),
    }
}

/// `Key:  value`, further values below the first.
fn aligned(pairs: &[(&str, Vec<String>)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.chars().count()).max();
    let width = width.unwrap_or(0) + 3;
    let mut text = String::new();
    for (key, values) in pairs {
        let mut key = format!("{key}:");
        for value in values {
            let line = format!("{key:<width$}{value}");
            text.push_str(line.trim_end());
            text.push('\n');
            key.clear();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As kubectl prints them.
    #[test]
    fn pages() {
        let map = Object::sample(
            ObjectKind::ConfigMap,
            "o",
            json!({"data": {"a": "1\n2"}, "binaryData": {"b": "/w=="},
                "metadata": {"labels": {"x": "y", "z": ""}}}),
        );
        assert_eq!(
            describe(&map, &[]),
            "Name:         o\nNamespace:    default\nLabels:       x=y\n              z=\n\
             Annotations:  <none>\n\nData\n====\na:\n----\n1\n2\n\n\nBinaryData\n====\n\
             b: 1 bytes\n\nEvents:  <none>\n"
        );
        let secret = Object::sample(
            ObjectKind::Secret,
            "o",
            json!({"type": "Opaque", "data": {"password": "aHVudGVyMg=="},
                "metadata": {"annotations": {LAST_APPLIED: "aHVudGVyMg==", "n": "v"}}}),
        );
        let text = describe(&secret, &[]);
        assert_eq!(
            text,
            "Name:         o\nNamespace:    default\nLabels:       <none>\n\
             Annotations:  n: v\n\nType:  Opaque\n\nData\n====\npassword:  7 bytes\n"
        );
        assert_eq!(public(&secret, "annotations").len(), 1);
        let claim = Object::sample(
            ObjectKind::PersistentVolumeClaim,
            "o",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                "resources": {"requests": {"storage": "1Gi"}}}}),
        );
        let text = describe(&claim, &["web".to_owned(), "db".to_owned()]);
        let end = "Annotations:   <none>\nCapacity:      1Gi\nAccess Modes:  RWO\n\
                   VolumeMode:    Filesystem\nUsed By:       web\n               db\n\
                   Events:        <none>\n";
        assert!(text.ends_with(end), "{text}");
        assert!(text.contains("\nStatus:        Bound\n"), "{text}");
    }
}
