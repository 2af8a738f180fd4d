//! A user namespace for its mappings alone, as mount_setattr(2) wants one for
//! MOUNT_ATTR_IDMAP. It is made by a child that does nothing else and ends at once;
//! the fd keeps it.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;

use super::create::write_map;
use super::plan::IdMap;
use crate::linux::namespace;
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Result};

pub(super) fn user_namespace(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    let (pid, pidfd) = match sys::clone3(CloneFlags::CLONE_NEWUSER, None) {
        Ok(Fork::Parent { pid, pidfd }) => (pid, pidfd),
        // It dies with the parent's signal, or with the parent's end.
        Ok(Fork::Child) => {
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            loop {
                nix::unistd::pause();
            }
        }
        Err(e) => return Err(Error::sys("clone3(CLONE_NEWUSER)", e)),
    };
    let made = (|| {
        write_map(pid, "uid_map", uids).context("uidMappings")?;
        write_map(pid, "gid_map", gids).context("gidMappings")?;
        namespace::open(format!("/proc/{pid}/ns/user").as_ref())
    })();
    sys::kill_and_reap(pidfd.as_fd());
    made
}
