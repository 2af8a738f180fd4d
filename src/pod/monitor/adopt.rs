//! Taking over from a monitor that died.
//!
//! The record names what was running; the kernel says what still is. A pid is the
//! recorded process only if it started when that one did. Output that waits in
//! the FIFOs is logged; what was half made is removed and made anew.

use nix::unistd::Pid;

use super::container::child::{Child, zombie_status};
use super::container::output::Output;
use super::{Fact, Monitor, Source, sandbox};
use crate::linux::cgroup::{Cgroup, Select};
use crate::linux::procfs;
use crate::oci::config::Config;
use crate::oci::plan::plan_container;
use crate::pod::logs::Stream;
use crate::pod::reason::Reason;
use crate::pod::state::Running;
use crate::spec::ObjectKind;
use crate::sys::process as sys;
use crate::{Error, Result};

impl Monitor {
    pub(super) fn adopt(&mut self) -> Result<()> {
        if let Err(error) = sandbox::enter(&self.layout, self.kubelet.pod()) {
            self.lose_sandbox(error);
            return Ok(());
        }
        // They may have gone while there was no monitor.
        self.on_rules_changed();
        for name in self.container_names() {
            match self.running(&name).cloned() {
                Some(running) => {
                    if let Err(e) = self.adopt_container(&name, &running) {
                        self.event(true, Reason::FailedAdopt, format!("container {name}: {e}"));
                    }
                }
                None => self.remove_half_made(&name),
            }
        }
        self.tell(Fact::Adopted);
        // What has changed meanwhile, or was half written.
        self.update_volumes();
        Ok(())
    }

    fn lose_sandbox(&mut self, error: Error) {
        for name in self.container_names() {
            self.remove_half_made(&name);
            if self.running(&name).is_some() {
                self.process_ended(&name, None);
            }
        }
        self.tell(Fact::SandboxLost { error });
    }

    fn adopt_container(&mut self, name: &str, running: &Running) -> Result<()> {
        let c = self.spec_of(name);
        let attempt = self.attempt(name);
        let dir = self.paths.bundle(name, attempt);
        let path = self.container_cgroup(name);
        let cgroup = Cgroup::open(&self.host.hierarchies, &path, Select::Pod)?;
        let oom = match (&cgroup, c.resources.memory_limit) {
            (Some(cgroup), Some(_)) => cgroup.oom_events()?,
            _ => None,
        };
        if let Some(events) = &oom {
            self.watch_oom(name, events)?;
        }
        let mut log = self.open_log(name, attempt)?;
        // A terminal died with the monitor that held its master.
        let streams = if c.tty { &[][..] } else { &Stream::BOTH };
        let mut outputs = Vec::new();
        for stream in streams {
            let mut output = Output::from_fifo(*stream, &dir.join(stream.name()))?;
            output.recover(&self.glass, &mut log)?;
            self.watch_output(name, &output, *stream)?;
            outputs.push(output);
        }
        let live = self.live(name);
        live.cgroup = cgroup;
        live.oom = oom;
        live.log = Some(log);
        live.outputs = outputs;
        // What exec needs.
        let spec: Config = crate::store::load(&dir.join("config.json"))?;
        let mut plan = plan_container(&spec)?;
        if c.objects().any(|o| o.kind == ObjectKind::Secret) {
            match self.secret_env(&c) {
                Ok(env) => plan.process.env.extend(env),
                Err(e) => {
                    let text = format!("container {name}: variables of Secrets are missing: {e}");
                    self.event(true, Reason::FailedAdopt, text);
                }
            }
        }
        self.live(name).process = Some(std::rc::Rc::new(plan.process));

        let pid = Pid::from_raw(running.pid);
        let alive = sys::pidfd_open(pid)
            .ok()
            // Asked after the pidfd is there: it is this process or none.
            .filter(|_| procfs::lives(running.pid, running.pid_start));
        match alive {
            Some(pidfd) => {
                let child = Child::adopted(
                    pidfd,
                    (running.pid, running.pid_start),
                    &mut self.events,
                    Source::Container(name.to_owned()),
                )?;
                self.live(name).child = Some(child);
                self.tell(Fact::Survived {
                    container: name.to_owned(),
                });
                self.pump(name, false);
            }
            // Nobody has reaped it: then it still tells.
            None => {
                let status = zombie_status(running.pid, running.pid_start);
                self.process_ended(name, status);
            }
        }
        Ok(())
    }

    /// An attempt that was being started when the monitor died.
    fn remove_half_made(&mut self, name: &str) {
        let path = self.container_cgroup(name);
        if let Ok(Some(cgroup)) = Cgroup::open(&self.host.hierarchies, &path, Select::Pod) {
            self.live(name).cgroup = Some(cgroup);
            self.release_container(name);
        }
    }
}
