//! Which container runs when: [`super::policy`] says, this does it, and notes how
//! each ended.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::output::{Flow, Output};
use super::policy::{self, BACKOFF_RESET};
use super::record::is_out_of_fds;
use super::termination::Stop;
use super::{Monitor, Source, Timer, launch, sandbox, truncate};
use crate::container::plan;
use crate::container::spawn::Starting;
use crate::linux::cgroup::{Cgroup, OomEvents};
use crate::pod::damage;
use crate::pod::logs::write::{self, LogFile};
use crate::pod::state::{ContainerState, Ended, Failure, Now};
use crate::spec::{Container, WhenLogFull};
use crate::store;
use crate::sys::process as sys;
use crate::{Error, Kind, Result};

/// What the monitor holds of a container beside its record.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub stage: Stage,
    pub outputs: Vec<Output>,
    pub log: Option<LogFile>,
    pub cgroup: Option<Cgroup>,
    /// What a process of this container looks like: exec and hooks start from it.
    pub process: Option<Rc<plan::Process>>,
    /// The stop signal that the image asks for.
    pub stop_signal: Option<i32>,
    /// A terminal's master.
    pub terminal: Option<OwnedFd>,
    /// Keeps stdin's FIFO from ending while no client is attached.
    pub stdin: Option<OwnedFd>,
    pub oom: Option<OomEvents>,
    pub oom_kills: u64,
    pub oom_looks: u32,
    pub backoff: Option<Duration>,
    pub retry_at: Option<Instant>,
    pub stop: Option<Stop>,
    /// What execve(2) said of the program of the last attempt: the record has it as
    /// words alone.
    pub exec_errno: Option<Errno>,
    pub started_at: Option<Instant>,
    /// What the last postStart hook failed with, until one succeeds.
    pub hook_failure: Option<Error>,
    /// Whether the child of our own clone, or one of a dead monitor's.
    pub adopted: bool,
}

#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    Idle,
    Pulling(super::image::Pull),
    Starting(Starting),
    /// The child has said why it cannot become the program, and is still there.
    Failing {
        pidfd: OwnedFd,
        why: Error,
    },
    Running {
        pidfd: OwnedFd,
    },
}

impl Monitor {
    /// Takes the next steps. True when the Pod is gone.
    pub(super) fn advance(&mut self) -> bool {
        if self.termination.is_some() {
            return self.advance_termination();
        }
        if self.state.sandbox_error.is_some() || self.state.damaged.is_some() {
            return false;
        }
        self.stop_replaced();
        // A step may be over at once (an image that is not there) and make room
        // for the next.
        for _ in 0..=self.live.len() {
            let decision = policy::decide(&self.pod.spec, &self.state);
            let mut progress = false;
            for name in decision.stop {
                if self.live(&name).stop.is_none() {
                    let grace = self.pod.spec.termination_grace_period;
                    self.stop_container(&name, Duration::from_secs(grace), false);
                }
            }
            for name in decision.start {
                let live = self.live(&name);
                let waits = live.retry_at.is_some_and(|at| at > Instant::now());
                if matches!(live.stage, Stage::Idle) && !waits && live.stop.is_none() {
                    live.retry_at = None;
                    self.begin(&name);
                    progress = true;
                }
            }
            if !progress {
                break;
            }
        }
        false
    }

    pub(super) fn spec_of(&self, name: &str) -> Container {
        self.pod.spec.container(name).cloned().unwrap_or_default()
    }

    /// Starts a container's next attempt, as far as its image.
    fn begin(&mut self, name: &str) {
        let image = self.spec_of(name).image;
        self.container_state(name).image = Some(image);
        match self.find_image(name) {
            Ok(Some(image)) => self.launch_or_report(name, &image),
            // A pull is under way.
            Ok(None) => {}
            Err(e) => self.wait_for_image(name, e),
        }
    }

    pub(super) fn launch_or_report(&mut self, name: &str, image: &crate::image::Image) {
        let state = self.container_state(name);
        state.image_id = Some(image.id.clone());
        state.image_name = image.names.first().cloned();
        if let Now::Ended(ended) = &state.now {
            state.last = Some(ended.clone());
        }
        if let Err(e) = self.launch(name, image) {
            self.not_started(name, e);
        }
    }

    /// What the manifest, the image or a volume has wrong is tried again until it is
    /// mended, and counts as no attempt; so is what the host lacks, and what a full
    /// filesystem or table of fds keeps from being made. Anything else is an attempt that
    /// failed.
    fn not_started(&mut self, name: &str, e: Error) {
        let reason = match e.kind() {
            Kind::Invalid => "CreateContainerConfigError",
            Kind::NotFound => "CreateContainerError",
            _ if store::is_full(&e) || is_out_of_fds(&e) => "CreateContainerError",
            _ => return self.start_failed(name, e),
        };
        self.event(true, "Failed", format!("Error: {e}"));
        self.wait_again(name, reason, e);
    }

