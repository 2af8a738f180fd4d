//! A Pod that is changed in place: containers whose image is another one now are made
//! anew, running ones regardless of the restart policy, as a kubelet does. An init
//! container that runs or is over stays what it is. The same happens to containers that a
//! user wants restarted.

use std::time::Duration;

use super::pause::is_paused;
use super::{Action, Kubelet, Moment, Stage, Timer, order, waiting_for};
use crate::pod::client;
use crate::pod::reason::Reason;
use crate::pod::state::{ContainerState, Now};
use crate::spec::{Container, Pod};
use crate::{Error, Result};

impl Kubelet {
    pub(super) fn pod_changed(&mut self, at: Moment, pod: Pod) {
        let old = std::mem::replace(&mut self.pod, pod);
        self.changed = true;
        self.keep_allocated(&old);
        self.admit_resize(at);
        for c in self.pod.spec.ephemeral_containers.clone() {
            self.course(&c.name);
            if !self.state.containers.contains_key(&c.name) {
                self.record_of(&c.name);
            }
        }
        for c in old.spec.all_containers() {
            if self.spec_of(&c.name).image != c.image {
                self.try_image(&c.name);
            }
        }
        if old.spec.active_deadline != self.pod.spec.active_deadline {
            self.timers.remove(&Timer::Deadline);
            self.begin_deadline(at);
        }
    }

    /// What the image before has led to says nothing about this one.
    fn try_image(&mut self, name: &str) {
        self.cancel_pull(name);
        self.timers.remove(&Timer::Retry(name.to_owned()));
        let course = self.course(name);
        course.backoff = None;
        course.pause = None;
        course.retry_at = None;
        course.start_failure = None;
        let fresh = waiting_for(&self.pod, name).now;
        let record = self.record_of(name);
        if let Now::Waiting { reason, .. } = &record.now
            && *reason != Reason::PodInitializing
        {
            record.now = fresh;
        }
    }

    pub(super) fn cancel_pull(&mut self, name: &str) {
        if matches!(self.stage(name), Stage::Pulling(_)) {
            self.course(name).stage = Stage::Idle;
            self.actions.push(Action::CancelPull {
                container: name.to_owned(),
            });
        }
    }

    /// Whether the container's attempt is of another image than the spec's of now.
    pub(super) fn is_of_old_image(&self, name: &str) -> bool {
        let Some(c) = self.pod.spec.container(name) else {
            return false;
        };
        let record = self.state.containers.get(name);
        let began_with = record.and_then(|s| s.image.as_ref());
        (c.sidecar || !self.is_init(name)) && began_with.is_some_and(|i| *i != c.image)
    }

    /// Whether it is to be made anew, whatever its restart policy.
    pub(super) fn is_outdated(&self, name: &str) -> bool {
        let record = self.state.containers.get(name);
        record.is_some_and(|r| r.restart_wanted)
            || self.is_of_old_image(name)
            || self.restarts_for_resize(name)
    }

    /// Whether the container is there, and about to be made anew.
    pub(super) fn is_replaced(&self, name: &str) -> bool {
        self.stage(name) != Stage::Idle && self.is_outdated(name)
    }

    /// # Errors
    /// The Pod is being deleted, or over.
    pub(crate) fn must_go_on(&self) -> Result<()> {
        let pod = &self.pod;
        if self.state.deletion.is_some() {
            return Err(client::being_deleted(pod));
        }
        if self.termination.is_some() || order::decide(&pod.spec, &self.state).over {
            let e = Error::conflict(format!("pod {} has ended", pod.name));
            return Err(e.hint("delete it and apply its manifest again"));
        }
        Ok(())
    }

    /// The containers that a user means to be made anew: this one, or all but the init
    /// containers that end.
    ///
    /// # Errors
    /// There is no such container, or the Pod is over, being deleted or paused.
    pub(crate) fn restartable(&self, name: Option<&str>) -> Result<Vec<String>> {
        let pod = &self.pod;
        self.must_go_on()?;
        if self.state.paused.is_some() {
            return Err(is_paused(pod));
        }
        let all = pod.spec.all_containers();
        let may = |c: &&Container| c.sidecar || !self.is_init(&c.name);
        let names: Vec<String> = all.filter(may).map(|c| c.name.clone()).collect();
        match name {
            None => Ok(names),
            Some(name) if names.iter().any(|n| n == name) => Ok(vec![name.to_owned()]),
            Some(name) if self.is_init(name) => Err(Error::conflict(format!(
                "container {name} is an init container: it runs before the others, once"
            ))),
            Some(name) => Err(Error::not_found(format!(
                "container {name:?} not found in pod {:?}",
                pod.name
            ))
            .hint(format!("it has: {}", names.join(", ")))),
        }
    }

    /// A user wants these containers to be made anew. One that waits for its next attempt
    /// gets it now; one that has ended and would stay so runs again.
    pub(super) fn restart(&mut self, at: Moment, names: &[String]) {
        for name in names {
            match self.stage(name) {
                Stage::Running => self.record_of(name).restart_wanted = true,
                // Its attempt has just begun.
                Stage::Starting | Stage::Pulling(_) => {}
                Stage::Idle => {
                    let text = format!("Restarting container {name}");
                    self.event(at, false, Reason::Restarted, text);
                    self.timers.remove(&Timer::Retry(name.clone()));
                    let course = self.course(name);
                    course.retry_at = None;
                    course.pause = None;
                    course.backoff = None;
                    let record = self.record_of(name);
                    record.keep_end();
                    record.backoff = None;
                    record.now = ContainerState::default().now;
                }
            }
        }
    }

    /// Stops the containers that run and are to be made anew.
    pub(super) fn stop_replaced(&mut self, at: Moment) {
        let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
        for name in self.names() {
            let runs = self.stage(&name) == Stage::Running;
            if runs && self.course(&name).stop.is_none() && self.is_outdated(&name) {
                let why = match self.is_of_old_image(&name) {
                    true => "definition changed, will be restarted",
                    false if self.restarts_for_resize(&name) => "resize requires restart",
                    false => "will be restarted, as a user wants it",
                };
                self.event(
                    at,
                    false,
                    Reason::Killing,
                    format!("Container {name} {why}"),
                );
                self.stop(at, &name, grace, true, true);
            }
        }
    }
}
