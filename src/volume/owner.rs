//! The group that a volume is given: the Pod's fsGroup.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{Context, Result};

/// A new directory gets this mode; with an fsGroup it is that group's, which may do all in
/// it, and what is made in it stays so.
pub(super) fn give(dir: &Path, fs_group: Option<u32>, mode: u32) -> Result<()> {
    if let Some(gid) = fs_group {
        std::os::unix::fs::chown(dir, None, Some(gid))
            .with_context(|| format!("chown({}, -1, {gid})", dir.display()))?;
    }
    let mode = match fs_group {
        Some(_) => mode | 0o2770,
        None => mode,
    };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod({}, {mode:o})", dir.display()))
}
