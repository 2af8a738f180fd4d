//! Which lists of a v1 Pod are merged, and by which keys (`x-kubernetes-patch-merge-key` of
//! the API's schema). Any other list is replaced as a whole.

use serde_json::Value;

/// The fields that tell a list's items apart. None: the items are texts themselves.
pub(super) type Keys = &'static [&'static str];

/// `path`: without indices, as in `spec.containers.env`.
pub(super) fn keys(path: &str) -> Option<Keys> {
    let path = path
        .replace("spec.initContainers", "spec.containers")
        .replace("spec.ephemeralContainers", "spec.containers");
    Some(match path.as_str() {
        "metadata.finalizers" => &[],
        "metadata.ownerReferences" => &["uid"],
        "spec.containers"
        | "spec.volumes"
        | "spec.imagePullSecrets"
        | "spec.schedulingGates"
        | "spec.resourceClaims"
        | "spec.containers.env" => &["name"],
        "spec.hostAliases" => &["ip"],
        "spec.topologySpreadConstraints" => &["topologyKey"],
        "spec.containers.ports" => &["containerPort"],
        "spec.containers.volumeMounts" => &["mountPath"],
        "spec.containers.volumeDevices" => &["devicePath"],
        _ => return None,
    })
}

/// Whether items of this list have fields that exclude each other, so that a new one takes
/// the others' place (`retainKeys`).
pub(super) fn retains_keys(path: &str) -> bool {
    matches!(path, "spec.volumes" | "spec.resourceClaims")
}

/// What tells an item apart, if it has all of that.
pub(super) fn key_of(item: &Value, keys: Keys) -> Option<Vec<Value>> {
    match keys {
        [] => Some(vec![item.clone()]),
        _ => keys.iter().map(|k| item.get(k).cloned()).collect(),
    }
}

pub(super) fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}
