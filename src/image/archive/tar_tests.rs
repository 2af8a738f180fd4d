//! Archives written by hand, header by header, and by the system's tar.

use super::*;

/// Writes what no sane tool would.
#[derive(Default)]
pub(crate) struct Builder(pub Vec<u8>);

impl Builder {
    /// A raw header and its content, padded; the checksum is right.
    pub(crate) fn raw(
        mut self,
        name: &str,
        kind: u8,
        content: &[u8],
        edit: impl Fn(&mut [u8]),
    ) -> Self {
        let mut block = [0u8; BLOCK];
        block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        block[136..148].copy_from_slice(b"00000001750\0");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        edit(&mut block);
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*b)
                }
            })
            .sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }
    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name, b'0', content, |_| {})
    }
    pub(crate) fn mode(self, name: &str, kind: u8, mode: u32) -> Self {
        self.raw(name, kind, b"", |b| {
            b[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        })
    }
    pub(crate) fn dir(self, name: &str) -> Self {
        self.mode(name, b'5', 0o755)
    }
    pub(crate) fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.raw(name, kind, b"", |b| {
            b[157..157 + target.len()].copy_from_slice(target.as_bytes());
        })
    }
    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, b'2', target)
    }
    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(name, b'1', target)
    }
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw("pax", b'x', &data, |_| {})
    }
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

pub(crate) fn entries(data: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(data);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        all.push((entry, content));
    }
    Ok(all)
}

fn refused(data: &[u8]) -> String {
    entries(data).expect_err("must be refused").to_string()
}

#[test]
fn ustar_pax_and_gnu() {
    let long = "d/".repeat(150) + "end";
    let data = Builder::default()
        .file("a", b"hello")
        .raw("name", b'0', b"", |b| {
            b[345..351].copy_from_slice(b"prefix")
        })
        .raw(
            "././@LongLink",
            b'L',
            format!("{long}\0").as_bytes(),
            |_| {},
        )
        .file("cut", b"")
        .pax(&[
            ("path", b"pax\xffpath"),
            ("uid", b"4000000000"),
            ("mtime", b"-1.25"),
            ("SCHILY.xattr.user.x", b"a=b\nc\0d"),
        ])
        .file("short", b"1")
        .raw("gnu-uid", b'0', b"", |b| {
            b[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 1, 0, 0]);
            b[136..148].copy_from_slice(&[0xff; 12]);
        })
        .file("old-dir/", b"")
        .end();
    let e = entries(&data).unwrap();
    assert_eq!(e[0].1, b"hello");
    assert_eq!(e[0].0.mtime, (1000, 0));
    assert_eq!(e[1].0.path, b"prefix/name");
    assert_eq!(e[2].0.path, long.as_bytes());
    assert_eq!(e[3].0.path, b"pax\xffpath");
    assert_eq!(e[3].0.uid, 4_000_000_000);
    assert_eq!(e[3].0.mtime, (-2, 750_000_000));
    assert_eq!(e[3].0.xattrs[0].1, b"a=b\nc\0d");
    assert_eq!((e[4].0.uid, e[4].0.mtime.0), (65536, -1));
    assert_eq!(e[5].0.kind, EntryKind::Directory);
}

#[test]
fn ends_where_an_archive_ends() {
    let one = Builder::default().file("a", b"x");
    assert_eq!(entries(&one.0).unwrap().len(), 1, "no zero blocks");
    let mut single = one.0.clone();
    single.resize(single.len() + BLOCK, 0);
    assert_eq!(entries(&single).unwrap().len(), 1, "one zero block");
    let mut gap = single.clone();
    gap.extend_from_slice(&one.0);
    assert!(refused(&gap).contains("zero block"));
    let mut reader = Reader::new(&one.0[..]);
    reader.next_entry().unwrap();
    assert!(refused(&one.0[..BLOCK + 1]).contains("cut short"));
    assert!(refused(&one.0[..100]).contains("cut short"));
    assert_eq!(entries(b"").unwrap().len(), 0);
}

#[test]
fn what_is_malformed_is_refused() {
    let b = Builder::default;
    let id_max = u32::MAX.to_string();
    for (what, data) in [
        ("garbage", vec![b'x'; 1024]),
        ("checksum", {
            let mut d = b().file("a", b"").end();
            d[0] = b'b';
            d
        }),
        ("type", b().raw("a", b'V', b"", |_| {}).end()),
        (
            "uid",
            b().pax(&[("uid", id_max.as_bytes())]).file("a", b"").end(),
        ),
        ("uid", b().pax(&[("uid", b"-1")]).file("a", b"").end()),
        (
            "size",
            b().pax(&[("size", b"18446744073709551615")])
                .file("a", b"")
                .end(),
        ),
        (
            "size",
            b().raw("a", b'0', b"", |b| b[124..136].fill(0xff)).end(),
        ),
        ("time", b().pax(&[("mtime", b"1.x")]).file("a", b"").end()),
        ("NUL", b().pax(&[("path", b"a\0b")]).file("a", b"").end()),
        (
            "record",
            b().raw("p", b'x', b"9999 a=b\n", |_| {})
                .file("a", b"")
                .end(),
        ),
        (
            "record",
            b().raw("p", b'x', b"3 \n", |_| {}).file("a", b"").end(),
        ),
        (
            "record",
            b().raw("p", b'x', b"xx a=b\n", |_| {}).file("a", b"").end(),
        ),
        ("alone", b().pax(&[("path", b"a")]).end()),
        (
            "large",
            b().raw("p", b'x', b"", |b| {
                b[124..136].copy_from_slice(b"77777777777\0")
            })
            .end(),
        ),
        ("no name", b().file("", b"").end()),
    ] {
        entries(&data).expect_err(what);
    }
    // Many small extension headers add up to the same bound.
    let mut many = Builder::default();
    for _ in 0..1025 {
        many = many.raw("p", b'L', &[b'a'; 1024], |_| {});
    }
    assert!(refused(&many.file("a", b"").end()).contains("extension header"));
}

#[test]
fn reads_what_the_system_tar_writes() {
    let dir = std::env::temp_dir().join(format!("carob-tar-{}", std::process::id()));
    let deep = dir.join("t").join("x".repeat(200)).join("y".repeat(200));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), vec![7u8; 100_000]).unwrap();
    std::os::unix::fs::symlink("z".repeat(300), dir.join("t/link")).unwrap();
    for format in ["gnu", "pax", "posix"] {
        let out = std::process::Command::new("tar")
            .args(["--format", format, "-cf", "-", "-C"])
            .arg(&dir)
            .arg("t")
            .output()
            .expect("tar must be installed");
        let all = entries(&out.stdout).unwrap();
        let file = all
            .iter()
            .find(|(e, _)| e.path.ends_with(b"/file"))
            .unwrap();
        assert_eq!(file.1, vec![7u8; 100_000], "{format}");
        let link = all
            .iter()
            .find(|(e, _)| e.kind == EntryKind::Symlink)
            .unwrap();
        assert_eq!(link.0.link, "z".repeat(300).as_bytes(), "{format}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
