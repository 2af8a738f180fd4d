//! T2: a neighbour swaps a directory and a link on a volume that both have, while
//! a container is made with a mount below it (runc CVE-2021-30465).

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use super::bundle::Bundle;
use super::host::{Canary, SECRET};

const CONTAINERS: usize = 200;
/// What makes them: most of the time goes into waiting for the kernel.
const MAKERS: usize = 4;

#[test]
fn a_mount_target_that_is_swapped_t2() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let (volume, payload) = (b.dir().join("volume"), b.dir().join("payload"));
    fs::create_dir_all(volume.join("swap")).unwrap();
    fs::create_dir(&payload).unwrap();
    fs::write(payload.join("of-the-volume"), "").unwrap();
    let c = canary.dir.display();
    // The second is the host's in a runtime that resolves it outside of its root.
    symlink(&canary.dir, volume.join("absolute")).unwrap();
    symlink(format!("{}{c}", "../".repeat(12)), volume.join("up")).unwrap();
    symlink("/proc/self", volume.join("proc")).unwrap();

    let done = AtomicBool::new(false);
    let swaps = AtomicUsize::new(0);
    let left = AtomicUsize::new(CONTAINERS);
    let ran = AtomicUsize::new(0);
    // Everything that the container has mounted, and what is there to be read.
    let show = format!(
        "cut -d' ' -f5 /proc/self/mountinfo; cat {c}/file /canary/file /v/*/file 2>/dev/null; echo alive"
    );
    let bundles: Vec<Bundle> = (0..MAKERS).map(|_| Bundle::new()).collect();
    for maker in &bundles {
        maker.sh(&show, |config| {
            config["root"]["readonly"] = false.into();
            let mounts = config["mounts"].as_array_mut().unwrap();
            for (source, target, kind) in [
                (volume.to_str().unwrap(), "/v", "bind"),
                (payload.to_str().unwrap(), "/v/swap/sub", "bind"),
                ("tmpfs", "/v/swap/deep/er", "tmpfs"),
            ] {
                let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
                mounts.push(json!({"destination": target, "type": kind, "source": source, "options": options}));
            }
        });
    }
    let name = |n: &str| CString::new(volume.join(n).to_str().unwrap()).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let swap = name("swap");
            while !done.load(Ordering::Relaxed) {
                for link in ["absolute", "up", "proc"] {
                    let link = name(link);
                    for _ in 0..2 {
                        let _ = renameat2(
                            AT_FDCWD,
                            &*swap,
                            AT_FDCWD,
                            &*link,
                            RenameFlags::RENAME_EXCHANGE,
                        );
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let makers: Vec<_> = bundles
            .iter()
            .map(|maker| {
                let (left, ran) = (&left, &ran);
                s.spawn(move || {
                    let one = |n: &mut usize| n.checked_sub(1);
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |mut n| one(&mut n))
                        .is_ok()
                    {
                        let out = maker.oci(&["run", "box"]);
                        let all = format!("{}{}", out.stdout, out.stderr);
                        assert!(!all.contains(SECRET), "{all}");
                        assert!(out.code != 124 && !all.contains("panicked"), "{all}");
                        let proc = |l: &&str| l.starts_with("/proc/self") || l.contains("/task/");
                        let in_proc: Vec<&str> = out.stdout.lines().filter(proc).collect();
                        assert!(in_proc.is_empty(), "mounted in /proc: {all}");
                        ran.fetch_add(usize::from(out.stdout.contains("alive")), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let ends: Vec<_> = makers.into_iter().map(|m| m.join()).collect();
        done.store(true, Ordering::Relaxed);
        for end in ends {
            if let Err(e) = end {
                std::panic::resume_unwind(e);
            }
        }
    });
    let (swaps, ran) = (swaps.into_inner(), ran.into_inner());
    eprintln!("{ran} of {CONTAINERS} ran, {swaps} swaps");
    // Otherwise nothing has been tried.
    assert!(ran > 0 && swaps > CONTAINERS, "{ran} ran, {swaps} swaps");
    canary.is_untouched("the race");
    let _ = fs::remove_dir_all(&volume);
}

/// The same with the mount's source and root shared: a container that is already
/// running changes its own root while an exec and another container come.
#[test]
fn an_exec_while_its_directory_is_swapped_t2() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let swap = format!(
        "mkdir /work; ln -s /proc/self/fd /magic; ln -s {}{} /up; touch /ready; \
         while :; do mv -T /work /w; mv -T /up /work; mv -T /work /up; mv -T /w /work; \
         mv -T /work /w; mv -T /magic /work; mv -T /work /magic; mv -T /w /work; done 2>/dev/null",
        "../".repeat(12),
        canary.dir.display()
    );
    b.sh(&swap, |c| c["root"]["readonly"] = false.into());
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let ready = b.dir().join("rootfs/ready");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !ready.exists() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for n in 0..40 {
        let cwd = ["/work", "/work/7", "/work/../x"][n % 3];
        let ran = b.oci(&["exec", "--cwd", cwd, "box", "sh", "-c", &canary.search()]);
        super::host::outcome(cwd, &ran);
    }
    canary.is_untouched("exec");
    b.oci(&["delete", "--force", "box"]).ok();
}
