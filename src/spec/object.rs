//! Objects that carob keeps for Pods: ConfigMaps, Secrets, claims, and the namespaces that
//! they are in.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Container, EnvValue, Spec, VolumeSource};

/// In the order in which they are made: what others are in or refer to comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum ObjectKind {
    Namespace,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
}

/// How the command line and the disk call a kind.
struct Names {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: Option<&'static str>,
}

impl ObjectKind {
    pub(crate) const ALL: [ObjectKind; 4] = [
        ObjectKind::Namespace,
        ObjectKind::ConfigMap,
        ObjectKind::Secret,
        ObjectKind::PersistentVolumeClaim,
    ];

    fn names(self) -> Names {
        let (kind, plural, singular, short) = match self {
            ObjectKind::Namespace => ("Namespace", "namespaces", "namespace", Some("ns")),
            ObjectKind::ConfigMap => ("ConfigMap", "configmaps", "configmap", Some("cm")),
            ObjectKind::Secret => ("Secret", "secrets", "secret", None),
            ObjectKind::PersistentVolumeClaim => (
                "PersistentVolumeClaim",
                "persistentvolumeclaims",
                "persistentvolumeclaim",
                Some("pvc"),
            ),
        };
        Names {
            kind,
            plural,
            singular,
            short,
        }
    }

    /// As manifests write it.
    pub(crate) fn kind(self) -> &'static str {
        self.names().kind
    }

    /// As kubectl writes it in front of a name: `configmap/web`.
    pub(crate) fn singular(self) -> &'static str {
        self.names().singular
    }

    /// As it stands in errors and in paths.
    pub(crate) fn plural(self) -> &'static str {
        self.names().plural
    }

    /// Of `kind:` in a manifest.
    pub(crate) fn of_manifest(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.kind() == kind)
    }

    /// Of a word on the command line: singular, plural or short, in any case.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|k| {
            let n = k.names();
            word == n.plural || word == n.singular || n.short.is_some_and(|s| s == word)
        })
    }

    /// Whether an object of it is in a namespace.
    pub(crate) fn is_namespaced(self) -> bool {
        self != ObjectKind::Namespace
    }
}

/// The record of one object, and what a manifest becomes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// The record's version; this program reads [`Object::VERSION`] only.
    pub version: u32,
    pub kind: ObjectKind,
    /// Empty for a Namespace.
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub created: Timestamp,
    /// Counts the changes of the object, from 1; 0 before it is kept.
    pub resource_version: u64,
    /// The Pod that it was made for, and goes with. No manifest says so: who owns what is
    /// not for people to write here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// When its deletion was asked for, where something holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Timestamp>,
    /// The size that a claim has, while it is to be enlarged to what it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// The v1 object as people see it, defaults filled in and without the fields of
    /// metadata that are above. The data of a Secret is in `data` alone, in base64.
    pub manifest: Value,
    /// As the last `apply` was given it, in the same form. `None`: it was made otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Value>,
}

/// A Pod that owns an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub name: String,
    pub uid: String,
}

impl Object {
    pub(crate) const VERSION: u32 = 1;
    /// All values of one object together, in bytes.
    pub(crate) const DATA_MAX: usize = 1024 * 1024;

    /// Keys and values of a ConfigMap or a Secret, decoded.
    pub(crate) fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = |field: &str| {
            let map = self.manifest[field].as_object();
            map.into_iter().flatten().filter_map(|(key, value)| {
                let text = value.as_str()?;
                Some((key.clone(), text.to_owned()))
            })
        };
        let decoded = |field: &str| {
            entries(field).filter_map(|(key, text)| Some((key, STANDARD.decode(text).ok()?)))
        };
        match self.kind {
            ObjectKind::ConfigMap => entries("data")
                .map(|(key, text)| (key, text.into_bytes()))
                .chain(decoded("binaryData"))
                .collect(),
            ObjectKind::Secret => decoded("data").collect(),
            _ => BTreeMap::new(),
        }
    }

    /// Its data does not change any more.
    pub(crate) fn is_immutable(&self) -> bool {
        self.manifest["immutable"] == Value::Bool(true)
    }

    /// Labels, or annotations: a map of metadata.
    pub(crate) fn metadata(&self, field: &str) -> BTreeMap<String, String> {
        let map = self.manifest["metadata"][field].as_object();
        map.into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect()
    }

    /// The v1 object with all its metadata, as `get -o yaml` shows it.
    pub(crate) fn v1(&self) -> Value {
        let mut value = self.manifest.clone();
        let meta = &mut value["metadata"];
        meta["name"] = self.name.clone().into();
        if self.kind.is_namespaced() {
            meta["namespace"] = self.namespace.clone().into();
        }
        // A Namespace that is there because something is in it has no record.
        if !self.uid.is_empty() {
            meta["uid"] = self.uid.clone().into();
            meta["resourceVersion"] = self.resource_version.to_string().into();
        }
        if self.created != Timestamp::UNIX_EPOCH {
            meta["creationTimestamp"] = self.created.to_string().into();
        }
        if let Some(owner) = &self.owner {
            meta["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid,
                "controller": true, "blockOwnerDeletion": true,
            }]);
        }
        if self.kind == ObjectKind::PersistentVolumeClaim {
            if !self.uid.is_empty() {
                value["spec"]["volumeName"] = self.volume_name().into();
            }
            value["status"] = self.claim_status();
        }
        let meta = &mut value["metadata"];
        if let Some(at) = self.deletion {
            meta["deletionTimestamp"] = at.to_string().into();
        }
        if self.kind == ObjectKind::Namespace {
            let phase = match self.deletion {
                Some(_) => "Terminating",
                None => "Active",
            };
            value["status"]["phase"] = phase.into();
        }
        value
    }

    /// What a PersistentVolume would be called that a provisioner makes for the claim.
    pub(crate) fn volume_name(&self) -> String {
        format!("pvc-{}", self.uid)
    }

    /// Without a version, whatever a manifest names: it is not in the store.
    pub(crate) fn unkept(&self) -> Self {
        Object {
            resource_version: 0,
            ..self.clone()
        }
    }

    /// As kubectl names it: `configmap/web`.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }
}

