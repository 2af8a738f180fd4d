//! The group that a volume is given: the Pod's fsGroup.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{Context, Result};

/// Everybody may write to an emptyDir; with an fsGroup it is that group's, and
/// what is made in it stays so.
pub(super) fn give(dir: &Path, fs_group: Option<u32>) -> Result<()> {
    if let Some(gid) = fs_group {
        std::os::unix::fs::chown(dir, None, Some(gid))
            .with_context(|| format!("chown({}, -1, {gid})", dir.display()))?;
    }
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod({}, {mode:o})", dir.display()))
}
