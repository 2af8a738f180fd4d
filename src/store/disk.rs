//! What a tree takes on its disk.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{Context, Result};

/// Bytes of the files and directories at and below `path`, on its own filesystem;
/// 0 if there is nothing. Symlinks are not followed.
pub(crate) fn disk_usage(path: &Path) -> Result<u64> {
    let absent = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    let mut seen = HashSet::new();
    let mut pending = vec![path.to_owned()];
    let (mut bytes, mut device) = (0, None);
    while let Some(at) = pending.pop() {
        let meta = match at.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if absent(&e) => continue,
            Err(e) => return Err(e).context(format!("lstat({})", at.display())),
        };
        if *device.get_or_insert(meta.dev()) != meta.dev() {
            continue;
        }
        if meta.nlink() == 1 || meta.is_dir() || seen.insert(meta.ino()) {
            bytes += meta.blocks() * 512;
        }
        if meta.is_dir() {
            match std::fs::read_dir(&at) {
                Ok(entries) => pending.extend(entries.flatten().map(|e| e.path())),
                Err(e) if absent(&e) => {}
                Err(e) => return Err(e).context(format!("open({})", at.display())),
            }
        }
    }
    Ok(bytes)
}
