//! Resources that change in place, as a kubelet does it (KEP-1287).
//!
//! 1. What the record asks for is *allocated* unless this machine can never have it: then the
//!    resize is pending, and the containers keep what they have.
//! 2. No memory limit goes below what is in use: the kernel would kill (memory.max of cgroup
//!    v2) or refuse (v1). Such a resize is tried again, as a whole, until it fits.
//! 3. The Pod's cgroup is widened first, then containers are written, then the Pod's cgroup is
//!    narrowed: what is below it never has more than it.
//! 4. A container whose resizePolicy says so is restarted instead. Between 3's first and last
//!    step the Pod waits for it.
//!
//! The state records what each cgroup was given last, so that a next monitor goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Kubelet, Moment, ResizeStep, Stage, Timer, message_of};
use crate::Error;
use crate::pod::reason::Reason;
use crate::pod::state::{Failure, State};
use crate::spec::{Bounds, Node, Pod, Resources};

/// Nothing tells that memory has become free.
const PAUSE: Duration = Duration::from_secs(5);

/// What is known of a resize beside its record.
#[derive(Debug, Default)]
pub(super) struct Resizing {
    pub node: Option<Node>,
    /// What the Pod's record asks for.
    wanted: BTreeMap<String, Resources>,
    step: Step,
    retry_at: Option<Duration>,
}

#[derive(Debug, Default, PartialEq)]
enum Step {
    #[default]
    Idle,
    Measuring,
    Writing(Vec<ResizeStep>),
}

impl Resizing {
    /// Takes what the record asks for from the Pod, and leaves what its containers may have.
    pub(super) fn begin(pod: &mut Pod, state: &State) -> Self {
        let mut resizing = Resizing::default();
        for c in pod.spec.containers_mut() {
            let record = state.containers.get(&c.name);
            let known = record.and_then(|r| r.allocated.or(r.resources));
            resizing.wanted.insert(c.name.clone(), c.resources);
            c.resources = known.unwrap_or(c.resources);
        }
        resizing
    }
}

impl Kubelet {
    /// The record has been changed: what was allocated before is kept for now.
    pub(super) fn keep_allocated(&mut self, old: &Pod) {
        for c in self.pod.spec.containers_mut() {
            let before = old.spec.container(&c.name).map(|c| c.resources);
            self.resizing.wanted.insert(c.name.clone(), c.resources);
            c.resources = before.unwrap_or(c.resources);
        }
        // Records of an earlier version do not say what a cgroup was given.
        for c in old.spec.all_containers() {
            if let Some(record) = self.state.containers.get_mut(&c.name) {
                record.resources.get_or_insert(c.resources);
            }
        }
        self.state.bounds.get_or_insert(old.spec.bounds());
    }

    /// Allocates what the record asks for, if this machine has it.
    pub(super) fn admit_resize(&mut self, at: Moment) {
        let old = self.pod.spec.clone();
        let mut new = old.clone();
        for c in new.containers_mut() {
            c.resources = self
                .resizing
                .wanted
                .get(&c.name)
                .copied()
                .unwrap_or(c.resources);
        }
        let infeasible = self.resizing.node.and_then(|node| {
            let check = |what, old: u64, new: u64, has: u64| {
                (new > has && new > old).then(|| {
                    format!(
                        "Node didn't have enough capacity: {what}, requested: {new}, capacity: {has}"
                    )
                })
            };
            check("cpu", old.cpu_requests(), new.cpu_requests(), node.cpu).or_else(|| {
                let (old, new) = (old.memory_requests(), new.memory_requests());
                check("memory", old, new, node.memory)
            })
        });
        let pending = infeasible.map(|message| Failure::new(Reason::Infeasible, &message));
        if pending.is_none() {
            self.pod.spec = new;
        }
        for c in self.pod.spec.all_containers() {
            let differs = self.resizing.wanted.get(&c.name) != Some(&c.resources);
            let allocated = differs.then_some(c.resources);
            if let Some(record) = self.state.containers.get_mut(&c.name) {
                record.allocated = allocated;
            }
        }
        if self.state.resize.pending == pending {
            return;
        }
        self.changed = true;
        if let Some(f) = &pending {
            let text = format!("Pod resize Infeasible: {}", f.message);
            self.event(at, true, Reason::ResizeInfeasible, text);
        }
        self.state.resize.pending = pending;
    }

