//! The table, the file, and what streams may become.

use super::*;

/// With this text in the file, if any.
fn configured(name: &str, text: Option<&str>, changes: &[&str]) -> Result<Limits> {
    let dir = std::env::temp_dir().join(format!("carob-limits-{name}-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    if let Some(text) = text {
        std::fs::write(dir.join("etc/images.toml"), text).unwrap();
    }
    let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
    let limits = Limits::configured(&Layout::new(Some(&dir)).unwrap(), &changes);
    std::fs::remove_dir_all(&dir).unwrap();
    limits
}

#[test]
fn every_bound_is_in_the_table_and_the_document() {
    let page = include_str!("../../docs/images.md");
    let mut limits = Limits::default();
    for row in &TABLE {
        let value = *(row.field)(&mut limits);
        assert!((row.range.0..=row.range.1).contains(&value), "{}", row.name);
        let shown = [(30, "Gi"), (20, "Mi"), (0, "")]
            .iter()
            .find(|(shift, _)| value % (1 << shift) == 0 && value >> shift > 0)
            .map(|(shift, suffix)| format!("{}{suffix}", value >> shift))
            .unwrap();
        let line = format!("| `{}` | {shown} |", row.name);
        assert!(page.contains(&line), "docs/images.md lacks {line}");
        let of_one = Limits::default();
        assert_eq!(of_one.get(row.name), value, "{}", row.name);
    }
    // Each row is another field.
    for (i, row) in TABLE.iter().enumerate() {
        *(row.field)(&mut limits) = i as u64;
    }
    for (i, row) in TABLE.iter().enumerate() {
        assert_eq!(limits.get(row.name), i as u64, "{}", row.name);
    }
}

#[test]
fn the_file_and_then_the_command_line() {
    let none = configured("none", None, &[]).unwrap();
    assert_eq!(none, Limits::default());
    let text = "[limits]\nlayer-size = \"128Gi\"\nunpack-ratio = 1000\n";
    let of = |changes: &[&str]| configured("file", Some(text), changes);
    let limits = of(&["unpack-ratio=7", "layers=500", "unpack-ratio=8"]).unwrap();
    assert_eq!(limits.layer_size, 128 << 30);
    assert_eq!((limits.unpack_ratio, limits.layers), (8, 500));
    for (change, why) in [
        ("layers", "is not NAME=VALUE"),
        ("layer=1", "no bound has the name"),
        ("layers=501", "from 0 to 500"),
        ("layers=-1", "is not a number"),
        ("layers=", "is not a number"),
        ("layers=1Pi", "is not a number"),
        ("layer-size=99999999999Ti", "is not a number"),
        ("json-depth=128", "from 1 to 127"),
    ] {
        let e = of(&[change]).expect_err(change);
        assert!(e.to_string().contains(why), "{change}: {e}");
        assert_eq!(e.kind(), Kind::Usage, "{change}");
    }
    for (i, text) in [
        "[limits]\nlayer = 1",
        "[limits]\nlayers = -1",
        "[limits]\nlayers = 1.5",
        "layers = 1",
        "[other]\n",
        "[limits",
    ]
    .iter()
    .enumerate()
    {
        let e = configured(&format!("bad{i}"), Some(text), &[]).expect_err(text);
        assert!(e.to_string().contains("etc/images.toml"), "{text}: {e}");
    }
}

#[test]
fn json_is_judged_before_it_is_parsed() {
    let mut limits = Limits::default();
    limits.set("json-depth", "3").unwrap();
    limits.set("json-values", "5").unwrap();
    let check = |text: &str| limits.check_json("config", text.as_bytes());
    for good in [
        "",
        "1",
        "[[[]]]",
        r#"{"a":"[[[[[[,,,,,,"}"#,
        r#"["\"[[[[","\\"]"#,
        "]]]][[",
        r#""open"#,
        r#""\"#,
    ] {
        check(good).expect(good);
    }
    let deep = check("[[[[").unwrap_err();
    assert!(deep.to_string().contains("json-depth=3"), "{deep}");
    assert!(deep.get_hint().unwrap().contains("--limit json-depth="));
    let many = check("[1,2,3,4,5,6]").unwrap_err();
    assert!(many.to_string().contains("json-values=5"), "{many}");
    check(r#"["\\",[[[["#).unwrap_err();
}

#[test]
fn streams_end_at_their_bounds() {
    let mut limits = Limits::default();
    for change in [
        "unpack-free=1000",
        "unpack-ratio=10",
        "layer-size=8000",
        "image-size=9000",
    ] {
        let (name, value) = change.split_once('=').unwrap();
        limits.set(name, value).unwrap();
    }
    let image = AtomicU64::new(0);
    let come = AtomicU64::new(0);
    let zeros = |budget: &Budget<'_>, n: u64| {
        let read = Bounded::new(io::repeat(0).take(n), budget);
        io::copy(&mut { read }, &mut io::sink()).map_err(Error::from)
    };
    // As many as its size allows, though none of it has come.
    let budget = Budget::layer(&limits, 100, &come, &image);
    zeros(&budget, 2000).unwrap();
    let e = zeros(&budget, 2001).unwrap_err();
    assert!(e.to_string().contains("unpack-ratio=10"), "{e}");
    assert_eq!(e.kind(), Kind::Invalid);
    // A size that is only promised allows four times what is free.
    let budget = Budget::layer(&limits, u64::MAX, &come, &image);
    zeros(&budget, 4000).unwrap();
    zeros(&budget, 4001).unwrap_err();
    come.store(1000, Ordering::Relaxed);
    zeros(&budget, 8000).unwrap();
    let e = zeros(&budget, 8001).unwrap_err();
    assert!(e.to_string().contains("layer-size=8000"), "{e}");
    // Files, before a byte of theirs has come; what failed is not counted.
    let e = budget.file(0, 8001).unwrap_err();
    assert!(e.to_string().contains("layer-size"), "{e}");
    budget.file(7000, 1000).unwrap();
    drop(budget);
    let one = Budget::layer(&limits, u64::MAX, &come, &image);
    one.file(0, 8000).unwrap();
    one.keep();
    drop(one);
    let two = Budget::layer(&limits, u64::MAX, &come, &image);
    two.file(0, 1000).unwrap();
    let e = two.file(1000, 1).unwrap_err();
    assert!(e.to_string().contains("image-size=9000"), "{e}");
}
