//! sizeLimit by the filesystem's project quotas, on an ext4 of the test's own. Where the kernel
//! has no quotas on ext4 (CONFIG_QFMT_V2), the same filesystem without them: there volumes are
//! measured alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::root::{Root, pod, sh, until};

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The data of a root on a filesystem of its own. When it is dropped the root's Pods are
/// deleted first.
struct Disk<'r> {
    root: &'r Root,
    at: PathBuf,
    image: PathBuf,
    has_quotas: bool,
}

impl<'r> Disk<'r> {
    fn mount(root: &'r Root) -> Self {
        let (at, image) = (root.dir().join("data"), root.dir().join("disk"));
        std::fs::create_dir_all(&at).unwrap();
        std::fs::File::create(&image)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        let mount = |features: &str, options: &str| {
            let [at, image] = [&at, &image].map(|path| path.to_str().unwrap());
            run("mkfs.ext4", &["-q", "-F", "-O", features, image]).unwrap();
            run("mount", &["-o", options, image, at])
        };
        let has_quotas = mount("quota,project", "loop,prjquota").is_ok();
        if !has_quotas {
            let format = run("modprobe", &["quota_v2"]);
            assert!(format.is_err(), "a kernel with quotas takes no prjquota");
            mount("^quota", "loop").unwrap();
        }
        root.load_image();
        Disk {
            root,
            at,
            image,
            has_quotas,
        }
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.root.kill_all(&["--wait"]);
        let of = |path: &Path| path.to_str().unwrap().to_owned();
        let unmounted = until(|| run("umount", &[&of(&self.at)]));
        if !std::thread::panicking() {
            unmounted.unwrap();
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

fn volume_pod(script: &str) -> String {
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("a", script, json!({"volumeMounts": mounts}))],
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "8Mi"}}],
    });
    pod("p", spec)
}

fn is_evicted(root: &Root) {
    root.becomes("p", ".status.reason", "Evicted");
    let message = root.field("p", ".status.message");
    let text = "Usage of EmptyDir volume \"v\" exceeds the limit \"8Mi\".";
    assert_eq!(message.trim(), text);
}

#[test]
fn writing_ends_a_little_beyond_the_limit() {
    let root = Root::empty();
    let disk = Disk::mount(&root);
    // busybox's head goes on after a write that fails, a byte at a time.
    let write = "dd if=/dev/zero of=/v/f bs=64k count=512; stat -c %s /v/f; exec sleep 1000";
    root.apply(&volume_pod(write)).ok();
    let end = match disk.has_quotas {
        true => "Disk quota exceeded",
        false => "33554432",
    };
    root.says("p", "a", end);
    is_evicted(&root);
    if disk.has_quotas {
        // 9 MiB, less what the filesystem takes for the directory and for the file's extents.
        let log = root.carob(&["logs", "p"]).ok();
        let size = log.lines().find_map(|l| l.parse::<u64>().ok()).unwrap();
        assert!((8 << 20..=9 << 20).contains(&size), "{log}");
    }
    root.carob(&["delete", "pod", "p"]).ok();
    // The next one has all of its room.
    root.apply(&volume_pod(
        "head -c 8000000 /dev/zero >/v/f && echo whole; exec sleep 1000",
    ))
    .ok();
    root.says("p", "a", "whole");
}

/// A walk does not find it.
#[test]
fn a_file_without_a_name_counts() {
    let root = Root::empty();
    let disk = Disk::mount(&root);
    let script = "exec 5>/v/f; head -c 8600000 /dev/zero >&5; rm /v/f; echo done; sleep 1000";
    root.apply(&volume_pod(script)).ok();
    root.says("p", "a", "done");
    match disk.has_quotas {
        true => is_evicted(&root),
        false => assert_eq!(root.field("p", ".status.phase"), "Running"),
    }
}
