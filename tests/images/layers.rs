//! Hostile layers: each with what must become of it.

use crate::corpus::{Case, Content, Want};
use crate::image::Oci;
use crate::place::Is::{self, *};
use crate::tar::{Tar, tar};

fn layer(name: &'static str, tar: Tar, want: Want) -> Case {
    Case {
        name,
        content: Content::Oci(Oci::new(&[tar.end()])),
        want,
    }
}

fn refused(name: &'static str, tar: Tar, words: &'static str) -> Case {
    layer(name, tar, Want::Refused(words))
}

fn made<P: AsRef<[u8]>>(name: &'static str, tar: Tar, looks: Vec<(P, Is)>) -> Case {
    let looks = looks.into_iter().map(|(p, is)| (p.as_ref().to_vec(), is));
    layer(name, tar, Want::Made(looks.collect()))
}

/// Two layers, and what a shell sees in a rootfs of both.
fn merged(
    name: &'static str,
    lower: Tar,
    upper: Tar,
    script: &'static str,
    says: &'static str,
) -> Case {
    Case {
        name,
        content: Content::Oci(Oci::new(&[lower.end(), upper.end()])),
        want: Want::Merged(script, says),
    }
}

pub(crate) fn all(canary: &str) -> Vec<Case> {
    [
        names(canary),
        links(canary),
        whiteouts(canary),
        attributes(),
        types(canary),
        formats(),
        numbers(),
        duplicates(canary),
    ]
    .concat()
}

fn names(canary: &str) -> Vec<Case> {
    let inside = canary.trim_start_matches('/');
    let at = |name: &str| format!("{inside}/{name}");
    let up = "../".repeat(12);
    vec![
        refused(
            "parent",
            tar().file("../evil", "x"),
            "a path with .. is refused",
        ),
        refused(
            "parent-of-a-directory",
            tar().dir("a").file("a/../../evil", "x"),
            "a path with ..",
        ),
        refused(
            "parents",
            tar().file(format!("{up}tmp/evil"), "x"),
            "a path with ..",
        ),
        refused(
            "parent-behind-a-slash",
            tar().file("/../evil", "x"),
            "a path with ..",
        ),
        refused("parent-alone", tar().dir(".."), "a path with .."),
        refused("parent-at-the-end", tar().dir("a/.."), "a path with .."),
        refused(
            "parent-in-a-long-name",
            tar().named(format!("{}/../../evil", "d".repeat(120))),
            "a path with ..",
        ),
        made(
            "absolute",
            tar().file("/etc/evil", "in"),
            vec![("etc/evil", File("in"))],
        ),
        made(
            "absolute-canary",
            tar().named(format!("{canary}/file")),
            vec![(at("file"), File(""))],
        ),
        made(
            "absolute-slashes",
            tar().file("//abs//./x", "in"),
            vec![("abs/x", File("in"))],
        ),
        refused("no-name", tar().file("", "x"), "an entry without a name"),
        refused("nul-in-a-name", tar().named(b"a\0b"), "a NUL byte"),
        refused(
            "long-name",
            tar().named("n".repeat(256)),
            "a name is longer than 255 bytes",
        ),
        refused(
            "deep",
            tar().named("d/".repeat(257) + "f"),
            "longer than 4095 bytes or 256 components",
        ),
        refused(
            "long-path",
            tar().named(vec!["n".repeat(250); 17].join("/")),
            "longer than 4095 bytes",
        ),
        made(
            "not-utf-8",
            tar().file(b"\xff\xfe", "x"),
            vec![(b"\xff\xfe", File("x"))],
        ),
        made(
            "newline",
            tar().file("a\nb", "x"),
            vec![("a\nb", File("x"))],
        ),
        refused(
            "terminal",
            tar().file("\x1b]0;evil\x07/../x", "x"),
            "unpack \"\\u{1b}]0;evil\\u{7}/../x\"",
        ),
    ]
}

