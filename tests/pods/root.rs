//! A private root, the `carob` in it, and the count of what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carob::inside::pod;
use serde_json::{Value, json};

#[path = "../shared/ran.rs"]
mod ran;
pub(crate) use ran::Ran;

pub(crate) const IMAGE: &str = "localhost/carob/busybox:1";

/// Everything of one test. Dropping it deletes its Pods and checks that nothing is
/// left.
pub(crate) struct Root {
    dir: PathBuf,
}

/// A Pod whose last container runs the script; `rest` ends with that container's
/// name.
pub(crate) fn pod_text(name: &str, image: &str, rest: &str, script: &str) -> String {
    let script: String = script.lines().map(|l| format!("      {l}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 0\n{rest}    image: {image}\n    imagePullPolicy: Never\n    \
         command:\n    - /bin/busybox\n    - sh\n    - -c\n    - |\n{script}"
    )
}

/// The demo images, built once for all tests by the repository's own recipe.
pub(crate) fn images() -> &'static Path {
    static IMAGES: OnceLock<PathBuf> = OnceLock::new();
    IMAGES.get_or_init(|| {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: run `make test`"
        );
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("images");
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/build"))
            .arg(&dir)
            .output()
            .expect("rootfs/build runs");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        dir
    })
}

impl Root {
    /// With the demo image loaded.
    pub(crate) fn new() -> Self {
        let root = Root::empty();
        root.load_image();
        root
    }

    /// As [`Root::new`], of a name that ends so.
    pub(crate) fn deep(end: &str) -> Self {
        let root = Root::named(end);
        root.load_image();
        root
    }

    pub(crate) fn load_image(&self) {
        let image = images().join("busybox.tar");
        self.carob(&["load", "-i", image.to_str().unwrap()]).ok();
    }

    pub(crate) fn empty() -> Self {
        Root::named("")
    }

    /// As [`Root::empty`], and on a disk: Debian 13 has a tmpfs at /tmp.
    pub(crate) fn on_disk() -> Self {
        let tmp = std::env::temp_dir();
        let kind = nix::sys::statfs::statfs(&tmp).unwrap().filesystem_type();
        match kind == nix::sys::statfs::TMPFS_MAGIC {
            true => Root::below(Path::new("/var/tmp"), ""),
            false => Root::below(&tmp, ""),
        }
    }

    fn named(end: &str) -> Self {
        Root::below(&std::env::temp_dir(), end)
    }

    fn below(parent: &Path, end: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("carob-test-{}-{n}{end}", std::process::id());
        let dir = parent.join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(dir.join("facts")).unwrap();
        Root { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_carob"));
        c.env_remove("CAROB_ROOT")
            .env_remove("CAROB_LOG")
            .env(pod::VARIABLE, self.dir.join("facts"))
            .arg("--root")
            .arg(&self.dir)
            .args(args);
        c
    }

    pub(crate) fn carob(&self, args: &[&str]) -> Ran {
        self.command(args)
            .stdin(Stdio::null())
            .output()
            .map(|output| self.ran(output))
            .expect("carob runs")
    }

    /// Hints without the `--root` that they have: texts do not depend on the directory.
    fn ran(&self, output: Output) -> Ran {
        let mut ran = Ran::from(output);
        let root = format!("carob --root {} ", self.dir.display());
        ran.stderr = ran.stderr.replace(&root, "carob ");
        ran
    }

    /// With this on its standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Ran {
        self.feed_to(self.command(args), input)
    }

    /// To a command line that ends with [`Root::command`]'s.
    pub(crate) fn feed_to(&self, mut command: Command, input: &str) -> Ran {
        use std::io::Write;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("carob runs");
        // Whether it wants to hear it is its own affair.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        self.ran(child.wait_with_output().unwrap())
    }

    pub(crate) fn apply(&self, manifest: &str) -> Ran {
        self.feed(&["apply", "-f", "-"], manifest)
    }

