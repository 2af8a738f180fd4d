//! Waits until Pods are in a state that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::Result;
use crate::pod::client::{self, View};
use crate::pod::watch::{Change, Watcher};
use crate::store::Layout;

/// What is waited for.
pub(crate) enum Goal<'g> {
    Deleted,
    Created,
    /// That this is true of a Pod that exists.
    Holds(&'g dyn Fn(&View) -> Result<bool>),
}

impl Goal<'_> {
    /// `None`: no Pod has the name.
    fn is_met(&self, view: Option<&View>) -> Result<Progress> {
        Ok(match (self, view) {
            (Goal::Deleted, None) | (Goal::Created, Some(_)) => Progress::Met,
            (Goal::Deleted, Some(_)) | (Goal::Created, None) => Progress::Open,
            (Goal::Holds(holds), Some(view)) => match holds(view)? {
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
    /// The time has passed: the first one, by name, that is not, and the Pod if there is
    /// one.
    Late {
        name: String,
        view: Option<Box<View>>,
    },
}

/// The Pods of one namespace, as they are and become.
pub(crate) struct Waiter<'l> {
    layout: &'l Layout,
    namespace: String,
    watcher: Watcher<'l>,
    present: BTreeMap<String, View>,
}

impl<'l> Waiter<'l> {
    /// Looks at the Pods that there are, and misses no change from then on.
    pub(crate) fn new(layout: &'l Layout, namespace: &str) -> Result<Self> {
        let mut watcher = Watcher::new(layout, Some(namespace))?;
        let changes = watcher.refresh()?;
        let mut waiter = Waiter {
            layout,
            namespace: namespace.to_owned(),
            watcher,
            present: BTreeMap::new(),
        };
        waiter.note(changes);
        Ok(waiter)
    }

    /// By name.
    pub(crate) fn present(&self) -> impl Iterator<Item = &View> {
        self.present.values()
    }

    /// Waits until `goal` is met for each of `names`; `met` is called for each when it is.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if a Pod whose state is waited for does not
    /// exist, or is deleted meanwhile.
    pub(crate) fn wait(
        &mut self,
        mut names: BTreeSet<String>,
        goal: &Goal<'_>,
        until: Instant,
        met: &mut dyn FnMut(&str, Option<&View>) -> Result<()>,
    ) -> Result<Waited> {
        let mut first = true;
        loop {
            let mut now = vec![];
            for name in &names {
                match goal.is_met(self.present.get(name))? {
                    Progress::Met => now.push(name.clone()),
                    Progress::Open => {}
                    Progress::Never => {
                        let e = client::absent(self.layout, &self.namespace, name);
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
                    view: self.present.get(next).cloned().map(Box::new),
                });
            }
            first = false;
            let changes = self.watcher.wait(Some(until))?;
            self.note(changes);
        }
    }

    fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Seen(v) => drop(self.present.insert(v.pod.name.clone(), v)),
                // A new Pod may have the name by now; its Seen follows.
                Change::Gone(v) => drop(self.present.remove(&v.pod.name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::damage;

    #[test]
    fn a_pod_that_does_not_exist_meets_only_its_deletion() {
        let root = std::env::temp_dir().join(format!("carob-goals-{}", std::process::id()));
        let layout = Layout::new(Some(&root)).unwrap();
        std::fs::create_dir_all(layout.pod("uid").dir).unwrap();
        let (pod, why) = damage::load_pod(&layout, "uid").unwrap();
        assert!(why.is_some());
        std::fs::remove_dir_all(&root).unwrap();
        let view = View {
            pod,
            state: None,
            unattended: None,
        };
        let (yes, no) = (|_: &View| Ok(true), |_: &View| Ok(false));
        for (goal, there, absent) in [
            (Goal::Deleted, Progress::Open, Progress::Met),
            (Goal::Created, Progress::Met, Progress::Open),
            (Goal::Holds(&yes), Progress::Met, Progress::Never),
            (Goal::Holds(&no), Progress::Open, Progress::Never),
        ] {
            assert_eq!(goal.is_met(Some(&view)).unwrap(), there);
            assert_eq!(goal.is_met(None).unwrap(), absent);
        }
    }
}
