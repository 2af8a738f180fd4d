//! T5: what is written to /proc lands where it is meant to (runc CVE-2019-16884,
//! CVE-2025-52881).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::host::{Canary, outcome};

const KEY: &str = "net.ipv4.ip_unprivileged_port_start";
const FILE: &str = "sys/net/ipv4/ip_unprivileged_port_start";

/// A directory that looks like /proc, whose files swallow what is written.
fn false_proc(b: &Bundle) -> String {
    let dir = b.dir().join("false-proc");
    super::works();
    let attr = dir.join("self/attr/apparmor");
    fs::create_dir_all(&attr).unwrap();
    fs::create_dir_all(dir.join("thread-self/attr")).unwrap();
    fs::create_dir_all(dir.join("sys/net/ipv4")).unwrap();
    for file in [
        FILE,
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "thread-self/attr/exec",
    ] {
        fs::write(dir.join(file), "").unwrap();
    }
    dir.to_str().unwrap().to_owned()
}

fn mount(c: &mut Value, source: &str, target: &str) {
    let m = json!({"destination": target, "type": "bind", "source": source, "options": ["rbind"]});
    c["mounts"].as_array_mut().unwrap().push(m);
}

/// What the container's own network namespace has, asked of the kernel.
fn value(b: &Bundle) -> String {
    let pid = b.state("box")["pid"].to_string();
    let ran = std::process::Command::new("nsenter")
        .args(["--net", "--target", &pid, "cat", &format!("/proc/{FILE}")])
        .output()
        .unwrap();
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

#[test]
fn sysctls_behind_a_false_proc_t5() {
    type Change = fn(&mut Value, &str);
    let cases: [(&str, Change); 6] = [
        ("bound over /proc", |c, f| mount(c, f, "/proc")),
        ("instead of /proc", |c, f| {
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|m| m["destination"] != "/proc");
            mount(c, f, "/proc");
        }),
        ("over /proc/sys", |c, f| {
            mount(c, &format!("{f}/sys"), "/proc/sys")
        }),
        ("over the file", |c, f| {
            mount(c, &format!("{f}/{FILE}"), &format!("/proc/{FILE}"))
        }),
        ("over /proc/sys/net by dots", |c, f| {
            mount(c, &format!("{f}/sys/net"), "/proc/fs/../sys/net")
        }),
        ("a tmpfs at /proc/sys", |c, _| {
            let m = json!({"destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs"});
            c["mounts"].as_array_mut().unwrap().push(m);
        }),
    ];
    for (name, change) in cases {
        let b = Bundle::new();
        let proc = false_proc(&b);
        b.sh("sleep 20", |c| {
            c["linux"]["sysctl"] = json!({KEY: "77"});
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
            change(c, &proc);
        });
        let made = b.oci(&["create", "box"]);
        outcome(name, &made);
        // Refused, or done in truth.
        if made.code == 0 {
            assert_eq!(value(&b), "77", "{name}");
        }
        eprintln!("{name}: {} {}", made.code, made.stderr.trim());
        b.oci(&["delete", "--force", "box"]).ok();
        let swallowed = fs::read_to_string(format!("{proc}/{FILE}")).unwrap();
        assert_eq!(swallowed, "", "{name}");
    }
}

/// The image decides what /proc is where nothing is mounted, and a volume where a
/// link leads there.
#[test]
fn sysctls_behind_links_t5() {
    for (name, script) in [
        (
            "the image's own",
            "mkdir -p proc/sys/net/ipv4; : > proc/sys/net/ipv4/ip_unprivileged_port_start",
        ),
        (
            "a link",
            "rmdir proc; ln -s /false proc; mkdir -p false/sys/net/ipv4; : > false/sys/net/ipv4/ip_unprivileged_port_start",
        ),
        ("the host", "rmdir proc; ln -s $C proc"),
    ] {
        let b = Bundle::new();
        let canary = Canary::new(&b);
        super::rootfs::spoil(&b, &script.replace("$C", canary.dir.to_str().unwrap()));
        b.sh("sleep 20", |c| {
            c["linux"]["sysctl"] = json!({KEY: "77"});
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|m| m["destination"] != "/proc");
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
        });
        let made = b.oci(&["create", "box"]);
        outcome(name, &made);
        if made.code == 0 {
            assert_eq!(value(&b), "77", "{name}");
        }
        b.oci(&["delete", "--force", "box"]).ok();
        canary.is_untouched(name);
    }
}

