//! From a Pod's container and its image to an OCI runtime configuration: pure but
//! for what it is given. The result is written to the bundle as `config.json` and
//! planned by [`crate::oci::plan`]: all that the container is stands there, so that
//! another monitor, or another runtime, makes the same of it.
//!
//! Sources: Kubernetes' API reference (Container, SecurityContext), the defaults
//! of containerd's CRI plugin, OCI runtime-spec config.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime as oci;

use super::limits::{oom_score, plan_resources};
use super::mounts::plan_mounts;
use crate::container::plan::DEFAULT_PATH;
use crate::container::plan::namespace::{IPC, KINDS, NET, UTS};
use crate::container::user::{Accounts, User};
use crate::image;
use crate::linux::capability::Set;
use crate::linux::seccomp::profile::runtime_default;
use crate::oci::config::{Capabilities, Config, Process};
use crate::oci::plan::describe_rlimits;
use crate::oci::seccomp;
use crate::spec::{Container, EnvValue, Pod, Seccomp, Spec};
use crate::store::PodPaths;
use crate::{Context, Error, Kind, Result};

/// Everything that decides what a container looks like inside.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub paths: &'a PodPaths,
    pub container: &'a Container,
    pub image: &'a image::Config,
    pub accounts: &'a Accounts,
    pub ips: &'a [std::net::IpAddr],
    pub host_ip: Option<std::net::IpAddr>,
    /// The file that becomes terminationMessagePath.
    pub termination_log: &'a Path,
    pub node_name: &'a str,
    /// The AppArmor profile that it runs under.
    pub app_armor: Option<&'a str>,
    /// What this program has: it cannot give more.
    pub permitted: Set,
    /// getrlimit(2): number, soft and hard limit.
    pub rlimits: &'a [(u32, u64, u64)],
    /// Absolute: [`crate::linux::cgroup::Place::from_path`].
    pub cgroup: &'a str,
    /// Whether the memory controller is cgroup v2's.
    pub memory_is_v2: bool,
    /// SELinux labels of its process and of its files.
    pub process_label: Option<&'a str>,
    pub file_label: Option<&'a str>,
    /// What the host has, in thousandths of a CPU and bytes: limits that are not
    /// set mean this to a resourceFieldRef.
    pub node_cpu: u64,
    pub node_memory: u64,
}

/// The namespaces that the containers of a Pod share: their flags, and their names in
/// /proc/<pid>/ns.
pub(super) const SHARED: [(CloneFlags, &str); 3] = [(NET, "net"), (UTS, "uts"), (IPC, "ipc")];

/// Those that the Pod has of its own; of the others it shares the host's.
pub(super) fn pod_namespaces(spec: &Spec) -> impl Iterator<Item = (CloneFlags, &'static str)> {
    let (net, ipc) = (!spec.host_network, !spec.host_ipc);
    SHARED.into_iter().filter(move |(kind, _)| match *kind {
        NET => net,
        IPC => ipc,
        _ => true,
    })
}

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// # Errors
/// [`Kind::Invalid`] with what a kubelet calls CreateContainerConfigError: a user
/// that is not there, root where it is forbidden, a variable that has no value.
pub fn plan(inputs: &Inputs) -> Result<Config> {
    let Inputs {
        container: c,
        image,
        ..
    } = inputs;
    let security = &c.security;
    let user = plan_user(inputs)?;
    let env = plan_env(inputs, &user)?;
    let set = if security.privileged {
        Set::supported()
    } else {
        Set::container_default()
            .adjusted(&security.capabilities_add, &security.capabilities_drop)?
    };
    let mounts = plan_mounts(inputs, &env.own)?;
    let argv = plan_argv(c, image, &env.own)?;
    let oci_user = oci::UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups.clone());
    let cwd = c
        .working_dir
        .clone()
        .unwrap_or_else(|| image.working_dir.clone());
    let process = Process {
        args: Some(argv),
        env: Some(env.all),
        // An absolute one replaces the slash.
        cwd: Path::new("/").join(cwd),
        user: oci_user.build().map_err(from_builder)?,
        capabilities: Some(oci_capabilities(set & inputs.permitted, user.uid == 0)),
        rlimits: Some(describe_rlimits(inputs.rlimits)?),
        no_new_privileges: Some(security.allow_privilege_escalation == Some(false)),
        oom_score_adj: Some(oom_score(&inputs.pod.spec, c, inputs.node_memory)),
        terminal: Some(c.tty),
        apparmor_profile: inputs.app_armor.map(str::to_owned),
        selinux_label: inputs.process_label.map(str::to_owned),
        ..Process::default()
    };

    let paths = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let bare = security.privileged || security.unmasked_proc;
    let devices = if security.privileged {
        host_devices()?
    } else {
        Vec::new()
    };
    let mut linux = oci::LinuxBuilder::default()
        .devices(devices)
        .namespaces(plan_namespaces(inputs)?)
        .masked_paths(if bare { Vec::new() } else { paths(&MASKED) })
        .readonly_paths(if bare { Vec::new() } else { paths(&READ_ONLY) })
        .resources(plan_resources(c, inputs.memory_is_v2))
        .cgroups_path(inputs.cgroup)
        .build()
        .map_err(from_builder)?;
    if security.seccomp == Seccomp::RuntimeDefault && !security.privileged {
        // By what the manifest gives, also of what this program cannot pass on: the same
        // manifest has the same filter on every machine.
        linux.set_seccomp(Some(seccomp::describe(&runtime_default(set))?));
    }
    linux.set_mount_label(inputs.file_label.map(str::to_owned));
    let root = oci::RootBuilder::default()
        .path("rootfs")
        .readonly(security.read_only_root)
        .build()
        .map_err(from_builder)?;
    Ok(Config {
        oci_version: "1.3.0".into(),
        root: Some(root),
        mounts: Some(mounts),
        process: Some(process),
        linux: Some(linux),
        ..Config::default()
    })
}