fn links(canary: &str) -> Vec<Case> {
    let inside = canary.trim_start_matches('/');
    let at = |name: &str| format!("{inside}/{name}");
    let file = format!("{canary}/file");
    let up = "../".repeat(20);
    let loops = tar().symlink("a", "b").symlink("b", "a").file("a/x", "");
    vec![
        made(
            "through-an-absolute-symlink",
            tar().symlink("l", canary).file("l/file", "in"),
            vec![(at("file"), File("in"))],
        ),
        made(
            "through-a-relative-symlink",
            tar()
                .symlink("l", &format!("{up}{inside}"))
                .file("l/file", "in"),
            vec![(at("file"), File("in"))],
        ),
        made(
            "through-two-symlinks",
            tar()
                .symlink("a", "/b")
                .symlink("b", canary)
                .file("a/file", "in"),
            vec![(at("file"), File("in"))],
        ),
        made(
            "through-proc",
            tar().symlink("p", "/proc/self/root").file("p/evil", "in"),
            vec![("proc/self/root/evil", File("in"))],
        ),
        made(
            "over-a-symlink",
            tar().symlink("f", &file).file("f", "in"),
            vec![("f", File("in"))],
        ),
        made(
            "directory-over-a-symlink",
            tar().symlink("d", canary).mode("d", b'5', 0o777),
            vec![("d", Dir), ("d", Mode(0o777))],
        ),
        made(
            "mode-of-a-symlink",
            tar().raw("l", b'2', b"", |b| {
                b[100..108].copy_from_slice(b"0000777\0");
                b[157..157 + file.len()].copy_from_slice(file.as_bytes());
            }),
            vec![("l", Link(file.clone()))],
        ),
        refused(
            "hard-link-outside",
            tar().hard_link("h", &file),
            "it is not in this layer",
        ),
        refused(
            "hard-link-of-passwd",
            tar().hard_link("h", "/etc/passwd"),
            "it is not in this layer",
        ),
        refused(
            "hard-link-through-a-symlink",
            tar().symlink("d", canary).hard_link("h", "d/file"),
            "it is not in this layer",
        ),
        refused(
            "hard-link-upwards",
            tar().hard_link("h", "../../../canary/file"),
            "a path with ..",
        ),
        refused(
            "hard-link-of-the-root",
            tar().hard_link("h", "/"),
            "it is the layer's root",
        ),
        refused(
            "hard-link-of-a-directory",
            tar().dir("d").hard_link("h", "d"),
            "it is a directory",
        ),
        made(
            "hard-link-of-a-symlink",
            tar()
                .symlink("s", &file)
                .hard_link("h", "s")
                .file("h", "in"),
            vec![("h", File("in")), ("s", Link(file.clone()))],
        ),
        made(
            "write-over-a-hard-link",
            tar().file("a", "old").hard_link("b", "a").file("a", "new"),
            vec![("a", File("new")), ("b", File("old"))],
        ),
        made(
            "hard-link-to-itself",
            tar().file("a", "x").hard_link("a", "a"),
            vec![("a", File("x"))],
        ),
        made(
            "hard-link",
            tar().file("a", "x").hard_link("b", "a"),
            vec![("b", Same("a"))],
        ),
        refused("symlinks-in-a-circle", loops, "ELOOP"),
        refused(
            "symlink-to-nothing",
            tar().symlink("l", ""),
            "a symlink's target is empty",
        ),
        refused(
            "symlink-too-long",
            tar().symlink("l", &"x".repeat(4096)),
            "too long",
        ),
        refused(
            "below-a-file",
            tar().file("f", "").file("f/x", ""),
            "is not a directory",
        ),
        made(
            "directory-that-was",
            tar()
                .dir("c")
                .file("c/1", "")
                .symlink("c", canary)
                .file("c/file", "in"),
            vec![(at("file"), File("in"))],
        ),
        made(
            "directory-of-a-link",
            tar()
                .symlink("a", ".")
                .symlink("a/a", canary)
                .file("a/file", "in"),
            vec![(at("file"), File("in"))],
        ),
    ]
}

