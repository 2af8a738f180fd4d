//! What of the kernel's security modules a container runs under: pure decisions, from
//! the spec and what the host has.
//!
//! Source: Kubernetes' documentation of appArmorProfile ("Restrict a Container's Access to
//! Resources with AppArmor") and a kubelet's behaviour. See docs/decisions/0015-lsm.md.

use crate::linux::selinux::Context;
use crate::spec::{AppArmor, SeLinuxOptions, Security, Spec};

/// The AppArmor profile of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile<'a> {
    /// The monitor's own, which mostly means none.
    None,
    /// [`crate::linux::apparmor::DEFAULT`]. `asked`: the Pod asks for RuntimeDefault, so that
    /// the container may not run without it.
    Default { asked: bool },
    /// One that the host's administrator has loaded.
    Named(&'a str),
}

/// `enabled`: the host enforces AppArmor.
pub(crate) fn app_armor(security: &Security, enabled: bool) -> Profile<'_> {
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
pub(crate) fn app_armor_refusal(spec: &Spec, enabled: bool) -> Option<String> {
    let asks = |s: &Security| !matches!(s.app_armor, None | Some(AppArmor::Unconfined));
    let c = spec.every_container().find(|c| asks(&c.security))?;
    (!enabled).then(|| {
        format!(
            "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host \
             (container {} asks for a profile; boot with apparmor=1 security=apparmor, or set \
             appArmorProfile.type: Unconfined)",
            c.name
        )
    })
}

/// SELinux labels of a Pod or of one of its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labels {
    pub process: Context,
    /// Of every file that is made for it.
    pub files: Context,
}

impl Labels {
    /// These, with what the Pod asks for. As with container engines, a user and a level
    /// hold for the files too.
    pub(crate) fn with(mut self, options: Option<&SeLinuxOptions>) -> Labels {
        let Some(o) = options else { return self };
        let set = |part: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                part.clone_from(value);
            }
        };
        set(&mut self.process.user, &o.user);
        set(&mut self.files.user, &o.user);
        set(&mut self.process.role, &o.role);
        set(&mut self.process.kind, &o.kind);
        if o.level.is_some() {
            self.process.level.clone_from(&o.level);
            self.files.level.clone_from(&o.level);
        }
        self
    }
}

/// A level that no other Pod has, of those that `taken` lists: two of the 1024 categories
/// of MCS. They follow from the UID as far as possible.
pub(crate) fn level(uid: &str, taken: &[String]) -> String {
    use sha2::{Digest, Sha256};
    const CATEGORIES: u32 = 1024;
    const PAIRS: u32 = CATEGORIES * (CATEGORIES - 1) / 2;
    let hash = Sha256::digest(uid);
    let start = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % PAIRS;
    let pair = |number: u32| {
        // The pairs (low, high) with low < high, in the order of high.
        let mut high = 1;
        let mut left = number;
        while left >= high {
            left -= high;
            high += 1;
        }
        format!("s0:c{left},c{high}")
    };
    let all = (0..PAIRS).map(|i| pair((start + i) % PAIRS));
    let mut free = all.filter(|level| !taken.contains(level));
    // With half a million Pods on a host, two share one.
    free.next().unwrap_or_else(|| pair(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Container;

    #[test]
    fn labels_take_what_options_name() {
        let context = |text| Context::parse(text).unwrap();
        let labels = || Labels {
            process: context("system_u:system_r:container_t:s0:c1,c2"),
            files: context("system_u:object_r:container_file_t:s0:c1,c2"),
        };
        assert_eq!(labels().with(None), labels());
        let options = SeLinuxOptions {
            user: Some("u".into()),
            role: Some("r".into()),
            kind: Some("t".into()),
            level: Some("s0".into()),
        };
        let both = labels().with(Some(&options));
        assert_eq!(both.process.to_string(), "u:r:t:s0");
        assert_eq!(both.files.to_string(), "u:object_r:container_file_t:s0");
        let kind = SeLinuxOptions {
            kind: Some("t".into()),
            ..SeLinuxOptions::default()
        };
        let one = labels().with(Some(&kind));
        assert_eq!(one.process.to_string(), "system_u:system_r:t:s0:c1,c2");
        assert_eq!(one.files, labels().files);
    }

    #[test]
    fn every_pod_has_a_level_of_its_own() {
        let mut taken = Vec::new();
        for i in 0..2000 {
            let level = level(&format!("uid-{i}"), &taken);
            assert!(!taken.contains(&level), "{level}");
            let (low, high) = level
                .strip_prefix("s0:c")
                .unwrap()
                .split_once(",c")
                .unwrap();
            let (low, high): (u32, u32) = (low.parse().unwrap(), high.parse().unwrap());
            assert!(low < high && high < 1024, "{level}");
            taken.push(level);
        }
        assert_eq!(level("a", &[]), level("a", &[]));
        assert_ne!(level("a", &[]), level("a", &[level("a", &[])]));
    }

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
