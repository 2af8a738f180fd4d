//! Tables of faulty manifests, each with its one problem.

use super::tests::{pod_with, problems, refused, source};
use super::*;

#[test]
fn faults_in_the_spec() {
    for (spec, expected) in [
        (
            "restartPolicy: always",
            "a.yaml:6: spec.restartPolicy: Unsupported value: \"always\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            "activeDeadlineSeconds: 0",
            "must be between 1 and 2147483647",
        ),
        ("hostname: a.b", "RFC 1123 label"),
        ("subdomain: A", "RFC 1123 label"),
        (
            "dnsPolicy: None",
            "must provide at least one DNS nameserver",
        ),
        (
            "dnsConfig: {nameservers: [1.1.1.300]}",
            "must be a valid IP address",
        ),
        (
            "dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}",
            "more than 3",
        ),
        (
            "dnsConfig: {options: [{name: \"a b\"}]}",
            "must be one word",
        ),
        ("dnsConfig: {searches: [\"a b\"]}", "RFC 1123 subdomain"),
        (
            "hostAliases: [{ip: x, hostnames: [a]}]",
            "must be a valid IP address",
        ),
        (
            "hostAliases: [{ip: 10.0.0.1, hostnames: [a_b]}]",
            "RFC 1123 subdomain",
        ),
        ("os: {name: beos}", "supported values: \"linux\""),
        ("os: {name: windows}", "Linux containers only"),
        (
            "shareProcessNamespace: true\nhostPID: true",
            "cannot both be enabled",
        ),
        ("hostUsers: false", "not supported yet"),
        ("runtimeClassName: gvisor", "not supported yet"),
        (
            "ephemeralContainers: [{name: e, image: b, targetContainerName: z}]",
            "no such container",
        ),
        (
            "ephemeralContainers: [{name: e, image: b, ports: [{containerPort: 1}]}]",
            "cannot be set for an Ephemeral Container",
        ),
        (
            "ephemeralContainers: [{name: app, image: b}]",
            "Duplicate value",
        ),
        ("resources: {limits: {cpu: 1}}", "not supported yet"),
        ("overhead: {cpu: 1}", "not supported yet"),
        (
            "volumes: [{name: a, emptyDir: {}, hostPath: {path: /a}}]",
            "more than 1 volume type",
        ),
        (
            "volumes: [{name: a, emptyDir: {}}, {name: a, emptyDir: {}}]",
            "spec.volumes[1].name: Duplicate value: \"a\"",
        ),
        ("volumes: [{name: A, emptyDir: {}}]", "RFC 1123 label"),
        (
            "volumes: [{name: a, emptyDir: {medium: Disk}}]",
            "Unsupported value",
        ),
        (
            "volumes: [{name: a, emptyDir: {medium: HugePages-3Mi}}]",
            "Unsupported value",
        ),
        (
            "volumes: [{name: a, emptyDir: {sizeLimit: -1}}]",
            "greater than or equal to 0",
        ),
        (
            "volumes: [{name: a, emptyDir: {mode: 02000}}]",
            "must be a value between 0000 and 01777",
        ),
        (
            "volumes: [{name: a, hostPath: {path: /a/../b}}]",
            "must not contain '..'",
        ),
        ("volumes: [{name: a, hostPath: {path: a}}]", "absolute path"),
        (
            "volumes: [{name: a, hostPath: {path: /a, type: Dir}}]",
            "Unsupported value",
        ),
        (
            "volumes: [{name: a, persistentVolumeClaim: {claimName: B}}]",
            "claimName: Invalid value",
        ),
        (
            "volumes: [{name: a, ephemeral: {volumeClaimTemplate: {spec: {accessModes: \
             [ReadWriteOnce], volumeMode: Disk, resources: {requests: {storage: 1Gi}}}}}}]",
            "volumeMode: Unsupported value: \"Disk\"",
        ),
        (
            "volumes: [{name: a, nfs: {server: s, path: p}}]",
            "must be an absolute path",
        ),
        (
            "volumes: [{name: a, image: {}}]",
            "spec.volumes[0].image.reference: Required value",
        ),
        (
            "volumes: [{name: a, image: {reference: b, pullPolicy: Often}}]",
            "Unsupported value: \"Often\"",
        ),
        (
            "securityContext: {runAsUser: -1}",
            "must be between 0 and 2147483647",
        ),
        (
            "securityContext: {runAsUser: 4294967296}",
            "must be between 0 and 2147483647",
        ),
        (
            "securityContext: {runAsUser: 0, runAsNonRoot: true}",
            "must not be 0",
        ),
        (
            "securityContext: {supplementalGroups: [1, -1]}",
            "supplementalGroups[1]",
        ),
        (
            "securityContext: {supplementalGroupsPolicy: Some}",
            "Unsupported value",
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost}}",
            "not supported yet",
        ),
        (
            "securityContext: {seccompProfile: {type: Default}}",
            "Unsupported value",
        ),
        (
            "securityContext: {appArmorProfile: {type: Localhost}}",
            "appArmorProfile.localhostProfile: Required value",
        ),
        (
            "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: \" a\"}}",
            "must not be padded",
        ),
        (
            "securityContext: {appArmorProfile: {type: Localhost, localhostProfile: \"a\\nb\"}}",
            "must be one line of text",
        ),
        (
            "securityContext: {appArmorProfile: {type: Unconfined, localhostProfile: a}}",
            "can only be set when `type` is Localhost",
        ),
        (
            "securityContext: {appArmorProfile: {type: Default}}",
            "Unsupported value",
        ),
        (
            "securityContext: {seLinuxOptions: {type: \"a:b\"}}",
            "must be one part of an SELinux label",
        ),
        (
            "securityContext: {sysctls: [{name: kernel.msgmax, value: \"1\"}]}",
            "not one of Kubernetes' safe sysctls",
        ),
        (
            "securityContext: {sysctls: [{name: \"a b\", value: \"1\"}]}",
            "must be the name of a sysctl",
        ),
        (
            "hostNetwork: true\nsecurityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: \"1\"}]}",
            "'hostNetwork'",
        ),
        (
            "initContainers: [{name: app, image: a:1}]",
            "spec.containers[0].name: Duplicate value: \"app\"",
        ),
        (
            "initContainers: [{name: i, image: a:1, restartPolicy: Sometimes}]",
            "initContainers[0].restartPolicy: Unsupported value",
        ),
        (
            "initContainers: [{name: i, image: a:1, lifecycle: {preStop: {sleep: {seconds: 1}}}}]",
            "may not be set for init containers",
        ),
        ("nodeSelector: [a]", "expected a mapping, found a list"),
        (
            "hostNetwrk: true",
            "a.yaml:6: spec.hostNetwrk: unknown field: did you mean \"hostNetwork\"?",
        ),
    ] {
        refused(&pod_with(spec, ""), expected);
    }
}

