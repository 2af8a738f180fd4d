//! Adds an ephemeral container to a Pod that is there, and waits until it runs.

use serde_json::{Value, json};

use crate::image::{Reference, Store};
use crate::pod::client::{self, View};
use crate::pod::monitor::kubelet::pause::is_paused;
use crate::pod::reason::Reason;
use crate::pod::state::{Now, State};
use crate::pod::update;
use crate::pod::verbs::change::Make;
use crate::pod::watch::{Change, Watcher};
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// What the container may do: kubectl's `--profile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    /// CAP_SYS_PTRACE, so that it sees into what it looks at.
    #[default]
    General,
    /// Nothing beside what a container has.
    Baseline,
    /// What the Pod security standard Restricted allows.
    Restricted,
    /// CAP_NET_ADMIN and CAP_NET_RAW.
    Netadmin,
    /// Privileged.
    Sysadmin,
}

impl Profile {
    pub(crate) const NAMES: [&str; 5] =
        ["general", "baseline", "restricted", "netadmin", "sysadmin"];

    pub(crate) fn of(name: &str) -> Option<Self> {
        use Profile::*;
        let all = [General, Baseline, Restricted, Netadmin, Sysadmin];
        let place = Self::NAMES.iter().position(|n| *n == name)?;
        all.get(place).copied()
    }

    fn security(self) -> Value {
        match self {
            Profile::General => json!({"capabilities": {"add": ["SYS_PTRACE"]}}),
            Profile::Baseline => Value::Null,
            Profile::Restricted => json!({
                "runAsNonRoot": true,
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }),
            Profile::Netadmin => json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}),
            Profile::Sysadmin => json!({"privileged": true}),
        }
    }
}

/// What most people debug with. Its tag is `latest`, which a registry would be asked for each
/// time: one that is here already is enough.
pub(crate) const DEFAULT_IMAGE: (&str, &str) = ("busybox", "IfNotPresent");

/// The image where none is named: [`DEFAULT_IMAGE`]; or if that is not here, and another
/// repository's image is that is called busybox too, this one, without asking a registry.
pub(crate) fn default_image(layout: &Layout) -> Result<String> {
    let store = Store::open(layout)?;
    let default: Reference = DEFAULT_IMAGE.0.parse()?;
    if store.lookup(&default)?.is_some() {
        return Ok(DEFAULT_IMAGE.0.to_owned());
    }
    let images = store.list()?;
    let names = images.iter().flat_map(|image| &image.names);
    let called_so = names
        .filter_map(|name| name.parse::<Reference>().ok())
        .filter(|r| {
            let last = r.repository().rsplit('/').next();
            last == Some(DEFAULT_IMAGE.0) && r.tag().is_some()
        });
    let first = called_so.map(|r| r.familiar()).min();
    Ok(first.unwrap_or_else(|| DEFAULT_IMAGE.0.to_owned()))
}

/// What is to be added.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub name: &'a str,
    pub image: Option<&'a str>,
    /// [`default_image`], where none is named.
    pub default_image: &'a str,
    pub pull_policy: Option<&'a str>,
    /// The container whose processes it sees.
    pub target: Option<&'a str>,
    pub profile: Profile,
    pub command: &'a [String],
    /// The command replaces the image's arguments alone.
    pub arguments_only: bool,
    pub env: &'a [(&'a str, &'a str)],
    pub stdin: bool,
    pub tty: bool,
}

impl Wanted<'_> {
    /// A v1 EphemeralContainer.
    pub(crate) fn container(&self) -> Value {
        let (image, pull_policy) = match self.image {
            Some(image) => (image, None),
            None => (self.default_image, Some(DEFAULT_IMAGE.1)),
        };
        let mut c = json!({"name": self.name, "image": image});
        let mut set = |key: &str, value: Value| c[key] = value;
        if let Some(policy) = self.pull_policy.or(pull_policy) {
            set("imagePullPolicy", policy.into());
        }
        if let Some(target) = self.target {
            set("targetContainerName", target.into());
        }
        let security = self.profile.security();
        if !security.is_null() {
            set("securityContext", security);
        }
        if !self.command.is_empty() {
            let key = if self.arguments_only {
                "args"
            } else {
                "command"
            };
            set(key, json!(self.command));
        }
        if !self.env.is_empty() {
            let env = self.env.iter();
            let env: Vec<_> = env
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            set("env", env.into());
        }
        if self.stdin {
            set("stdin", true.into());
        }
        if self.tty {
            set("tty", true.into());
        }
        c
    }
}

