//! Pulls and loads that are killed at any moment, or find the disk full: what they
//! leave is sound, the next one finishes and fetches only what was missing, and the
//! store is then what it would have been, byte for byte.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carob::inside::image::Store;
use carob::inside::store::Layout;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use super::proxy::{Proxy, Vice};
use super::{Registry, archive};

const MOMENTS: u64 = 100;

/// In memory: what a kill may cut does not depend on the disk, and a hundred
/// syncfs(2) of a busy one take minutes.
struct Shm(PathBuf);

impl Shm {
    fn new(name: &str) -> Self {
        let dir = PathBuf::from(format!("/dev/shm/carob-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Shm(dir)
    }
}

impl Drop for Shm {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn carob(root: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_carob"));
    c.env_remove("CAROB_ROOT")
        .arg("--root")
        .arg(root)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    c
}

/// Its stderr, if it ends with this code.
#[track_caller]
fn ends(root: &Path, args: &[&str], code: i32) -> String {
    let out = carob(root, args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
    text
}

fn images(root: &Path) -> PathBuf {
    root.join("data/images")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().into_string().unwrap())
        .collect()
}

/// The checks in this process, which spares a hundred starts of a debug build.
#[track_caller]
fn is_sound(root: &Path, about: &str) {
    let store = Store::open(&Layout::new(Some(root)).unwrap()).unwrap();
    let report = store.check(false, &|_| false).unwrap();
    assert_eq!(report.faults, [], "{about}");
}

#[track_caller]
fn is_the_same(reference: &Path, root: &Path, about: &str) {
    let out = Command::new("diff")
        .args(["-r", "--no-dereference", "-x", "lock"])
        .args([images(reference), images(root)])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{about}: {}",
        String::from_utf8_lossy(&out.stdout)
    );
    for dir in ["ingest", "partial"] {
        assert_eq!(names(&images(root).join(dir)), [""; 0], "{about}: {dir}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root.to_str().unwrap()), "{about}");
}

/// What of a blob a kill has left: all of it, or its beginning.
fn kept(root: &Path, hex: &str) -> Option<u64> {
    let images = images(root);
    let finished = names(&images.join("ingest"))
        .into_iter()
        .any(|t| images.join(format!("ingest/{t}/{hex}.blob")).exists());
    if finished || images.join("blobs/sha256").join(hex).exists() {
        return None;
    }
    let partial = images.join("partial").join(hex).metadata();
    Some(partial.map_or(0, |m| m.len()))
}

/// Starts it, and kills it after that time.
fn killed(root: &Path, args: &[&str], after: Duration) {
    let mut child = carob(root, args).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    // It may be done already.
    let _ = child.kill();
    child.wait().unwrap();
}

/// The same moments at every run, spread over `whole`.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    (0..MOMENTS).map(move |i| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let share = (i as f64 + (x % 1000) as f64 / 1000.0) / MOMENTS as f64;
        whole.mul_f64(share)
    })
}

/// The layers' blobs, and how long the command takes.
fn reference(root: &Path, args: &[&str]) -> (Vec<(String, u64)>, Duration) {
    let began = Instant::now();
    ends(root, args, 0);
    let whole = began.elapsed();
    ends(root, &["system", "check"], 0);
    let blobs = images(root).join("blobs/sha256");
    let all = names(&blobs).into_iter().map(|name| {
        let size = blobs.join(&name).metadata().unwrap().len();
        (name, size)
    });
    // The others are fetched whole each time.
    (all.filter(|(_, size)| *size > 4096).collect(), whole)
}

#[test]
fn pulls_are_killed_at_any_moment() {
    let registry = Registry::start("kill-pull", None, false);
    registry.push(&archive(&registry.dir), "app:1", &[]);
    let proxy = Proxy::start(registry.port, Vice::None);
    let shm = Shm::new("kill-pull");
    let name = format!("{}/app:1", proxy.address);
    let pull = ["pull", "-q", &name];
    let good = shm.0.join("good");
    let (layers, whole) = reference(&good, &pull);
    assert_eq!(layers.len(), 1, "{layers:?}");
    let (mut begun, mut whole_ones) = (0, 0);
    for (n, after) in moments(whole).enumerate() {
        let about = format!("killed after {after:?} of {whole:?}");
        let root = shm.0.join(n.to_string());
        killed(&root, &pull, after);
        is_sound(&root, &about);
        let before: Vec<Option<u64>> = layers.iter().map(|(hex, _)| kept(&root, hex)).collect();
        proxy.forget();
        ends(&root, &pull, 0);
        for ((hex, size), have) in layers.iter().zip(before) {
            let want = match have {
                None => String::new(),
                Some(have) if have == *size => String::new(),
                Some(0) => "whole".to_owned(),
                Some(have) => format!("from {have}"),
            };
            let heads = proxy.heads.lock().unwrap();
            let asked: Vec<String> = heads
                .iter()
                .filter(|h| h.contains(hex.as_str()))
                .map(|h| match h.split_once("range: bytes=") {
                    Some((_, r)) => format!("from {}", r.split('-').next().unwrap()),
                    None => "whole".to_owned(),
                })
                .collect();
            assert_eq!(asked.join(" "), want, "{about}: {hex}");
            begun += usize::from(want.starts_with("from"));
            whole_ones += usize::from(want.is_empty());
        }
        is_the_same(&good, &root, &about);
        fs::remove_dir_all(&root).unwrap();
    }
    println!("{begun} gone on with, {whole_ones} not asked for, of {MOMENTS} in {whole:?}");
    assert!(begun > 0 && whole_ones > 0);
}

#[test]
fn loads_are_killed_at_any_moment() {
    let shm = Shm::new("kill-load");
    let from = archive(&shm.0);
    let oci = shm.0.join("oci.tar");
    let out = Command::new("skopeo")
        .args(["copy", "--insecure-policy", "-q", &from])
        .arg(format!("oci-archive:{}:app:1", oci.display()))
        .status();
    assert!(out.unwrap().success());
    let docker = shm.0.join("image.tar");
    // The kernel does not mount files of a tmpfs.
    let name = format!("carob-kill-load-{}", std::process::id());
    let disk = Shm(std::env::temp_dir().join(name));
    for (file, form, base) in [
        (&oci, "oci", &shm.0),
        (&docker, "docker", &shm.0),
        (&docker, "erofs", &disk.0),
    ] {
        let load = ["load", "-i", file.to_str().unwrap(), "--name", "app:1"];
        let good = base.join(format!("good-{form}"));
        let erofs = |root: &Path| {
            if form == "erofs" {
                ends(root, &["system", "layers", "erofs"], 0);
            }
        };
        erofs(&good);
        let (_, whole) = reference(&good, &load);
        let step = 2;
        for after in moments(whole).skip((form == "oci").into()).step_by(step) {
            let about = format!("{form}: killed after {after:?} of {whole:?}");
            let root = base.join("root");
            erofs(&root);
            killed(&root, &load, after);
            is_sound(&root, &about);
            ends(&root, &load, 0);
            is_the_same(&good, &root, &about);
            fs::remove_dir_all(&root).unwrap();
        }
    }
}

/// A small filesystem of its own, gone with the thread's namespace.
fn small_disk(dir: &Path) -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    let (image, at) = (dir.join("disk"), dir.join("mnt"));
    fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    fs::create_dir(&at).unwrap();
    for (program, args) in [
        ("mkfs.ext4", ["-q", "-m", "0", "-F"]),
        ("mount", ["-o", "loop", "-t", "ext4"]),
    ] {
        let mut c = Command::new(program);
        c.args(args).arg(&image);
        if program == "mount" {
            c.arg(&at);
        }
        let out = c.output().unwrap();
        assert!(out.status.success(), "{program}: {out:?}");
    }
    at
}

