//! The machine's shutdown: Pods end with their grace periods, and what they leave
//! on the disk is collected after the next boot.
//!
//! Where systemd is init, a root that has Pods has one transient service
//! ([`unit`]), which holds no process. systemd stops it at a shutdown, before the
//! network and the file systems go, and waits for its command, `carob system
//! shutdown` ([`terminate`]). The monitors are in no unit and live until the very
//! end. Other inits have to call that command themselves.
//!
//! The first Pod's maker starts the service and the last Pod's monitor stops it.
//! 1. The maker starts it after the Pod's record is there.
//! 2. The monitor stops it under the names' lock, under which records come to be,
//!    and only if no Pod has one.
//!
//! So the command finds no Pod when a monitor has stopped the service, and a Pod
//! that is being made then waits for the lock and starts the next service.
//! See docs/decisions/0013-systemd-machines.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::client::{Connection, list_uids};
use super::protocol::{Reply, Request};
use crate::linux::cgroup::systemd::service;
use crate::linux::mount;
use crate::linux::procfs::boot_id;
use crate::linux::root::remove_tree;
use crate::spec::Pod;
use crate::store::{self, Layout, tag_in, tagged};
use crate::{Context, Error, Kind, Result};

/// What the longest grace period may be exceeded by: preStop hooks that overrun it,
/// the last output, a busy machine.
const MARGIN: Duration = Duration::from_secs(15);

/// A name in <data>/pods/<uid> that tells in which boot its Pod was found gone.
const GONE: &str = "gone";

/// The service of the root with this tag.
pub(super) fn unit(tag: &str) -> String {
    format!("{}.service", tagged("carob-pods", tag))
}

/// The tags of the roots that have such a service.
pub(super) fn tags() -> BTreeSet<String> {
    let tag = |unit: &String| {
        let name = unit.strip_suffix(".service")?;
        tag_in(name, "carob-pods", "carob-pods-")
    };
    service::list().iter().filter_map(tag).collect()
}

/// Sees to it that systemd terminates the Pods at a shutdown. The caller has made
/// a Pod's record. Cheap if the service is there.
pub(crate) fn register(layout: &Layout) -> Result<()> {
    let unit = unit(layout.tag());
    if !service::is_init() || service::exists(&unit) {
        return Ok(());
    }
    let program = std::fs::read_link("/proc/self/exe").context("readlink(/proc/self/exe)")?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    let mut description = "Pods of carob".to_owned();
    if let Some(root) = layout.root() {
        let root = root.to_string_lossy();
        description = format!("{description} in {root}");
        command.extend(["--root".to_owned(), root.into_owned()]);
    }
    command.extend(["system".to_owned(), "shutdown".to_owned()]);
    service::start(&unit, &description, command).map_err(|e| {
        e.push_context("Pods will be killed at a shutdown, without their grace periods")
    })
}

/// Of the root with this tag, of which no Pod has a record; the caller holds the names'
/// lock. A service that stays finds no Pod at the shutdown.
pub(super) fn unregister(tag: &str) -> Result<()> {
    let unit = unit(tag);
    match service::is_init() && service::exists(&unit) {
        true => service::stop(&unit),
        false => Ok(()),
    }
}

/// A Pod that was asked to end, and whether all its containers have.
#[derive(Debug)]
pub(crate) struct Terminated {
    /// `namespace/name`, or the UID if the record cannot be read.
    pub pod: String,
    pub result: Result<()>,
}

/// Ends the containers of every Pod as a deletion with the Pod's own grace period
/// does, all Pods at the same time, and keeps the records. Goes on past failures.
/// Returns when all have ended, or some time after the longest grace period.
pub(crate) fn terminate(layout: &Layout) -> Result<Vec<Terminated>> {
    let mut asked = Vec::new();
    let mut longest = 0;
    for uid in list_uids(layout)? {
        let record = store::load_existing::<Pod>(&layout.pod(&uid).record());
        let pod = match &record {
            Ok(pod) => {
                longest = longest.max(pod.spec.termination_grace_period);
                format!("{}/{}", pod.namespace, pod.name)
            }
            Err(_) => uid.clone(),
        };
        // Closed at once: a monitor reads what was sent before. One fd is enough for
        // as many Pods as there are.
        let result = record.and_then(|_| ask(layout, &uid).map(drop));
        match result {
            // Deleted meanwhile.
            Err(e) if e.kind() == Kind::NotFound => {}
            result => asked.push((uid, Terminated { pod, result })),
        }
    }
    let until = Instant::now() + Duration::from_secs(longest) + MARGIN;
    for (uid, t) in &mut asked {
        if t.result.is_ok() {
            t.result = match await_end(layout, uid, until) {
                Err(e) if e.kind() == Kind::NotFound => Ok(()),
                other => other,
            };
        }
    }
    Ok(asked.into_iter().map(|(_, t)| t).collect())
}