#[cfg(test)]
impl Object {
    /// One that is kept, in the namespace `default`.
    pub(crate) fn sample(kind: ObjectKind, name: &str, manifest: Value) -> Self {
        Object {
            version: Object::VERSION,
            kind,
            namespace: "default".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            created: Timestamp::UNIX_EPOCH,
            resource_version: 1,
            owner: None,
            deletion: None,
            capacity: None,
            manifest,
            applied: None,
        }
    }
}

/// Without what it holds, which may be secret.
impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("kind", &self.kind)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("resource_version", &self.resource_version)
            .finish_non_exhaustive()
    }
}

impl Spec {
    /// Its volumes that are claims: their own names and the claims'.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&str, &str)> {
        self.volumes.iter().filter_map(|v| match &v.source {
            VolumeSource::Claim { name, .. } => Some((v.name.as_str(), name.as_str())),
            _ => None,
        })
    }

    /// The objects that the Pod names anywhere.
    pub(crate) fn objects(&self) -> BTreeSet<(ObjectKind, String)> {
        let secrets = self.image_pull_secrets.iter();
        let mut named: BTreeSet<_> = secrets.map(|s| (ObjectKind::Secret, s.clone())).collect();
        let containers = self.every_container();
        named.extend(
            self.claims()
                .map(|(_, name)| (ObjectKind::PersistentVolumeClaim, name.to_owned())),
        );
        let of_volumes = self.objects_of_volumes();
        let all = containers.flat_map(Container::objects).chain(of_volumes);
        named.extend(all.map(|o| (o.kind, o.name.clone())));
        named
    }
}

impl Container {
    /// Those that its environment is made of.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let of_env = self.env.iter().filter_map(|v| match &v.value {
            EnvValue::Key { object, .. } => Some(object),
            _ => None,
        });
        self.env_from.iter().map(|f| &f.object).chain(of_env)
    }
}

/// A ConfigMap or a Secret that a Pod names, in the Pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ObjectRef {
    pub kind: ObjectKind,
    pub name: String,
    /// The Pod starts without it too.
    pub optional: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_decoded() {
        let map = Object::sample(
            ObjectKind::ConfigMap,
            "o",
            json!({"data": {"a": "1"}, "binaryData": {"b": "/w=="}}),
        );
        let data: Vec<_> = map.data().into_iter().collect();
        assert_eq!(data, [("a".into(), b"1".to_vec()), ("b".into(), vec![255])]);
        let secret = Object::sample(ObjectKind::Secret, "o", json!({"data": {"p": "aGk="}}));
        assert_eq!(secret.data()["p"], b"hi");
        let text = format!("{secret:?}");
        assert!(!text.contains("aGk"), "{text}");
    }

    #[test]
    fn words_of_the_command_line() {
        for (word, kind) in [
            ("cm", Some(ObjectKind::ConfigMap)),
            ("ConfigMaps", Some(ObjectKind::ConfigMap)),
            ("secret", Some(ObjectKind::Secret)),
            ("pvc", Some(ObjectKind::PersistentVolumeClaim)),
            ("ns", Some(ObjectKind::Namespace)),
            ("pods", None),
        ] {
            assert_eq!(ObjectKind::of_word(word), kind, "{word}");
        }
    }

    #[test]
    fn metadata_is_shown_whole() {
        let map = Object::sample(
            ObjectKind::ConfigMap,
            "o",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": {"a": "b"}}}),
        );
        let v1 = map.v1();
        assert_eq!(v1["metadata"]["resourceVersion"], "1");
        assert_eq!(v1["metadata"]["namespace"], "default");
        assert_eq!(map.metadata("labels")["a"], "b");
        assert_eq!(map.reference(), "configmap/o");
    }
}
