//! The monitor: one process per Pod, from its making to its end.
//!
//! It owns the Pod's sandbox and containers, and `state.json`. It is a single
//! thread around epoll(7): pidfds tell of ends, FIFOs of output, one socket of
//! requests; timers are deadlines. Nothing polls, and an idle Pod wakes nobody.
//!
//! What is to be done [`kubelet`] decides, in pure functions; all else here is the engine
//! that does it. The engine tells the kubelet what has happened ([`Monitor::tell`]) and
//! executes the actions that follow ([`Monitor::execute`]), one after the other.
//!
//! It may be killed at any moment. Containers live on, their output waits in
//! FIFOs, and the next command that looks at the Pod starts a new monitor, which reads the
//! record, enters the pinned namespaces and goes on ([`adopt`]).
//!
//! [`sandbox`]: what containers share. [`container`]: one of them, and the processes beside
//! its first. [`handler`]: what probes and hooks do. [`clients`], [`publish`] (the record of the state), [`directory`] (that of
//! the Pod, when it is removed), [`objects`] (that the Pod names), [`volumes`] (that are made of
//! them), [`usage`] (of volumes on disk), [`removal`], [`pause`], [`resize`]; [`mod@log`] (the debug log's file), [`events`]
//! (epoll), [`helper`] (children that do what takes long), [`start`] (of the monitor itself).

mod adopt;
mod clients;
mod container;
mod directory;
mod events;
pub(crate) mod handler;
mod helper;
pub(crate) mod kubelet;
mod log;
mod objects;
mod pause;
mod publish;
mod removal;
mod resize;
mod sandbox;
mod start;
mod update;
mod usage;
mod volumes;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::command_line::with_root;
use super::damage;
use super::reason::Reason;
use super::state::{Running, State};
use crate::linux::caller;
use crate::linux::procfs::boot_id;
use crate::spec::{Container, Pod};
use crate::store::{Layout, Lock, PodPaths};
use crate::{Error, Ignored, Result};

use clients::Client;
use container::Live;
use container::exec::ExecProcess;
use container::launch::Shared;
use container::output::Glass;
use directory::DirectoryWatch;
use events::{Events, Source, Timer};
use handler::{Caller, Handler};
use kubelet::trace::Trace;
use kubelet::{Action, Fact, Kubelet, Moment, Warning};
use objects::ObjectsWatch;
use publish::{SpareFd, Unrecorded};
use sandbox::Host;
use sandbox::mounting::Mounting;
pub(crate) use sandbox::reaper::{is_meant as is_reaper, main as reap};
use sandbox::rules::Rules;
pub(super) use sandbox::{cgroup_of_root, cgroup_path, monitor_cgroup_of_root};
pub(crate) use start::{find, start};
use usage::Measurement;

/// The engine. See the module's head.
#[derive(Debug)]
pub(crate) struct Monitor {
    layout: Layout,
    paths: PodPaths,
    host: Host,
    kubelet: Kubelet,
    /// What the kubelet wants done next.
    actions: VecDeque<Action>,
    trace: Option<Trace>,
    events: Events,
    live: BTreeMap<String, Live>,
    clients: BTreeMap<u64, Client>,
    execs: BTreeMap<u64, ExecProcess>,
    handlers: BTreeMap<(String, Caller), Handler>,
    glass: Glass,
    shared: Shared,
    rules: Rules,
    measurement: Option<Measurement>,
    mounting: Option<Mounting>,
    /// Nobody has begun to make the sandbox.
    is_new: bool,
    listener: OwnedFd,
    /// Clients are to be told anew, or the record written, though the state is the same.
    dirty: bool,
    unrecorded: Option<Unrecorded>,
    spare_fd: SpareFd,
    directory: Option<DirectoryWatch>,
    objects: ObjectsWatch,
    /// The Pod's record has been removed, not by this monitor.
    abandoned: bool,
    /// All that there was of the Pod has been removed.
    removed: bool,
    lock: Lock,
}

