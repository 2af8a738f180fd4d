//! What becomes of objects that are no Pods.

use super::super::tests::{good, pod_with, refused};

#[test]
fn kinds_without_effect_are_notes() {
    let around = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n---\n\
                  apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: []\n---\n";
    let parsed = good(&format!("{around}{}", pod_with("", "")));
    assert_eq!((parsed.pods.len(), parsed.ignored), (1, 2));
    let notes: Vec<String> = parsed.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("a.yaml:2: kind: "), "{notes:?}");
    assert!(
        notes[0].contains("ServiceAccount: there is no API server"),
        "{notes:?}"
    );
    // Alone, in a List, and beside what is refused.
    assert_eq!(good(around).pods.len(), 0);
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}\n";
    assert_eq!(good(list).ignored, 1);
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    refused(&format!("{around}{service}"), "publish a port by hostPort");
    // Of another group it is another kind.
    refused(
        "apiVersion: example.com/v1\nkind: Role\nmetadata: {name: r}\n",
        "is not supported",
    );
    // What would keep Pods apart is not passed over.
    refused(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\n",
        "not enforced",
    );
}

/// Each refusal of a kind names a way on.
#[test]
fn refused_kinds_name_a_way_on() {
    for (version, kind, way) in [
        ("apps/v1", "Deployment", "apply its spec.template as a Pod"),
        ("apps/v1", "StatefulSet", "apply its spec.template as a Pod"),
        ("batch/v1", "Job", "restartPolicy: OnFailure or Never"),
        ("batch/v1", "CronJob", "systemd timer"),
        ("v1", "Service", "hostPort"),
        ("networking.k8s.io/v1", "Ingress", "hostPort"),
    ] {
        refused(
            &format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"),
            way,
        );
    }
    refused(
        &pod_with("volumes: [{name: v, cephfs: {monitors: [a]}}]", ""),
        "hostPath",
    );
}