    /// What a shell script in the Pod's first container says; it has to succeed.
    #[track_caller]
    pub(crate) fn sh(&self, pod: &str, script: &str) -> String {
        self.carob(&["exec", pod, "--", "sh", "-c", script]).ok()
    }

    /// A field of a Pod, by kubectl's jsonpath; empty if there is none.
    pub(crate) fn field(&self, pod: &str, path: &str) -> String {
        self.carob(&["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")])
            .ok()
    }

    /// Waits until a container has logged this text.
    #[track_caller]
    pub(crate) fn says(&self, pod: &str, container: &str, text: &str) {
        let said = until(|| {
            let log = self.carob(&["logs", pod, "-c", container]);
            if log.stdout.contains(text) {
                Ok(())
            } else {
                Err(log)
            }
        });
        said.unwrap_or_else(|log| panic!("{container} does not say {text:?}: {log:?}"));
    }

    /// Waits until a field of a Pod has this value.
    #[track_caller]
    pub(crate) fn becomes(&self, pod: &str, path: &str, value: &str) {
        let is = until(|| {
            let is = self.field(pod, path);
            if is == value { Ok(()) } else { Err(is) }
        });
        is.unwrap_or_else(|is| panic!("{path} is {is:?}, not {value:?}"));
    }

    /// Without asking carob, which would revive a monitor.
    pub(crate) fn uid(&self, pod: &str) -> String {
        let link = self.dir.join("run/names/default").join(pod);
        let uid = std::fs::read_link(link).unwrap();
        uid.to_str().unwrap().to_owned()
    }

    pub(crate) fn pid(&self, pod: &str, container: &str) -> i32 {
        let uid = self.field(pod, ".metadata.uid");
        let state = std::fs::read(self.dir.join("run/pods").join(uid).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let pid = &state["containers"][container]["now"]["Running"]["pid"];
        pid.as_i64()
            .unwrap_or_else(|| panic!("{container} does not run: {state}")) as i32
    }

    pub(crate) fn monitor_pid(&self, pod: &str) -> i32 {
        let uid = self.field(pod, ".metadata.uid");
        let state = std::fs::read(self.dir.join("run/pods").join(uid).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["monitor_pid"].as_i64().unwrap() as i32
    }

    /// What of this root the machine still holds: mounts, cgroups, links, nft
    /// tables, processes, units of systemd, records.
    pub(crate) fn left(&self) -> Vec<String> {
        let dir = self.dir.to_str().unwrap();
        let tag = tag_of(&self.dir);
        let mut left = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|l| l.contains(dir))
                .map(|l| format!("mount {l}")),
        );
        let links = std::fs::read_dir("/sys/class/net").unwrap();
        left.extend(
            links
                .map(|l| l.unwrap().file_name().to_string_lossy().into_owned())
                .filter(|l| l.contains(&tag))
                .map(|l| format!("link {l}")),
        );
        let mut cgroups = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(at) = cgroups.pop() {
            for e in std::fs::read_dir(&at).into_iter().flatten().flatten() {
                if e.file_type().is_ok_and(|t| t.is_dir()) {
                    if e.file_name().to_string_lossy().contains(&tag) {
                        left.push(format!("cgroup {}", e.path().display()));
                    } else if at.components().count() < 5 {
                        cgroups.push(e.path());
                    }
                }
            }
        }
        let nft = Command::new("nft")
            .args(["list", "tables"])
            .output()
            .expect("nft runs");
        let nft = String::from_utf8_lossy(&nft.stdout).into_owned();
        left.extend(
            nft.lines()
                .filter(|l| l.contains(&tag))
                .map(|l| format!("nft {l}")),
        );
        for e in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(e.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.starts_with("carob monitor") && line.contains(&format!("{dir} ")) {
                left.push(format!("process {} {line}", e.path().display()));
            }
        }
        if self.dir.join("run/bare").exists() {
            left.push("file run/bare".into());
        }
        // Where systemd is init, a root with Pods has a service.
        left.extend(
            std::fs::read_dir("/run/systemd/transient")
                .into_iter()
                .flatten()
                .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
                .filter(|unit| unit.contains(&tag))
                .map(|unit| format!("unit {unit}")),
        );
        for sub in ["run/pods", "run/names", "run/network", "data/pods", "log"] {
            for e in std::fs::read_dir(self.dir.join(sub))
                .into_iter()
                .flatten()
                .flatten()
            {
                left.push(format!("file {}", e.path().display()));
            }
        }
        left
    }
}

