//! A container's image: found in the store, or pulled by a child of its own,
//! since a pull takes long, needs the host's network and uses threads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::image::{Image, Keyring, Progress, PullOptions, Reference, Store};
use crate::object;
use crate::pod::monitor::helper::Helper;
use crate::pod::monitor::{Fact, Monitor, Source};
use crate::pod::reason::Reason;
use crate::spec::{ObjectKind, PullPolicy, PullSecret};
use crate::{Error, Ignored, Kind, Result};

/// A child that pulls. On the pipe are [`Message`]s, one a line; nothing failed if none of
/// them is an error.
#[derive(Debug)]
pub(in crate::pod::monitor) struct Pull {
    helper: Helper,
    reference: Reference,
    /// The bytes of a message that has not come whole.
    received: Vec<u8>,
    error: Option<Error>,
    /// Bytes that have been unpacked, and all.
    pub progress: (u64, u64),
}

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Progress(u64, u64),
    Failed(Error),
}

/// At least so much time lies between two messages of progress.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);

/// The sum of the progress of an image's layers.
#[derive(Default)]
struct Sum {
    size: u64,
    layers: BTreeMap<String, u64>,
    told: Option<Instant>,
}

impl Sum {
    /// The bytes done and those in all, if it is time to tell them.
    fn add(&mut self, p: &Progress) -> Option<(u64, u64)> {
        match p {
            Progress::Resolved { size, .. } => (self.size, self.told) = (*size, None),
            Progress::Layer { layer, done, .. } => {
                self.layers.insert(layer.clone(), *done);
            }
            _ => return None,
        }
        if self.told.is_some_and(|t| t.elapsed() < PROGRESS_PERIOD) {
            return None;
        }
        self.told = Some(Instant::now());
        let done: u64 = self.layers.values().sum();
        Some((done.min(self.size), self.size))
    }
}

impl Monitor {
    /// The container's image if it is there; `None` if it is being pulled.
    pub(in crate::pod::monitor) fn find_image(&mut self, name: &str) -> Result<Option<Rc<Image>>> {
        let c = self.spec_of(name);
        if let Some(id) = image_id(&c.image) {
            return self.find_by_id(id).map(|image| Some(Rc::new(image)));
        }
        let reference: Reference = c.image.parse()?;
        let known = self.shared.images.get(&c.image).map(Rc::clone);
        let found = match (c.pull_policy, known) {
            (PullPolicy::Always, _) => None,
            (_, Some(known)) => Some(known),
            (_, None) => Store::open(&self.layout)?.lookup(&reference)?.map(Rc::new),
        };
        match (found, c.pull_policy) {
            (Some(image), _) => {
                self.shared.images.insert(c.image, Rc::clone(&image));
                Ok(Some(image))
            }
            (None, PullPolicy::Never) => Err(Error::new(
                Kind::NotFound,
                format!(
                    "Container image {:?} is not present with pull policy of Never",
                    c.image
                ),
            )
            .hint(format!(
                "carob pull {reference} or carob load -i FILE brings it, or set another \
                 imagePullPolicy"
            ))),
            (None, _) => {
                self.tell(Fact::Pulling {
                    container: name.to_owned(),
                });
                self.start_pull(name, reference)?;
                Ok(None)
            }
        }
    }

    /// An ID names one image for good, whatever the pull policy says, and no registry
    /// knows it.
    fn find_by_id(&self, id: &str) -> Result<Image> {
        let found = Store::open(&self.layout)?.lookup_any(id)?;
        found.filter(|i| i.id == id).ok_or_else(|| {
            Error::new(Kind::Image, format!("there is no image with the ID {id}"))
                .hint("an ID cannot be pulled: `carob images -o wide` lists those that are here")
        })
    }

    fn start_pull(&mut self, name: &str, reference: Reference) -> Result<()> {
        let source = Source::Pull(name.to_owned());
        let looked = self.spec_of(name).pull_policy != PullPolicy::Always;
        let wanted = reference.clone();
        let (_, missing) = self.pull_secrets()?;
        if !missing.is_empty() {
            let message = format!(
                "there is no Secret of type kubernetes.io/dockerconfigjson or \
                 kubernetes.io/dockercfg called {} in namespace {}: the pull goes without it",
                missing.join(" or "),
                self.pod().namespace
            );
            self.event(true, Reason::FailedToRetrieveImagePullSecret, message);
        }
        let helper = self.start_helper(source, |monitor, mut pipe| {
            let mut tell = |m: &Message| {
                let line = serde_json::to_string(m).unwrap_or_default() + "\n";
                std::io::Write::write_all(&mut pipe, line.as_bytes())
                    .ignored("a monitor that has ended needs no report");
            };
            let mut sum = Sum::default();
            let mut watch = |p: &Progress| {
                if let Some((done, size)) = sum.add(p) {
                    tell(&Message::Progress(done, size));
                }
            };
            if let Err(e) = monitor.pull(&wanted, &mut watch) {
                tell(&Message::Failed(match looked {
                    true => e.push_context(format!("image {wanted} is not here")),
                    false => e,
                }));
            }
        })?;
        self.live(name).pull = Some(Pull {
            helper,
            reference,
            received: Vec::new(),
            error: None,
            progress: (0, 0),
        });
        self.dirty = true;
        Ok(())
    }

