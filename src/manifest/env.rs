//! The environment of a container: `env` and `envFrom`.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as core;

use super::around::Around;
use super::names;
use super::report::Report;
use super::tree::{Path, quote};
use crate::spec::{EnvFrom, EnvValue, EnvVar, ObjectKind, ObjectRef};

pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
    pod: &Around<'_>,
) -> Vec<EnvVar> {
    let mut out = Vec::new();
    for (i, e) in c.env.iter().flatten().enumerate() {
        let path = path.index(i);
        if e.name.is_empty() {
            r.required(&path.key("name"), "");
        } else {
            r.check(&path.key("name"), &e.name, names::env_name(&e.name));
        }
        let text = e.value.clone().unwrap_or_default();
        if text.contains('\0') {
            r.invalid(&path.key("value"), &text, "must not hold a NUL byte");
        }
        let value = match &e.value_from {
            None => Some(EnvValue::Text(text)),
            Some(from) => {
                let path = path.key("valueFrom");
                if !text.is_empty() {
                    r.invalid(&path, "", "may not be specified when `value` is not empty");
                }
                value_from(r, &path, from, &c.name, pod)
            }
        };
        if let Some(value) = value {
            out.push(EnvVar {
                name: e.name.clone(),
                value,
            });
        }
    }
    out
}

fn value_from(
    r: &mut Report<'_>,
    path: &Path,
    from: &core::EnvVarSource,
    own_name: &str,
    pod: &Around<'_>,
) -> Option<EnvValue> {
    let set = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match set.iter().filter(|s| **s).count() {
        0 => r.required(
            path,
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
             `secretKeyRef` or `fileKeyRef`",
        ),
        1 => {}
        _ => r.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ),
    }
    if let Some(field) = &from.field_ref {
        return field_ref(r, &path.key("fieldRef"), field, FIELDS);
    }
    if let Some(key) = &from.config_map_key_ref {
        let path = path.key("configMapKeyRef");
        let object = object_ref(r, &path, ObjectKind::ConfigMap, &key.name, key.optional);
        return key_of(r, &path, object, &key.key);
    }
    if let Some(key) = &from.secret_key_ref {
        let path = path.key("secretKeyRef");
        let object = object_ref(r, &path, ObjectKind::Secret, &key.name, key.optional);
        return key_of(r, &path, object, &key.key);
    }
    if let Some(file) = &from.file_key_ref {
        return file_key(r, &path.key("fileKeyRef"), file, pod);
    }
    let resource = from.resource_field_ref.as_ref()?;
    let path = path.key("resourceFieldRef");
    resource_ref(r, &path, resource, own_name, &pod.containers)
}

/// A ConfigMap or a Secret that the field `name` of `path` names, checked.
pub(super) fn object_ref(
    r: &mut Report<'_>,
    path: &Path,
    kind: ObjectKind,
    name: &str,
    optional: Option<bool>,
) -> ObjectRef {
    object_named(r, &path.key("name"), kind, name, optional)
}

/// As [`object_ref`]; `path`: of the name.
pub(super) fn object_named(
    r: &mut Report<'_>,
    path: &Path,
    kind: ObjectKind,
    name: &str,
    optional: Option<bool>,
) -> ObjectRef {
    match name.is_empty() {
        true => r.required(path, ""),
        false => r.check(path, name, names::dns_subdomain(name)),
    }
    ObjectRef {
        kind,
        name: name.to_owned(),
        optional: optional.unwrap_or(false),
    }
}

fn key_of(r: &mut Report<'_>, path: &Path, object: ObjectRef, key: &str) -> Option<EnvValue> {
    let path = path.key("key");
    match key.is_empty() {
        true => r.required(&path, ""),
        false => r.check(&path, key, names::config_key(key)),
    }
    Some(EnvValue::Key {
        object,
        key: key.to_owned(),
    })
}

/// As KEP-3721 has it: the file is in an emptyDir, where an init container has written it.
fn file_key(
    r: &mut Report<'_>,
    path: &Path,
    file: &core::FileKeySelector,
    pod: &Around<'_>,
) -> Option<EnvValue> {
    const KEY_MAX: usize = 128;
    let volume = path.key("volumeName");
    if file.volume_name.is_empty() {
        r.required(&volume, "");
    } else if !pod.volumes.all.contains(file.volume_name.as_str()) {
        r.problem(&volume, format!("Not found: {}", quote(&file.volume_name)));
    } else if !pod.volumes.empty_dirs.contains(file.volume_name.as_str()) {
        r.invalid(
            &volume,
            &file.volume_name,
            "must be a volume of type emptyDir",
        );
    }
    let place = path.key("path");
    match file.path.is_empty() {
        true => r.required(&place, ""),
        false => r.check(&place, &file.path, names::relative_path(&file.path)),
    }
    let key = path.key("key");
    if file.key.is_empty() {
        r.required(&key, "");
    } else if file.key.len() > KEY_MAX {
        r.invalid(&key, &file.key, format!("may not be longer than {KEY_MAX}"));
    } else {
        r.check(&key, &file.key, names::env_name(&file.key));
    }
    Some(EnvValue::File {
        volume: file.volume_name.clone(),
        path: file.path.clone(),
        key: file.key.clone(),
        optional: file.optional.unwrap_or(false),
    })
}

