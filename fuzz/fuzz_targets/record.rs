//! state.json, as a crash, a full disk or another version may have left it.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use carob::inside::oci::{Containers, Record};
use libfuzzer_sys::fuzz_target;

/// One per process, where nothing is written.
fn containers() -> &'static Path {
    static ROOT: OnceLock<std::path::PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| std::env::temp_dir().join("carob-fuzz-that-is-not-there"))
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else {
        return;
    };
    let all = Containers::new(containers());
    let _ = record.namespaces();
    let _ = record.is_alive();
    let _ = all.cgroup(&record);
    let state = record.subject().state("stopped", record.pid);
    assert!(serde_json::from_slice::<serde_json::Value>(&state).is_ok());
    // What is written is what is read again.
    let text = serde_json::to_vec(&record).expect("a record");
    serde_json::from_slice::<Record>(&text).expect("its own record");
});
