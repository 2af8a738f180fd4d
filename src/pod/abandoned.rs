//! What roots that are no more have left in the kernel: their records were removed while
//! no monitor lived that would have ended their Pods.
//!
//! Everything of a root is named by its tag: cgroups, the bridge, the table of nftables, the
//! service of systemd for the shutdown. A root is alive, and nothing of it is touched,
//!
//! 1. if a process is in the cgroup of its monitors, or
//! 2. if a directory that is its state has a record or a lock of a Pod, or somebody holds
//!    the lock under which Pods are made. Where it is, its mounts tell.
//!
//! Where no mount tells it, the root may be one of another mount namespace: then it is
//! only touched if it has no process and its bridge no port.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::monitor::{cgroup_of_root, monitor_cgroup_of_root};
use super::{claims, client, shutdown};
use crate::linux::cgroup::systemd::service;
use crate::linux::cgroup::{Cgroup, Hierarchies, Select};
use crate::linux::root::remove_tree;
use crate::linux::{bare, mount, mount_table};
use crate::network;
use crate::store::{Layout, Lock, tag_in};
use crate::{Error, Result};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned {
    /// Empty: the system's own root.
    pub tag: String,
    /// Where it was, if something tells it.
    pub layout: Option<Layout>,
    /// What of it the machine holds.
    pub holds: Vec<String>,
    /// Why it is left alone, if it is.
    pub kept: Option<String>,
}

impl Abandoned {
    pub(crate) fn name(&self) -> String {
        match &self.layout {
            Some(layout) => layout.root().map_or_else(
                || layout.state.display().to_string(),
                |root| root.display().to_string(),
            ),
            None => format!("with the tag {}", self.tag),
        }
    }
}

/// Of all roots of the machine, with the caller's own among them. The caller is in the
/// host's namespaces.
pub(crate) fn find(own: &Layout) -> Result<Vec<Abandoned>> {
    let first = look(own)?;
    if first.is_empty() {
        return Ok(first);
    }
    // A root that is just being made or removed looks like that for a moment, and no
    // event tells when that is over.
    std::thread::sleep(Duration::from_millis(500));
    let mut again = look(own)?;
    again.retain(|a| first.iter().any(|f| f.tag == a.tag));
    Ok(again)
}

fn look(own: &Layout) -> Result<Vec<Abandoned>> {
    let hierarchies = Hierarchies::detect()?;
    let mut tags = network::tags()?;
    tags.extend(tags_of_cgroups(&hierarchies));
    tags.extend(shutdown::tags());
    let mut devices = claims::devices_of_roots()?;
    tags.extend(devices.keys().cloned());
    tags.insert(own.tag().to_owned());
    let mut layouts = layouts_of_mounts()?;
    layouts.entry(own.tag().to_owned()).or_insert(own.clone());
    let mut found = Vec::new();
    for tag in tags {
        let layout = layouts.remove(&tag);
        let devices = devices.remove(&tag).unwrap_or_default();
        if let Some(a) = judge(tag, layout, devices, &hierarchies)? {
            found.push(a);
        }
    }
    Ok(found)
}

/// `None` if the root is alive. `devices`: the loop devices that it has attached.
fn judge(
    tag: String,
    layout: Option<Layout>,
    devices: Vec<String>,
    h: &Hierarchies,
) -> Result<Option<Abandoned>> {
    let procs = |path: &str| match Cgroup::open(h, path, Select::Pod)? {
        Some(cgroup) => cgroup.procs(),
        None => Ok(Vec::new()),
    };
    if !procs(&monitor_cgroup_of_root(&tag))?.is_empty() {
        return Ok(None);
    }
    if layout.as_ref().is_some_and(is_alive) {
        return Ok(None);
    }
    let top = cgroup_of_root(&tag);
    let processes = procs(&top)?;
    let network = network::Host::of_tag(&tag)?;
    let mut holds = network.in_kernel()?;
    if Cgroup::open(h, &top, Select::Pod)?.is_some() {
        holds.push(format!("cgroup {top}"));
    }
    holds.extend(devices);
    if let Some(layout) = &layout
        && holds.is_empty()
    {
        let held = claims::held(layout)?.into_iter();
        holds.extend(held.map(|uid| format!("claim {uid}, mounted")));
    }
    let unit = shutdown::unit(&tag);
    if service::exists(&unit) {
        holds.push(format!("unit {unit}"));
    }
    if !processes.is_empty() {
        let pids: Vec<String> = processes.iter().take(8).map(|p| p.to_string()).collect();
        let count = processes.len();
        holds.push(format!("{count} processes ({})", pids.join(", ")));
    }
    let in_use = !processes.is_empty() || network.has_ports()?;
    let kept = (layout.is_none() && in_use).then(|| {
        format!(
            "nothing tells where the root is: if no mount namespace has it any more, \
             end what is in the cgroup {top}, and this removes the rest"
        )
    });
    let is_there = !holds.is_empty();
    Ok(is_there.then_some(Abandoned {
        tag,
        layout,
        holds,
        kept,
    }))
}

