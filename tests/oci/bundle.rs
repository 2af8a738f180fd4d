//! A bundle, a private `--root`, and the count of what is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "../shared/ran.rs"]
mod ran;
pub(crate) use ran::Ran;

pub(crate) struct Bundle {
    dir: PathBuf,
    name: String,
    runtime: PathBuf,
}

/// A root filesystem of Debian's busybox-static, made once.
fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: run `make test`"
        );
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("oci-rootfs");
        let script = "rm -rf \"$1\"; cd /; for d in bin dev etc proc sys tmp; do mkdir -p \"$1/$d\"; done; \
             cp \"$(command -v busybox)\" \"$1/bin/busybox\"; \
             echo root:x:0:0::/root:/bin/sh > \"$1/etc/passwd\"; \
             for a in $(busybox --list | grep -vx busybox); do ln -sf busybox \"$1/bin/$a\"; done";
        let made = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&dir)
            .status();
        assert!(made.unwrap().success());
        dir
    })
}

impl Bundle {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("carob-oci-test-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .args([rootfs(), &dir.join("rootfs")])
            .status();
        assert!(copied.unwrap().success());
        let runtime = match std::env::var_os("CAROB_TEST_RUNTIME") {
            None => env!("CARGO_BIN_EXE_carob-oci").into(),
            Some(program) => {
                let copy = dir.join("runtime");
                let script = "cp \"$(command -v \"$1\")\" \"$2\"";
                let copied = Command::new("sh")
                    .args(["-c", script, "sh"])
                    .args([program.as_ref(), copy.as_os_str()])
                    .status();
                assert!(copied.unwrap().success(), "{program:?}");
                copy
            }
        };
        Bundle { dir, name, runtime }
    }

    /// The program that is tested.
    #[allow(dead_code)] // not every program asks
    pub(crate) fn runtime(&self) -> &Path {
        &self.runtime
    }

    fn is_peer(&self) -> bool {
        self.runtime.starts_with(&self.dir)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Of its cgroup, and unlike any other bundle's.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The configuration of `spec`, changed.
    pub(crate) fn config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir.join("config.json");
        let _ = std::fs::remove_file(&path);
        // Ours whichever is tested: they differ in the namespaces.
        let made = Command::new(env!("CARGO_BIN_EXE_carob-oci"))
            .args(["spec", "--bundle"])
            .arg(&self.dir)
            .status();
        assert!(made.unwrap().success());
        let mut c: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        c["process"]["terminal"] = false.into();
        // On cgroups v1 `spec` writes none.
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        if !kinds.iter().any(|n| n["type"] == "cgroup") {
            kinds.push(serde_json::json!({"type": "cgroup"}));
        }
        c["linux"]["cgroupsPath"] = format!("/{}", self.name).into();
        if self.is_peer() {
            // An older one knows no newer.
            c["ociVersion"] = "1.0.2".into();
        }
        change(&mut c);
        std::fs::write(&path, c.to_string()).unwrap();
    }

    pub(crate) fn sh(&self, script: &str, change: impl FnOnce(&mut Value)) {
        self.config(|c| {
            c["process"]["args"] = serde_json::json!(["/bin/sh", "-c", script]);
            change(c);
        });
    }

    pub(crate) fn oci(&self, args: &[&str]) -> Ran {
        // What is created keeps its stdio: files, so that nobody waits for it.
        let file = |name| std::fs::File::create(self.dir.join(name)).unwrap();
        let status = Command::new("timeout")
            .args(["-k", "1", "20"])
            .arg(&self.runtime)
            .arg("--root")
            .arg(self.dir.join("state"))
            .args(args)
            .env_remove("CAROB_LOG")
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .status()
            .unwrap();
        let text = |name| std::fs::read_to_string(self.dir.join(name)).unwrap();
        Ran {
            code: status.code().unwrap_or(-1),
            stdout: text("stdout"),
            stderr: text("stderr"),
        }
    }

    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.oci(&["state", id]).ok()).unwrap()
    }

    #[track_caller]
    pub(crate) fn becomes(&self, id: &str, status: &str) {
        let what = format!("{id} is {status}");
        until(10, &what, || self.state(id)["status"] == status);
    }

    fn left(&self) -> Vec<String> {
        let dir = self.dir.to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut left: Vec<String> = mounts
            .lines()
            .filter(|l| l.contains(dir))
            .map(str::to_owned)
            .collect();
        let ids = std::fs::read_dir(self.dir.join("state"));
        left.extend(
            ids.into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path().display().to_string()),
        );
        let mut cgroups = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(at) = cgroups.pop() {
            for e in std::fs::read_dir(&at).into_iter().flatten().flatten() {
                if e.file_type().is_ok_and(|t| t.is_dir()) {
                    if e.file_name().to_string_lossy().contains(&self.name) {
                        left.push(e.path().display().to_string());
                    } else if at.components().count() < 5 {
                        cgroups.push(e.path());
                    }
                }
            }
        }
        left
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let left = self.left();
        let ids = std::fs::read_dir(self.dir.join("state"));
        for e in ids.into_iter().flatten().flatten() {
            let id = e.file_name().into_string().unwrap();
            let _ = self.oci(&["delete", "--force", &id]);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        // What a peer leaves is its own affair.
        if !std::thread::panicking() && !self.is_peer() {
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}

/// Asks until it is so, or fails after so many seconds.
#[track_caller]
pub(crate) fn until(seconds: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
