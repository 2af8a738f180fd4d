//! Files of procfs that are written to: proc(5).
//!
//! A write to /proc/... that lands in a file of somebody's making is a write that
//! did not happen: labels and sysctls have been lost that way (runc CVE-2019-16884,
//! CVE-2025-52881). So the filesystem is checked to be procfs, and a path in it
//! crosses no mount point and no magic link.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Mount};
use super::root::open_dir;
use crate::{Context, Error, Result};

/// What /proc/<pid>/stat says of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    /// It has ended, reaped or not.
    pub ended: bool,
    /// By a signal such as SIGSTOP.
    pub stopped: bool,
    /// It is about to end: PF_EXITING of <linux/sched.h>.
    pub exiting: bool,
    /// In clock ticks since boot. With the pid it names a process for good.
    pub start: u64,
    /// Of one that has ended, as wait(2) encodes it.
    pub exit_code: i32,
}

impl Stat {
    /// `None`: there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Stat> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 2 is the name, in parentheses; it may hold anything.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let mut field = |skipped| fields.nth(skipped);
        // Fields 3, 9, 22 and 52.
        let state = field(0)?;
        let flags: u32 = field(5)?.parse().ok()?;
        Some(Stat {
            ended: matches!(state, "Z" | "X"),
            stopped: state == "T",
            exiting: flags & 4 != 0,
            start: field(12)?.parse().ok()?,
            exit_code: field(29)?.parse().ok()?,
        })
    }
}

/// Whether this process has not ended: `start` is its [`Stat::start`], by which no other
/// process that has its pid by now is taken for it.
pub(crate) fn lives(pid: i32, start: u64) -> bool {
    Stat::of(pid).is_some_and(|s| !s.ended && s.start == start)
}

/// The procfs at /proc.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    pub(crate) fn open() -> Result<Self> {
        let dir = open_dir(Path::new("/proc"))?;
        let stat = fstatfs(&dir).map_err(|e| Error::sys("fstatfs(/proc)", e))?;
        match stat.filesystem_type() == PROC_SUPER_MAGIC {
            true => Ok(Procfs(dir)),
            false => Err(Error::failed("/proc is no procfs")),
        }
    }

    /// One of the caller's own pid namespace that is attached nowhere: whatever the
    /// container has made of its /proc.
    pub(crate) fn detached() -> Result<Self> {
        let mount = Mount::new("proc", &[], ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
        Ok(Procfs(mount.into()))
    }

    /// Opens `path`, relative, to write to.
    pub(crate) fn open_file(&self, path: &Path) -> Result<std::fs::File> {
        let how = OpenHow::new()
            .flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_XDEV
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        openat2(&self.0, path, how)
            .map(std::fs::File::from)
            .map_err(|e| Error::sys(format!("openat2(/proc, {path:?}, O_WRONLY)"), e))
    }

    pub(crate) fn write(&self, path: &Path, value: &str) -> Result<()> {
        log::trace!("write(/proc/{}, {value:?})", path.display());
        self.open_file(path)?
            .write_all(value.as_bytes())
            .with_context(|| format!("write(/proc/{}, {value:?})", path.display()))
    }
}

/// Of this boot: another after each.
pub(crate) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(text.trim().to_owned())
}