/// A file of this size, or as large as there is room for.
fn fill(at: &Path, size: u64) {
    let mut file = fs::File::create(at).unwrap();
    for _ in 0..size / 4096 {
        match file.write_all(&[0; 4096]) {
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
            done => done.unwrap(),
        }
    }
    file.sync_all().unwrap();
}

fn free(at: &Path) -> u64 {
    let s = statvfs(at).unwrap();
    s.blocks_available() * s.fragment_size()
}

#[test]
fn full_disks() {
    let registry = Registry::start("full", None, false);
    registry.push(&archive(&registry.dir), "app:1", &[]);
    let dir = registry.dir.clone();
    let name = format!("localhost:{}/app:1", registry.port);
    let test = std::thread::spawn(move || {
        let disk = small_disk(&dir);
        let docker = dir.join("image.tar");
        let load = ["load", "-i", docker.to_str().unwrap(), "--name", "app:1"];
        let pull = ["pull", "-q", &name];
        let root = disk.join("root");
        // What a store weighs that has had an image.
        ends(&root, &pull, 0);
        ends(&root, &["rmi", &name], 0);
        for args in [&pull[..], &load[..]] {
            for left in [0, 16 << 10, 1 << 20, 3 << 20, 5 << 20, 5_800 << 10] {
                let about = format!("{}: {left} bytes are free", args[0]);
                let ballast = disk.join("ballast");
                let before = free(&disk);
                fill(&ballast, before - left);
                let out = carob(&root, args).output().unwrap();
                let text = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(!out.status.success(), "{about}");
                assert!(text.contains("ENOSPC"), "{about}: {text}");
                ends(&root, &["system", "check"], 0);
                assert_eq!(names(&images(&root).join("ingest")), [""; 0], "{about}");
                assert_eq!(names(&images(&root).join("partial")), [""; 0], "{about}");
                fs::remove_file(&ballast).unwrap();
                let lost = before.saturating_sub(free(&disk));
                assert!(lost <= 64 << 10, "{about}: {lost} bytes are lost");
            }
            ends(&root, args, 0);
            ends(&root, &["system", "check"], 0);
            ends(
                &root,
                &["rmi", if args[0] == "pull" { &name } else { "app:1" }],
                0,
            );
        }
        nix::mount::umount(&disk).unwrap();
    });
    if let Err(e) = test.join() {
        std::panic::resume_unwind(e);
    }
}
