//! Writes other limits into the cgroups of containers that run, and of their Pod. In which
//! order, and whether at all, the kubelet decides.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::kubelet::ResizeStep;
use super::{Fact, Monitor};
use crate::linux::cgroup::{Cgroup, Controllers};
use crate::pod::limits;
use crate::spec::{Container, Resources};
use crate::{Context, Error, Ignored, Result, store};

impl Monitor {
    /// What cannot be read is left out: then the kernel judges alone.
    pub(super) fn measure_memory(&mut self, containers: &[String]) {
        let used = |cgroup: &Cgroup| cgroup.stat().ok().and_then(|s| s.memory_current);
        let mut all = BTreeMap::new();
        for name in containers {
            if let Some(used) = self.live(name).cgroup.as_ref().and_then(used) {
                all.insert(name.clone(), used);
            }
        }
        let pod = self.pod_cgroup().ok().as_ref().and_then(used);
        self.tell(Fact::MemoryUsed {
            containers: all,
            pod,
        });
    }

    pub(super) fn resize(&mut self, steps: &[ResizeStep]) {
        let mut done = 0;
        let mut error = None;
        for step in steps {
            if let Err(e) = self.resize_one(step) {
                error = Some(self.with_root(e));
                break;
            }
            done += 1;
        }
        self.tell(Fact::Resized { steps: done, error });
        self.update_volumes();
    }

    fn resize_one(&mut self, step: &ResizeStep) -> Result<()> {
        let (name, resources) = match step {
            ResizeStep::Pod(bounds) => {
                let cgroup = self.pod_cgroup()?;
                let limits = limits::plan_bounds(*bounds);
                return cgroup.apply(&limits).context("the Pod's cgroup");
            }
            ResizeStep::Container { name, resources } => (name, *resources),
        };
        let cgroup = self.live(name).cgroup.clone();
        let cgroup = cgroup.ok_or_else(|| Error::failed("it has no cgroup"));
        let doing = || format!("container {name}");
        let cgroup = cgroup.with_context(doing)?;
        cgroup
            .apply(&limits::plan_resize(resources))
            .with_context(doing)?;
        if resources.memory_limit.is_some() && self.live(name).oom.is_none() {
            let events = cgroup.oom_events().with_context(doing)?;
            if let Some(events) = &events {
                self.watch_oom(name, events)?;
            }
            self.live(name).oom = events;
        }
        let bundle = self.paths.bundle(name, self.attempt(name));
        self.rewrite_bundle(&self.spec_of(name), resources, &bundle.join("config.json"))
            .ignored("the cgroup has the limits; the bundle is read for other things");
        Ok(())
    }

    /// The bundle says what the container is, after a resize too.
    fn rewrite_bundle(&self, c: &Container, resources: Resources, path: &Path) -> Result<()> {
        let c = Container {
            resources,
            ..c.clone()
        };
        let memory_is_v2 = self.host.hierarchies.v1_with(Controllers::MEMORY).is_none();
        let mut config: Value = store::load(path)?;
        let of_pod = self.pod().spec.hugepages();
        config["linux"]["resources"] =
            serde_json::to_value(limits::plan_resources(&c, of_pod, memory_is_v2))?;
        store::save_json(path, &config.to_string())
    }
}
