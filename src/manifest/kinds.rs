//! Kinds other than Pod that people hand in: those that have no effect on one machine, so
//! that a file with them is read as if they were not there, and those that are refused,
//! each with the way on.

use super::tree::Node;

const TEMPLATE: &str = "not supported yet; apply its spec.template as a Pod: write apiVersion: v1 \
                        and kind: Pod above it, and a name into its metadata";

const REFUSED: &[(&str, &str)] = &[
    (
        "CronJob",
        "not supported; run its template as a Pod from a systemd timer: carob run --rm --attach",
    ),
    ("DaemonSet", TEMPLATE),
    ("Deployment", TEMPLATE),
    (
        "Ingress",
        "not supported; run a proxy as a Pod with a hostPort",
    ),
    (
        "Job",
        "not supported yet; apply its spec.template as a Pod: write apiVersion: v1 and kind: Pod \
         above it, a name into its metadata, and restartPolicy: OnFailure or Never into its spec",
    ),
    (
        "NetworkPolicy",
        "not enforced: every Pod of this machine reaches every other; filter on the host, and \
         take it out of the file",
    ),
    (
        "PersistentVolume",
        "not supported, and not needed: each PersistentVolumeClaim has a directory of its own; for one \
         that is there, use hostPath",
    ),
    ("ReplicaSet", TEMPLATE),
    ("ReplicationController", TEMPLATE),
    (
        "Service",
        "not supported yet; publish a port by hostPort, or use the Pod's address: carob get pods \
         -o wide",
    ),
    ("StatefulSet", TEMPLATE),
];

const RBAC: &str = "rbac.authorization.k8s.io";
const RIGHTS: &str = "there is no API server that would ask for rights";
const SCALE: &str = "no controller makes or removes Pods here";

/// API group, kind, and why it has no effect.
const NO_EFFECT: &[(&str, &str, &str)] = &[
    ("", "LimitRange", "write defaults and bounds into the Pods"),
    ("", "ResourceQuota", "a namespace's quota is not enforced"),
    (
        "",
        "ServiceAccount",
        "there is no API server to have an account with",
    ),
    (RBAC, "ClusterRole", RIGHTS),
    (RBAC, "ClusterRoleBinding", RIGHTS),
    (RBAC, "Role", RIGHTS),
    (RBAC, "RoleBinding", RIGHTS),
    ("autoscaling", "HorizontalPodAutoscaler", SCALE),
    ("autoscaling.k8s.io", "VerticalPodAutoscaler", SCALE),
    ("policy", "PodDisruptionBudget", SCALE),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        "Pods do not displace each other on one machine",
    ),
    (
        "storage.k8s.io",
        "StorageClass",
        "each PersistentVolumeClaim has a directory of its own",
    ),
];

/// What to do instead of handing in an object of this kind.
pub(super) fn refused(kind: &str) -> Option<&'static str> {
    let found = REFUSED.iter().find(|(name, _)| *name == kind);
    found.map(|(_, way)| *way)
}

/// The kind and why an object of it has no effect here.
pub(super) fn without_effect(object: &Node) -> Option<(&'static str, &'static str)> {
    let kind = object.get("kind").and_then(Node::as_str)?;
    let version = object.get("apiVersion").and_then(Node::as_str)?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let found = NO_EFFECT
        .iter()
        .find(|(g, k, _)| *k == kind && *g == group)?;
    Some((found.1, found.2))
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
