//! A layer's tar, read to its end as the unpacker reads it.

#![no_main]

use std::io::Read;

use carob::inside::image::{EntryKind, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    let mut buffer = [0; 4096];
    // An entry takes a block at least.
    let mut left = bytes.len() / 512 + 1;
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(e) => return drop(e.to_string()),
        };
        left -= 1;
        assert!(left > 0, "more entries than blocks");
        assert!(!entry.path.is_empty() && !entry.path.contains(&0));
        assert!(entry.uid != u32::MAX && entry.gid != u32::MAX);
        assert!(entry.mode <= 0o7777 && entry.mtime.1 < 1_000_000_000);
        // What the unpacker relies on when it writes extents without another look.
        let mut stored = entry.size;
        if let Some(extents) = &entry.extents {
            assert_eq!(entry.kind, EntryKind::File);
            let mut end = 0;
            stored = 0;
            for e in extents {
                assert!(e.length > 0 && e.offset >= end);
                end = e.offset.checked_add(e.length).expect("no overflow");
                stored += e.length;
            }
            assert!(end <= entry.size);
        }
        // Every other content is passed over, not read.
        if left % 2 == 0 {
            let mut read = 0;
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => read += n as u64,
                    Err(_) => return,
                }
            }
            assert_eq!(read, stored);
        }
    }
    let _ = reader.drain();
});
