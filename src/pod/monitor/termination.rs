//! Ending containers, and the Pod.
//!
//! One container: preStop hook, TERM (or its stop signal), KILL at the end of the
//! grace period; a hook that is still running then gets the container 2 seconds
//! more, once. The Pod: ordinary containers together, then sidecars in reverse
//! order, within one grace period: waiting for one's turn uses it up. At its end all
//! that are left are stopped at once, and have 2 seconds together. See Kubernetes' "Pod
//! Lifecycle", Termination.
//! At the machine's shutdown the Pod stays, as failed; else it is deleted.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sched::CloneFlags;
use nix::sys::epoll::EpollFlags;

use super::exec::Purpose;
use super::lifecycle::Stage;
use super::sandbox::Host;
use super::{Monitor, Source, Timer, policy, sandbox};
use crate::linux::root::remove_tree;
use crate::pod::layers;
use crate::pod::state::Deletion;
use crate::spec::{Hook, Pod};
use crate::store::Layout;
use crate::sys::process as sys;
use crate::{Error, Result};

/// What a container still gets whose hook has used up the grace period, and what
/// the processes of a Pod get that is deleted by force.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// The pause before what could not be removed is tried again, doubled each time.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);
const REMOVAL_PAUSE_MOST: Duration = Duration::from_secs(60);

/// A container's stop under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    deadline: Instant,
    stage: StopStage,
    /// The restart policy decides what follows, as after any end.
    restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopStage {
    Hook,
    Signalled,
    Killed,
}

/// The Pod's.
#[derive(Debug)]
pub(super) struct Termination {
    deadline: Instant,
    force: bool,
    /// The Pod goes with its containers.
    deletes: bool,
}

impl Termination {
    /// When nothing of the Pod runs any more, whatever its containers do.
    fn end(&self) -> Instant {
        match self.force {
            true => self.deadline,
            false => self.deadline + LAST_CHANCE,
        }
    }
}

impl Monitor {
    /// Begins or hastens the Pod's end. A later call can only shorten it.
    pub(super) fn delete(&mut self, grace: Duration, force: bool) {
        let grace = if force { LAST_CHANCE } else { grace };
        let deadline = Instant::now() + grace;
        if let Some(t) = &mut self.termination {
            t.force |= force;
            let begins = !std::mem::replace(&mut t.deletes, true);
            if deadline >= t.deadline && !begins {
                return;
            }
            t.deadline = t.deadline.min(deadline);
        } else {
            self.termination = Some(Termination {
                deadline,
                force,
                deletes: true,
            });
        }
        // The two together say when the grace is over, to the next monitor too.
        self.state.deletion = Some(Deletion {
            requested: Timestamp::now(),
            grace_period: grace.as_secs(),
        });
        self.event(
            false,
            "Killing",
            format!("Stopping pod with a grace period of {}s", grace.as_secs()),
        );
        for name in self.container_names() {
            if let Some(stop) = &mut self.live(&name).stop
                && deadline < stop.deadline
            {
                let was_in_hook = stop.stage == StopStage::Hook;
                stop.deadline = deadline;
                self.timers.insert(Timer::Stop(name.clone()), deadline);
                if force && was_in_hook {
                    self.signal(&name);
                }
            }
        }
    }

    /// The machine goes down: the containers end as in a deletion, and the Pod is
    /// failed, with a kubelet's words. What has ended by itself stays what it is.
    pub(super) fn shut_down(&mut self) {
        let over = policy::decide(&self.pod.spec, &self.state).over;
        if self.termination.is_some() || over {
            return;
        }
        let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
        self.termination = Some(Termination {
            deadline: Instant::now() + grace,
            force: false,
            deletes: false,
        });
        self.fail(
            "Terminated",
            "Pod was terminated in response to imminent node shutdown.",
        );
    }

    /// Goes on with a deletion that an earlier monitor was asked for. Hooks run
    /// again: how far they had come nobody knows.
    pub(super) fn resume_deletion(&mut self) {
        let Some(deletion) = &self.state.deletion else {
            return;
        };
        let gone = super::adopt::since(deletion.requested);
        let left = Duration::from_secs(deletion.grace_period).saturating_sub(gone);
        self.termination = Some(Termination {
            deadline: Instant::now() + left,
            force: false,
            deletes: true,
        });
    }