/// Adds the container of this name, by making another record with it of the Pod's. The Pod's
/// monitor starts it as soon as there is a sandbox.
///
/// # Errors
/// [`Kind::Conflict`]: the Pod is being deleted, or over; the name is another container's.
pub(crate) fn add(layout: &Layout, view: &View, name: &str, make: Make) -> Result<Pod> {
    let pod = &view.pod;
    if view.state.as_ref().is_some_and(|s| s.deletion.is_some()) {
        return Err(client::being_deleted(pod));
    }
    goes_on(view)?;
    client::change(layout, &pod.uid, |live| {
        if live.spec.container(name).is_some() {
            return Err(Error::conflict(format!(
                "container {:?} is there already in pod {:?}",
                name, live.name
            )));
        }
        let new = make(live)?;
        update::become_like(live, &new);
        Ok(true)
    })
}

/// # Errors
/// [`Kind::Conflict`]: no container of the Pod is started, or not until it is resumed.
fn goes_on(view: &View) -> Result<()> {
    let pod = &view.pod;
    if view.status().phase.is_terminal() {
        let e = Error::conflict(format!("pod {} has ended", pod.name));
        return Err(e.hint("delete it and apply its manifest again"));
    }
    match view.state.as_ref().is_some_and(|s| s.paused.is_some()) {
        true => Err(is_paused(pod)),
        false => Ok(()),
    }
}

/// Waits until the container has started.
///
/// # Errors
/// Why it does not start. It stays, and is tried again by the Pod's monitor.
pub(crate) fn await_start(layout: &Layout, pod: &Pod, name: &str) -> Result<()> {
    let mut watcher = Watcher::new(layout, Some(&pod.namespace))?;
    let mut changes = watcher.refresh()?;
    loop {
        for change in changes {
            match change {
                Change::Gone(view) if view.pod.uid == pod.uid => {
                    let e = client::absent(layout, &pod.namespace, &pod.name);
                    return Err(e);
                }
                Change::Seen(view) if view.pod.uid == pod.uid => {
                    let state = view.state.as_ref();
                    if let Some(result) = state.and_then(|s| how_it_stands(s, name)) {
                        return result;
                    }
                    goes_on(&view)?;
                }
                _ => {}
            }
        }
        changes = watcher.wait(None)?;
    }
}

/// `None`: it is on its way.
fn how_it_stands(state: &State, name: &str) -> Option<Result<()>> {
    let (kind, reason, message) = match &state.containers.get(name)?.now {
        Now::Running(_) => return Some(Ok(())),
        Now::Ended(e) if e.reason == Reason::StartError => {
            (Kind::StartFailed, e.reason, &e.message)
        }
        Now::Ended(_) => return Some(Ok(())),
        Now::Waiting { reason, message } => match reason {
            Reason::ErrImagePull
            | Reason::ImagePullBackOff
            | Reason::InvalidImageName
            | Reason::ErrImageNeverPull => (Kind::Image, *reason, message),
            Reason::CreateContainerConfigError | Reason::CreateContainerError => {
                (Kind::StartFailed, *reason, message)
            }
            _ => return None,
        },
    };
    let e = Error::new(kind, format!("container {name}: {reason}: {message}"));
    Some(Err(match kind {
        Kind::Image => e.hint(
            "name another image with --image: `carob images` lists those that are here. This \
             container stays in the Pod, and its image is tried again",
        ),
        _ => e,
    }))
}
