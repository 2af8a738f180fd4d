//! securityContext: the Pod's merged into each container's.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1 as core;

use super::names;
use super::report::Report;
use super::tree::Path;
use crate::nearest::nearest;
use crate::spec::{AppArmor, SeLinuxOptions, Seccomp, Security};

/// capabilities(7), in the kernel's order.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The sysctls that are namespaced and that cannot harm a neighbour.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// A user or group: what Kubernetes takes, which is less than the kernel does.
fn id(r: &mut Report<'_>, path: &Path, value: Option<i64>) -> Option<u32> {
    let value = value?;
    if !(0..=i64::from(i32::MAX)).contains(&value) {
        r.invalid_number(path, value, "must be between 0 and 2147483647, inclusive");
        return None;
    }
    u32::try_from(value).ok()
}

fn seccomp(
    r: &mut Report<'_>,
    path: &Path,
    profile: Option<&core::SeccompProfile>,
) -> Option<Seccomp> {
    let profile = profile?;
    let path = path.keys("seccompProfile.type");
    match profile.type_.as_str() {
        "RuntimeDefault" => Some(Seccomp::RuntimeDefault),
        "Unconfined" => Some(Seccomp::Unconfined),
        // Refused by the table of fields.
        "Localhost" => None,
        "" => {
            r.required(&path, "type is required when seccompProfile is set");
            None
        }
        other => {
            r.unknown_value(&path, other, &["Localhost", "RuntimeDefault", "Unconfined"]);
            None
        }
    }
}

/// PATH_MAX less the NUL: the longest name of a profile that the API server takes.
const PROFILE_NAME_MAX: usize = 4095;

fn app_armor(
    r: &mut Report<'_>,
    path: &Path,
    profile: Option<&core::AppArmorProfile>,
) -> Option<AppArmor> {
    let profile = profile?;
    let path = path.key("appArmorProfile");
    let (kind, name) = (path.key("type"), path.key("localhostProfile"));
    let localhost = profile.localhost_profile.as_deref();
    if let (Some(text), true) = (localhost, profile.type_ != "Localhost") {
        r.invalid(&name, text, "can only be set when `type` is Localhost");
    }
    match profile.type_.as_str() {
        "RuntimeDefault" => Some(AppArmor::RuntimeDefault),
        "Unconfined" => Some(AppArmor::Unconfined),
        "Localhost" => match localhost {
            None => {
                r.required(&name, "must be set when `type` is Localhost");
                None
            }
            Some(text) => {
                r.check(&name, text, profile_name(text));
                Some(AppArmor::Localhost(text.to_owned()))
            }
        },
        "" => {
            r.required(&kind, "type is required when appArmorProfile is set");
            None
        }
        other => {
            r.unknown_value(&kind, other, &["Localhost", "RuntimeDefault", "Unconfined"]);
            None
        }
    }
}

fn profile_name(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if text.trim() != text {
        return Err("must not be padded with whitespace".into());
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line of text".into());
    }
    match text.len() {
        0..=PROFILE_NAME_MAX => Ok(()),
        _ => Err(format!("must be no more than {PROFILE_NAME_MAX} bytes")),
    }
}

fn se_linux(
    r: &mut Report<'_>,
    path: &Path,
    options: Option<&core::SELinuxOptions>,
) -> Option<SeLinuxOptions> {
    let options = options?;
    let path = path.key("seLinuxOptions");
    let mut part = |field: &str, value: &Option<String>| {
        let text = value.as_deref().filter(|t| !t.is_empty())?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || (c == ':' && field != "level");
        if text.contains(odd) {
            r.invalid(
                &path.key(field),
                text,
                "must be one part of an SELinux label",
            );
        }
        Some(text.to_owned())
    };
    let options = SeLinuxOptions {
        user: part("user", &options.user),
        role: part("role", &options.role),
        kind: part("type", &options.type_),
        level: part("level", &options.level),
    };
    (options != SeLinuxOptions::default()).then_some(options)
}

