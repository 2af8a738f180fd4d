//! `exec`: one more process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::args::{Args, Order, usage};
use super::create::{CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET};
use super::foreground::{self, Foreground};
use super::{Face, Verb, inherited, with_own_stdio};
use crate::container::channel::{Event, Starting};
use crate::container::exec;
use crate::container::plan::namespace::MOUNT;
use crate::container::plan::{self, Process};
use crate::container::user::Accounts;
use crate::linux::cgroup::{Cgroup, Join};
use crate::linux::root::Root;
use crate::linux::{capability, namespace};
use crate::oci::config::{self, Config};
use crate::oci::create::{send_terminal, write_pid_file};
use crate::oci::json;
use crate::oci::plan::plan_process;
use crate::oci::prepared::prepare_process;
use crate::oci::record::{Containers, Record, Status};
use crate::oci::start::deliver_listener;
use crate::{Context, Error, Result};

pub(super) const VERB: Verb = Verb {
    name: "exec",
    operands: "ID [COMMAND...]",
    about: "runs one more process in a running container",
    flags: &[
        (
            "process",
            'p',
            "FILE",
            "the process, as in config.json; no command then",
        ),
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        ("detach", 'd', "", "returns as soon as it runs"),
        ("tty", 't', "", "with a terminal"),
        ("cwd", '\0', "DIR", "its working directory"),
        ("env", 'e', "NAME=VALUE", "a variable more"),
        ("user", 'u', "USER[:GROUP]", "names or numbers"),
        ("additional-gids", 'g', "GID", "a supplementary group"),
        ("cap", 'c', "CAP", "a capability more"),
        ("no-new-privs", '\0', "", "no_new_privs"),
        ("apparmor", '\0', "PROFILE", "its AppArmor profile"),
        ("process-label", '\0', "LABEL", "its SELinux label"),
        ("preserve-fds", '\0', "N", "it inherits N fds from 3 on"),
        (
            "cgroup",
            '\0',
            "[CONTROLLER:]PATH",
            "a cgroup below the container's; several, of v1 controllers",
        ),
        ("ignore-paused", '\0', "", "in a paused container too"),
        ("no-subreaper", '\0', "", "accepted"),
    ],
    order: Order::FlagsFirst,
    enters: true,
    run,
};

/// What callers look for, as runc says it.
const FAILED: &str = "exec failed: unable to start container process";

