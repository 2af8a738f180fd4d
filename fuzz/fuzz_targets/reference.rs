//! An image's name: what is printed is read again, and means the same.

#![no_main]

use carob::inside::image::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let name: Reference = match text.parse() {
        Ok(name) => name,
        Err(e) => return drop::<carob::Error>(e),
    };
    for printed in [name.to_string(), name.familiar()] {
        let again: Reference = printed.parse().expect("its own text");
        assert_eq!(again, name, "{printed}");
    }
    assert!(name.tag().is_some() || name.digest().is_some());
    // Parts of URLs and of files' names.
    assert!(
        name.repository()
            .split('/')
            .all(|c| !matches!(c, "" | "." | ".."))
    );
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '%');
    assert!(!name.to_string().contains(odd));
});
