//! Field selectors, as `kubectl get --field-selector` takes them.

use crate::pod::client::View;
use crate::pod::status::PodStatus;
use crate::spec::{Object, ObjectKind, RestartPolicy};
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
    Type,
}

const FIELDS: [(&str, Field); 7] = [
    ("metadata.name", Field::Name),
    ("metadata.namespace", Field::Namespace),
    ("status.phase", Field::Phase),
    ("spec.restartPolicy", Field::RestartPolicy),
    ("status.podIP", Field::PodIp),
    ("spec.nodeName", Field::NodeName),
    ("type", Field::Type),
];

impl FieldSelector {
    /// Of Pods (`None`), or of objects of this kind. The error is of
    /// [`Kind::Usage`](crate::Kind::Usage).
    pub(crate) fn parse(text: &str, kind: Option<ObjectKind>) -> Result<Self> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        let parts = parts.map(|part| Requirement::parse(part, kind));
        parts.collect::<Result<_>>().map(Self)
    }

    /// `node`: the name of this machine.
    pub(crate) fn matches(&self, view: &View, node: &str) -> bool {
        let status = view.status();
        let holds = |r: &Requirement| (r.field.of(view, &status, node) == r.value) == r.equal;
        self.0.iter().all(holds)
    }

    /// Of an object that is no Pod.
    pub(crate) fn matches_object(&self, object: &Object) -> bool {
        let holds = |r: &Requirement| (r.field.of_object(object) == r.value) == r.equal;
        self.0.iter().all(holds)
    }
}

impl Requirement {
    fn parse(part: &str, kind: Option<ObjectKind>) -> Result<Self> {
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
        let known: Vec<_> = FIELDS.iter().filter(|(_, f)| f.is_of(kind)).collect();
        let Some((_, field)) = known.iter().find(|(name, _)| *name == field.trim()) else {
            let all: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let of = kind.map_or("Pod", ObjectKind::kind);
            let text = format!("field selector: {:?} is not supported", field.trim());
            let all = all.join(", ");
            return Err(Error::usage(text).hint(format!("the fields of a {of} are: {all}")));
        };
        Ok(Requirement {
            field: *field,
            equal,
            value: value.trim().to_owned(),
        })
    }
}

impl Field {
    /// Whether Pods (`None`), or objects of this kind, have it. The API server selects claims
    /// by their phase neither; that is worth having all the same.
    fn is_of(self, kind: Option<ObjectKind>) -> bool {
        use ObjectKind::{Namespace, PersistentVolumeClaim, Secret};
        match (self, kind) {
            (Field::Name | Field::Namespace, _) => true,
            (Field::Type, kind) => kind == Some(Secret),
            (_, None) => true,
            (Field::Phase, Some(kind)) => matches!(kind, Namespace | PersistentVolumeClaim),
            (_, Some(_)) => false,
        }
    }

    fn of_object(self, object: &Object) -> String {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        match self {
            Field::Name => object.name.clone(),
            Field::Namespace => object.namespace.clone(),
            Field::Phase => text(&object.v1()["status"]["phase"]),
            Field::Type => text(&object.manifest["type"]),
            Field::RestartPolicy | Field::PodIp | Field::NodeName => String::new(),
        }
    }

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
            Field::Type => "",
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
            let selector = FieldSelector::parse(text, None).unwrap();
            assert_eq!(selector.matches(&view, "here"), matches, "{text}");
        }
        for text in ["a", "metadata.name", "spec.containers=a", "type=a", "=a"] {
            let e = FieldSelector::parse(text, None).unwrap_err();
            assert_eq!(e.kind(), crate::Kind::Usage, "{text}");
        }
        use ObjectKind::{ConfigMap, Namespace, PersistentVolumeClaim, Secret};
        for (kind, text, right) in [
            (ConfigMap, "metadata.name=a,metadata.namespace!=b", true),
            (ConfigMap, "status.phase=Bound", false),
            (ConfigMap, "type=Opaque", false),
            (Secret, "type=Opaque", true),
            (Secret, "spec.nodeName=a", false),
            (PersistentVolumeClaim, "status.phase=Bound", true),
            (Namespace, "status.phase=Active", true),
        ] {
            let parsed = FieldSelector::parse(text, Some(kind));
            assert_eq!(parsed.is_ok(), right, "{text}");
        }
    }
}
