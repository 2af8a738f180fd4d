//! The mappings of user namespaces, user_namespaces(7); and a user namespace for its
//! mappings alone, as mount_setattr(2) wants one for MOUNT_ATTR_IDMAP. It is made by a
//! child that does nothing else and ends at once; the fd keeps it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::plan::IdMap;
use crate::linux::namespace;
use crate::sys::process::{self as sys, Fork};
use crate::{Context, Error, Ignored, Result};

pub(super) fn user_namespace(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    let maker = Pid::this();
    let (pid, pidfd) = match sys::clone3(CloneFlags::CLONE_NEWUSER, None) {
        Ok(Fork::Parent { pid, pidfd }) => (pid, pidfd),
        // It dies with the parent's signal, or with the parent's end.
        Ok(Fork::Child) => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
                .ignored("prctl(2) refuses only wrong numbers here");
            // It may have ended before it was asked for.
            while Pid::parent() == maker {
                nix::unistd::pause();
            }
            sys::exit_now(0)
        }
        Err(e) => return Err(Error::sys("clone3(CLONE_NEWUSER)", e)),
    };
    let made = (|| {
        let pid = pid_in_proc(pid, pidfd.as_fd())?;
        write_map(pid, "uid_map", uids).context("uidMappings")?;
        write_map(pid, "gid_map", gids).context("gidMappings")?;
        namespace::open(format!("/proc/{pid}/ns/user").as_ref())
    })();
    sys::kill_and_reap(pidfd.as_fd());
    made
}

/// Its name in /proc. A container's child that has a pid namespace of its own and
/// the host's /proc still gets another one from clone: a number that is somebody
/// else's there. fdinfo speaks as /proc does.
fn pid_in_proc(pid: Pid, pidfd: BorrowedFd) -> Result<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pid:"));
    match line.and_then(|n| n.trim().parse().ok()) {
        Some(seen @ 1..) => Ok(Pid::from_raw(seen)),
        _ => Err(Error::failed(format!(
            "{path}: process {pid} is not in /proc"
        ))),
    }
}

/// user_namespaces(7): one write, before anybody in there becomes anybody.
pub(super) fn write_map(pid: Pid, file: &str, map: &[IdMap]) -> Result<()> {
    use std::fmt::Write;
    let mut text = String::new();
    for m in map {
        writeln!(text, "{} {} {}", m.inside, m.outside, m.count)
            .ignored("a String takes every text");
    }
    let path = format!("/proc/{pid}/{file}");
    log::trace!("write({path}, {text:?})");
    std::fs::write(&path, &text).map_err(|e| {
        let e = Error::from(e).push_context(format!("write({path}, {text:?})"));
        match e.errno() {
            Some(Errno::EINVAL) => e.hint("the ranges overlap"),
            _ => e,
        }
    })
}
