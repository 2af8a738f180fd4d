use jiff::Timestamp;

use super::*;

/// Of one container; what the manifest says is read for what the tests are about alone.
fn pod(manifest: Value) -> Pod {
    let c = &manifest["spec"]["containers"][0];
    let number = |side: &str, name: &str| c["resources"][side][name].as_u64();
    let container = Container {
        name: "c".into(),
        image: c["image"].as_str().unwrap_or("i:1").into(),
        resources: Resources {
            cpu_request: number("requests", "cpu"),
            cpu_limit: number("limits", "cpu"),
            memory_request: number("requests", "memory"),
            memory_limit: number("limits", "memory"),
            ..Resources::default()
        },
        ..Container::default()
    };
    Pod {
        version: Pod::VERSION,
        uid: "u".into(),
        namespace: "ns".into(),
        name: "web".into(),
        labels: Default::default(),
        annotations: Default::default(),
        created: Timestamp::UNIX_EPOCH,
        spec: Spec {
            containers: vec![container],
            active_deadline: manifest["spec"]["activeDeadlineSeconds"].as_u64(),
            ..Spec::default()
        },
        applied: None,
        manifest,
    }
}

fn with(container: Value, spec: Value) -> Pod {
    let mut whole = json!({"containers": [container]});
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    pod(json!({ "spec": whole }))
}

fn said(old: &Pod, new: &Pod) -> String {
    refusals(old, new).join("; ")
}

#[test]
fn images_and_their_policy_by_tag() {
    let c = |image: &str, policy: &str| {
        with(
            json!({"image": image, "imagePullPolicy": policy}),
            json!({}),
        )
    };
    let old = c("a:1", "IfNotPresent");
    assert_eq!(said(&old, &old), "");
    assert_eq!(said(&old, &c("b:1", "IfNotPresent")), "");
    assert_eq!(said(&old, &c("b", "Always")), "");
    let policy = "spec.containers[0].imagePullPolicy";
    assert_eq!(said(&old, &c("b:1", "Never")), policy);
    assert_eq!(said(&old, &c("a:1", "Always")), policy);
}

#[test]
fn resources_change_within_kubernetes_rules() {
    let c = |requests: Value, limits: Value| {
        let resources = json!({"requests": requests, "limits": limits});
        with(json!({"image": "i:1", "resources": resources}), json!({}))
    };
    let guaranteed = c(
        json!({"cpu": 1, "memory": 2}),
        json!({"cpu": 1, "memory": 2}),
    );
    let burstable = c(json!({"cpu": 1}), json!({"memory": 9}));
    let other = c(
        json!({"cpu": 3, "memory": 4}),
        json!({"cpu": 3, "memory": 4}),
    );
    assert_eq!(said(&guaranteed, &other), "");
    let more = c(
        json!({"cpu": 2, "memory": 4}),
        json!({"cpu": 3, "memory": 9}),
    );
    assert_eq!(said(&burstable, &more), "");
    assert!(said(&guaranteed, &more).contains("QOS Class may not change"));
    assert!(said(&c(json!({}), json!({})), &more).contains("it is BestEffort"));
    let none = c(json!({}), json!({}));
    assert_eq!(
        said(&burstable, &none),
        "spec.containers[0].resources.requests (resource requests cannot be removed); \
         spec.containers[0].resources.limits (resource limits cannot be removed)"
    );
}

#[test]
fn huge_pages_do_not_change() {
    let c = |pages: &str| {
        let mut pod = with(json!({"image": "i:1"}), json!({}));
        let pages = serde_json::from_str(pages).unwrap();
        pod.spec.containers[0].resources.hugepages = pages;
        pod
    };
    let old = c(r#"{"hugepages-2Mi": 2097152}"#);
    assert_eq!(said(&old, &old), "");
    let text = "spec.containers[0].resources (only cpu and memory resources are mutable)";
    assert_eq!(said(&old, &c(r#"{"hugepages-2Mi": 4194304}"#)), text);
    assert_eq!(said(&old, &c("{}")), text);
}

#[test]
fn an_init_container_keeps_its_resources_but_a_sidecar_does_not() {
    let make = |cpu, sidecar| {
        let mut pod = with(json!({}), json!({}));
        let mut c = Container {
            sidecar,
            ..Container::default()
        };
        c.resources.cpu_request = Some(cpu);
        pod.spec.init_containers = vec![c];
        pod
    };
    assert_eq!(said(&make(1, true), &make(2, true)), "");
    assert!(said(&make(1, false), &make(2, false)).contains("is no sidecar"));
}

#[test]
fn a_deadline_may_come_and_become_shorter() {
    let of = |seconds: Value| match seconds.is_null() {
        true => with(json!({}), json!({})),
        false => with(json!({}), json!({"activeDeadlineSeconds": seconds})),
    };
    for (old, new, allowed) in [
        (Value::Null, json!(5), true),
        (json!(5), json!(4), true),
        (json!(4), json!(5), false),
        (json!(4), Value::Null, false),
    ] {
        let text = said(&of(old.clone()), &of(new.clone()));
        assert_eq!(text.is_empty(), allowed, "{old} {new}: {text}");
    }
}

#[test]
fn tolerations_come_and_gates_go() {
    let of = |spec: Value| with(json!({}), spec);
    let a = json!({"key": "a", "tolerationSeconds": 5});
    let later = json!({"key": "a", "tolerationSeconds": 9});
    let old = of(json!({"tolerations": [a]}));
    assert_eq!(
        said(&old, &of(json!({"tolerations": [{"key": "b"}, later]}))),
        ""
    );
    let gone = said(&old, &of(json!({"tolerations": [{"key": "b"}]})));
    assert!(gone.starts_with("spec.tolerations ("), "{gone}");
    let gated = of(json!({"schedulingGates": [{"name": "g"}]}));
    assert_eq!(said(&gated, &of(json!({}))), "");
    assert!(said(&of(json!({})), &gated).contains("only deletion"));
}

#[test]
fn only_a_negative_grace_period_becomes_one() {
    let of = |n: i64| with(json!({}), json!({"terminationGracePeriodSeconds": n}));
    assert_eq!(said(&of(-1), &of(1)), "");
    for (old, new) in [(-1, 2), (30, 1), (1, -1)] {
        let text = said(&of(old), &of(new));
        assert_eq!(text, "spec.terminationGracePeriodSeconds", "{old} {new}");
    }
}

#[test]
fn differences_are_named_by_path() {
    let old = json!({"a": 1, "c": [{"image": "x", "name": "n"}, {"name": "m"}], "gone": 1});
    let new =
        json!({"a": 1, "c": [{"image": "y", "name": "n"}, {"name": "m", "tty": true}], "l": [1]});
    let mut out = vec![];
    differences(&old, &new, "spec", &mut out);
    assert_eq!(
        out,
        ["spec.c[0].image", "spec.c[1].tty", "spec.gone", "spec.l"]
    );
    let mut out = vec![];
    differences(&json!({"c": [1]}), &json!({"c": [1, 2]}), "spec", &mut out);
    assert_eq!(out, ["spec.c"]);
}