/// Whether a Pod has a record or a lock, or one is being made.
fn is_alive(layout: &Layout) -> bool {
    // What cannot be asked is taken for held.
    Lock::is_held(&layout.names_lock()).unwrap_or(true) || has_pods(layout)
}

fn has_pods(layout: &Layout) -> bool {
    let is_pod = |dir: &Path| {
        let names = ["pod.json", "state.json", "monitor.lock"];
        names.iter().any(|name| dir.join(name).exists())
    };
    match std::fs::read_dir(layout.pods()) {
        Ok(mut pods) => pods.any(|e| e.map_or(true, |e| is_pod(&e.path()))),
        // What cannot be read is taken for a Pod.
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    }
}

fn tags_of_cgroups(h: &Hierarchies) -> BTreeSet<String> {
    let points = h.v1().iter().chain(h.v2()).map(|h| h.point());
    let entries = points.flat_map(|p| std::fs::read_dir(p).into_iter().flatten().flatten());
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    names
        .filter_map(|n| tag_in(&n, "carob", "carob-"))
        .collect()
}

/// The roots of which something is mounted here, by their tags.
fn layouts_of_mounts() -> Result<BTreeMap<String, Layout>> {
    let mut found = BTreeMap::new();
    for entry in mount_table::of("self")? {
        if let Some(data) = claims::data_of_mount(&entry.point) {
            let default = Layout::new(None)?;
            let layout = match data.parent() {
                _ if data == default.data => default,
                Some(root) if data.ends_with("data") => Layout::new(Some(root))?,
                _ => continue,
            };
            found.insert(layout.tag().to_owned(), layout);
            continue;
        }
        let name = entry.point.file_name().and_then(|n| n.to_str());
        if !matches!(name, Some("pods" | "layers" | "bare")) {
            continue;
        }
        let Some(state) = entry.point.parent() else {
            continue;
        };
        let layout = match state.parent() {
            _ if state == Layout::new(None)?.state => Layout::new(None)?,
            Some(root) if state.ends_with("run") => Layout::new(Some(root))?,
            _ => continue,
        };
        found.insert(layout.tag().to_owned(), layout);
    }
    Ok(found)
}

/// Ends and removes what is left of a root. Goes on past failures and returns them all.
pub(crate) fn remove(a: &Abandoned) -> Vec<Error> {
    let mut errors = Vec::new();
    // Under the lock nobody makes a Pod there.
    let names = match &a.layout {
        Some(layout) if layout.state.exists() => match client::lock_names(layout) {
            Ok(lock) if !has_pods(layout) => Some(lock),
            Ok(_) => return errors,
            Err(e) => return vec![e],
        },
        _ => None,
    };
    let mut attempt = |result: Result<()>| errors.extend(result.err());
    attempt(remove_cgroup(&a.tag));
    if let Some(layout) = &a.layout {
        attempt(mount::unmount(&layout.pods()));
        attempt(mount::unmount(&layout.layer_mounts()));
        attempt(bare::remove(&layout.bare_mounts()));
        for entry in std::fs::read_dir(layout.pods())
            .into_iter()
            .flatten()
            .flatten()
        {
            attempt(remove_tree(&entry.path()));
        }
        // As after a boot: volumes and writable layers at once, logs later.
        if layout.data.join("pods").exists() {
            attempt(shutdown::collect_leftovers(layout));
        }
    }
    attempt(claims::remove_all(&a.tag, a.layout.as_ref()));
    attempt(shutdown::unregister(&a.tag));
    attempt(remove_network(a));
    drop(names);
    errors
}

fn remove_cgroup(tag: &str) -> Result<()> {
    let hierarchies = Hierarchies::detect()?;
    match Cgroup::open(&hierarchies, &cgroup_of_root(tag), Select::Pod)? {
        Some(cgroup) => cgroup.kill().and_then(|()| cgroup.remove()),
        None => Ok(()),
    }
}

fn remove_network(a: &Abandoned) -> Result<()> {
    let unused = a.layout.is_none();
    match &a.layout {
        Some(layout) if layout.network().exists() => {
            let network = network::Host::open(layout)?;
            network.gc(|_| false)?;
            network.remove_bridge_if_unused()?;
        }
        Some(layout) => drop(network::Host::open(layout)?.remove_unrecorded(unused)?),
        None => drop(network::Host::of_tag(&a.tag)?.remove_unrecorded(unused)?),
    }
    Ok(())
}
