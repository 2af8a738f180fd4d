//! carob on Debian 12's kernel and pure cgroup v2, whatever this machine has.
//!
//! qemu boots that kernel with an initramfs made here: busybox, this `carob`, the
//! demo image and the modules that a Pod needs, for the guest to load by itself.
//! `vm/init` does the checks there and says on the console how each went. No
//! disk, no network, no KVM: the same everywhere, and no root needed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// From power on to power off. It takes some 40 s on two idle cores.
const DEADLINE: Duration = Duration::from_secs(240);

/// What carob asks the kernel for; what these need is looked up in them.
const MODULES: [&str; 14] = [
    "bridge",
    "inet_diag",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_masq",
    "nft_nat",
    "overlay",
    "tcp_diag",
    "udp_diag",
    "veth",
];

const SETUP: &str = "`hack/setup test` installs it";

#[path = "vm/checkpoint.rs"]
mod checkpoint;
#[path = "vm/labels.rs"]
mod labels;
#[path = "shared/places.rs"]
mod places;

static PLACES: places::Places = places::Places::new(2);
#[path = "vm/systemd.rs"]
mod systemd;

#[test]
fn pods_on_another_kernel_and_pure_cgroup_v2() {
    let kernel = Kernel::find();
    let work = Work::new("pods");
    let initramfs = initramfs(&kernel, &work);
    verdict(&boot(&kernel, &initramfs, ""));
}

#[test]
fn the_systemd_driver() {
    let kernel = Kernel::find();
    let work = Work::new("systemd");
    let initramfs = systemd::initramfs(&work);
    verdict(&boot(&kernel, &initramfs, systemd::COMMAND_LINE));
}

#[test]
fn labels_of_selinux() {
    let kernel = Kernel::find();
    let work = Work::new("selinux");
    let initramfs = labels::initramfs(&work, "selinux");
    verdict(&boot(&kernel, &initramfs, labels::SELINUX));
}

#[test]
fn profiles_of_apparmor() {
    let kernel = Kernel::find();
    let work = Work::new("apparmor");
    let initramfs = labels::initramfs(&work, "apparmor");
    verdict(&boot(&kernel, &initramfs, labels::APPARMOR));
}

#[test]
fn checkpoints() {
    let kernel = Kernel::find();
    let work = Work::new("criu");
    verdict(&boot(&kernel, &checkpoint::initramfs(&kernel, &work), ""));
}

#[track_caller]
fn verdict(console: &[String]) {
    let failed: Vec<&String> = console
        .iter()
        .filter(|l| l.starts_with("CHECK FAILED "))
        .collect();
    let passed = console
        .iter()
        .filter(|l| l.starts_with("CHECK ok "))
        .count();
    let ended = console.iter().any(|l| l == "CHECKS done");
    assert!(
        failed.is_empty() && ended && passed > 0,
        "{passed} checks passed, {} failed{}: {failed:#?}\nthe console:\n{}",
        failed.len(),
        if ended {
            ""
        } else {
            ", the end was not reached"
        },
        console.join("\n"),
    );
}

/// Debian's kernel package, unpacked.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Kernel {
    fn find() -> Self {
        let dir = std::env::var_os("CAROB_KERNEL_DIR")
            .map_or_else(|| "/var/cache/carob-test-kernel".into(), PathBuf::from);
        let modules = dir.join("lib/modules");
        let release = std::fs::read_dir(&modules)
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .unwrap_or_else(|| panic!("no kernel in {}: {SETUP}", dir.display()));
        let name = release.file_name().into_string().unwrap();
        let image = dir.join(format!("boot/vmlinuz-{name}"));
        assert!(image.exists(), "no {}: {SETUP}", image.display());
        Kernel {
            image,
            modules: release.path(),
            release: name,
        }
    }
}

/// A directory that goes with the test.
struct Work(PathBuf);

