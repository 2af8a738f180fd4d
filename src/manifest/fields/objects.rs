//! What becomes of each field of the objects that carob keeps: as the table of a Pod's
//! fields, one for each kind. `docs/fields.md` shows them to users.

use super::Rule;
use crate::spec::ObjectKind;

use Rule::{Fields, Honoured, NoEffect, RefusedIfSet};

const CONFIG_MAP: &[(&str, Rule)] = &[
    ("data", Honoured),
    ("binaryData", Honoured),
    ("immutable", Honoured),
];

const SECRET: &[(&str, Rule)] = &[
    ("data", Honoured),
    ("stringData", Honoured),
    ("immutable", Honoured),
    ("type", Honoured),
];

const NAMESPACE: &[(&str, Rule)] = &[
    ("spec", Fields),
    (
        "spec.finalizers",
        NoEffect("there is no controller to remove a finalizer"),
    ),
];

const NO_VOLUMES: &str = "there are no PersistentVolumes here: each claim has a place of its own";

const CLAIM: &[(&str, Rule)] = &[
    ("spec", Fields),
    ("spec.accessModes", Honoured),
    ("spec.dataSource", RefusedIfSet(COPIES)),
    ("spec.dataSourceRef", RefusedIfSet(COPIES)),
    ("spec.resources", Fields),
    ("spec.resources.limits", NoEffect(LIMIT)),
    ("spec.resources.requests", Honoured),
    ("spec.selector", NoEffect(NO_VOLUMES)),
    ("spec.storageClassName", Honoured),
    ("spec.volumeAttributesClassName", NoEffect(NO_VOLUMES)),
    ("spec.volumeMode", Honoured),
    ("spec.volumeName", NoEffect(NO_VOLUMES)),
];

const COPIES: &str = "a claim begins empty: copy into it from a Pod, or with carob cp";
const LIMIT: &str = "a claim has the size that it requests";

/// The lines of a kind without those of its metadata, which are a Pod's.
pub(crate) fn table(kind: ObjectKind) -> &'static [(&'static str, Rule)] {
    match kind {
        ObjectKind::Namespace => NAMESPACE,
        ObjectKind::ConfigMap => CONFIG_MAP,
        ObjectKind::Secret => SECRET,
        ObjectKind::PersistentVolumeClaim => CLAIM,
    }
}

/// The line for a pattern such as `spec.accessModes`.
pub(crate) fn rule_of(kind: ObjectKind, pattern: &str) -> Option<Rule> {
    // Of a Pod they are notes; an object that is there is to be this one still.
    if matches!(pattern, "metadata.resourceVersion" | "metadata.uid") {
        return Some(Honoured);
    }
    let own = table(kind).iter().find(|(line, _)| *line == pattern);
    let first = pattern.split('.').next().unwrap_or_default();
    match own {
        Some((_, rule)) => Some(*rule),
        None if matches!(first, "apiVersion" | "kind" | "metadata" | "status") => {
            super::rule(pattern)
        }
        None => None,
    }
}
