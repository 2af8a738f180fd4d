//! configMap, secret, downwardAPI and projected volumes. All become one kind: the first three
//! are a projected volume with one source. The checks are those of ValidateVolumes of
//! Kubernetes.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as core;

use super::env::{self, object_named, object_ref};
use super::report::Report;
use super::tree::Path;
use crate::spec::{
    DownwardItem, DownwardValue, EnvValue, KeyToPath, ObjectKind, Projection, VolumeSource,
};

/// defaultMode where it is not set.
const MODE: i32 = 0o644;
const MODE_WRONG: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const USER_WRONG: &str = "must be between 0 and 2147483647, inclusive";
/// Bytes of a path, and of a name in it (AtomicWriter of Kubernetes; NAME_MAX).
const PATH_MOST: usize = 4096;
const NAME_MOST: usize = 255;

/// What fields of the Pod a file may say.
const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// What the API server fills in.
pub(super) fn fill(v: &mut core::Volume) {
    if let Some(map) = &mut v.config_map {
        map.default_mode.get_or_insert(MODE);
    }
    if let Some(secret) = &mut v.secret {
        secret.default_mode.get_or_insert(MODE);
    }
    if let Some(downward) = &mut v.downward_api {
        downward.default_mode.get_or_insert(MODE);
        fill_items(downward.items.as_mut());
    }
    if let Some(projected) = &mut v.projected {
        projected.default_mode.get_or_insert(MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(downward) = &mut source.downward_api {
                fill_items(downward.items.as_mut());
            }
        }
    }
}

fn fill_items(items: Option<&mut Vec<core::DownwardAPIVolumeFile>>) {
    for item in items.into_iter().flatten() {
        if let Some(field) = &mut item.field_ref {
            let version = field.api_version.get_or_insert_default();
            if version.is_empty() {
                version.push_str("v1");
            }
        }
        if let Some(resource) = &mut item.resource_field_ref {
            let divisor = resource.divisor.get_or_insert_default();
            if divisor.0.is_empty() {
                divisor.0.push('0');
            }
        }
    }
}

/// The volume, if it is of one of these kinds. `containers`: the names of the Pod's.
pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    v: &core::Volume,
    containers: &HashSet<&str>,
) -> Option<VolumeSource> {
    if let Some(map) = &v.config_map {
        let path = path.key("configMap");
        let object = object_ref(r, &path, ObjectKind::ConfigMap, &map.name, map.optional);
        let items = items(r, &path, map.items.as_deref());
        let source = Projection::Object { object, items };
        return Some(volume(
            r,
            &path,
            vec![source],
            map.default_mode,
            map.default_user,
        ));
    }
    if let Some(secret) = &v.secret {
        let path = path.key("secret");
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let name_path = path.key("secretName");
        let object = object_named(r, &name_path, ObjectKind::Secret, name, secret.optional);
        let items = items(r, &path, secret.items.as_deref());
        let source = Projection::Object { object, items };
        let (mode, user) = (secret.default_mode, secret.default_user);
        return Some(volume(r, &path, vec![source], mode, user));
    }
    if let Some(d) = &v.downward_api {
        let path = path.key("downwardAPI");
        let files = downward(r, &path, d.items.as_deref(), containers);
        let source = Projection::Downward(files);
        return Some(volume(
            r,
            &path,
            vec![source],
            d.default_mode,
            d.default_user,
        ));
    }
    let projected = v.projected.as_ref()?;
    let path = path.key("projected");
    let sources = sources(r, &path, projected, containers);
    let (mode, user) = (projected.default_mode, projected.default_user);
    Some(volume(r, &path, sources, mode, user))
}

fn volume(
    r: &mut Report<'_>,
    path: &Path,
    sources: Vec<Projection>,
    mode: Option<i32>,
    user: Option<i64>,
) -> VolumeSource {
    VolumeSource::Projected {
        sources,
        mode: self::mode(r, &path.key("defaultMode"), mode).unwrap_or(MODE.unsigned_abs()),
        user: self::user(r, &path.key("defaultUser"), user),
    }
}

