//! A private root beside what attackers are after, and looks at both.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::ran::Ran;

pub(crate) struct Place {
    pub dir: PathBuf,
}

/// Of one file: all that an archive could have changed.
type Look = (u32, u32, u32, u64, u64, i64, i64, i64, i64, Vec<u8>);

impl Place {
    pub(crate) fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: run `make test`"
        );
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("carob-corpus-{}-{n}", std::process::id()));
        let canary = dir.join("canary");
        std::fs::create_dir_all(canary.join("dir/below")).unwrap();
        std::fs::write(canary.join("file"), "untouched").unwrap();
        std::fs::write(canary.join("dir/file"), "untouched").unwrap();
        std::fs::set_permissions(canary.join("file"), PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("file", canary.join("link")).unwrap();
        Place { dir }
    }

    pub(crate) fn canary(&self) -> String {
        self.dir.join("canary").to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_carob"));
        c.env_remove("CAROB_ROOT")
            .arg("--root")
            .arg(self.dir.join("root"))
            .args(args)
            .stdin(Stdio::null());
        c
    }

    pub(crate) fn carob(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("carob runs").into()
    }

    /// What is beside the store: the canary, and the directories on the way to the
    /// layers, which `..` would lead to.
    pub(crate) fn outside(&self) -> BTreeMap<PathBuf, Look> {
        let mut all = BTreeMap::new();
        look(&self.dir.join("canary"), true, &mut all);
        for dir in ["", "root", "root/data", "root/data/images"] {
            let names = std::fs::read_dir(self.dir.join(dir)).into_iter().flatten();
            let names: Vec<_> = names.flatten().map(|e| e.file_name()).collect();
            // Names alone: the program makes files there itself.
            for name in names.iter().filter(|n| *n != "image" && *n != "index.json") {
                all.insert(self.dir.join(dir).join(name), Look::default());
            }
        }
        for path in ["/", "/etc", "/etc/passwd", "/etc/shadow", "/tmp/evil"] {
            look(Path::new(path), false, &mut all);
        }
        all
    }

    /// What the store holds, but for the layers' insides.
    pub(crate) fn store(&self) -> Vec<String> {
        let images = self.dir.join("root/data/images");
        let mut all = Vec::new();
        for dir in ["records", "blobs/sha256", "layers", "partial", "ingest"] {
            let names = std::fs::read_dir(images.join(dir)).into_iter().flatten();
            let names = names.flatten().map(|e| e.file_name());
            all.extend(names.map(|n| format!("{dir}/{}", n.to_str().unwrap())));
        }
        all.sort();
        all
    }

    /// The image's layers, lowest first.
    pub(crate) fn layers(&self, image: &str) -> Vec<PathBuf> {
        let seen = self.carob(&["inspect", image]).ok();
        let seen: Value = serde_json::from_str(&seen).unwrap();
        let lower = seen[0]["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
        lower.split(':').rev().map(PathBuf::from).collect()
    }

    /// What a script says in the layers, one over the other, as a container has them.
    pub(crate) fn merged(&self, layers: &[PathBuf], script: &str) -> String {
        let mut all: Vec<&str> = layers.iter().rev().map(|l| l.to_str().unwrap()).collect();
        let empty = self.dir.join("empty");
        std::fs::create_dir_all(&empty).unwrap();
        all.push(empty.to_str().unwrap());
        let mount = format!(
            "mount -t overlay -o lowerdir={} overlay {m} && cd {m} && {script}",
            all.join(":"),
            m = self.dir.join("mnt").display()
        );
        std::fs::create_dir_all(self.dir.join("mnt")).unwrap();
        let out = Command::new("unshare")
            .args(["-m", "sh", "-ec", &mount])
            .output()
            .expect("unshare runs");
        std::fs::remove_dir(self.dir.join("mnt")).unwrap();
        std::fs::remove_dir(&empty).unwrap();
        Ran::from(out).said()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn look(path: &Path, below: bool, all: &mut BTreeMap<PathBuf, Look>) {
    let Ok(m) = std::fs::symlink_metadata(path) else {
        return;
    };
    let mut content = Vec::new();
    if below && m.is_file() {
        content = std::fs::read(path).unwrap();
    } else if m.is_symlink() {
        content = std::fs::read_link(path)
            .unwrap()
            .as_os_str()
            .as_bytes()
            .to_vec();
    }
    // Of the host's own directories the time is others' business.
    let (mtime, ctime) = match below || m.is_file() {
        true => ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec())),
        false => ((0, 0), (0, 0)),
    };
    all.insert(
        path.to_owned(),
        (
            m.mode(),
            m.uid(),
            m.gid(),
            m.ino(),
            if below { m.nlink() } else { 0 },
            mtime.0,
            mtime.1,
            ctime.0,
            ctime.1,
            content,
        ),
    );
    if below && m.is_dir() {
        for e in std::fs::read_dir(path).unwrap() {
            look(&e.unwrap().path(), true, all);
        }
    }
}

