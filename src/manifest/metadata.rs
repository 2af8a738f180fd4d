//! An object's metadata: names, labels, annotations, and what only controllers read.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names;
use super::report::{Report, unknown_value};
use super::tree::{Path, quote};
use crate::spec::{FirstProbes, ObjectKind, Pod, WhenLogFull};
use crate::{Error, Result};

/// The longest name of a file (NAME_MAX): the directory of a Pod's logs is
/// `<namespace>_<name>_<uid>`.
const FILE_NAME_MAX: usize = 255;

pub(super) fn check(r: &mut Report<'_>, pod: &core::Pod, name: &str, namespace: &str) {
    let path = Path::default().key("metadata");
    check_names(r, "Pod", name, names::dns_subdomain, Some(namespace));
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
    check_rest(r, &pod.metadata);
    let annotations = path.key("annotations");
    for (key, value) in pod.metadata.annotations.iter().flatten() {
        let path = annotations.key(key);
        if let Some(fault) = own_fault(key, value).or_else(|| known_fault(key, value)) {
            r.problem(&path, fault);
        }
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        if key == "kubernetes.io/config.mirror" && node.is_none_or(str::is_empty) {
            let why = "must set spec.nodeName if mirror pod annotation is set";
            r.invalid(&path, value, why);
        }
    }
}

/// Of an object of another kind. `namespace` is empty for one that is in none.
pub(super) fn check_object(
    r: &mut Report<'_>,
    meta: &ObjectMeta,
    kind: ObjectKind,
    name: &str,
    namespace: &str,
) {
    let check = match kind {
        ObjectKind::Namespace => names::dns_label,
        _ => names::dns_subdomain,
    };
    let namespace = kind.is_namespaced().then_some(namespace);
    check_names(r, kind.kind(), name, check, namespace);
    check_rest(r, meta);
}

fn check_names(
    r: &mut Report<'_>,
    kind: &str,
    name: &str,
    check: fn(&str) -> Result<(), String>,
    namespace: Option<&str>,
) {
    let path = Path::default().key("metadata");
    if name.is_empty() {
        let hint = if r.is_set(&path.key("generateName")) {
            "apply needs a name that stays the same; generateName alone is not enough; set metadata.name"
        } else {
            &format!("a {kind} needs a name")
        };
        r.required(&path.key("name"), hint);
    } else {
        r.check(&path.key("name"), name, check(name));
    }
    if let Some(namespace) = namespace {
        r.check(
            &path.key("namespace"),
            namespace,
            names::dns_label(namespace),
        );
    }
}

/// What all kinds have in common.
fn check_rest(r: &mut Report<'_>, meta: &ObjectMeta) {
    let path = Path::default().key("metadata");
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
    }
    if size > Pod::ANNOTATIONS_MAX {
        r.problem(
            &annotations,
            format!(
                "Too long: {size} bytes; at most {} are possible",
                Pod::ANNOTATIONS_MAX
            ),
        );
    }
}

/// What is wrong with a label that a Pod is to get.
pub(crate) fn check_label(key: &str, value: &str) -> Result<()> {
    let checks = [
        (key, names::qualified_name(key)),
        (value, names::label_value(value)),
    ];
    for (text, check) in checks {
        check.map_err(|why| {
            let text = quote(text);
            Error::invalid(format!("metadata.labels: Invalid value: {text}: {why}"))
        })?;
    }
    Ok(())
}

/// What is wrong with an annotation that a Pod is to get.
pub(crate) fn check_annotation(key: &str, value: &str) -> Result<()> {
    let name = names::qualified_name(&key.to_lowercase());
    let wrong_name = |why| format!("Invalid value: {}: {why}", quote(key));
    let fault = name.err().map(wrong_name);
    let fault = fault.or_else(|| own_fault(key, value));
    match fault.or_else(|| known_fault(key, value)) {
        Some(fault) => Err(Error::invalid(format!(
            "metadata.annotations.{key}: {fault}"
        ))),
        None => Ok(()),
    }
}

/// Of those that carob itself reads: a slip there must not go unnoticed.
fn own_fault(key: &str, value: &str) -> Option<String> {
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
        return (!values.contains(&value)).then(|| unknown_value(value, values));
    }
    key.starts_with("carob/").then(|| {
        let known = known.map(|(name, _)| name).join(" and ");
        format!("carob knows no such annotation; it knows {known}")
    })
}

/// Of those that the API server checks. AppArmor's are read with the containers.
fn known_fault(key: &str, value: &str) -> Option<String> {
    const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let invalid = |why: &str| Some(format!("Invalid value: {}: {why}", quote(value)));
    if key == "controller.kubernetes.io/pod-deletion-cost" {
        // No sign but a minus, no leading zeros, as helper.GetDeletionCostFromPodAnnotations.
        let is_plain = |n: i32| n.to_string() == value;
        return match value.parse().is_ok_and(is_plain) {
            true => None,
            false => invalid("must be a 32bit integer"),
        };
    }
    if key != SECCOMP && !key.starts_with(SECCOMP_OF) {
        return None;
    }
    let names = ["runtime/default", "docker/default", "unconfined"];
    match value.strip_prefix("localhost/") {
        Some(file) => invalid(&names::relative_path(file).err()?),
        None if names.contains(&value) => None,
        None => invalid("must be a valid seccomp profile"),
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