fn whiteouts(canary: &str) -> Vec<Case> {
    let inside = canary.trim_start_matches('/');
    let hidden = format!("{inside}/file");
    let dir = tar().dir("d").file("d/a", "1").file("d/b", "2");
    vec![
        made(
            "whiteout-through-a-symlink",
            tar().symlink("l", canary).file("l/.wh.file", ""),
            vec![(hidden, Whiteout)],
        ),
        made(
            "opaque-through-a-symlink",
            tar().symlink("l", canary).file("l/.wh..wh..opq", ""),
            vec![(inside, Opaque)],
        ),
        made(
            "whiteout-that-is-a-link",
            tar().hard_link(".wh.x", &format!("{canary}/file")),
            vec![("x", Whiteout)],
        ),
        made(
            "whiteout-that-is-a-directory",
            tar().dir(".wh.x"),
            vec![("x", Whiteout), (".wh.x", Absent)],
        ),
        refused(
            "whiteout-of-nothing",
            tar().file(".wh.", ""),
            "a whiteout that names nothing",
        ),
        refused(
            "whiteout-of-itself",
            tar().file("d/.wh..", ""),
            "a whiteout that names nothing",
        ),
        refused(
            "whiteout-of-the-parent",
            tar().file("d/.wh...", ""),
            "a whiteout that names nothing",
        ),
        refused(
            "below-a-whiteout",
            tar().file(".wh.x/y", ""),
            "a whiteout cannot be a directory",
        ),
        made(
            "aufs-bookkeeping",
            tar().file(".wh..wh.plnk/1", "").file(".wh..wh.aufs", ""),
            vec![(".wh..wh.plnk", Absent), (".wh..wh.aufs", Absent)],
        ),
        made(
            "whiteout-with-content",
            tar().file(".wh.x", [7; 3000]).file("y", "y"),
            vec![("x", Whiteout), ("y", File("y"))],
        ),
        made(
            "whiteout-of-one-s-own-file",
            tar().file("f", "kept").file(".wh.f", ""),
            vec![("f", File("kept"))],
        ),
        made(
            "whiteout-and-then-a-directory",
            tar().file(".wh.d", "").dir("d"),
            vec![("d", Opaque)],
        ),
        made(
            "directory-and-then-whiteout",
            tar().dir("d").file("d/f", "x").file(".wh.d", ""),
            vec![("d", Opaque), ("d/f", File("x"))],
        ),
        // A character device 0:0 is a whiteout to overlayfs: it hides, as .wh.x may too.
        made(
            "raw-whiteout",
            tar().device("x", b'3', 0, 0),
            vec![("x", Whiteout)],
        ),
        merged("hides", dir.clone(), tar().file("d/.wh.a", ""), "ls d", "b"),
        merged(
            "hides-all",
            dir.clone(),
            tar().file("d/.wh..wh..opq", "").file("d/c", ""),
            "ls d",
            "c",
        ),
        merged(
            "hides-all-last",
            dir.clone(),
            tar().file("d/c", "").file("d/.wh..wh..opq", ""),
            "ls d",
            "c",
        ),
        merged(
            "hides-the-root",
            dir.clone(),
            tar().file(".wh..wh..opq", "").file("c", ""),
            "ls",
            "c",
        ),
        merged(
            "hides-a-directory",
            dir.file("e", ""),
            tar().file(".wh.d", ""),
            "ls",
            "e",
        ),
    ]
}

