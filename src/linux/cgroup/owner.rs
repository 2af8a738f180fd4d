//! The owner of a container's cgroup in v2: config-linux.md, "Cgroup ownership".

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::{Uid, fchownat};

use super::{Cgroup, io};
use crate::{Context, Error, Result};

/// Which files the kernel leaves to the owner of a cgroup that is delegated; limits are
/// not among them.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

impl Cgroup {
    /// Gives the cgroup to a user, who may then make cgroups below it and move processes
    /// among them. Where v1 is there nothing is done: v1 has no safe delegation.
    pub fn give_to(&self, owner: Uid) -> Result<()> {
        let Some(h) = self.hierarchies.v2() else {
            return Ok(());
        };
        if !self.hierarchies.is_pure_v2() {
            return Ok(());
        }
        // Before Linux 4.15 the kernel does not say it.
        let files = std::fs::read_to_string(DELEGATE)
            .unwrap_or_else(|_| "cgroup.procs cgroup.subtree_control cgroup.threads".into());
        let dir = io::open_dir(h, self.path_in(h), OFlag::O_PATH)?;
        for name in std::iter::once(".").chain(files.split_whitespace()) {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            match fchownat(&dir, name, Some(owner), None, flags) {
                // A file of a controller that this cgroup does not have.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => {
                    let call = format!("fchownat(<cgroup>, {name:?}, {owner})");
                    return Err(Error::sys(call, e))
                        .with_context(|| format!("give cgroup {} to its user", self.path()));
                }
            }
        }
        Ok(())
    }
}
