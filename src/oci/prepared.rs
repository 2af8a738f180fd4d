//! What `create` and `restore` begin with: the configuration read, planned and checked
//! while there is nothing to undo; then the first record and the cgroup.

use std::path::{Path, PathBuf};

use nix::unistd::{Pid, Uid};
use oci_spec::runtime as oci;

use super::config::Config;
use super::create::{CgroupDriver, Order, Undo};
use super::plan::mount::resolve_root;
use super::plan::{plan_container, plan_hooks};
use super::record::{Containers, Record, check_id, read_config};
use super::{notify, resources};
use crate::container::hook::Hooks;
use crate::container::plan::namespace::{CGROUP, USER};
use crate::container::plan::{self, Plan};
use crate::linux::capability::permitted;
use crate::linux::cgroup::systemd::{self, Scope};
use crate::linux::cgroup::{Cgroup, Join, Place, Resources, Select};
use crate::linux::mount::ATTR_RDONLY;
use crate::{Context, Error, Result};

/// A configuration as it was read and planned, before anything is made.
pub(super) struct Prepared {
    spec: Config,
    pub(super) plan: Plan,
    pub(super) hooks: Hooks,
    resources: Resources,
    /// With the systemd driver.
    pub(super) scope: Option<Scope>,
    properties: Vec<systemd::Property>,
    /// The root filesystem, without links.
    pub(super) rootfs: PathBuf,
    /// What was asked for and could not be given, for the log.
    pub(super) warnings: Vec<String>,
    /// config.json as it is.
    bytes: Vec<u8>,
}

impl Prepared {
    /// Reads and plans the configuration of the bundle.
    pub(super) fn read(containers: &Containers, order: &Order) -> Result<Prepared> {
        check_id(&order.id)?;
        let (mut spec, bytes) = read_config(&order.bundle.join("config.json"))?;
        check_version(&spec.oci_version)?;
        if order.notify {
            notify::add(containers, &order.id, &mut spec)?;
        }
        let mut warnings = Vec::new();
        let plan = plan_for(order, &spec, &mut warnings)?;
        let hooks = plan_hooks(spec.hooks.as_ref())?;
        let resources = spec.linux.as_ref().and_then(|l| l.resources().as_ref());
        let resources = resources::plan(
            &spec.oci_version,
            resources.unwrap_or(&oci::LinuxResources::default()),
            &bytes,
            "/linux/resources",
        )?;
        for field in &resources.ignored {
            warnings.push(format!(
                "linux.resources.{field}: kernels no longer limit that"
            ));
        }
        let path = cgroups_path(&spec);
        let scope = match order.cgroups {
            CgroupDriver::Systemd => {
                Some(Scope::from_path(path, &order.id, false).context("linux.cgroupsPath")?)
            }
            _ => None,
        };
        let properties = systemd_properties(&spec)?;
        let rootfs = root_path(&order.bundle, &spec)?;
        check_console(order, &plan)?;
        Ok(Prepared {
            spec,
            plan,
            hooks,
            resources,
            scope,
            properties,
            rootfs,
            warnings,
            bytes,
        })
    }

    /// Writes the first record of the container, whose id is claimed, and its
    /// configuration; then makes its cgroup, unless systemd is to.
    pub(super) fn record(
        &self,
        containers: &Containers,
        order: &Order,
        undo: &mut Undo,
    ) -> Result<(Record, Option<Join>)> {
        let mut record = Record::new(&order.id, &order.bundle, &self.rootfs, &self.spec);
        record.namespaces = self.plan.namespaces.all().bits();
        record.callers_keyring = order.no_new_keyring;
        record.hooks = !(self.hooks.poststart.is_empty() && self.hooks.poststop.is_empty());
        record.cgroup = match order.cgroups {
            CgroupDriver::Disabled | CgroupDriver::Systemd => None,
            CgroupDriver::Cgroupfs => Some(
                Place::from_path(
                    cgroups_path(&self.spec),
                    &order.id,
                    containers.hierarchies()?,
                )
                .context("linux.cgroupsPath")?,
            ),
        };
        containers.save(&record)?;
        containers.keep_config(&order.id, &self.bytes)?;
        if order.notify {
            notify::make_directory(containers, &order.id)?;
        }
        let join = match &record.cgroup {
            Some(place) => Some(make_cgroup(containers, place, &self.resources, undo)?),
            None => None,
        };
        if let (Some(cgroup), Some(owner)) = (&undo.cgroup, cgroup_owner(&self.plan)) {
            cgroup.give_to(owner)?;
        }
        Ok((record, join))
    }

    /// Has systemd put the container's process into its scope.
    pub(super) fn start_scope(
        &self,
        containers: &Containers,
        scope: &Scope,
        pid: Pid,
    ) -> Result<Cgroup> {
        let h = containers.hierarchies()?;
        let cgroup = systemd::start(h, scope, pid, &self.resources, &self.properties)?;
        if let Some(owner) = cgroup_owner(&self.plan) {
            cgroup.give_to(owner)?;
        }
        Ok(cgroup)
    }
}

/// semver: 1.x is what this program knows.
fn check_version(version: &str) -> Result<()> {
    let numbers = version.split(['-', '+']).next().unwrap_or("");
    let parts: Vec<Option<u32>> = numbers.split('.').map(|p| p.parse().ok()).collect();
    match parts.as_slice() {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => Err(Error::unsupported(format!(
            "ociVersion: {version}: this program knows 1.x"
        ))),
        _ => Err(Error::invalid(format!(
            "ociVersion: {version:?} is no version, as in 1.3.0"
        ))),
    }
}

