use super::*;
use crate::manifest::tree::Path;

fn one(text: &str) -> Node {
    let (mut documents, problems) = parse_documents(text.as_bytes());
    assert_eq!(problems, [], "{text:?}");
    assert_eq!(documents.len(), 1, "{text:?}");
    documents.remove(0)
}

fn faults(bytes: &[u8]) -> Vec<String> {
    let (_, problems) = parse_documents(bytes);
    problems.iter().map(Problem::to_string).collect()
}

/// The first fault has this line and holds this text.
fn refused(bytes: &[u8], line: usize, text: &str) {
    let (_, problems) = parse_documents(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
    let first = problems
        .first()
        .unwrap_or_else(|| panic!("taken: {shown:?}"));
    assert_eq!(first.line, line, "{shown:?}: {first}");
    assert!(first.message.contains(text), "{shown:?}: {first}");
}

#[test]
fn plain_scalars_mean_what_kubectl_takes_them_for() {
    for (text, value) in [
        ("yes", Value::Bool(true, "yes".into())),
        ("Off", Value::Bool(false, "Off".into())),
        ("n", Value::Bool(false, "n".into())),
        ("true", Value::Bool(true, "true".into())),
        ("0644", Value::Int(0o644, "0644".into())),
        ("0o17", Value::Int(15, "0o17".into())),
        ("0x1F", Value::Int(31, "0x1F".into())),
        ("-5", Value::Int(-5, "-5".into())),
        ("1_000", Value::Int(1000, "1_000".into())),
        ("1.5", Value::Float(1.5, "1.5".into())),
        ("1e3", Value::Float(1000.0, "1e3".into())),
        (".5", Value::Float(0.5, ".5".into())),
        ("1.2.3", Value::Str("1.2.3".into())),
        ("1Gi", Value::Str("1Gi".into())),
        ("-", Value::Str("-".into())),
        ("08", Value::Float(8.0, "08".into())),
        ("12:30:45", Value::Str("12:30:45".into())),
        ("2020-01-01", Value::Str("2020-01-01".into())),
        ("nope", Value::Str("nope".into())),
        ("'yes'", Value::Str("yes".into())),
        ("\"5\"", Value::Str("5".into())),
        ("!!str 5", Value::Str("5".into())),
        ("! 5", Value::Str("5".into())),
        ("!!int 5", Value::Int(5, "5".into())),
    ] {
        // "-" alone would open a list.
        if text != "-" {
            let text = format!("a: {text}\n");
            assert_eq!(one(&text).get("a").unwrap().value, value, "{text}");
        } else {
            assert_eq!(resolve(text.into()), value);
        }
    }
    for text in ["~", "null", "Null", "NULL", ""] {
        assert_eq!(
            one(&format!("a: {text}\nb: c\n")).get("a").unwrap().value,
            Value::Null
        );
    }
}

#[test]
fn knows_lines() {
    let text = "a:\n  b:\n  - c: 1\n    d: |\n      x\n      y\n  - e\n";
    let node = one(text);
    let at = |path: &Path| node.line_of(path);
    let b = Path::default().keys("a.b");
    assert_eq!(at(&b), 2);
    assert_eq!(at(&b.index(0).key("c")), 3);
    assert_eq!(at(&b.index(0).key("d")), 4);
    assert_eq!(at(&b.index(1)), 7);
    // What is missing belongs to what is there.
    assert_eq!(at(&b.index(0).key("zz").key("y")), 3);
    assert_eq!(at(&Path::default().keys("a.zz")), 1);
}

#[test]
fn documents() {
    let (documents, problems) =
        parse_documents(b"---\n# nothing\n---\na: 1\n---\n---\nb: 2\n...\n---\n~\n");
    assert_eq!(problems, []);
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1].get("b").unwrap().line, 7);
    assert_eq!(parse_documents(b"").0.len(), 0);
    assert_eq!(parse_documents(b"# only a remark\n").0.len(), 0);
    let json = one("{\"a\": [1, {\"b\": \"c\"}], \"d\": null,\n \"e\": \"\\u00e9\"}");
    assert_eq!(json.get("e").unwrap().as_str(), Some("é"));
    // What can be read before a fault is read.
    let (documents, problems) = parse_documents(b"a: 1\n---\nb: [\n");
    assert_eq!((documents.len(), problems.len()), (1, 1));
}

#[test]
fn windows_files() {
    let node = one("\u{feff}a:\r\n  b: c\r\n  d: 'e'\r\n");
    assert_eq!(node.get("a").unwrap().get("b").unwrap().as_str(), Some("c"));
    assert_eq!(node.get("a").unwrap().get("d").unwrap().line, 3);
    refused(b"a\0:\0", 1, "UTF-16 without a byte order mark");
    refused(b"\0a\0:", 1, "UTF-16 without a byte order mark");
    refused(b"\xff\xfea\0:\0\n\0:", 2, "half a character at the end");
    refused(
        b"\xfe\xff\0a\0\n\xd8\x3d\0\n",
        2,
        "half of a surrogate pair",
    );
    refused(b"a: b\nc: \xff\n", 2, "not UTF-8");
    refused(b"a: b\n\nc: \x07\n", 3, "U+0007");
    refused(b"a: b\0\n", 1, "U+0000");
}

