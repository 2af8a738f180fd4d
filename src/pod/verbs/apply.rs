//! A Pod becomes as its manifest says: made, changed in place, or deleted and made anew.

use super::delete::{self, Grace};
use crate::pod::client::{self, View};
use crate::pod::{status, update};
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// What was done to a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Unchanged,
    Configured,
    Replaced,
}

impl Done {
    /// kubectl's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Done::Created => "created",
            Done::Unchanged => "unchanged",
            Done::Configured => "configured",
            Done::Replaced => "replaced",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Applied {
    pub done: Done,
    /// Of the Pod that there is now.
    pub uid: String,
    /// What the caller should be warned of.
    pub warnings: Vec<Error>,
}

/// Makes the Pod, or changes what may be changed of the one of its name. `replace`: one
/// that cannot be changed so is deleted, with this grace, and made anew.
pub(crate) fn apply(layout: &Layout, pod: &Pod, replace: Option<Grace>) -> Result<Applied> {
    let create = |done| {
        Ok(Applied {
            done,
            warnings: client::create(layout, pod)?,
            uid: pod.uid.clone(),
        })
    };
    let view = match client::find(layout, &pod.namespace, &pod.name) {
        Ok(v) => v,
        Err(e) if e.kind() == Kind::NotFound => return create(Done::Created),
        Err(e) => return Err(e),
    };
    let done = match (decide(&view, pod), replace) {
        (Decision::Keep, _) => Done::Unchanged,
        (Decision::Change, _) => {
            client::update(layout, &view.pod.uid, pod)?;
            Done::Configured
        }
        (Decision::Refuse(_), Some(grace)) => {
            delete::delete(layout, &view, grace, None)?;
            return create(Done::Replaced);
        }
        (Decision::Refuse(e), None) => return Err(e),
    };
    Ok(Applied {
        done,
        uid: view.pod.uid,
        warnings: vec![],
    })
}

/// What is due where a Pod of the name exists.
#[derive(Debug)]
enum Decision {
    Keep,
    /// In place.
    Change,
    /// It can only be deleted and made anew.
    Refuse(Error),
}

fn decide(view: &View, pod: &Pod) -> Decision {
    let state = view.state.as_ref();
    if let Some(why) = state.and_then(|s| s.damaged.as_ref()) {
        let text = format!("pods {:?} exists and cannot be read: {why}", pod.name);
        return Decision::Refuse(Error::conflict(text).hint(format!(
            "delete it first ({}), or let `apply --force` do so",
            delete_command(pod)
        )));
    }
    let deleting = state.is_some_and(|s| s.deletion.is_some());
    let over = status::of(&view.pod, state).phase.is_terminal();
    let same_spec = view.pod.spec == pod.spec;
    let refused = update::refusals(&view.pod, pod);
    let allowed = refused.is_empty();
    let may_become = allowed && (same_spec || !over);
    if may_become && !deleting {
        return match update::is_same(&view.pod, pod) {
            true => Decision::Keep,
            false => Decision::Change,
        };
    }
    if deleting {
        return Decision::Refuse(client::being_deleted(pod));
    }
    let text = match allowed {
        true => format!(
            "pods {:?} has ended: a change would have no effect",
            pod.name
        ),
        false => format!(
            "pods {:?} exists and cannot be changed in: {}",
            pod.name,
            refused.join(", ")
        ),
    };
    Decision::Refuse(Error::conflict(text).hint(format!(
        "delete it first ({}), or let `apply --force` delete and make it anew",
        delete_command(pod)
    )))
}

fn delete_command(pod: &Pod) -> String {
    format!("carob delete pod {} -n {}", pod.name, pod.namespace)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::pod::damage;
    use crate::pod::state::{ContainerState, Deletion, Ended, Now, State};
    use crate::spec::{Container, RestartPolicy, Spec};

    /// A Pod of one container that is not started again.
    fn pod(image: &str, command: &str) -> Pod {
        let container = Container {
            name: "c".into(),
            image: image.into(),
            ..Container::default()
        };
        Pod {
            version: Pod::VERSION,
            uid: "u".into(),
            namespace: "ns".into(),
            name: "web".into(),
            labels: Default::default(),
            annotations: Default::default(),
            created: Timestamp::UNIX_EPOCH,
            spec: Spec {
                containers: vec![Container {
                    command: vec![command.into()],
                    ..container
                }],
                restart_policy: RestartPolicy::Never,
                ..Spec::default()
            },
            pull_secrets: Vec::new(),
            manifest: json!({"spec": {"containers": [
                {"name": "c", "image": image, "command": [command]}]}}),
        }
    }

    fn view(state: Option<State>) -> View {
        View {
            pod: pod("i:1", "a"),
            state,
            unattended: None,
        }
    }

    fn ended() -> State {
        let end = Ended {
            id: "id".into(),
            exit_code: 0,
            signal: None,
            reason: "Completed".into(),
            message: String::new(),
            started: Some(Timestamp::UNIX_EPOCH),
            finished: Timestamp::UNIX_EPOCH,
        };
        let container = ContainerState {
            now: Now::Ended(end),
            ..ContainerState::default()
        };
        State {
            containers: [("c".to_owned(), container)].into(),
            ..State::default()
        }
    }

    fn deleting() -> State {
        State {
            deletion: Some(Deletion {
                requested: Timestamp::UNIX_EPOCH,
                grace_period: 30,
            }),
            ..State::default()
        }
    }

    #[test]
    fn what_is_due_for_a_pod_that_exists() {
        let mut labelled = pod("i:1", "a");
        labelled.labels.insert("a".into(), "b".into());
        let damaged = || Some(damage::state(&Error::failed("x.json is damaged")));
        let cannot = "cannot be changed in: spec.containers[0].command";
        let cases = [
            (None, pod("i:1", "a"), "keep"),
            (None, labelled.clone(), "change"),
            (None, pod("i:2", "a"), "change"),
            (None, pod("i:1", "b"), cannot),
            (None, pod("i:2", "b"), cannot),
            (Some(ended()), pod("i:1", "a"), "keep"),
            (Some(ended()), labelled, "change"),
            (Some(ended()), pod("i:2", "a"), "has ended"),
            (Some(ended()), pod("i:1", "b"), cannot),
            (Some(deleting()), pod("i:1", "a"), "is being deleted"),
            (Some(deleting()), pod("i:1", "b"), "is being deleted"),
            (
                damaged(),
                pod("i:1", "a"),
                "cannot be read: x.json is damaged",
            ),
        ];
        for (state, new, want) in cases {
            let got = match decide(&view(state), &new) {
                Decision::Keep => "keep".to_owned(),
                Decision::Change => "change".to_owned(),
                Decision::Refuse(e) => {
                    assert_eq!(e.kind(), Kind::Conflict);
                    assert!(e.get_hint().unwrap().contains("web -n ns"), "{e:?}");
                    e.to_string()
                }
            };
            assert!(got.contains(want), "{got}: expected {want}");
        }
    }
}
