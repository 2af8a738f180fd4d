//! From a Pod's container and its image to an OCI runtime configuration: pure but
//! for what it is given. The result is written to the bundle as `config.json` and
//! planned by [`crate::oci::plan`]: all that the container is stands there, so that
//! another monitor, or another runtime, makes the same of it.
//!
//! Sources: Kubernetes' API reference (Container, SecurityContext), the defaults
//! of containerd's CRI plugin, OCI runtime-spec config.md.

mod devices;
mod env;
mod expand;
mod fault;
mod files;
mod inputs;
mod mounts;
mod objects;

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use nix::sched::CloneFlags;
use oci_spec::runtime as oci;

pub(crate) use env::{OwnEnv, own_env};
pub(crate) use expand::expand;
pub(crate) use inputs::{EnvInputs, Inputs};
pub(crate) use objects::EnvObjects;

use env::plan_env;
use fault::{LENGTH_MAX, config_error, from_builder, too_long};
use mounts::plan_mounts;

use super::limits::{oom_score, plan_resources};
use crate::container::plan::Plan;
use crate::container::plan::namespace::{IPC, KINDS, NET, UTS};
use crate::container::user::User;
use crate::image;
use crate::linux::capability::Set;
use crate::linux::cgroup::Resources;
use crate::oci::config::{Capabilities, Config, Process};
use crate::oci::plan::{describe_rlimits, plan_with};
use crate::oci::resources;
use crate::oci::seccomp::{Filters, Known};
use crate::spec::{Container, Seccomp, Spec};
use crate::store;
use crate::{Context, Result};

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

/// What a container's bundle says.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// All but the filter.
    config: Config,
    /// That of other containers of the Pod, too.
    filter: Option<Rc<Known>>,
    /// Where values of Secrets are among the process' arguments and variables.
    shown: Option<Shown>,
}

/// What the written bundle has in the place of secret values.
#[derive(Debug)]
struct Shown {
    /// The variables in them are not expanded where their values are secret.
    args: Vec<String>,
    /// Variables that it leaves out.
    without: BTreeSet<String>,
}

/// The annotation of a bundle that names the variables which it leaves out.
const LEFT_OUT: &str = "carob/secret-env";

impl Bundle {
    /// Writes it: `config.json`, without what is secret.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let filter = self.filter.as_ref().map(|f| f.json.as_str());
        let Some(shown) = &self.shown else {
            return store::save_json(path, &self.config.to_json(filter)?);
        };
        let mut config = self.config.clone();
        if let Some(process) = &mut config.process {
            process.args = Some(shown.args.clone());
            if let Some(env) = &mut process.env {
                let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
                env.retain(|entry| !shown.without.contains(&name(entry)));
            }
        }
        let names: Vec<&str> = shown.without.iter().map(String::as_str).collect();
        let annotations = config.annotations.get_or_insert_default();
        annotations.insert(LEFT_OUT.to_owned(), names.join(" "));
        store::save_json(path, &config.to_json(filter)?)
    }

    /// What the written file means.
    pub(crate) fn plan(&self) -> Result<(Plan, Resources)> {
        let filter = self.filter.as_ref().map(|f| Rc::clone(&f.filter));
        let plan = plan_with(&self.config, filter).context("config.json")?;
        let linux = self.config.linux.as_ref();
        let limits = match linux.and_then(|l| l.resources().as_ref()) {
            Some(limits) => resources::limits(limits).context("config.json")?,
            None => Resources::default(),
        };
        Ok((plan, limits))
    }
}