/// Its own, and those of its Pod by the paths where they are pinned. A kind that is not
/// there is the host's.
fn plan_namespaces(inputs: &Inputs) -> Result<Vec<oci::LinuxNamespace>> {
    let spec = &inputs.pod.spec;
    let own = ["pid", "mount", "cgroup"];
    let own = own
        .into_iter()
        .filter(|kind| !(spec.host_pid && *kind == "pid"));
    let own = own.map(|kind| (kind, None));
    let joined = pod_namespaces(spec).map(|(flag, name)| {
        let kind = KINDS.iter().find(|(f, ..)| *f == flag);
        let path = inputs.paths.namespace(name);
        (kind.map_or(name, |(_, kind, _)| kind), Some(path))
    });
    own.chain(joined)
        .map(|(kind, path)| {
            let mut namespace = oci::LinuxNamespace::default();
            namespace
                .set_typ(oci::LinuxNamespaceType::try_from(kind).map_err(from_builder)?)
                .set_path(path);
            Ok(namespace)
        })
        .collect()
}

pub(super) fn from_builder(e: impl std::fmt::Display) -> Error {
    Error::failed(format!("build the OCI configuration: {e}"))
}

pub(super) fn config_error(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

fn plan_argv(c: &Container, image: &image::Config, own: &Vars) -> Result<Vec<String>> {
    let expand_all = |list: &[String]| list.iter().map(|s| expand(s, own)).collect::<Vec<_>>();
    // command replaces ENTRYPOINT and drops CMD; args alone replaces CMD.
    let mut argv = if c.command.is_empty() {
        image.entrypoint.clone()
    } else {
        expand_all(&c.command)
    };
    if !c.args.is_empty() {
        argv.extend(expand_all(&c.args));
    } else if c.command.is_empty() {
        argv.extend(image.cmd.iter().cloned());
    }
    if argv.is_empty() {
        return Err(config_error("no command specified").hint(
            "the image has neither ENTRYPOINT nor CMD: set command in the container, such as \
                 command: [\"/bin/app\"]",
        ));
    }
    if argv[0].is_empty() {
        return Err(config_error("the first item of the command is empty").hint(
            "name a program there, such as command: [\"/bin/app\"], or leave command out for the \
             image's own; a variable in it, $(NAME), may be empty",
        ));
    }
    Ok(argv)
}

fn plan_user(inputs: &Inputs) -> Result<User> {
    let s = &inputs.container.security;
    let mut user = match s.run_as_user {
        Some(uid) => inputs.accounts.by_uid(uid),
        None => inputs
            .accounts
            .find(&inputs.image.user)
            .context("the image's USER")?,
    };
    if s.run_as_non_root && user.uid == 0 {
        return Err(config_error(match s.run_as_user {
            Some(_) => "container's runAsUser breaks non-root policy",
            None => "container has runAsNonRoot and image will run as root",
        })
        .hint("set securityContext.runAsUser to a number that is not 0"));
    }
    let image_user = inputs.image.user.split(':').next().unwrap_or("");
    let by_name = !image_user.is_empty() && !image_user.bytes().all(|b| b.is_ascii_digit());
    if s.run_as_non_root && s.run_as_user.is_none() && by_name {
        return Err(config_error(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot \
             verify user is non-root"
        ))
        .hint(format!(
            "set securityContext.runAsUser to its number, {}",
            user.uid
        )));
    }
    if let Some(gid) = s.run_as_group {
        user.gid = gid;
    }
    if s.strict_groups {
        user.groups.clear();
    }
    // The primary group is a supplementary one too, as with login(1). A program that
    // changes its gid, a setgid one say, would leave the group otherwise, and with it
    // what files deny to the group and grant to others (CVE-2022-2989, CVE-2022-36109,
    // CVE-2023-25173).
    let found = std::mem::take(&mut user.groups);
    let asked = s.supplemental_groups.iter().chain(&s.fs_group).copied();
    for gid in [user.gid].into_iter().chain(found).chain(asked) {
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// The variables that `$(NAME)` may name.
pub(super) type Vars = BTreeMap<String, String>;

struct Env {
    /// What `$(VAR)` may name: the container's own variables.
    own: Vars,
    /// `KEY=value` for the process.
    all: Vec<String>,
}

fn plan_env(inputs: &Inputs, user: &User) -> Result<Env> {
    let c = inputs.container;
    let mut all: Vec<(String, String)> = vec![(
        "HOSTNAME".to_owned(),
        inputs
            .pod
            .spec
            .fqdn
            .clone()
            .filter(|_| inputs.pod.spec.set_hostname_as_fqdn)
            .unwrap_or_else(|| inputs.pod.spec.hostname.clone()),
    )];
    if c.tty {
        all.push(("TERM".into(), "xterm".into()));
    }
    let mut set = |name: &str, value: String| match all.iter_mut().find(|(n, _)| n == name) {
        Some((_, v)) => *v = value,
        None => all.push((name.to_owned(), value)),
    };
    for entry in &inputs.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value.to_owned());
    }
    let mut own = Vars::new();
    for v in &c.env {
        let value = match &v.value {
            EnvValue::Text(text) => expand(text, &own),
            EnvValue::Field(path) => {
                field_value(inputs, path).with_context(|| format!("env {}", v.name))?
            }
            EnvValue::Resource {
                container,
                resource,
                divisor,
            } => resource_value(inputs, container, resource, *divisor)
                .with_context(|| format!("env {}", v.name))?,
        };
        if value.contains('\0') {
            return Err(config_error(format!(
                "env {}: a NUL byte in the value",
                v.name
            )));
        }
        own.insert(v.name.clone(), value.clone());
        set(&v.name, value);
    }
    let has = |all: &[(String, String)], name: &str| all.iter().any(|(n, _)| n == name);
    if !has(&all, "PATH") {
        all.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    if !has(&all, "HOME") {
        all.push((
            "HOME".into(),
            user.home.clone().unwrap_or_else(|| "/".into()),
        ));
    }
    let all = all.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    Ok(Env { own, all })
}

/// `$(NAME)` becomes its value; `$$` is one `$`; a name without a value stays as it
/// is written.
pub fn expand(text: &str, vars: &Vars) -> String {
    expand_with(text, |name| match vars.get(name) {
        Some(value) => value.clone(),
        None => format!("$({name})"),
    })
}

/// As [`expand`], where a variable that is missing or empty would lead elsewhere: a
/// path of which a part is left out names another directory.
///
/// # Errors
/// [`Kind::Invalid`] with a kubelet's text and the variables' names.
pub(super) fn expand_all_or_fail(text: &str, vars: &Vars) -> Result<String> {
    let mut missing = BTreeSet::new();
    let expanded = expand_with(text, |name| {
        let value = vars.get(name).cloned().unwrap_or_default();
        if value.is_empty() {
            missing.insert(name.to_owned());
        }
        value
    });
    if missing.is_empty() {
        return Ok(expanded);
    }
    let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
    Err(
        config_error(format!("missing value for {missing}")).hint(format!(
            "{text:?} is expanded from the container's env: set each variable that it names"
        )),
    )
}

fn expand_with(text: &str, mut value_of: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(end) = rest.strip_prefix('(').and_then(|r| r.find(')')) {
            out.push_str(&value_of(&rest[1..=end]));
            rest = &rest[end + 2..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

fn field_value(inputs: &Inputs, path: &str) -> Result<String> {
    let pod = inputs.pod;
    let ip = |ip: Option<&std::net::IpAddr>| ip.map(ToString::to_string).unwrap_or_default();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &pod.labels,
            "metadata.annotations" => &pod.annotations,
            _ => return Err(config_error(format!("fieldRef {path}: no such field"))),
        };
        return Ok(map.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid.clone(),
        "spec.nodeName" => inputs.node_name.to_owned(),
        "spec.serviceAccountName" => "default".into(),
        "status.podIP" => ip(inputs.ips.first()),
        "status.podIPs" => inputs
            .ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
        "status.hostIP" | "status.hostIPs" => ip(inputs.host_ip.as_ref()),
        _ => return Err(config_error(format!("fieldRef {path}: no such field"))),
    })
}

fn resource_value(
    inputs: &Inputs,
    container: &str,
    resource: &str,
    divisor: u64,
) -> Result<String> {
    let c =
        if container.is_empty() {
            inputs.container
        } else {
            inputs.pod.spec.container(container).ok_or_else(|| {
                config_error(format!("resourceFieldRef: no container {container:?}"))
            })?
        };
    let r = c.resources;
    let value = match resource {
        "limits.cpu" => r.cpu_limit.unwrap_or(inputs.node_cpu),
        "limits.memory" => r.memory_limit.unwrap_or(inputs.node_memory),
        "requests.cpu" => r.cpu_request.or(r.cpu_limit).unwrap_or(0),
        "requests.memory" => r.memory_request.or(r.memory_limit).unwrap_or(0),
        other => {
            return Err(config_error(format!(
                "resourceFieldRef {other}: not supported yet"
            )));
        }
    };
    Ok(value.div_ceil(divisor.max(1)).to_string())
}

/// A privileged container has every device of the host, terminals excepted.
fn host_devices() -> Result<Vec<oci::LinuxDevice>> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    const OWN: [&str; 6] = ["pts", "shm", "mqueue", "console", "ptmx", "fd"];
    let mut devices = Vec::new();
    let mut left = vec![PathBuf::from("/dev")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            if OWN.contains(&name.as_str()) || name.starts_with("tty") {
                continue;
            }
            let kind = match meta.file_type() {
                t if t.is_dir() => {
                    left.push(entry.path());
                    continue;
                }
                t if t.is_char_device() => oci::LinuxDeviceType::C,
                t if t.is_block_device() => oci::LinuxDeviceType::B,
                _ => continue,
            };
            let device = oci::LinuxDeviceBuilder::default()
                .path(entry.path())
                .typ(kind)
                .major(nix::sys::stat::major(meta.rdev()) as i64)
                .minor(nix::sys::stat::minor(meta.rdev()) as i64)
                .file_mode(meta.mode() & 0o7777)
                .uid(meta.uid())
                .gid(meta.gid())
                .build()
                .map_err(from_builder)?;
            devices.push(device);
        }
    }
    Ok(devices)
}