/// What something in a layer has to be.
#[derive(Clone, Debug)]
pub(crate) enum Is {
    File(&'static str),
    Dir,
    Link(String),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
    /// overlayfs's own.
    Whiteout,
    Opaque,
    Plain,
    Absent,
    Mode(u32),
    Owner(u32, u32),
    Time(i64, u32),
    Size(u64),
    /// At most so many blocks of 512 bytes.
    Blocks(u64),
    Xattr(&'static str, &'static [u8]),
    NoXattr(&'static str),
    Same(&'static str),
}

impl Is {
    #[track_caller]
    pub(crate) fn check(&self, case: &str, layer: &Path, name: &[u8]) {
        let path = layer.join(Path::new(std::ffi::OsStr::from_bytes(name)));
        let about = format!("{case}: {}", String::from_utf8_lossy(name));
        let found = std::fs::symlink_metadata(&path);
        if let Is::Absent = self {
            return assert!(found.is_err(), "{about} is there");
        }
        let m = found.unwrap_or_else(|e| panic!("{about}: {e}"));
        let xattr = |name: &str| {
            let file = std::fs::File::open(&path).unwrap();
            carob::inside::sys::fgetxattr(&file, &CString::new(name).unwrap())
        };
        let device = |major, minor| nix::sys::stat::makedev(major, minor);
        match self {
            Is::File(text) => {
                assert!(m.is_file(), "{about}: {m:?}");
                assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes(), "{about}");
            }
            Is::Dir => assert!(m.is_dir(), "{about}: {m:?}"),
            Is::Link(to) => {
                assert_eq!(std::fs::read_link(&path).unwrap(), Path::new(to), "{about}")
            }
            Is::Fifo => assert!(m.file_type().is_fifo(), "{about}"),
            Is::Char(a, b) => {
                assert!(m.file_type().is_char_device(), "{about}");
                assert_eq!(m.rdev(), device(u64::from(*a), u64::from(*b)), "{about}");
            }
            Is::Block(a, b) => {
                assert!(m.file_type().is_block_device(), "{about}");
                assert_eq!(m.rdev(), device(u64::from(*a), u64::from(*b)), "{about}");
            }
            Is::Whiteout => {
                assert!(
                    m.file_type().is_char_device() && m.rdev() == 0,
                    "{about}: {m:?}"
                );
            }
            Is::Opaque => assert_eq!(xattr("trusted.overlay.opaque").unwrap(), b"y", "{about}"),
            Is::Plain => assert!(xattr("trusted.overlay.opaque").is_err(), "{about}"),
            Is::Absent => {}
            Is::Mode(mode) => assert_eq!(m.mode() & 0o7777, *mode, "{about}"),
            Is::Owner(uid, gid) => assert_eq!((m.uid(), m.gid()), (*uid, *gid), "{about}"),
            Is::Time(s, n) => {
                assert_eq!((m.mtime(), m.mtime_nsec()), (*s, i64::from(*n)), "{about}")
            }
            Is::Size(size) => assert_eq!(m.len(), *size, "{about}"),
            Is::Blocks(most) => assert!(m.blocks() <= *most, "{about}: {} blocks", m.blocks()),
            Is::Xattr(name, value) => assert_eq!(xattr(name).unwrap(), *value, "{about}: {name}"),
            Is::NoXattr(name) => assert!(xattr(name).is_err(), "{about}: {name}"),
            Is::Same(other) => {
                let other = std::fs::symlink_metadata(layer.join(other)).unwrap();
                assert_eq!(m.ino(), other.ino(), "{about}");
            }
        }
    }
}
