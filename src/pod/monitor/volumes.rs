//! The files of configMap, secret, downwardAPI and projected volumes: made with the sandbox,
//! and written anew when what they are made from changes.

use super::Monitor;
use crate::pod::reason::Reason;
use crate::volume::projected::{self, Content, Facts, VolumeObjects};
use crate::{Error, Result};

/// Bytes of the objects that volumes are made of, which the monitor holds together.
const OBJECTS_MOST: usize = 128 << 20;

impl Monitor {
    /// The content of each of these volumes, or why there is none.
    pub(super) fn plan_volumes(&self) -> Vec<Result<Content>> {
        let pod = self.pod();
        if !pod.spec.has_projected() {
            return Vec::new();
        }
        let (mut objects, mut size) = (VolumeObjects::new(), 0);
        for r in pod.spec.objects_of_volumes() {
            if objects.contains_key(&(r.kind, r.name.clone())) {
                continue;
            }
            match self.find_object(r.kind, &r.name) {
                Ok(Some(object)) => {
                    size += object.data().values().map(Vec::len).sum::<usize>();
                    if size > OBJECTS_MOST {
                        return vec![Err(Error::invalid(format!(
                            "the ConfigMaps and Secrets of its volumes have more than \
                             {OBJECTS_MOST} bytes together"
                        ))
                        .hint("a Pod with so much data gets it by an image volume or a claim"))];
                    }
                    objects.insert((r.kind, r.name.clone()), object);
                }
                Ok(None) => {}
                Err(e) => return vec![Err(e)],
            }
        }
        let node = self.node();
        projected::plan(Facts {
            pod,
            objects: &objects,
            node,
            has_files: self.state().sandbox_ready.is_some(),
        })
    }

    /// Writes the volumes whose content is another now. One that cannot be made any more, for
    /// want of an object, stays as it is, as with a kubelet.
    pub(super) fn update_volumes(&mut self) {
        let is_made = self.state().sandbox_ready.is_some();
        if !is_made || !self.pod().spec.has_projected() || self.kubelet.terminates() {
            return;
        }
        let (mut contents, mut errors) = (Vec::new(), Vec::new());
        for planned in self.plan_volumes() {
            match planned {
                Ok(content) => contents.push(content),
                Err(e) => errors.push(e),
            }
        }
        match projected::update(&self.paths, &contents) {
            Ok(0) => {}
            Ok(written) => log::debug!("volumes: {written} updated"),
            Err(e) => errors.push(e),
        }
        for e in errors {
            let e: Error = self.with_root(e);
            self.event(true, Reason::FailedMount, super::kubelet::message_of(&e));
        }
    }
}