/// A label that cannot be applied is an error: a container that is thought to be
/// confined and is not is worse than none. So is one whose /proc swallows it.
#[test]
fn labels_are_applied_or_refused_t5() {
    let has = |path: &str| std::path::Path::new(path).exists();
    let b = Bundle::new();
    let proc = false_proc(&b);
    for (field, value, there) in [
        (
            "apparmorProfile",
            "no-such-profile",
            "/sys/module/apparmor/parameters/enabled",
        ),
        (
            "selinuxLabel",
            "system_u:system_r:container_t:s0:c1,c2",
            "/sys/fs/selinux/enforce",
        ),
    ] {
        for covered in [false, true] {
            b.sh("echo alive", |c| {
                c["process"][field] = value.into();
                if covered {
                    mount(c, &proc, "/proc");
                }
            });
            let ran = b.oci(&["run", "box"]);
            let alive = outcome(field, &ran);
            assert!(
                !alive,
                "{field}: ran without its label (host has it: {})",
                has(there)
            );
            b.oci(&["delete", "--force", "box"]).ok();
        }
    }
    b.sh("sleep 20", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    for flag in ["--apparmor", "--process-label"] {
        let ran = b.oci(&["exec", flag, "no-such-label", "box", "echo", "alive"]);
        assert!(!outcome(flag, &ran), "{flag}: ran without");
    }
    b.oci(&["delete", "--force", "box"]).ok();
    for file in [
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "thread-self/attr/exec",
    ] {
        assert_eq!(
            fs::read_to_string(format!("{proc}/{file}")).unwrap(),
            "",
            "{file}"
        );
    }
}

/// Each changes the host, or a namespace that is not the container's.
#[test]
fn sysctls_of_the_host_t5() {
    let b = Bundle::new();
    let core = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = core();
    super::works();
    for key in [
        "kernel.core_pattern",
        "net.ipv4.ip_forward=1\nkernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "net....kernel.core_pattern",
        "/kernel/core_pattern",
        "../kernel/core_pattern",
        "fs.mqueue/../../kernel/core_pattern",
        "kernel.shm_rmid_forced\nkernel.core_pattern",
        "",
        ".",
    ] {
        b.sh("true", |c| {
            c["linux"]["sysctl"] = json!({key: "|/bin/false"})
        });
        let ran = b.oci(&["run", "box"]);
        let now = core();
        if now != before {
            fs::write("/proc/sys/kernel/core_pattern", &before).unwrap();
        }
        assert_eq!(now, before, "{key:?}");
        assert_ne!(ran.code, 0, "{key:?}: {ran:?}");
        b.oci(&["delete", "--force", "box"]).ok();
    }
    // A second line of a value is no second sysctl.
    let value = "1\nkernel.core_pattern=|/bin/false";
    b.sh("true", |c| {
        c["linux"]["sysctl"] = json!({"kernel.shm_rmid_forced": value})
    });
    b.oci(&["run", "box"]);
    b.oci(&["delete", "--force", "box"]).ok();
    assert_eq!(core(), before);
}

/// A user namespace gets a new procfs or sysfs only where one is wholly visible in its
/// mount namespace. The container's own is not, since parts of it are masked; nor may
/// the host's be, which stays below the root where pivot_root(2) is not used.
#[test]
fn a_new_proc_in_a_user_namespace_t5() {
    super::works();
    // A mount of the host's to which the user namespace has no way: another engine's, say.
    let closed = std::env::temp_dir().join(format!("carob-closed-{}", std::process::id()));
    let point = closed.join("point");
    fs::create_dir_all(&point).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    carob::inside::linux::bind(&point, &point).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let mut all = Vec::new();
    for (flag, userns) in [("", false), ("--no-pivot", false), ("--no-pivot", true)] {
        let b = Bundle::new();
        let script = "unshare -mr echo a user namespace; \
             unshare -mrpf mount -t proc proc /tmp && echo a new proc; \
             unshare -mrn mount -t sysfs sysfs /tmp && echo a new sysfs; :";
        b.sh(script, |c| {
            // The kernel asks for it where a user namespace maps root.
            for set in ["bounding", "permitted", "effective"] {
                let set = c["process"]["capabilities"][set].as_array_mut().unwrap();
                set.push("CAP_SETFCAP".into());
            }
            if userns {
                let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
                kinds.push(json!({"type": "user"}));
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map.clone();
            }
        });
        let ran = match flag {
            "" => b.oci(&["run", "box"]),
            flag => b.oci(&["run", flag, "box"]),
        };
        all.push((flag, userns, ran));
    }
    carob::inside::linux::unmount(&point).unwrap();
    fs::remove_dir_all(&closed).unwrap();
    for (flag, userns, ran) in all {
        assert_eq!(ran.stdout, "a user namespace\n", "{flag} {userns}: {ran:?}");
    }
}