    /// Takes the next steps of the termination. True when nothing of a Pod that is
    /// deleted is left but its record.
    pub(super) fn advance_termination(&mut self) -> bool {
        let Some(t) = &self.termination else {
            return false;
        };
        let now = Instant::now();
        let left = t.deadline.saturating_duration_since(now);
        let (force, deletes) = (t.force, t.deletes);
        let most = t.end().saturating_duration_since(now);
        match left.is_zero() {
            true => drop(self.timers.remove(&Timer::Grace)),
            false => drop(self.timers.insert(Timer::Grace, now + left)),
        }
        for name in self.container_names() {
            self.cancel_pull(&name);
            self.timers.remove(&Timer::Retry(name));
        }
        let is_sidecar = |m: &Self, name: &str| m.spec_of(name).sidecar;
        let alive = |m: &Self| -> Vec<String> {
            m.pod
                .spec
                .all_containers()
                .map(|c| c.name.clone())
                .filter(|n| !matches!(m.live[n].stage, Stage::Idle))
                .collect()
        };
        let all = alive(self);
        let (sidecars, ordinary): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|n| is_sidecar(self, n));
        let next = if left.is_zero() {
            [ordinary, sidecars].concat()
        } else if ordinary.is_empty() {
            sidecars.last().cloned().into_iter().collect()
        } else {
            ordinary
        };
        for name in &next {
            // One that is being started is stopped as soon as it runs; if it hangs on
            // the way (in a mount, say), it is killed when the grace is over.
            if let Stage::Starting(starting) = &self.live(name).stage {
                if left.is_zero() {
                    let _ = sys::pidfd_send_signal(starting.pidfd.as_fd(), libc::SIGKILL);
                } else {
                    let end = Instant::now() + left;
                    self.timers.insert(Timer::Stop(name.clone()), end);
                }
            }
            let runs = matches!(self.live(name).stage, Stage::Running { .. });
            if runs && self.live(name).stop.is_none() {
                let grace = if is_sidecar(self, name) {
                    left.max(LAST_CHANCE).min(most)
                } else {
                    left
                };
                // A hook has the grace period only.
                self.stop_with(name, grace, false, !force && !left.is_zero());
            }
        }
        next.is_empty() && deletes
    }

    /// Stops a container. `restart`: its restart policy decides what follows.
    pub(super) fn stop_container(&mut self, name: &str, grace: Duration, restart: bool) {
        self.stop_with(name, grace, restart, true);
    }

    fn stop_with(&mut self, name: &str, grace: Duration, restart: bool, hooks: bool) {
        let deadline = Instant::now() + grace;
        self.live(name).stop = Some(Stop {
            deadline,
            stage: StopStage::Hook,
            restart,
        });
        self.timers.insert(Timer::Stop(name.to_owned()), deadline);
        self.event(false, "Killing", format!("Stopping container {name}"));
        // No hook has the time in no time, as in a kubelet.
        match self
            .spec_of(name)
            .pre_stop
            .filter(|_| hooks && !grace.is_zero())
        {
            Some(Hook::Exec(command)) => self.run_hook(name, Purpose::PreStop, command),
            Some(Hook::Sleep(seconds)) => self.sleep_hook(name, seconds),
            None => self.signal(name),
        }
    }

    /// A hook is over: preStop's if the container is being stopped, else
    /// postStart's.
    pub(super) fn on_hook_end(&mut self, name: &str, result: Result<()>) {
        let Some(stop) = self.live(name).stop else {
            return self.post_start_is_over(name, result);
        };
        if let Err(e) = result {
            self.event(
                true,
                "FailedPreStopHook",
                format!("PreStopHook failed: {e}"),
            );
        }
        if stop.stage == StopStage::Hook {
            self.signal(name);
        }
    }

    pub(super) fn on_stop_deadline(&mut self, name: &str) {
        let Some(stop) = self.live(name).stop else {
            return;
        };
        match stop.stage {
            StopStage::Hook => {
                self.event(
                    true,
                    "FailedPreStopHook",
                    "PreStopHook was still running at the end of the grace period",
                );
                self.timers.remove(&Timer::HookSleep(name.to_owned()));
                let deadline = Instant::now() + LAST_CHANCE;
                let end = self.termination.as_ref().map(Termination::end);
                let deadline = end.map_or(deadline, |end| deadline.min(end));
                if let Some(stop) = &mut self.live(name).stop {
                    stop.deadline = deadline;
                }
                self.timers.insert(Timer::Stop(name.to_owned()), deadline);
                self.signal(name);
            }
            StopStage::Signalled => {
                if let Some(stop) = &mut self.live(name).stop {
                    stop.stage = StopStage::Killed;
                }
                self.send_signal(name, libc::SIGKILL);
                if let Some(cgroup) = &self.live(name).cgroup {
                    let _ = cgroup.kill();
                }
            }
            StopStage::Killed => {}
        }
    }

    fn signal(&mut self, name: &str) {
        let spec = self.spec_of(name).stop_signal;
        let live = self.live(name);
        let signal = spec.or(live.stop_signal).unwrap_or(libc::SIGTERM);
        if let Some(stop) = &mut live.stop {
            stop.stage = StopStage::Signalled;
        }
        self.send_signal(name, signal);
    }

    fn send_signal(&mut self, name: &str, signal: i32) {
        if let Stage::Running { pidfd } = &self.live(name).stage {
            // ESRCH: it has ended, and its pidfd says so next.
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), signal);
        }
    }

    /// The container has ended.
    pub(super) fn stop_is_over(&mut self, name: &str) {
        self.timers.remove(&Timer::Stop(name.to_owned()));
        self.timers.remove(&Timer::HookSleep(name.to_owned()));
        self.live(name).stop = None;
    }

    /// Whether the container is being stopped for good.
    pub(super) fn stops_for_good(&self, name: &str) -> bool {
        self.live
            .get(name)
            .and_then(|l| l.stop)
            .is_some_and(|s| !s.restart)
    }

    /// Removes everything and ends the monitor. What cannot be removed stays visible:
    /// the record remains, and so does the monitor, which tries again: after a while, and
    /// at the next deletion.
    pub(super) fn finish(mut self) -> Result<()> {
        let mut pause = REMOVAL_PAUSE;
        self.end_restoring();
        loop {
            // A connection ends when its Pod is gone, and no sooner; nobody new comes.
            let _ = self.epoll.delete(&self.listener);
            let errors = sandbox::remove(&self.layout, &self.pod, &self.host);
            let Some(first) = errors.first() else { break };
            for e in &errors {
                self.event(true, "FailedKillPod", e.to_string());
            }
            for id in self.clients.keys().copied().collect::<Vec<_>>() {
                self.reply(id, &crate::pod::protocol::Reply::Failed(first.clone()), &[]);
            }
            self.await_next_removal(pause)?;
            pause = policy::doubled(Some(pause), REMOVAL_PAUSE, REMOVAL_PAUSE_MOST);
        }
        // Home again: the Pod's network namespace dies now, and takes its link along,
        // while the files are removed.
        let _ = nix::sched::setns(&self.host.netns, CloneFlags::CLONE_NEWNET);
        // A tree is removed with as many fds as it is deep: these are not needed any more.
        drop((self.epoll, self.glass, self.rules, self.live, self.execs));
        self.directory = None;
        self.spare_fd.close();
        let errors = sandbox::forget(&self.layout, &self.pod);
        leave_nothing(&self.layout, &self.pod, &self.host);
        // Whoever waits for the deletion learns of it from the connection's end.
        match errors.into_iter().next() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn await_next_removal(&mut self, pause: Duration) -> Result<()> {
        self.termination = None;
        self.sources.retain(|_, s| *s != Source::Listener);
        let id = self.new_id(Source::Listener);
        let event = nix::sys::epoll::EpollEvent::new(EpollFlags::EPOLLIN, id);
        let _ = self.epoll.add(&self.listener, event);
        self.set_timer(Timer::Removal, pause);
        while self.termination.is_none() && self.timers.contains_key(&Timer::Removal) {
            self.publish();
            for id in self.wait()? {
                self.handle(id);
            }
            self.fire_timers();
        }
        Ok(())
    }
}

/// What the Pods of a root share goes with the last of them.
fn leave_nothing(layout: &Layout, pod: &Pod, host: &Host) {
    let _ = layers::release(layout);
    if !sandbox::any_left(layout) {
        // A cgroup that a process is in cannot be removed: out, to where it came from.
        let _ = leave_cgroup(&host.hierarchies);
        sandbox::remove_shared(layout, &host.network, &host.hierarchies);
    }
    let _ = remove_tree(&sandbox::dead_dir(layout, &pod.uid));
}

fn leave_cgroup(hierarchies: &crate::linux::cgroup::Hierarchies) -> Result<()> {
    for h in hierarchies.v1() {
        let _ = std::fs::write(h.point().join("tasks"), "0");
    }
    if let Some(h) = hierarchies.v2() {
        let path = h.point().join("cgroup.procs");
        std::fs::write(&path, "0")
            .map_err(|e| Error::from(e).push_context(format!("write({}, 0)", path.display())))?;
    }
    Ok(())
}
