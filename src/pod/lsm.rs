//! What of the kernel's security modules a container runs under: pure decisions, from
//! the spec and what the host has.
//!
//! Source: Kubernetes' documentation of appArmorProfile ("Restrict a Container's Access to
//! Resources with AppArmor") and a kubelet's behaviour. See docs/decisions/0015-lsm.md.

use super::spec::{AppArmor, Security, Spec};

/// The AppArmor profile of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile<'a> {
    /// The monitor's own, which mostly means none.
    None,
    /// [`crate::linux::apparmor::DEFAULT`]. `asked`: the Pod asks for RuntimeDefault, so that
    /// the container may not run without it.
    Default { asked: bool },
    /// One that the host's administrator has loaded.
    Named(&'a str),
}

/// `enabled`: the host enforces AppArmor.
pub fn app_armor(security: &Security, enabled: bool) -> Profile<'_> {
    match &security.app_armor {
        _ if !enabled => Profile::None,
        Some(AppArmor::Unconfined) => Profile::None,
        Some(AppArmor::Localhost(name)) => Profile::Named(name),
        // As with seccomp, the default of a privileged container is none.
        _ if security.privileged => Profile::None,
        Some(AppArmor::RuntimeDefault) => Profile::Default { asked: true },
        None => Profile::Default { asked: false },
    }
}

/// Why a Pod that asks for AppArmor may not run on a host without. A kubelet refuses it
/// for good, with this message and the reason AppArmor.
pub fn app_armor_refusal(spec: &Spec, enabled: bool) -> Option<String> {
    let asks = |s: &Security| !matches!(s.app_armor, None | Some(AppArmor::Unconfined));
    let c = spec.all_containers().find(|c| asks(&c.security))?;
    (!enabled).then(|| {
        format!(
            "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host \
             (container {} asks for a profile; boot with apparmor=1 security=apparmor, or set \
             appArmorProfile.type: Unconfined)",
            c.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec::Container;

    fn security(app_armor: Option<AppArmor>, privileged: bool) -> Security {
        Security {
            app_armor,
            privileged,
            ..Security::default()
        }
    }

    #[test]
    fn app_armor_profiles() {
        use AppArmor::{Localhost, RuntimeDefault, Unconfined};
        let named = || Some(Localhost("a".into()));
        for (asked, privileged, want) in [
            (None, false, Profile::Default { asked: false }),
            (None, true, Profile::None),
            (
                Some(RuntimeDefault),
                false,
                Profile::Default { asked: true },
            ),
            (Some(RuntimeDefault), true, Profile::None),
            (Some(Unconfined), false, Profile::None),
            (named(), false, Profile::Named("a")),
            (named(), true, Profile::Named("a")),
        ] {
            let s = security(asked, privileged);
            assert_eq!(app_armor(&s, true), want, "{s:?}");
            assert_eq!(app_armor(&s, false), Profile::None, "{s:?}");
        }
    }

    #[test]
    fn a_host_without_app_armor_refuses_profiles() {
        let spec = |app_armor| Spec {
            containers: vec![Container {
                name: "app".into(),
                security: security(app_armor, false),
                ..Container::default()
            }],
            ..Spec::default()
        };
        for (asked, refused) in [
            (None, false),
            (Some(AppArmor::Unconfined), false),
            (Some(AppArmor::RuntimeDefault), true),
            (Some(AppArmor::Localhost("a".into())), true),
        ] {
            let spec = spec(asked);
            assert_eq!(app_armor_refusal(&spec, false).is_some(), refused);
            assert_eq!(app_armor_refusal(&spec, true), None);
        }
    }
}
