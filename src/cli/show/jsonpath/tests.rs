//! The examples of kubectl's documentation, and what is wrong with templates.

use serde_json::json;

use super::*;

fn document() -> Value {
    json!({
        "kind": "List",
        "items": [
            {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"a.b/c": "dotted"}},
             "status": {"capacity": {"cpu": "4"}, "n": 3,
                        "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
            {"kind": "None", "metadata": {"name": "127.0.0.2"},
             "status": {"capacity": {"cpu": "8"}, "n": 5, "addresses": [
                {"type": "LegacyHostIP", "address": "127.0.0.2"},
                {"type": "another", "address": "127.0.0.3"}]}}
        ],
        "users": [
            {"name": "myself", "user": {}},
            {"name": "e2e", "user": {"username": "admin", "password": "secret"}}
        ]
    })
}

#[test]
fn renders() {
    let cases = [
        ("plain text", "plain text"),
        ("kind is {.kind}", "kind is List"),
        ("{.kind}", "List"),
        ("{$.kind}", "List"),
        ("{['kind']}", "List"),
        ("{.items[0].metadata.name}", "127.0.0.1"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.items[-1].metadata.name}", "127.0.0.2"),
        ("{.items[-1:].metadata.name}", "127.0.0.2"),
        ("{.items[0:1].metadata.name}", "127.0.0.1"),
        ("{.items[::2].metadata.name}", "127.0.0.1"),
        ("{.items[5].metadata.name}", ""),
        ("{.items[0,1].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.items[*]['metadata.name', 'kind']}", "None None"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.users[*].name}", "myself e2e"),
        ("{.users.*.name}", "myself e2e"),
        (r#"{.users[?(@.name=="e2e")].user.password}"#, "secret"),
        (r#"{.users[?(@.name == 'e2e')].user.password}"#, "secret"),
        (r#"{.users[?(@.name!="e2e")].name}"#, "myself"),
        ("{.users[?(@.user.username)].name}", "e2e"),
        ("{.items[?(@.status.n>3)].metadata.name}", "127.0.0.2"),
        ("{.items[?(@.status.n<=3)].metadata.name}", "127.0.0.1"),
        (
            "{.items[?(@.status.addresses[0].address==\"127.0.0.1\")].kind}",
            "None",
        ),
        (
            r#"{range .items[*]}[{.metadata.name}, {.status.capacity.cpu}] {end}"#,
            "[127.0.0.1, 4] [127.0.0.2, 8] ",
        ),
        (
            "{range .items[*]}{.metadata.name}{'\\t'}{.status.n}{\"\\n\"}{end}",
            "127.0.0.1\t3\n127.0.0.2\t5\n",
        ),
        // The list is one value: `[*]` would be its elements.
        ("{range .items}{.kind};{end}", ";"),
        ("{range .items[*]}{.kind};", "None;None;"),
        (
            "{.users[0]}{}",
            concat!(r#"{"name":"myself","user":{}}"#, "DOC"),
        ),
        ("{ }", "DOC"),
        ("{3}{-1}{ 3.5 }{true}", "3-13.5true"),
        (r#"{"\u00e9\x41\101\U0001F600\"\\"}"#, "éAA😀\"\\"),
        (
            "{range .items[*]}{range .status.addresses[*]}{.address},{end};{end}",
            "127.0.0.1,;127.0.0.2,127.0.0.3,;",
        ),
        (r"{.items[0].metadata.labels.a\.b/c}", "dotted"),
        ("{.items[0].metadata.labels['a.b/c']}", "dotted"),
        ("{.items[0].status.capacity}", r#"{"cpu":"4"}"#),
        ("{.items[0].status.n}", "3"),
        ("{.nothing.at.all}", ""),
        ("{.kind}{.kind}", "ListList"),
        ("{.items[0] .kind}", "None"),
        ("{.kind .kind}", ""),
        ("{ .kind }!", "List!"),
    ];
    let d = document();
    for (template, want) in cases {
        let t = Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
        let want = want.replace("DOC", &d.to_string());
        assert_eq!(t.render(&d).unwrap(), want, "{template}");
    }
}

#[test]
fn a_number_and_a_text_are_not_compared() {
    let d = document();
    for template in [
        r#"{.items[?(@.status.n=="3")].kind}"#,
        "{.users[?(@.name>1)].name}",
        "{range .users[?(@.name!=1)]}x{end}",
    ] {
        let e = Template::parse(template).unwrap().render(&d).unwrap_err();
        assert_eq!(e.kind(), crate::Kind::Usage, "{template}");
    }
}

#[test]
fn refuses() {
    let deep = format!("{}x{}", "{range .a}".repeat(100), "{end}".repeat(100));
    let filters = format!("{{{}", ".a[?(@".repeat(100));
    for template in [
        "{.kind",
        "{kind}",
        "{.items[}",
        "{.items[x]}",
        "{.items[0}",
        "{.items[?(@.a==)]}",
        "{.items[?(@.a=='x']}",
        "{3x}",
        r#"{"\u12"}"#,
        r#"{"\ud83d"}"#,
        "{end}",
        "{\"open}",
        "{.items[1:5:0]}",
        "{.items[1:5:-1]}",
        "{.items[99999999999999999999]}",
        "{..}",
        "{",
        &deep,
        &filters,
    ] {
        let e = Template::parse(template).unwrap_err();
        assert_eq!(e.kind(), crate::Kind::Usage, "{template}");
    }
}

#[test]
fn waiting_takes_less() {
    let d = document();
    for text in ["{.kind}", ".kind", "kind", "{$.kind}"] {
        let t = Template::parse_relaxed(text).unwrap();
        assert_eq!(t.values(&d).unwrap(), [&json!("List")], "{text}");
    }
}