impl Work {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("carob-vm-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Work(dir)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns the path of a cpio archive.
fn initramfs(kernel: &Kernel, work: &Work) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = work.0.join("tree");
    for dir in ["bin", "share"] {
        std::fs::create_dir_all(tree.join(dir)).unwrap();
    }
    let place = |from: &Path, to: &str| {
        std::fs::copy(from, tree.join(to)).unwrap_or_else(|e| panic!("{}: {e}", from.display()))
    };
    place(&sources.join("tests/vm/init"), "init");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tree.join("init"), executable).unwrap();
    for example in ["web.yaml", "limits.yaml"] {
        place(
            &sources.join("examples").join(example),
            &format!("share/{example}"),
        );
    }
    place_busybox(&tree.join("bin"));
    strip(env!("CARGO_BIN_EXE_carob"), &tree.join("bin/carob"));
    run(Command::new(sources.join("rootfs/build"))
        .arg(tree.join("share"))
        .arg("busybox"));
    add_modules(kernel, &tree, &MODULES);

    archive(&tree, &work.0.join("initramfs"))
}

#[track_caller]
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}: {SETUP}", from.display()));
}

/// With `sh`.
fn place_busybox(dir: &Path) {
    copy(&in_path("busybox"), &dir.join("busybox"));
    symlink("busybox", dir.join("sh")).unwrap();
}

/// The debug information is two thirds of a program, and memory in there.
fn strip(program: &str, to: &Path) {
    run(Command::new("strip").arg("-o").arg(to).arg(program));
}

fn archive(tree: &Path, to: &Path) -> PathBuf {
    run(Command::new("sh")
        .args(["-c", "find . | cpio -o -H newc -R 0:0 --quiet >\"$0\""])
        .arg(to)
        .current_dir(tree));
    to.to_owned()
}

/// Copies modules and what they depend on, at the places they have. The guest
/// makes modules.dep.
fn add_modules(kernel: &Kernel, tree: &Path, modules: &[&str]) {
    let to = tree.join("lib/modules").join(&kernel.release);
    std::fs::create_dir_all(&to).unwrap();
    for list in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        std::fs::copy(kernel.modules.join(list), to.join(list)).unwrap();
    }
    // One line for each module: kernel/net/bridge/bridge.ko
    let order = std::fs::read_to_string(to.join("modules.order")).unwrap();
    let mut wanted: Vec<String> = modules.iter().map(|m| m.to_string()).collect();
    let mut seen = HashSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let end = format!("/{name}.ko");
        // What is not a module is built in.
        let Some(path) = order.lines().find(|l| l.ends_with(&end)) else {
            continue;
        };
        let bytes = std::fs::read(kernel.modules.join(path)).unwrap();
        wanted.extend(dependencies(&bytes));
        std::fs::create_dir_all(to.join(path).parent().unwrap()).unwrap();
        std::fs::write(to.join(path), bytes).unwrap();
    }
}

/// `depends=llc,stp` of a module's .modinfo, NUL-terminated strings; file names
/// may have `-` where the names here have `_`, but none of these has.
fn dependencies(module: &[u8]) -> Vec<String> {
    module
        .split(|b| *b == 0)
        .find_map(|s| s.strip_prefix(b"depends="))
        .map(|names| String::from_utf8_lossy(names).into_owned())
        .unwrap_or_default()
        .split(',')
        .filter(|n| !n.is_empty())
        .map(String::from)
        .collect()
}

/// The lines of the console, until the machine is off.
fn boot(kernel: &Kernel, initramfs: &Path, more: &str) -> Vec<String> {
    let _place = PLACES.take();
    let child = Command::new(in_path("qemu-system-x86_64"))
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max"])
        .args(["-smp", "2", "-m", "768"])
        .args(["-nodefaults", "-nographic", "-nic", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        // A panic is a reboot, and a reboot the end.
        .arg("-append")
        .arg(format!("console=ttyS0 loglevel=1 panic=-1 {more}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("qemu-system-x86_64 starts");
    let mut machine = Machine(child);
    let mut output = BufReader::new(machine.0.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    // Ends with qemu, which is not ours to wait for beyond the deadline.
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + DEADLINE;
    let mut console = Vec::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => console.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return console,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                console.push(format!("the machine is not off after {DEADLINE:?}"));
                return console;
            }
        }
    }
}

/// Off at the latest when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn in_path(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|p| p.exists())
        .unwrap_or_else(|| panic!("no {program} in PATH: {SETUP}"))
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}: {SETUP}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
