//! A container's image: found in the store, or pulled by a child of its own,
//! since a pull takes long, needs the host's network and uses threads.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::epoll::EpollFlags;

use super::lifecycle::Stage;
use super::{Monitor, Source};
use crate::image::{Image, Keyring, PullOptions, Reference, Store};
use crate::pod::spec::{Pod, PullPolicy};
use crate::pod::state::Now;
use crate::store;
use crate::sys::process::{self as sys, Fork};
use crate::{Error, Kind, Result};

/// A child that pulls; it ends with an error's JSON on the pipe, or nothing.
#[derive(Debug)]
pub(super) struct Pull {
    pidfd: OwnedFd,
    word: OwnedFd,
    reference: Reference,
}

impl Monitor {
    /// The container's image if it is there; `None` if it is being pulled.
    pub(super) fn find_image(&mut self, name: &str) -> Result<Option<Image>> {
        let c = self.spec_of(name);
        let reference: Reference = c.image.parse()?;
        let found = match c.pull_policy {
            PullPolicy::Always => None,
            _ => Store::open(&self.layout)?.lookup(&reference)?,
        };
        match (found, c.pull_policy) {
            (Some(image), _) => Ok(Some(image)),
            (None, PullPolicy::Never) => Err(Error::new(
                Kind::NotFound,
                format!(
                    "Container image {:?} is not present with pull policy of Never",
                    c.image
                ),
            )
            .hint("`carob load -i FILE` or `carob pull IMAGE`, or another imagePullPolicy")),
            (None, _) => {
                self.event(false, "Pulling", format!("Pulling image {:?}", c.image));
                self.start_pull(name, reference)?;
                Ok(None)
            }
        }
    }

    fn start_pull(&mut self, name: &str, reference: Reference) -> Result<()> {
        let (word, theirs) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2()", e))?;
        match sys::clone3(CloneFlags::empty(), None) {
            Ok(Fork::Parent { pidfd, .. }) => {
                drop(theirs);
                self.watch(&word, EpollFlags::EPOLLIN, Source::Pull(name.to_owned()))?;
                self.live(name).stage = Stage::Pulling(Pull {
                    pidfd,
                    word,
                    reference,
                });
                Ok(())
            }
            Ok(Fork::Child) => {
                drop(word);
                let failure = self.pull(&reference).err();
                let text = failure
                    .and_then(|e| serde_json::to_vec(&e).ok())
                    .unwrap_or_default();
                let _ = std::io::Write::write_all(&mut std::fs::File::from(theirs), &text);
                sys::exit_now(0)
            }
            Err(e) => Err(Error::sys("clone3()", e)),
        }
    }

    /// In the child.
    fn pull(&self, reference: &Reference) -> Result<()> {
        // A Pod that is deleted meanwhile does not wait for its image.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        nix::sched::setns(&self.host.netns, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::sys("setns(<host>, CLONE_NEWNET)", e))?;
        // From the record, not as it was when the monitor began: apply may have
        // brought other Secrets since.
        let pod: Pod = store::load(&self.layout.pod(&self.pod.uid).record())?;
        let secrets = pod.pull_secrets.iter();
        let options = PullOptions {
            secrets: secrets
                .map(|s| Keyring::from_secret(s.document()))
                .collect::<Result<_>>()?,
            ..PullOptions::default()
        };
        Store::configured(&self.layout, &[])?
            .pull(reference, &options, &mut |_| ())
            .map(drop)
    }

    /// The pulling child has closed its pipe: it has ended.
    pub(super) fn on_pull(&mut self, name: &str) {
        if !matches!(self.live(name).stage, Stage::Pulling(_)) {
            return;
        }
        let Stage::Pulling(pull) = std::mem::take(&mut self.live(name).stage) else {
            return;
        };
        self.unwatch(&pull.word, &Source::Pull(name.to_owned()));
        let mut text = Vec::new();
        let read = std::fs::File::from(pull.word)
            .take(1 << 20)
            .read_to_end(&mut text);
        wait_for(&pull.pidfd);
        let result = match (read, text.is_empty()) {
            (Err(e), _) => Err(e.into()),
            (Ok(_), false) => {
                Err(serde_json::from_slice::<Error>(&text).unwrap_or_else(|e| e.into()))
            }
            (Ok(_), true) => Store::open(&self.layout)
                .and_then(|s| s.lookup(&pull.reference))
                .and_then(|i| {
                    i.ok_or_else(|| Error::new(Kind::Image, "the pull did not end well"))
                }),
        };
        match result {
            Ok(image) => {
                self.event(
                    false,
                    "Pulled",
                    format!("Successfully pulled image \"{}\"", pull.reference),
                );
                self.launch_or_report(name, &image);
            }
            Err(e) => self.wait_for_image(name, e),
        }
    }

    pub(super) fn cancel_pull(&mut self, name: &str) {
        if !matches!(self.live(name).stage, Stage::Pulling(_)) {
            return;
        }
        if let Stage::Pulling(pull) = std::mem::take(&mut self.live(name).stage) {
            self.unwatch(&pull.word, &Source::Pull(name.to_owned()));
            let _ = sys::pidfd_send_signal(pull.pidfd.as_fd(), libc::SIGKILL);
            wait_for(&pull.pidfd);
        }
    }

    /// ErrImagePull, then ImagePullBackOff, as a kubelet has it.
    pub(super) fn wait_for_image(&mut self, name: &str, e: Error) {
        let image = self.spec_of(name).image;
        let waited = matches!(
            self.state.containers.get(name).map(|s| &s.now),
            Some(Now::Waiting { reason, .. }) if reason == "ErrImagePull" || reason == "ImagePullBackOff"
        );
        let reason = match e.kind() {
            Kind::Invalid => "InvalidImageName",
            Kind::NotFound => "ErrImageNeverPull",
            _ if waited => "ImagePullBackOff",
            _ => "ErrImagePull",
        };
        self.event(
            true,
            "Failed",
            format!("Failed to pull image {image:?}: {e}"),
        );
        self.wait_again(name, reason, e);
    }
}

/// A child that has closed its pipe is about to end.
pub(super) fn wait_for(pidfd: &OwnedFd) {
    let mut fds = [nix::poll::PollFd::new(
        pidfd.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    let _ = nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE);
    let _ = sys::wait_pidfd(pidfd.as_fd());
}
