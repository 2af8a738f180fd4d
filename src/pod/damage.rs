//! What is still known of a Pod whose record cannot be read: its UID is its
//! directory's name, its name is in the index, and all that is to be removed follows
//! from the UID. Such a Pod is shown as Unknown, nothing is started or stopped for it,
//! and it can be deleted. It never stands in the way of other Pods.

use jiff::Timestamp;
use nix::errno::Errno;

use super::state::{Ended, Now, State};
use crate::linux::procfs;
use crate::pod::reason::Reason;
use crate::spec::{Pod, Spec};
use crate::store::{self, Layout, Versioned};
use crate::{Error, Kind, Result};

impl Versioned for Pod {
    const VERSION: u32 = Pod::VERSION;
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for State {
    const VERSION: u32 = State::VERSION;
    fn version(&self) -> u32 {
        self.version
    }
}

/// The Pod's record; if it cannot be read, a Pod without containers in its place, and
/// why.
///
/// # Errors
/// [`Kind::NotFound`]: there is no such Pod.
pub(crate) fn load_pod(layout: &Layout, uid: &str) -> Result<(Pod, Option<Error>)> {
    let paths = layout.pod(uid);
    let gone = || {
        Error::from(Errno::ENOENT)
            .with_kind(Kind::NotFound)
            .push_context(format!("open({})", paths.record().display()))
    };
    match store::load_versioned(&paths.record()) {
        Ok(Some(pod)) => Ok((pod, None)),
        Ok(None) if !paths.dir.exists() => Err(gone()),
        Ok(None) => Ok((stand_in(layout, uid), Some(gone()))),
        Err(e) => Ok((stand_in(layout, uid), Some(e))),
    }
}

/// What the monitor has seen; `None` if it has not written yet.
///
/// # Errors
/// The record is there and cannot be read.
pub(crate) fn load_state(layout: &Layout, uid: &str) -> Result<Option<State>> {
    store::load_versioned(&layout.pod(uid).state())
}

/// A record, in which containers whose process has gone no longer run: what their next
/// monitor will say.
pub(crate) fn without_the_dead(mut state: State) -> State {
    for container in state.containers.values_mut() {
        let Now::Running(running) = &container.now else {
            continue;
        };
        if procfs::lives(running.pid, running.pid_start) {
            continue;
        }
        container.now = Now::Ended(Ended {
            id: running.id.clone(),
            exit_code: 137,
            signal: None,
            reason: Reason::ContainerStatusUnknown,
            message: ENDED_UNSEEN.into(),
            started: Some(running.since),
            finished: Timestamp::now(),
        });
    }
    state
}

/// Of a container whose end no monitor has seen.
pub(crate) const ENDED_UNSEEN: &str = "The container ended while no monitor was there to see how";

/// What is shown of a Pod with a record that cannot be read.
pub(crate) fn state(why: &Error) -> State {
    State {
        version: State::VERSION,
        damaged: Some(why.to_string()),
        ..State::default()
    }
}

fn stand_in(layout: &Layout, uid: &str) -> Pod {
    let name = name_of(layout, uid).or_else(|| name_of_logs(layout, uid));
    let (namespace, name) = name.unwrap_or_else(|| ("".into(), uid.into()));
    let made = std::fs::metadata(layout.pod(uid).dir).and_then(|m| m.modified());
    let created = made.ok().and_then(|t| t.try_into().ok());
    Pod {
        version: Pod::VERSION,
        uid: uid.to_owned(),
        namespace,
        name,
        labels: Default::default(),
        annotations: Default::default(),
        created: created.unwrap_or_default(),
        spec: Spec::default(),
        applied: None,
        manifest: serde_json::json!({"spec": {"containers": []}}),
    }
}

/// Which name leads to a UID.
fn name_of(layout: &Layout, uid: &str) -> Option<(String, String)> {
    for namespace in std::fs::read_dir(layout.names()).ok()?.flatten() {
        for name in std::fs::read_dir(namespace.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            if std::fs::read_link(name.path()).is_ok_and(|t| t.as_os_str() == uid) {
                let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
                return Some((text(namespace.file_name()), text(name.file_name())));
            }
        }
    }
    None
}

/// From the directory of its logs, where the name has been given away.
fn name_of_logs(layout: &Layout, uid: &str) -> Option<(String, String)> {
    let found = std::fs::read_dir(&layout.logs)
        .ok()?
        .flatten()
        .find_map(|e| {
            let name = e.file_name().into_string().ok()?;
            Some(name.strip_suffix(uid)?.strip_suffix('_')?.to_owned())
        })?;
    let (namespace, name) = found.split_once('_')?;
    Some((namespace.to_owned(), name.to_owned()))
}
