//! A container made from a bundle, for whoever commands from outside: runtime.md,
//! "Lifecycle", steps 2 to 5.
//!
//! 1. the configuration is read and planned: what is wrong with it is found while
//!    there is nothing to undo;
//! 2. the id is claimed, the record written;
//! 3. cgroup, limits;
//! 4. what the host's paths name is opened, the gate built;
//! 5. one clone ([`crate::container::spawn`]); the pid is recorded;
//! 6. hooks of the runtime's namespaces, the terminal handed over;
//! 7. the child waits at its gate: pid file.
//!
//! A failure undoes what was made, last first.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime as oci;

use super::config::Config;
use super::plan::mount::resolve_root;
use super::plan::{plan_container, plan_hooks};
use super::record::{Containers, Record, check_id, read_config};
use super::{notify, resources};
use crate::container::hook::{self, Hooks, Subject};
use crate::container::plan::namespace::{MOUNT, USER};
use crate::container::plan::{self, Plan};
use crate::container::spawn::{
    self, Event, HostMounts, Sources, Spawn, StartGate, Starting, Stdio,
};
use crate::container::{gate, rootfs};
use crate::linux::capability::permitted;
use crate::linux::cgroup::systemd::{self, Scope};
use crate::linux::cgroup::{Cgroup, Join, Place, Resources, Select};
use crate::linux::mount::Mount;
use crate::linux::procfs::Stat;
use crate::linux::resctrl::{self, Resctrl};
use crate::linux::{namespace, socket};
use crate::{Context, Error, Result};

/// Who takes care of cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    #[default]
    Cgroupfs,
    Systemd,
    /// Somebody else: the container stays where its maker is.
    Disabled,
}

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// Fds from 3 on that the program inherits.
    pub preserve_fds: u32,
    /// How many of these are sockets of systemd's (LISTEN_FDS).
    pub listen_fds: u32,
    pub cgroups: CgroupDriver,
    /// Whether the program can say that it is ready: [`super::notify`].
    pub notify: bool,
    /// With a terminal and without a socket for it, the master comes back.
    pub keep_terminal: bool,
    /// See [`plan::Process::plain_newlines`].
    pub plain_newlines: bool,
}

/// A container that waits for `start`.
#[derive(Debug)]
pub struct Made {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub terminal: Option<OwnedFd>,
    /// What was asked for and could not be given, for the log.
    pub warnings: Vec<String>,
}

/// A configuration as it was read and planned, before anything is made.
pub(super) struct Prepared {
    pub(super) spec: Config,
    pub(super) plan: Plan,
    pub(super) hooks: Hooks,
    pub(super) resources: Resources,
    /// With the systemd driver.
    pub(super) scope: Option<Scope>,
    pub(super) properties: Vec<systemd::Property>,
    /// The root filesystem, without links.
    pub(super) rootfs: PathBuf,
    /// What was asked for and could not be given, for the log.
    pub(super) warnings: Vec<String>,
    /// config.json as it is.
    bytes: Vec<u8>,
}

impl Prepared {
    /// Reads and plans the configuration of the bundle.
    pub(super) fn read(order: &Order) -> Result<Prepared> {
        check_id(&order.id)?;
        let (spec, bytes) = read_config(&order.bundle.join("config.json"))?;
        check_version(&spec.oci_version)?;
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
        &mut self,
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
            notify::prepare(containers, &mut self.plan)?;
        }
        let join = match &record.cgroup {
            Some(place) => Some(make_cgroup(place, &self.resources, undo)?),
            None => None,
        };
        Ok((record, join))
    }
}

/// Runs the hooks of the runtime's namespaces.
pub(super) fn run_runtime_hooks(hooks: &Hooks, subject: &Subject, pid: i32) -> Result<()> {
    // `prestart` ran between `create` and `start` before there were the kinds that
    // follow, and is told that status still.
    hook::run("prestart", &hooks.prestart, &subject.state("created", pid))?;
    let state = subject.state("creating", pid);
    hook::run("createRuntime", &hooks.create_runtime, &state)
}

/// Hands over what the caller asked for of the new process.
pub(super) fn announce(order: &Order, pid: i32, pidfd: Option<BorrowedFd>) -> Result<()> {
    if let (Some(path), Some(pidfd)) = (&order.pidfd_socket, pidfd) {
        socket::hand_over(path, b"pidfd", pidfd).context("--pidfd-socket")?;
    }
    match &order.pid_file {
        Some(path) => write_pid_file(path, pid),
        None => Ok(()),
    }
}

