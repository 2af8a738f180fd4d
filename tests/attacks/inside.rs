//! T3: what is open, and where one is, in a container's first process, in one more,
//! and in hooks (runc CVE-2016-9962, CVE-2024-21626).

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::json;

use super::bundle::{Bundle, Ran};
use super::fds;
use super::host::{Canary, SECRET, outcome};
use super::rootfs::spoil;

/// Runs it from a caller that leaves fds of the host's open, as callers do.
fn oci_with_open_fds(b: &Bundle, args: &str) -> Ran {
    let script = format!(
        "exec 7</ 8</etc/passwd 9>>{0}/leaked; exec timeout 20 {1} --root {0}/state {args}",
        b.dir().display(),
        b.runtime().display(),
    );
    let file = |name| std::fs::File::create(b.dir().join(name)).unwrap();
    let status = Command::new("sh")
        .args(["-c", &script])
        .current_dir(b.dir())
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .status();
    let text = |name| std::fs::read_to_string(b.dir().join(name)).unwrap();
    Ran {
        code: status.unwrap().code().unwrap_or(-1),
        stdout: text("out"),
        stderr: text("err"),
    }
}

/// Prints every fd that is open beside stdio and that of the directory itself.
const AUDIT: &str = "for f in /proc/self/fd/*; do case ${f##*/} in 0|1|2) ;; \
                     *) readlink $f | sed s/^/leak:/ ;; esac; done; echo cwd:$(pwd); \
                     test -e ../../../../../../etc/debian_version && echo leak:cwd; echo alive";

