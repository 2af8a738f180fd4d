//! A Pod that is changed in place: containers whose image is another one now are made
//! anew, running ones regardless of the restart policy, as a kubelet does. An init
//! container that runs or is over stays what it is.

use std::time::Duration;

use super::{Action, Kubelet, Moment, Stage, Timer, waiting_for};
use crate::pod::state::Now;
use crate::spec::Pod;

impl Kubelet {
    pub(super) fn pod_changed(&mut self, at: Moment, pod: Pod) {
        let old = std::mem::replace(&mut self.pod, pod);
        self.changed = true;
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
            && reason != "PodInitializing"
        {
            record.now = fresh;
        }
    }

    pub(super) fn cancel_pull(&mut self, name: &str) {
        if self.stage(name) == Stage::Pulling {
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

    /// Whether the container is there, and about to be made anew of another image.
    pub(super) fn is_replaced(&self, name: &str) -> bool {
        self.stage(name) != Stage::Idle && self.is_of_old_image(name)
    }

    /// Stops the containers that run with an image from before the change.
    pub(super) fn stop_replaced(&mut self, at: Moment) {
        let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
        for name in self.names() {
            let runs = self.stage(&name) == Stage::Running;
            if runs && self.course(&name).stop.is_none() && self.is_of_old_image(&name) {
                let text = format!("Container {name} definition changed, will be restarted");
                self.event(at, false, "Killing", text);
                self.stop(at, &name, grace, true, true);
            }
        }
    }
}
