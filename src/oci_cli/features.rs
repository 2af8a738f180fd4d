//! `features`: features-linux.md. What this program and this kernel can do; what
//! is asked for beyond it is refused by name.

use std::path::Path;

use serde_json::{Value, json};

use super::args::Order;
use super::{Verb, print_json};
use crate::container::plan::mount::{ATTRIBUTES, PROPAGATIONS, SUPERBLOCK_FLAGS};
use crate::container::plan::namespace::KINDS;
use crate::linux::capability::Set;

/// The runtime-spec that this program follows.
pub(super) const SPEC_VERSION: &str = "1.3.0";

pub(super) const VERB: Verb = Verb {
    name: "features",
    operands: "",
    about: "prints what this program and this kernel can do",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |_, _| {
        print_json(&features())?;
        Ok(0)
    },
};

fn features() -> Value {
    let there = |path: &str| Path::new(path).exists();
    let namespaces: Vec<&str> = KINDS
        .iter()
        .filter(|(_, _, file)| there(&format!("/proc/self/ns/{file}")))
        .map(|(_, name, _)| *name)
        .collect();
    let capabilities: Vec<String> = Set::supported().iter().map(|c| c.to_string()).collect();
    let cgroup2 = [
        "/sys/fs/cgroup/cgroup.controllers",
        "/sys/fs/cgroup/unified/cgroup.controllers",
    ]
    .iter()
    .any(|p| there(p));
    let cgroup1 = there("/sys/fs/cgroup/memory") || there("/sys/fs/cgroup/cpu");
    let numa = there("/sys/devices/system/node");
    let seccomp = crate::oci::seccomp::features();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop"
        ],
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": {
                "v1": cgroup1,
                "v2": cgroup2,
                "systemd": true,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": seccomp.actions,
                "operators": seccomp.operators,
                "archs": seccomp.archs,
                "knownFlags": seccomp.known_flags,
                "supportedFlags": seccomp.supported_flags,
            },
            "apparmor": {"enabled": there("/sys/module/apparmor/parameters/enabled")},
            "selinux": {"enabled": there("/sys/fs/selinux/enforce")},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": match numa {
                true => json!({
                    "modes": [
                        "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE",
                        "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
                        "MPOL_LOCAL"
                    ],
                    "flags": [
                        "MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"
                    ],
                }),
                false => json!({}),
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "org.carob.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

fn mount_options() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (name, ..) in ATTRIBUTES {
        all.push(name.to_owned());
        all.push(format!("r{name}"));
    }
    for (name, _) in PROPAGATIONS {
        all.push(name.to_owned());
        all.push(format!("r{name}"));
    }
    all.extend(SUPERBLOCK_FLAGS.map(str::to_owned));
    let others = [
        "bind",
        "rbind",
        "defaults",
        "idmap",
        "ridmap",
        "tmpcopyup",
        "nostrictatime",
        "norelatime",
        "loud",
    ];
    all.extend(others.map(str::to_owned));
    all.sort();
    all
}
