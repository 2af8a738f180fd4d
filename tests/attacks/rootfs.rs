//! T1: an image that has something else than expected at each path that the
//! runtime touches (runc CVE-2019-19921, CVE-2023-27561, CVE-2025-31133,
//! CVE-2025-52565; crun CVE-2025-24965).

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::host::{Canary, outcome};
use super::ours;

/// Runs `script` in the root filesystem, on the host.
pub(crate) fn spoil(b: &Bundle, script: &str) {
    let done = Command::new("sh")
        .args(["-ec", script])
        .current_dir(b.dir().join("rootfs"))
        .status();
    assert!(done.unwrap().success(), "{script}");
}

fn without(c: &mut Value, below: &str) {
    let mounts = c["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with(below));
}

pub(crate) fn bind(c: &mut Value, source: &str, target: &str) {
    let m = json!({"destination": target, "type": "bind", "source": source, "options": ["rbind"]});
    c["mounts"].as_array_mut().unwrap().push(m);
}

/// Each case with a fresh image: what spoils it, what it changes in config.json,
/// and whether `carob-oci` is to run it.
pub(crate) type Case = (
    &'static str,
    &'static str,
    fn(&mut Value, &str),
    Option<bool>,
);

pub(crate) fn sweep(cases: &[Case]) {
    for (name, script, change, runs) in cases {
        let b = Bundle::new();
        let canary = Canary::new(&b);
        let c = canary.dir.to_str().unwrap();
        let payload = b.dir().join("payload");
        fs::create_dir(&payload).unwrap();
        fs::write(payload.join("of-the-volume"), "").unwrap();
        spoil(&b, &script.replace("$C", c));
        b.sh(&canary.search(), |config| {
            config["root"]["readonly"] = false.into();
            change(config, c);
        });
        let ran = b.oci(&["run", "box"]);
        let alive = outcome(name, &ran);
        canary.is_untouched(name);
        eprintln!("{name}: alive={alive} {}", ran.stderr.trim());
        if let Some(runs) = runs.filter(|_| ours()) {
            assert_eq!(alive, runs, "{name}: {ran:?}");
        }
    }
}

/// Removes what is there, whatever it is.
fn clear(path: &Path) {
    match path.symlink_metadata() {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// A link at each path, to each place: the container may be refused, but its making
/// changes nothing outside.
#[test]
fn links_at_every_path_t1() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let rootfs = b.dir().join("rootfs");
    b.sh("sleep 60", |c| {
        c["process"]["cwd"] = "/work/dir".into();
        c["root"]["readonly"] = false.into();
        c["linux"]["maskedPaths"] = json!(["/proc/keys", "/masked"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/kept"]);
        for (to, from) in [
            ("/etc/hosts", "/etc/hostname"),
            ("/etc/resolv.conf", "/etc/hostname"),
            ("/target/file", "/etc/hostname"),
            ("/mounted/dir", "/usr"),
        ] {
            bind(c, from, to);
        }
        c["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
        );
        c["linux"]["devices"] = json!([
            {"path": "/devices/fuse", "type": "c", "major": 10, "minor": 229}
        ]);
    });
    let up = "../".repeat(20);
    for name in [
        "proc",
        "sys",
        "dev",
        "etc",
        "etc/passwd",
        "etc/hosts",
        "etc/resolv.conf",
        "target",
        "target/file",
        "mounted",
        "mounted/dir",
        "work",
        "work/dir",
        "masked",
        "kept",
        "copied",
        "devices",
        "devices/fuse",
        "sys/fs",
        "proc/keys",
        "run",
    ] {
        let at = rootfs.join(name);
        let saved = b.dir().join("saved");
        let canary_dir = canary.dir.display().to_string();
        let (dir, file) = (format!("{canary_dir}/dir"), format!("{canary_dir}/file"));
        for to in [
            dir.clone(),
            format!("{up}{}", &dir[1..]),
            format!("{up}{}", &file[1..]),
            format!("{canary_dir}/absent"),
            "/proc/self/fd/0/..".to_owned(),
            format!("/proc/1/root{dir}"),
            name.rsplit('/').next().unwrap().to_owned(),
        ] {
            let top = rootfs.join(name.split('/').next().unwrap());
            if top.exists() {
                let copied = Command::new("cp").arg("-a").args([&top, &saved]).status();
                assert!(copied.unwrap().success());
            }
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            clear(&at);
            symlink(&to, &at).unwrap();
            let what = format!("/{name} -> {to}");
            let created = b.oci(&["create", "box"]);
            outcome(&what, &created);
            if created.code == 0 {
                let started = b.oci(&["start", "box"]);
                outcome(&what, &started);
                let seen = b.oci(&["exec", "box", "sh", "-c", &canary.search()]);
                outcome(&what, &seen);
            }
            b.oci(&["delete", "--force", "box"]);
            canary.is_untouched(&what);
            clear(&top);
            if saved.exists() {
                fs::rename(&saved, &top).unwrap();
            }
        }
    }
}

#[test]
fn links_where_kernel_filesystems_go_t1() {
    const NONE: fn(&mut Value, &str) = |_, _| {};
    sweep(&[
        ("proc", "rmdir proc; ln -s $C proc", NONE, Some(false)),
        (
            "proc, inside",
            "rmdir proc; ln -s /tmp proc",
            NONE,
            Some(false),
        ),
        (
            "proc, up",
            "rmdir proc; ln -s ../../../../../../../..$C proc",
            NONE,
            Some(false),
        ),
        ("proc, a file", "rmdir proc; touch proc", NONE, Some(false)),
        ("sys", "rmdir sys; ln -s $C sys", NONE, Some(false)),
        (
            "sys, in proc",
            "rmdir sys; ln -s /proc/sys sys",
            NONE,
            Some(false),
        ),
        ("dev", "rmdir dev; ln -s $C dev", NONE, Some(false)),
        (
            "dev, in proc",
            "rmdir dev; ln -s /proc/self dev",
            NONE,
            Some(false),
        ),
        (
            "dev/pts",
            "ln -s $C dev/pts",
            |c, _| dev_of_image(c, "/dev"),
            Some(false),
        ),
        (
            "dev/shm",
            "ln -s $C dev/shm",
            |c, _| dev_of_image(c, "/dev"),
            None,
        ),
        (
            "dev/mqueue",
            "ln -s $C dev/mqueue",
            |c, _| dev_of_image(c, "/dev"),
            Some(false),
        ),
    ]);
}

/// The mount of /dev itself goes, what is below it stays.
fn dev_of_image(c: &mut Value, at: &str) {
    let mounts = c["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| m["destination"] != at);
}

#[test]
fn a_dev_of_the_image_s_own_t1() {
    const OWN: fn(&mut Value, &str) = |c, _| without(c, "/dev");
    sweep(&[
        ("dev, whole", "rmdir dev; ln -s $C dev", OWN, Some(false)),
        ("null, link", "ln -s $C/file dev/null", OWN, Some(false)),
        ("null, new file", "ln -s $C/made dev/null", OWN, Some(false)),
        ("null, FIFO", "mkfifo dev/null", OWN, Some(false)),
        ("null, file", "echo x > dev/null", OWN, Some(false)),
        (
            "null, another device",
            "mknod dev/null c 1 8",
            OWN,
            Some(false),
        ),
        ("tty, link", "ln -s $C/file dev/tty", OWN, Some(false)),
        ("fd", "ln -s $C dev/fd", OWN, None),
        ("ptmx", "ln -s $C/file dev/ptmx", OWN, None),
        ("core", "ln -s $C/file dev/core", OWN, None),
        (
            "a device below a link",
            "ln -s $C dev/sub",
            |c, _| {
                without(c, "/dev");
                c["linux"]["devices"] =
                    json!([{"path": "/dev/sub/zero", "type": "c", "major": 1, "minor": 5}]);
            },
            Some(false),
        ),
        (
            "a device elsewhere",
            "ln -s $C nodes",
            |c, _| {
                c["linux"]["devices"] =
                    json!([{"path": "/nodes/zero", "type": "c", "major": 1, "minor": 5, "uid": 7}]);
            },
            None,
        ),
    ]);
}

/// runc CVE-2025-31133: what masks a file was the container's own /dev/null.
#[test]
fn a_false_null_device_masks_nothing_t1() {
    super::works();
    for (name, script) in [
        ("link", "ln -s /proc/sys/kernel/core_pattern dev/null"),
        ("file", "echo unmasked > dev/null"),
        ("kmsg", "mknod dev/null c 1 11"),
    ] {
        let b = Bundle::new();
        spoil(&b, script);
        let show = "head -c 20 /proc/kallsyms; test -f /proc/kallsyms && echo UNMASKED; echo alive";
        b.sh(show, |c| {
            without(c, "/dev");
            c["linux"]["maskedPaths"] = json!(["/proc/kallsyms"]);
        });
        let ran = b.oci(&["run", "box"]);
        let alive = outcome(name, &ran);
        assert!(!ran.stdout.contains("UNMASKED"), "{name}: {ran:?}");
        assert!(!alive || ran.stdout == "alive\n", "{name}: {ran:?}");
    }
}

/// The same with a volume as /dev, which a neighbour has made.
#[test]
fn a_volume_s_null_device_masks_nothing_t1() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let dev = b.dir().join("dev");
    for script in [
        "ln -s /proc/sysrq-trigger null",
        "ln -s /proc/sys/kernel/hostname null",
        "echo mine > null",
    ] {
        clear(&dev);
        fs::create_dir(&dev).unwrap();
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(&dev)
            .status();
        assert!(made.unwrap().success());
        b.sh(
            "cat /proc/version; echo x > /proc/version; echo alive",
            |c| {
                without(c, "/dev");
                bind(c, dev.to_str().unwrap(), "/dev");
                c["linux"]["maskedPaths"] = json!(["/proc/version"]);
            },
        );
        let ran = b.oci(&["run", "box"]);
        outcome(script, &ran);
        let seen = ran.stdout.contains("Linux") || ran.stdout.contains("mine");
        assert!(!seen, "{script}: {ran:?}");
        b.oci(&["delete", "--force", "box"]);
        canary.is_untouched(script);
    }
}

/// runc CVE-2025-52565: the terminal was mounted over whatever /dev/console was.
#[test]
fn a_console_that_leads_elsewhere_t1() {
    for (name, script) in [
        ("host", "ln -s $C/file dev/console"),
        ("new", "ln -s $C/new dev/console"),
        ("up", "ln -s ../../../../../../../..$C/file dev/console"),
        ("proc", "ln -s /proc/sys/kernel/core_pattern dev/console"),
        ("FIFO", "mkfifo dev/console"),
        ("directory", "mkdir dev/console"),
    ] {
        let b = Bundle::new();
        let canary = Canary::new(&b);
        spoil(&b, &script.replace("$C", canary.dir.to_str().unwrap()));
        spoil(&b, "mkdir -p dev/pts");
        b.sh(&format!("{} sleep 20", canary.search()), |c| {
            dev_of_image(c, "/dev");
            c["process"]["terminal"] = true.into();
        });
        let socket = b.dir().join("console");
        // Whatever arrives waits in the queue.
        let _engine = UnixListener::bind(&socket).unwrap();
        let made = b.oci(&[
            "create",
            "--console-socket",
            socket.to_str().unwrap(),
            "box",
        ]);
        outcome(name, &made);
        if made.code == 0 {
            b.oci(&["start", "box"]).ok();
            let seen = b.oci(&["exec", "box", "grep", "console", "/proc/self/mountinfo"]);
            outcome(name, &seen);
            assert!(!seen.stdout.contains("core_pattern"), "{name}: {seen:?}");
        }
        eprintln!("{name}: {} {}", made.code, made.stderr.trim());
        canary.is_untouched(name);
        b.oci(&["delete", "--force", "box"]).ok();
    }
}