/// Sources that carob does not have are left out: the table of fields has refused them.
fn sources(
    r: &mut Report<'_>,
    path: &Path,
    projected: &core::ProjectedVolumeSource,
    containers: &HashSet<&str>,
) -> Vec<Projection> {
    let mut out = Vec::new();
    let mut taken = HashSet::new();
    for (i, source) in projected.sources.iter().flatten().enumerate() {
        let source_path = path.key("sources").index(i);
        let before = out.len();
        if let Some(secret) = &source.secret {
            let path = source_path.key("secret");
            let object = object_ref(r, &path, ObjectKind::Secret, &secret.name, secret.optional);
            let items = items(r, &path, secret.items.as_deref());
            out.push(Projection::Object { object, items });
        }
        if let Some(map) = &source.config_map {
            let path = source_path.key("configMap");
            let object = object_ref(r, &path, ObjectKind::ConfigMap, &map.name, map.optional);
            let items = items(r, &path, map.items.as_deref());
            out.push(Projection::Object { object, items });
        }
        if let Some(d) = &source.downward_api {
            let path = source_path.key("downwardAPI");
            let files = downward(r, &path, d.items.as_deref(), containers);
            out.push(Projection::Downward(files));
        }
        if out.len() - before > 1 {
            r.forbidden(&source_path, "may not specify more than 1 volume type");
        }
        for one in &out[before..] {
            let paths: Vec<&str> = match one {
                Projection::Object { items, .. } => items.iter().map(|i| i.path.as_str()).collect(),
                Projection::Downward(items) => items.iter().map(|i| i.path.as_str()).collect(),
            };
            for file in paths.into_iter().filter(|p| !p.is_empty()) {
                if !taken.insert(file.to_owned()) {
                    r.invalid(&source_path, file, "conflicting duplicate paths");
                }
            }
        }
    }
    out
}

fn items(r: &mut Report<'_>, path: &Path, items: Option<&[core::KeyToPath]>) -> Vec<KeyToPath> {
    let mut out = Vec::new();
    for (i, item) in items.into_iter().flatten().enumerate() {
        let path = path.key("items").index(i);
        if item.key.is_empty() {
            r.required(&path.key("key"), "");
        }
        check_path(r, &path.key("path"), &item.path);
        out.push(KeyToPath {
            key: item.key.clone(),
            path: item.path.clone(),
            mode: mode(r, &path.key("mode"), item.mode),
            user: user(r, &path.key("user"), item.user),
        });
    }
    out
}

fn downward(
    r: &mut Report<'_>,
    path: &Path,
    items: Option<&[core::DownwardAPIVolumeFile]>,
    containers: &HashSet<&str>,
) -> Vec<DownwardItem> {
    let mut out = Vec::new();
    for (i, item) in items.into_iter().flatten().enumerate() {
        let path = path.key("items").index(i);
        check_path(r, &path.key("path"), &item.path);
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(_), Some(_)) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                r.invalid(&path, "resource", why);
                None
            }
            (None, None) => {
                r.required(&path, "one of fieldRef and resourceFieldRef is required");
                None
            }
            (Some(field), None) => env::field_ref(r, &path.key("fieldRef"), field, FIELDS),
            (None, Some(resource)) => {
                let path = path.key("resourceFieldRef");
                if resource.container_name.as_deref().is_none_or(str::is_empty) {
                    r.required(&path.key("containerName"), "");
                }
                env::resource_ref(r, &path, resource, "", containers)
            }
        };
        let (mode, user) = (
            mode(r, &path.key("mode"), item.mode),
            user(r, &path.key("user"), item.user),
        );
        if let Some(value) = value.and_then(downward_value) {
            out.push(DownwardItem {
                path: item.path.clone(),
                value,
                mode,
                user,
            });
        }
    }
    out
}

fn downward_value(value: EnvValue) -> Option<DownwardValue> {
    match value {
        EnvValue::Field(field) => Some(DownwardValue::Field(field)),
        EnvValue::Resource {
            container,
            resource,
            divisor,
        } => Some(DownwardValue::Resource {
            container,
            resource,
            divisor,
        }),
        _ => None,
    }
}

fn check_path(r: &mut Report<'_>, path: &Path, text: &str) {
    if text.is_empty() {
        return r.required(path, "");
    }
    let mut parts = text.split('/').filter(|p| !p.is_empty() && *p != ".");
    let why = if text.contains('\0') {
        "must not hold a NUL byte"
    } else if text.starts_with('/') {
        "must be a relative path"
    } else if text.split('/').any(|part| part == "..") {
        "must not contain '..'"
    } else if text.starts_with("..") {
        "must not start with '..'"
    } else if parts.clone().next().is_some_and(|p| p.starts_with("..")) {
        // `./..data`, which would be where carob keeps the files.
        "its first part must not start with '..'"
    } else if parts.clone().next().is_none() {
        "must name a file"
    } else if text.len() >= PATH_MOST || parts.any(|p| p.len() > NAME_MOST) {
        "must have less than 4096 bytes, and at most 255 in each part"
    } else {
        return;
    };
    r.invalid(path, text, why);
}

fn mode(r: &mut Report<'_>, path: &Path, mode: Option<i32>) -> Option<u32> {
    let mode = mode?;
    match u32::try_from(mode) {
        Ok(mode) if mode <= 0o777 => Some(mode),
        _ => {
            r.invalid_number(path, mode.into(), MODE_WRONG);
            None
        }
    }
}

fn user(r: &mut Report<'_>, path: &Path, user: Option<i64>) -> Option<u32> {
    let user = user?;
    match i32::try_from(user) {
        Ok(id) if id >= 0 => Some(id.unsigned_abs()),
        _ => {
            r.invalid_number(path, user, USER_WRONG);
            None
        }
    }
}
