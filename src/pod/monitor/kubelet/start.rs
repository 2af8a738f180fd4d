//! The start of one container: its image, its attempts, its postStart hook.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, HookKind, Kubelet, Moment, Stage, Timer, backoff, container_id, message_of};
use crate::pod::reason::Reason;
use crate::pod::state::{Ended, Now, Running, User};
use crate::spec::Hook;
use crate::store;
use crate::{Error, Kind};

impl Kubelet {
    pub(super) fn begin_attempt(&mut self, name: &str) {
        let image = self.spec_of(name).image;
        let round = self.state.round;
        let record = self.record_of(name);
        record.image = Some(image);
        record.round = round;
        record.backoff = None;
        let course = self.course(name);
        course.retry_at = None;
        course.stage = Stage::Starting;
        course.killed = false;
        self.timers.remove(&Timer::Retry(name.to_owned()));
        self.actions.push(Action::Start {
            container: name.to_owned(),
        });
    }

    pub(super) fn attempt_begins(&mut self, name: &str, number: u32) {
        let resources = self.spec_of(name).resources;
        let record = self.record_of(name);
        record.attempt = number;
        record.resources = Some(resources);
    }

    /// `volume`: the image is not its own, but that of this volume.
    pub(super) fn pulling(&mut self, at: Moment, name: &str, volume: Option<&str>) {
        let image = self.image_of(name, volume);
        let text = format!("Pulling image {image:?}");
        self.course(name).stage = Stage::Pulling(image);
        self.event(at, false, Reason::Pulling, text);
    }

    pub(super) fn image_found(
        &mut self,
        name: &str,
        id: String,
        image_name: Option<String>,
        volumes: BTreeMap<String, String>,
    ) {
        self.course(name).stage = Stage::Starting;
        let record = self.record_of(name);
        record.image_id = Some(id);
        record.image_name = image_name;
        record.volume_images = volumes;
        record.keep_end();
    }

    /// ErrImagePull, then ImagePullBackOff, as a kubelet has it.
    pub(super) fn image_missing(
        &mut self,
        at: Moment,
        name: &str,
        volume: Option<&str>,
        mut e: Error,
    ) {
        let waited = matches!(
            self.state.containers.get(name).map(|s| &s.now),
            Some(Now::Waiting { reason, .. }) if matches!(reason, Reason::ErrImagePull | Reason::ImagePullBackOff)
        );
        let reason = match e.kind() {
            Kind::Invalid => Reason::InvalidImageName,
            Kind::NotFound => Reason::ErrImageNeverPull,
            _ if waited => Reason::ImagePullBackOff,
            _ => Reason::ErrImagePull,
        };
        let image = self.image_of(name, volume);
        let text = format!("Failed to pull image {image:?}: {}", message_of(&e));
        self.event(at, true, Reason::Failed, text);
        if let Some(volume) = volume {
            e = e.push_context(format!("volume {volume}"));
        }
        self.wait_again(at, name, reason, &e);
    }

    /// What the manifest, the image or a volume has wrong is tried again until it is
    /// mended, and counts as no attempt; so is what the host lacks, and what a full
    /// filesystem or table of fds keeps from being made. Anything else is an attempt that
    /// failed.
    pub(super) fn not_started(&mut self, at: Moment, name: &str, e: Error) {
        self.event(
            at,
            true,
            Reason::Failed,
            format!("Error: {}", message_of(&e)),
        );
        match e.kind() {
            Kind::Invalid => self.wait_again(at, name, Reason::CreateContainerConfigError, &e),
            Kind::NotFound => self.wait_again(at, name, Reason::CreateContainerError, &e),
            _ if store::is_full(&e) || store::is_out_of_fds(&e) => {
                self.wait_again(at, name, Reason::CreateContainerError, &e);
            }
            _ => self.start_failed(at, name, &e),
        }
    }

    /// An attempt whose container never ran: as the CRI reports it.
    fn start_failed(&mut self, at: Moment, name: &str, e: &Error) {
        self.count_restart(name);
        self.course(name).exec_errno = e.errno().filter(|_| e.kind() == Kind::StartFailed);
        let attempt = self.record_of(name).attempt;
        let ended = Ended {
            id: container_id(&self.pod.uid, name, attempt),
            exit_code: 128,
            signal: None,
            reason: Reason::StartError,
            message: message_of(e),
            started: None,
            finished: at.date,
        };
        self.settle_end(at, name, ended);
    }

    /// An attempt that is not the first one counts as a restart.
    fn count_restart(&mut self, name: &str) {
        let record = self.record_of(name);
        if record.last.is_some() {
            record.restart_count += 1;
        }
    }