    /// An attempt that is not the first one counts as a restart.
    pub(super) fn count_restart(&mut self, name: &str) {
        let state = self.container_state(name);
        if state.last.is_some() {
            state.restart_count += 1;
        }
    }

    /// A container that never ran: as the CRI reports it.
    fn start_failed(&mut self, name: &str, e: Error) {
        self.count_restart(name);
        self.live(name).exec_errno = e.errno().filter(|_| e.kind() == Kind::StartFailed);
        self.event(true, "Failed", format!("Error: {e}"));
        let now = Timestamp::now();
        let attempt = self.container_state(name).attempt;
        let ended = Ended {
            id: launch::container_id(&self.pod.uid, name, attempt),
            exit_code: 128,
            signal: None,
            reason: "StartError".into(),
            message: message_of(&e),
            started: None,
            finished: now,
        };
        self.end(name, ended);
    }

    /// Sets a state from which another try is made later.
    pub(super) fn wait_again(&mut self, name: &str, reason: &str, e: Error) {
        let delay = policy::next_backoff(self.live(name).backoff);
        self.live(name).backoff = Some(delay);
        let now = Now::Waiting {
            reason: reason.into(),
            message: message_of(&e),
        };
        self.container_state(name).now = now;
        self.live(name).stage = Stage::Idle;
        let retry = Instant::now() + delay;
        self.live(name).retry_at = Some(retry);
        self.timers.insert(Timer::Retry(name.to_owned()), retry);
    }

    /// The child between clone and exec has said something.
    pub(super) fn on_starting(&mut self, name: &str) {
        use crate::container::spawn::Started;
        let Stage::Starting(starting) = &mut self.live(name).stage else {
            return;
        };
        match starting.progress() {
            Started::NotYet => {}
            Started::Running(terminal) => {
                let Stage::Starting(starting) = std::mem::take(&mut self.live(name).stage) else {
                    return;
                };
                self.unwatch(&starting, &Source::Starting(name.to_owned()));
                self.now_runs(name, starting, terminal);
            }
            Started::Failed(e) => {
                let Stage::Starting(starting) = std::mem::take(&mut self.live(name).stage) else {
                    return;
                };
                self.unwatch(&starting, &Source::Starting(name.to_owned()));
                // It exits by itself, unless somebody who sees it has stopped it.
                let pidfd = starting.pidfd;
                let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
                let source = Source::Process(name.to_owned());
                let _ = self.watch(&pidfd, EpollFlags::EPOLLIN, source);
                self.live(name).stage = Stage::Failing { pidfd, why: e };
            }
        }
    }

    /// A child that could not become the container's program has ended.
    fn on_failed_child(&mut self, name: &str) {
        match std::mem::take(&mut self.live(name).stage) {
            Stage::Failing { pidfd, why } => {
                let _ = sys::wait_pidfd(pidfd.as_fd());
                self.unwatch(&pidfd, &Source::Process(name.to_owned()));
                self.release_container(name);
                self.not_started(name, why);
            }
            other => self.live(name).stage = other,
        }
    }

    /// The container's first process has ended.
    pub(super) fn on_process(&mut self, name: &str) {
        if matches!(self.live(name).stage, Stage::Failing { .. }) {
            return self.on_failed_child(name);
        }
        let running = self.running(name).cloned();
        let live = self.live(name);
        let Stage::Running { pidfd } = &live.stage else {
            return;
        };
        let status = match (live.adopted, running) {
            (true, Some(r)) => super::adopt::exit_status(r.pid, r.pid_start, pidfd.as_fd()),
            _ => match sys::wait_pidfd(pidfd.as_fd()) {
                Ok(None) => return,
                Ok(status) => status,
                Err(_) => None,
            },
        };
        self.process_ended(name, status);
    }

