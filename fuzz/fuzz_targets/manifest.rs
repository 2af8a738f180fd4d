//! A manifest or an index, whatever it was declared to be, and the choice of an
//! image from the latter.

#![no_main]

use carob::inside::image::Limits;
use carob::inside::image::{Document, Platform, choose, parse};
use libfuzzer_sys::fuzz_target;

const DECLARED: [&str; 5] = [
    "",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
];

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let mut kinds = [false; 2];
    for declared in DECLARED {
        match parse(bytes, declared, &limits) {
            Ok(Document::Index(list)) => {
                kinds[0] = true;
                if let Ok(chosen) = choose(&list, &Platform::host()) {
                    assert_eq!(chosen.digest.hex().len(), 64);
                }
            }
            Ok(Document::Manifest(m)) => {
                kinds[1] = true;
                assert!(m.layers.len() as u64 <= limits.layers);
                assert!(m.config.size <= limits.config_size);
            }
            Err(e) => drop(e.to_string()),
        }
    }
    // CVE-2021-41190: whoever declares it, one document is not both.
    assert_ne!(kinds, [true; 2], "a manifest and an index");
});
