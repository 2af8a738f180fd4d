//! Limits of the kernel that keep a Pod from starting, or its watchers from watching:
//! sysctls below /proc/sys (proc(5), namespaces(7)) and RLIMIT_NOFILE (getrlimit(2)).
//! Where a limit can be tried, it is tried. Changes no sysctl.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::unistd::Pid;

use super::Finding;
use crate::sys::attribute;
use crate::{Context, Error, Result};

const CHECK: &str = "limits";

/// Namespaces of a kind below which a few Pods use all up.
const FEW_NAMESPACES: u64 = 64;
/// Threads that can still be made, below which the next Pods do not get theirs.
const FEW_THREADS: u64 = 200;
/// Open files that a Pod's monitor and a program of a container can be expected to need.
const FEW_FILES: u64 = 1024;

pub(super) fn examine() -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for kind in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        found.extend(namespaces(kind));
    }
    for name in ["pid_max", "threads-max"] {
        found.extend(said(threads(name)));
    }
    found.extend(said(open_files()));
    found.extend(said(inotify()));
    if found.is_empty() {
        let text = "room for namespaces, threads, open files and inotify instances";
        found.push(Finding::ok(CHECK, text));
    }
    found
}

/// A limit that cannot be looked at is a warning too.
fn said(looked: Result<Option<Finding>>) -> Option<Finding> {
    looked.unwrap_or_else(|e| Some(Finding::of(CHECK, super::Status::Warning, Err(e))))
}

fn read(path: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read({path})"))?;
    let number = text.trim().parse();
    number.map_err(|_| Error::failed(format!("read({path}): {:?} is no number", text.trim())))
}

fn namespaces(kind: &str) -> Option<Finding> {
    let path = format!("/proc/sys/user/max_{kind}_namespaces");
    // A kernel without namespaces of this kind: the check `namespaces` says so.
    if !Path::new(&path).exists() {
        return None;
    }
    let few = |most: u64| {
        Finding::warning(
            CHECK,
            format!(
                "{path} is {most}: Pods that need one more {kind} namespace do not start (ENOSPC)"
            ),
            &format!("sysctl -w user.max_{kind}_namespaces=10000"),
        )
    };
    said(read(&path).map(|most| (most < FEW_NAMESPACES).then(|| few(most))))
}

/// Each thread of the machine counts, of a Pod or not: fork(2) gives EAGAIN when there
/// are as many as one of these sysctls allows.
fn threads(name: &str) -> Result<Option<Finding>> {
    let path = format!("/proc/sys/kernel/{name}");
    let most = read(&path)?;
    let text = std::fs::read_to_string("/proc/loadavg").with_context(|| "read(/proc/loadavg)")?;
    let there = threads_in(&text)
        .ok_or_else(|| Error::failed(format!("read(/proc/loadavg): {text:?} has no threads")))?;
    Ok((most.saturating_sub(there) < FEW_THREADS).then(|| {
        let more = (there + FEW_THREADS).next_power_of_two().max(32768);
        Finding::warning(
            CHECK,
            format!(
                "{path} is {most}, and the machine has {there} threads: processes of Pods cannot \
                 be made (EAGAIN)"
            ),
            &format!("sysctl -w kernel.{name}={more}"),
        )
    }))
}

/// Of /proc/loadavg: the number behind the slash, as in `0.20 0.18 0.12 1/80 11206`.
fn threads_in(loadavg: &str) -> Option<u64> {
    let field = loadavg.split_whitespace().nth(3)?;
    field.split_once('/')?.1.parse().ok()
}

/// A Pod's monitor raises the limit by itself where it may (CAP_SYS_RESOURCE, up to
/// fs.nr_open), so this is tried before something is said.
fn open_files() -> Result<Option<Finding>> {
    let (own, resource) = (Pid::from_raw(0), libc::RLIMIT_NOFILE);
    let (soft, hard) =
        attribute::limits(own, resource).map_err(|e| Error::sys("prlimit(RLIMIT_NOFILE)", e))?;
    if hard >= FEW_FILES {
        return Ok(None);
    }
    match attribute::set_limit(own, resource, soft, FEW_FILES) {
        Ok(()) => Ok(None),
        Err(Errno::EPERM) => Ok(Some(Finding::warning(
            CHECK,
            format!(
                "RLIMIT_NOFILE is {hard} and cannot be raised: Pods' monitors and their \
                 containers cannot open more files than that"
            ),
            "raise the hard limit of the caller (ulimit -Hn 1048576, LimitNOFILE= of a systemd \
             unit, sysctl -w fs.nr_open=1048576 if that is lower), or give it CAP_SYS_RESOURCE",
        ))),
        Err(e) => Err(Error::sys("prlimit(RLIMIT_NOFILE)", e)),
    }
}

fn inotify() -> Result<Option<Finding>> {
    match Inotify::init(InitFlags::IN_CLOEXEC) {
        Ok(_) => Ok(None),
        Err(Errno::EMFILE) => {
            let path = "/proc/sys/fs/inotify/max_user_instances";
            let most = read(path)?;
            Ok(Some(Finding::warning(
                CHECK,
                format!(
                    "{path} is {most}, and all are in use (inotify_init1: EMFILE): commands \
                     that wait for Pods fail, and so do programs of Pods that watch files"
                ),
                &format!(
                    "sysctl -w fs.inotify.max_user_instances={}",
                    (most * 2).max(1024)
                ),
            )))
        }
        Err(e) => Err(Error::sys("inotify_init1(IN_CLOEXEC)", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_read() {
        assert_eq!(threads_in("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(threads_in("0.20 0.18"), None);
    }
}