fn ask(layout: &Layout, uid: &str) -> Result<Connection> {
    let connection = Connection::open(layout, uid)?;
    connection.send(&Request::Terminate, &[])?;
    Ok(connection)
}

/// Asks again, for the answer. A monitor that dies meanwhile is revived by that; one
/// that dies each time is no longer asked.
fn await_end(layout: &Layout, uid: &str, until: Instant) -> Result<()> {
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        let connection = ask(layout, uid)?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match connection.recv(Some(left)) {
                Ok(Some((Reply::Done, _))) => return Ok(()),
                Ok(Some((Reply::Failed(e), _))) => return Err(e),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(e) if e.errno() == Some(Errno::EINTR) => {}
                Err(e) if e.kind() == Kind::Timeout => {
                    return Err(Error::new(
                        Kind::Timeout,
                        "not all its containers have ended",
                    ));
                }
                Err(e) => return Err(e),
            }
        }
    }
    Err(Error::failed(
        "its monitor ends each time it is asked to terminate the Pod",
    ))
}

/// Removes from the disk what Pods of a former boot have left: /run is empty then,
/// and with it their records are gone. Their volumes and writable layers go at
/// once, their logs a boot later, so that they can be read after a crash.
pub(crate) fn collect_leftovers(layout: &Layout) -> Result<()> {
    let dir = layout.data.join("pods");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
        found.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    // Looked at before the records: what a Pod has here is made after its record, and
    // removed before it.
    let alive = list_uids(layout)?;
    found.retain(|uid| !alive.contains(uid));
    if found.is_empty() {
        return Ok(());
    }
    let boot = boot_id()?;
    let mut first = Ok(());
    for uid in found {
        let done = collect(layout, &dir.join(&uid), &uid, &boot);
        first = first.and(done);
    }
    first
}

fn collect(layout: &Layout, dir: &Path, uid: &str, boot: &str) -> Result<()> {
    let mark = dir.join(GONE);
    match std::fs::read_to_string(&mark) {
        Ok(seen) if seen == boot => return Ok(()),
        Ok(seen) if !seen.is_empty() => {
            remove_logs(layout, uid)?;
            return remove_tree(dir);
        }
        _ => {}
    }
    for part in ["containers", "volumes"] {
        mount::remove_written_tree(&dir.join(part))?;
    }
    std::fs::write(&mark, boot).with_context(|| format!("write {}", mark.display()))
}

/// <namespace>_<name>_<uid>: the record that had the first two is gone. Others (a
/// kubelet) may have logs beside ours, of other UIDs.
fn remove_logs(layout: &Layout, uid: &str) -> Result<()> {
    let end = format!("_{uid}");
    for entry in std::fs::read_dir(&layout.logs).into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(&end) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_in_two_boots() {
        let dir = std::env::temp_dir().join(format!("carob-leftovers-{}", std::process::id()));
        let layout = Layout::new(Some(&dir)).unwrap();
        layout.create().unwrap();
        for uid in ["dead", "alive"] {
            let paths = layout.pod(uid);
            std::fs::create_dir_all(paths.data.join("volumes/v")).unwrap();
            std::fs::create_dir_all(paths.data.join("containers/c/0/upper")).unwrap();
            std::fs::create_dir_all(layout.pod_logs("ns", "n", uid).join("c")).unwrap();
        }
        std::fs::create_dir_all(layout.pod("alive").dir).unwrap();
        let left = |uid: &str| {
            let data = layout.pod(uid).data;
            let has = |p: &Path| p.exists();
            [
                has(&data.join("volumes")),
                has(&data.join("containers")),
                has(&data),
                has(&layout.pod_logs("ns", "n", uid)),
            ]
        };
        for _ in 0..2 {
            collect_leftovers(&layout).unwrap();
            assert_eq!(left("dead"), [false, false, true, true]);
        }
        std::fs::write(layout.pod("dead").data.join(GONE), "an earlier boot").unwrap();
        collect_leftovers(&layout).unwrap();
        assert_eq!(left("dead"), [false; 4]);
        assert_eq!(left("alive"), [true; 4]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
