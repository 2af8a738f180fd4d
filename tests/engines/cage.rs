//! Where a test's engine lives: mount and network namespaces of its own, in which
//! `/run`, `/dev/shm` and, where wanted, a file of `/etc` are the test's. So the
//! engine's fixed paths (`/run/containerd`, podman's locks) and its bridges are
//! neither taken from the machine nor left on it. Cgroups are the machine's, below
//! a parent of the test's name.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;

/// Runs a test in a thread of its own, as namespaces are entered by the thread.
pub(crate) fn apart(test: impl FnOnce() + Send + 'static) {
    if let Err(e) = std::thread::spawn(test).join() {
        panic::resume_unwind(e);
    }
}

pub(crate) struct Cage {
    dir: PathBuf,
    tag: String,
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
}

/// The demo images, built once by the repository's own recipe.
pub(crate) fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/build"))
            .arg(&dir)
            .arg("busybox")
            .output()
            .expect("rootfs/build runs");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        dir.join("busybox.tar").to_str().unwrap().to_owned()
    })
}

impl Cage {
    /// Moves the calling thread, and with it all that it starts.
    pub(crate) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: run `make test`"
        );
        image();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Of one width: none is the beginning of another.
        let tag = format!("carob-engine-{}-{n:03}", std::process::id());
        let dir = std::env::temp_dir().join(&tag);
        fs::create_dir(&dir).unwrap();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        // The thread has a working directory of its own too (CLONE_NEWNS implies
        // CLONE_FS): conmon 2.1.6 writes a file `oom` into it.
        std::env::set_current_dir(&dir).unwrap();
        // What the machine unmounts goes away here too; and shared, as systemd has
        // it, so that a mount which escapes from a container shows up.
        for flag in [MsFlags::MS_SLAVE, MsFlags::MS_SHARED] {
            mount(NONE, "/", NONE, flag | MsFlags::MS_REC, NONE).unwrap();
        }
        for at in ["/run", "/dev/shm"] {
            mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        }
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        let mut cage = Cage {
            dir,
            tag,
            mounts: BTreeSet::new(),
            links: links(),
        };
        cage.mounts = cage.mounts();
        cage
    }

    /// A directory for the test, gone in the end.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unique on this machine: names the parent cgroup.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Inside, this file of the machine has this content.
    pub(crate) fn cover(&mut self, file: &str, content: &str) {
        let own = self.dir.join(file.replace('/', "_"));
        fs::write(&own, content).unwrap();
        mount(Some(&own), file, NONE, MsFlags::MS_BIND, NONE)
            .unwrap_or_else(|e| panic!("bind over {file}: {e}"));
        self.mounts = self.mounts();
    }

    /// Those that anything in here could have made: mount point, root and type.
    fn mounts(&self) -> BTreeSet<String> {
        let dir = self.dir.to_str().unwrap();
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let lines = table.lines().map(|l| {
            let (fields, kind) = l.split_once(" - ").unwrap();
            let fields: Vec<&str> = fields.split(' ').collect();
            format!("mount {} {} {kind}", fields[4], fields[3])
        });
        // Podman mounts its storage on itself and marks where network namespaces
        // are kept; it leaves both.
        lines
            .filter(|l| l.contains(dir) || l.contains(" /run/") || l.contains(" /dev/shm"))
            .filter(|l| !l.contains("/root/overlay /") && !l.starts_with("mount /run/netns "))
            .collect()
    }

    /// Parents first.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut level = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(at) = level.pop() {
            let ours = at.to_str().unwrap().contains(&self.tag);
            // Below the top or below one controller; an engine in a cgroup of its own
            // may count from there.
            if ours || at.components().count() < 7 {
                level.extend(directories(&at));
            }
            if ours {
                found.push(at);
            }
        }
        found
    }

    fn processes(&self) -> Vec<(i32, String)> {
        let own = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let pids = directories(Path::new("/proc"));
        let pids = pids
            .iter()
            .filter_map(|d| d.file_name()?.to_str()?.parse().ok());
        pids.filter_map(|pid: i32| {
            let proc = Path::new("/proc").join(pid.to_string());
            let same = fs::read_link(proc.join("ns/mnt")).is_ok_and(|ns| ns == own);
            let cgroups = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
            let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
            let (name, rest) = stat.rsplit_once(") ")?;
            // A dead one is the reaper's affair, and PID 1 takes its time.
            let dead = rest.starts_with(['Z', 'X']);
            ((same || cgroups.contains(&self.tag)) && !dead).then(|| (pid, name.to_owned()))
        })
        .collect()
    }

    /// What is here and was not in the beginning.
    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self.mounts().difference(&self.mounts).cloned().collect();
        let links = links();
        left.extend(links.difference(&self.links).map(|l| format!("link {l}")));
        left.extend(
            self.processes()
                .iter()
                .map(|(_, name)| format!("process {name})")),
        );
        // The runtime's records: our own default, and what containerd's shim names.
        for state in [
            "/run/carob-oci",
            &format!("/run/containerd/runc/{}", self.tag),
        ] {
            let records = fs::read_dir(state).into_iter().flatten().flatten();
            left.extend(records.map(|e| format!("record {}", e.path().display())));
        }
        // A parent that the engine made stays, as it does with runc: the test's own,
        // podman's for conmon and for each pod (64 hexadecimal digits).
        let parent = |name: &str| {
            name == self.tag
                || name == "conmon"
                || name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
        };
        left.extend(
            self.cgroups()
                .iter()
                .filter(|d| !parent(d.file_name().unwrap().to_str().unwrap()))
                .map(|d| format!("cgroup {}", d.display())),
        );
        left
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        // Engines clean up after a container in the background.
        let left = loop {
            let left = self.left();
            if left.is_empty() || Instant::now() > end {
                break left;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for _ in 0..100 {
            let alive = self.processes();
            for (pid, _) in &alive {
                let pid = nix::unistd::Pid::from_raw(*pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
            }
            let cgroups = self.cgroups();
            for d in cgroups.iter().rev() {
                let _ = fs::remove_dir(d);
            }
            if alive.is_empty() && cgroups.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Mounts below it end with the namespace; only the files have to go.
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let points = table.lines().filter_map(|l| l.split(' ').nth(4));
        let inside: Vec<&str> = points
            .filter(|p| Path::new(p).starts_with(&self.dir))
            .collect();
        for point in inside.iter().rev() {
            let _ = nix::mount::umount2(*point, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.dir);
        if !left.is_empty() {
            let text = format!("left behind: {left:#?}");
            assert!(std::thread::panicking(), "{text}");
            eprintln!("{text}");
        }
    }
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Of the thread's own network namespace, which /sys does not show.
fn links() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = table.lines().filter_map(|l| l.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}
