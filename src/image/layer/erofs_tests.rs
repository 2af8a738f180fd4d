//! The same archives to `unpack` and to the kernel's own reading of what is written
//! here. As root, where the kernel mounts erofs from files (6.12).

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::{self, Metadata};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::image::archive::tar::tests::Builder;
use crate::image::layer::unpack::unpack;
use crate::linux::mount::{ATTR_RDONLY, Mount};
use crate::sys::xattr::fgetxattr;

/// A directory on a disk, whose files the kernel mounts, and one in memory: thousands
/// of inodes that come and go make ext4 slow for every other test.
struct Place(PathBuf, PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let base =
            std::env::var_os("CAROB_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = base.join(format!("carob-erofs-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let memory = Path::new("/dev/shm").join(dir.file_name().unwrap());
        fs::create_dir_all(&memory).unwrap();
        Place(dir, memory)
    }

    fn file(&self) -> File {
        let path = self.0.join("layer.erofs");
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .clone();
        options.open(path).unwrap()
    }

    fn write(&self, tar: &[u8]) -> Result<(Unpacked, File)> {
        let file = self.file();
        Budget::none(|b| write(tar, &file, &digest(), b)).map(|done| (done, file))
    }

    /// What the kernel makes of it, without a place in any namespace.
    fn mount(&self) -> (Mount, PathBuf) {
        let source = self.0.join("layer.erofs");
        let mount = Mount::from("erofs", source.to_str().unwrap(), &[], ATTR_RDONLY).unwrap();
        let path = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
        (mount, path.into())
    }

    /// Both ways; what was different.
    fn compare(&self, tar: &[u8]) -> Option<String> {
        let dir = self.1.join("dir");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let unpacked = Budget::none(|b| unpack(tar, OwnedFd::from(File::open(&dir).unwrap()), b));
        match (unpacked, self.write(tar)) {
            (Ok(a), Ok((b, file))) => {
                assert_eq!(a, b);
                assert!(same(tar, &file, &digest()).unwrap(), "made anew it differs");
                let (_mount, root) = self.mount();
                let (a, b) = (seen(&dir), seen(&root));
                let different = |(path, of): (&PathBuf, &Seen)| {
                    (b.get(path) != Some(of))
                        .then(|| format!("{path:?}: {of:#?} against {:#?}", b.get(path)))
                };
                a.iter()
                    .find_map(different)
                    .or_else(|| (a.len() != b.len()).then(|| format!("{:?}", b.keys())))
            }
            (Err(a), Err(b)) if a.kind() == b.kind() => None,
            (a, b) => Some(format!("{a:?} against {b:?}")),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_dir_all(&self.1);
    }
}

fn digest() -> Digest {
    Digest::of(b"layer")
}

#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    names: u64,
    size: Option<u64>,
    /// `None`: it is not in the archive.
    mtime: Option<(i64, i64)>,
    content: u64,
    target: Option<PathBuf>,
    xattrs: BTreeMap<&'static CStr, Vec<u8>>,
    /// The first path of the same inode.
    first: PathBuf,
}

const XATTRS: [&CStr; 5] = [
    c"user.a",
    c"user.bb",
    c"user.overlay.opaque",
    c"security.capability",
    c"trusted.overlay.opaque",
];

/// Everything below a directory, by path.
fn seen(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut all, mut first) = (BTreeMap::new(), HashMap::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        // With a slash: the root is a link of /proc.
        let at = root.join("").join(&path);
        let meta = fs::symlink_metadata(&at).unwrap_or_else(|e| panic!("{at:?}: {e}"));
        let mut names: Vec<_> = Vec::new();
        if meta.is_dir() {
            names.extend(
                fs::read_dir(&at)
                    .unwrap()
                    .map(|e| path.join(e.unwrap().file_name())),
            );
            names.sort();
            todo.extend(names.into_iter().rev());
        }
        let of = first
            .entry(meta.ino())
            .or_insert_with(|| path.clone())
            .clone();
        all.insert(path, look(&at, &meta, of));
    }
    all
}

fn look(at: &Path, meta: &Metadata, first: PathBuf) -> Seen {
    let mut xattrs = BTreeMap::new();
    let mut content = 0;
    if meta.is_dir() || meta.is_file() {
        let file = File::open(at).unwrap();
        for name in XATTRS {
            if let Ok(value) = fgetxattr(&file, name) {
                xattrs.insert(name, value);
            }
        }
        if meta.is_file() && meta.len() < 1 << 30 {
            use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
            let bytes = fs::read(at).unwrap();
            assert_eq!(bytes.len() as u64, meta.len());
            content = BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes);
        }
    }
    // Archives here are of the year 1970, what has no time is of now.
    let now = meta.mtime() == 0 && meta.mtime_nsec() == 0 || meta.mtime() > 1_000_000_000;
    Seen {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        device: meta.rdev(),
        names: meta.nlink(),
        size: (!meta.is_dir()).then_some(meta.len()),
        mtime: (!now).then(|| (meta.mtime(), meta.mtime_nsec())),
        content,
        target: fs::read_link(at).ok().filter(|_| meta.is_symlink()),
        xattrs,
        first,
    }
}

