//! A container made from a bundle, which its caller leads from verb to verb: runtime.md,
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

use super::prepared::Prepared;
use super::record::{Containers, Record};
use crate::container::channel::{Event, Starting};
use crate::container::hook::{self, Hooks, Subject};
use crate::container::plan::Plan;
use crate::container::plan::namespace::{MOUNT, USER};
use crate::container::spawn;
use crate::container::wanted::{HostMounts, Sources, Spawn, StartGate, Stdio};
use crate::container::{gate, rootfs};
use crate::linux::cgroup::systemd::{self, Scope};
use crate::linux::cgroup::{Cgroup, Join};
use crate::linux::mount::Mount;
use crate::linux::procfs::Stat;
use crate::linux::resctrl::{self, Resctrl};
use crate::linux::{namespace, socket};
use crate::{Context, Error, Result};

/// Who takes care of cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CgroupDriver {
    #[default]
    Cgroupfs,
    Systemd,
    /// Somebody else: the container stays where its maker is.
    Disabled,
}

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
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
pub(crate) struct Made {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub terminal: Option<OwnedFd>,
    /// What was asked for and could not be given, for the log.
    pub warnings: Vec<String>,
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
pub(crate) fn create(containers: &Containers, order: &Order, stdio: &Stdio) -> Result<Made> {
    let mut prepared = Prepared::read(containers, order)?;
    // A machine without resctrl is told so before anything is made.
    let resctrl = match prepared.plan.resctrl.take() {
        Some(wanted) => Some((Resctrl::open().context("linux.intelRdt")?, wanted)),
        None => None,
    };

    log::debug!("record the container");
    let lock = containers.claim(&order.id)?;
    let mut undo = Undo::new(containers, &order.id);
    let made = (|| {
        let (mut record, join) = prepared.record(containers, order, &mut undo)?;
        let (plan, hooks) = (&prepared.plan, &prepared.hooks);
        let (scope, rootfs) = (&prepared.scope, &prepared.rootfs);
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
        log::debug!("open the root filesystem, and what is to be mounted");
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
                scoped.replace(Some(prepared.start_scope(containers, scope, pid)?));
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
        log::debug!("undo what has been made: {e}");
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
pub(crate) fn send_terminal(path: &Path, master: BorrowedFd) -> Result<()> {
    socket::hand_over(path, b"/dev/ptmx", master).context("--console-socket")
}

/// Whole or not there: conmon reads it as soon as it can. The directory may be one that
/// others write to: what is under the temporary name is not opened, a link least of all.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
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
