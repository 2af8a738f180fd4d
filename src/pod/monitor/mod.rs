//! The monitor: one process per Pod, from its making to its end.
//!
//! It owns the Pod's sandbox and containers, and `state.json`. It is a single
//! thread around epoll(7): pidfds tell of ends, FIFOs of output, one socket of
//! requests; timers are deadlines. Nothing polls, and an idle Pod wakes nobody.
//!
//! It may be killed at any moment. Containers live on, their output waits in
//! FIFOs, and whoever looks at the Pod next starts a new monitor, which reads the
//! record, enters the pinned namespaces and goes on.
//!
//! A file each: [`sandbox`], [`setup`], [`etc`] and [`resolver`] (what containers share),
//! [`lifecycle`] (which container runs when), [`launch`] (one container's start), [`image`]
//! (pulls), [`exec`] (exec and hooks), [`rules`] (of nftables), [`termination`],
//! [`logs`] and [`log_file`], [`clients`], [`record`] (of the state), [`directory`].
//! [`policy`] decides, without touching anything.

mod adopt;
mod child;
mod clients;
mod directory;
mod etc;
mod exec;
mod image;
mod labels;
mod launch;
mod lifecycle;
pub mod output;
pub mod policy;
mod record;
mod resolver;
mod rules;
mod sandbox;
mod setup;
mod start;
mod termination;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::damage;
use super::state::{ContainerState, Event, Running, State};
use crate::linux::procfs::boot_id;
use crate::linux::seccomp;
use crate::linux::{caller, capability};
use crate::spec::Pod;
use crate::store::{Layout, Lock, PodPaths};
use crate::{Context, Error, Result};

use crate::pod::logs::Stream;
use clients::Client;
use directory::DirectoryWatch;
use exec::ExecProcess;
use lifecycle::Live;
use output::Glass;
use record::{SpareFd, Unrecorded};
use rules::Rules;
use sandbox::Host;
pub(super) use sandbox::{cgroup_of_root, monitor_cgroup_of_root};
pub use start::{find, start};
use termination::Termination;

/// What an fd in the epoll set stands for. The token is its index here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Listener,
    Client(u64),
    /// The socket on which a container's child says how it went.
    Starting(String),
    /// The pidfd of a container's first process.
    Process(String),
    Output(String, Stream),
    Oom(String),
    Pull(String),
    ExecStarting(u64),
    ExecProcess(u64),
    /// Notifications of nftables.
    Rules,
    /// Something has gone from the Pod's directory.
    Directory,
    /// The child that restores the Pods' rules.
    Restoring,
}

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Back-off is over.
    Retry(String),
    /// The grace period of a container is over, or its hook's.
    Stop(String),
    /// A sleep hook's.
    HookSleep(String),
    /// The log could not be written, or there is more for it: try again.
    Log(String),
    /// Look again whether the memory limit has killed somebody.
    Oom(String),
    /// The sandbox could not be made: try again.
    Sandbox,
    /// activeDeadlineSeconds.
    Deadline,
    /// The Pod's grace period is over.
    Grace,
    /// Look whether the Pods' rules are still there.
    Rules,
    /// Something of a deleted Pod could not be removed: try again.
    Removal,
    /// The state could not be written: try again.
    Record,
    /// No client could be accepted for want of fds: try again.
    Listen,
    /// Long enough idle to give memory back.
    Settle,
}

/// See the module's head.
#[derive(Debug)]
pub struct Monitor {
    layout: Layout,
    paths: PodPaths,
    pod: Pod,
    state: State,
    host: Host,
    epoll: Epoll,
    sources: BTreeMap<u64, Source>,
    next_id: u64,
    timers: BTreeMap<Timer, Instant>,
    live: BTreeMap<String, Live>,
    clients: BTreeMap<u64, Client>,
    execs: BTreeMap<u64, ExecProcess>,
    termination: Option<Termination>,
    /// Of [`State::sandbox_error`], with its kind and hint.
    sandbox_failure: Option<Error>,
    /// The last pause between two tries to make the sandbox.
    sandbox_pause: Option<Duration>,
    glass: Glass,
    filters: BTreeMap<u64, Rc<seccomp::Filter>>,
    rules: Rules,
    listener: OwnedFd,
    /// The state has changed since it was written.
    dirty: bool,
    unrecorded: Option<Unrecorded>,
    spare_fd: SpareFd,
    directory: Option<DirectoryWatch>,
    /// Somebody has removed the Pod's record.
    abandoned: bool,
    lock: Lock,
}

/// The hidden verb `monitor [--root DIR] UID`, with the lock as fd 3 and the
/// listening socket as fd 4, as [`start()`] hands them over.
pub fn main(arguments: &[std::ffi::OsString]) -> ExitCode {
    let run = || -> Result<()> {
        caller::leave();
        let (layout, uid) = start::parse_arguments(arguments)?;
        let (lock, listener) = start::take_inherited()?;
        Monitor::new(layout, &uid, lock, listener)?.run()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Standard error is the Pod's monitor.err, for which there may be no room.
            let _ = writeln!(std::io::stderr(), "{} monitor: {e}", Timestamp::now());
            ExitCode::FAILURE
        }
    }
}

