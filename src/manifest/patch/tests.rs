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
            "the value there is another",
        ),
        (
            one(json!({"op": "add", "path": "/no/bat", "value": 1})),
            "nothing at \"/no/bat\"",
        ),
        (
            one(json!({"op": "test", "path": "/n", "value": "10"})),
            "the value there is another",
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

#[test]
fn edits_change_what_was_edited() {
    let before = json!({
        "metadata": {"labels": {"a": "1", "gone": "1", "b": "1"}},
        "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]},
    });
    // What others have made of it meanwhile.
    let live = json!({
        "metadata": {"labels": {"a": "1", "gone": "2", "b": "2", "theirs": "1"}, "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": "2"}, {"name": "b", "image": "1"}]},
    });
    let after = json!({
        "metadata": {"labels": {"a": "9", "b": "1", "new": "1"}},
        "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]},
    });
    assert_eq!(
        rebase(&before, &after, &live),
        json!({
            "metadata": {"labels": {"a": "9", "b": "2", "theirs": "1", "new": "1"}, "uid": "u"},
            "spec": {"containers": [{"name": "a", "image": "2"}, {"name": "b", "image": "3"}]},
        })
    );
    assert_eq!(rebase(&before, &before, &live), live);
    // What others have taken away, and the editor has left as it was, does not come back.
    let less = json!({"metadata": {"labels": {}}, "spec": {"containers": [{"name": "b"}]}});
    let label = json!({"metadata": {"labels": {"a": "1", "gone": "1", "b": "1", "c": "1"}},
        "spec": before["spec"]});
    let mut want = less.clone();
    want["metadata"]["labels"] = json!({"c": "1"});
    assert_eq!(rebase(&before, &label, &less), want);
}

/// A manifest has room for so many, and the lock of all names is held meanwhile.
#[test]
fn long_lists_are_merged_in_one_pass() {
    let list = |from: usize| -> Value {
        let items = from..from + 40_000;
        let items = items.map(|n| json!({"name": format!("n{n}"), "value": n.to_string()}));
        items.collect()
    };
    let of = |list: &Value| pod(json!({"containers": [{"name": "a", "env": list}]}));
    let (old, new) = (of(&list(0)), of(&list(20_000)));
    let length = |value: &Value| {
        value["spec"]["containers"][0]["env"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        length(&by(PatchKind::Strategic, old.clone(), new.clone())),
        60_000
    );
    assert_eq!(length(&three_way(&old, &new, &old)), 40_000);
    assert_eq!(length(&rebase(&old, &new, &old)), 40_000);
    let texts: Vec<Value> = (0..40_000).map(|n| n.to_string().into()).collect();
    let value = json!({"metadata": {"finalizers": texts}});
    let gone = json!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": texts[1..],
        "$setElementOrder/finalizers": texts,
    }});
    let left = by(PatchKind::Strategic, value, gone);
    assert_eq!(left, json!({"metadata": {"finalizers": ["0"]}}));
}

/// Of items with the same key, which ports of TCP and UDP have, the first is meant.
#[test]
fn the_first_of_a_key_is_merged() {
    let ports = |list: Value| pod(json!({"containers": [{"name": "a", "ports": list}]}));
    let old =
        ports(json!([{"containerPort": 53, "name": "t"}, {"containerPort": 53, "name": "u"}]));
    let gone = |times| {
        let delete = json!({"containerPort": 53, "$patch": "delete"});
        let change = ports(Value::Array(vec![delete; times]));
        by(PatchKind::Strategic, old.clone(), change)
    };
    assert_eq!(gone(1), ports(json!([{"containerPort": 53, "name": "u"}])));
    assert_eq!(gone(3), ports(json!([])));
}

#[test]
fn json_patches_make_nothing_deep() {
    // Each copy into its own innermost object makes it twice as deep.
    let copy = |n: usize| json!({"op": "copy", "from": "/o", "path": "/o".repeat(n + 1)});
    let doubling: Value = (0..20).map(|k| copy(1 << k)).collect();
    // Each round of moves makes it one deeper.
    let round = [
        json!({"op": "add", "path": "/t", "value": {}}),
        json!({"op": "move", "from": "/o", "path": "/t/o"}),
        json!({"op": "move", "from": "/t", "path": "/o"}),
    ];
    let moving: Value = round.iter().cycle().take(3000).cloned().collect();
    for change in [doubling, moving] {
        let e = patch(&json!({"o": {}}), &change, PatchKind::Json).unwrap_err();
        assert!(e.to_string().contains("more than 256 deep"), "{e}");
    }
    let long = json!({"a": "x".repeat(10_000)});
    let test = json!([{"op": "test", "path": "", "value": 1}]);
    let e = patch(&long, &test, PatchKind::Json).unwrap_err();
    assert!(e.to_string().len() < 400, "{e}");
}
