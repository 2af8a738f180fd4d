//! T1: where mounts, masks and read-only paths lead, in an image that has links
//! there (runc CVE-2019-19921, CVE-2023-27561; podman CVE-2025-9566; youki
//! CVE-2025-54867).

use std::fs;

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::host::{Canary, outcome};
use super::rootfs::{bind, spoil, sweep};

#[test]
fn links_at_mount_targets_t1() {
    const SUB: fn(&mut Value, &str) = |c, _| bind(c, "payload", "/mnt/sub");
    const FILE: fn(&mut Value, &str) = |c, _| bind(c, "payload/of-the-volume", "/mnt/made");
    sweep(&[
        ("directory", "ln -s $C mnt", SUB, None),
        (
            "directory, up",
            "ln -s ../../../../../../../../..$C mnt",
            SUB,
            None,
        ),
        (
            "target itself",
            "mkdir mnt; ln -s $C/dir mnt/sub",
            SUB,
            None,
        ),
        (
            "target, dangling",
            "mkdir mnt; ln -s $C/new mnt/sub",
            SUB,
            None,
        ),
        ("file", "ln -s $C mnt", FILE, None),
        (
            "file itself",
            "mkdir mnt; ln -s $C/file mnt/made",
            FILE,
            None,
        ),
        (
            "file, dangling",
            "mkdir mnt; ln -s $C/new mnt/made",
            FILE,
            None,
        ),
        ("a loop", "ln -s mnt mnt", SUB, Some(false)),
        ("a FIFO", "mkdir mnt; mkfifo mnt/made", FILE, None),
        ("the root", "ln -s / mnt", SUB, None),
        ("proc, by a link", "ln -s /proc mnt", SUB, Some(false)),
        (
            "proc/self, by a link",
            "ln -s /proc/self/attr mnt",
            FILE,
            Some(false),
        ),
        (
            "proc/sys, by a link",
            "ln -s ../proc/sys mnt",
            |c, _| bind(c, "payload", "/mnt/kernel"),
            Some(false),
        ),
        (
            "sys, by a link",
            "ln -s /sys/fs mnt",
            |c, _| bind(c, "payload", "/mnt/cgroup"),
            Some(false),
        ),
        (
            "dots",
            "true",
            |c, host| bind(c, "payload", &format!("/../../../..{host}/sub")),
            None,
        ),
        (
            "dots below a link",
            "ln -s $C mnt",
            |c, _| bind(c, "payload", "/mnt/../canary/sub"),
            None,
        ),
        (
            "tmpfs, copied up",
            "mkfifo etc/fifo; ln -s $C etc/link; ln -s $C/file etc/file; mknod etc/zero c 1 5",
            |c, _| {
                let m = json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]});
                c["mounts"].as_array_mut().unwrap().push(m);
            },
            Some(true),
        ),
        (
            "tmpfs, copied up by a link",
            "ln -s $C mnt",
            |c, _| {
                let m = json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]});
                c["mounts"].as_array_mut().unwrap().push(m);
            },
            None,
        ),
    ]);
}

/// The runtime's own fds, and whatever else is behind a magic link.
#[test]
fn targets_behind_magic_links_t1() {
    for at in [
        "fd/3", "fd/4", "fd/5", "fd/6", "fd/7", "fd/8", "fd/9", "fd/10", "root", "cwd",
    ] {
        let b = Bundle::new();
        let canary = Canary::new(&b);
        fs::create_dir(b.dir().join("payload")).unwrap();
        spoil(&b, &format!("ln -s /proc/self/{at} mnt"));
        let up = format!("/mnt/../../../../../../..{}/made", canary.dir.display());
        for target in ["/mnt/made", &up] {
            b.sh(&canary.search(), |c| bind(c, "payload", target));
            let ran = b.oci(&["run", "box"]);
            outcome(at, &ran);
            canary.is_untouched(at);
            assert!(!b.dir().join("made").exists(), "{at}");
            assert!(!std::path::Path::new("/made").exists(), "{at}");
        }
    }
}

#[test]
fn masked_and_read_only_paths_t1() {
    fn both(c: &mut Value, path: &str) {
        c["linux"]["maskedPaths"] = json!([path, "/proc/kcore"]);
        c["linux"]["readonlyPaths"] = json!([path, "/proc/sys"]);
    }
    sweep(&[
        ("link", "ln -s $C secret", |c, _| both(c, "/secret"), None),
        (
            "link to a file",
            "ln -s $C/file secret",
            |c, _| both(c, "/secret"),
            None,
        ),
        (
            "below a link",
            "ln -s ../../../../../../..$C secret",
            |c, _| both(c, "/secret/file"),
            None,
        ),
        ("FIFO", "mkfifo secret", |c, _| both(c, "/secret"), None),
        (
            "dots",
            "true",
            |c, host| both(c, &format!("/../../../../../..{host}/file")),
            None,
        ),
    ]);
}

/// The same through a link of /proc to each fd that the runtime has.
#[test]
fn masked_and_read_only_paths_through_fds_t1() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    b.sh("echo alive", |_| {});
    for n in super::inside::fd_numbers(&b, &["run", "box"]) {
        let link = format!("/proc/self/fd/{n}");
        spoil(&b, &format!("rm -f secret; ln -s {link} secret"));
        let outside = format!("/secret/{}{}", "../".repeat(12), canary.dir.display());
        b.sh(&canary.search(), |c| {
            c["linux"]["maskedPaths"] = json!(["/secret/etc", outside]);
            c["linux"]["readonlyPaths"] = json!(["/secret", outside]);
        });
        outcome(&link, &b.oci(&["run", "box"]));
        canary.is_untouched(&link);
    }
}

/// What would be copied first and refused afterwards: files of the kernel's that are
/// without end, or gone when they are read.
#[test]
fn a_copy_of_the_kernel_s_files_t1() {
    for place in ["/proc", "/sys", "/proc/self/cwd/proc"] {
        let b = Bundle::new();
        spoil(&b, &format!("ln -s {place} mnt"));
        b.sh("echo alive", |c| {
            let m = json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]});
            c["mounts"].as_array_mut().unwrap().push(m);
        });
        let ran = b.oci(&["run", "box"]);
        outcome(place, &ran);
        if super::ours() {
            assert!(ran.stderr.contains("mount at /mnt"), "{place}: {ran:?}");
            assert!(!ran.stderr.contains("tmpcopyup"), "{place}: {ran:?}");
        }
    }
}