    /// What the Pod's imagePullSecrets have, and the names of those that are not there or
    /// are of no use: that is no fault, the image may need none.
    fn pull_secrets(&self) -> Result<(Vec<Keyring>, Vec<&str>)> {
        let pod = self.pod();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in &pod.spec.image_pull_secrets {
            let secret = object::find(&self.layout, ObjectKind::Secret, &pod.namespace, name)?;
            match secret {
                Some(s) if PullSecret::is_kind(s.manifest["type"].as_str().unwrap_or_default()) => {
                    let secret = PullSecret::new(s.name, s.manifest);
                    found.push(Keyring::from_secret(&secret)?);
                }
                _ => missing.push(name.as_str()),
            }
        }
        Ok((found, missing))
    }

    /// In the child.
    fn pull(&self, reference: &Reference, watch: &mut dyn FnMut(&Progress)) -> Result<()> {
        self.enter_host()?;
        let options = PullOptions {
            secrets: self.pull_secrets()?.0,
            ..PullOptions::default()
        };
        Store::configured(&self.layout, &[])?
            .pull(reference, &options, &mut |p| watch(&p))
            .map(drop)
    }

    /// The pulling child has sent something, or closed its pipe: then it has ended.
    pub(in crate::pod::monitor) fn on_pull(&mut self, name: &str) {
        let Some(pull) = &mut self.live(name).pull else {
            return;
        };
        let received = pull.receive();
        if let Ok(true) = received {
            return self.tell_waiting();
        }
        let Some(pull) = self.live(name).pull.take() else {
            return;
        };
        let source = Source::Pull(name.to_owned());
        match received {
            Ok(_) => self.reap_helper(&pull.helper, &source),
            // It has not closed its pipe, from which nobody reads any more.
            Err(_) => self.kill_helper(&pull.helper, &source),
        }
        let failure = received.err().or(pull.error);
        let result = match failure {
            Some(e) => Err(e),
            None => Store::open(&self.layout)
                .and_then(|s| s.lookup(&pull.reference))
                .and_then(|i| {
                    i.ok_or_else(|| Error::new(Kind::Image, "the pull did not end well"))
                }),
        };
        match result {
            Ok(image) => {
                self.tell(Fact::Pulled {
                    image: pull.reference.to_string(),
                });
                self.start_with(name, &image);
            }
            Err(e) => self.image_missing(name, e),
        }
    }

    pub(in crate::pod::monitor) fn cancel_pull(&mut self, name: &str) {
        if let Some(pull) = self.live(name).pull.take() {
            self.kill_helper(&pull.helper, &Source::Pull(name.to_owned()));
        }
    }
}

/// The whole ID of an image, as `carob images -o wide` and the status of a container have
/// it. As a name it would be the repository sha256 with a tag of 64 hexadecimal digits.
fn image_id(image: &str) -> Option<&str> {
    let hex = image.strip_prefix("sha256:")?;
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (hex.len() == 64 && hex.bytes().all(digit)).then_some(image)
}

impl Pull {
    /// Takes what has come; false at the pipe's end.
    fn receive(&mut self) -> Result<bool> {
        /// An error's text may be long, but not endless.
        const MOST: usize = 1 << 20;
        let mut buffer = [0; 4096];
        let n = nix::unistd::read(self.helper.pipe(), &mut buffer)
            .map_err(|e| Error::sys("read(<pull>)", e))?;
        self.received.extend_from_slice(&buffer[..n]);
        while let Some(end) = self.received.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            match serde_json::from_slice(&line)? {
                Message::Progress(done, size) => self.progress = (done, size),
                Message::Failed(e) => self.error = Some(e),
            }
        }
        if self.received.len() > MOST {
            return Err(Error::failed("the pull's messages have no end"));
        }
        Ok(n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_sum_of_the_layers_and_not_told_too_often() {
        let layer = |name: &str, done| Progress::Layer {
            layer: name.into(),
            done,
            size: 60,
        };
        let mut sum = Sum::default();
        let resolved = Progress::Resolved {
            digest: String::new(),
            layers: 2,
            size: 100,
        };
        assert_eq!(sum.add(&resolved), Some((0, 100)));
        assert_eq!(sum.add(&layer("a", 10)), None);
        sum.told = None;
        assert_eq!(sum.add(&layer("b", 20)), Some((30, 100)));
        sum.told = None;
        assert_eq!(sum.add(&layer("b", 60)), Some((70, 100)));
    }
}
