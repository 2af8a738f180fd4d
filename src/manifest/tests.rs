//! Whole manifests through the whole way.

use super::*;
use crate::spec::*;

pub(super) fn source(text: &str) -> Vec<Source> {
    vec![Source {
        name: "a.yaml".into(),
        bytes: text.as_bytes().to_vec(),
    }]
}

pub(super) fn good(text: &str) -> Parsed {
    parse(&source(text), None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub(super) fn problems(text: &str) -> Vec<String> {
    match parse(&source(text), None) {
        Ok(_) => Vec::new(),
        Err(e) => e.get_problems().iter().map(Problem::to_string).collect(),
    }
}

/// A Pod with one container, and these lines in its spec (from line 6 on) and
/// in its container.
pub(super) fn pod_with(spec: &str, container: &str) -> String {
    let indent =
        |text: &str, by: &str| -> String { text.lines().map(|l| format!("{by}{l}\n")).collect() };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n{}  containers:\n  - name: app\n    image: app:1\n{}",
        indent(spec, "  "),
        indent(container, "    ")
    )
}

/// There is exactly one problem, and it holds this text.
pub(super) fn refused(text: &str, expected: &str) {
    let found = problems(text);
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "expected {expected:?}, found {found:#?} in\n{text}"
    );
}

const WITH_INIT: &str = "apiVersion: v1
kind: Pod
metadata:
  name: greeter
  labels: {app: greeter, app.example.com/tier: front}
