//! What may change in a Pod that is there, as the API server has it: labels and
//! annotations, the images of containers and init containers, and activeDeadlineSeconds,
//! which may be set or made shorter.

use crate::spec::{Container, PullPolicy, Spec};

/// Whether a Pod of the one spec can become one of the other in place.
pub(crate) fn is_allowed(old: &Spec, new: &Spec) -> bool {
    let mut like_old = new.clone();
    if may_follow(old.active_deadline, new.active_deadline) {
        like_old.active_deadline = old.active_deadline;
    }
    let lists = [
        (&mut like_old.init_containers, &old.init_containers),
        (&mut like_old.containers, &old.containers),
    ];
    for (new, old) in lists {
        for (new, old) in new.iter_mut().zip(old) {
            forget_image(new, old);
        }
    }
    like_old == *old
}

fn may_follow(old: Option<u64>, new: Option<u64>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => new <= old,
        (old, _) => old.is_none(),
    }
}

/// The policy follows from the image's tag where the manifest has none.
fn forget_image(new: &mut Container, old: &Container) {
    if new.image == old.image {
        return;
    }
    let by_tag = |c: &Container| c.pull_policy == PullPolicy::by_tag(&c.image);
    if by_tag(new) && by_tag(old) {
        new.pull_policy = old.pull_policy;
    }
    new.image.clone_from(&old.image);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(image: &str, policy: PullPolicy) -> Spec {
        let c = Container {
            name: "c".into(),
            image: image.into(),
            pull_policy: policy,
            ..Container::default()
        };
        Spec {
            containers: vec![c],
            ..Spec::default()
        }
    }

    #[test]
    fn images_may_change_and_little_else() {
        use PullPolicy::*;
        let old = spec("a:1", IfNotPresent);
        assert!(is_allowed(&old, &old));
        assert!(is_allowed(&old, &spec("b:1", IfNotPresent)));
        assert!(is_allowed(&old, &spec("b", Always)));
        assert!(!is_allowed(&old, &spec("b:1", Never)));
        assert!(!is_allowed(&old, &spec("a:1", Always)));
        let mut other = spec("b:1", IfNotPresent);
        other.containers[0].command = vec!["x".into()];
        assert!(!is_allowed(&old, &other));
        assert!(!is_allowed(&old, &Spec::default()));
        let mut init = old.clone();
        init.init_containers = spec("a", Always).containers;
        let mut changed = init.clone();
        changed.init_containers[0].image = "b".into();
        assert!(is_allowed(&init, &changed));
    }

    #[test]
    fn a_deadline_may_come_and_become_shorter() {
        let with = |active_deadline| Spec {
            active_deadline,
            ..Spec::default()
        };
        for (old, new, allowed) in [
            (None, Some(5), true),
            (Some(5), Some(4), true),
            (Some(4), Some(5), false),
            (Some(4), None, false),
        ] {
            assert_eq!(
                is_allowed(&with(old), &with(new)),
                allowed,
                "{old:?} {new:?}"
            );
        }
    }
}