fn attributes() -> Vec<Case> {
    const CAP: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut looks = vec![
        ("f", Xattr("security.capability", CAP)),
        ("f", Xattr("user.x", b"a=b\nc\0d")),
    ];
    let dropped: &[&'static str] = &[
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.whiteout",
        "trusted.overlay.origin",
        "user.overlay.redirect",
        "user.overlay.opaque",
        "trusted.x",
        "security.selinux",
        "security.ima",
        "security.evm",
        "security.apparmor",
        "system.posix_acl_access",
    ];
    let keys: Vec<String> = dropped
        .iter()
        .map(|n| format!("SCHILY.xattr.{n}"))
        .collect();
    let mut records: Vec<(&str, &[u8])> = keys.iter().map(|k| (k.as_str(), &b"y"[..])).collect();
    records.push(("SCHILY.xattr.security.capability", CAP));
    records.push(("SCHILY.xattr.user.x", b"a=b\nc\0d"));
    looks.extend(dropped.iter().map(|n| ("f", NoXattr(n))));
    let overlay: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/lower"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ];
    let many: Vec<String> = (0..257).map(|i| format!("SCHILY.xattr.user.{i}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|k| (k.as_str(), &b""[..])).collect();
    vec![
        made("xattrs", tar().pax(&records).file("f", "x"), looks),
        made(
            "overlay-xattrs-of-a-directory",
            tar().pax(overlay).dir("d").file("d/f", ""),
            vec![("d", Plain), ("d", NoXattr("trusted.overlay.redirect"))],
        ),
        merged(
            "redirect",
            tar().dir("lower").file("lower/secret", ""),
            tar().pax(overlay).dir("upper").file("upper/own", ""),
            "ls upper",
            "own",
        ),
        refused(
            "xattrs-without-end",
            tar().pax(&many).file("f", ""),
            "more than 256 extended attributes",
        ),
        refused(
            "xattr-name-with-nul",
            tar().pax(&[("SCHILY.xattr.user.a\0b", b"")]).file("f", ""),
            "has the value",
        ),
    ]
}

fn types(canary: &str) -> Vec<Case> {
    let inside = canary.trim_start_matches('/');
    let secret = tar().file("x/file", "lower");
    let link = tar().symlink("x", canary);
    vec![
        made(
            "devices",
            tar()
                .device("null", b'3', 1, 3)
                .device("sda", b'4', 8, 0)
                .mode("fifo", b'6', 0o600),
            vec![
                ("null", Char(1, 3)),
                ("sda", Block(8, 0)),
                ("fifo", Fifo),
                ("sda", Mode(0o644)),
            ],
        ),
        refused(
            "device-out-of-range",
            tar().raw("d", b'3', b"", |b| {
                b[329..337].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0])
            }),
            "device number 4294967296 is out of range",
        ),
        refused(
            "unknown-type",
            tar().raw("v", b'V', b"", |_| {}),
            "entries of type 'V' are not supported",
        ),
        refused(
            "multi-volume",
            tar().raw("m", b'M', b"", |_| {}),
            "entries of type 'M' are not supported",
        ),
        refused(
            "root-as-a-symlink",
            tar().symlink("/", canary),
            "the root of a layer must be a directory",
        ),
        refused(
            "root-as-a-symlink-too",
            tar().symlink("./", canary),
            "the root of a layer must be a directory",
        ),
        refused(
            "root-as-a-hard-link",
            tar().hard_link(".", "etc"),
            "the root of a layer must be a directory",
        ),
        refused(
            "root-as-a-device",
            tar().device("./.", b'3', 0, 0),
            "the root of a layer must be a directory",
        ),
        made(
            "root-with-a-mode",
            tar().mode("./", b'5', 0o711).file("f", ""),
            vec![("", Mode(0o711)), ("f", File(""))],
        ),
        merged(
            "symlink-becomes-a-directory",
            link.clone(),
            tar().file("x/file", "upper"),
            "test ! -L x && cat x/file",
            "upper",
        ),
        merged(
            "directory-becomes-a-symlink",
            secret.clone(),
            link.clone(),
            "test -L x && readlink x",
            Box::leak(canary.to_owned().into_boxed_str()),
        ),
        merged(
            "directory-becomes-a-file",
            secret.clone(),
            tar().file("x", "file"),
            "cat x",
            "file",
        ),
        merged(
            "file-becomes-a-directory",
            tar().file("x", "file"),
            secret.clone(),
            "cat x/file",
            "lower",
        ),
        // Through a symlink of a lower layer: a directory of its own, as docker has it.
        merged(
            "write-through-a-lower-symlink",
            link,
            tar().file("x/dir/file", "upper"),
            "cat x/dir/file",
            "upper",
        ),
        made(
            "file-type-in-the-mode",
            tar().raw("f", b'0', b"x", |b| {
                b[100..108].copy_from_slice(b"0120644\0")
            }),
            vec![("f", File("x")), ("f", Mode(0o644))],
        ),
        made(
            "old-directory",
            tar().file("d/", "").file("d/f", "x"),
            vec![("d/f", File("x")), (inside, Absent)],
        ),
    ]
}

