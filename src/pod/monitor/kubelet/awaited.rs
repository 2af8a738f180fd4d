//! What clients wait for that have asked for the Pod's start.

use super::pause::is_paused;
use super::{Kubelet, Stage};
use crate::pod::client;
use crate::pod::protocol::Wait;
use crate::pod::reason::Reason;
use crate::pod::state::{ContainerState, Now};
use crate::spec::Container;
use crate::{Error, Kind, Result};

impl Kubelet {
    /// What the start waits for. How far a pull has come the engine knows.
    pub(crate) fn waits(&self) -> Vec<Wait> {
        let all = self.pod.spec.all_containers();
        all.filter_map(|c| {
            let container = c.name.clone();
            match self.stage(&c.name) {
                Stage::Pulling(image) => Some(Wait::Pull {
                    image,
                    done: 0,
                    size: 0,
                }),
                Stage::Running if self.is_init(&c.name) && !c.sidecar => {
                    Some(Wait::Init { container })
                }
                Stage::Running => match self.running(&c.name)? {
                    r if r.in_hook => Some(Wait::PostStart { container }),
                    r if !r.started => Some(Wait::StartupProbe { container }),
                    _ => None,
                },
                _ => None,
            }
        })
        .collect()
    }

    /// Whether all containers have been started, or why one is not; `None` while
    /// that is open. `log`: the last lines of a container's log of an attempt.
    pub(crate) fn start_result(&self, log: &dyn Fn(&str, u32) -> String) -> Option<Result<()>> {
        if let Some(why) = &self.state.damaged {
            return Some(Err(Error::failed(why)));
        }
        if self.making_sandbox {
            return None;
        }
        if let Some(f) = &self.state.sandbox_error {
            let e = f.error.clone();
            let e = e.unwrap_or_else(|| Error::failed(&f.message));
            return Some(Err(match e.kind() {
                // No later try mends it.
                Kind::Unsupported => e,
                // One code, whatever of it is missing: docs/exit-codes.md.
                _ => e.with_kind(Kind::StartFailed),
            }));
        }
        if let Some(f) = &self.state.failed {
            return Some(Err(Error::new(
                Kind::StartFailed,
                format!("{}: {}", f.reason, f.message),
            )));
        }
        if self.state.deletion.is_some() {
            return Some(Err(client::being_deleted(&self.pod)));
        }
        let mut all = true;
        for c in self.pod.spec.all_containers() {
            let state = self.state.containers.get(&c.name)?;
            if self.is_replaced(&c.name) {
                all = false;
                continue;
            }
            let course = self.courses.get(&c.name);
            if let Some((reason, e)) = course.and_then(|c| c.start_failure.clone()) {
                let doing = format!("container {}: {reason}", c.name);
                return Some(Err(e.with_kind(Kind::StartFailed).push_context(doing)));
            }
            if self.is_init(&c.name)
                && let Some(e) = self.init_failure(&c.name, state, log)
            {
                return Some(Err(e));
            }
            if let Some(e) = why_not_started(c, state) {
                let errno = course.and_then(|c| c.exec_errno);
                return Some(Err(match errno {
                    Some(errno) => e.with_errno(errno),
                    None => e,
                }));
            }
            all &= match &state.now {
                Now::Running(r) => r.started && (c.sidecar || !self.is_init(&c.name)),
                Now::Ended(_) => true,
                // It has been started, and will be again: no start to wait for.
                Now::Waiting { reason, .. } => *reason == Reason::CrashLoopBackOff,
            };
        }
        match all {
            true => Some(Ok(())),
            // Nobody knows when it goes on.
            false if self.state.paused.is_some() => Some(Err(is_paused(&self.pod))),
            false => None,
        }
    }

    /// How an init container failed that has run, with what it wrote last.
    fn init_failure(
        &self,
        name: &str,
        state: &ContainerState,
        log: &dyn Fn(&str, u32) -> String,
    ) -> Option<Error> {
        let ended = match (&state.now, &state.last) {
            (Now::Ended(e), _) => e,
            (Now::Waiting { reason, .. }, Some(e)) if *reason == Reason::CrashLoopBackOff => e,
            _ => return None,
        };
        if ended.exit_code == 0 || ended.reason == Reason::StartError {
            return None;
        }
        let mut text = format!(
            "init container {name}: ended with exit code {}",
            ended.exit_code
        );
        let log = match ended.message.is_empty() {
            true => log(name, state.attempt),
            false => ended.message.clone(),
        };
        if let Some(line) = log.lines().rfind(|l| !l.trim().is_empty()) {
            text = format!("{text}: {}", line.trim());
        }
        let hint = format!("carob logs {} -c {name}", self.pod.as_arguments());
        Some(Error::new(Kind::StartFailed, text).hint(hint))
    }
}

/// What keeps a container from having been started, where that is known.
fn why_not_started(c: &Container, state: &ContainerState) -> Option<Error> {
    let (kind, reason, message) = match &state.now {
        Now::Waiting { reason, message } => match *reason {
            Reason::ErrImagePull
            | Reason::ImagePullBackOff
            | Reason::InvalidImageName
            | Reason::ErrImageNeverPull => (Kind::Image, reason, message),
            Reason::CreateContainerConfigError | Reason::CreateContainerError => {
                (Kind::StartFailed, reason, message)
            }
            Reason::CrashLoopBackOff => {
                let last = state
                    .last
                    .as_ref()
                    .filter(|l| l.reason == Reason::StartError)?;
                (Kind::StartFailed, &last.reason, &last.message)
            }
            _ => return None,
        },
        Now::Ended(e) if e.reason == Reason::StartError => {
            (Kind::StartFailed, &e.reason, &e.message)
        }
        _ => return None,
    };
    // An image's name that is refused says so itself.
    let message = message
        .strip_prefix(&format!("{reason}: "))
        .unwrap_or(message);
    let error = Error::new(kind, format!("container {}: {reason}: {message}", c.name));
    // What the message says already is not said again.
    Some(match kind {
        Kind::Image if message.contains("carob images") => error,
        Kind::Image if *reason != Reason::InvalidImageName => {
            error.hint("`carob images` lists what is here")
        }
        _ => error,
    })
}
