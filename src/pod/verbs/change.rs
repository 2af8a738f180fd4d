//! A Pod that is there becomes what an apply, a replacement, a patch or an edit makes of it,
//! in one step.

use serde_json::Value;

use crate::pod::client::{self, View};
use crate::pod::state::State;
use crate::pod::{status, update};
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Result};

/// What a Pod's record is to be, from what it is.
pub(crate) type Make<'a> = &'a dyn Fn(&Pod) -> Result<Pod>;

#[derive(Debug)]
pub(crate) struct Changed {
    /// As it is now, or would be.
    pub pod: Pod,
    /// False: it was so before.
    pub changed: bool,
}

/// `dry_run`: only says what would come of it.
///
/// # Errors
/// [`Kind::Conflict`](crate::Kind::Conflict): a Pod that is there cannot become that. Then
/// nothing is changed.
pub(crate) fn change(layout: &Layout, view: &View, make: Make, dry_run: bool) -> Result<Changed> {
    if view.state.as_ref().is_some_and(|s| s.damaged.is_some())
        && let Decision::Refuse(e) = decide(&view.pod, view.state.as_ref(), &view.pod)
    {
        return Err(e);
    }
    let mut changed = false;
    let mut act = |pod: &mut Pod| {
        let new = make(pod)?;
        let keeps = pod.applied == new.applied;
        changed = match decide(pod, view.state.as_ref(), &new) {
            Decision::Keep => false,
            Decision::Change => true,
            Decision::Refuse(e) => return Err(e),
        };
        update::become_like(pod, &new);
        Ok(changed || !keeps)
    };
    let pod = if dry_run {
        let mut pod = view.pod.clone();
        act(&mut pod)?;
        pod
    } else {
        client::change(layout, &view.pod.uid, act)?
    };
    Ok(Changed { pod, changed })
}

/// What of a Pod's manifest can be compared: without the status and what no manifest sets.
pub(crate) fn comparable(pod: &Pod) -> Value {
    let mut value = pod.manifest.clone();
    value["apiVersion"] = "v1".into();
    value["kind"] = "Pod".into();
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("status");
    }
    value.sort_all_objects();
    value
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

fn decide(old: &Pod, state: Option<&State>, pod: &Pod) -> Decision {
    if let Some(why) = state.and_then(|s| s.damaged.as_ref()) {
        let text = format!("pods {:?} exists and cannot be read: {why}", pod.name);
        return Decision::Refuse(Error::conflict(text).hint(format!(
            "delete it first ({}), or let `apply --force` do so",
            delete_command(pod)
        )));
    }
    let deleting = state.is_some_and(|s| s.deletion.is_some());
    let over = status::of(old, state).phase.is_terminal();
    let same_spec = old.spec == pod.spec;
    let refused = update::refusals(old, pod);
    let allowed = refused.is_empty();
    let may_become = allowed && (same_spec || !over);
    if may_become && !deleting {
        return match update::is_same(old, pod) {
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
    use crate::Kind;
    use crate::pod::damage;
    use crate::pod::reason::Reason;
    use crate::pod::state::{ContainerState, Deletion, Ended, Now};
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
            applied: None,
            manifest: json!({"spec": {"containers": [
                {"name": "c", "image": image, "command": [command]}]}}),
        }
    }

    fn ended() -> State {
        let end = Ended {
            id: "id".into(),
            exit_code: 0,
            signal: None,
            reason: Reason::Completed,
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
            let got = match decide(&pod("i:1", "a"), state.as_ref(), &new) {
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
