//! What each kind of entry becomes, and that a hostile one changes nothing
//! outside of the target. As root, on a file system with trusted xattrs.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;
use crate::image::archive::tar::tests::Builder;

/// With the default bounds.
pub(crate) fn unpack_all(tar: &[u8], target: OwnedFd) -> Result<Unpacked> {
    let limits = crate::image::Limits::default();
    let (come, image) = (Default::default(), Default::default());
    let budget = Budget::layer(&limits, tar.len() as u64, &come, &image);
    unpack(tar, target, &budget)
}

/// `outside` is what an attacker is after; `target` is beside it.
struct Place {
    root: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let base =
            std::env::var_os("CAROB_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = base.join(format!("carob-unpack-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("target")).unwrap();
        std::fs::create_dir_all(root.join("outside")).unwrap();
        std::fs::write(root.join("outside/file"), "untouched").unwrap();
        Place { root }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.root.join("target").join(name)
    }
    fn unpack(&self, tar: Builder) -> Result<Unpacked> {
        let fd = File::open(self.root.join("target")).unwrap();
        let before = self.outside();
        let res = unpack_all(&tar.end(), OwnedFd::from(fd));
        assert_eq!(before, self.outside(), "something outside was changed");
        res
    }
    /// Everything beside the target: names, inodes, modes, link counts, times.
    fn outside(&self) -> Vec<(String, u64, u32, u64, i64, i64)> {
        let mut all = Vec::new();
        let outside = self.root.join("outside");
        for p in std::fs::read_dir(&outside)
            .unwrap()
            .chain(std::fs::read_dir(&self.root).unwrap())
        {
            let p = p.unwrap().path();
            if p.ends_with("target") {
                continue;
            }
            let m = std::fs::symlink_metadata(&p).unwrap();
            all.push((
                p.display().to_string(),
                m.ino(),
                m.mode(),
                m.nlink(),
                m.mtime(),
                m.ctime_nsec(),
            ));
        }
        all.sort();
        assert_eq!(
            std::fs::read_to_string(outside.join("file")).unwrap(),
            "untouched"
        );
        all
    }
    fn opaque(&self, name: &str) -> bool {
        let fd = File::open(self.path(name)).unwrap();
        xattr::fgetxattr(&fd, OVERLAY_OPAQUE).is_ok_and(|v| v == b"y")
    }
    fn whiteout(&self, name: &str) -> bool {
        let m = std::fs::symlink_metadata(self.path(name)).unwrap();
        m.file_type().is_char_device() && m.rdev() == 0
    }
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn tar() -> Builder {
    Builder::default()
}

#[test]
fn attributes_are_kept() {
    let p = Place::new("attributes");
    let cap = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let done = p
        .unpack(
            tar()
                .mode("./", b'5', 0o711)
                .mode("d", b'5', 0o1777)
                .pax(&[("uid", b"12"), ("gid", b"34"), ("mtime", b"-5.5")])
                .mode("d/suid", b'0', 0o6755)
                .pax(&[
                    ("SCHILY.xattr.security.capability", &cap),
                    ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                    ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    ("SCHILY.xattr.security.selinux", b"x"),
                ])
                .file("d/cap", b"data")
                .symlink("link", "/etc/shadow")
                .mode("fifo", b'6', 0o600)
                .raw("null", b'3', b"", |b| {
                    b[329..337].copy_from_slice(b"0000001\0");
                    b[337..345].copy_from_slice(b"0000003\0");
                }),
        )
        .unwrap();
    assert_eq!((done.entries, done.bytes), (7, 4));
    let meta = |n: &str| std::fs::symlink_metadata(p.path(n)).unwrap();
    assert_eq!(meta("").mode() & 0o7777, 0o711);
    assert_eq!(meta("").mtime(), 1000);
    assert_eq!(meta("d").mode() & 0o7777, 0o1777);
    assert_eq!(meta("d").mtime(), 1000, "not changed by what came into it");
    let suid = meta("d/suid");
    assert_eq!(
        (suid.mode() & 0o7777, suid.uid(), suid.gid()),
        (0o6755, 12, 34)
    );
    assert_eq!((suid.mtime(), suid.mtime_nsec()), (-6, 500_000_000));
    let file = File::open(p.path("d/cap")).unwrap();
    assert_eq!(
        xattr::fgetxattr(&file, c"security.capability").unwrap(),
        cap
    );
    for name in [
        c"trusted.overlay.redirect",
        c"trusted.overlay.opaque",
        c"security.selinux",
    ] {
        assert!(xattr::fgetxattr(&file, name).is_err(), "{name:?}");
    }
    assert_eq!(
        std::fs::read_link(p.path("link")).unwrap(),
        Path::new("/etc/shadow")
    );
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("null").rdev(), makedev(1, 3));
}

