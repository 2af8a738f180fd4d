//! The tables of `get`, one for each kind, with kubectl's columns.

use jiff::Timestamp;

use crate::cli::show::age;
use crate::cli::show::rows::Columns;
use crate::spec::{Object, ObjectKind};

pub(crate) fn head(kind: ObjectKind, columns: &Columns) -> Vec<String> {
    let own: &[&str] = match kind {
        ObjectKind::ConfigMap => &["DATA", "AGE"],
        ObjectKind::Secret => &["TYPE", "DATA", "AGE"],
        ObjectKind::Namespace => &["STATUS", "AGE"],
        ObjectKind::PersistentVolumeClaim => &[
            "STATUS",
            "VOLUME",
            "CAPACITY",
            "ACCESS MODES",
            "STORAGECLASS",
            "AGE",
        ],
    };
    let namespace = (columns.namespace && kind.is_namespaced()).then_some("NAMESPACE");
    let mut head: Vec<String> = namespace
        .into_iter()
        .chain(["NAME"])
        .chain(own.iter().copied())
        .map(str::to_owned)
        .collect();
    head.extend(volume_mode(kind, columns, "VOLUMEMODE"));
    head.extend(columns.label_heads());
    head
}

/// The column that `-o wide` has more, behind the age.
fn volume_mode(kind: ObjectKind, columns: &Columns, cell: &str) -> Option<String> {
    let shown = columns.wide && kind == ObjectKind::PersistentVolumeClaim;
    shown.then(|| cell.to_owned())
}

/// `name`: as it is to be shown.
pub(crate) fn row(object: &Object, name: String, columns: &Columns, now: Timestamp) -> Vec<String> {
    let v1 = object.v1();
    let text = |path: &str| {
        v1.pointer(path)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
    };
    let age = match object.created == Timestamp::UNIX_EPOCH {
        true => "<unknown>".to_owned(),
        false => age::since(object.created, now),
    };
    let own = match object.kind {
        ObjectKind::ConfigMap => vec![keys(object).to_string()],
        ObjectKind::Secret => vec![text("/type").to_owned(), keys(object).to_string()],
        ObjectKind::Namespace => vec![text("/status/phase").to_owned()],
        ObjectKind::PersistentVolumeClaim => vec![
            match object.deletion {
                Some(_) => "Terminating",
                None => text("/status/phase"),
            }
            .to_owned(),
            text("/spec/volumeName").to_owned(),
            text("/status/capacity/storage").to_owned(),
            access_modes(&v1["status"]["accessModes"]),
            text("/spec/storageClassName").to_owned(),
        ],
    };
    let namespace = columns.namespace && object.kind.is_namespaced();
    let mut row: Vec<String> = namespace
        .then(|| object.namespace.clone())
        .into_iter()
        .chain([name])
        .chain(own)
        .chain([age])
        .collect();
    row.extend(volume_mode(object.kind, columns, text("/spec/volumeMode")));
    row.extend(columns.label_cells(&object.metadata("labels")));
    row
}

/// How many it has.
fn keys(object: &Object) -> usize {
    let count = |field: &str| object.manifest[field].as_object().map_or(0, |m| m.len());
    match object.kind {
        ObjectKind::ConfigMap => count("data") + count("binaryData"),
        _ => count("data"),
    }
}

/// kubectl's short words.
pub(crate) fn access_modes(modes: &serde_json::Value) -> String {
    let short = |mode: &serde_json::Value| {
        Some(match mode.as_str()? {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            _ => return None,
        })
    };
    let all: Vec<&str> = modes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(short)
        .collect();
    all.join(",")
}
