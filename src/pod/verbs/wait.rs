//! Waits until Pods, or objects of another kind, are in a state that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Item, namespace};
use crate::object;
use crate::pod::client;
use crate::pod::watch::{Change, Watcher};
use crate::spec::ObjectKind;
use crate::store::Layout;
use crate::{Error, Result};

/// What is waited for.
pub(crate) enum Goal<'g> {
    Deleted,
    Created,
    /// That this is true of one that exists.
    Holds(&'g dyn Fn(&Item) -> Result<bool>),
}

impl Goal<'_> {
    /// `item`: `None` if there is none of the name. `first`: its uid when the waiting began.
    fn is_met(&self, item: Option<&Item>, first: Option<&str>) -> Result<Progress> {
        let is_another = |item: &Item| {
            let uids = [first.unwrap_or_default(), item.uid()];
            !uids.contains(&"") && uids[0] != uids[1]
        };
        Ok(match (self, item) {
            (Goal::Deleted, None) | (Goal::Created, Some(_)) => Progress::Met,
            (Goal::Deleted, Some(item)) if is_another(item) => Progress::Met,
            (Goal::Deleted, Some(_)) | (Goal::Created, None) => Progress::Open,
            (Goal::Holds(holds), Some(item)) => match holds(item)? {
                true => Progress::Met,
                false => Progress::Open,
            },
            (Goal::Holds(_), None) => Progress::Never,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Met,
    Open,
    /// No event that is waited for can bring it.
    Never,
}

/// How the waiting ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// All are as asked for.
    Met,
    /// The time has passed: the first one, by name, that is not, if it is there.
    Late { name: String, item: Option<Item> },
}

/// What tells of changes.
enum Source<'l> {
    Pods(Watcher<'l>),
    Objects(ObjectKind, object::Watcher<'l>),
}

/// The Pods of one namespace, or its objects of one kind, as they are and become.
pub(crate) struct Waiter<'l> {
    layout: &'l Layout,
    namespace: String,
    source: Source<'l>,
    present: BTreeMap<String, Item>,
}

impl<'l> Waiter<'l> {
    /// Looks at what there is, and misses no change from then on. `kind`: `None` is Pods.
    pub(crate) fn new(
        layout: &'l Layout,
        kind: Option<ObjectKind>,
        namespace: &str,
    ) -> Result<Self> {
        let source = match kind {
            None => Source::Pods(Watcher::new(layout, Some(namespace))?),
            Some(kind) => {
                let watcher = object::Watcher::new(layout, kind, Some(namespace))?;
                Source::Objects(kind, watcher)
            }
        };
        let mut waiter = Waiter {
            layout,
            namespace: namespace.to_owned(),
            source,
            present: BTreeMap::new(),
        };
        match &mut waiter.source {
            Source::Pods(watcher) => {
                let changes = watcher.refresh()?;
                waiter.note(changes);
            }
            Source::Objects(kind, _) => {
                let kind = *kind;
                waiter.look(kind)?;
            }
        }
        Ok(waiter)
    }

    /// By name.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Item> {
        self.present.values()
    }

    /// Waits until `goal` is met for each of `names`; `met` is called for each when it is.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if one whose state is waited for does not
    /// exist, or is deleted meanwhile.
    pub(crate) fn wait(
        &mut self,
        mut names: BTreeSet<String>,
        goal: &Goal<'_>,
        until: Instant,
        met: &mut dyn FnMut(&str, Option<&Item>) -> Result<()>,
    ) -> Result<Waited> {
        let uid = |item: &Item| (item.name().to_owned(), item.uid().to_owned());
        let uids: BTreeMap<String, String> = self.present.values().map(uid).collect();
        let mut first = true;
        loop {
            let mut now = vec![];
            for name in &names {
                let uid = uids.get(name).map(String::as_str);
                match goal.is_met(self.present.get(name), uid)? {
                    Progress::Met => now.push(name.clone()),
                    Progress::Open => {}
                    Progress::Never => {
                        let e = self.absent(name);
                        return Err(match first {
                            true => e,
                            false => e.push_context("it was deleted while waited for"),
                        });
                    }
                }
            }
            for name in now {
                names.remove(&name);
                met(&name, self.present.get(&name))?;
            }
            let Some(next) = names.first() else {
                return Ok(Waited::Met);
            };
            if Instant::now() >= until {
                return Ok(Waited::Late {
                    name: next.clone(),
                    item: self.present.get(next).cloned(),
                });
            }
            first = false;
            match &mut self.source {
                Source::Pods(watcher) => {
                    let changes = watcher.wait(Some(until))?;
                    self.note(changes);
                }
                Source::Objects(kind, watcher) => {
                    let kind = *kind;
                    watcher.wait(Some(until))?;
                    self.look(kind)?;
                }
            }
        }
    }

    fn absent(&self, name: &str) -> Error {
        match self.source {
            Source::Pods(_) => client::absent(self.layout, &self.namespace, name),
            Source::Objects(kind, _) => object::not_found(kind, &self.namespace, name),
        }
    }

    fn look(&mut self, kind: ObjectKind) -> Result<()> {
        let objects = match kind {
            ObjectKind::Namespace => namespace::list(self.layout)?,
            kind => object::list(self.layout, kind, Some(&self.namespace))?,
        };
        self.present.clear();
        for object in objects {
            // With its values, which a path may ask for.
            let object = match kind {
                ObjectKind::Secret => {
                    object::find(self.layout, kind, &self.namespace, &object.name)?
                }
                _ => Some(object),
            };
            let Some(object) = object else { continue };
            let name = object.name.clone();
            self.present.insert(name, Item::Object(Box::new(object)));
        }
        Ok(())
    }

    fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Seen(v) => {
                    let name = v.pod.name.clone();
                    self.present.insert(name, Item::Pod(Box::new(v)));
                }
                // A new Pod may have the name by now; its Seen follows.
                Change::Gone(v) => drop(self.present.remove(&v.pod.name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::client::View;
    use crate::pod::damage;

    #[test]
    fn a_pod_that_does_not_exist_meets_only_its_deletion() {
        let root = std::env::temp_dir().join(format!("carob-goals-{}", std::process::id()));
        let layout = Layout::new(Some(&root)).unwrap();
        std::fs::create_dir_all(layout.pod("uid").dir).unwrap();
        let (pod, why) = damage::load_pod(&layout, "uid").unwrap();
        assert!(why.is_some());
        std::fs::remove_dir_all(&root).unwrap();
        let item = Item::Pod(Box::new(View {
            pod,
            state: None,
            unattended: None,
        }));
        let (yes, no) = (|_: &Item| Ok(true), |_: &Item| Ok(false));
        for (goal, there, absent) in [
            (Goal::Deleted, Progress::Open, Progress::Met),
            (Goal::Created, Progress::Met, Progress::Open),
            (Goal::Holds(&yes), Progress::Met, Progress::Never),
            (Goal::Holds(&no), Progress::Open, Progress::Never),
        ] {
            for first in [None, Some("uid")] {
                assert_eq!(goal.is_met(Some(&item), first).unwrap(), there);
                assert_eq!(goal.is_met(None, first).unwrap(), absent);
            }
        }
        // Another of its name is not the one that was to go.
        let is = Goal::Deleted.is_met(Some(&item), Some("other")).unwrap();
        assert_eq!(is, Progress::Met);
    }
}
