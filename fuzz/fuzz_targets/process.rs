//! The process of `exec --process`, which any user of an engine may have written.

#![no_main]

use carob::inside::oci::{self, Process};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let process: Process = match oci::parse(bytes) {
        Ok(process) => process,
        Err(e) => return drop(e.to_string()),
    };
    if let Ok(plan) = oci::plan_process(&process, None) {
        assert!(!plan.argv.is_empty() && plan.cwd.is_absolute());
        assert!(plan.argv.iter().chain(&plan.env).all(|w| !w.contains('\0')));
        assert!(plan.uid != u32::MAX && plan.gid != u32::MAX);
        assert!(!plan.groups.contains(&u32::MAX));
    }
});