spec:
  initContainers:
  - name: prepare
    image: registry.example.com:5000/prepare
    env:
    - {name: ROLE, value: writer}
    securityContext: {runAsUser: 1999}
    volumeMounts:
    - {name: shared, mountPath: /shared}
  - name: refresh
    image: refresh:2
    restartPolicy: Always
    lifecycle: {preStop: {sleep: {seconds: 3}}}
  containers:
  - name: serve
    image: serve@sha256:0000000000000000000000000000000000000000000000000000000000000000
    args: [\"serve\", \"--port=8080\"]
    env:
    - name: IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    - name: TIER
      valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app.example.com/tier']\"}}
    - name: MEMORY
      valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}
    ports:
    - {name: http, containerPort: 8080, hostPort: 80}
    resources: {limits: {cpu: 1500m, memory: 64Mi}, requests: {cpu: 0.25}}
    volumeMounts:
    - {name: shared, mountPath: /shared, readOnly: true, recursiveReadOnly: Enabled}
    - {name: host, mountPath: /host, subPath: a/b, mountPropagation: HostToContainer}
  securityContext: {fsGroup: 7, supplementalGroups: [8, 9], sysctls: [{name: net.ipv4.tcp_fin_timeout, value: \"15\"}]}
  volumes:
  - {name: shared, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: /srv, type: Directory}}
  nodeSelector: {disk: ssd}
";

#[test]
fn a_pod_with_much_in_it() {
    let parsed = good(WITH_INIT);
    let pod = &parsed.pods[0];
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("default", "greeter")
    );
    assert_eq!(pod.labels["app.example.com/tier"], "front");
    let s = &pod.spec;
    assert_eq!(s.hostname, "greeter");
    assert_eq!(s.termination_grace_period, 30);
    assert!(s.dns.from_host);
    assert_eq!(s.init_containers[0].security.run_as_user, Some(1999));
    assert_eq!(s.init_containers[0].pull_policy, PullPolicy::Always);
    assert!(s.init_containers[1].sidecar && !s.init_containers[0].sidecar);
    assert_eq!(s.init_containers[1].pre_stop, Some(Hook::Sleep(3)));
    let c = &s.containers[0];
    assert_eq!(c.pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(c.args, ["serve", "--port=8080"]);
    assert_eq!(c.env[0].value, EnvValue::Field("status.podIP".into()));
    assert_eq!(
        c.env[2].value,
        EnvValue::Resource {
            container: "serve".into(),
            resource: "limits.memory".into(),
            divisor: 1 << 20
        }
    );
    assert_eq!(c.ports[0].host_port, Some(80));
    assert_eq!(
        c.resources,
        Resources {
            cpu_request: Some(250),
            cpu_limit: Some(1500),
            memory_request: Some(64 << 20),
            memory_limit: Some(64 << 20),
            ..Resources::default()
        }
    );
    assert!(c.mounts[0].read_only && c.mounts[0].recursive_read_only);
    assert_eq!(c.mounts[1].sub_path.as_deref(), Some("a/b"));
    assert_eq!(c.mounts[1].propagation, Propagation::HostToContainer);
    assert_eq!(c.security.fs_group, Some(7));
    assert_eq!(c.security.supplemental_groups, [8, 9]);
    assert_eq!(c.security.seccomp, Seccomp::RuntimeDefault);
    assert_eq!(
        s.sysctls,
        [("net.ipv4.tcp_fin_timeout".into(), "15".into())]
    );
    assert_eq!(
        s.volumes[0].source,
        VolumeSource::EmptyDir {
            memory: true,
            huge: None,
            size_limit: Some(1 << 20),
            mode: None,
        }
    );
    assert_eq!(
        s.volumes[1].source,
        VolumeSource::HostPath {
            path: "/srv".into(),
            kind: HostPathKind::Directory
        }
    );
    let notes: Vec<String> = parsed.notes.iter().map(Note::to_string).collect();
    assert_eq!(
        notes,
        ["a.yaml:40: spec.nodeSelector: there is one machine and no scheduler"]
    );
    let verdict = |field: &str| {
        let v = parsed.verdicts.iter().find(|v| v.field == field);
        v.map(|v| (v.line, v.verdict))
    };
    assert_eq!(
        verdict("spec.containers[0].image"),
        Some((21, Verdict::Honoured))
    );
    assert_eq!(verdict("spec.nodeSelector"), Some((40, Verdict::NoEffect)));
}

#[test]
fn shown_back_as_a_cluster_shows_it() {
    let pod = good(&pod_with(
        "hostNetwork: true",
        "ports: [{containerPort: 80}]",
    ))
    .pods
    .remove(0);
    let m = &pod.manifest;
    for (pointer, value) in [
        ("/apiVersion", serde_json::json!("v1")),
        ("/kind", "Pod".into()),
        ("/metadata/namespace", "default".into()),
        ("/metadata/uid", pod.uid.clone().into()),
        ("/spec/restartPolicy", "Always".into()),
        ("/spec/dnsPolicy", "ClusterFirst".into()),
        ("/spec/schedulerName", "default-scheduler".into()),
        ("/spec/terminationGracePeriodSeconds", 30.into()),
        ("/spec/enableServiceLinks", true.into()),
        ("/spec/securityContext", serde_json::json!({})),
        ("/spec/containers/0/imagePullPolicy", "IfNotPresent".into()),
        (
            "/spec/containers/0/terminationMessagePath",
            "/dev/termination-log".into(),
        ),
        ("/spec/containers/0/terminationMessagePolicy", "File".into()),
        ("/spec/containers/0/resources", serde_json::json!({})),
        ("/spec/containers/0/ports/0/protocol", "TCP".into()),
        ("/spec/containers/0/ports/0/hostPort", 80.into()),
    ] {
        assert_eq!(m.pointer(pointer), Some(&value), "{pointer}");
    }
    assert_eq!(m["metadata"]["creationTimestamp"], pod.created.to_string());
    // What was made can be read again, and means the same.
    let again = pod_from_value(m, "", None).unwrap().pods.remove(0);
    assert_eq!(again.spec, pod.spec);
}

#[test]
fn uids_are_random_uuids() {
    let (a, b) = (new_uid().unwrap(), new_uid().unwrap());
    assert_ne!(a, b);
    assert_eq!(a.len(), 36);
    assert_eq!(a.as_bytes()[14], b'4');
    assert!(
        a.bytes()
            .all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
}

#[test]
fn all_documents_at_once() {
    let bad = pod_with("restartPolicy: x\nhostnam: a", "imagePullPolicy: z");
    let text = format!("{bad}---\n{bad}");
    let found = problems(&text);
    let lines: Vec<&str> = found.iter().map(|p| p.split(' ').next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "a.yaml:6:",
            "a.yaml:7:",
            "a.yaml:11:",
            "a.yaml:18:",
            "a.yaml:19:",
            "a.yaml:23:"
        ],
        "{found:#?}"
    );
    let twice = format!("{}---\n{}", pod_with("", ""), pod_with("", ""));
    refused(&twice, "Pod default/web is given twice: first at a.yaml:1");
}

#[test]
fn a_negative_grace_period_is_a_second() {
    let parsed = good(&pod_with("terminationGracePeriodSeconds: -30", ""));
    assert_eq!(parsed.pods[0].spec.termination_grace_period, 1);
}

#[test]
fn lists() {
    let one = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}";
    let list = format!(
        "apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: \"\"}}\nitems:\n- {one}\n- {}\n",
        one.replace("name: a", "name: b")
    );
    let names: Vec<String> = good(&list).pods.into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["a", "b"]);
    let bare = one.replace("apiVersion: v1, kind: Pod, ", "");
    let pods = format!("apiVersion: v1\nkind: PodList\nitems:\n- {bare}\n");
    assert_eq!(good(&pods).pods.len(), 1);
    let broken = list.replace("image: i", "imag: i");
    assert_eq!(
        problems(&broken)[0],
        "a.yaml:5: items[0].spec.containers[0].imag: unknown field: did you mean \"image\"?"
    );
    let dropped = format!("apiVersion: v1\nkind: List\nitem:\n- {one}\nitems: {{}}\n");
    let found = problems(&dropped);
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn namespaces() {
    let in_prod = pod_with("", "").replace("  name: web", "  name: web\n  namespace: prod");
    let namespace = |text: &str, n| parse(&source(text), n).map(|p| p.pods[0].namespace.clone());
    assert_eq!(namespace(&pod_with("", ""), None).unwrap(), "default");
    assert_eq!(namespace(&pod_with("", ""), Some("dev")).unwrap(), "dev");
    assert_eq!(namespace(&in_prod, None).unwrap(), "prod");
    assert_eq!(namespace(&in_prod, Some("prod")).unwrap(), "prod");
    let error = namespace(&in_prod, Some("dev")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not match the namespace \"dev\""),
        "{error}"
    );
    assert_eq!(
        namespace(&in_prod, Some("a/b")).unwrap_err().kind(),
        Kind::Usage
    );
}