/// `envFrom`.
pub(super) fn lower_from(r: &mut Report<'_>, path: &Path, c: &core::Container) -> Vec<EnvFrom> {
    let mut out = Vec::new();
    for (i, from) in c.env_from.iter().flatten().enumerate() {
        let path = path.index(i);
        let prefix = from.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() {
            r.check(&path.key("prefix"), &prefix, names::env_name(&prefix));
        }
        let object = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), None) => {
                let path = path.key("configMapRef");
                object_ref(r, &path, ObjectKind::ConfigMap, &map.name, map.optional)
            }
            (None, Some(secret)) => {
                let path = path.key("secretRef");
                object_ref(r, &path, ObjectKind::Secret, &secret.name, secret.optional)
            }
            (None, None) => {
                r.required(&path, "must specify one of: `configMapRef` or `secretRef`");
                continue;
            }
            (Some(_), Some(_)) => {
                let why = "may not have more than one field specified at a time";
                r.invalid(&path, "", why);
                continue;
            }
        };
        out.push(EnvFrom { prefix, object });
    }
    out
}

/// What fields of the Pod a variable may say, beside single labels and annotations.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// `fields`: those that are possible, beside single labels and annotations.
pub(super) fn field_ref(
    r: &mut Report<'_>,
    path: &Path,
    f: &core::ObjectFieldSelector,
    fields: &[&str],
) -> Option<EnvValue> {
    if f.api_version.as_deref() != Some("v1") {
        let version = f.api_version.as_deref().unwrap_or_default();
        r.unknown_value(&path.key("apiVersion"), version, &["v1"]);
    }
    let path = path.key("fieldPath");
    let text = f.field_path.as_str();
    if text.is_empty() {
        r.required(&path, "");
        return None;
    }
    let subscript = ["metadata.labels", "metadata.annotations"]
        .iter()
        .find_map(|map| {
            text.strip_prefix(map)?
                .strip_prefix("['")?
                .strip_suffix("']")
        });
    if let Some(key) = subscript {
        // Keys of annotations do not depend on case.
        let key = match text.starts_with("metadata.annotations") {
            true => key.to_lowercase(),
            false => key.to_owned(),
        };
        r.check(&path, text, names::qualified_name(&key));
    } else if !fields.contains(&text) {
        let mut all = fields.to_vec();
        all.extend(["metadata.labels['<KEY>']", "metadata.annotations['<KEY>']"]);
        r.unknown_value(&path, text, &all);
    }
    Some(EnvValue::Field(text.to_owned()))
}

/// `own_name`: of the container that it is of where it names none.
pub(super) fn resource_ref(
    r: &mut Report<'_>,
    path: &Path,
    f: &core::ResourceFieldSelector,
    own_name: &str,
    containers: &HashSet<&str>,
) -> Option<EnvValue> {
    let container = match f.container_name.as_deref() {
        None | Some("") => own_name,
        Some(name) => {
            if !containers.contains(name) {
                let message = format!("Not found: {}", quote(name));
                r.problem(&path.key("containerName"), message);
            }
            name
        }
    };
    let resource = path.key("resource");
    let cpu = ["1", "1m"];
    let bytes = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let divisors: &[&str] = match f.resource.as_str() {
        "" => {
            r.required(&resource, "");
            return None;
        }
        "limits.cpu" | "requests.cpu" => &cpu,
        "limits.memory" | "requests.memory" => &bytes,
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => &bytes,
        other
            if other.starts_with("limits.hugepages-")
                || other.starts_with("requests.hugepages-") =>
        {
            &bytes
        }
        other => {
            r.unknown_value(
                &resource,
                other,
                &[
                    "limits.cpu",
                    "limits.memory",
                    "limits.ephemeral-storage",
                    "requests.cpu",
                    "requests.memory",
                    "requests.ephemeral-storage",
                ],
            );
            return None;
        }
    };
    let divisor_path = path.key("divisor");
    let text = f.divisor.as_ref().map_or("0", |q| q.0.as_str());
    let parse = |t: &str| super::quantity::Quantity::parse(t).ok();
    let divisor = match parse(text) {
        Some(q) if q.units() == 0 => parse("1"),
        Some(q) if divisors.contains(&text) => Some(q),
        Some(_) => {
            r.unknown_value(&divisor_path, text, divisors);
            None
        }
        None => {
            r.invalid(&divisor_path, text, "must be a quantity");
            None
        }
    }?;
    Some(EnvValue::Resource {
        container: container.to_owned(),
        resource: f.resource.clone(),
        divisor: if f.resource.ends_with(".cpu") {
            divisor.millis()
        } else {
            divisor.units()
        },
    })
}