fn formats() -> Vec<Case> {
    let nul = |s: &str| [s.as_bytes(), b"\0"].concat();
    let long = "d/".repeat(150) + "end";
    let one = tar().file("a", "1");
    let hidden = tar().file("hidden", "h");
    let mut gap = one.clone().then(&[0; 512]);
    gap = gap.then(&tar().file("b", "2").0);
    let mut damaged = one.clone();
    damaged.0[0] = b'b';
    let cut = Tar(tar().file("a", [1; 2000]).0[..1500].to_vec());
    let mut cases = vec![
        made(
            "gnu-long-name",
            tar()
                .raw("././@LongLink", b'L', &nul(&long), |_| {})
                .file("cut", "x"),
            vec![(long.clone(), File("x"))],
        ),
        made(
            "gnu-long-link",
            tar()
                .raw("././@LongLink", b'K', &nul(&long), |_| {})
                .symlink("l", "cut"),
            vec![("l", Link(long.clone()))],
        ),
        refused(
            "gnu-long-name-upwards",
            tar()
                .raw("././@LongLink", b'L', &nul("../evil"), |_| {})
                .file("ok", "x"),
            "a path with ..",
        ),
        refused(
            "gnu-long-link-upwards",
            tar()
                .raw("././@LongLink", b'K', &nul("../evil"), |_| {})
                .hard_link("ok", "ok"),
            "a path with ..",
        ),
        made(
            "pax-before-gnu",
            tar()
                .raw("././@LongLink", b'L', &nul("gnu"), |_| {})
                .pax(&[("path", b"pax")])
                .file("ustar", "x"),
            vec![("pax", File("x")), ("gnu", Absent), ("ustar", Absent)],
        ),
        made(
            "pax-taken-back",
            tar()
                .pax(&[("path", b"../evil"), ("path", b"")])
                .file("ustar", "x"),
            vec![("ustar", File("x"))],
        ),
        made(
            "ustar-prefix",
            tar().raw("name", b'0', b"x", |b| {
                b[345..351].copy_from_slice(b"prefix")
            }),
            vec![("prefix/name", File("x"))],
        ),
        refused(
            "ustar-prefix-upwards",
            tar().raw("name", b'0', b"x", |b| b[345..347].copy_from_slice(b"..")),
            "a path with ..",
        ),
        made(
            "global-pax",
            tar()
                .raw("g", b'g', b"22 path=/evil-global\n\n", |_| {})
                .file("ok", "x"),
            vec![("ok", File("x"))],
        ),
        refused(
            "pax-alone",
            tar().pax(&[("path", b"a")]),
            "an extension header without an entry",
        ),
        refused(
            "pax-without-end",
            tar().raw("p", b'x', b"", |b| {
                b[124..136].copy_from_slice(b"77777777777\0")
            }),
            "an extension header is larger than 1048576 bytes",
        ),
        refused(
            "pax-piecewise",
            (0..40)
                .fold(tar(), |t, _| {
                    t.raw("p", b'x', &[b'\n'; 0], |_| {})
                        .raw("p", b'L', &[b'a'; 30_000], |_| {})
                })
                .file("f", ""),
            "an extension header is larger",
        ),
        refused(
            "pax-record-too-long",
            tar().raw("p", b'x', b"9999 a=b\n", |_| {}).file("f", ""),
            "a malformed PAX record",
        ),
        refused(
            "pax-record-of-nothing",
            tar().raw("p", b'x', b"3 \n", |_| {}).file("f", ""),
            "a malformed PAX record",
        ),
        refused(
            "pax-size",
            tar()
                .pax(&[("size", b"18446744073709551615")])
                .file("f", ""),
            "size\" has the value",
        ),
        refused(
            "size-negative",
            tar().raw("f", b'0', b"", |b| b[124..136].fill(0xff)),
            "a size is out of range",
        ),
        refused("cut-short", cut, "the archive is cut short"),
        refused("checksum", damaged, "not a tar archive, or damaged"),
        refused(
            "not-a-tar",
            Tar(vec![b'x'; 2048]),
            "not a tar archive, or damaged",
        ),
        refused("zero-block-between", gap, "a zero block between entries"),
        made(
            "after-the-end",
            one.clone().then(&[0; 1024]).then(&hidden.0),
            vec![("a", File("1")), ("hidden", Absent)],
        ),
        // As Go has it: what follows a header-only type is the next header.
        made(
            "size-of-a-symlink",
            tar()
                .raw("l", b'2', b"", |b| {
                    b[124..136].copy_from_slice(b"00000001000\0");
                    b[157] = b'x';
                })
                .then(&hidden.0),
            vec![("hidden", File("h"))],
        ),
        made(
            "sparse",
            tar().sparse("f", 1 << 20, &[(4096, 3), (1 << 19, 2)], b"abcde"),
            vec![("f", Size(1 << 20)), ("f", Blocks(64))],
        ),
        made(
            "sparse-nothing-but-hole",
            tar().sparse("f", 1 << 29, &[], b""),
            vec![("f", Size(1 << 29)), ("f", Blocks(8))],
        ),
        refused(
            "sparse-overlap",
            tar().sparse("f", 10, &[(0, 5), (4, 1)], b"123456"),
            "its extents overlap",
        ),
        refused(
            "sparse-beyond",
            tar().sparse("f", 10, &[(1 << 30, 1)], b"1"),
            "lie beyond its end",
        ),
        refused(
            "sparse-content-left-over",
            tar().sparse("f", 10, &[(0, 1)], b"123"),
            "its map is of 1 bytes, its content of 3",
        ),
        refused(
            "sparse-huge",
            tar().sparse("f", 1 << 40, &[], b""),
            "layer-size=68719476736 allows",
        ),
        refused(
            "sparse-large",
            tar().sparse("f", 5_000_000_000, &[], b""),
            "unpack-ratio=100 allows",
        ),
        refused(
            "sparse-upwards",
            tar()
                .pax(&[
                    ("GNU.sparse.name", b"../evil"),
                    ("GNU.sparse.size", b"0"),
                    ("GNU.sparse.numblocks", b"0"),
                ])
                .file("ok", ""),
            "a path with ..",
        ),
    ];
    cases.push(made("empty", Tar::default(), Vec::<(&str, Is)>::new()));
    cases
}