/// The profiles that annotations name, by container.
pub(super) fn app_armor_annotations(
    r: &mut Report<'_>,
    annotations: &BTreeMap<String, String>,
    containers: &HashSet<&str>,
) -> HashMap<String, AppArmor> {
    let mut found = HashMap::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(AppArmor::ANNOTATION) else {
            continue;
        };
        let path = Path::default().keys("metadata.annotations").key(key);
        if !containers.contains(name) {
            r.invalid(&path, name, "container not found");
            continue;
        }
        let profile = match value.split_once('/') {
            _ if value.is_empty() || value == "runtime/default" => AppArmor::RuntimeDefault,
            _ if value == "unconfined" => AppArmor::Unconfined,
            Some(("localhost", profile)) => {
                r.check(&path, value, profile_name(profile));
                AppArmor::Localhost(profile.to_owned())
            }
            _ => {
                r.invalid(
                    &path,
                    value,
                    "must be runtime/default, unconfined or localhost/<profile>",
                );
                continue;
            }
        };
        found.insert(name.to_owned(), profile);
    }
    found
}

/// The Pod's own part, as each of its containers starts from.
pub(super) fn lower_pod(
    r: &mut Report<'_>,
    path: &Path,
    sc: Option<&core::PodSecurityContext>,
) -> Security {
    let Some(sc) = sc else {
        return Security::default();
    };
    let groups = path.key("supplementalGroups");
    r.choice(
        &path.key("seLinuxChangePolicy"),
        sc.se_linux_change_policy.as_deref(),
        &[("MountOption", ()), ("Recursive", ())],
    );
    let policies = [("Merge", false), ("Strict", true)];
    let change = [("Always", false), ("OnRootMismatch", true)];
    let change = r.choice(
        &path.key("fsGroupChangePolicy"),
        sc.fs_group_change_policy.as_deref(),
        &change,
    );
    let listed = sc.supplemental_groups.iter().flatten().enumerate();
    let listed: Vec<(usize, i64)> = listed.map(|(i, g)| (i, *g)).collect();
    Security {
        run_as_user: id(r, &path.key("runAsUser"), sc.run_as_user),
        run_as_group: id(r, &path.key("runAsGroup"), sc.run_as_group),
        run_as_non_root: sc.run_as_non_root.unwrap_or(false),
        supplemental_groups: listed
            .into_iter()
            .filter_map(|(i, g)| id(r, &groups.index(i), Some(g)))
            .collect(),
        strict_groups: r
            .choice(
                &path.key("supplementalGroupsPolicy"),
                sc.supplemental_groups_policy.as_deref(),
                &policies,
            )
            .unwrap_or(false),
        fs_group: id(r, &path.key("fsGroup"), sc.fs_group),
        fs_group_on_mismatch: change.unwrap_or(false),
        seccomp: seccomp(r, path, sc.seccomp_profile.as_ref()).unwrap_or_default(),
        app_armor: app_armor(r, path, sc.app_armor_profile.as_ref()),
        se_linux: se_linux(r, path, sc.se_linux_options.as_ref()),
        ..Security::default()
    }
}