#[test]
fn fds_and_cwd_of_init_and_exec_t3() {
    let b = Bundle::new();
    b.sh(AUDIT, |_| {});
    let ran = oci_with_open_fds(&b, "run box");
    assert_eq!(ran.stdout, "cwd:/\nalive\n", "{ran:?}");
    b.sh("sleep 20", |_| {});
    oci_with_open_fds(&b, "create box").ok();
    let start = oci_with_open_fds(&b, "start box");
    start.ok();
    let ran = oci_with_open_fds(&b, &format!("exec box sh -c '{AUDIT}'"));
    assert_eq!(ran.stdout, "cwd:/\nalive\n", "{ran:?}");
    let ran = oci_with_open_fds(&b, &format!("exec --cwd /tmp box sh -c '{AUDIT}'"));
    assert_eq!(ran.stdout, "cwd:/tmp\nalive\n", "{ran:?}");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// A hook is somebody else's program; with two that are the container's own view.
#[test]
fn fds_of_hooks_t3() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    // Inside, there is only the root filesystem to write to.
    let hook = |kind: &str| {
        let log = match kind {
            "startContainer" => "/hook".to_owned(),
            _ => b.dir().join(kind).display().to_string(),
        };
        let script = format!("ls -l /proc/self/fd | grep -o '[0-9]* -> .*' > {log}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}])
    };
    b.sh("true", |c| {
        c["root"]["readonly"] = false.into();
        for kind in kinds {
            c["hooks"][kind] = hook(kind);
        }
    });
    let ran = oci_with_open_fds(&b, "run box");
    assert_eq!(ran.code, 0, "{ran:?}");
    for kind in kinds {
        let log = match kind {
            "startContainer" => b.dir().join("rootfs/hook"),
            _ => b.dir().join(kind),
        };
        let text = std::fs::read_to_string(log).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let is_leak = |l: &&str| {
            let number = l.split(' ').next().unwrap_or("");
            !matches!(number, "0" | "1" | "2") && !l.contains("/proc/")
        };
        let leaked: Vec<&str> = text.lines().filter(is_leak).collect();
        assert!(leaked.is_empty(), "{kind}: {leaked:?}");
    }
    canary.is_untouched("hooks");
}

/// Root in a container watches each process that enters it: what it can see of one
/// that is still the runtime's (CVE-2016-9962). `more`: capabilities beside the
/// usual ones.
fn watch_execs(more: &[&str]) {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    // Any fd, directory or program that is not the container's own.
    let watch = format!(
        "touch /ready; while :; do for p in /proc/[1-9]*; do \
         cat $p/root{0}/file $p/cwd{0}/file $p/cwd/file $p/fd/*{0}/file $p/fd/*/{up}{0}/file 2>/dev/null; \
         done; done > /seen",
        canary.dir.display(),
        up = "../".repeat(12)
    );
    b.sh(&watch, |c| {
        c["root"]["readonly"] = false.into();
        for set in ["bounding", "permitted", "effective"] {
            let list = c["process"]["capabilities"][set].as_array_mut().unwrap();
            list.extend(more.iter().map(|m| json!(m)));
        }
    });
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    // The execs come from the canary's directory.
    for _ in 0..40 {
        let ran = Command::new("timeout")
            .arg("20")
            .arg(b.runtime())
            .arg("--root")
            .arg(b.dir().join("state"))
            .args(["exec", "box", "true"])
            .current_dir(&canary.dir)
            .status();
        assert!(ran.unwrap().success());
    }
    let seen = std::fs::read_to_string(b.dir().join("rootfs/seen")).unwrap();
    b.oci(&["delete", "--force", "box"]).ok();
    assert!(seen.is_empty(), "{more:?}: {} bytes seen", seen.len());
    canary.is_untouched("exec");
}

#[test]
fn nobody_inside_sees_into_an_exec_t3() {
    watch_execs(&[]);
}

#[test]
fn a_tracer_inside_sees_nothing_of_an_exec_t3() {
    watch_execs(&["CAP_SYS_PTRACE"]);
}

#[test]
fn a_first_process_that_others_share_a_pid_namespace_with_t3() {
    let (one, two) = (Bundle::new(), Bundle::new());
    let canary = Canary::new(&one);
    let watch = format!(
        "while :; do for p in /proc/[1-9]*; do cat $p/root{0}/file $p/cwd{0}/file $p/cwd/file \
         $p/fd/*{0}/file 2>/dev/null; done; done > /seen",
        canary.dir.display()
    );
    one.sh(&watch, |c| c["root"]["readonly"] = false.into());
    one.oci(&["create", "box"]).ok();
    one.oci(&["start", "box"]).ok();
    let pid = one.state("box")["pid"].clone();
    two.sh("echo alive", |c| {
        for n in c["linux"]["namespaces"].as_array_mut().unwrap() {
            if n["type"] == "pid" {
                n["path"] = format!("/proc/{pid}/ns/pid").into();
            }
        }
    });
    for _ in 0..20 {
        let ran = two.oci(&["run", "box"]);
        assert!(outcome("shared pid namespace", &ran), "{ran:?}");
    }
    let seen = std::fs::read_to_string(one.dir().join("rootfs/seen")).unwrap();
    one.oci(&["delete", "--force", "box"]).ok();
    assert!(seen.is_empty(), "{} bytes seen", seen.len());
}

/// The numbers that the runtime's fds have while it does `args`.
pub(crate) fn fd_numbers(b: &Bundle, args: &[&str]) -> std::ops::RangeInclusive<u32> {
    let trace = b.dir().join("trace");
    let ran = fds::traced(&trace, b.runtime().as_os_str())
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(args)
        .current_dir(b.dir())
        .stdin(Stdio::null())
        .output()
        .expect("strace: `hack/setup test` installs it");
    assert!(ran.status.success(), "{ran:?}");
    fds::numbers(&trace)
}

/// From the fd of any directory on the host's root filesystem to the canary.
fn through(n: u32, canary: &Canary) -> String {
    format!(
        "/proc/self/fd/{n}/{}{}",
        "../".repeat(12),
        canary.dir.display()
    )
}

/// A runtime that resolves a path of the container through its own fds leaves the root
/// (runc CVE-2024-21626): the working directory, the program, a hook's program. Every
/// number that an fd of the runtime has had is tried.
#[test]
fn paths_through_every_fd_of_the_runtime_t3() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let program = canary.dir.join("program");
    std::fs::write(&program, format!("#!/bin/sh\necho {SECRET}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let canary = Canary::new(&b);
    let run = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        b.sh(&canary.search(), |c| {
            c["root"]["readonly"] = false.into();
            change(c);
        });
        let ran = b.oci(&["run", "box"]);
        outcome(name, &ran);
        canary.is_untouched(name);
    };
    b.sh("echo alive", |_| {});
    for n in fd_numbers(&b, &["run", "box"]) {
        let fd = format!("/proc/self/fd/{n}");
        for cwd in [fd.clone(), format!("{fd}/.."), "/work".to_owned()] {
            spoil(&b, &format!("rm -rf work; ln -s {fd} work"));
            run(&format!("working directory {cwd} (fd {n})"), &|c| {
                c["process"]["cwd"] = cwd.clone().into();
            });
        }
        let outside = format!("{}/program", through(n, &canary));
        run(&format!("program {outside}"), &|c| {
            c["process"]["args"] = json!([outside]);
        });
        run(&format!("startContainer hook {outside}"), &|c| {
            // What it prints is shown when it fails.
            c["hooks"]["startContainer"] =
                json!([{"path": outside, "args": ["program"], "timeout": 5}]);
            c["process"]["args"] = json!(["sh", "-c", "exit 1"]);
        });
    }
    // The same in a container that runs, whose first process is its attacker's.
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let search = canary.search();
    for n in fd_numbers(&b, &["exec", "box", "true"]) {
        for cwd in [format!("/proc/self/fd/{n}"), format!("/proc/1/fd/{n}")] {
            let ran = b.oci(&["exec", "--cwd", &cwd, "box", "sh", "-c", &search]);
            outcome(&cwd, &ran);
        }
        let outside = format!("{}/program", through(n, &canary));
        let ran = b.oci(&["exec", "box", &outside]);
        outcome(&outside, &ran);
    }
    b.oci(&["delete", "--force", "box"]).ok();
    canary.is_untouched("exec");
}

/// Between `create` and `start` a process inside that may trace sees the fds of the one
/// that waits: only stdio and our sockets are among them, nothing of the caller's.
#[test]
fn fds_of_a_container_that_waits_for_its_start_t3() {
    let b = Bundle::new();
    b.sh("sleep 20", |c| {
        for set in ["bounding", "permitted", "effective"] {
            let list = c["process"]["capabilities"][set].as_array_mut().unwrap();
            list.push("CAP_SYS_PTRACE".into());
        }
    });
    oci_with_open_fds(&b, "create box").ok();
    let ran = b.oci(&[
        "exec",
        "box",
        "sh",
        "-c",
        "ls -l /proc/1/fd; ls -l /proc/1/cwd",
    ]);
    let text = ran.ok();
    assert!(text.contains("/proc/1/cwd -> /"), "{text}");
    let leaks: Vec<&str> = text
        .lines()
        .filter_map(|l| l.split_once(" -> "))
        .filter(|(before, target)| {
            let number = before.rsplit(' ').next().unwrap_or("");
            !matches!(number, "0" | "1" | "2" | "/proc/1/cwd") && !target.starts_with("socket:")
        })
        .map(|(_, target)| target)
        .collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    b.oci(&["start", "box"]).ok();
    b.oci(&["delete", "--force", "box"]).ok();
}

/// Working directories that lead elsewhere by links and `..`.
#[test]
fn working_directories_t3() {
    let b = Bundle::new();
    let canary = Canary::new(&b);
    let cases = [
        ("/work".to_owned(), canary.dir.display().to_string()),
        (format!("/..{}", canary.dir.display()), String::new()),
        ("/work/new".to_owned(), canary.dir.display().to_string()),
        ("/proc/1/root".to_owned(), String::new()),
        ("/proc/self/cwd".to_owned(), String::new()),
    ];
    for (cwd, link) in cases {
        let name = format!("{cwd} -> {link}");
        spoil(&b, "rm -rf work");
        if !link.is_empty() {
            spoil(&b, &format!("ln -s {link} work"));
        }
        b.sh(&canary.search(), |c| {
            c["process"]["cwd"] = cwd.clone().into();
            c["root"]["readonly"] = false.into();
        });
        let ran = b.oci(&["run", "box"]);
        outcome(&name, &ran);
        canary.is_untouched(&name);
    }
    // One that is no directory is an error that names it.
    spoil(&b, "rm -rf work; mkfifo work");
    b.sh("echo alive", |c| c["process"]["cwd"] = "/work".into());
    let ran = b.oci(&["run", "box"]);
    assert!(
        !outcome("FIFO", &ran) && ran.stderr.contains("work"),
        "{ran:?}"
    );
}