impl Root {
    /// What the monitors of this root were told leads to the same actions again. How many
    /// facts that was.
    pub(crate) fn replay(&self) -> usize {
        let records = std::fs::read_dir(self.dir.join("facts"));
        let records = records.into_iter().flatten();
        records
            .map(|entry| pod::replay(&entry.unwrap().path()).unwrap())
            .sum()
    }
}

impl Root {
    /// Deletes every Pod by force, as far as that goes.
    pub(crate) fn kill_all(&self, more: &[&str]) {
        let force = ["--all", "--grace-period=0", "--force"];
        let _ = self.carob(&[&["delete", "pods", "-A"][..], &force, more].concat());
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let pods = self.carob(&["get", "pods", "-A", "-o", "name"]);
        self.kill_all(&[]);
        // The monitor goes last, after its Pod: there is no one left to ask.
        let left = until(|| {
            let left = self.left();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        if let Err(left) = left {
            let text = format!("left behind of {:?}: {left:#?}", pods.stdout);
            if !std::thread::panicking() {
                panic!("{text}");
            }
            eprintln!("{text}");
            return;
        }
        if !std::thread::panicking() {
            self.replay();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// How long a test waits for what has to come. Not a claim about speed: a machine in qemu
/// without KVM, with other tests beside this one, needs twenty times as long as another.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an idle machine needs at most, made longer for a slow one: tests/machines/run sets
/// `CAROB_TEST_SLOWNESS`, the factor, for machines whose processor is emulated.
pub(crate) fn slack(idle: Duration) -> Duration {
    let factor = std::env::var("CAROB_TEST_SLOWNESS").map_or(1, |text| text.parse().unwrap());
    idle * factor
}

/// Asks until the answer is good, or for [`PATIENCE`].
pub(crate) fn until<T, E>(mut ask: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(t) => return Ok(t),
            Err(e) if Instant::now() >= end => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// As `store::Layout` computes it.
pub(crate) fn tag_of(root: &Path) -> String {
    carob::inside::store::Layout::new(Some(root))
        .unwrap()
        .tag()
        .to_owned()
}

/// A Pod of one container that runs a shell script.
pub(crate) fn script_pod(name: &str, restart: &str, grace: u32, script: &str) -> String {
    let script: String = script.lines().map(|l| format!("      {l}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  restartPolicy: {restart}\n  \
         terminationGracePeriodSeconds: {grace}\n  containers:\n  - name: main\n    image: {IMAGE}\n    \
         imagePullPolicy: IfNotPresent\n    command:\n    - sh\n    - -c\n    - |\n{script}"
    )
}

/// A Pod with this spec, as JSON, which is YAML.
pub(crate) fn pod(name: &str, spec: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A container that runs a shell script; `extra` is merged in.
pub(crate) fn sh(name: &str, script: &str, extra: Value) -> Value {
    let mut c = json!({
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
    });
    if let Value::Object(extra) = extra {
        c.as_object_mut().unwrap().extend(extra);
    }
    c
}

/// Whether the process has not ended; a zombie has.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    state.is_some_and(|s| !matches!(s, b'Z' | b'X'))
}

/// Returns when the process has let go of its files: a command right after would else meet
/// the socket of a monitor that is dying.
pub(crate) fn kill_9(pid: i32) {
    let process = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(process, nix::sys::signal::SIGKILL);
    let _ = until(|| if alive(pid) { Err(()) } else { Ok(()) });
}

/// A file of the root's with this text, open for reading.
pub(crate) fn text_file(root: &Root, name: &str, text: &str) -> std::fs::File {
    let path = root.dir().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::File::open(path).unwrap()
}