#[test]
fn kinds_of_error() {
    let kind = |spec: &str| {
        parse(&source(&pod_with(spec, "")), None)
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind("hostUsers: false"), Kind::Unsupported);
    assert_eq!(kind("restartPolicy: x"), Kind::Invalid);
    assert_eq!(kind("hostUsers: false\nrestartPolicy: x"), Kind::Invalid);
}

#[test]
fn what_a_cluster_adds_is_taken() {
    let text = "apiVersion: v1
kind: Pod
metadata:
  name: web
  creationTimestamp: \"2026-01-01T00:00:00Z\"
  generateName: web-
  managedFields: [{manager: kubectl, fieldsV1: {\"f:spec\": {}}}]
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: b, controller: true}]
  resourceVersion: \"5\"
  uid: 0d5a
spec:
  containers:
  - name: app
    image: app:1
    resources: {}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: kube-api-access-x7, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: n1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  tolerations: [{effect: NoExecute, key: a, operator: Exists, tolerationSeconds: 300}]
  volumes:
  - {name: data, emptyDir: {}}
  - name: kube-api-access-x7
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken: {expirationSeconds: 3607, path: token}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
status: {phase: Running, somethingNew: 1}
";
    let parsed = good(text);
    let pod = &parsed.pods[0];
    assert_eq!(pod.spec.volumes.len(), 1);
    assert_eq!(pod.spec.containers[0].mounts.len(), 1);
    assert_ne!(pod.uid, "0d5a");
    assert_eq!(pod.manifest.get("status"), None);
    let noted = |field: &str, line| {
        parsed
            .notes
            .iter()
            .any(|n| n.field == field && n.line == line)
    };
    assert!(noted("status", 36));
    assert!(noted("spec.volumes[1]", 30));
    assert!(noted("spec.containers[0].volumeMounts[1]", 18));
    assert!(noted("spec.dnsPolicy", 19));
}

#[test]
fn hostnames() {
    let host = |name: &str, spec: &str| {
        let text = pod_with(spec, "").replace("name: web", &format!("name: {name}"));
        let s = good(&text).pods.remove(0).spec;
        (s.hostname, s.fqdn)
    };
    assert_eq!(host("web.a", ""), ("web.a".into(), None));
    assert_eq!(host("web", "hostname: h").0, "h");
    let long = format!("{}-.{}", "a".repeat(61), "b".repeat(9)).replace("-.", "-b.");
    assert_eq!(
        host(&long, "").0,
        format!("{}-b", "a".repeat(61))
            .chars()
            .take(63)
            .collect::<String>()
    );
    let dots = format!("{}.{}", "a".repeat(62), "b");
    assert_eq!(host(&dots, "").0, format!("{}", "a".repeat(62)));
    assert_eq!(
        host("web", "subdomain: sub").1.as_deref(),
        Some("web.sub.default.svc.cluster.local")
    );
}

#[test]
fn warnings() {
    let warnings = |container: &str| -> Vec<String> {
        let notes = good(&pod_with("", container)).notes;
        notes
            .iter()
            .map(|n| format!("{:?} {n}", n.verdict))
            .collect()
    };
    let found = warnings("resources: {limits: {memory: 100m}}");
    assert!(
        found[0].starts_with("Warning") && found[0].contains("thousandths"),
        "{found:?}"
    );
    assert!(warnings("resources: {limits: {memory: 512}}")[0].contains("is a suffix"));
    assert!(warnings("securityContext: {procMount: Unmasked}")[0].contains("hostUsers"));
    assert_eq!(
        warnings("resources: {limits: {memory: 64Mi}}"),
        Vec::<String>::new()
    );
}

/// Whatever comes in, the answer is a Pod or an error.
#[test]
fn mutated_input_never_panics() {
    // xorshift: the same inputs each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    const PIECES: &[&str] = &[
        "",
        "\n",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "<<: ",
        "\"",
        "'",
        "|\n",
        ">\n",
        "#",
        "---\n",
        "...\n",
        "\t",
        "\r\n",
        "~",
        "yes",
        "0",
        "-1",
        "1e400",
        "99999999999999999999",
        "é",
        "!!str ",
        "%TAG",
        "? ",
        "  ",
        "null",
        "\u{feff}",
        "\0",
        "$(A)",
        "..",
        "/",
        "\\ud83d",
        "\\ude00é",
    ];
    let json = good(WITH_INIT).pods[0].manifest.to_string();
    for i in 0..4000 {
        let seed = if i % 4 == 0 { &json } else { WITH_INIT };
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            let end = (at + random(24)).min(bytes.len());
            let piece = PIECES[random(PIECES.len())].bytes();
            match random(4) {
                0 => drop(bytes.splice(at..end, piece)),
                1 => drop(bytes.splice(at..at, piece)),
                2 => bytes[at] = random(256) as u8,
                _ => {
                    let copy = bytes[at..end].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, copy);
                }
            }
        }
        let sources = [Source {
            name: "m".into(),
            bytes,
        }];
        if let Ok(parsed) = parse(&sources, None) {
            for pod in parsed.pods {
                assert!(!pod.spec.containers.is_empty());
            }
        }
    }
}