#[test]
fn faults_in_the_head() {
    for (text, expected) in [
        (
            "kind: Pod\nmetadata: {name: a}\n",
            "apiVersion: Required value: add the line `apiVersion: v1`",
        ),
        (
            "apiVersion: v1\nmetadata: {name: a}\n",
            "kind: Required value",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\n",
            "a.yaml:2: kind: Deployment: not supported yet",
        ),
        ("apiVersion: v1\nkind: Pdo\n", "did you mean \"Pod\"?"),
        (
            "apiVersion: example.com/v1\nkind: Widget\n",
            "\"Widget\" of example.com/v1 is not supported",
        ),
        ("apiVersion: v2\nkind: Pod\n", "the version here is v1"),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List}\n",
            "a.yaml:4: items[0].items: Required value",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, itmes: [], items: []}\n",
            "a.yaml:4: items[0].itmes: unknown field: did you mean \"items\"?",
        ),
        ("just text\n", "expected an object"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
            "spec: Required value",
        ),
    ] {
        refused(text, expected);
    }
    let named = |meta: &str| pod_with("", "").replace("  name: web", &format!("  {meta}"));
    for (meta, expected) in [
        ("labels: {}", "metadata.name: Required value"),
        ("generateName: web-", "generateName alone is not enough"),
        ("name: Web", "RFC 1123 subdomain"),
        ("name: web\n  namespace: a.b", "RFC 1123 label"),
        ("name: web\n  labels: {a b: c}", "metadata.labels['a b']"),
        ("name: web\n  labels: {a: b c}", "a valid label"),
        ("name: web\n  annotations: {-a: x}", "name part"),
        (
            "name: web\n  annotations: {container.apparmor.security.beta.kubernetes.io/x: unconfined}",
            "container not found",
        ),
        (
            "name: web\n  annotations: {container.apparmor.security.beta.kubernetes.io/app: nginx}",
            "must be runtime/default, unconfined or localhost/<profile>",
        ),
        (
            "name: web\n  annotations: {container.apparmor.security.beta.kubernetes.io/app: localhost/}",
            "must not be empty",
        ),
        (
            "name: web\n  name: web2",
            "metadata.name: set twice: first on line 4",
        ),
    ] {
        refused(&named(meta), expected);
    }
    refused(
        &named(&format!("name: {}", "a".repeat(230))),
        "directory of the logs",
    );
    assert!(
        problems(&named(&format!("name: {}", "a".repeat(254))))[0].contains("no more than 253")
    );
    let empty = parse(&source("# nothing\n---\n"), None).unwrap_err();
    assert!(empty.to_string().contains("there is no object in a.yaml"));
    let no_containers = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: []\n";
    refused(no_containers, "a.yaml:5: spec.containers: Required value");
    let no_image =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n";
    refused(
        no_image,
        "a.yaml:6: spec.containers[0].image: Required value",
    );
}

