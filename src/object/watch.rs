//! Waits for changes of objects of one kind, with inotify(7) on the directories of its
//! records. A record comes and changes by rename(2), and goes by unlink(2).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;

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

    /// Returns when there may be something new. A directory of a namespace that has just come
    /// is watched from then on, so that the caller must look before it waits again.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).map_err(|e| Error::sys("poll(inotify)", e))?;
        self.inotify
            .read_events()
            .map_err(|e| Error::sys("read(inotify)", e))?;
        self.watch()
    }

    /// Adds what is not watched yet; to watch a directory twice changes nothing.
    fn watch(&self) -> Result<()> {
        let of_kind = self.layout.objects_of(self.kind.plural());
        make_dir(&of_kind)?;
        let mut dirs = vec![];
        match (&self.namespace, self.kind.is_namespaced()) {
            (Some(namespace), true) => {
                let dir = self.layout.objects_in(self.kind.plural(), namespace);
                make_dir(&dir)?;
                dirs.push(dir);
            }
            (None, true) => {
                self.add(&of_kind)?;
                let names = names_in(&of_kind)?.into_iter();
                dirs.extend(names.map(|n| self.layout.objects_in(self.kind.plural(), &n)));
            }
            (_, false) => dirs.push(of_kind),
        }
        dirs.iter().try_for_each(|dir| self.add(dir))
    }

    fn add(&self, dir: &std::path::Path) -> Result<()> {
        let added = self.inotify.add_watch(dir, EVENTS);
        added
            .map(drop)
            .map_err(|e| Error::sys(format!("inotify_add_watch({})", dir.display()), e))
    }
}