fn numbers() -> Vec<Case> {
    let pax = |k: &'static str, v: &'static str| tar().pax(&[(k, v.as_bytes())]).file("f", "");
    let field = |at: usize, bytes: &'static [u8]| {
        tar().raw("f", b'0', b"", move |b| {
            b[at..at + bytes.len()].copy_from_slice(bytes)
        })
    };
    vec![
        refused(
            "uid-for-nobody",
            pax("uid", "4294967295"),
            "id 4294967295 is out of range",
        ),
        refused(
            "uid-too-large",
            pax("uid", "4294967296"),
            "id 4294967296 is out of range",
        ),
        refused("uid-negative", pax("uid", "-1"), "id -1 is out of range"),
        refused(
            "gid-too-large",
            pax("gid", "4294967296"),
            "id 4294967296 is out of range",
        ),
        refused("uid-no-number", pax("uid", "root"), "uid\" has the value"),
        refused(
            "uid-base-256",
            field(108, &[0x80, 0, 0, 1, 0, 0, 0, 0]),
            "id 4294967296 is out of range",
        ),
        refused(
            "uid-base-256-negative",
            field(108, &[0xff; 8]),
            "id -1 is out of range",
        ),
        refused(
            "uid-octal-nonsense",
            field(108, b"00000x0\0"),
            "is no number",
        ),
        made(
            "uid-large",
            pax("uid", "4294967294"),
            vec![("f", Owner(4_294_967_294, 0))],
        ),
        made(
            "mode-overflow",
            field(100, b"7777777\0"),
            vec![("f", Mode(0o7777))],
        ),
        made(
            "mode-base-256",
            field(100, &[0xff; 8]),
            vec![("f", Mode(0o7777))],
        ),
        made(
            "set-uid",
            tar().mode("f", b'0', 0o6755),
            vec![("f", Mode(0o6755))],
        ),
        made(
            "time-negative",
            pax("mtime", "-5.5"),
            vec![("f", Time(-6, 500_000_000))],
        ),
        made(
            "time-negative-base-256",
            field(136, &[0xff; 12]),
            vec![("f", Time(-1, 0))],
        ),
        // What the file system cannot have it makes the nearest it has.
        made(
            "time-without-end",
            pax("mtime", "9223372036854775807"),
            vec![("f", File(""))],
        ),
        made(
            "time-before-all",
            pax("mtime", "-9223372036854775808"),
            vec![("f", File(""))],
        ),
        refused(
            "time-no-number",
            pax("mtime", "1e9"),
            "mtime\" has the value",
        ),
        refused(
            "time-too-large",
            pax("mtime", "99999999999999999999"),
            "mtime\" has the value",
        ),
        refused(
            "time-base-256-too-large",
            field(
                136,
                &[
                    0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                ],
            ),
            "the time is out of range",
        ),
    ]
}

fn duplicates(canary: &str) -> Vec<Case> {
    let twice = (0..3000).fold(tar(), |t, i| t.file("f", format!("{i}")));
    let swaps = (0..1000).fold(tar(), |t, _| {
        t.dir("x").file("x/y", "").symlink("x", canary)
    });
    vec![
        made(
            "the-last-wins",
            tar().file("f", "1").file("f", "2"),
            vec![("f", File("2"))],
        ),
        made("three-thousand-times", twice, vec![("f", File("2999"))]),
        made(
            "a-directory-again",
            tar().dir("d").file("d/f", "x").mode("d", b'5', 0o700),
            vec![("d/f", File("x")), ("d", Mode(0o700))],
        ),
        made(
            "a-file-over-a-tree",
            tar().file("d/a/b", "").file("d", "x"),
            vec![("d", File("x"))],
        ),
        made(
            "a-tree-over-a-file",
            tar().file("d", "x").dir("d").file("d/f", "y"),
            vec![("d/f", File("y"))],
        ),
        made(
            "there-and-back",
            swaps.file("x", "end"),
            vec![("x", File("end"))],
        ),
        made(
            "other-spellings",
            tar()
                .file("a/b", "1")
                .file("./a//b", "2")
                .file("/a/./b", "3"),
            vec![("a/b", File("3"))],
        ),
    ]
}