fn run(face: &Face, args: &Args) -> Result<u8> {
    let Some((id, command)) = args.operands.split_first() else {
        return Err(usage("exec: a container's id is missing"));
    };
    let record = face.containers.load(id)?;
    let status = face.containers.status(&record);
    let pidfd = match status {
        Status::Created | Status::Running => record.pidfd(),
        Status::Paused if args.is("ignore-paused") => record.pidfd(),
        Status::Paused => {
            return Err(Error::conflict(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Creating | Status::Stopped => None,
    };
    let pidfd = pidfd.ok_or_else(|| {
        Error::conflict("cannot exec in a stopped container: container not running")
    })?;

    let spec = face.containers.config(id)?;
    let process = match args.get("process") {
        Some(file) => read_process(file, &spec)?,
        None => from_flags(&spec, command, args, &record)?,
    };
    let mut plan = plan_for(face, &spec, &process, args)?;
    plan.own_keyring = !record.callers_keyring;
    let detach = args.is("detach");
    let socket = args.path("console-socket");
    match (plan.terminal, &socket) {
        (true, None) if detach => {
            return Err(Error::invalid(
                "cannot allocate tty if carob-oci will detach without setting console socket",
            ));
        }
        (false, Some(_)) => {
            return Err(Error::invalid(
                "cannot use console socket if carob-oci will not detach or allocate tty",
            ));
        }
        _ => {}
    }
    plan.plain_newlines = !detach && socket.is_none() && !foreground::has_terminal();
    let foreground = match detach {
        true => None,
        false => Some(Foreground::prepare()?),
    };
    let starting = clone(&face.containers, &record, pidfd.as_fd(), &plan, args)?;
    log::debug!("exec: the process is {}", starting.pid);
    let terminal = settle(&starting, &record, &spec, socket.as_deref())
        .inspect_err(|_| starting.abandon())
        .context(FAILED)?;
    if let Some(path) = args.path("pidfd-socket") {
        crate::linux::socket::hand_over(&path, b"pidfd", starting.pidfd.as_fd())
            .context("--pidfd-socket")?;
    }
    if let Some(path) = args.path("pid-file") {
        write_pid_file(&path, starting.pid.as_raw())?;
    }
    match foreground {
        None => Ok(0),
        Some(f) => f
            .attend(starting.pidfd, terminal)
            .map(foreground::exit_code),
    }
}

/// Of what confines and schedules a process, the container's own holds where the file
/// does not say otherwise, as runc has it: a process without its label would be less
/// confined than the others.
fn read_process(file: &str, spec: &Config) -> Result<config::Process> {
    let read = std::fs::File::open(file).map_err(Error::from);
    let mut p: config::Process = read
        .and_then(json::read)
        .with_context(|| format!("--process {file}"))?;
    let Some(own) = spec.process.clone() else {
        return Ok(p);
    };
    let label = |given: Option<String>| given.filter(|label| !label.is_empty());
    p.apparmor_profile = label(p.apparmor_profile).or(own.apparmor_profile);
    p.selinux_label = label(p.selinux_label).or(own.selinux_label);
    p.capabilities = p.capabilities.or(own.capabilities);
    p.rlimits = p.rlimits.filter(|l| !l.is_empty()).or(own.rlimits);
    p.io_priority = p.io_priority.or(own.io_priority);
    p.scheduler = p.scheduler.or(own.scheduler);
    p.exec_cpu_affinity = p.exec_cpu_affinity.or(own.exec_cpu_affinity);
    Ok(p)
}

/// The container's own process, and what the flags say.
fn from_flags(
    spec: &Config,
    command: &[String],
    args: &Args,
    record: &Record,
) -> Result<config::Process> {
    let mut process = spec
        .process
        .clone()
        .ok_or_else(|| Error::invalid("process: the container has none"))?;
    if command.is_empty() {
        return Err(usage("exec: a command is missing, or --process"));
    }
    process.args = Some(command.to_vec());
    process.terminal = Some(args.is("tty"));
    if let Some(cwd) = args.path("cwd") {
        process.cwd = cwd;
    }
    let env = process.env.get_or_insert_default();
    env.extend(args.all("env").map(str::to_owned));
    if let Some(user) = args.get("user") {
        let dir = record.open_root()?;
        let accounts = Accounts::read(&Root::new(dir.as_fd()))?;
        let found = accounts
            .find(user)
            .with_context(|| format!("--user {user}"))?;
        let u = &mut process.user;
        u.set_uid(found.uid).set_gid(found.gid);
        u.set_additional_gids(Some(found.groups));
    }
    let more: Vec<u32> = args
        .all("additional-gids")
        .map(|g| {
            let gid = g.parse::<u32>().ok().filter(|g| *g <= i32::MAX as u32);
            gid.ok_or_else(|| usage(format!("--additional-gids: {g:?}: a group's number")))
        })
        .collect::<Result<_>>()?;
    if !more.is_empty() {
        let u = &mut process.user;
        let mut groups = u.additional_gids().clone().unwrap_or_default();
        groups.extend(more);
        u.set_additional_gids(Some(groups));
    }
    if args.is("no-new-privs") {
        process.no_new_privileges = Some(true);
    }
    if let Some(profile) = args.get("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = args.get("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    Ok(process)
}

fn plan_for(face: &Face, spec: &Config, process: &config::Process, args: &Args) -> Result<Process> {
    let mut plan = plan_process(process, spec.linux.as_ref())?;
    let more: Vec<&str> = args.all("cap").collect();
    if !more.is_empty() {
        let set = capability::Set::from_names(&more).context("--cap")?;
        let c = &mut plan.capabilities;
        c.bounding = c.bounding | set;
        c.permitted = c.permitted | set;
        c.effective = c.effective | set;
        // As runc has it: inheritable stays as it is, and what it has becomes ambient.
        c.ambient = c.ambient | (set & c.inheritable);
    }
    plan::check_process_labels(&plan)?;
    let (listen, preserve) = inherited(args)?;
    let mut warnings = Vec::new();
    prepare_process(&mut plan, preserve, listen, &mut warnings);
    face.log.warn_all(&warnings);
    Ok(plan)
}

fn join_given(cgroup: &Cgroup, given: &[&str], init: Pid, check: Check) -> Result<Join> {
    match given {
        [one] if !one.contains(':') => below(cgroup, one)
            .and_then(|c| check(&c).and_then(|()| c.join_plan()))
            .context("--cgroup"),
        several => below_each(cgroup, several)
            .and_then(|c| check(&c).and_then(|()| c.join_plan_beside(init)))
            .context("--cgroup"),
    }
}

type Check<'a> = &'a dyn Fn(&Cgroup) -> Result<()>;

/// Whether a process cannot be in a cgroup that is itself in order: it has controllers
/// for cgroups below it, or became threaded, or is gone.
fn is_closed(e: &Error) -> bool {
    let errno = e.errno();
    errno.is_some_and(|e| {
        matches!(
            e,
            Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENOENT
        )
    })
}

/// `PATH`: the same one in every hierarchy. With `/` it is the container's own cgroup,
/// also where its first process has gone to another one.
fn below(cgroup: &Cgroup, path: &str) -> Result<Cgroup> {
    match path.trim_matches('/') {
        "" => Ok(cgroup.clone()),
        path => {
            let below = cgroup.below(path)?;
            match below.exists() {
                true => Ok(below),
                false => Err(Error::not_found("there is no such cgroup")),
            }
        }
    }
}

/// `CONTROLLER[,CONTROLLER...]:PATH`, for v1.
fn below_each(cgroup: &Cgroup, given: &[&str]) -> Result<Cgroup> {
    let mut parts = Vec::new();
    for text in given {
        let (controllers, path) = text.split_once(':').ok_or_else(|| {
            usage(format!(
                "{text:?}: of several, each has its controllers: CONTROLLER:PATH"
            ))
        })?;
        parts.extend(controllers.split(',').map(|c| (c, path)));
    }
    cgroup.below_each(&parts)
}

fn clone(
    containers: &Containers,
    record: &Record,
    init: std::os::fd::BorrowedFd,
    plan: &Process,
    args: &Args,
) -> Result<Starting> {
    let own = namespace::open_own("pid")?;
    let root = match record.namespaces().contains(MOUNT) {
        true => None,
        false => Some(record.open_root()?),
    };
    let resctrl = record.resctrl_tasks()?;
    let enter = |join: Option<&Join>| {
        let target = exec::Target {
            resctrl: &resctrl,
            init,
            namespaces: record.namespaces(),
            root: root.as_ref().map(|r| r.as_fd()),
            own_pid_namespace: own.as_fd(),
            join,
        };
        with_own_stdio(|stdio| exec::exec(&target, plan, stdio)).context(FAILED)
    };
    let Some(cgroup) = containers.cgroup(record)? else {
        return enter(None);
    };
    // It would be frozen as it joins, and this program would wait for it in vain.
    let check = |c: &Cgroup| match args.is("ignore-paused") {
        true => Ok(()),
        false => c.refuse_frozen(),
    };
    let pid = Pid::from_raw(record.pid);
    let given: Vec<&str> = args.all("cgroup").filter(|c| !c.is_empty()).collect();
    if !given.is_empty() {
        return enter(Some(&join_given(&cgroup, &given, pid, &check)?));
    }
    check(&cgroup)?;
    // As runc has it: the container's own cgroup, also where its first process has moved
    // to another one; and that one where the kernel lets no process into the own.
    match cgroup.join_plan().and_then(|join| enter(Some(&join))) {
        Err(e) if is_closed(&e) => enter(Some(&cgroup.join_plan_beside(pid)?)),
        other => other,
    }
}

/// Until it runs. Returns its terminal, if nobody else was to have it.
fn settle(
    starting: &Starting,
    record: &Record,
    spec: &Config,
    console_socket: Option<&Path>,
) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        match starting.channel.next() {
            Event::Exec => return Ok(terminal),
            Event::Failed(e) => return Err(e),
            Event::Terminal(master) => match console_socket {
                Some(path) => send_terminal(path, master.as_fd())?,
                None => terminal = Some(master),
            },
            Event::Listener(number) => {
                let (process, pid) = (starting.pidfd.as_fd(), starting.pid.as_raw());
                deliver_listener(spec, record, process, pid, number)?;
                starting.channel.go()?;
            }
            Event::NotYet | Event::Hooks | Event::Waiting | Event::MapIds(..) => {}
        }
    }
}