    pub(super) fn process_ended(&mut self, name: &str, status: Option<i32>) {
        if let Stage::Running { pidfd } = std::mem::take(&mut self.live(name).stage) {
            self.unwatch(&pidfd, &Source::Process(name.to_owned()));
        }
        self.live(name).exec_errno = None;
        self.pump(name, true);
        let oom = self.oom_killed(name);
        self.release_container(name);
        let Some(running) = self.running(name).cloned() else {
            return;
        };
        let (exit_code, signal) = match status {
            Some(s) if s & 0x7f == 0 => ((s >> 8) & 0xff, None),
            Some(s) => (128 + (s & 0x7f), Some(s & 0x7f)),
            None => (137, None),
        };
        let reason = match status {
            None => "ContainerStatusUnknown",
            Some(_) if oom => "OOMKilled",
            Some(0) => "Completed",
            Some(_) => "Error",
        };
        let message = match status {
            None => damage::ENDED_UNSEEN.to_owned(),
            Some(_) => self.termination_message(name, exit_code),
        };
        let ended = Ended {
            id: running.id,
            exit_code,
            signal,
            reason: reason.into(),
            message,
            started: Some(running.since),
            finished: Timestamp::now(),
        };
        self.end(name, ended);
    }

    /// Notes an end, and what comes after it.
    fn end(&mut self, name: &str, ended: Ended) {
        let ran = self.live(name).started_at.take().map(|at| at.elapsed());
        let c = self.spec_of(name);
        let replaced = self.is_of_old_image(name);
        let again = (replaced || policy::restarts(&self.pod.spec, &c, ended.exit_code))
            && self.termination.is_none()
            && self.state.failed.is_none()
            && !self.stops_for_good(name);
        self.tell_attached(name, Some(ended.exit_code));
        self.end_execs_of(name);
        self.container_state(name).now = Now::Ended(ended.clone());
        self.stop_is_over(name);
        if !again {
            return;
        }
        if replaced {
            self.live(name).backoff = None;
            let state = self.container_state(name);
            *state = ContainerState {
                last: Some(ended),
                now: ContainerState::default().now,
                ..state.clone()
            };
            return;
        }
        // The first restart is immediate, as a kubelet's; the next wait.
        let live = self.live(name);
        if ran.is_some_and(|r| r >= BACKOFF_RESET) {
            live.backoff = None;
        }
        let before = live.backoff;
        live.backoff = Some(policy::next_backoff(before));
        let Some(delay) = before else { return };
        let message = format!(
            "back-off {}s restarting failed container={name} pod={}_{}({})",
            delay.as_secs(),
            self.pod.name,
            self.pod.namespace,
            self.pod.uid
        );
        self.event(true, "BackOff", "Back-off restarting failed container");
        let state = self.container_state(name);
        state.last = Some(ended);
        state.now = Now::Waiting {
            reason: "CrashLoopBackOff".into(),
            message,
        };
        let retry = Instant::now() + delay;
        self.live(name).retry_at = Some(retry);
        self.timers.insert(Timer::Retry(name.to_owned()), retry);
    }

    /// Kills and removes what is left of an attempt, its writable layer excepted.
    pub(super) fn release_container(&mut self, name: &str) {
        for output in std::mem::take(&mut self.live(name).outputs) {
            let _ = self.epoll.delete(&output);
        }
        self.sources
            .retain(|_, s| !matches!(s, Source::Output(n, _) if n == name));
        if let Some(fd) = self.live(name).oom.take() {
            self.unwatch(&fd, &Source::Oom(name.to_owned()));
        }
        let live = self.live(name);
        live.log = None;
        live.terminal = None;
        live.stdin = None;
        live.adopted = false;
        if let Some(cgroup) = live.cgroup.take() {
            let result = cgroup.kill().and_then(|()| cgroup.remove());
            if let Err(e) = result {
                self.event(true, "FailedKillPod", format!("container {name}: {e}"));
            }
        }
    }

    /// Moves a container's output on. `last`: it has ended.
    pub(super) fn pump(&mut self, name: &str, last: bool) {
        let Some(live) = self.live.get_mut(name) else {
            return;
        };
        if matches!(live.stage, Stage::Starting(_) | Stage::Failing { .. }) {
            return;
        }
        let Some(log) = live.log.as_mut() else { return };
        let was_lost = log.lost().is_some();
        let (mut failed, mut more) = (None, false);
        for output in &mut live.outputs {
            match output.pump(&self.glass, log, last) {
                Ok(Flow::Drained | Flow::Ended) => {}
                Ok(Flow::More) => more = true,
                Err(e) => failed = Some(e),
            }
        }
        log.tell_loss();
        let (lost, told) = (log.lost().cloned(), log.take_told(last));
        let waits = failed.is_some() || lost.is_some();
        if more && !last {
            // No edge will tell of what is there already.
            self.set_timer(Timer::Log(name.to_owned()), Duration::ZERO);
        } else if waits && !last {
            self.set_timer(Timer::Log(name.to_owned()), write::PAUSE);
        }
        if let Some(e) = failed {
            // The output waits where it is.
            self.event(true, "FailedLogging", format!("container {name}: {e}"));
        }
        if let Some(loss) = lost.filter(|_| !was_lost) {
            let why = &loss.why;
            let message = format!("container {name}: {why}: its output is dropped meanwhile");
            self.event(true, "FailedLogging", message);
        }
        if let Some(loss) = told {
            self.update_event(
                "DroppedOutput",
                &format!("container {name}: "),
                &loss.text(),
            );
        }
    }