#[test]
fn whiteouts_become_overlayfs_own() {
    let p = Place::new("whiteouts");
    let done = p
        .unpack(
            tar()
                .file("d/.wh.gone", b"")
                .file("o/.wh..wh..opq", b"")
                .file("o/new", b"x")
                .file("both", b"kept")
                .file(".wh.both", b"")
                .dir("again")
                .file("again/f", b"x")
                .file(".wh.again", b"")
                .file(".wh.anew", b"")
                .dir("anew")
                .file(".wh..wh.plnk", b"")
                .file(".wh..wh.aufs/x", b""),
        )
        .unwrap();
    assert!(!done.opaque_root);
    assert!(p.whiteout("d/gone"));
    assert!(p.opaque("o") && p.read("o/new") == "x");
    assert_eq!(p.read("both"), "kept");
    assert!(p.opaque("again") && p.read("again/f") == "x");
    assert!(p.opaque("anew"));
    assert!(!p.path(".wh..wh.plnk").exists() && !p.path(".wh..wh.aufs").exists());
    assert!(
        p.unpack(tar().file(".wh..wh..opq", b""))
            .unwrap()
            .opaque_root
    );
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh.x/y"] {
        p.unpack(tar().file(bad, b"")).expect_err(bad);
    }
}

#[test]
fn whiteouts_do_not_leave_through_symlinks() {
    let p = Place::new("whiteout-escape");
    let outside = p.root.join("outside");
    p.unpack(
        tar()
            .symlink("l", outside.to_str().unwrap())
            .file("l/.wh.file", b"")
            .file("l/.wh..wh..opq", b""),
    )
    .unwrap();
    // It went where the container would see it: below the target.
    let inside = outside.strip_prefix("/").unwrap().join("file");
    assert!(p.whiteout(inside.to_str().unwrap()));
}

#[test]
fn names_stay_inside() {
    let p = Place::new("names");
    for bad in [
        "../outside/file",
        "a/../../outside/file",
        "/../outside/file",
        "..",
    ] {
        let e = p.unpack(tar().file(bad, b"evil")).expect_err(bad);
        assert!(e.to_string().contains(".."), "{e}");
    }
    p.unpack(tar().file("/abs//./x", b"in")).unwrap();
    assert_eq!(p.read("abs/x"), "in");
    let long = "a/".repeat(300) + "f";
    p.unpack(tar().pax(&[("path", long.as_bytes())]).file("f", b""))
        .unwrap_err();
    let long = "n".repeat(256);
    p.unpack(tar().pax(&[("path", long.as_bytes())]).file("f", b""))
        .unwrap_err();
}

#[test]
fn symlinks_as_parents_resolve_inside() {
    let p = Place::new("parents");
    let outside = p.root.join("outside").display().to_string();
    p.unpack(
        tar()
            .symlink("abs", &outside)
            .file("abs/file", b"evil")
            .symlink("up", "../../../../..")
            .file("up/at-root", b"x")
            .symlink("dangling", "not/here")
            .file("dangling/f", b"made")
            .dir("real")
            .symlink("to-real", "real")
            .file("to-real/f", b"followed"),
    )
    .unwrap();
    assert_eq!(p.read(&format!("{}/file", &outside[1..])), "evil");
    assert_eq!(p.read("at-root"), "x");
    assert_eq!(p.read("not/here/f"), "made");
    assert_eq!(p.read("real/f"), "followed");
    p.unpack(tar().symlink("loop", "loop").file("loop/f", b""))
        .unwrap_err();
    p.unpack(tar().file("plain", b"").file("plain/f", b""))
        .unwrap_err();
    // A chain of links cannot make a directory deeper than the bound.
    let mut deep = tar();
    let step = "d/".repeat(40);
    for i in 0..10 {
        let from = if i == 0 {
            String::new()
        } else {
            format!("s{}/", i - 1)
        };
        deep = deep
            .dir(&format!("{from}{step}"))
            .symlink(&format!("s{i}"), &format!("{from}{step}"));
    }
    let e = p.unpack(deep).unwrap_err();
    assert!(e.to_string().contains("deeper"), "{e}");
}

