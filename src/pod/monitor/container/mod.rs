//! One container: [`launch`] starts it, [`child`] is its first process or one beside it
//! ([`exec`]: of clients and hooks), [`image`] pulls, [`output`] and [`log`] move on what it
//! writes, [`oom`] sees to its memory limit. This file: what the monitor holds of a
//! container, and what it does at the container's end.

pub(super) mod child;
pub(super) mod exec;
mod image;
pub(super) mod launch;
mod log;
mod oom;
pub(super) mod output;

use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::container::plan;
use crate::linux::cgroup::{Cgroup, OomEvents};
use crate::pod::logs::write::{self, LogFile};
use crate::pod::monitor::kubelet::{Fact, truncate};
use crate::pod::monitor::{Monitor, Source, sandbox};
use crate::pod::reason::Reason;
use crate::{Error, Ignored};
use child::{Child, Progress};
use image::{Images, Pull};
use output::Output;

/// What the monitor holds of a container beside its record.
#[derive(Debug, Default)]
pub(in crate::pod::monitor) struct Live {
    /// Its image is being pulled, or that of a volume.
    pub pull: Option<Pull>,
    /// What has been found of them for the attempt under way.
    pub images: Images,
    /// Its first process.
    pub child: Option<Child>,
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
}

impl Live {
    /// Nothing of it runs or is on the way.
    pub(in crate::pod::monitor) fn is_idle(&self) -> bool {
        self.pull.is_none() && self.child.is_none()
    }

    pub(in crate::pod::monitor) fn runs(&self) -> bool {
        self.child.as_ref().is_some_and(Child::runs)
    }
}

impl Monitor {
    /// Starts a container's next attempt, as far as its image.
    pub(in crate::pod::monitor) fn start(&mut self, name: &str) {
        self.live(name).images = Images::default();
        self.start_with_images(name);
    }

    /// Starts the attempt, once all images are there that it needs.
    fn start_with_images(&mut self, name: &str) {
        for volume in self.images_of(name) {
            if self.live(name).images.has(volume.as_deref()) {
                continue;
            }
            match self.find_image(name, volume.as_deref()) {
                Ok(Some(image)) => self.live(name).images.add(volume, image),
                // A pull is under way.
                Ok(None) => return,
                Err(e) => return self.image_missing(name, volume, e),
            }
        }
        let images = std::mem::take(&mut self.live(name).images);
        let Some(image) = images.own else { return };
        let ids = images.volumes.iter();
        self.tell(Fact::Image {
            container: name.to_owned(),
            id: image.id.clone(),
            name: image.names.first().cloned(),
            volumes: ids.map(|(v, i)| (v.clone(), i.id.clone())).collect(),
        });
        if let Err(e) = self.launch(name, &image, &images.volumes) {
            self.not_started(name, e);
        }
    }

    fn image_missing(&mut self, name: &str, volume: Option<String>, e: Error) {
        let error = self.with_root(e);
        self.tell(Fact::ImageMissing {
            container: name.to_owned(),
            volume,
            error,
        });
    }

    fn not_started(&mut self, name: &str, e: Error) {
        let error = self.with_root(e);
        self.tell(Fact::NotStarted {
            container: name.to_owned(),
            error,
        });
    }

    /// The container's first process, or the child that is to become it, has something to
    /// say.
    pub(in crate::pod::monitor) fn follow_container(&mut self, name: &str) {
        let source = Source::Container(name.to_owned());
        let Some(child) = self.live(name).child.take() else {
            return;
        };
        let pid = child.pid();
        let (child, progress) = child.follow(&mut self.events, &source);
        self.live(name).child = child;
        match progress {
            Progress::Nothing => {}
            Progress::Runs(terminal) => self.now_runs(name, pid, terminal),
            Progress::Failed(e) => {
                self.release_container(name);
                self.not_started(name, e);
            }
            Progress::Ended(status) => self.process_ended(name, status),
        }
    }