fn tar() -> Builder {
    Builder::default()
}

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..=self.roll(3) {
            path.push_str(self.pick(&["a", "b", "c", "l", "m", "-x", "."]));
            path.push('/');
        }
        path.pop();
        path
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll(256) as u8).collect()
    }
}

const SIZES: [usize; 12] = [
    0, 1, 100, 3000, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 10_000,
];

fn random_archive(dice: &mut Dice) -> Vec<u8> {
    let mut t = tar();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut known = vec!["a".to_owned()];
    // Most long ones have something in them that is refused.
    let entries = [4, 9, 24][dice.roll(3)];
    for _ in 0..=dice.roll(entries) {
        let mut path = dice.path();
        let ids = (
            dice.roll(9).to_string(),
            (dice.roll(3) * 70_000).to_string(),
        );
        let mut pax: Vec<(&str, &[u8])> =
            vec![("uid", ids.0.as_bytes()), ("gid", ids.1.as_bytes())];
        if dice.roll(4) == 0 {
            pax.push((
                "mtime",
                dice.pick(&[b"-5.25".as_slice(), b"77.000000001", b"999999"]),
            ));
        }
        let size = [0, 1, 5, 300][dice.roll(4)];
        let value = dice.bytes(size);
        for (key, value) in [
            ("SCHILY.xattr.user.a", value.as_slice()),
            ("SCHILY.xattr.user.bb", b"second"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ] {
            if dice.roll(6) == 0 {
                pax.push((key, value));
            }
        }
        t = t.pax(&pax);
        let mode = [0o644, 0o755, 0o4755, 0o2755, 0o1777, 0][dice.roll(6)];
        let set_mode = move |b: &mut [u8]| {
            b[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        };
        t = match dice.roll(20) {
            0..5 => t.raw(&path, b'5', b"", set_mode),
            5..10 => {
                let size = SIZES[dice.roll(SIZES.len())];
                let content = dice.bytes(size);
                known.push(path.clone());
                t.raw(&path, b'0', &content, set_mode)
            }
            10..13 => {
                let target = dice.pick(&[
                    "a",
                    "/b/c",
                    "..",
                    "../../b",
                    "l",
                    "a/./../c",
                    "none/here",
                    "/",
                ]);
                t.symlink(&path, target)
            }
            13..16 => {
                let target = known[dice.roll(known.len())].clone();
                t.hard_link(&path, &target)
            }
            16 => t.raw(&path, b'6', b"", set_mode),
            17 => {
                let (kind, minor) = ([b'3', b'4'][dice.roll(2)], dice.roll(2) * 300);
                t.raw(&path, kind, b"", |b| {
                    set_mode(b);
                    b[329..337].copy_from_slice(b"0000000\0");
                    b[337..345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
                })
            }
            18 => {
                let at = path.rfind('/').map_or(0, |i| i + 1);
                path.insert_str(at, ".wh.");
                t.file(&path, b"")
            }
            _ => t.file(&(path + "/.wh..wh..opq"), b""),
        };
    }
    t.end()
}

#[test]
fn what_unpack_makes_the_kernel_finds() {
    let p = Place::new("random");
    let (mut good, mut bad) = (0, 0);
    for seed in 1..=400 {
        let archive = random_archive(&mut Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
        if let Some(difference) = p.compare(&archive) {
            panic!("seed {seed}: {difference}");
        }
        match p.write(&archive) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 100 && bad > 50, "{good} good, {bad} bad");
}

#[test]
fn every_size_and_many_names() {
    let p = Place::new("sizes");
    let mut dice = Dice(1);
    let mut t = tar();
    for (i, size) in SIZES
        .into_iter()
        .chain([70_000, 262_144, 300_001, 1 << 20])
        .enumerate()
    {
        t = t.file(&format!("sizes/{i}"), &dice.bytes(size));
    }
    for i in 0..5000 {
        let name = format!("{i}-{}", "n".repeat(i % 200));
        t = t
            .pax(&[("path", format!("many/{name}").as_bytes())])
            .file("x", name.as_bytes());
    }
    for i in 0..700 {
        t = t
            .symlink(&format!("links/{i}"), &"t/".repeat(i % 40 + 1))
            .dir(&format!("dirs/{i}/sub"));
    }
    let long = "a/".repeat(2047);
    t = t.pax(&[("linkpath", long.as_bytes())]).symlink("long", "x");
    assert_eq!(p.compare(&t.end()), None);
}

#[test]
fn hard_links_and_what_is_replaced() {
    let p = Place::new("links");
    let good = [
        tar()
            .file("a", b"1")
            .hard_link("b", "a")
            .hard_link("d/c", "b")
            .file("a", b"2"),
        tar()
            .file("x/f", b"1")
            .hard_link("g", "x/f")
            .file("x", b"")
            .hard_link("x", "g"),
        tar()
            .symlink("s", "t")
            .hard_link("h", "s")
            .dir("t")
            .file("h/f", b"1"),
        tar()
            .dir("d")
            .symlink("d/l", "..")
            .file("d/l/d", b"over its own parent"),
        tar()
            .file(".wh.w", b"")
            .hard_link("v", "w")
            .dir("v")
            .file("v/f", b""),
    ];
    for t in good {
        let archive = t.end();
        assert_eq!(p.compare(&archive), None);
        p.write(&archive).unwrap();
    }
    for t in [
        // The directory that makes room has the link's target in it.
        tar().file("d/f", b"").hard_link("d", "d/f"),
        tar().file("f", b"").file("f/g", b""),
        tar().symlink("l", "l").file("l/f", b""),
        tar().symlink("l", &"n".repeat(99)).symlink("e", ""),
        tar()
            .pax(&[("SCHILY.xattr.security.capability", b"short")])
            .file("f", b""),
        tar().pax(&[("SCHILY.xattr.user.", b"x")]).file("f", b""),
    ] {
        let archive = t.end();
        assert_eq!(p.compare(&archive), None);
        p.write(&archive).map(|w| w.0).unwrap_err();
    }
}

#[test]
fn holes_stay_holes() {
    use std::os::fd::AsFd;
    let p = Place::new("holes");
    let source = p.0.join("source");
    fs::create_dir(&source).unwrap();
    let file = File::create(source.join("sparse")).unwrap();
    file.set_len(3 << 30).unwrap();
    for at in [5, 1 << 20, (2 << 30) + 12_345] {
        file.write_all_at(b"data in a hole", at).unwrap();
    }
    File::create(source.join("empty"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let made = std::process::Command::new("tar")
        .args(["-S", "-cf", "-", "-C", source.to_str().unwrap(), "."])
        .output()
        .unwrap();
    assert!(made.status.success());
    let (_, layer) = p.write(&made.stdout).unwrap();
    assert!(
        layer.metadata().unwrap().blocks() * 512 < 1 << 20,
        "holes take room"
    );
    assert!(same(&made.stdout[..], &layer, &digest()).unwrap());
    let (_mount, root) = p.mount();
    let sparse = File::open(root.join("sparse")).unwrap();
    assert_eq!(sparse.metadata().unwrap().len(), 3 << 30);
    for at in [5, 1 << 20, (2 << 30) + 12_345] {
        let mut bytes = [0xff; 16];
        sparse.read_exact_at(&mut bytes, at - 1).unwrap();
        assert_eq!(&bytes, b"\0data in a hole\0");
    }
    let to = nix::unistd::lseek(sparse.as_fd(), 1 << 30, nix::unistd::Whence::SeekData).unwrap();
    assert!(to > 1 << 30, "copying it up would fill the disk");
    assert_eq!(fs::read(root.join("empty")).unwrap(), vec![0; 1 << 20]);
}

#[test]
fn the_same_archive_is_the_same_file() {
    let p = Place::new("same");
    let sound = |seed| Some(random_archive(&mut Dice(seed))).filter(|a| p.write(a).is_ok());
    let archive = (4711..).find_map(sound).unwrap();
    let bytes = |p: &Place| fs::read(p.0.join("layer.erofs")).unwrap();
    let first = bytes(&p);
    p.write(&archive).unwrap();
    assert_eq!(first, bytes(&p));
    assert_eq!(&first[1024 + 48..][..16], &uuid(&digest()));
    assert_ne!(uuid(&digest()), [0; 16]);
}

#[test]
fn a_changed_byte_is_found() {
    let p = Place::new("changed");
    let archive = tar()
        .file("a", &[7; 9000])
        .hard_link("b", "a")
        .dir("d")
        .symlink("d/s", "x")
        .end();
    let (_, file) = p.write(&archive).unwrap();
    let check = || same(&archive[..], &file, &digest()).unwrap();
    assert!(check());
    // The checksum, the root's inode, an inode with its link count, content.
    let link_count = {
        let (_mount, root) = p.mount();
        let ino = fs::metadata(root.join("a")).unwrap().ino();
        ino * SLOT + format::NLINK_AT
    };
    for at in [0, 1028, 1153, link_count, 2 * BLOCK + 5] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert!(!check(), "at {at}");
        file.write_all_at(&byte, at).unwrap();
    }
    let len = file.metadata().unwrap().len();
    file.set_len(len - BLOCK).unwrap();
    assert!(!check(), "cut short");
    file.set_len(len).unwrap();
    file.set_len(len + 1).unwrap();
    assert!(!check(), "longer");
}

#[test]
fn names_take_a_bounded_memory() {
    let p = Place::new("bound");
    let mut t = tar();
    for i in 0..2000 {
        t = t.file(&format!("d{}/{i}", i % 7), b"");
    }
    let archive = t.end();
    let file = p.file();
    let e = Budget::none(|b| write_to(&archive[..], &file, &digest(), b, 64 << 10)).unwrap_err();
    assert_eq!(e.kind(), crate::Kind::Unsupported);
    assert!(e.to_string().contains("too many names"), "{e}");
    assert!(e.get_hint().unwrap().contains("system layers dir"));
    Budget::none(|b| write_to(&archive[..], &file, &digest(), b, 256 << 10)).unwrap();
}
