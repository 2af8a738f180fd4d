use serde_json::json;

use super::*;

fn by(kind: PatchKind, value: Value, change: Value) -> Value {
    patch(&value, &change, kind).unwrap()
}

/// Appendix A of RFC 7386.
#[test]
fn merge_patches() {
    for (value, change, result) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": "b"}),
            json!({"b": "c"}),
            json!({"a": "b", "b": "c"}),
        ),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (
            json!({"a": "b", "b": "c"}),
            json!({"a": null}),
            json!({"b": "c"}),
        ),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (
            json!({"a": [{"b": "c"}]}),
            json!({"a": [1]}),
            json!({"a": [1]}),
        ),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (
            json!({"e": null}),
            json!({"a": 1}),
            json!({"e": null, "a": 1}),
        ),
        (
            json!([1, 2]),
            json!({"a": "b", "c": null}),
            json!({"a": "b"}),
        ),
        (
            json!({}),
            json!({"a": {"bb": {"ccc": null}}}),
            json!({"a": {"bb": {}}}),
        ),
    ] {
        assert_eq!(
            by(PatchKind::Merge, value, change.clone()),
            result,
            "{change}"
        );
    }
}

/// Appendix A of RFC 6902, and what has to fail.
#[test]
fn json_patches() {
    let one = |op: Value| json!([op]);
    for (value, change, result) in [
        (
            json!({"foo": "bar"}),
            one(json!({"op": "add", "path": "/baz", "value": "qux"})),
            json!({"foo": "bar", "baz": "qux"}),
        ),
        (
            json!({"foo": ["bar", "baz"]}),
            one(json!({"op": "add", "path": "/foo/1", "value": "qux"})),
            json!({"foo": ["bar", "qux", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            one(json!({"op": "remove", "path": "/baz"})),
            json!({"foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "qux", "baz"]}),
            one(json!({"op": "remove", "path": "/foo/1"})),
            json!({"foo": ["bar", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            one(json!({"op": "replace", "path": "/baz", "value": "boo"})),
            json!({"baz": "boo", "foo": "bar"}),
        ),
        (
            json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
            one(json!({"op": "move", "from": "/foo/waldo", "path": "/qux/thud"})),
            json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
        ),
        (
            json!({"foo": ["all", "grass", "cows", "eat"]}),
            one(json!({"op": "move", "from": "/foo/1", "path": "/foo/3"})),
            json!({"foo": ["all", "cows", "eat", "grass"]}),
        ),
        (
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            json!([
                {"op": "test", "path": "/baz", "value": "qux"},
                {"op": "test", "path": "/foo/1", "value": 2},
            ]),
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
        ),
        (
            json!({"foo": "bar"}),
            one(json!({"op": "add", "path": "/child", "value": {"grandchild": {}}})),
            json!({"foo": "bar", "child": {"grandchild": {}}}),
        ),
        (
            json!({"foo": "bar"}),
            one(json!({"op": "add", "path": "/baz", "value": "qux", "xyz": 123})),
            json!({"foo": "bar", "baz": "qux"}),
        ),
        (
            json!({"/": 9, "~1": 10}),
            one(json!({"op": "test", "path": "/~01", "value": 10})),
            json!({"/": 9, "~1": 10}),
        ),
        (
            json!({"foo": ["bar"]}),
            one(json!({"op": "add", "path": "/foo/-", "value": ["abc", "def"]})),
            json!({"foo": ["bar", ["abc", "def"]]}),
        ),
        (
            json!({"a": [1]}),
            one(json!({"op": "copy", "from": "/a", "path": "/b"})),
            json!({"a": [1], "b": [1]}),
        ),
    ] {
        assert_eq!(
            by(PatchKind::Json, value, change.clone()),
            result,
            "{change}"
        );
    }
    for (change, says) in [
        (
            one(json!({"op": "test", "path": "/baz", "value": "bar"})),
            "it is \"qux\"",
        ),
        (
            one(json!({"op": "add", "path": "/no/bat", "value": 1})),
            "nothing at \"/no/bat\"",
        ),
        (
            one(json!({"op": "test", "path": "/n", "value": "10"})),
            "it is 10",
        ),
        (one(json!({"op": "remove", "path": "/l/01"})), "nothing at"),
        (
            one(json!({"op": "add", "path": "/l/3", "value": 1})),
            "nothing at",
        ),
        (
            one(json!({"op": "replace", "path": "/x", "value": 1})),
            "nothing at",
        ),
        (
            one(json!({"op": "move", "from": "/o", "path": "/o/p"})),
            "into itself",
        ),
        (
            one(json!({"op": "add", "path": "/x"})),
            "\"value\" is missing",
        ),
        (
            one(json!({"op": "set", "path": "/x"})),
            "no operation \"set\"",
        ),
        (
            one(json!({"op": "add", "path": "x", "value": 1})),
            "begin with /",
        ),
        (json!({"a": 1}), "a list of operations"),
    ] {
        let value = json!({"baz": "qux", "n": 10, "l": [1, 2], "o": {}});
        let e = patch(&value, &change, PatchKind::Json).unwrap_err();
        assert!(e.to_string().contains(says), "{e}");
    }
}

fn pod(spec: Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn strategic_patches() {
    let live = || {
        pod(json!({
            "containers": [
                {"name": "a", "image": "1", "command": ["x", "y"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                {"name": "b", "image": "2"},
            ],
            "tolerations": [{"key": "t"}],
        }))
    };
    let is = |change: Value| by(PatchKind::Strategic, live(), pod(change))["spec"].clone();
    let a = |change: Value| is(json!({"containers": [change]}))["containers"][0].clone();
    assert_eq!(
        is(json!({"containers": [{"name": "b", "image": "3"}]}))["containers"][1]["image"],
        "3"
    );
    assert_eq!(
        is(json!({"containers": [{"name": "c"}]}))["containers"][2]["name"],
        "c"
    );
    assert_eq!(
        a(json!({"name": "a", "command": ["z"]}))["command"],
        json!(["z"])
    );
    assert_eq!(
        a(
            json!({"name": "a", "env": [{"name": "B", "value": null, "valueFrom": {}}, {"name": "A", "$patch": "delete"}]})
        )["env"],
        json!([{"name": "B", "valueFrom": {}}])
    );
    assert_eq!(
        a(json!({"name": "a", "env": [{"$patch": "replace"}, {"name": "C"}]}))["env"],
        json!([{"name": "C"}])
    );
    assert_eq!(
        a(json!({"name": "a", "$retainKeys": ["name", "image"]})),
        json!({"name": "a", "image": "1"})
    );
    assert_eq!(
        is(json!({"tolerations": [{"key": "u"}]}))["tolerations"],
        json!([{"key": "u"}])
    );
    assert_eq!(
        is(json!({"$patch": "replace", "hostname": "h"})),
        json!({"hostname": "h"})
    );
    assert_eq!(
        is(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}))["containers"][0]
            ["name"],
        "b"
    );
    let gone =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"]}});
    let value = json!({"metadata": {"finalizers": ["x", "y"]}});
    assert_eq!(
        by(PatchKind::Strategic, value, gone),
        json!({"metadata": {"finalizers": ["y", "z"]}})
    );
    for (change, says) in [
        (
            json!({"containers": [{"image": "x"}]}),
            "spec.containers: an item has no name",
        ),
        (
            json!({"$patch": "no"}),
            "$patch is replace, delete or merge",
        ),
        (json!({"$what": 1}), "no directive \"$what\""),
    ] {
        let e = patch(&live(), &pod(change), PatchKind::Strategic).unwrap_err();
        assert!(e.to_string().contains(says), "{e}");
    }
}

#[test]
fn three_ways() {
    let live = json!({
        "metadata": {"labels": {"mine": "1", "theirs": "2", "old": "3"}},
        "spec": {
            "restartPolicy": "Always",
            "containers": [{"name": "a", "image": "1", "imagePullPolicy": "Always", "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    });
    let applied = json!({
        "metadata": {"labels": {"mine": "1", "old": "3"}},
        "spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "A", "value": "1"}]}]},
    });
    let wanted = json!({
        "metadata": {"labels": {"mine": "9"}},
        "spec": {
            "containers": [{"name": "a", "image": "2", "env": [{"name": "B", "value": "2"}],
                "ports": [{"containerPort": 53, "protocol": "UDP", "name": "u"}, {"containerPort": 53}]}],
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
        },
    });
    assert_eq!(
        three_way(&applied, &wanted, &live),
        json!({
            "metadata": {"labels": {"mine": "9", "theirs": "2"}},
            "spec": {
                "restartPolicy": "Always",
                "containers": [{"name": "a", "image": "2", "imagePullPolicy": "Always", "env": [{"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP", "name": "u"}]}],
                "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
            },
        })
    );
    // The first apply takes nothing away.
    let first = three_way(&Value::Null, &wanted, &live);
    assert_eq!(
        first["metadata"]["labels"],
        json!({"mine": "9", "theirs": "2", "old": "3"})
    );
}