    /// Ends the Pod as failed.
    pub(super) fn fail(&mut self, reason: &str, message: &str) {
        self.event(true, reason, message);
        self.state.failed = Some(Failure {
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    pub(super) fn on_oom(&mut self, name: &str) {
        let Some(events) = self.live(name).oom.take() else {
            return;
        };
        match events.acknowledge() {
            Ok(()) => self.live(name).oom = Some(events),
            // The cgroup is gone: nothing will be told any more, and each wait would
            // end at once.
            Err(_) => self.unwatch(&events, &Source::Oom(name.to_owned())),
        }
        self.live(name).oom_looks = 0;
        self.look_for_oom_kill(name);
    }

    /// v1 kills one process; the container is meant to die as a whole. It also
    /// tells of the limit before it kills, and has no event for the kill: so a few
    /// more looks, 1 ms to 1 s after it told.
    pub(super) fn look_for_oom_kill(&mut self, name: &str) {
        const LOOKS: u32 = 10;
        if !matches!(self.live(name).stage, Stage::Running { .. }) {
            return;
        }
        if self.oom_killed(name) {
            if let Some(cgroup) = &self.live(name).cgroup {
                let _ = cgroup.kill();
            }
        } else if self.live(name).oom_looks < LOOKS {
            let pause = Duration::from_millis(1 << self.live(name).oom_looks);
            self.live(name).oom_looks += 1;
            self.set_timer(Timer::Oom(name.to_owned()), pause);
        }
    }

    fn oom_killed(&mut self, name: &str) -> bool {
        let live = self.live(name);
        let kills = live
            .cgroup
            .as_ref()
            .and_then(|c| c.oom_kills().ok())
            .unwrap_or(0);
        live.oom_kills = live.oom_kills.max(kills);
        live.oom_kills > 0
    }

    fn termination_message(&mut self, name: &str, exit_code: i32) -> String {
        // As a kubelet's limits: 4 KiB each, 12 KiB for a Pod, whose state has to
        // fit into one message to its watchers.
        let limit = (12 * 1024 / self.live.len().max(1)).min(4096);
        let c = self.spec_of(name);
        let attempt = self.container_state(name).attempt;
        let mut text = std::fs::File::open(self.paths.termination_log(name))
            .and_then(|f| {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut std::io::Read::take(f, limit as u64), &mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            })
            .unwrap_or_default();
        // What is no UTF-8 has grown.
        truncate(&mut text, limit);
        if !text.is_empty() || exit_code == 0 || !c.termination_message_from_logs {
            return text;
        }
        write::tail(&self.log_dir(name), attempt, 80, limit.min(2048))
    }

    pub(super) fn open_log(&self, name: &str, attempt: u32) -> Result<LogFile> {
        let note = self.paths.bundle(name, attempt).join("logged");
        let when_full = WhenLogFull::of(&self.pod.annotations);
        LogFile::open(&self.log_dir(name), attempt, &note, when_full)
    }

    pub(super) fn log_dir(&self, name: &str) -> std::path::PathBuf {
        self.layout
            .pod_logs(&self.pod.namespace, &self.pod.name, &self.pod.uid)
            .join(name)
    }

    pub(super) fn container_cgroup(&self, name: &str) -> String {
        format!(
            "{}/{name}",
            sandbox::cgroup_path(&self.layout, &self.pod.uid)
        )
    }

    /// Files of attempts that nobody can ask for any more.
    pub(super) fn forget_attempts_before(&self, name: &str, keep_from: u32) {
        write::remove_old(&self.log_dir(name), keep_from);
        for base in [
            self.paths.bundle(name, 0),
            self.paths.writable_layer(name, 0),
        ] {
            let Some(dir) = base.parent() else { continue };
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let number = entry.file_name().to_string_lossy().parse::<u32>();
                if number.is_ok_and(|n| n < keep_from) {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
        }
    }
}

/// An error and its hint as the message of a status.
pub(super) fn message_of(e: &Error) -> String {
    let mut text = match e.get_hint() {
        Some(hint) => format!("{e} ({hint})"),
        None => e.to_string(),
    };
    truncate(&mut text, 4096);
    text
}