#[test]
fn nothing_is_written_through_a_link() {
    let p = Place::new("through");
    let victim = p.root.join("outside/file").display().to_string();
    p.unpack(tar().symlink("f", &victim).file("f", b"evil"))
        .unwrap();
    assert_eq!(p.read("f"), "evil");
    // The hard link's target is looked for inside, never outside.
    let e = p.unpack(tar().hard_link("h", &victim)).unwrap_err();
    assert!(e.to_string().contains("not in this layer"), "{e}");
    p.unpack(
        tar()
            .symlink("dir", &p.root.join("outside").display().to_string())
            .hard_link("h", "dir/file"),
    )
    .unwrap_err();
    p.unpack(tar().hard_link("h", "../outside/file"))
        .unwrap_err();
    // A link to a symlink links the symlink; writing it replaces that name.
    p.unpack(
        tar()
            .symlink("s", &victim)
            .hard_link("h", "s")
            .file("h", b"evil"),
    )
    .unwrap();
    assert_eq!(p.read("h"), "evil");
    assert_eq!(std::fs::read_link(p.path("s")).unwrap(), Path::new(&victim));
    // Neither is a hard-linked file changed by an entry for the other name.
    p.unpack(
        tar()
            .file("a", b"old")
            .hard_link("b", "a")
            .file("a", b"new"),
    )
    .unwrap();
    assert_eq!((p.read("a").as_str(), p.read("b").as_str()), ("new", "old"));
    p.unpack(tar().file("self", b"kept").hard_link("self", "self"))
        .unwrap();
    assert_eq!(p.read("self"), "kept");
    p.unpack(tar().dir("dd").hard_link("hd", "dd")).unwrap_err();
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let p = Place::new("types");
    let outside = p.root.join("outside").display().to_string();
    p.unpack(
        tar()
            .file("x/f", b"1")
            .file("x", b"file now")
            .symlink("y", "/nowhere")
            .mode("y", b'5', 0o700)
            .file("y/f", b"2")
            .dir("z")
            .file("z/f", b"3")
            .mode("z", b'5', 0o700)
            // The remembered directory must not outlive its replacement.
            .dir("c")
            .file("c/1", b"")
            .symlink("c", &outside)
            .file("c/file", b"evil")
            .symlink("a", ".")
            .symlink("a/a", &outside)
            .file("a/file", b"evil"),
    )
    .unwrap();
    assert_eq!(p.read("x"), "file now");
    assert_eq!(p.read("y/f"), "2");
    assert_eq!(p.read("z/f"), "3");
    let mode = std::fs::metadata(p.path("z")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert_eq!(p.read(&format!("{}/file", &outside[1..])), "evil");
}

#[test]
fn the_root_is_a_directory() {
    let p = Place::new("root");
    for kind in [b'0', b'1', b'2', b'3'] {
        p.unpack(tar().link("./", kind, "/etc"))
            .map(|u| u.entries)
            .unwrap_or_default();
        assert!(p.path("").is_dir());
    }
    p.unpack(tar().symlink("/", "/etc")).unwrap_err();
    p.unpack(tar().hard_link(".", "etc")).unwrap_err();
}

#[test]
fn linear_in_entries() {
    let time = |n: u64| {
        let p = Place::new(&format!("linear-{n}"));
        let mut t = tar();
        for i in 0..n {
            t = t.file(&format!("d{}/{i}", i % 7), b"");
        }
        let start = std::time::Instant::now();
        assert_eq!(p.unpack(t).unwrap().entries, n);
        start.elapsed()
    };
    // A machine that others use too is not measured by the second.
    let (few, many) = (time(2_000), time(20_000));
    let most = few * 40 + std::time::Duration::from_secs(5);
    assert!(many < most, "{few:?} and {many:?}");
}

#[test]
fn steps_along_symlinks_are_counted() {
    let p = Place::new("steps");
    // Each link goes down and up a thousand times, and then to the next.
    let there_and_back = "d/../".repeat(800);
    let mut t = tar().dir("d");
    for i in 0..39 {
        t = t.pax(&[("linkpath", format!("{there_and_back}l{}", i + 1).as_bytes())]);
        t = t.symlink(&format!("l{i}"), "");
    }
    t = t.dir("l39");
    for i in 0..100 {
        t = t.file(&format!("l0/{i}"), b"").file(&format!("{i}"), b"");
    }
    let e = p.unpack(t).unwrap_err();
    assert!(e.to_string().contains("steps along symlinks"), "{e}");
}