    /// Sets a state from which another try is made later.
    fn wait_again(&mut self, at: Moment, name: &str, reason: Reason, e: &Error) {
        let record = self.record_of(name);
        record.keep_end();
        record.now = Now::waiting(reason, message_of(e));
        record.mend = e.get_hint().map(str::to_owned);
        let course = self.course(name);
        course.stage = Stage::Idle;
        let delay = backoff::next(course.pause);
        course.pause = Some(delay);
        self.retry_after(at, name, delay);
    }

    /// An object that the Pod names has changed: what waits for its configuration or its
    /// image, and may have waited for that, is tried again now.
    pub(super) fn objects_changed(&mut self, at: Moment) {
        self.hurry_sandbox(at);
        let waits = |now: &Now| {
            matches!(
                now,
                Now::Waiting {
                    reason: Reason::CreateContainerConfigError
                        | Reason::ErrImagePull
                        | Reason::ImagePullBackOff,
                    ..
                }
            )
        };
        let records = self.state.containers.iter();
        let waiting: Vec<String> = records
            .filter(|(_, record)| waits(&record.now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            if self.course(&name).retry_at.is_some() {
                self.course(&name).pause = None;
                self.retry_after(at, &name, Duration::ZERO);
            }
        }
    }

    pub(super) fn retry_after(&mut self, at: Moment, name: &str, delay: Duration) {
        let when = at.clock + delay;
        self.course(name).retry_at = Some(when);
        self.timers.insert(Timer::Retry(name.to_owned()), when);
    }

    /// The attempt has become the container's program.
    pub(super) fn started(
        &mut self,
        at: Moment,
        name: &str,
        (pid, pid_start): (i32, u64),
        user: Option<User>,
    ) {
        // One that is to end at once gets no hook.
        let ends = self.is_to_end(name);
        let hook = self.spec_of(name).post_start.filter(|_| !ends);
        self.count_restart(name);
        let attempt = self.record_of(name).attempt;
        let id = container_id(&self.pod.uid, name, attempt);
        let record = self.record_of(name);
        record.user = user;
        record.now = Now::Running(Running {
            id,
            pid,
            pid_start,
            since: at.date,
            started: false,
            in_hook: hook.is_some(),
            ready: false,
            probes: BTreeMap::new(),
        });
        let course = self.course(name);
        course.stage = Stage::Running;
        course.started_at = Some(at.clock);
        course.pause = None;
        course.killed = false;
        self.event(
            at,
            false,
            Reason::Started,
            format!("Started container {name}"),
        );
        match hook {
            Some(hook) => self.begin_hook(at, name, HookKind::PostStart, hook),
            None => self.begin_probes(at, name),
        }
    }

    /// A container of an earlier monitor runs on. A postStart hook that was running has no
    /// parent that would tell its end.
    pub(super) fn survived(&mut self, at: Moment, name: &str) {
        let Some(running) = self.running(name).cloned() else {
            return;
        };
        let course = self.course(name);
        course.stage = Stage::Running;
        course.started_at = Some(at.clock.saturating_sub(at.since(running.since)));
        match (running.in_hook, running.started) {
            (true, _) => self.post_start_ended(at, name, Ok(())),
            (false, false) => self.begin_probes(at, name),
            (false, true) => self.container_started(at, name),
        }
    }

    pub(super) fn begin_hook(&mut self, at: Moment, name: &str, kind: HookKind, hook: Hook) {
        let container = name.to_owned();
        match hook {
            Hook::Check(check) => self.actions.push(Action::RunHook {
                container,
                hook: kind,
                check,
            }),
            Hook::Sleep(seconds) => {
                let when = at.clock + Duration::from_secs(seconds);
                self.timers.insert(Timer::HookSleep(container, kind), when);
            }
        }
    }

    pub(super) fn hook_ended(
        &mut self,
        at: Moment,
        name: &str,
        hook: HookKind,
        result: Result<(), Error>,
    ) {
        match hook {
            HookKind::PostStart => self.post_start_ended(at, name, result),
            HookKind::PreStop => self.pre_stop_ended(at, name, result),
        }
    }

    fn post_start_ended(&mut self, at: Moment, name: &str, result: Result<(), Error>) {
        match result {
            Ok(()) => {
                let Some(running) = self.running_record(name) else {
                    return;
                };
                running.in_hook = false;
                self.begin_probes(at, name);
            }
            Err(e) => {
                let text = format!("PostStartHook failed: {}", message_of(&e));
                self.event(at, true, Reason::FailedPostStartHook, text);
                // "If the hook fails, the container is killed": with its grace.
                let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
                if self.stage(name) == Stage::Running && self.course(name).stop.is_none() {
                    self.course(name).start_failure = Some((Reason::FailedPostStartHook, e));
                    self.stop(at, name, grace, true, true);
                }
            }
        }
    }
}
