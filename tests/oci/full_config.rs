//! A config.json with all that it may have, piece by piece.

use serde_json::{Value, json};

use super::bundle::Bundle;

/// What is there in every case, the paths of a bundle filled in.
pub(crate) fn base(b: &Bundle) -> Value {
    let rootfs = b.dir().join("rootfs");
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": rootfs, "readonly": false},
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sleep", "60"],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
            {"destination": "/etc", "source": rootfs.join("etc"), "options": ["rbind", "ro", "rprivate"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{}", b.name()),
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"},
                {"type": "network"}, {"type": "cgroup"},
            ],
        },
    })
}

/// The first that there is.
fn block_device() -> (u32, u32) {
    let all = std::fs::read_dir("/sys/block").into_iter().flatten();
    let found = all.flatten().find_map(|e| {
        let text = std::fs::read_to_string(e.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    found.unwrap_or((1, 0))
}

/// Where (a JSON pointer) and what.
pub(crate) fn options() -> Vec<(&'static str, Value)> {
    let caps = json!(["CAP_KILL"]);
    let hook = json!([{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 10}]);
    let (major, minor) = block_device();
    let device = json!([{"major": major, "minor": minor, "rate": 1_000_000}]);
    let resources = |part: &str| match part {
        "devices" => {
            json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}])
        }
        _ => json!({}),
    };
    vec![
        ("/hostname", json!("host")),
        ("/domainname", json!("domain")),
        ("/annotations", json!({"org.example.key": "value"})),
        ("/hooks/prestart", hook.clone()),
        ("/hooks/createRuntime", hook.clone()),
        ("/hooks/createContainer", hook.clone()),
        ("/hooks/startContainer", hook.clone()),
        ("/hooks/poststart", hook.clone()),
        ("/hooks/poststop", hook),
        ("/process/consoleSize", json!({"height": 24, "width": 80})),
        ("/process/user/umask", json!(18)),
        ("/process/user/additionalGids", json!([5])),
        ("/process/user/username", json!("root")),
        (
            "/process/capabilities",
            json!({"bounding": caps, "effective": caps, "inheritable": caps,
                   "permitted": caps, "ambient": caps}),
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512}]),
        ),
        ("/process/noNewPrivileges", json!(true)),
        ("/process/apparmorProfile", json!("unconfined")),
        (
            "/process/selinuxLabel",
            json!("system_u:system_r:container_t:s0"),
        ),
        ("/process/oomScoreAdj", json!(100)),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 4}),
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "nice": 1, "priority": 0,
                   "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        ),
        (
            "/process/execCPUAffinity",
            json!({"initial": "0", "final": "0"}),
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/one", "type": "c", "major": 1, "minor": 3,
                    "fileMode": 438, "uid": 0, "gid": 0}]),
        ),
        ("/linux/rootfsPropagation", json!("private")),
        ("/linux/maskedPaths", json!(["/proc/kcore"])),
        ("/linux/readonlyPaths", json!(["/proc/sys"])),
        (
            "/linux/mountLabel",
            json!("system_u:object_r:container_t:s0"),
        ),
        (
            "/linux/intelRdt",
            json!({"closID": "a", "schemata": ["L3:0=1"]}),
        ),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "4096"}),
        ),
        ("/linux/personality", json!({"domain": "LINUX"})),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
        ),
        (
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [{
                    "names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                    "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]
                }]
            }),
        ),
        ("/linux/resources/devices", resources("devices")),
        ("/linux/resources/memory/limit", json!(268_435_456)),
        ("/linux/resources/memory/reservation", json!(134_217_728)),
        // Alone it lacks a limit: see the one before it in the whole.
        ("/linux/resources/memory/swap", json!(-1)),
        ("/linux/resources/memory/kernel", json!(-1)),
        ("/linux/resources/memory/kernelTCP", json!(-1)),
        ("/linux/resources/memory/swappiness", json!(10)),
        ("/linux/resources/memory/disableOOMKiller", json!(false)),
        ("/linux/resources/memory/useHierarchy", json!(true)),
        ("/linux/resources/memory/checkBeforeUpdate", json!(true)),
        ("/linux/resources/cpu/shares", json!(512)),
        ("/linux/resources/cpu/period", json!(100_000)),
        ("/linux/resources/cpu/quota", json!(50_000)),
        ("/linux/resources/cpu/burst", json!(1000)),
        ("/linux/resources/cpu/idle", json!(0)),
        ("/linux/resources/cpu/cpus", json!("0")),
        ("/linux/resources/cpu/mems", json!("0")),
        ("/linux/resources/pids", json!({"limit": 100})),
        ("/linux/resources/blockIO/weight", json!(100)),
        ("/linux/resources/blockIO/leafWeight", json!(100)),
        (
            "/linux/resources/blockIO/weightDevice",
            json!([{"major": major, "minor": minor, "weight": 100}]),
        ),
        (
            "/linux/resources/blockIO/throttleReadBpsDevice",
            device.clone(),
        ),
        (
            "/linux/resources/blockIO/throttleWriteBpsDevice",
            device.clone(),
        ),
        (
            "/linux/resources/blockIO/throttleReadIOPSDevice",
            device.clone(),
        ),
        ("/linux/resources/blockIO/throttleWriteIOPSDevice", device),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 2_097_152}]),
        ),
        ("/linux/resources/network/classID", json!(1)),
        (
            "/linux/resources/network/priorities",
            json!([{"name": "lo", "priority": 1}]),
        ),
        (
            "/linux/resources/rdma",
            json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 1}}),
        ),
        ("/linux/resources/unified", json!({"pids.max": "50"})),
        ("/linux/netDevices", json!({"nosuchlink": {"name": "eth0"}})),
    ]
}

/// What a user and a time namespace bring with them.
pub(crate) fn with_user_namespace(c: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
    kinds.push(json!({"type": "user"}));
    kinds.push(json!({"type": "time"}));
    c["linux"]["uidMappings"] = map.clone();
    c["linux"]["gidMappings"] = map.clone();
    c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5, "nanosecs": 6}});
    let mounts = c["mounts"].as_array_mut().unwrap();
    let bind = mounts.iter_mut().find(|m| m["destination"] == "/etc");
    let bind = bind.unwrap();
    bind["uidMappings"] = map.clone();
    bind["gidMappings"] = map;
}
