//! Maps written by hand, right and wrong, and files that the system's tar made.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use super::super::tests::{Builder, entries};
use super::*;

/// A table of extents as it stands in old headers.
fn table(block: &mut [u8], at: usize, extents: &[(u64, u64)]) {
    for (i, (offset, length)) in extents.iter().enumerate() {
        let at = at + 24 * i;
        block[at..at + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        block[at + 12..at + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
}

fn old(size: u64, extents: &[(u64, u64)], content: &[u8]) -> Builder {
    let (first, rest) = extents.split_at(extents.len().min(4));
    let mut tar = Builder::default().raw("f", b'S', b"", |b| {
        b[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        b[257..265].copy_from_slice(b"ustar  \0");
        table(b, 386, first);
        b[482] = u8::from(!rest.is_empty());
        b[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    });
    let chunks: Vec<_> = rest.chunks(21).collect();
    for (i, chunk) in chunks.iter().enumerate() {
        let mut block = [0u8; BLOCK];
        table(&mut block, 0, chunk);
        block[504] = u8::from(i + 1 < chunks.len());
        tar.0.extend_from_slice(&block);
    }
    tar.0.extend_from_slice(content);
    tar.0.resize(tar.0.len().next_multiple_of(BLOCK), 0);
    tar
}

fn pax(records: &[(&str, &str)], content: &[u8]) -> Builder {
    let records: Vec<(String, &[u8])> = records
        .iter()
        .map(|(k, v)| (format!("GNU.sparse.{k}"), v.as_bytes()))
        .collect();
    let records: Vec<(&str, &[u8])> = records.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    Builder::default().pax(&records).file("cover", content)
}

/// The content of a version 1.0 file: map, then data.
fn one(map: &str, data: &[u8]) -> Vec<u8> {
    let mut content = map.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    content.extend_from_slice(data);
    content
}

const ONE: [(&str, &str); 4] = [
    ("major", "1"),
    ("minor", "0"),
    ("realsize", "100"),
    ("name", "f"),
];

fn extents(list: &[(u64, u64)]) -> Vec<Extent> {
    let extent = |(offset, length): &(u64, u64)| Extent {
        offset: *offset,
        length: *length,
    };
    list.iter().map(extent).collect()
}

#[test]
fn every_form_has_its_map() {
    let many: Vec<(u64, u64)> = (0..60).map(|i| (1000 * i, 1)).collect();
    let text: Vec<String> = many.iter().map(|(o, l)| format!("{o},{l}")).collect();
    let lines: Vec<String> = many.iter().map(|(o, l)| format!("{o}\n{l}\n")).collect();
    let data = [b'x'; 60];
    let mut pairs = vec![("size", "100000".to_owned()), ("numblocks", "60".into())];
    for (offset, length) in &many {
        pairs.push(("offset", offset.to_string()));
        pairs.push(("numbytes", length.to_string()));
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let map = text.join(",");
    let v01 = [("size", "100000"), ("map", map.as_str()), ("name", "f")];
    let mut v10 = ONE;
    v10[2].1 = "100000";
    let v10_content = one(&format!("60\n{}", lines.concat()), &data);
    for (form, tar, name) in [
        ("old", old(100_000, &many, &data), "f"),
        ("0.0", pax(&pairs, &data), "cover"),
        ("0.1", pax(&v01, &data), "f"),
        ("1.0", pax(&v10, &v10_content), "f"),
    ] {
        let all = entries(&tar.file("next", b"n").end()).expect(form);
        let (entry, content) = &all[0];
        assert_eq!(entry.path, name.as_bytes(), "{form}");
        assert_eq!(entry.size, 100_000, "{form}");
        assert_eq!(entry.extents, Some(extents(&many)), "{form}");
        assert_eq!(content, &data, "{form}");
        assert_eq!(all[1].1, b"n", "{form}");
    }
    // Nothing but a hole, and extents of no bytes.
    for tar in [
        old(5000, &[], b""),
        old(5000, &[(5000, 0)], b""),
        pax(&[("size", "5000"), ("numblocks", "0")], b""),
        pax(&[("size", "5000"), ("map", "0,0,5000,0")], b""),
    ] {
        let all = entries(&tar.end()).unwrap();
        assert_eq!((all[0].0.size, &all[0].0.extents), (5000, &Some(vec![])));
    }
}

#[test]
fn maps_that_lie_are_refused() {
    let huge = i64::MAX.to_string();
    let wide = format!("0,1,{huge},1");
    let count = format!("{}\n", MAX_EXTENTS + 1);
    let too_many: Vec<(u64, u64)> = (0..MAX_EXTENTS as u64 + 30).map(|i| (i, 0)).collect();
    for (what, tar, why) in [
        ("overlap", old(10, &[(0, 5), (4, 1)], b"123456"), "overlap"),
        ("order", old(10, &[(5, 1), (0, 1)], b"12"), "out of order"),
        ("beyond", old(10, &[(9, 2)], b"12"), "beyond its end"),
        ("too little", old(10, &[(0, 5)], b"123"), "content of 3"),
        ("too much", old(10, &[(0, 1)], b"123"), "map is of 1"),
        ("endless", old(10, &too_many, b""), "more than 131072"),
        (
            "negative",
            Builder::default().raw("f", b'S', b"", |b| {
                b[257..265].copy_from_slice(b"ustar  \0");
                b[386..398].fill(0xff);
            }),
            "out of range",
        ),
        ("no size", pax(&[("map", "0,1")], b"1"), "no size"),
        (
            "half a pair",
            pax(&[("size", "9"), ("offset", "1")], b""),
            "no length",
        ),
        (
            "an odd map",
            pax(&[("size", "9"), ("map", "0,1,2")], b"1"),
            "has the value",
        ),
        (
            "two offsets",
            pax(&[("offset", "1"), ("offset", "1")], b""),
            "has the value",
        ),
        ("numbers", pax(&[("size", "+9")], b""), "has the value"),
        ("huge", pax(&[("size", "9"), ("map", &wide)], b""), "value"),
        (
            "another count",
            pax(&[("size", "9"), ("numblocks", "2"), ("map", "0,1")], b"1"),
            "another number",
        ),
        (
            "two sizes",
            pax(&[("size", "9"), ("realsize", "8"), ("map", "0,1")], b"1"),
            "two sizes",
        ),
        ("unknown", pax(&[("color", "red")], b""), "has the value"),
        (
            "version",
            pax(&[("major", "2"), ("minor", "0"), ("size", "1")], b"1"),
            "version 2.0",
        ),
        ("map 1.0", pax(&ONE, &one("2\n0\n1\n", b"1")), "malformed"),
        ("text", pax(&ONE, &one("a\n", b"")), "malformed"),
        ("long", pax(&ONE, &one(&"1".repeat(30), b"")), "malformed"),
        ("no map", pax(&ONE, b""), "does not end"),
        ("count", pax(&ONE, &one(&count, b"")), "more than 131072"),
        (
            "a directory",
            Builder::default()
                .pax(&[("GNU.sparse.size", b"0")])
                .dir("d"),
            "only a file",
        ),
    ] {
        match entries(&tar.end()) {
            Err(e) => assert!(e.to_string().contains(why), "{what}: {e}"),
            Ok(all) => panic!("{what}: {:?}", all[0].0),
        }
    }
    let both = Builder::default()
        .pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1")])
        .raw("f", b'S', b"1", |b| {
            b[483..495].copy_from_slice(b"00000000011\0");
        });
    let e = entries(&both.end()).unwrap_err().to_string();
    assert!(e.contains("old form and one of PAX"), "{e}");
}

/// What GNU tar writes in each form, unpacked: the same bytes, and the same holes.
#[test]
fn unpacks_what_the_system_tar_writes() {
    let base = std::env::var_os("CAROB_TEST_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir: std::path::PathBuf = base.join(format!("carob-sparse-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("from")).unwrap();
    let file = std::fs::File::create(dir.join("from/holes")).unwrap();
    // More extents than an old header and one more block have room for.
    for i in 0..40u64 {
        file.write_all_at(&[i as u8 + 1; 4096], i << 20).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    let hole = std::fs::File::create(dir.join("from/hole")).unwrap();
    hole.set_len(32 << 20).unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let out = Command::new("tar")
            .args(["--sparse", "-cf", "-", "-C"])
            .arg(dir.join("from"))
            .args(form)
            .args(["hole", "holes"])
            .output()
            .expect("tar must be installed");
        assert!(out.status.success(), "{form:?}");
        assert!(out.stdout.len() < 1 << 20, "{form:?}: tar wrote the holes");
        let to = dir.join("to");
        std::fs::create_dir(&to).unwrap();
        let fd = std::fs::File::open(&to).unwrap();
        crate::image::layer::unpack::tests::unpack_all(&out.stdout, fd.into()).expect(form[0]);
        for name in ["hole", "holes"] {
            let (from, to) = (dir.join("from").join(name), to.join(name));
            assert!(
                std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap(),
                "{form:?}: {name} has other bytes"
            );
            let blocks = std::fs::metadata(&to).unwrap().blocks();
            assert!(
                blocks <= 40 * 8 + 64,
                "{form:?}: {name} has {blocks} blocks"
            );
        }
        std::fs::remove_dir_all(&to).unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
