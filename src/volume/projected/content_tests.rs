//! Tables of what volumes hold, with a kubelet's texts.

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::spec::{Container, DownwardItem, DownwardValue, Resources, Security, Spec, Volume};

fn objects() -> VolumeObjects {
    let all = [
        Object::sample(
            ObjectKind::ConfigMap,
            "web",
            json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}}),
        ),
        Object::sample(
            ObjectKind::Secret,
            "keys",
            json!({"data": {"a": "c2VjcmV0", "k": ""}}),
        ),
    ];
    all.into_iter()
        .map(|o| ((o.kind, o.name.clone()), o))
        .collect()
}

fn item(key: &str, path: &str, mode: Option<u32>, user: Option<u32>) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        path: path.into(),
        mode,
        user,
    }
}

fn from(kind: ObjectKind, name: &str, optional: bool, items: Vec<KeyToPath>) -> Projection {
    let name = name.to_owned();
    let object = ObjectRef {
        kind,
        name,
        optional,
    };
    Projection::Object { object, items }
}

fn map(name: &str, optional: bool, items: Vec<KeyToPath>) -> Projection {
    from(ObjectKind::ConfigMap, name, optional, items)
}

fn secret(name: &str, items: Vec<KeyToPath>) -> Projection {
    from(ObjectKind::Secret, name, false, items)
}

