//! config.json, from its bytes to everything that is planned from it: all that
//! `create` does before it makes anything.

#![no_main]

use carob::inside::container::check_namespaces;
use carob::inside::linux::{Scope, annotated};
use carob::inside::oci::{self, Config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let config: Config = match oci::parse(bytes) {
        Ok(config) => config,
        Err(e) => return drop(e.to_string()),
    };
    let _ = oci::plan_hooks(config.hooks.as_ref());
    if let Some(resources) = config.linux.as_ref().and_then(|l| l.resources().as_ref()) {
        let _ = oci::plan_resources(&config.oci_version, resources, bytes, "/linux/resources");
    }
    let path = config.linux.as_ref().and_then(|l| l.cgroups_path().clone());
    if let Ok(scope) = Scope::from_path(path.as_deref(), "box", false) {
        assert!(!scope.unit().contains(['/', '\0', '\n']));
    }
    for (key, value) in config.annotations.iter().flatten() {
        let _ = annotated(key, value);
    }
    if let Ok(plan) = oci::plan_container(&config) {
        let _ = check_namespaces(&plan);
        // What the kernel would end at it must not have got this far.
        let words = plan.process.argv.iter().chain(&plan.process.env);
        assert!(words.into_iter().all(|w| !w.contains('\0')));
        assert!(plan.process.uid != u32::MAX && plan.process.gid != u32::MAX);
        assert!(plan.mounts.iter().all(|m| m.target.is_absolute()));
    }
});
