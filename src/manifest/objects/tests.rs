//! ConfigMaps, Secrets and namespaces, read and refused.

use crate::manifest::tests::{good, pod_with, refused};

const PULL_SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: regcred}
type: kubernetes.io/dockerconfigjson
data: {.dockerconfigjson: eyJhdXRocyI6IHsiZXhhbXBsZS5jb20iOiB7ImF1dGgiOiAiZFRwdyJ9fX0=}
";

#[test]
fn secrets_stand_beside_pods_and_are_not_in_them() {
    let pod = pod_with("imagePullSecrets: [{name: regcred}]", "");
    for text in [
        format!("{PULL_SECRET}---\n{pod}"),
        format!("{pod}---\n{PULL_SECRET}"),
    ] {
        let parsed = good(&text);
        assert_eq!(parsed.notes, []);
        assert_eq!(parsed.pods[0].spec.image_pull_secrets, ["regcred"]);
        assert_eq!(parsed.objects[0].reference(), "secret/regcred");
        assert!(!format!("{parsed:?}").contains("eyJhdXRo"));
        assert!(!parsed.pods[0].manifest.to_string().contains("eyJhdXRo"));
    }
}

#[test]
fn config_maps_and_secrets_take_one_form() {
    let parsed = good(
        "apiVersion: v1
kind: Secret
metadata: {name: s, labels: {a: b}, uid: x, resourceVersion: \"7\"}
stringData: {p: hi}
data: {p: AAAA, q: aGk=}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: ns}
data: {k: v}
binaryData: {}
---
apiVersion: v1
kind: Namespace
metadata: {name: ns}
",
    );
    let [ns, map, secret] = &parsed.objects[..] else {
        panic!("{:?}", parsed.objects);
    };
    assert_eq!(
        (ns.reference().as_str(), ns.namespace.as_str()),
        ("namespace/ns", "")
    );
    assert_eq!((map.namespace.as_str(), map.resource_version), ("ns", 0));
    let expected = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}, "metadata": {},
    });
    assert_eq!(map.manifest, expected);
    assert_eq!(secret.resource_version, 7);
    let expected = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"a": "b"}},
        "data": {"p": "aGk=", "q": "aGk="}, "type": "Opaque",
    });
    assert_eq!(secret.manifest, expected);
}

#[test]
fn faults_of_secrets_and_config_maps() {
    refused(
        &PULL_SECRET.replace("{name: regcred}", "{}"),
        "metadata.name",
    );
    refused(&PULL_SECRET.replace("eyJhdX", "e!!!"), "data");
    refused(
        &PULL_SECRET.replace("eyJhdX", "AAAAAA"),
        "the Secret regcred: .dockerconfigjson",
    );
    refused(&PULL_SECRET.replace("\ndata:", "\ndate:"), "date");
    let twice = format!("{PULL_SECRET}---\n{PULL_SECRET}");
    refused(&twice, "given twice: first at a.yaml:1");
    let of = |kind: &str, rest: &str| {
        format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: o}}\n{rest}\n")
    };
    for (kind, rest, expected) in [
        (
            "ConfigMap",
            "data: {a/b: x}",
            "data['a/b']: Invalid value: \"a/b\": a valid config key",
        ),
        ("ConfigMap", "data: {..a: x}", "must not start with '..'"),
        ("ConfigMap", "data: {.: x}", "must not be '.'"),
        ("ConfigMap", "data: {a: 5}", "data.a"),
        (
            "ConfigMap",
            "data: {a: x}\nbinaryData: {a: AA==}",
            "duplicate of key present in binaryData",
        ),
        (
            "ConfigMap",
            "binaryData: {a: \"?\"}",
            "binaryData.a: is not base64",
        ),
        ("ConfigMap", "immutable: 1", "immutable"),
        ("ConfigMap", "spec: {}", "spec"),
        ("Secret", "data: {a: hi!}", "data.a: is not base64"),
        (
            "Secret",
            "type: kubernetes.io/tls\ndata: {tls.crt: AA==}",
            "data['tls.key']: Required value",
        ),
        (
            "Secret",
            "type: kubernetes.io/ssh-auth",
            "data.ssh-privatekey: Required value",
        ),
        (
            "Secret",
            "type: kubernetes.io/service-account-token",
            "service-account.name",
        ),
    ] {
        refused(&of(kind, rest), expected);
    }
    let large = "x".repeat(1024 * 1024 - 1000);
    good(&of("ConfigMap", &format!("data: {{a: {large}}}")));
}