/// The container's own over the Pod's. `pod_path` is where the Pod's is, for
/// faults that come from there. `annotated` is the profile that an annotation names.
pub(super) fn lower_container(
    r: &mut Report<'_>,
    path: &Path,
    sc: Option<&core::SecurityContext>,
    pod: &Security,
    pod_path: &Path,
    annotated: Option<&AppArmor>,
) -> Security {
    let empty = core::SecurityContext::default();
    let sc = sc.unwrap_or(&empty);
    let mut s = pod.clone();
    // An annotation counts as the container's own field.
    let own = app_armor(r, path, sc.app_armor_profile.as_ref());
    if own.is_some() && annotated.is_some() && own.as_ref() != annotated {
        r.forbidden(
            &path.key("appArmorProfile"),
            "the annotation container.apparmor.security.beta.kubernetes.io names another profile \
             for this container: remove the annotation",
        );
    }
    // The API merges no parts: a container's options take the place of the Pod's.
    s.se_linux = se_linux(r, path, sc.se_linux_options.as_ref()).or(s.se_linux);
    s.app_armor = own.or_else(|| annotated.cloned()).or(s.app_armor);
    s.run_as_user = id(r, &path.key("runAsUser"), sc.run_as_user).or(s.run_as_user);
    s.run_as_group = id(r, &path.key("runAsGroup"), sc.run_as_group).or(s.run_as_group);
    s.run_as_non_root = sc.run_as_non_root.unwrap_or(s.run_as_non_root);
    s.privileged = sc.privileged.unwrap_or(false);
    s.read_only_root = sc.read_only_root_filesystem.unwrap_or(false);
    s.allow_privilege_escalation = sc.allow_privilege_escalation;
    if let Some(own) = seccomp(r, path, sc.seccomp_profile.as_ref()) {
        s.seccomp = own;
    }
    // The CRI runs a privileged container without a filter, whatever is asked.
    if s.privileged {
        s.seccomp = Seccomp::Unconfined;
    }
    if s.run_as_non_root && s.run_as_user == Some(0) {
        let from = if sc.run_as_user.is_some() {
            path
        } else {
            pod_path
        };
        r.invalid_number(
            &from.key("runAsUser"),
            0,
            "runAsNonRoot is set, so the user must not be 0",
        );
    }
    if s.privileged && s.allow_privilege_escalation == Some(false) {
        r.invalid(
            path,
            "allowPrivilegeEscalation: false",
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    let kinds = [("Default", false), ("Unmasked", true)];
    let proc_mount = path.key("procMount");
    s.unmasked_proc = r
        .choice(&proc_mount, sc.proc_mount.as_deref(), &kinds)
        .unwrap_or(false);
    if s.unmasked_proc {
        r.warn(
            &proc_mount,
            "a cluster takes Unmasked only together with hostUsers: false",
        );
    }
    if let Some(caps) = &sc.capabilities {
        let path = path.key("capabilities");
        s.capabilities_add = capabilities(r, &path.key("add"), caps.add.as_deref(), false);
        s.capabilities_drop = capabilities(r, &path.key("drop"), caps.drop.as_deref(), true);
    }
    s
}

/// `drop`: what a file that podman has generated names with the prefix is dropped, as it
/// means to. A cluster drops nothing then, so that it is said.
fn capabilities(
    r: &mut Report<'_>,
    path: &Path,
    names: Option<&[String]>,
    drop: bool,
) -> Vec<String> {
    let mut list = Vec::new();
    for (i, name) in names.unwrap_or_default().iter().enumerate() {
        let path = path.index(i);
        let upper = name.to_uppercase();
        if upper == "ALL" || CAPABILITIES.contains(&upper.as_str()) {
            list.push(upper);
            continue;
        }
        // On a cluster CAP_X becomes CAP_CAP_X, which does not exist.
        let known = CAPABILITIES.iter().copied().chain(["ALL"]);
        let meant = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if drop && CAPABILITIES.contains(&meant) {
            r.warn(
                &path,
                format!("taken for {meant}: names go without CAP_, and a cluster ignores this one"),
            );
            list.push(meant.to_owned());
            continue;
        }
        match nearest(meant, known) {
            Some(near) => r.invalid(
                &path,
                name,
                format!("no such capability: did you mean {near:?}? (names go without CAP_)"),
            ),
            None => r.invalid(&path, name, "no such capability; see capabilities(7)"),
        }
    }
    list
}

/// Sysctls of the Pod's namespaces, with dotted names.
pub(super) fn sysctls(
    r: &mut Report<'_>,
    path: &Path,
    list: Option<&[core::Sysctl]>,
    host_network: bool,
    host_ipc: bool,
) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for (i, sysctl) in list.unwrap_or_default().iter().enumerate() {
        let name_path = path.index(i).key("name");
        if sysctl.name.is_empty() {
            r.required(&name_path, "");
            continue;
        }
        if let Err(why) = names::sysctl_name(&sysctl.name) {
            r.invalid(&name_path, &sysctl.name, why);
            continue;
        }
        let name = dotted(&sysctl.name);
        if out.iter().any(|(have, _)| *have == name) {
            r.duplicate(&name_path, &sysctl.name);
        } else if !SAFE_SYSCTLS.contains(&name.as_str()) {
            r.refused(
                &name_path,
                format!(
                    "{name} is not one of Kubernetes' safe sysctls, and unsafe ones are not \
                     supported yet; safe are: {}",
                    SAFE_SYSCTLS.join(", ")
                ),
            );
        } else if host_network && name.starts_with("net.") {
            r.invalid(
                &name_path,
                &name,
                "may not be specified when 'hostNetwork' is true",
            );
        } else if host_ipc && name.starts_with("kernel.shm") {
            r.invalid(
                &name_path,
                &name,
                "may not be specified when 'hostIPC' is true",
            );
        } else if sysctl.value.is_empty() || sysctl.value.contains('\n') {
            r.invalid(
                &path.index(i).key("value"),
                &sysctl.value,
                "must be one line of text",
            );
        }
        out.push((name, sysctl.value.clone()));
    }
    out
}

/// sysctl(8): with slashes as separators a dot is part of a name, and the other
/// way round.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(i) if name.as_bytes()[i] == b'/' => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}
