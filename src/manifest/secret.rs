//! v1 Secrets, so far those that a Pod's imagePullSecrets name. There is no server
//! to keep them: one is given beside its Pod, in any of the sources, and the Pod's
//! record has it from then on.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;

use super::names;
use super::report::{Origin, Report};
use super::tree::{Node, Path, Value, quote};
use super::{FieldVerdict, Verdict, decode};
use crate::spec::PullSecret;

/// A Secret and where it was given.
pub(super) struct Secret {
    pub namespace: String,
    pub secret: PullSecret,
    pub source: String,
    pub line: usize,
    pub field: String,
}

/// The answer to each field that is set.
const HONOURED: &[&str] = &["data", "stringData", "type"];
const NO_EFFECT: (&str, &str) = ("immutable", "apply gives a Pod its Secret anew each time");

pub(super) fn is_secret(node: &Node) -> bool {
    let text = |field| node.get(field).and_then(Node::as_str);
    (text("apiVersion"), text("kind")) == (Some("v1"), Some("Secret"))
}

/// Reads one. `None` where there are faults, which are in the report then.
pub(super) fn read(
    r: &mut Report<'_>,
    node: &Node,
    origin: &Origin<'_>,
    verdicts: &mut Vec<FieldVerdict>,
) -> Option<Secret> {
    let root = Path::default();
    let mut answer = |r: &mut Report<'_>, field: &str, verdict, why: &str| {
        if let Some(value) = node.get(field) {
            if !why.is_empty() {
                r.no_effect(&root.key(field), why);
            }
            verdicts.push(FieldVerdict {
                source: origin.source.to_owned(),
                document: origin.document,
                line: value.line,
                field: r.full(&root.key(field)),
                verdict,
                why: why.to_owned(),
            });
        }
    };
    for field in HONOURED {
        answer(r, field, Verdict::Honoured, "");
    }
    answer(r, NO_EFFECT.0, Verdict::NoEffect, NO_EFFECT.1);
    // The type's own complaint would have no place.
    if let Some(Value::Map(entries)) = node.get("data").map(|d| &d.value) {
        for (key, value) in entries {
            let text = value.as_str().unwrap_or_default().to_owned();
            if serde_json::from_value::<ByteString>(text.into()).is_err() {
                r.problem(&root.key("data").key(&key.name), "is not base64");
            }
        }
    }
    if !r.problems.is_empty() {
        return None;
    }
    let (typed, faults) = decode::decode::<core::Secret>(node);
    if !faults.is_empty() {
        faults.into_iter().for_each(|f| r.fault(f));
        return None;
    }
    let typed = typed?;
    let name = typed.metadata.name.clone().unwrap_or_default();
    let meta = root.key("metadata");
    match name.is_empty() {
        true => r.required(&meta.key("name"), "imagePullSecrets go by it"),
        false => r.check(&meta.key("name"), &name, names::dns_subdomain(&name)),
    }
    let given = typed.metadata.namespace.as_deref();
    if let (Some(wanted), Some(given)) = (origin.namespace, given)
        && wanted != given
    {
        let message = format!(
            "the namespace of the Secret is {}, not {}",
            quote(given),
            quote(wanted)
        );
        r.problem(&meta.key("namespace"), message);
    }
    let namespace = given.or(origin.namespace).unwrap_or("default").to_owned();
    if !typed.type_.as_deref().is_some_and(PullSecret::is_kind) {
        r.refused(
            &root.key("type"),
            "so far Secrets are for imagePullSecrets alone: kubernetes.io/dockerconfigjson \
             or kubernetes.io/dockercfg",
        );
        return None;
    }
    let secret = PullSecret::new(name, serde_json::to_value(&typed).ok()?);
    if let Err(e) = secret.auths() {
        r.problem(&root, e.to_string());
    }
    r.problems.is_empty().then(|| Secret {
        namespace,
        secret,
        source: origin.source.to_owned(),
        line: node.line,
        field: r.full(&root),
    })
}