    /// Whether the container that runs has other resources than it is to have, and gets them
    /// by a restart.
    pub(super) fn restarts_for_resize(&self, name: &str) -> bool {
        let Some(c) = self.pod.spec.container(name) else {
            return false;
        };
        let record = self.state.containers.get(name);
        let (Some(has), true) = (
            record.and_then(|r| r.resources),
            self.stage(name) == Stage::Running,
        ) else {
            return false;
        };
        let (policy, wants) = (c.resize_policy, c.resources);
        (policy.cpu_restarts && has.cpu() != wants.cpu())
            || (policy.memory_restarts && has.memory() != wants.memory())
    }

    /// Containers that run and whose cgroups are to be written, with what is in force.
    fn in_place(&self) -> Vec<(String, Resources, Resources)> {
        let all = self.pod.spec.all_containers();
        let of = |c: &crate::spec::Container| {
            let has = self.state.containers.get(&c.name)?.resources?;
            let due = self.stage(&c.name) == Stage::Running
                && has != c.resources
                && !self.is_outdated(&c.name)
                && self.courses.get(&c.name).is_none_or(|c| c.stop.is_none());
            due.then(|| (c.name.clone(), has, c.resources))
        };
        all.filter_map(of).collect()
    }

    /// The steps that are due, and whether memory limits go down by them.
    fn steps(&self) -> (Vec<ResizeStep>, bool) {
        let wants = self.pod.spec.bounds();
        let has = self.state.bounds.unwrap_or(wants);
        let wide = has.or_wider(wants);
        let in_place = self.in_place();
        let mut steps = Vec::new();
        if wide != has {
            steps.push(ResizeStep::Pod(wide));
        }
        steps.extend(
            in_place
                .iter()
                .map(|(name, _, resources)| ResizeStep::Container {
                    name: name.clone(),
                    resources: *resources,
                }),
        );
        let waits = self.names().iter().any(|name| self.waits_for_restart(name));
        let narrows = wide != wants && !waits;
        if narrows {
            steps.push(ResizeStep::Pod(wants));
        }
        let less = |has: Option<u64>, wants: Option<u64>| match (has, wants) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(has), Some(wants)) => wants < has,
        };
        let lowers = in_place
            .iter()
            .any(|(_, has, wants)| less(has.memory_limit, wants.memory_limit));
        (
            steps,
            lowers || (narrows && less(has.memory_limit, wants.memory_limit)),
        )
    }

    /// An attempt with more than it is to have is still there.
    fn waits_for_restart(&self, name: &str) -> bool {
        let has = self.state.containers.get(name).and_then(|r| r.resources);
        let wants = self.pod.spec.container(name).map(|c| c.resources);
        let due = self.in_place().iter().any(|(n, ..)| n == name);
        self.stage(name) != Stage::Idle && has.is_some() && has != wants && !due
    }

    pub(super) fn advance_resize(&mut self, at: Moment) {
        if self.resizing.step != Step::Idle {
            return;
        }
        let (steps, lowers) = self.steps();
        let names = self.names();
        let restarts = names.iter().any(|n| self.waits_for_restart(n));
        if steps.is_empty() && !restarts {
            return self.resize_is_over(at);
        }
        if self.state.resize.in_progress.is_none() {
            self.state.resize.in_progress = Some(String::new());
            self.state.resize.stuck_at = None;
            self.event(at, false, Reason::ResizeStarted, "Pod resize started");
        }
        if steps.is_empty() || self.resizing.retry_at.is_some_and(|when| when > at.clock) {
            return;
        }
        if lowers {
            self.resizing.step = Step::Measuring;
            let containers = self.in_place().into_iter().map(|(name, ..)| name);
            let containers = containers.collect();
            self.actions.push(Action::MeasureMemory { containers });
        } else {
            self.write(steps);
        }
    }

    fn resize_is_over(&mut self, at: Moment) {
        self.resizing.retry_at = None;
        self.timers.remove(&Timer::Resize);
        self.state.resize.stuck_at = None;
        if self.state.resize.in_progress.take().is_some() {
            self.event(at, false, Reason::ResizeCompleted, "Pod resize completed");
        }
    }

    fn write(&mut self, steps: Vec<ResizeStep>) {
        self.resizing.step = Step::Writing(steps.clone());
        self.actions.push(Action::Resize { steps });
    }

    pub(super) fn memory_used(
        &mut self,
        at: Moment,
        containers: &BTreeMap<String, u64>,
        pod: Option<u64>,
    ) {
        self.resizing.step = Step::Idle;
        let has = self.state.bounds.unwrap_or_default().memory_limit;
        let (steps, _) = self.steps();
        // What has begun meanwhile comes first.
        if steps.is_empty() {
            return;
        }
        let too_low = steps.iter().find_map(|step| {
            let (place, limit, used) = match step {
                ResizeStep::Pod(Bounds { memory_limit, .. }) if *memory_limit == has => {
                    return None;
                }
                ResizeStep::Pod(bounds) => (None, bounds.memory_limit?, pod?),
                ResizeStep::Container { name, resources } => {
                    let has = self.state.containers.get(name).and_then(|r| r.resources);
                    let has = has.and_then(|r| r.memory_limit);
                    if has.is_some_and(|has| resources.memory_limit >= Some(has)) {
                        return None;
                    }
                    let used = containers.get(name)?;
                    (Some(name.clone()), resources.memory_limit?, *used)
                }
            };
            (used >= limit).then(|| {
                let what = match &place {
                    Some(name) => format!("container {name:?}"),
                    None => "pod".to_owned(),
                };
                let why = format!(
                    "attempting to set {what} memory limit ({limit}) below current usage ({used})"
                );
                (place, why)
            })
        });
        match too_low {
            None => self.write(steps),
            Some((place, why)) => self.resize_failed(at, place, why),
        }
    }

    pub(super) fn resized(&mut self, at: Moment, done: usize, error: Option<Error>) {
        let mut place = None;
        if let Step::Writing(mut steps) = std::mem::take(&mut self.resizing.step) {
            if let Some(ResizeStep::Container { name, .. }) = steps.get(done) {
                place = Some(name.clone());
            }
            steps.truncate(done);
            for step in steps {
                match step {
                    ResizeStep::Pod(bounds) => self.state.bounds = Some(bounds),
                    ResizeStep::Container { name, resources } => {
                        self.record_of(&name).resources = Some(resources);
                    }
                }
            }
        }
        self.changed = true;
        self.resizing.retry_at = None;
        match error {
            Some(e) => self.resize_failed(at, place, message_of(&e)),
            None => {
                self.state.resize.in_progress = Some(String::new());
                self.state.resize.stuck_at = None;
            }
        }
    }

    /// `place`: the container, or the Pod itself.
    fn resize_failed(&mut self, at: Moment, place: Option<String>, why: String) {
        // Usage is another number each time; the event says it once.
        if self
            .state
            .resize
            .in_progress
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        {
            self.event(
                at,
                true,
                Reason::ResizeError,
                format!("Pod resize error: {why}"),
            );
        }
        self.changed = true;
        self.state.resize.in_progress = Some(why);
        self.state.resize.stuck_at = place;
        let when = at.clock + PAUSE;
        self.resizing.retry_at = Some(when);
        self.timers.insert(Timer::Resize, when);
    }
}
