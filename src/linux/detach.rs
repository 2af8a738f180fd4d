//! Unmounting what another machine serves.
//!
//! A client of NFS takes leave of its server when its last mount goes, in the process that has
//! unmounted it: without a server that is minutes (RPC has 60 s, three times). The mount itself
//! is out of the tree before that. So a child unmounts; one that does not come back is killed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::sched::CloneFlags;

use super::mount::unmount;
use super::mount_table;
use crate::sys::process::{Fork, await_end, clone3, close_all_but, exit_now, kill_and_reap};
use crate::{Error, Ignored, Result};

/// For a server that is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is mounted in a directory, and served by another machine: the last parts of the paths.
/// Asks no server.
pub(crate) fn remote_in(dir: &Path) -> Result<BTreeSet<OsString>> {
    // The table has no links in its paths.
    let Ok(dir) = dir.canonicalize() else {
        return Ok(BTreeSet::new());
    };
    let table = mount_table::of("self")?.into_iter();
    let remote =
        table.filter(|e| e.fstype.starts_with("nfs") && e.point.parent() == Some(dir.as_path()));
    Ok(remote
        .filter_map(|e| e.point.file_name().map(OsString::from))
        .collect())
}

/// As [`unmount`], within a time.
pub(crate) fn unmount_remote(path: &Path) -> Result<()> {
    match clone3(CloneFlags::empty(), None) {
        Ok(Fork::Parent { pidfd, .. }) => {
            let ended = await_end(pidfd.as_fd(), PATIENCE);
            if !ended.unwrap_or(false) {
                log::debug!("the server of {} does not let go", path.display());
            }
            kill_and_reap(pidfd.as_fd());
            Ok(())
        }
        Ok(Fork::Child) => {
            // It may stay longer than the monitor, whose lock and socket it would keep.
            close_all_but(&[]).ignored("the fds go with the process");
            unmount(path).ignored("the parent finds it mounted still");
            exit_now(0)
        }
        Err(e) => Err(Error::sys("clone3()", e)),
    }
}