/// The hidden verb `monitor [--root DIR] UID`, with the lock as fd 3, the listening
/// socket as fd 4 and the program's mount as fd 5, as [`start()`] hands them over.
pub(crate) fn main(arguments: &[std::ffi::OsString]) -> ExitCode {
    let run = || -> Result<()> {
        caller::leave();
        crate::sys::process::signals_are_default();
        // A core file would have the values of Secrets that were in memory.
        nix::sys::prctl::set_dumpable(false)?;
        let (layout, uid) = start::parse_arguments(arguments)?;
        log::start(&layout.pod(&uid));
        let (lock, listener, program) = start::take_inherited()?;
        let mut monitor = Monitor::new(layout, &uid, lock, listener)?;
        monitor.shared.close_later.push(program);
        monitor.run()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Standard error is the Pod's monitor.err.
            writeln!(std::io::stderr(), "{} monitor: {e}", Timestamp::now())
                .ignored("there may be no room for it");
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
        // Whatever is made is recorded first.
        let is_new = matches!(found, Ok(None)) && !paths.dir.join("ns").exists();
        let mut state = match found {
            Ok(Some(state)) if state.boot_id == boot_id()? => state,
            Ok(_) => new_state(&pod)?,
            // EMFILE, EIO: the record may be whole, and the next monitor read it.
            Err(e) if e.errno().is_some_and(|e| e != Errno::ENOENT) => return Err(e),
            Err(e) => State {
                damaged: Some(e.to_string()),
                ..new_state(&pod)?
            },
        };
        state.monitor_pid = std::process::id() as i32;
        let mut monitor = Monitor {
            host,
            live: pod
                .spec
                .every_container()
                .map(|c| (c.name.clone(), Live::default()))
                .collect(),
            glass: Glass::new()?,
            shared: Shared::default(),
            layout,
            paths,
            trace: Trace::open(&pod, &state),
            kubelet: Kubelet::new(pod, state),
            actions: VecDeque::new(),
            events: Events::new()?,
            clients: BTreeMap::new(),
            execs: BTreeMap::new(),
            handlers: BTreeMap::new(),
            rules: Rules::default(),
            measurement: None,
            mounting: None,
            is_new,
            listener,
            dirty: true,
            unrecorded: None,
            spare_fd: SpareFd::default(),
            directory: None,
            objects: ObjectsWatch::default(),
            abandoned: false,
            removed: false,
            lock,
        };
        monitor.spare_fd.refill(&monitor.listener);
        monitor
            .events
            .watch(&monitor.listener, EpollFlags::EPOLLIN, Source::Listener)?;
        Ok(monitor)
    }

    fn run(mut self) -> Result<()> {
        // While this process is in the host's network namespace.
        self.watch_rules();
        let refusal = self.refusal();
        let node = Some(self.node());
        // Before anything is made of them.
        self.watch_objects();
        self.tell(Fact::Begun { refusal, node });
        self.execute_all()?;
        self.watch_directory();
        loop {
            self.execute_all()?;
            if self.removed {
                return self.leave();
            }
            self.publish();
            crate::object::forget_key();
            let deadline = self.kubelet.next_deadline();
            for id in self.events.wait(deadline)? {
                self.handle(id);
            }
            for timer in self.events.due() {
                self.fire(timer);
            }
            if deadline.is_some_and(|d| d <= events::clock()) {
                self.tell(Fact::Time);
            }
        }
    }

    /// Tells the kubelet what has happened; what follows is done later, in its turn.
    fn tell(&mut self, fact: Fact) {
        let at = Moment {
            clock: events::clock(),
            date: Timestamp::now(),
        };
        if log::is_on() {
            ::log::debug!("fact: {}", log::brief(&fact));
        }
        let told = self.trace.is_some().then(|| fact.clone());
        let actions = self.kubelet.step(at, fact);
        if let (Some(trace), Some(fact)) = (&mut self.trace, told) {
            trace.step(at, &fact, &actions);
        }
        self.actions.extend(actions);
    }

    fn execute_all(&mut self) -> Result<()> {
        while !self.removed
            && let Some(action) = self.actions.pop_front()
        {
            self.execute(action)?;
        }
        self.shared.images.clear();
        Ok(())
    }

    /// Does what the kubelet wants. What fails is told as a fact; an error ends the
    /// monitor.
    fn execute(&mut self, action: Action) -> Result<()> {
        if log::is_on() {
            ::log::debug!("action: {}", log::brief(&action));
        }
        match action {
            Action::Adopt => self.adopt()?,
            Action::MakeSandbox => self.make_sandbox(),
            Action::Start { container } => self.start(&container),
            Action::CancelPull { container } => self.cancel_pull(&container),
            Action::KillStarting { container } => self.kill_starting(&container),
            Action::Stop { container, signal } => self.send_stop_signal(&container, signal),
            Action::Kill { container } => self.kill(&container),
            Action::RunHook {
                container,
                hook,
                check,
            } => self.run_handler(&container, Caller::Hook(hook), check),
            Action::Probe { container, probe } => self.probe(&container, probe),
            Action::CancelProbe { container, probe } => {
                self.cancel_handler(&container, Caller::Probe(probe));
            }
            Action::MeasureMemory { containers } => self.measure_memory(&containers),
            Action::Resize { steps } => self.resize(&steps),
            Action::MeasureVolumes { volumes } => self.measure_volumes(&volumes),
            Action::Freeze => self.freeze(true),
            Action::Thaw => self.freeze(false),
            Action::TellEnd {
                container,
                exit_code,
            } => self.tell_attached(&container, Some(exit_code)),
            Action::Remove => self.remove(),
        }
        Ok(())
    }

    fn handle(&mut self, id: u64) {
        let Some(source) = self.events.source(id) else {
            return;
        };
        match source {
            Source::Listener => self.accept_clients(),
            Source::Client(client) => self.serve(client),
            Source::Container(name) => self.follow_container(&name),
            Source::Exec(exec) => self.follow_exec(exec),
            Source::ExecOutput(exec) => self.read_output_of(exec),
            Source::Handler(name, caller) => self.follow_handler(name, caller),
            Source::Output(name, _) => self.pump(&name, false),
            Source::Oom(name) => self.on_oom(&name),
            Source::Pull(name) => self.on_pull(&name),
            Source::Rules => self.on_rules_changed(),
            Source::Directory => self.on_directory_signal(),
            Source::Restoring => self.on_restored(),
            Source::Measurement => self.on_measured(),
            Source::Mounting => self.on_mounting_said(),
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Log(name) => self.pump(&name, false),
            Timer::Oom(name) => self.look_for_oom_kill(&name),
            Timer::Rules => self.look_at_rules(),
            Timer::Record => self.dirty = true,
            Timer::Mounting => self.give_up_mounting(),
            Timer::Listen => self.listen_again(),
            Timer::Settle => {
                self.shared = Shared::default();
                give_memory_back();
            }
        }
    }

    fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.events.set_timer(timer, after);
    }

    /// The error with a hint whose command lines can be typed as they stand, in a text
    /// whose reader does not know the root.
    fn with_root(&self, e: Error) -> Error {
        let hint = e.get_hint().map(|h| with_root(h, self.layout.root()));
        match hint {
            Some(hint) => e.hint(hint),
            None => e,
        }
    }

    fn event(&mut self, warns: bool, reason: Reason, message: impl Into<String>) {
        self.tell(Fact::Event(Warning {
            warns,
            reason,
            message: message.into(),
        }));
    }

    fn pod(&self) -> &Pod {
        self.kubelet.pod()
    }

    fn state(&self) -> &State {
        self.kubelet.state()
    }

    fn spec_of(&self, name: &str) -> Container {
        self.pod().spec.container(name).cloned().unwrap_or_default()
    }

    fn live(&mut self, name: &str) -> &mut Live {
        self.live.entry(name.to_owned()).or_default()
    }

    fn running(&self, name: &str) -> Option<&Running> {
        self.kubelet.running(name)
    }

    /// The number of a container's current attempt.
    fn attempt(&self, name: &str) -> u32 {
        self.state().containers.get(name).map_or(0, |c| c.attempt)
    }

    fn container_names(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }
}

fn new_state(pod: &Pod) -> Result<State> {
    let containers = pod
        .spec
        .every_container()
        .map(|c| (c.name.clone(), kubelet::waiting_for(pod, &c.name)));
    Ok(State {
        version: State::VERSION,
        boot_id: boot_id()?,
        containers: containers.collect(),
        ..State::default()
    })
}

/// Removes what the Pods of a root share, for a last monitor that died before it
/// could. The caller is in the host's namespaces.
pub(crate) fn remove_shared(layout: &Layout) -> Result<()> {
    super::layers::release(layout)?;
    // Most roots have had no claim: nothing of one is looked for in the kernel then.
    if layout.claims().exists() {
        super::claims::release_unused(layout)?;
    }
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