#[test]
fn a_volume_without_a_type_is_an_empty_dir() {
    // Templates that print nothing for {} write all of these.
    let mounts = "volumeMounts: [{name: a, mountPath: /a}]";
    for volume in [
        "{name: a, emptyDir: {}}",
        "{name: a, emptyDir: null}",
        "{name: a, emptyDir: }",
        "{name: a}",
        "{name: a, hostPath: ~, configMap: null}",
    ] {
        let parsed = good(&pod_with(&format!("volumes: [{volume}]"), mounts));
        let pod = &parsed.pods[0];
        let empty = VolumeSource::EmptyDir {
            memory: false,
            huge: None,
            size_limit: None,
            mode: None,
        };
        assert_eq!(pod.spec.volumes[0].source, empty, "{volume}");
        let shown = pod.manifest["spec"]["volumes"][0].to_string();
        assert_eq!(shown, r#"{"emptyDir":{},"name":"a"}"#, "{volume}");
    }
}

#[test]
fn a_quantity_that_is_null_is_none() {
    let resources = "resources: {limits: {cpu: , memory: ~}, requests: {cpu: null, memory: }}";
    let parsed = good(&pod_with("", resources));
    let c = &parsed.pods[0].spec.containers[0];
    assert_eq!(
        (c.resources.cpu_limit, c.resources.memory_limit),
        (None, None)
    );
    let requests = (c.resources.cpu_request, c.resources.memory_request);
    assert_eq!(requests, (Some(0), Some(0)));
    assert_eq!(parsed.pods[0].spec.qos_class(), QosClass::BestEffort);
    for (value, found) in [
        ("[1]", "a list"),
        ("true", "the boolean true"),
        ("{a: 1}", "a mapping"),
    ] {
        let text = pod_with("", &format!("resources: {{limits: {{cpu: {value}}}}}"));
        let expected = format!(
            "a.yaml:9: spec.containers[0].resources.limits.cpu: expected a quantity such as 500m \
             or 64Mi, found {found}"
        );
        refused(&text, &expected);
    }
}

/// As podman writes it into every file that it generates.
#[test]
fn a_capability_that_is_dropped_may_have_its_prefix() {
    let caps = "securityContext: {capabilities: {drop: [CAP_MKNOD, cap_net_raw]}}";
    let parsed = good(&pod_with("", caps));
    let security = &parsed.pods[0].spec.containers[0].security;
    assert_eq!(security.capabilities_drop, ["MKNOD", "NET_RAW"]);
    assert_eq!(parsed.notes.len(), 2);
    let note = parsed.notes[0].to_string();
    assert!(note.contains("drop[0]: taken for MKNOD"), "{note}");
}