#[test]
fn faults_of_projected_volumes() {
    let config = |fields: &str| format!("configMap: {{name: m, {fields}}}");
    let item = |item: &str| config(&format!("items: [{{{item}}}]"));
    let down = |item: &str| format!("downwardAPI: {{items: [{{{item}}}]}}");
    let sources = |sources: &str| format!("projected: {{sources: [{sources}]}}");
    let name = "fieldRef: {fieldPath: metadata.name}";
    for (volume, expected) in [
        ("configMap: {}".to_owned(), "configMap.name: Required value"),
        (
            "configMap: {name: A_b}".into(),
            "configMap.name: Invalid value: \"A_b\"",
        ),
        ("secret: {}".into(), "secret.secretName: Required value"),
        (
            config("defaultMode: 512"),
            "configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777",
        ),
        (
            config("defaultMode: -1"),
            "configMap.defaultMode: Invalid value: -1: must be a number between 0 and 0777",
        ),
        (
            config("defaultUser: -1"),
            "configMap.defaultUser: Invalid value: -1: must be between 0 and 2147483647",
        ),
        (item("key: a"), "items[0].path: Required value"),
        (item("path: a"), "items[0].key: Required value"),
        (
            item("key: a, path: /a"),
            "items[0].path: Invalid value: \"/a\": must be a relative path",
        ),
        (item("key: a, path: b/../a"), "must not contain '..'"),
        (item("key: a, path: .."), "must not contain '..'"),
        (item("key: a, path: ..a"), "must not start with '..'"),
        (
            item("key: a, path: ./..data"),
            "its first part must not start with '..'",
        ),
        (item("key: a, path: ./"), "must name a file"),
        (
            item("key: a, path: a, mode: 01000"),
            "items[0].mode: Invalid value: 512",
        ),
        (
            item("key: a, path: a, user: 4294967296"),
            "items[0].user: Invalid value: 4294967296",
        ),
        (
            down("path: a"),
            "items[0]: Required value: one of fieldRef and resourceFieldRef",
        ),
        (
            down(&format!(
                "path: a, {name}, resourceFieldRef: {{containerName: b, resource: limits.cpu}}"
            )),
            "fieldRef and resourceFieldRef can not be specified simultaneously",
        ),
        (
            down(&format!("path: ../a, {name}")),
            "items[0].path: Invalid value",
        ),
        (down(name), "items[0].path: Required value"),
        (
            down("path: a, fieldRef: {fieldPath: status.podIP}"),
            "items[0].fieldRef.fieldPath: Unsupported value: \"status.podIP\"",
        ),
        (
            down("path: a, fieldRef: {apiVersion: v2, fieldPath: metadata.name}"),
            "fieldRef.apiVersion: Unsupported value: \"v2\"",
        ),
        (
            down("path: a, resourceFieldRef: {resource: limits.cpu}"),
            "resourceFieldRef.containerName: Required value",
        ),
        (
            down("path: a, resourceFieldRef: {containerName: z, resource: limits.cpu}"),
            "resourceFieldRef.containerName: Not found: \"z\"",
        ),
        (
            sources(
                "{configMap: {name: a, items: [{key: a, path: p}]}}, {secret: {name: b, items: [{key: a, path: p}]}}",
            ),
            "projected.sources[1]: Invalid value: \"p\": conflicting duplicate paths",
        ),
        (
            sources("{configMap: {name: a}, secret: {name: b}}"),
            "projected.sources[0]: Forbidden: may not specify more than 1 volume type",
        ),
        (
            sources("{secret: {}}"),
            "sources[0].secret.name: Required value",
        ),
        (
            sources("{serviceAccountToken: {path: t}}"),
            "no API server that a token would be for",
        ),
        (
            sources("{podCertificate: {keyType: RSA2048, signerName: a/b}}"),
            "no API server that signs",
        ),
        (
            sources("{clusterTrustBundle: {name: a, path: b}}"),
            "no API server that keeps trust bundles",
        ),
        (
            "projected: {defaultMode: 1000, sources: []}".into(),
            "projected.defaultMode: Invalid value: 1000",
        ),
        (
            format!("{}, secret: {{secretName: a}}", config("")),
            "more than 1 volume type",
        ),
    ] {
        refused(
            &pod_with(&format!("volumes: [{{name: a, {volume}}}]"), ""),
            expected,
        );
    }
}