    pub(in crate::pod::monitor) fn process_ended(&mut self, name: &str, status: Option<i32>) {
        self.pump(name, true);
        let oom_killed = self.oom_killed(name);
        self.release_container(name);
        let message = match status {
            None => String::new(),
            Some(status) => self.termination_message(name, status),
        };
        self.tell(Fact::Ended {
            container: name.to_owned(),
            status,
            oom_killed,
            message,
        });
        self.end_execs_of(name);
        self.end_handlers_of(name);
    }

    /// Asks a container to end: by this signal, else by its image's, else by TERM.
    pub(in crate::pod::monitor) fn send_stop_signal(&mut self, name: &str, signal: Option<i32>) {
        let live = self.live(name);
        let signal = signal.or(live.stop_signal).unwrap_or(libc::SIGTERM);
        if let Some(child) = live.child.as_ref().filter(|c| c.runs()) {
            child.send(signal);
        }
    }

    pub(in crate::pod::monitor) fn kill(&mut self, name: &str) {
        let live = self.live(name);
        if let Some(child) = live.child.as_ref().filter(|c| c.runs()) {
            child.send(libc::SIGKILL);
        }
        if let Some(cgroup) = &live.cgroup {
            cgroup
                .kill()
                .ignored("what stays is killed again when the cgroup is removed");
        }
    }

    pub(in crate::pod::monitor) fn kill_starting(&mut self, name: &str) {
        if let Some(child) = self.live(name).child.as_ref().filter(|c| !c.runs()) {
            child.send(libc::SIGKILL);
        }
    }

    /// Kills and removes what is left of an attempt, its writable layer excepted.
    pub(in crate::pod::monitor) fn release_container(&mut self, name: &str) {
        for output in std::mem::take(&mut self.live(name).outputs) {
            self.events
                .unwatch(&output, &Source::Output(name.to_owned(), output.stream()));
        }
        if let Some(fd) = self.live(name).oom.take() {
            self.events.unwatch(&fd, &Source::Oom(name.to_owned()));
        }
        let live = self.live(name);
        live.log = None;
        live.terminal = None;
        live.stdin = None;
        if let Some(cgroup) = live.cgroup.take() {
            let result = cgroup.kill().and_then(|()| cgroup.remove());
            if let Err(e) = result {
                self.event(
                    true,
                    Reason::FailedKillPod,
                    format!("container {name}: {e}"),
                );
            }
        }
    }

    fn termination_message(&mut self, name: &str, status: i32) -> String {
        // As a kubelet's limits: 4 KiB each, 12 KiB for a Pod, whose state has to
        // fit into one message to its watchers.
        let limit = (12 * 1024 / self.live.len().max(1)).min(4096);
        let c = self.spec_of(name);
        let attempt = self.attempt(name);
        let mut text = std::fs::File::open(self.paths.termination_log(name))
            .and_then(|f| {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut std::io::Read::take(f, limit as u64), &mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            })
            .unwrap_or_default();
        // What is no UTF-8 has grown.
        truncate(&mut text, limit);
        if !text.is_empty() || status == 0 || !c.termination_message_from_logs {
            return text;
        }
        write::tail(&self.log_dir(name), attempt, 80, limit.min(2048))
    }

    pub(in crate::pod::monitor) fn container_cgroup(&self, name: &str) -> String {
        format!(
            "{}/{name}",
            sandbox::cgroup_path(&self.layout, &self.pod().uid)
        )
    }

    /// Files of attempts that nobody can ask for any more.
    pub(in crate::pod::monitor) fn forget_attempts_before(&self, name: &str, keep_from: u32) {
        write::remove_old(&self.log_dir(name), keep_from);
        for base in [
            self.paths.bundle(name, 0),
            self.paths.writable_layer(name, 0),
        ] {
            let Some(dir) = base.parent() else { continue };
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let number = entry.file_name().to_string_lossy().parse::<u32>();
                if number.is_ok_and(|n| n < keep_from) {
                    std::fs::remove_dir_all(entry.path())
                        .ignored("the next attempt finds it again");
                }
            }
        }
    }
}
