//! What of the host an attack would touch, before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, Ran};
use super::ours;

/// What the container must never read.
pub(crate) const SECRET: &str = "a-secret-of-the-host";

type Stat = (u32, u32, u32, u64, i64);

/// A directory of the host's that hostile links lead to.
pub(crate) struct Canary {
    pub dir: PathBuf,
    before: BTreeMap<PathBuf, Stat>,
    bundle: PathBuf,
    mounts: String,
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

fn stats(at: &Path, all: &mut BTreeMap<PathBuf, Stat>) {
    let m = fs::symlink_metadata(at).unwrap();
    let stat = (m.mode(), m.uid(), m.gid(), m.size(), m.mtime_nsec());
    all.insert(at.to_owned(), stat);
    for e in fs::read_dir(at).into_iter().flatten().flatten() {
        match e.file_type().unwrap().is_dir() {
            true => stats(&e.path(), all),
            false => {
                let m = e.metadata().unwrap();
                let stat = (m.mode(), m.uid(), m.gid(), m.size(), m.mtime_nsec());
                all.insert(e.path(), stat);
            }
        }
    }
}

impl Canary {
    pub(crate) fn new(b: &Bundle) -> Self {
        super::works();
        let dir = b.dir().join("canary");
        fs::create_dir_all(dir.join("dir")).unwrap();
        fs::write(dir.join("file"), SECRET).unwrap();
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut before = BTreeMap::new();
        stats(&dir, &mut before);
        Canary {
            dir,
            before,
            bundle: b.dir().to_owned(),
            mounts: mounts(),
        }
    }

    /// Fails if anything here, or among the host's devices, has changed.
    #[track_caller]
    pub(crate) fn is_untouched(&self, by: &str) {
        let mut now = BTreeMap::new();
        stats(&self.dir, &mut now);
        assert_eq!(now, self.before, "{by}: the host's files");
        let text = fs::read_to_string(self.dir.join("file")).unwrap();
        assert_eq!(text, SECRET, "{by}");
        let null = fs::metadata("/dev/null").unwrap();
        let null = (null.mode() & 0o7777, null.uid(), null.gid(), null.rdev());
        // Whatever was found, the machine needs its null device, and so do the
        // other tests.
        fs::set_permissions("/dev/null", fs::Permissions::from_mode(0o666)).unwrap();
        std::os::unix::fs::chown("/dev/null", Some(0), Some(0)).unwrap();
        assert_eq!(null, (0o666, 0, 0, 0x103), "{by}: /dev/null");
        // Other tests mount too, elsewhere.
        let own = |all: &str| {
            let own = |l: &&str| l.contains(self.bundle.to_str().unwrap());
            all.lines().filter(own).count()
        };
        assert_eq!(own(&mounts()), own(&self.mounts), "{by}: mounts");
    }

    /// A command that prints the secret wherever it is found.
    pub(crate) fn search(&self) -> String {
        let up = "../".repeat(12);
        let (c, name) = (self.dir.display(), self.bundle.file_name().unwrap());
        format!(
            "for f in {c}/file {up}{c}/file /canary/file {up}tmp/{}/canary/file; do \
             cat $f 2>/dev/null; done; pwd; echo alive;",
            name.display()
        )
    }
}

/// Whether the program ran. One way or the other nothing of the host was read, no
/// time ran out, and the runtime did not fall over.
#[track_caller]
pub(crate) fn outcome(case: &str, ran: &Ran) -> bool {
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!all.contains(SECRET), "{case}: read the host: {all}");
    assert!(![124, 137].contains(&ran.code), "{case}: hangs: {all}");
    assert!(
        !all.contains("panicked") && !all.contains("goroutine "),
        "{case}: fell over: {all}"
    );
    let alive = ran.stdout.lines().any(|l| l == "alive");
    if ours() {
        assert!(
            alive || ran.code == 0 || !ran.stderr.trim().is_empty(),
            "{case}: no word why: {ran:?}"
        );
    }
    alive
}