/// See the module's head. `stdio` becomes that of the container's first process.
pub fn create(containers: &Containers, order: &Order, stdio: &Stdio) -> Result<Made> {
    let mut prepared = Prepared::read(order)?;
    // A machine without resctrl is told so before anything is made.
    let resctrl = match prepared.plan.resctrl.take() {
        Some(wanted) => Some((Resctrl::open().context("linux.intelRdt")?, wanted)),
        None => None,
    };

    let lock = containers.claim(&order.id)?;
    let mut undo = Undo::new(containers, &order.id);
    let made = (|| {
        let (mut record, join) = prepared.record(containers, order, &mut undo)?;
        let Prepared {
            plan,
            hooks,
            resources,
            scope,
            properties,
            rootfs,
            ..
        } = &prepared;
        let join = match join {
            None if scope.is_some() => Some(Join::done_by_another(containers.hierarchies()?)),
            join => join,
        };
        if let Some((resctrl, wanted)) = &resctrl {
            let place = resctrl.make(wanted, &order.id).context("linux.intelRdt")?;
            record.resctrl = undo.resctrl.insert(place).clone().into();
            containers.save(&record)?;
        }
        let resctrl_tasks = record.resctrl_tasks()?;
        let opened = Opened::open(containers, &order.id, plan, rootfs)?;
        let host_mounts = opened.own_mounts.as_ref().map(|(own, pin)| HostMounts {
            namespace: own.as_fd(),
            pin,
        });
        let subject = record.subject();
        // The record tells of the scope when it is this container's, and not before:
        // another's may have its name, and is not this one's to stop. Should this
        // program be killed in between, the child ends, and the scope with it.
        let scoped = RefCell::new(None);
        let make_scope = scope.as_ref().map(|scope| {
            |pid| {
                let h = containers.hierarchies()?;
                let cgroup = systemd::start(h, scope, pid, resources, properties)?;
                scoped.replace(Some(cgroup));
                Ok(())
            }
        });
        let birth = Spawn {
            plan,
            root: &opened.root,
            mountpoint: rootfs,
            join: join.as_ref(),
            stdio,
            sources: Some(&opened.sources),
            start: Some(&StartGate {
                gate: opened.gate.as_fd(),
                lock: lock.as_fd(),
                runtime_hooks: !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty()),
                create_container: &hooks.create_container,
                start_container: &hooks.start_container,
                subject: &subject,
            }),
            resctrl: &resctrl_tasks,
            bare_mounts: None,
            host_mounts: host_mounts.as_ref(),
            prepare_child: make_scope.as_ref().map(|f| f as _),
        };
        let created = spawn::spawn(&birth);
        if let (Some(scope), Some(cgroup)) = (scope, scoped.take()) {
            undo.has_scope(&mut record, scope, cgroup);
        }
        let starting = undo.starting.insert(created?);
        drop((opened, join));
        let pid = starting.pid.as_raw();
        record.pid = pid;
        record.pid_start = Stat::of(pid).map_or(0, |s| s.start);
        containers.save(&record)?;
        undo.hooks = Some((hooks.clone(), subject.clone()));

        let terminal = until_it_waits(containers, order, &prepared, &record, starting)?;
        announce(order, pid, Some(starting.pidfd.as_fd()))?;
        Ok((pid, terminal))
    })();
    let (pid, terminal) = made.map_err(|e| undo.everything(e))?;
    let starting = undo.starting.take();
    let pidfd = starting.map(|s| s.pidfd);
    Ok(Made {
        pid,
        pidfd: pidfd.ok_or_else(|| Error::failed("no process"))?,
        terminal,
        warnings: prepared.warnings,
    })
}

/// What the host's paths name, opened before the clone.
struct Opened {
    root: Mount,
    sources: Sources,
    gate: OwnedFd,
    /// The host's mount namespace, where the container has none of its own, and where the
    /// container's mounts are kept.
    own_mounts: Option<(OwnedFd, PathBuf)>,
}

impl Opened {
    fn open(containers: &Containers, id: &str, plan: &Plan, rootfs: &Path) -> Result<Opened> {
        Ok(Opened {
            root: open_root(rootfs, plan.root_propagation).context("root.path")?,
            sources: open_sources(plan)?,
            gate: gate::build(&containers.gate(id))?,
            own_mounts: match plan.namespaces.has(MOUNT) {
                true => None,
                false => Some((namespace::open_own("mnt")?, containers.mounts_pin(id))),
            },
        })
    }
}

/// Serves the container's first process until it waits at its gate. Returns its terminal,
/// if there is no socket for it.
fn until_it_waits(
    containers: &Containers,
    order: &Order,
    prepared: &Prepared,
    record: &Record,
    starting: &Starting,
) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        match starting.channel.next() {
            Event::NotYet => {}
            Event::Failed(e) => return Err(e),
            Event::Terminal(master) => terminal = hand_over_terminal(order, master)?,
            Event::Hooks => {
                run_runtime_hooks(&prepared.hooks, &record.subject(), record.pid)?;
                starting.channel.go()?;
            }
            Event::MapIds(place, mount) => {
                rootfs::map_ids_of(&prepared.plan, place, &mount)?;
                starting.channel.go()?;
            }
            Event::Waiting => return Ok(terminal),
            Event::Listener(_) => return Err(Error::failed("a listener before the start")),
            Event::Exec => return Err(died(containers, record)),
        }
    }
}

/// What has been made so far.
pub(super) struct Undo<'a> {
    containers: &'a Containers,
    id: &'a str,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) scope: Option<Scope>,
    resctrl: Option<resctrl::Place>,
    starting: Option<Starting>,
    pub(super) hooks: Option<(Hooks, hook::Subject)>,
}

