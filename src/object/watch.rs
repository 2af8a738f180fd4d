//! Waits for changes of objects of one kind, with inotify(7) on the directories of their
//! records. A record comes and changes by rename(2), and goes by unlink(2).
//!
//! A namespace is there also because something is in it: there, the records of all kinds are
//! watched, and the names of Pods.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::names_in;
use crate::spec::ObjectKind;
use crate::store::{Layout, make_dir};
use crate::{Error, Result};

pub(crate) struct Watcher<'l> {
    layout: &'l Layout,
    kind: ObjectKind,
    namespace: Option<String>,
    inotify: Inotify,
}

const EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_TO);

impl<'l> Watcher<'l> {
    /// What changes from now on is told. `namespace`: `None` is all.
    pub(crate) fn new(
        layout: &'l Layout,
        kind: ObjectKind,
        namespace: Option<&str>,
    ) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)
            .map_err(|e| Error::sys("inotify_init1(IN_CLOEXEC)", e))?;
        let watcher = Watcher {
            layout,
            kind,
            namespace: namespace.map(str::to_owned),
            inotify,
        };
        watcher.watch()?;
        Ok(watcher)
    }

    /// Returns when there may be something new, or when the time has come. A directory of a
    /// namespace that has just come is watched from then on, so that the caller must look
    /// before it waits again.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> Result<()> {
        if self.sleep(until)? {
            self.inotify
                .read_events()
                .map_err(|e| Error::sys("read(inotify)", e))?;
        }
        self.watch()
    }

    /// False when the time has come.
    fn sleep(&self, until: Option<Instant>) -> Result<bool> {
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        loop {
            let timeout = until.map_or(PollTimeout::NONE, |at| {
                // Rounded up: waking a millisecond early would spin.
                let left = at.saturating_duration_since(Instant::now());
                let ms = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut fds, timeout) {
                Ok(0) if until.is_some_and(|at| Instant::now() < at) => {}
                Ok(n) => return Ok(n > 0),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::sys("poll(inotify)", e)),
            }
        }
    }

    /// Adds what is not watched yet; to watch a directory twice changes nothing.
    fn watch(&self) -> Result<()> {
        if self.kind == ObjectKind::Namespace {
            return self.watch_everything();
        }
        let of_kind = self.layout.objects_of(self.kind.plural());
        make_dir(&of_kind)?;
        match &self.namespace {
            Some(namespace) => {
                let dir = self.layout.objects_in(self.kind.plural(), namespace);
                make_dir(&dir)?;
                self.add(&dir)
            }
            None => self.add_with_those_below(&of_kind),
        }
    }

    fn watch_everything(&self) -> Result<()> {
        for kind in ObjectKind::ALL {
            let of_kind = self.layout.objects_of(kind.plural());
            make_dir(&of_kind)?;
            match kind.is_namespaced() {
                true => self.add_with_those_below(&of_kind)?,
                false => self.add(&of_kind)?,
            }
        }
        let names = self.layout.names();
        make_dir(&names)?;
        self.add_with_those_below(&names)
    }

    /// A directory with those of its namespaces.
    fn add_with_those_below(&self, dir: &Path) -> Result<()> {
        self.add(dir)?;
        let namespaces = names_in(dir)?.into_iter();
        namespaces
            .map(|n| dir.join(n))
            .try_for_each(|d| self.add(&d))
    }

    fn add(&self, dir: &Path) -> Result<()> {
        match self.inotify.add_watch(dir, EVENTS) {
            // One that has gone meanwhile is told of by the one above it.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(e) => Err(Error::sys(
                format!("inotify_add_watch({})", dir.display()),
                e,
            )),
        }
    }
}
