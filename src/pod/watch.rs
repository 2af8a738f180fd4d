//! Waits for changes of Pods: one connection to each Pod's monitor, and
//! inotify(7) on the directories of names and of Pods for those that come and go.
//! Sleeps in poll(2); nothing is asked on a clock.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::client::{self, Connection, View};
use super::protocol::{Reply, Request};
use crate::store::{Layout, make_dir};
use crate::{Context, Error, Kind, Result};

pub(crate) enum Change {
    /// New, or another state.
    Seen(View),
    /// Its name is free, or another Pod's.
    Gone(View),
}

pub(crate) struct Watcher<'l> {
    layout: &'l Layout,
    namespace: Option<String>,
    inotify: Inotify,
    /// By UID.
    pods: BTreeMap<String, Entry>,
}

struct Entry {
    view: View,
    /// `None` after its monitor has closed it.
    connection: Option<Connection>,
}

const NAME_EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM);

impl<'l> Watcher<'l> {
    /// Begins to watch; what is there already comes from the first
    /// [`Watcher::refresh`].
    pub(crate) fn new(layout: &'l Layout, namespace: Option<&str>) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|e| Error::sys("inotify_init1(IN_CLOEXEC)", e))?;
        make_dir(&layout.names())?;
        make_dir(&layout.pods())?;
        Ok(Watcher {
            layout,
            namespace: namespace.map(str::to_owned),
            inotify,
            pods: BTreeMap::new(),
        })
    }

    /// Compares the Pods that there are with those that were there. Watches are
    /// set before the look, so that nothing falls between.
    pub(crate) fn refresh(&mut self) -> Result<Vec<Change>> {
        let names = self.layout.names();
        self.add_watch(&names)?;
        // A new Pod has its name first, and is one when its directory gets its own.
        self.add_watch(&self.layout.pods())?;
        match &self.namespace {
            Some(ns) => self.add_watch(&names.join(ns))?,
            None => {
                let dirs = std::fs::read_dir(&names)
                    .with_context(|| format!("readdir({})", names.display()))?;
                for dir in dirs.flatten() {
                    self.add_watch(&dir.path())?;
                }
            }
        }
        let now = client::list(self.layout, self.namespace.as_deref())?;
        let mut changes = vec![];
        let gone: Vec<String> = self
            .pods
            .keys()
            .filter(|uid| !now.iter().any(|v| v.pod.uid == **uid))
            .cloned()
            .collect();
        for uid in gone {
            if let Some(mut entry) = self.pods.remove(&uid) {
                // Its monitor's last words may be unread: the name goes by another way.
                while let Some(Ok(Some((reply, _)))) = entry
                    .connection
                    .as_ref()
                    .map(|c| c.recv(Some(Duration::ZERO)))
                {
                    if let Reply::State(state) = reply {
                        entry.view.state = Some(*state);
                        changes.push(Change::Seen(entry.view.clone()));
                    }
                }
                changes.push(Change::Gone(entry.view));
            }
        }
        for view in now {
            let known = self.pods.get(&view.pod.uid);
            if known.is_some_and(|e| e.connection.is_some() && e.view.pod == view.pod) {
                continue;
            }
            let connection = match known {
                // Labels have changed; the connection is as good as before.
                Some(e) if e.connection.is_some() => {
                    self.pods.remove(&view.pod.uid).and_then(|e| e.connection)
                }
                _ => self.connect(&view),
            };
            changes.push(Change::Seen(view.clone()));
            self.pods
                .insert(view.pod.uid.clone(), Entry { view, connection });
        }
        Ok(changes)
    }

    /// A directory that is not there yet will make its parent's watch speak.
    fn add_watch(&self, dir: &Path) -> Result<()> {
        match self.inotify.add_watch(dir, NAME_EVENTS) {
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(e) => Err(Error::sys(
                format!("inotify_add_watch({})", dir.display()),
                e,
            )),
        }
    }

    /// A Pod that ends just now has no monitor to speak to; its name goes next.
    fn connect(&self, view: &View) -> Option<Connection> {
        let c = Connection::open(self.layout, &view.pod.uid).ok()?;
        c.send(&Request::Watch, &[]).ok()?;
        Some(c)
    }

    /// Waits for the next changes; none when the time has passed.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> Result<Vec<Change>> {
        loop {
            let ready = {
                let mut fds = vec![PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
                let mut uids = vec![];
                for (uid, entry) in &self.pods {
                    if let Some(c) = &entry.connection {
                        fds.push(PollFd::new(c.as_fd(), PollFlags::POLLIN));
                        uids.push(uid.clone());
                    }
                }
                if !poll_until(&mut fds, until)? {
                    return Ok(vec![]);
                }
                let names = fds[0].any().unwrap_or(false);
                let uids: Vec<String> = uids
                    .into_iter()
                    .zip(&fds[1..])
                    .filter(|(_, fd)| fd.any().unwrap_or(true))
                    .map(|(uid, _)| uid)
                    .collect();
                (names, uids)
            };
            let (names_changed, uids) = ready;
            let mut changes = vec![];
            let mut look = names_changed;
            for uid in uids {
                let Some(entry) = self.pods.get_mut(&uid) else {
                    continue;
                };
                let reply = match &entry.connection {
                    Some(c) => c.recv(Some(Duration::ZERO)),
                    None => continue,
                };
                match reply {
                    Ok(Some((Reply::State(state), _))) => {
                        // It comes also when the labels or another part of the record change.
                        let pod = client::recorded(self.layout, &uid);
                        let pod = pod.filter(|pod| *pod != entry.view.pod);
                        if pod.is_some() || entry.view.state.as_ref() != Some(&*state) {
                            entry.view.pod = pod.unwrap_or_else(|| entry.view.pod.clone());
                            entry.view.state = Some(*state);
                            changes.push(Change::Seen(entry.view.clone()));
                        }
                    }
                    Ok(Some(_)) => {}
                    Err(e) if e.kind() == Kind::Timeout => {}
                    // Closed: the Pod is gone, or its monitor is and the look
                    // at the list revives it.
                    Ok(None) | Err(_) => {
                        entry.connection = None;
                        look = true;
                    }
                }
            }
            if look {
                self.drain();
                changes.extend(self.refresh()?);
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    fn drain(&self) {
        while self.inotify.read_events().is_ok_and(|e| !e.is_empty()) {}
    }
}

/// The next reply, also when this program was stopped and continued meanwhile
/// (poll(2) ends with EINTR then, though no handler ran).
///
/// # Errors
/// [`Kind::Timeout`] when the time has passed.
pub(crate) fn next_reply(
    connection: &Connection,
    until: Option<Instant>,
) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
    loop {
        let left = until.map(|t| t.saturating_duration_since(Instant::now()));
        match connection.recv(left) {
            Err(e) if e.errno() == Some(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// poll(2), restarted after signals; false when the time has passed.
pub(crate) fn poll_until(fds: &mut [PollFd<'_>], until: Option<Instant>) -> Result<bool> {
    loop {
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(t) => {
                // Rounded up: waking a millisecond early would spin.
                let left = t.saturating_duration_since(Instant::now());
                let ms = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX))
                    .unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(fds, timeout) {
            Ok(0) if until.is_some_and(|t| Instant::now() < t) => {}
            Ok(n) => return Ok(n > 0),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("poll(...)", e)),
        }
    }
}
