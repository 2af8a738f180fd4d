//! What becomes of each field of a v1 Pod: honoured, without effect here, or
//! refused. One table, one line a field; `docs/fields.md` shows it to users.
//!
//! The table is complete for Kubernetes 1.37: a test walks every field that the
//! types have and fails for one that has no line, so that a newer version of the
//! types cannot bring a field that is dropped in silence. A line for a subtree
//! stands for all below it only where it refuses, has no effect, or is a plain
//! list or map; a structure that is honoured has a line for each of its fields.
//!
//! `spec.initContainers[*]` and `spec.ephemeralContainers[*]` share the lines of `spec.containers[*]`, but for
//! those of its own; all probes share those of `livenessProbe`, and `preStop` those of
//! `postStart`.

mod container;
mod objects;
mod pod;
mod volumes;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::spec::ObjectKind;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Done as Kubernetes does it.
    Honoured,
    /// A structure: each field below has a line of its own.
    Fields,
    /// Taken, and does nothing here.
    NoEffect(&'static str),
    /// Not taken, whatever is in it.
    Refused(&'static str),
    /// Not taken unless it is empty, which means the same as leaving it out.
    RefusedIfSet(&'static str),
    /// The key is a resource's name. One that Kubernetes knows is not taken; what it does
    /// not know is for the checks to say.
    RefusedResource(&'static str),
    /// Honoured with these values. Others that Kubernetes knows are refused;
    /// what Kubernetes does not know either is for the checks to say.
    Only {
        honoured: &'static [&'static str],
        refused: &'static [&'static str],
        why: &'static str,
    },
}

const WINDOWS: &str = "carob runs Linux containers only";
const CLAIM: &str = "dynamic resource allocation is not supported";

const SECCOMP: Rule = Rule::Only {
    honoured: &["RuntimeDefault", "Unconfined"],
    refused: &["Localhost"],
    why: "seccomp profiles from files are not supported yet",
};
const SECCOMP_FILE: Rule = Rule::RefusedIfSet("seccomp profiles from files are not supported yet");

/// In the order of the documentation. `[*]` is any item, a last `.*` any key.
const TABLES: [&[(&str, Rule)]; 3] = [pod::TABLE, volumes::TABLE, container::TABLE];

pub(crate) fn table() -> impl Iterator<Item = &'static (&'static str, Rule)> {
    TABLES.into_iter().flatten()
}

pub(crate) use objects::rule_of;

static BY_PATTERN: LazyLock<HashMap<&str, Rule>> = LazyLock::new(|| table().copied().collect());

/// The line for a pattern such as `spec.containers[*].image`.
pub(crate) fn rule(pattern: &str) -> Option<Rule> {
    // A claim's own table has these.
    let claim = pattern.strip_prefix("spec.volumes[*].ephemeral.volumeClaimTemplate.");
    if let Some(field) = claim.filter(|field| field.starts_with("spec")) {
        return objects::rule_of(ObjectKind::PersistentVolumeClaim, field);
    }
    let exact = |p: &str| BY_PATTERN.get(p).copied();
    let any_key = |p: &str| {
        let (parent, _) = p.rsplit_once('.')?;
        exact(&format!("{parent}.*"))
    };
    exact(pattern).or_else(|| any_key(pattern)).or_else(|| {
        let shared = shared(pattern)?;
        exact(&shared).or_else(|| any_key(&shared))
    })
}

/// The keys of a map that have lines of their own; `*` is any other.
pub(crate) fn keys(pattern: &str) -> impl Iterator<Item = (&'static str, Rule)> {
    let shared = shared(pattern).unwrap_or_else(|| pattern.to_owned());
    table().filter_map(move |(line, rule)| {
        let key = line.strip_prefix(shared.as_str())?.strip_prefix('.')?;
        (!key.contains('.')).then_some((key, *rule))
    })
}

/// The pattern whose line a pattern shares that has none of its own.
fn shared(pattern: &str) -> Option<String> {
    let template = pattern.strip_prefix("spec.volumes[*].ephemeral.volumeClaimTemplate.");
    if let Some(field) = template.filter(|field| field.starts_with("metadata")) {
        return Some(field.to_owned());
    }
    let rest = pattern
        .strip_prefix("spec.initContainers[*].")
        .or_else(|| pattern.strip_prefix("spec.ephemeralContainers[*]."))
        .or_else(|| pattern.strip_prefix("spec.containers[*]."))?;
    let twins = [
        ("readinessProbe", "livenessProbe"),
        ("startupProbe", "livenessProbe"),
        ("lifecycle.preStop", "lifecycle.postStart"),
    ];
    let twin = twins.iter().find_map(|(field, twin)| {
        let below = rest.strip_prefix(field)?;
        (below.is_empty() || below.starts_with('.')).then(|| format!("{twin}{below}"))
    });
    Some(format!(
        "spec.containers[*].{}",
        twin.as_deref().unwrap_or(rest)
    ))
}

#[cfg(test)]
mod tests;
