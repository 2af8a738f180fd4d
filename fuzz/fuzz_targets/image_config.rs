//! An image's config: the part of it that is used.

#![no_main]

use carob::inside::image::Limits;
use carob::inside::image::parse_config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    match parse_config(bytes, &limits) {
        Ok(image) => {
            assert!(image.diff_ids.len() as u64 <= limits.layers);
            // It is kept in the image's record.
            let text = serde_json::to_vec(&image.config).expect("a config");
            let again = serde_json::from_slice::<carob::inside::image::Config>(&text);
            assert_eq!(again.expect("its own config"), image.config);
        }
        Err(e) => drop(e.to_string()),
    }
});