#[test]
fn faults_of_syntax() {
    refused(b"a:\n\tb: c\n", 2, "tab");
    refused(b"a: 1\nb: 2\n  \tc: 3\n", 3, "indented with a tab");
    refused(b"a: b\n c: d\n", 2, "not valid YAML");
    refused(b"a: [1, 2\nb: c\n", 2, "not valid YAML");
    refused(b"a: \"b\n", 1, "not valid YAML");
    refused(b"a: *gone\n", 1, "not valid YAML");
    refused(b"? [a]\n: b\n", 1, "key must be text");
    refused(b"yes: b\n", 1, "quote it: \"yes\"");
    refused(b"1.5: b\n", 1, "quote it: \"1.5\"");
    refused(b": b\n", 1, "a key is missing");
    refused(b"a: !Secret x\n", 1, "tag");
    refused(b"a: !!int x\n", 1, "!!int");
    refused(b"a: &x [*x]\n", 1, "part of");
    assert_eq!(one("8080: b\n").get("8080").unwrap().as_str(), Some("b"));
}

#[test]
fn duplicate_keys_are_all_found() {
    assert_eq!(
        faults(b"a:\n- b: 1\n  c: 2\n  b: 3\n- {x: 1,\n   x: 2}\na: 4\n"),
        [
            "4: a[0].b: set twice: first on line 2",
            "6: a[1].x: set twice: first on line 5",
            "7: a: set twice: first on line 1",
        ]
    );
}

#[test]
fn anchors_and_merges() {
    let node = one("a: &x {b: 1, c: 2}\nd: *x\ne:\n  <<: *x\n  c: 3\nf:\n  <<: [*x, {g: 4}]\n");
    let int = |path: &str| node.find(&Path::default().keys(path)).unwrap().text();
    assert_eq!(int("d.b"), Some("1"));
    assert_eq!(node.get("d").unwrap().line, 2);
    assert_eq!(int("e.b"), Some("1"));
    assert_eq!(int("e.c"), Some("3"));
    assert_eq!(int("f.c"), Some("2"));
    assert_eq!(int("f.g"), Some("4"));
    refused(b"a:\n  <<: 5\n", 2, "merges mappings only");
}

#[test]
fn bounds() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    let (_, problems) = parse_documents(bomb.as_bytes());
    assert!(
        problems[0].message.contains("counting each use"),
        "{problems:?}"
    );
    // Few values, much text.
    let text = "x".repeat(500_000);
    let many = format!("a: &a {text}\nb: [{}]\n", vec!["*a"; 1000].join(", "));
    let (_, problems) = parse_documents(many.as_bytes());
    assert!(
        problems[0].message.contains("counting each use"),
        "{problems:?}"
    );
    // Anchors within anchors are copied for each.
    let items = vec!["x"; 20_000].join(",");
    let nested: String = (0..30).map(|i| format!("&n{i} [")).collect();
    let (_, problems) = parse_documents(format!("a: {nested}{items}{}", "]".repeat(30)).as_bytes());
    assert!(
        problems[0].message.contains("more than 200000"),
        "{problems:?}"
    );
    // What is only large is taken.
    let list = vec!["[x, {k: z}]"; 30_000].join(",");
    assert_eq!(parse_documents(format!("a: [{list}]").as_bytes()).1, []);
    // Depth, as written and by aliases.
    for open in ["[", "{a: ", "- "] {
        let (_, problems) = parse_documents(open.repeat(5000).as_bytes());
        assert!(!problems.is_empty(), "{open}");
    }
    let mut deep = String::from("a0: &a0 [x]\n");
    for i in 1..100 {
        deep.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    let (_, problems) = parse_documents(deep.as_bytes());
    assert!(problems[0].message.contains("deep"), "{problems:?}");
    refused(&vec![b'#'; MAX_BYTES + 1], 0, "at most");
}

#[test]
fn a_quoted_merge_is_a_key() {
    let (docs, problems) = parse_documents(b"a:\n  \"<<\": x\n  '<<b': y\n");
    assert_eq!(problems, []);
    let a = docs[0].get("a").unwrap();
    assert_eq!(a.get("<<").unwrap().as_str(), Some("x"));
}

/// What kubectl's reader takes and the parser here does not.
#[test]
fn tabs_after_keys_and_marks_between_files() {
    let value = |text: &str, key: &str| {
        let (docs, problems) = parse_documents(text.as_bytes());
        assert_eq!(problems, [], "{text:?}");
        let found = docs.last().and_then(|d| d.get(key));
        let found = found.unwrap_or_else(|| panic!("{text:?}: {docs:?}"));
        found.as_str().unwrap().to_owned()
    };
    assert_eq!(value("a:\tx\nb:\t\t y\n", "a"), "x");
    assert_eq!(value("a:\tx\nb:\t\t z\n", "b"), "z");
    assert_eq!(value("a: {b: c}\nd:\tx", "d"), "x");
    // A tab within a text is one.
    assert_eq!(value("a: |\n  k:\tv\nb:\tx\n", "a"), "k:\tv\n");
    assert_eq!(value("a: \"k:\tv\"\n", "a"), "k:\tv");
    refused(b"a:\n\tb: 1\n", 2, "use spaces");
    for text in [
        "\u{feff}a: x\n",
        "a: y\n---\n\u{feff}a: x\n",
        "a: y\n\u{feff}---\na: x\n",
        "---\n\n\u{feff}a: x\n",
    ] {
        assert_eq!(value(text, "a"), "x", "{text:?}");
    }
    assert_eq!(value("a: \"\u{feff}\"\n", "a"), "\u{feff}");
}

#[test]
fn binary_is_its_text() {
    let (docs, problems) = parse_documents(b"a: !!binary aGVs\nb: !!binary |\n  aGVs\n  bG8=\n");
    assert_eq!(problems, []);
    assert_eq!(docs[0].get("a").unwrap().as_str(), Some("hel"));
    assert_eq!(docs[0].get("b").unwrap().as_str(), Some("hello"));
    refused(b"a: !!binary _\n", 1, "not base64");
    refused(b"a: !!binary /w==\n", 1, "not UTF-8");
    refused(b"a: !!set x\n", 1, "the tag !!set");
}