fn plan_for(order: &Order, spec: &Config, warnings: &mut Vec<String>) -> Result<Plan> {
    if spec.linux.is_none() && spec.vm.is_some() {
        return Err(Error::unsupported(
            "vm: this program makes no virtual machines",
        ));
    }
    let mut plan = plan_container(spec)?;
    resolve_root(&mut plan.mounts, &root_path(&order.bundle, spec)?);
    plan::check_namespaces(&plan)?;
    plan::check_labels(&plan)?;
    plan.pivot = !order.no_pivot;
    plan.process.own_keyring = !order.no_new_keyring;
    plan.process.plain_newlines = order.plain_newlines;
    prepare_process(
        &mut plan.process,
        order.preserve_fds,
        order.listen_fds,
        warnings,
    );
    Ok(plan)
}

/// What holds for the first process and for those that come later.
pub(crate) fn prepare_process(
    p: &mut plan::Process,
    preserve_fds: u32,
    listen_fds: u32,
    warnings: &mut Vec<String>,
) {
    p.preserve_fds = preserve_fds + listen_fds;
    p.find_home = true;
    warnings.append(&mut p.warnings);
    if listen_fds > 0 {
        p.env.push(format!("LISTEN_FDS={listen_fds}"));
        p.env.push("LISTEN_PID=1".into());
    }
    // "Any value which cannot be granted ... SHOULD NOT fail": config.md.
    let have = permitted();
    let c = &mut p.capabilities;
    let lacking = (c.permitted | c.bounding) - have;
    if !lacking.is_empty() {
        warnings.push(format!(
            "process.capabilities: this program does not have {lacking:?}, and cannot give them"
        ));
        c.bounding = c.bounding & have;
        c.permitted = c.permitted & have;
        c.effective = c.effective & have;
        c.inheritable = c.inheritable & have;
        c.ambient = c.ambient & have;
    }
    // buildah lists ambient capabilities that it does not list as inheritable.
    let raisable = c.permitted & c.inheritable;
    let lacking = c.ambient - raisable;
    for name in lacking.iter() {
        warnings.push(format!(
            "process.capabilities: can't raise ambient capability {name}: it is not both \
             permitted and inheritable"
        ));
    }
    c.ambient = c.ambient & raisable;
}

/// config-linux.md, "Cgroup ownership": a container with a cgroup namespace of its own,
/// and cgroups mounted for writing, is to manage the cgroups below its own. They become
/// those of the user that its process has on the host.
fn cgroup_owner(plan: &Plan) -> Option<Uid> {
    let writable = |m: &plan::Mount| {
        let is_read_only = (m.own.set | m.tree.set) & ATTR_RDONLY != 0;
        let place = Path::new("/sys/fs/cgroup");
        matches!(m.source, plan::Source::Cgroup) && m.target == place && !is_read_only
    };
    let n = &plan.namespaces;
    if !n.new.contains(CGROUP) || !plan.mounts.iter().any(writable) {
        return None;
    }
    let uid = plan.process.uid;
    let outside = match n.has(USER) {
        false => uid,
        true => n.uid_map.iter().find_map(|map| {
            let at = uid.checked_sub(map.inside).filter(|at| *at < map.count)?;
            map.outside.checked_add(at)
        })?,
    };
    (outside != 0).then(|| Uid::from_raw(outside))
}

fn root_path(bundle: &Path, spec: &Config) -> Result<PathBuf> {
    let root = spec
        .root
        .as_ref()
        .ok_or_else(|| Error::invalid("root: a container needs one"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::invalid("root.path: is empty"));
    }
    let path = bundle.join(root.path());
    path.canonicalize()
        .map_err(Error::from)
        .map_err(|e| match e.errno() {
            Some(nix::errno::Errno::ENOENT) => e.hint("the bundle has no such directory"),
            _ => e,
        })
        .with_context(|| format!("root.path: {}", path.display()))
}

fn check_console(order: &Order, plan: &Plan) -> Result<()> {
    match (plan.process.terminal, &order.console_socket) {
        (true, None) if !order.keep_terminal => Err(Error::invalid(
            "process.terminal: cannot allocate tty if carob-oci will detach without setting \
             console socket",
        )),
        (false, Some(_)) => Err(Error::invalid(
            "--console-socket: cannot use console socket if carob-oci will not detach or \
             allocate tty",
        )),
        _ => Ok(()),
    }
}

fn cgroups_path(spec: &Config) -> Option<&Path> {
    let linux = spec.linux.as_ref();
    linux.and_then(|l| l.cgroups_path().as_deref())
}

/// What annotations want of a scope; nothing of them is looked at for other drivers'
/// cgroups, but a mistake is told all the same.
fn systemd_properties(spec: &Config) -> Result<Vec<systemd::Property>> {
    let annotations = spec.annotations.iter().flatten();
    annotations
        .filter_map(|(key, value)| systemd::annotated(key, value).transpose())
        .collect()
}

fn make_cgroup(
    containers: &Containers,
    place: &Place,
    resources: &Resources,
    undo: &mut Undo,
) -> Result<Join> {
    let cgroup = Cgroup::create_fresh(containers.hierarchies()?, place, Select::All)?;
    let cgroup = undo.cgroup.insert(cgroup);
    cgroup.apply(resources).context("linux.resources")?;
    cgroup.join_plan()
}
