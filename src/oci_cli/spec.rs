//! `spec`: a config.json to begin with.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::args::{Args, Order};
use super::features::SPEC_VERSION;
use super::{Face, Verb};
use crate::linux::cgroup::Hierarchies;
use crate::{Context, Error, Result};

pub(super) const VERB: Verb = Verb {
    name: "spec",
    operands: "",
    about: "writes a config.json to begin with",
    flags: &[
        (
            "bundle",
            'b',
            "PATH",
            "the directory it is written to (the current one)",
        ),
        (
            "rootless",
            '\0',
            "",
            "with a user namespace that maps the caller alone",
        ),
    ],
    order: Order::Any,
    enters: false,
    run,
};

fn run(_: &Face, args: &Args) -> Result<u8> {
    let dir = args.path("bundle").unwrap_or_else(|| PathBuf::from("."));
    let path = dir.join("config.json");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::conflict(format!(
                "File config.json exists. Remove it first: {}",
                path.display()
            )),
            _ => Error::from(e).push_context(format!("open({})", path.display())),
        })?;
    let mut text = serde_json::to_string_pretty(&example(args.is("rootless")))?;
    text.push('\n');
    file.write_all(text.as_bytes())
        .with_context(|| format!("write({})", path.display()))?;
    Ok(0)
}

fn example(rootless: bool) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |to: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": source, "options": options});
    let mut kinds = vec!["pid", "network", "ipc", "uts", "mount"];
    // As runc has it: tools that know v1 look for a container's cgroups by its own paths.
    if Hierarchies::detect().is_ok_and(|h| h.is_pure_v2()) {
        kinds.push("cgroup");
    }
    let mut linux = json!({
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
            "/proc/scsi"
        ],
        "readonlyPaths": [
            "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
        ],
    });
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    let mut sys = mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    if rootless {
        kinds.retain(|k| *k != "network");
        kinds.push("user");
        let map = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}]);
        linux["uidMappings"] = map(nix::unistd::geteuid().as_raw());
        linux["gidMappings"] = map(nix::unistd::getegid().as_raw());
        if let Some(linux) = linux.as_object_mut() {
            linux.remove("resources");
        }
        // Without a network namespace of one's own there is no sysfs to mount.
        sys = mount(
            "/sys",
            "none",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        );
    } else {
        pts.push("gid=5");
    }
    let namespaces: Vec<Value> = kinds.iter().map(|k| json!({"type": k})).collect();
    linux["namespaces"] = namespaces.into();
    json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "carob",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &pts),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            sys,
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": linux,
    })
}
