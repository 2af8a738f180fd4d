//! T1, T2: links and other surprises at every path of a root filesystem that a
//! runtime touches, standing still and moving.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::Outside;
use super::bundle::Bundle;

/// Removes what is there, whatever it is.
fn clear(path: &Path) {
    match path.symlink_metadata() {
        Ok(m) if m.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// A container that may be refused, but whose making changes nothing outside.
fn try_out(b: &Bundle, outside: &Outside, what: &str) {
    let created = b.oci(&["create", "box"]);
    assert_ne!(created.code, 124, "{what}: {created:?}");
    if created.code == 0 {
        b.oci(&["start", "box"]);
        let seen = b.oci(&["exec", "box", "cat", &outside.path("file")]);
        assert!(!seen.stdout.contains("secret"), "{what}: {seen:?}");
    }
    b.oci(&["delete", "--force", "box"]);
    outside.is_untouched(what);
}

#[test]
fn links_at_every_path() {
    let b = Bundle::new();
    let outside = Outside::of(&b);
    let rootfs = b.dir().join("rootfs");
    b.sh("sleep 60", |c| {
        c["process"]["cwd"] = "/work/dir".into();
        c["root"]["readonly"] = false.into();
        c["linux"]["maskedPaths"] = json!(["/proc/keys", "/masked"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/kept"]);
        let more = [
            ("/etc/hosts", "/etc/hostname"),
            ("/target/file", "/etc/hostname"),
            ("/mounted/dir", "/usr"),
        ];
        for (to, from) in more {
            c["mounts"].as_array_mut().unwrap().push(
                json!({"destination": to, "type": "bind", "source": from, "options": ["bind", "ro"]}),
            );
        }
        c["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
        );
        c["linux"]["devices"] = json!([
            {"path": "/devices/fuse", "type": "c", "major": 10, "minor": 229}
        ]);
    });
    let up = "../".repeat(20);
    let names = [
        "proc",
        "sys",
        "dev",
        "dev/pts",
        "dev/shm",
        "dev/mqueue",
        "dev/null",
        "dev/console",
        "dev/ptmx",
        "dev/fd",
        "dev/stdin",
        "etc",
        "etc/hosts",
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
        "sys/fs/cgroup",
        "proc/keys",
        "run",
    ];
    for name in names {
        let at = rootfs.join(name);
        let saved = b.dir().join("saved");
        let (dir, file) = (outside.path("dir"), outside.path("file"));
        let targets = [
            dir.clone(),
            file.clone(),
            format!("{up}{}", &dir[1..]),
            format!("{up}{}", &file[1..]),
            outside.path("absent"),
            "/proc/self/fd/0/..".to_owned(),
            format!("/proc/1/root{dir}"),
            name.rsplit('/').next().unwrap().to_owned(),
        ];
        for to in targets {
            clear(&saved);
            let top = rootfs.join(name.split('/').next().unwrap());
            if top.exists() {
                std::process::Command::new("cp")
                    .arg("-a")
                    .args([&top, &saved])
                    .status()
                    .unwrap();
            }
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            clear(&at);
            symlink(&to, &at).unwrap();
            try_out(&b, &outside, &format!("/{name} -> {to}"));
            clear(&top);
            if saved.exists() {
                std::fs::rename(&saved, &top).unwrap();
            }
        }
    }
}

/// A /dev of the attacker's must not decide what hides a masked path (runc
/// CVE-2025-31133).
#[test]
fn a_null_device_of_the_attackers_masks_nothing() {
    let b = Bundle::new();
    let outside = Outside::of(&b);
    let dev = b.dir().join("dev");
    for (kind, target) in [
        ("link", "/proc/sysrq-trigger"),
        ("link", "/proc/sys/kernel/hostname"),
        ("file", ""),
    ] {
        clear(&dev);
        std::fs::create_dir(&dev).unwrap();
        match kind {
            "link" => symlink(target, dev.join("null")).unwrap(),
            _ => std::fs::write(dev.join("null"), "mine").unwrap(),
        }
        b.sh("sleep 60", |c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
            mounts.push(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]}));
            c["linux"]["maskedPaths"] = json!(["/proc/version"]);
        });
        let created = b.oci(&["create", "box"]);
        if created.code == 0 {
            b.oci(&["start", "box"]).ok();
            let seen = b.oci(&["exec", "box", "cat", "/proc/version"]);
            assert!(
                !seen.stdout.contains("Linux") && !seen.stdout.contains("mine"),
                "{seen:?}"
            );
            let written = b.oci(&["exec", "box", "sh", "-c", "echo x > /proc/version"]);
            assert!(written.code != 0 || kind == "file" || written.stdout.is_empty());
        }
        b.oci(&["delete", "--force", "box"]).ok();
        outside.is_untouched(kind);
    }
}

/// What is read there is bounded, and never waits.
#[test]
fn strange_user_databases() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let etc = b.dir().join("rootfs/etc");
    let strange: [(&str, &str); 5] = [
        ("a FIFO", "mkfifo $f"),
        ("a directory", "mkdir $f"),
        ("a device", "mknod $f c 1 5"),
        ("1 TiB of nothing", "truncate -s 1T $f"),
        (
            "one endless line",
            "head -c 200M /dev/zero | tr '\\0' a > $f",
        ),
    ];
    for file in ["passwd", "group"] {
        let at = etc.join(file);
        for (what, make) in strange {
            clear(&at);
            let made = std::process::Command::new("sh")
                .args(["-c", make])
                .env("f", &at)
                .status();
            assert!(made.unwrap().success());
            // By name it cannot be found; by number nobody need look.
            let ran = b.oci(&["exec", "--user", "nobody-at-all", "box", "id"]);
            assert!(
                ran.code != 0 && ran.code != 124,
                "{file} is {what}: {ran:?}"
            );
        }
        clear(&at);
    }
    b.oci(&["delete", "--force", "box"]).ok();
}

/// T2. runc CVE-2021-30465: while a container is made, another one that has the
/// same volume puts a link in the place of a directory.
#[test]
fn races_on_a_shared_volume() {
    let b = Bundle::new();
    let outside = Outside::of(&b);
    let volume = b.dir().join("volume");
    std::fs::create_dir_all(volume.join("a/deep")).unwrap();
    symlink(&outside.dir, volume.join("b")).unwrap();
    let end = AtomicBool::new(false);
    b.sh("true", |c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind"]}));
        mounts.push(json!({"destination": "/v/a/dir", "type": "tmpfs", "source": "tmpfs"}));
        mounts.push(json!({"destination": "/v/a/new", "type": "tmpfs", "source": "tmpfs"}));
        mounts.push(json!({"destination": "/v/a/file", "type": "bind", "source": "/etc/hostname", "options": ["bind"]}));
    });
    std::thread::scope(|s| {
        s.spawn(|| {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            let (a, link) = (volume.join("a"), volume.join("b"));
            while !end.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &a, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let mut made = 0;
        for _ in 0..200 {
            made += i32::from(b.oci(&["run", "box"]).code == 0);
            b.oci(&["delete", "--force", "box"]);
        }
        end.store(true, Ordering::Relaxed);
        // Else it has shown nothing.
        assert!(made > 0);
    });
    outside.is_untouched("a race");
}
