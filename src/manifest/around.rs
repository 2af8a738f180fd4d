//! What the parts of a Pod know of it.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1 as core;

use super::tree::Path;
use crate::spec::{AppArmor, Security};

/// What a container needs to know of its Pod.
pub(super) struct Around<'a> {
    pub security: &'a Security,
    /// Where the Pod's securityContext is.
    pub security_path: &'a Path,
    /// AppArmor profiles that annotations name, by container.
    pub app_armor: &'a HashMap<String, AppArmor>,
    pub volumes: Known<'a>,
    /// The names of all of them.
    pub containers: HashSet<&'a str>,
    pub host_network: bool,
    /// Whether `spec.os` is set.
    pub has_os: bool,
    /// Whether its restartPolicy is Never.
    pub never_restarts: bool,
    /// Seconds, as they are written: they may be negative.
    pub grace: i64,
}

/// The names of a Pod's volumes, whatever their kind.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    pub all: HashSet<&'a str>,
    pub images: HashSet<&'a str>,
    pub empty_dirs: HashSet<&'a str>,
    pub claims: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(volumes: &'a [core::Volume]) -> Self {
        let names = |is: &dyn Fn(&core::Volume) -> bool| {
            let those = volumes.iter().filter(|v| is(v));
            those.map(|v| v.name.as_str()).collect()
        };
        Known {
            all: names(&|_| true),
            images: names(&|v| v.image.is_some()),
            empty_dirs: names(&|v| v.empty_dir.is_some()),
            claims: names(&|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some()),
        }
    }
}