impl<'a> Undo<'a> {
    pub(super) fn new(containers: &'a Containers, id: &'a str) -> Self {
        Undo {
            containers,
            id,
            cgroup: None,
            scope: None,
            resctrl: None,
            starting: None,
            hooks: None,
        }
    }

    /// Systemd has made this scope for the container.
    pub(super) fn has_scope(&mut self, record: &mut Record, scope: &Scope, cgroup: Cgroup) {
        record.cgroup = Some(cgroup.place().clone());
        record.scope = Some(scope.clone());
        self.scope = Some(scope.clone());
        self.cgroup = Some(cgroup);
    }

    /// Last in, first out; goes on past failures. The error it is given is the one
    /// that is reported.
    pub(super) fn everything(&mut self, e: Error) -> Error {
        if let Some(starting) = &self.starting {
            starting.abandon();
        }
        let mut hint = None;
        // Killed before systemd is told, which would ask politely and wait.
        if let Some(cgroup) = &self.cgroup
            && let Err(left) = cgroup
                .kill()
                .and_then(|()| self.scope.as_ref().map_or(Ok(()), systemd::stop))
                .and_then(|()| cgroup.remove())
        {
            hint = Some(format!("left behind: {left}"));
        }
        if let Some(place) = &self.resctrl
            && let Err(left) = Resctrl::open().and_then(|r| r.remove(place))
        {
            hint = Some(format!("left behind: {left}"));
        }
        if let Some((hooks, subject)) = &self.hooks
            && let Some(failure) =
                hook::run_all("poststop", &hooks.poststop, &subject.state("stopped", 0)).pop()
        {
            hint = Some(failure);
        }
        if let Err(left) = self.containers.forget(self.id) {
            hint = Some(format!("left behind: {left}"));
        }
        match hint {
            Some(hint) if e.get_hint().is_none() => e.hint(hint),
            _ => e,
        }
    }
}

fn died(containers: &Containers, record: &Record) -> Error {
    let error = Error::failed("the container's first process died while it was being made");
    let killed = containers
        .cgroup(record)
        .ok()
        .flatten()
        .and_then(|c| c.oom_kills().ok());
    match killed {
        Some(1..) => error.hint("it was killed for want of memory: raise the memory limit"),
        _ => error,
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
    let mut plan = plan_container(&order.id, spec)?;
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
pub fn prepare_process(
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
    if !lacking.is_empty() {
        warnings.push(format!(
            "process.capabilities.ambient: {lacking:?} cannot be had without being permitted and \
             inheritable"
        ));
        c.ambient = c.ambient & raisable;
    }
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

fn make_cgroup(place: &Place, resources: &Resources, undo: &mut Undo) -> Result<Join> {
    let cgroup = Cgroup::create_fresh(undo.containers.hierarchies()?, place, Select::All)?;
    let cgroup = undo.cgroup.insert(cgroup);
    cgroup.apply(resources).context("linux.resources")?;
    cgroup.join_plan()
}

/// The copy is a slave of the host's mount or private: what is mounted inside is never
/// seen outside.
fn open_root(path: &Path, propagation: MsFlags) -> Result<Mount> {
    let root = match propagation {
        MsFlags::MS_SLAVE | MsFlags::MS_SHARED => {
            let root = Mount::copy_as_peer(path, true)?;
            root.set_propagation(MsFlags::MS_SLAVE, true)?;
            root
        }
        _ => Mount::copy(path, true)?,
    };
    match crate::linux::root::is_dir(root.as_fd()) {
        true => Ok(root),
        false => Err(Error::invalid(format!(
            "{}: is no directory",
            path.display()
        ))),
    }
}

fn open_sources(plan: &Plan) -> Result<Sources> {
    let mut namespaces = Vec::new();
    for (kind, path) in &plan.namespaces.joined {
        let fd = namespace::open_kind(path, *kind)
            .with_context(|| format!("linux.namespaces: {}", path.display()))?;
        namespaces.push((*kind, fd));
    }
    let n = &plan.namespaces;
    let by_parent = n.has(USER) || !n.new.contains(MOUNT);
    Ok(Sources {
        mounts: match by_parent {
            true => Some(rootfs::open_sources(plan)?),
            false => None,
        },
        namespaces,
    })
}

/// Sends the terminal's master to the caller's socket, or gives it back.
pub(super) fn hand_over_terminal(order: &Order, master: OwnedFd) -> Result<Option<OwnedFd>> {
    match &order.console_socket {
        Some(path) => send_terminal(path, master.as_fd()).map(|()| None),
        None => Ok(Some(master)),
    }
}

/// As runc names it, which nobody reads.
pub fn send_terminal(path: &Path, master: BorrowedFd) -> Result<()> {
    socket::hand_over(path, b"/dev/ptmx", master).context("--console-socket")
}

/// Whole or not there: conmon reads it as soon as it can. The directory may be one that
/// others write to: what is under the temporary name is not opened, a link least of all.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    let write = || {
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(&temporary)?;
        std::io::Write::write_all(&mut file, pid.to_string().as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("--pid-file {}", path.display()))
}
