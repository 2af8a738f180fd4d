//! Field selectors, as `kubectl get --field-selector` takes them.

use crate::pod::client::View;
use crate::pod::status::PodStatus;
use crate::spec::{Object, RestartPolicy};
use crate::{Error, Result};

/// A comma-separated list, all of which must hold: `FIELD=VALUE`, `FIELD==VALUE`,
/// `FIELD!=VALUE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Phase,
    RestartPolicy,
    PodIp,
    NodeName,
}

const FIELDS: [(&str, Field); 6] = [
    ("metadata.name", Field::Name),
    ("metadata.namespace", Field::Namespace),
    ("status.phase", Field::Phase),
    ("spec.restartPolicy", Field::RestartPolicy),
    ("status.podIP", Field::PodIp),
    ("spec.nodeName", Field::NodeName),
];

impl FieldSelector {
    /// The error is of [`Kind::Usage`](crate::Kind::Usage).
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        parts
            .map(Requirement::parse)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// `node`: the name of this machine.
    pub(crate) fn matches(&self, view: &View, node: &str) -> bool {
        let status = view.status();
        let holds = |r: &Requirement| (r.field.of(view, &status, node) == r.value) == r.equal;
        self.0.iter().all(holds)
    }

    /// Of an object that is no Pod: of its fields, the API server knows these alone.
    pub(crate) fn matches_object(&self, object: &Object) -> Result<bool> {
        for r in &self.0 {
            let value = match r.field {
                Field::Name => &object.name,
                Field::Namespace => &object.namespace,
                _ => {
                    let known = FIELDS.iter().find(|(_, f)| *f == r.field);
                    let name = known.map_or("", |(name, _)| name);
                    let kind = object.kind.kind();
                    let text = format!("field selector: {name:?} is no field of a {kind}");
                    return Err(Error::usage(text)
                        .hint("the fields are: metadata.name, metadata.namespace"));
                }
            };
            if (*value == r.value) != r.equal {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Requirement {
    fn parse(part: &str) -> Result<Self> {
        let (field, equal, value) = match part.split_once("!=") {
            Some((field, value)) => (field, false, value),
            None => match part.split_once('=') {
                Some((field, value)) => (field, true, value.strip_prefix('=').unwrap_or(value)),
                None => {
                    return Err(
                        Error::usage(format!("field selector: {part:?} is no comparison"))
                            .hint("write it as in status.phase=Running or metadata.name!=web"),
                    );
                }
            },
        };
        let known = FIELDS.iter().find(|(name, _)| *name == field.trim());
        let Some((_, field)) = known else {
            let all = FIELDS.map(|(name, _)| name).join(", ");
            let text = format!("field selector: {:?} is not supported", field.trim());
            return Err(Error::usage(text).hint(format!("the fields are: {all}")));
        };
        Ok(Requirement {
            field: *field,
            equal,
            value: value.trim().to_owned(),
        })
    }
}

impl Field {
    fn of<'v>(self, view: &'v View, status: &'v PodStatus, node: &'v str) -> &'v str {
        match self {
            Field::Name => &view.pod.name,
            Field::Namespace => &view.pod.namespace,
            Field::Phase => status.phase.name(),
            Field::RestartPolicy => match view.pod.spec.restart_policy {
                RestartPolicy::Always => "Always",
                RestartPolicy::OnFailure => "OnFailure",
                RestartPolicy::Never => "Never",
            },
            Field::PodIp => status.pod_ip.as_deref().unwrap_or_default(),
            Field::NodeName => node,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::spec::{Pod, Spec};

    #[test]
    fn selects() {
        let view = View {
            pod: Pod {
                version: Pod::VERSION,
                uid: "u".into(),
                namespace: "ns".into(),
                name: "web".into(),
                labels: Default::default(),
                annotations: Default::default(),
                created: Timestamp::UNIX_EPOCH,
                spec: Spec {
                    restart_policy: RestartPolicy::OnFailure,
                    ..Spec::default()
                },
                applied: None,
                manifest: json!({}),
            },
            state: None,
            unattended: None,
        };
        for (text, matches) in [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name == web", true),
            ("metadata.name!=web", false),
            ("metadata.name!=db", true),
            ("metadata.namespace=default", false),
            ("status.phase=Pending", true),
            ("status.phase=Pending,metadata.name=db", false),
            ("status.phase!=Running, metadata.name=web", true),
            ("spec.restartPolicy=OnFailure", true),
            ("spec.restartPolicy=Always", false),
            ("status.podIP=", true),
            ("spec.nodeName=here", true),
            ("spec.nodeName!=here", false),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            assert_eq!(selector.matches(&view, "here"), matches, "{text}");
        }
        for text in ["a", "metadata.name", "spec.containers=a", "=a"] {
            let e = FieldSelector::parse(text).unwrap_err();
            assert_eq!(e.kind(), crate::Kind::Usage, "{text}");
        }
    }
}