/// The bundle of a container. `filters` knows the seccomp profiles that have been described
/// before.
///
/// # Errors
/// [`crate::Kind::Invalid`] with what a kubelet calls CreateContainerConfigError: a user
/// that is not there, root where it is forbidden, a variable that has no value.
pub(crate) fn plan(inputs: &Inputs, filters: &mut Filters) -> Result<Bundle> {
    let Inputs {
        container: c,
        image,
        ..
    } = inputs;
    let security = &c.security;
    let user = plan_user(inputs)?;
    let own = own_env(&inputs.env)?;
    let env = plan_env(inputs, &user, &own);
    let set = if security.privileged {
        Set::supported()
    } else {
        Set::container_default()
            .adjusted(&security.capabilities_add, &security.capabilities_drop)?
    };
    let mounts = plan_mounts(inputs, &own.vars)?;
    let argv = plan_argv(c, image, &own)?;
    let oci_user = oci::UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups.clone());
    let cwd = c
        .working_dir
        .clone()
        .unwrap_or_else(|| image.working_dir.clone());
    let process = Process {
        args: Some(argv.all),
        env: Some(env),
        // An absolute one replaces the slash.
        cwd: Path::new("/").join(cwd),
        user: oci_user.build().map_err(from_builder)?,
        capabilities: Some(oci_capabilities(set & inputs.permitted, user.uid == 0)),
        rlimits: Some(describe_rlimits(inputs.rlimits)?),
        no_new_privileges: Some(security.allow_privilege_escalation == Some(false)),
        oom_score_adj: Some(oom_score(&inputs.pod.spec, c, inputs.env.node.memory)),
        terminal: Some(c.tty),
        apparmor_profile: inputs.app_armor.map(str::to_owned),
        selinux_label: inputs.process_label.map(str::to_owned),
        ..Process::default()
    };

    let paths = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let bare = security.privileged || security.unmasked_proc;
    let mut resources = plan_resources(c, inputs.pod.spec.hugepages(), inputs.memory_is_v2);
    devices::allow(inputs, &mut resources)?;
    let mut linux = oci::LinuxBuilder::default()
        .devices(devices::plan(inputs)?)
        .namespaces(plan_namespaces(inputs)?)
        .masked_paths(if bare { Vec::new() } else { paths(&MASKED) })
        .readonly_paths(if bare { Vec::new() } else { paths(&READ_ONLY) })
        .resources(resources)
        .cgroups_path(inputs.cgroup)
        .build()
        .map_err(from_builder)?;
    let filter = match security.seccomp {
        // By what the manifest gives, also of what this program cannot pass on: the same
        // manifest has the same filter on every machine.
        Seccomp::RuntimeDefault if !security.privileged => Some(filters.default_for(set)?),
        _ => None,
    };
    linux.set_mount_label(inputs.file_label.map(str::to_owned));
    let root = oci::RootBuilder::default()
        .path("rootfs")
        .readonly(security.read_only_root)
        .build()
        .map_err(from_builder)?;
    let config = Config {
        oci_version: "1.3.0".into(),
        root: Some(root),
        mounts: Some(mounts),
        process: Some(process),
        linux: Some(linux),
        ..Config::default()
    };
    let shown = (!own.secret.is_empty()).then_some(Shown {
        args: argv.shown,
        without: own.secret,
    });
    Ok(Bundle {
        config,
        filter,
        shown,
    })
}

/// Its own, and those of its Pod by the paths where they are pinned; the pid namespace may be
/// the one or the other. A kind that is not
/// there is the host's.
fn plan_namespaces(inputs: &Inputs) -> Result<Vec<oci::LinuxNamespace>> {
    let spec = &inputs.pod.spec;
    let own = ["pid", "mount", "cgroup"];
    let own = own
        .into_iter()
        .filter(|kind| !(spec.host_pid && *kind == "pid"));
    let own = own.map(|kind| match kind {
        "pid" => (kind, inputs.pid_namespace.map(Path::to_path_buf)),
        _ => (kind, None),
    });
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

struct Argv {
    all: Vec<String>,
    /// As it is written to disk.
    shown: Vec<String>,
}

fn plan_argv(c: &Container, image: &image::Config, own: &OwnEnv) -> Result<Argv> {
    let all = argv_of(c, image, &|text| expand(text, &own.vars));
    let shown = argv_of(c, image, &|text| match own.is_secret(text) {
        true => text.to_owned(),
        false => expand(text, &own.vars),
    });
    if all.is_empty() {
        return Err(config_error("no command specified").hint(
            "the image has neither ENTRYPOINT nor CMD: set command in the container, such as \
                 command: [\"/bin/app\"]",
        ));
    }
    if let Some(i) = all.iter().position(|word| word.len() > LENGTH_MAX) {
        return Err(too_long(&format!("word {} of the command", i + 1)));
    }
    if all[0].is_empty() {
        return Err(config_error("the first item of the command is empty").hint(
            "name a program there, such as command: [\"/bin/app\"], or leave command out for the \
             image's own; a variable in it, $(NAME), may be empty",
        ));
    }
    Ok(Argv { all, shown })
}

fn argv_of(c: &Container, image: &image::Config, expand: &dyn Fn(&str) -> String) -> Vec<String> {
    let expand_all = |list: &[String]| list.iter().map(|s| expand(s)).collect::<Vec<_>>();
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
    argv
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
