//! A manifest of Pods, ConfigMaps, Secrets, claims and namespaces: what is accepted stays as
//! it is when it is shown and read again, and when it is changed by itself.

#![no_main]

use carob::inside::manifest::check_settled;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(e) = check_settled(bytes) {
        panic!("{e}");
    }
});
