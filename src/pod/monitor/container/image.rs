//! A container's image, and those that are volumes of it: found in the store, or pulled by
//! a child of its own, since a pull takes long, needs the host's network and uses threads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::image::{Image, Keyring, Progress, PullOptions, Reference, Store};
use crate::object;
use crate::pod::monitor::helper::Helper;
use crate::pod::monitor::{Fact, Monitor, Source};
use crate::pod::reason::Reason;
use crate::spec::{Object, ObjectKind, PullPolicy, PullSecret, VolumeSource};
use crate::{Error, Ignored, Kind, Result};

/// A child that pulls. On the pipe are [`Message`]s, one a line; nothing failed if none of
/// them is an error.
#[derive(Debug)]
pub(in crate::pod::monitor) struct Pull {
    helper: Helper,
    /// It is that of this volume.
    volume: Option<String>,
    /// As the spec names it.
    pub image: String,
    reference: Reference,
    /// The bytes of a message that has not come whole.
    received: Vec<u8>,
    error: Option<Error>,
    /// Bytes that have been unpacked, and all.
    pub progress: (u64, u64),
}

/// What an attempt is made of.
#[derive(Debug, Default)]
pub(in crate::pod::monitor) struct Images {
    pub own: Option<Rc<Image>>,
    /// By the volumes' names.
    pub volumes: BTreeMap<String, Rc<Image>>,
}

impl Images {
    pub(super) fn has(&self, volume: Option<&str>) -> bool {
        match volume {
            None => self.own.is_some(),
            Some(volume) => self.volumes.contains_key(volume),
        }
    }

    pub(super) fn add(&mut self, volume: Option<String>, image: Rc<Image>) {
        match volume {
            None => self.own = Some(image),
            Some(volume) => drop(self.volumes.insert(volume, image)),
        }
    }
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

fn is_pull_secret(secret: &Object) -> bool {
    PullSecret::is_kind(secret.manifest["type"].as_str().unwrap_or_default())
}

impl Monitor {
    /// What the container needs an image for: itself, and each volume that is one.
    pub(super) fn images_of(&self, name: &str) -> Vec<Option<String>> {
        let mut all = vec![None];
        for m in self.spec_of(name).mounts {
            let source = self.pod().spec.volume(&m.volume).map(|v| &v.source);
            if matches!(source, Some(VolumeSource::Image { .. })) {
                all.push(Some(m.volume));
            }
        }
        all
    }

    /// Its name, and when it is pulled.
    fn wanted_image(&self, name: &str, volume: Option<&str>) -> (String, PullPolicy) {
        let source = volume
            .and_then(|v| self.pod().spec.volume(v))
            .map(|v| &v.source);
        match source {
            Some(VolumeSource::Image { reference, policy }) => (reference.clone(), *policy),
            _ => {
                let c = self.spec_of(name);
                (c.image, c.pull_policy)
            }
        }
    }

    /// The container's image, or its volume's, if it is there; `None` if it is being pulled.
    pub(super) fn find_image(
        &mut self,
        name: &str,
        volume: Option<&str>,
    ) -> Result<Option<Rc<Image>>> {
        let (image, policy) = self.wanted_image(name, volume);
        if let Some(id) = image_id(&image) {
            return self.find_by_id(id).map(|image| Some(Rc::new(image)));
        }
        let reference: Reference = image.parse()?;
        let known = self.shared.images.get(&image).map(Rc::clone);
        let found = match (policy, known) {
            (PullPolicy::Always, _) => None,
            (_, Some(known)) => Some(known),
            (_, None) => Store::open(&self.layout)?.lookup(&reference)?.map(Rc::new),
        };
        match (found, policy) {
            (Some(found), _) => {
                self.shared.images.insert(image, Rc::clone(&found));
                Ok(Some(found))
            }
            (None, PullPolicy::Never) => {
                let (what, field) = match volume {
                    None => ("Container image", "imagePullPolicy"),
                    Some(_) => ("Image", "pullPolicy"),
                };
                let text = format!("{what} {image:?} is not present with pull policy of Never");
                Err(Error::new(Kind::NotFound, text).hint(format!(
                    "carob pull {reference} or carob load -i FILE brings it, or set another \
                     {field}"
                )))
            }
            (None, _) => {
                self.tell(Fact::Pulling {
                    container: name.to_owned(),
                    volume: volume.map(ToOwned::to_owned),
                });
                self.start_pull(name, volume, (image, reference), policy)?;
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

    fn start_pull(
        &mut self,
        name: &str,
        volume: Option<&str>,
        (image, reference): (String, Reference),
        policy: PullPolicy,
    ) -> Result<()> {
        let source = Source::Pull(name.to_owned());
        let looked = policy != PullPolicy::Always;
        let wanted = reference.clone();
        let missing = self.missing_pull_secrets()?;
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
            volume: volume.map(ToOwned::to_owned),
            image,
            reference,
            received: Vec::new(),
            error: None,
            progress: (0, 0),
        });
        self.dirty = true;
        Ok(())
    }

    /// What the Pod's imagePullSecrets have.
    fn pull_secrets(&self) -> Result<Vec<Keyring>> {
        let mut found = Vec::new();
        for name in &self.pod().spec.image_pull_secrets {
            match self.find_object(ObjectKind::Secret, name)? {
                Some(s) if is_pull_secret(&s) => {
                    let secret = PullSecret::new(s.name, s.manifest);
                    found.push(Keyring::from_secret(&secret)?);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Those that are not there or are of no use: that is no fault, the image may need none.
    fn missing_pull_secrets(&self) -> Result<Vec<&str>> {
        let pod = self.pod();
        let mut missing = Vec::new();
        for name in &pod.spec.image_pull_secrets {
            let secret = object::outline(&self.layout, ObjectKind::Secret, &pod.namespace, name)?;
            if !secret.is_some_and(|s| is_pull_secret(&s)) {
                missing.push(name.as_str());
            }
        }
        Ok(missing)
    }

    /// In the child.
    fn pull(&self, reference: &Reference, watch: &mut dyn FnMut(&Progress)) -> Result<()> {
        self.enter_host()?;
        let options = PullOptions {
            secrets: self.pull_secrets()?,
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
                let found = Rc::new(image);
                self.live(name).images.add(pull.volume, found);
                self.start_with_images(name);
            }
            Err(e) => self.image_missing(name, pull.volume, e),
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
