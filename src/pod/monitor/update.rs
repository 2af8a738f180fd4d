//! A Pod that is changed in place: the record is read anew, and containers whose image
//! is another one now are made anew, running ones regardless of the restart policy, as a
//! kubelet does. An init container that runs or is over stays what it is.

use std::time::Duration;

use super::lifecycle::Stage;
use super::sandbox::Host;
use super::{Monitor, Timer, waiting_for};
use crate::pod::damage;
use crate::pod::state::Now;
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Result};

/// The Pod of the record, as it is on this host, and why the record cannot be read, if it
/// cannot.
pub(super) fn load(layout: &Layout, uid: &str, host: &Host) -> Result<(Pod, Option<Error>)> {
    let (mut pod, damaged) = damage::load_pod(layout, uid)?;
    if pod.spec.host_network {
        // With the host's network goes the host's name, as with a kubelet.
        pod.spec.hostname.clone_from(&host.name);
        pod.spec.set_hostname_as_fqdn = false;
    }
    Ok((pod, damaged))
}

impl Monitor {
    /// The record has been changed.
    pub(super) fn reload(&mut self) -> Result<()> {
        let (pod, damaged) = load(&self.layout, &self.pod.uid, &self.host)?;
        if let Some(e) = damaged {
            return Err(e);
        }
        let names = |pod: &Pod| -> Vec<String> {
            let all = pod.spec.all_containers();
            all.map(|c| c.name.clone()).collect()
        };
        if names(&pod) != names(&self.pod) {
            return Err(Error::conflict("the Pod has other containers"));
        }
        let old = std::mem::replace(&mut self.pod, pod);
        self.dirty = true;
        for c in old.spec.all_containers() {
            if self.spec_of(&c.name).image != c.image {
                self.try_image(&c.name);
            }
        }
        if old.spec.active_deadline != self.pod.spec.active_deadline {
            self.timers.remove(&Timer::Deadline);
            self.begin_deadline();
        }
        Ok(())
    }

    /// What the image before has led to says nothing about this one.
    fn try_image(&mut self, name: &str) {
        self.cancel_pull(name);
        self.timers.remove(&Timer::Retry(name.to_owned()));
        let live = self.live(name);
        live.backoff = None;
        live.retry_at = None;
        live.hook_failure = None;
        let fresh = waiting_for(&self.pod, name).now;
        let state = self.container_state(name);
        if let Now::Waiting { reason, .. } = &state.now
            && reason != "PodInitializing"
        {
            state.now = fresh;
        }
    }

    /// Whether the container's attempt is of another image than the spec's of now.
    pub(super) fn is_of_old_image(&self, name: &str) -> bool {
        let Some(c) = self.pod.spec.container(name) else {
            return false;
        };
        let is_init = self.pod.spec.init_containers.iter().any(|i| i.name == name);
        let began_with = self
            .state
            .containers
            .get(name)
            .and_then(|s| s.image.as_ref());
        (c.sidecar || !is_init) && began_with.is_some_and(|i| *i != c.image)
    }

    /// Whether the container is there, and about to be made anew of another image.
    pub(super) fn is_replaced(&self, name: &str) -> bool {
        let live = self.live.get(name);
        live.is_some_and(|l| !matches!(l.stage, Stage::Idle)) && self.is_of_old_image(name)
    }

    /// Stops the containers that run with an image from before the change.
    pub(super) fn stop_replaced(&mut self) {
        let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
        for name in self.container_names() {
            let runs = matches!(self.live(&name).stage, Stage::Running { .. });
            if runs && self.live(&name).stop.is_none() && self.is_of_old_image(&name) {
                self.event(
                    false,
                    "Killing",
                    format!("Container {name} definition changed, will be restarted"),
                );
                self.stop_container(&name, grace, true);
            }
        }
    }
}
