//! The ConfigMaps and Secrets that the Pod names: what they are when a container or a volume
//! is made of them, and how the monitor is told when they come, change or go.
//!
//! The directories of the Pod's namespace are watched by dnotify, as the Pod's own is: a
//! monitor takes no instance of inotify. A Pod that names no object watches none, and a
//! change of one that it does not name is passed over.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Fact, Monitor};
use crate::object;
use crate::pod::bundle::{self, EnvInputs, EnvObjects};
use crate::pod::{claims, limits};
use crate::spec::{Container, Node, Object, ObjectKind};
use crate::store::make_dir;
use crate::sys::notify::signal_at_changes;
use crate::{Error, Kind, Result};

/// What the monitor knows of the objects that its Pod names.
#[derive(Debug, Default)]
pub(super) struct ObjectsWatch {
    /// A directory of each kind that the Pod names objects of.
    dirs: BTreeMap<ObjectKind, OwnedFd>,
    /// That of the records of which Pod has a claim for itself.
    claims: Option<OwnedFd>,
    /// Which version of each was last seen. `None`: there was none.
    seen: BTreeMap<(ObjectKind, String), Option<Version>>,
}

/// One that cannot be read is another version than all that can.
#[derive(Clone, Debug, Default, PartialEq)]
struct Version {
    uid: String,
    number: u64,
    is_immutable: bool,
    /// Another Pod has the claim for itself.
    is_held: bool,
}

impl Monitor {
    /// Begins to watch; also after the Pod's record has changed, which may name more. On a
    /// kernel without dnotify nothing tells of a change: what waits for an object tries again
    /// with back-off.
    pub(super) fn watch_objects(&mut self) {
        let pod = self.kubelet.pod();
        let named = pod.spec.objects();
        if named.is_empty() {
            return;
        }
        // The signal ends a process that does not wait for it.
        self.watch_directory();
        if self.directory.is_none() {
            return;
        }
        for (kind, _) in &named {
            if !self.objects.dirs.contains_key(kind) {
                let dir = self.open_objects(*kind);
                self.objects.dirs.extend(dir.map(|dir| (*kind, dir)).ok());
            }
        }
        if self.objects.claims.is_none() && self.pod().spec.claims().next().is_some() {
            self.objects.claims = watch(&self.layout.claims()).ok();
        }
        // Looked at after the watch is set, so that nothing falls between.
        for key in named {
            if !self.objects.seen.contains_key(&key) {
                let version = self.version_of(key.0, &key.1);
                self.objects.seen.insert(key, version);
            }
        }
        self.leave_immutable();
    }

    /// Nothing is to be told of objects that do not change any more.
    fn leave_immutable(&mut self) {
        let ObjectsWatch { dirs, seen, .. } = &mut self.objects;
        let may_change =
            |version: &Option<Version>| !version.as_ref().is_some_and(|v| v.is_immutable);
        dirs.retain(|dir, _| {
            seen.iter()
                .any(|((kind, _), v)| kind == dir && may_change(v))
        });
    }

    fn open_objects(&self, kind: ObjectKind) -> Result<OwnedFd> {
        watch(&self.layout.objects_in(kind.plural(), &self.pod().namespace))
    }

    /// Who needs one that cannot be read says why.
    fn version_of(&self, kind: ObjectKind, name: &str) -> Option<Version> {
        match object::outline(&self.layout, kind, &self.pod().namespace, name) {
            Ok(object) => object.map(|o| Version {
                is_immutable: o.is_immutable(),
                is_held: kind == ObjectKind::PersistentVolumeClaim
                    && claims::is_held(&self.layout, &o, &self.pod().uid),
                uid: o.uid,
                number: o.resource_version,
            }),
            Err(_) => Some(Version::default()),
        }
    }

    pub(super) fn find_object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>> {
        object::find(&self.layout, kind, &self.pod().namespace, name)
    }

    /// What the machine has.
    pub(super) fn node(&self) -> Node {
        Node {
            cpu: limits::node_cpu(),
            memory: limits::node_memory(),
            storage: limits::node_storage(&self.layout.data),
        }
    }

    /// What the container's variables are made of, as it is now.
    pub(super) fn env_inputs<'a>(&'a self, c: &'a Container) -> Result<EnvInputs<'a>> {
        let pod = self.pod();
        let mut objects = EnvObjects::new(&pod.namespace);
        for wanted in c.objects() {
            if objects.has(wanted) {
                continue;
            }
            // A container waits for one that cannot be decrypted as for one that is missing.
            let found = self.find_object(wanted.kind, &wanted.name);
            if let Some(object) = found.map_err(|e| e.with_kind(Kind::Invalid))? {
                objects.add(object)?;
            }
        }
        Ok(EnvInputs {
            pod,
            paths: &self.paths,
            container: c,
            objects,
            ips: &self.state().ips,
            host_ip: self.state().host_ip,
            node_name: &self.host.name,
            node: self.node(),
        })
    }

    /// Variables that the bundle of a container that runs has not, since their values are
    /// secret: for the processes that are started beside it. What a Secret has no longer is
    /// left out.
    pub(super) fn secret_env(&self, c: &Container) -> Result<Vec<String>> {
        let own = bundle::own_env(&self.env_inputs(c)?)?;
        Ok(own.secrets().collect())
    }

    /// Something has changed in a directory that is watched.
    pub(super) fn on_objects_changed(&mut self) {
        let known: Vec<_> = self.objects.seen.keys().cloned().collect();
        let mut changed = false;
        for (kind, name) in known {
            let version = self.version_of(kind, &name);
            let before = self.objects.seen.insert((kind, name), version.clone());
            changed |= before != Some(version);
        }
        if changed {
            self.leave_immutable();
            self.update_volumes();
            self.tell(Fact::ObjectsChanged);
        }
    }
}

/// Opens a directory, of whose changes a signal tells as long as it is open.
fn watch(dir: &Path) -> Result<OwnedFd> {
    make_dir(dir)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = open(dir, flags, Mode::empty())
        .map_err(|e| Error::sys(format!("open({})", dir.display()), e))?;
    signal_at_changes(fd.as_fd()).map_err(|e| Error::sys("fcntl(F_NOTIFY)", e))?;
    Ok(fd)
}