fn pod(sources: Vec<Projection>, mode: u32, group: Option<u32>) -> Pod {
    let security = Security {
        fs_group: group,
        ..Security::default()
    };
    let main = Container {
        name: "main".into(),
        security,
        resources: Resources {
            cpu_request: Some(250),
            memory_limit: Some(64 << 20),
            ..Resources::default()
        },
        ..Container::default()
    };
    let source = VolumeSource::Projected {
        sources,
        mode,
        user: Some(7),
    };
    Pod {
        version: Pod::<serde_json::Value>::VERSION,
        uid: "1-2-3".into(),
        namespace: "shop".into(),
        name: "p".into(),
        labels: [("b", "x"), ("a/b", "y")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
        annotations: [("note", "two\nlines \"x\"")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
        created: Timestamp::UNIX_EPOCH,
        spec: Spec {
            volumes: vec![Volume {
                name: "v".into(),
                source,
            }],
            containers: vec![main],
            ..Spec::default()
        },
        manifest: serde_json::Value::Null,
        applied: None,
    }
}

fn planned(pod: &Pod) -> Result<Content> {
    let facts = Facts {
        pod,
        objects: &objects(),
        node: Node {
            cpu: 4000,
            memory: 8 << 30,
            storage: 1 << 40,
        },
        has_files: false,
    };
    plan(facts).pop().unwrap()
}

/// `path mode user text`, a line each.
fn shown(content: &Content) -> Vec<String> {
    let files = content.files.iter();
    files
        .map(|f| {
            let text = String::from_utf8_lossy(&f.bytes);
            format!("{} {:o} {} {text}", f.path.display(), f.mode, f.user)
        })
        .collect()
}

#[test]
fn files_of_objects() {
    let all = ["a 644 7 1", "b 644 7 2", "c 644 7 \u{fffd}"];
    for (sources, want) in [
        (vec![map("web", false, vec![])], &all[..]),
        (
            vec![secret("keys", vec![])],
            &["a 644 7 secret", "k 644 7 "],
        ),
        // Those of `items` alone, with modes and users of their own.
        (
            vec![map(
                "web",
                false,
                vec![
                    item("b", "x/./y//b", Some(0o400), None),
                    item("b", "b", None, Some(1000)),
                ],
            )],
            &["b 644 1000 2", "x/y/b 400 7 2"],
        ),
        // A later source wins.
        (
            vec![map("web", false, vec![]), secret("keys", vec![])],
            &[
                "a 644 7 secret",
                "b 644 7 2",
                "c 644 7 \u{fffd}",
                "k 644 7 ",
            ],
        ),
        // What is optional.
        (vec![map("none", true, vec![])], &[]),
        (
            vec![map("none", true, vec![item("a", "a", None, None)])],
            &[],
        ),
        (
            vec![map(
                "web",
                true,
                vec![item("none", "none", None, None), item("a", "a", None, None)],
            )],
            &["a 644 7 1"],
        ),
        (vec![], &[]),
    ] {
        let content = planned(&pod(sources.clone(), 0o644, None)).unwrap();
        assert_eq!(shown(&content), want, "{sources:?}");
        assert_eq!((content.volume.as_str(), content.group), ("v", None));
    }
}

#[test]
fn a_group_may_read() {
    let items = vec![
        item("a", "a", None, None),
        item("b", "b", Some(0o777), None),
    ];
    let content = planned(&pod(vec![map("web", false, items)], 0o400, Some(9))).unwrap();
    assert_eq!(shown(&content), ["a 440 7 1", "b 777 7 2"]);
    assert_eq!(content.group, Some(9));
}

#[test]
fn what_is_missing_is_named() {
    let key = |key: &str| vec![item(key, "x", None, None)];
    for (sources, want) in [
        (
            vec![map("none", false, vec![])],
            "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found",
        ),
        (
            vec![secret("none", vec![]), map("none", false, key("a"))],
            "MountVolume.SetUp failed for volume \"v\" : [secret \"none\" not found, configmap \
             \"none\" not found]",
        ),
        (
            vec![map("web", false, key("z"))],
            "MountVolume.SetUp failed for volume \"v\" : configmap references non-existent config \
             key: z",
        ),
        (
            vec![secret("keys", key("z"))],
            "MountVolume.SetUp failed for volume \"v\" : references non-existent secret key: z",
        ),
    ] {
        let e = planned(&pod(sources, 0o644, None)).unwrap_err();
        assert_eq!(e.to_string(), want);
        assert_eq!(e.kind(), Kind::NotFound);
        assert!(e.get_hint().unwrap().contains("shop"), "{e:?}");
    }
    let items = vec![item("a", "d", None, None), item("b", "d/e/f", None, None)];
    let e = planned(&pod(vec![map("web", false, items)], 0o644, None)).unwrap_err();
    assert!(
        e.to_string()
            .ends_with("\"d/e/f\" cannot be made: \"d\" is a file"),
        "{e}"
    );
}

#[test]
fn what_files_say_of_the_pod() {
    let field = |f: &str| DownwardValue::Field(f.into());
    let resource = |resource: &str, divisor| DownwardValue::Resource {
        container: "main".into(),
        resource: resource.into(),
        divisor,
    };
    for (value, want) in [
        (field("metadata.name"), "p"),
        (field("metadata.namespace"), "shop"),
        (field("metadata.uid"), "1-2-3"),
        (field("metadata.labels"), "a/b=\"y\"\nb=\"x\""),
        (field("metadata.labels['b']"), "x"),
        (field("metadata.labels['none']"), ""),
        (
            field("metadata.annotations"),
            "note=\"two\\nlines \\\"x\\\"\"",
        ),
        (field("metadata.annotations['note']"), "two\nlines \"x\""),
        (resource("limits.memory", 1), "67108864"),
        (resource("limits.memory", 1 << 20), "64"),
        (resource("limits.cpu", 1000), "4"),
        (resource("requests.cpu", 1), "250"),
        (resource("requests.cpu", 1000), "1"),
        (resource("requests.memory", 1), "67108864"),
    ] {
        let item = DownwardItem {
            path: "d/f".into(),
            value: value.clone(),
            mode: None,
            user: None,
        };
        let pod = pod(vec![Projection::Downward(vec![item])], 0o444, None);
        let want = format!("d/f 444 7 {want}");
        assert_eq!(shown(&planned(&pod).unwrap()), [want], "{value:?}");
    }
}

#[test]
fn no_bytes_are_shown() {
    let content = planned(&pod(vec![secret("keys", vec![])], 0o644, None)).unwrap();
    let text = format!("{content:?}");
    assert!(
        text.contains("6 bytes") && !text.contains("secret"),
        "{text}"
    );
}

/// A manifest of few lines may name one object many times.
#[test]
fn all_volumes_of_a_pod_are_bounded_together() {
    const MIB: usize = 1 << 20;
    let big = Object {
        manifest: json!({"data": {"k": "x".repeat(MIB)}}),
        ..objects().into_values().find(|o| o.name == "web").unwrap()
    };
    let objects = [((ObjectKind::ConfigMap, "web".to_owned()), big)].into();
    let items: Vec<_> = (0..32)
        .map(|n| item("k", &n.to_string(), None, None))
        .collect();
    let mut pod = pod(vec![map("web", false, items)], 0o644, None);
    let one = pod.spec.volumes[0].clone();
    pod.spec.volumes = vec![one; 1000];
    let facts = Facts {
        pod: &pod,
        objects: &objects,
        node: Node {
            cpu: 1,
            memory: 1,
            storage: 1,
        },
        has_files: false,
    };
    let all = plan(facts);
    let whole = all.iter().filter(|planned| planned.is_ok()).count();
    assert_eq!(whole, super::SIZE_ALL / (32 * MIB));
    let e = all.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(e.contains("of objects have more than"), "{e}");
}
