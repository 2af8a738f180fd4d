//! Attacks on `carob-oci` from a hostile root filesystem, a hostile process inside
//! and hostile text, by class: docs/attacks.md. CAROB_TEST_RUNTIME=PROGRAM puts
//! another runtime with runc's command line in its place, to see that a test can
//! fail; the program is copied first, for one of the attacks overwrites it.

#[path = "oci/bundle.rs"]
#[allow(dead_code)]
mod bundle;
#[path = "attacks/inside.rs"]
mod inside;
#[path = "attacks/rootfs.rs"]
mod rootfs;
#[path = "attacks/text.rs"]
mod text;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bundle::Bundle;

/// A directory of the host that nobody may touch: beside the bundle's rootfs, with
/// things that are worth having.
struct Outside {
    dir: PathBuf,
    before: Vec<String>,
}

impl Outside {
    fn of(b: &Bundle) -> Self {
        let dir = b.dir().join("outside");
        std::fs::create_dir_all(dir.join("dir")).unwrap();
        std::fs::write(dir.join("file"), "secret").unwrap();
        let before = listing(&dir);
        Outside { dir, before }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    #[track_caller]
    fn is_untouched(&self, by: &str) {
        assert_eq!(listing(&self.dir), self.before, "{by}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.dir.to_str().unwrap()),
            "{by}: {mounts}"
        );
    }
}

/// Names, modes and contents of all that is there.
fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for e in std::fs::read_dir(&dir).unwrap() {
            let path = e.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            let text = match m.is_file() {
                true => std::fs::read(&path).unwrap(),
                false => Vec::new(),
            };
            let mode = m.permissions().mode();
            all.push(format!(
                "{} {mode:o} {:?}",
                path.display(),
                String::from_utf8_lossy(&text)
            ));
            if m.is_dir() {
                dirs.push(path);
            }
        }
    }
    all.sort();
    all
}