fn oci_capabilities(set: Set, root: bool) -> Capabilities {
    let all: Vec<String> = set.iter().map(|c| c.to_string()).collect();
    let held = if root { all.clone() } else { Vec::new() };
    Capabilities {
        bounding: Some(all),
        effective: Some(held.clone()),
        permitted: Some(held),
        inheritable: Some(Vec::new()),
        ambient: Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_in_kubernetes() {
        let vars = Vars::from([("A".into(), "1".into()), ("B".into(), "$(A)".into())]);
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("ü$(A)ü", "ü1ü"),
        ] {
            assert_eq!(expand(text, &vars), want, "{text}");
        }
    }

    #[test]
    fn a_path_with_a_missing_or_empty_variable_is_refused() {
        let vars = Vars::from([("A".into(), "1".into()), ("EMPTY".into(), String::new())]);
        for (text, want) in [
            ("a/$(A)", Ok("a/1")),
            ("$$(NONE)", Ok("$(NONE)")),
            ("$(EMPTY)", Err("missing value for EMPTY")),
            ("x/$(NONE)", Err("missing value for NONE")),
            (
                "$(NONE)$(A)$(EMPTY)$(NONE)",
                Err("missing value for EMPTY, NONE"),
            ),
            ("$()", Err("missing value for ")),
        ] {
            let got = expand_all_or_fail(text, &vars).map_err(|e| {
                assert_eq!(e.kind(), Kind::Invalid);
                e.to_string()
            });
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
    }
}