impl Monitor {
    fn new(layout: Layout, uid: &str, lock: Lock, listener: OwnedFd) -> Result<Self> {
        let paths = layout.pod(uid);
        let host = Host::open(&layout)?;
        let (pod, damaged) = update::load(&layout, uid, &host)?;
        let found = match damaged {
            None => damage::load_state(&layout, uid),
            Some(e) => Err(e),
        };
        let state = match found {
            Ok(Some(state)) if state.boot_id == boot_id()? => state,
            Ok(_) => new_state(&pod)?,
            // EMFILE, EIO: the record may be whole, and the next monitor read it.
            Err(e) if e.errno().is_some_and(|e| e != Errno::ENOENT) => return Err(e),
            Err(e) => State {
                damaged: Some(e.to_string()),
                ..new_state(&pod)?
            },
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|e| Error::sys("epoll_create1()", e))?;
        let mut monitor = Monitor {
            host,
            live: pod
                .spec
                .all_containers()
                .map(|c| (c.name.clone(), Live::default()))
                .collect(),
            glass: Glass::new()?,
            layout,
            paths,
            pod,
            state,
            epoll,
            sources: BTreeMap::new(),
            next_id: 0,
            timers: BTreeMap::new(),
            clients: BTreeMap::new(),
            execs: BTreeMap::new(),
            termination: None,
            sandbox_failure: None,
            sandbox_pause: None,
            filters: BTreeMap::new(),
            rules: Rules::default(),
            listener,
            dirty: true,
            unrecorded: None,
            spare_fd: SpareFd::default(),
            directory: None,
            abandoned: false,
            lock,
        };
        monitor.spare_fd.refill(&monitor.listener);
        monitor.state.monitor_pid = std::process::id() as i32;
        let id = monitor.new_id(Source::Listener);
        let event = EpollEvent::new(EpollFlags::EPOLLIN, id);
        monitor
            .epoll
            .add(&monitor.listener, event)
            .map_err(|e| Error::sys("epoll_ctl()", e))?;
        Ok(monitor)
    }

    fn run(mut self) -> Result<()> {
        // While this process is in the host's network namespace.
        self.watch_rules();
        if let Some(why) = self.state.damaged.clone() {
            // What runs goes on, and is only ended by a deletion.
            self.event(true, "RecordDamaged", why);
        } else if self.state.sandbox_ready.is_some() {
            self.adopt()?;
        } else if self.state.deletion.is_none() && self.admit() {
            self.make_sandbox();
        }
        self.resume_deletion();
        self.watch_directory();
        loop {
            if self.advance() {
                break;
            }
            self.publish();
            let events = self.wait()?;
            for id in events {
                self.handle(id);
            }
            self.fire_timers();
        }
        self.finish()
    }

    fn new_id(&mut self, source: Source) -> u64 {
        self.next_id += 1;
        self.sources.insert(self.next_id, source);
        self.next_id
    }

    fn watch(&mut self, fd: impl AsFd, flags: EpollFlags, source: Source) -> Result<u64> {
        let id = self.new_id(source);
        self.epoll
            .add(fd, EpollEvent::new(flags, id))
            .map_err(|e| Error::sys("epoll_ctl(EPOLL_CTL_ADD)", e))?;
        Ok(id)
    }

    /// Forgets a source; its fd is about to be closed, but a child may share it.
    fn unwatch(&mut self, fd: impl AsFd, source: &Source) {
        let _ = self.epoll.delete(fd);
        self.sources.retain(|_, s| s != source);
    }

    fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.insert(timer, Instant::now() + after);
    }

    /// The ids of the sources that have something to say; empty at a deadline.
    fn wait(&mut self) -> Result<Vec<u64>> {
        let timeout = match self.timers.values().min() {
            None => EpollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up: a deadline is never met too early.
                let ms = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
                EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
            }
        };
        let mut events = [EpollEvent::empty(); 32];
        match self.epoll.wait(&mut events, timeout) {
            Ok(n) => Ok(events[..n].iter().map(EpollEvent::data).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(e) => Err(Error::sys("epoll_wait()", e)),
        }
    }

    fn handle(&mut self, id: u64) {
        // A source may have gone while an earlier event of the batch was handled.
        let Some(source) = self.sources.get(&id).cloned() else {
            return;
        };
        match source {
            Source::Listener => self.accept_clients(),
            Source::Client(client) => self.serve(client),
            Source::Starting(name) => self.on_starting(&name),
            Source::Process(name) => self.on_process(&name),
            Source::Output(name, _) => self.pump(&name, false),
            Source::Oom(name) => self.on_oom(&name),
            Source::Pull(name) => self.on_pull(&name),
            Source::ExecStarting(exec) => self.on_exec_starting(exec),
            Source::ExecProcess(exec) => self.on_exec_process(exec),
            Source::Rules => self.on_rules_changed(),
            Source::Directory => self.on_deletion_in_directory(),
            Source::Restoring => self.on_restored(),
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        let due: Vec<Timer> = self
            .timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(t, _)| t.clone())
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            match timer {
                // `advance` and `finish` see that the time has come.
                Timer::Retry(_) | Timer::Grace | Timer::Removal => {}
                Timer::Stop(name) => self.on_stop_deadline(&name),
                Timer::HookSleep(name) => self.on_hook_end(&name, Ok(())),
                Timer::Log(name) => self.pump(&name, false),
                Timer::Oom(name) => self.look_for_oom_kill(&name),
                Timer::Sandbox => self.make_sandbox(),
                Timer::Deadline => self.fail(
                    "DeadlineExceeded",
                    "Pod was active on the node longer than the specified deadline",
                ),
                Timer::Rules => self.look_at_rules(),
                Timer::Record => self.dirty = true,
                Timer::Listen => self.listen_again(),
                Timer::Settle => give_memory_back(),
            }
        }
    }

    /// An event that takes the place of the one with the same reason and beginning: a
    /// number in it has grown.
    fn update_event(&mut self, reason: &str, beginning: &str, rest: &str) {
        let message = format!("{beginning}{rest}");
        let same = |e: &&mut Event| e.reason == reason && e.message.starts_with(beginning);
        if let Some(known) = self.state.events.iter_mut().find(same) {
            known.message = message.clone();
            truncate(&mut known.message, EVENT_MESSAGE);
        }
        self.event(true, reason, message);
    }

    fn event(&mut self, warning: bool, reason: &str, message: impl Into<String>) {
        let (mut message, now) = (message.into(), Timestamp::now());
        truncate(&mut message, EVENT_MESSAGE);
        self.dirty = true;
        let same = |e: &&mut Event| e.reason == reason && e.message == message;
        if let Some(known) = self.state.events.iter_mut().find(same) {
            known.count += 1;
            known.last = now;
            return;
        }
        if self.state.events.len() >= State::MAX_EVENTS {
            self.state.events.remove(0);
        }
        self.state.events.push(Event {
            warning,
            reason: reason.to_owned(),
            message,
            first: now,
            last: now,
            count: 1,
        });
    }

    fn container_state(&mut self, name: &str) -> &mut ContainerState {
        self.dirty = true;
        self.state.containers.entry(name.to_owned()).or_default()
    }

    fn live(&mut self, name: &str) -> &mut Live {
        self.live.entry(name.to_owned()).or_default()
    }

    fn running(&self, name: &str) -> Option<&Running> {
        match &self.state.containers.get(name)?.now {
            super::state::Now::Running(r) => Some(r),
            _ => None,
        }
    }

    /// The default filter for a set of capabilities, compiled once.
    fn filter(&mut self, set: capability::Set) -> Result<Rc<seccomp::Filter>> {
        if let Some(known) = self.filters.get(&set.bits()) {
            return Ok(Rc::clone(known));
        }
        let profile = seccomp::profile::runtime_default(set);
        let made = Rc::new(seccomp::Filter::new(&profile).context("the seccomp profile")?);
        self.filters.insert(set.bits(), Rc::clone(&made));
        Ok(made)
    }

    fn container_names(&self) -> BTreeSet<String> {
        self.live.keys().cloned().collect()
    }
}

fn new_state(pod: &Pod) -> Result<State> {
    let containers = pod
        .spec
        .all_containers()
        .map(|c| (c.name.clone(), waiting_for(pod, &c.name)));
    Ok(State {
        version: State::VERSION,
        boot_id: boot_id()?,
        monitor_pid: 0,
        sandbox_ready: None,
        start_time: None,
        ips: Vec::new(),
        host_ip: None,
        sandbox_error: None,
        deletion: None,
        failed: None,
        containers: containers.collect(),
        conditions: BTreeMap::new(),
        damaged: None,
        events: Vec::new(),
    })
}

/// Ordinary containers wait for the init containers first.
fn waiting_for(pod: &Pod, name: &str) -> ContainerState {
    let first = pod.spec.all_containers().next().map(|c| c.name.as_str());
    let mut state = ContainerState::default();
    if !pod.spec.init_containers.is_empty() && first != Some(name) {
        state.now = super::state::Now::Waiting {
            reason: "PodInitializing".into(),
            message: String::new(),
        };
    }
    state
}

/// Bytes of an event's message: as much as an API server takes.
const EVENT_MESSAGE: usize = 1024;

/// Cuts text to so many bytes, between characters.
fn truncate(text: &mut String, bytes: usize) {
    let cut = (0..=bytes.min(text.len())).rfind(|i| text.is_char_boundary(*i));
    text.truncate(cut.unwrap_or(0));
}

/// Removes what the Pods of a root share, for a last monitor that died before it
/// could. The caller is in the host's namespaces.
pub fn remove_shared(layout: &Layout) -> Result<()> {
    super::layers::release(layout)?;
    if !sandbox::any_left(layout) {
        let host = Host::open(layout)?;
        sandbox::remove_shared(layout, &host.network, &host.hierarchies);
    }
    Ok(())
}

/// What an idle monitor does not need: freed heap, and the program's pages, which
/// come back from the page cache when they are touched.
fn give_memory_back() {
    crate::sys::process::trim_heap();
    crate::sys::process::drop_program_pages();
}
