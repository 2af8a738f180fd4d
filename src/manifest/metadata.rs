//! A Pod's metadata: names, labels, annotations, and what only controllers read.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names;
use super::report::Report;
use super::tree::Path;
use crate::spec::{FirstProbes, WhenLogFull};

/// Annotations of one object together, keys and values, in bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;
/// The longest name of a file (NAME_MAX): the directory of a Pod's logs is
/// `<namespace>_<name>_<uid>`.
const FILE_NAME_MAX: usize = 255;

pub(super) fn check(r: &mut Report<'_>, pod: &core::Pod, name: &str, namespace: &str) {
    let meta = &pod.metadata;
    let path = Path::default().key("metadata");
    if name.is_empty() {
        let hint = if r.is_set(&path.key("generateName")) {
            "apply needs a name that stays the same; generateName alone is not enough; set metadata.name"
        } else {
            "a Pod needs a name"
        };
        r.required(&path.key("name"), hint);
    } else {
        r.check(&path.key("name"), name, names::dns_subdomain(name));
    }
    let namespace_path = path.key("namespace");
    r.check(&namespace_path, namespace, names::dns_label(namespace));
    let directory = name.len() + namespace.len() + 2 + 36;
    if directory > FILE_NAME_MAX {
        r.invalid(
            &path.key("name"),
            name,
            format!(
                "the directory of the logs, <namespace>_<name>_<uid>, would have {directory} \
                 characters; at most {FILE_NAME_MAX} are possible"
            ),
        );
    }
    owners(r, &path.key("ownerReferences"), meta);
    for (i, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        let path = path.key("finalizers").index(i);
        r.check(&path, finalizer, names::qualified_name(finalizer));
        let known = ["kubernetes", "orphan", "foregroundDeletion"];
        if !finalizer.contains('/') && !known.contains(&finalizer.as_str()) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            r.invalid(&path, finalizer, why);
        }
    }
    let labels = path.key("labels");
    for (key, value) in meta.labels.iter().flatten() {
        let path = labels.key(key);
        r.check(&path, key, names::qualified_name(key));
        r.check(&path, value, names::label_value(value));
    }
    let annotations = path.key("annotations");
    let mut size = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        let path = annotations.key(key);
        r.check(&path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.len();
        check_own_annotation(r, &path, key, value);
        check_known_annotation(r, &path, key, value, pod);
    }
    if size > ANNOTATIONS_MAX {
        r.problem(
            &annotations,
            format!("Too long: {size} bytes; at most {ANNOTATIONS_MAX} are possible"),
        );
    }
}

/// Those that carob itself reads: a slip there must not go unnoticed.
fn check_own_annotation(r: &mut Report<'_>, path: &Path, key: &str, value: &str) {
    let known = [
        (
            WhenLogFull::ANNOTATION,
            WhenLogFull::VALUES.map(|(name, _)| name),
        ),
        (
            FirstProbes::ANNOTATION,
            FirstProbes::VALUES.map(|(name, _)| name),
        ),
    ];
    if let Some((_, values)) = known.iter().find(|(name, _)| *name == key) {
        if !values.contains(&value) {
            r.unknown_value(path, value, values);
        }
    } else if key.starts_with("carob/") {
        let known = known.map(|(name, _)| name).join(" and ");
        r.problem(
            path,
            format!("carob knows no such annotation; it knows {known}"),
        );
    }
}

/// Those that the API server checks. AppArmor's are read with the containers.
fn check_known_annotation(
    r: &mut Report<'_>,
    path: &Path,
    key: &str,
    value: &str,
    pod: &core::Pod,
) {
    const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";
    match key {
        "controller.kubernetes.io/pod-deletion-cost" => {
            // No sign but a minus, no leading zeros, as helper.GetDeletionCostFromPodAnnotations.
            let is_plain = |n: i32| n.to_string() == value;
            if !value.parse().is_ok_and(is_plain) {
                r.invalid(path, value, "must be a 32bit integer");
            }
        }
        "kubernetes.io/config.mirror" => {
            let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
            if node.is_none_or(str::is_empty) {
                let why = "must set spec.nodeName if mirror pod annotation is set";
                r.invalid(path, value, why);
            }
        }
        _ if key == SECCOMP || key.starts_with(SECCOMP_OF) => {
            let names = ["runtime/default", "docker/default", "unconfined"];
            match value.strip_prefix("localhost/") {
                Some(file) => r.check(path, value, names::relative_path(file)),
                None if names.contains(&value) => {}
                None => r.invalid(path, value, "must be a valid seccomp profile"),
            }
        }
        _ => {}
    }
}

fn owners(r: &mut Report<'_>, path: &Path, meta: &ObjectMeta) {
    let mut controller = None;
    for (i, owner) in meta.owner_references.iter().flatten().enumerate() {
        let path = path.index(i);
        for (field, value) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                r.required(&path.key(field), "must not be empty");
            }
        }
        if owner.controller != Some(true) {
            continue;
        }
        if let Some(first) = controller.replace(&owner.name) {
            let why = format!("only one reference can have controller set to true, as {first} has");
            r.invalid(&path.key("controller"), &owner.name, why);
        }
    }
}
