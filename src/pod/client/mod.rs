//! The Pods of a root as every verb sees them: making, finding, and talking to
//! the monitor.
//!
//! Crash safety: a Pod's directory is made whole under another name, its name is
//! taken ([`names`]), and the rename into `pods/` makes it exist. A Pod whose monitor is dead
//! gets a new one from whoever looks.

mod connection;
mod names;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;

use crate::linux::cgroup::devices;
use crate::linux::root::remove_tree;
use crate::linux::{capability, kernel};
use crate::object;
use crate::pod::protocol::{Reply, Request};
use crate::pod::state::State;
use crate::pod::status::{self, PodStatus};
use crate::pod::{claims, damage, limits, monitor, shutdown};
use crate::spec::Pod;
use crate::store::{self, Layout, Lock, PodPaths};
use crate::{Context, Error, Ignored, Kind, Result};

pub(crate) use connection::Connection;
pub(crate) use names::{absent, being_deleted, force_release_name};
use names::{check_name, name_owner, take_name};
pub(super) use names::{lock_names, release_name};

/// A Pod and what its monitor has written of it last.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub pod: Pod,
    /// `None`: the monitor has not got that far.
    pub state: Option<State>,
    /// Why the Pod has no monitor: then the state is what was recorded last, and what the
    /// kernel says of its processes.
    pub unattended: Option<Error>,
}

impl View {
    /// What a kubelet would report of it.
    pub(crate) fn status(&self) -> PodStatus {
        status::of(&self.pod, self.state.as_ref())
    }

    fn new(pod: Pod, state: Option<State>) -> Self {
        View {
            pod,
            state,
            unattended: None,
        }
    }
}

/// What [`create`] would refuse.
pub(crate) fn check_create(layout: &Layout, pod: &Pod) -> Result<()> {
    check_able(pod)?;
    object::check_namespace(layout, "pods", &pod.namespace, &pod.name)?;
    check_name(layout, pod).map(drop)
}

fn check_able(pod: &Pod) -> Result<()> {
    kernel::check()?;
    if !pod.spec.ephemeral_containers.is_empty() {
        let e = Error::invalid("spec.ephemeralContainers: Forbidden: cannot be set on create");
        return Err(e.hint("carob debug adds one to a Pod that is there"));
    }
    let net_admin = !pod.spec.host_network || devices::lack_net_admin();
    capability::require(match net_admin {
        true => &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"],
        false => &["CAP_SYS_ADMIN"],
    })?;
    Ok(())
}

/// Records the Pod, takes its name and starts its monitor. Returns what the caller
/// should be warned of.
///
/// # Errors
/// [`Kind::Conflict`] if the name is taken.
pub(crate) fn create(layout: &Layout, pod: &Pod) -> Result<Vec<Error>> {
    check_able(pod)?;
    log::debug!(
        "record the Pod {}/{}, uid {}",
        pod.namespace,
        pod.name,
        pod.uid
    );
    layout.create()?;
    let paths = layout.pod(&pod.uid);
    let new = layout.pods().join(format!(".new-{}", pod.uid));
    let names = lock_names(layout)?;
    // Under the lock: a deletion of the namespace waits for it before it looks for Pods.
    object::check_namespace(layout, "pods", &pod.namespace, &pod.name)?;
    let made = (|| {
        store::make_dir(&new)?;
        store::save(&new.join("pod.json"), pod)?;
        store::reserve(&new.join("state.json"), State::RESERVED)?;
        take_name(layout, pod)?;
        std::fs::rename(&new, &paths.dir)
            .with_context(|| format!("rename({}, {})", new.display(), paths.dir.display()))
    })();
    if made.is_err() {
        std::fs::remove_dir_all(&new).ignored("gc removes it: its name begins with .new-");
    }
    drop(names);
    made?;
    if let Err(e) = monitor::start(layout, &pod.uid) {
        // Without a monitor nothing has been made, and nobody has been told of the Pod.
        let undone = undo(layout, pod);
        return Err(e.with_cleanup(undone.with_context(|| format!("remove pod {}", pod.name))));
    }
    // While the monitor makes the Pod.
    let mut warnings = Vec::new();
    let beyond = limits::beyond_machine(&pod.spec, limits::node_cpu(), limits::node_memory());
    warnings.extend(
        beyond
            .into_iter()
            .map(|text| Error::failed(format!("pod {}: {text}", pod.name))),
    );
    warnings.extend(shutdown::register(layout).err());
    if is_alone(layout) {
        warnings.extend(shutdown::collect_leftovers(layout).err());
        // Of Pods that a boot, or the removal of their records, has taken.
        warnings.extend(claims::collect(layout).err());
    }
    Ok(warnings)
}

/// Removes a Pod that has no monitor and never had one.
fn undo(layout: &Layout, pod: &Pod) -> Result<()> {
    let paths = layout.pod(&pod.uid);
    let names = lock_names(layout)?;
    // Another command may have started one meanwhile.
    if Lock::try_acquire(&paths.monitor_lock())?.is_some() {
        release_name(layout, pod)?;
        remove_tree(&paths.dir)?;
    }
    drop(names);
    monitor::remove_shared(layout)
}

/// Whether at most one Pod has a record.
fn is_alone(layout: &Layout) -> bool {
    // A directory has a link for each directory in it, where the filesystem counts them.
    // To list hundreds of Pods takes milliseconds.
    const LISTED: u64 = 32;
    if std::fs::metadata(layout.pods()).is_ok_and(|m| m.nlink() > LISTED) {
        return false;
    }
    let entries = std::fs::read_dir(layout.pods()).into_iter().flatten();
    let pods = entries.flatten().map(|e| e.file_name());
    let pods = pods.filter(|name| !name.as_encoded_bytes().starts_with(b"."));
    pods.take(2).count() < 2
}

/// The UIDs of the Pods that have a record.
pub(super) fn list_uids(layout: &Layout) -> Result<BTreeSet<String>> {
    let dir = layout.pods();
    let doing = || format!("list {}", dir.display());
    let mut uids = BTreeSet::new();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(uids),
        other => other.with_context(doing)?,
    };
    for entry in entries {
        let name = entry.with_context(doing)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') {
            uids.insert(name.into_owned());
        }
    }
    Ok(uids)
}

/// How much of a Pod's record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Whole,
    /// The manifest may be left out: [`Pod::manifest`] is null then. Enough for a row of a
    /// table.
    Summary,
}

/// Every Pod of a namespace, or of all, by namespace and name.
pub(crate) fn list(layout: &Layout, namespace: Option<&str>) -> Result<Vec<View>> {
    list_with(layout, namespace, Detail::Whole)
}

/// As [`list`], with as much of each Pod as is asked for.
pub(crate) fn list_with(
    layout: &Layout,
    namespace: Option<&str>,
    detail: Detail,
) -> Result<Vec<View>> {
    let mut found = Vec::new();
    let doing = || format!("list {}", layout.pods().display());
    let entries = match std::fs::read_dir(layout.pods()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e).with_context(doing),
    };
    let mut uids = Vec::new();
    for entry in entries {
        let name = entry.with_context(doing)?.file_name();
        let name = name.to_string_lossy();
        match name.starts_with('.') {
            // What cannot be removed now is tried at the next look; a look shows what there
            // is, whatever is broken.
            true => drop(collect_garbage(layout, &name)),
            false => uids.push(name.into_owned()),
        }
    }
    let pods = store::Dir::open(&layout.pods())?;
    let recorded = read_records(&pods, &uids, namespace, detail);
    // Here and not in those threads: what is not clear from records may take a new
    // monitor, and a program with threads must not clone itself.
    for (uid, recorded) in uids.iter().zip(recorded) {
        let view = match recorded {
            Recorded::Attended(view) => Ok(Some(*view)),
            Recorded::OfAnotherNamespace => Ok(None),
            Recorded::Unclear => find_out(layout, &pods, uid, namespace),
        };
        match view {
            Ok(v) => found.extend(v),
            // Deleted while we looked.
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    // A Pod whose name was given away by force is not one that people mean.
    match store::Dir::open(&layout.names()) {
        Ok(names) => found.retain(|v| {
            let link = Path::new(&v.pod.namespace).join(&v.pod.name);
            names.read_link(&link).is_ok_and(|uid| uid == *v.pod.uid)
        }),
        Err(e) if e.kind() == Kind::NotFound => found.clear(),
        Err(e) => return Err(e),
    }
    found.sort_by(|a, b| (&a.pod.namespace, &a.pod.name).cmp(&(&b.pod.namespace, &b.pod.name)));
    Ok(found)
}

/// # Errors
/// [`Kind::NotFound`].
pub(crate) fn find(layout: &Layout, namespace: &str, name: &str) -> Result<View> {
    let not_found = || absent(layout, namespace, name);
    let uid = name_owner(layout, namespace, name).ok_or_else(not_found)?;
    let found = store::Dir::open(&layout.pods())
        .and_then(|pods| view(layout, &pods, &uid, None, Detail::Whole));
    match found {
        Ok(Some(v)) => Ok(v),
        Err(e) if e.kind() != Kind::NotFound => Err(e),
        _ => Err(not_found()),
    }
}

/// What is known of a Pod by reading alone.
enum Recorded {
    /// It has a live monitor, which has written all that it knows.
    Attended(Box<View>),
    OfAnotherNamespace,
    /// [`find_out`] has to.
    Unclear,
}

/// In the order of `uids`; by several threads where there are many.
fn read_records(
    pods: &store::Dir,
    uids: &[String],
    namespace: Option<&str>,
    detail: Detail,
) -> Vec<Recorded> {
    /// Of so few the reading takes no longer than the start of a thread.
    const FEW: usize = 32;
    /// More would wait for each other in the kernel.
    const THREADS: usize = 4;
    let read = |uids: &[String]| -> Vec<Recorded> {
        let read = |uid: &String| read_record(pods, uid, namespace, detail);
        uids.iter().map(read).collect()
    };
    if uids.len() <= FEW {
        return read(uids);
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
    std::thread::scope(|scope| {
        let mut shares = uids.chunks(uids.len().div_ceil(threads));
        let first = shares.next().unwrap_or_default();
        let others: Vec<_> = shares
            .map(|share| {
                // Without a thread (a limit on processes), by this one.
                let thread = std::thread::Builder::new().spawn_scoped(scope, || read(share));
                (share, thread.ok())
            })
            .collect();
        let mut all = read(first);
        for (share, thread) in others {
            let joined = thread.and_then(|t| t.join().ok());
            all.extend(joined.unwrap_or_else(|| read(share)));
        }
        all
    })
}

/// Three opened files. `pods` is [`Layout::pods`].
fn read_record(pods: &store::Dir, uid: &str, namespace: Option<&str>, detail: Detail) -> Recorded {
    let paths = PodPaths::below_pods(uid);
    let pod = match load_pod(pods, &paths, detail) {
        Ok(pod) if pod.version == Pod::VERSION => pod,
        _ => return Recorded::Unclear,
    };
    if namespace.is_some_and(|n| n != pod.namespace) {
        return Recorded::OfAnotherNamespace;
    }
    if !pods.is_lock_held(&paths.monitor_lock()).unwrap_or(false) {
        return Recorded::Unclear;
    }
    match pods.load_marked::<State>(&paths.state()) {
        Ok((state, false)) if state.version == State::VERSION && !pods.is_read_only() => {
            Recorded::Attended(Box::new(View::new(pod, Some(state))))
        }
        _ => Recorded::Unclear,
    }
}

fn load_pod(pods: &store::Dir, paths: &PodPaths, detail: Detail) -> Result<Pod> {
    match detail {
        Detail::Whole => pods.load::<Pod>(&paths.record()),
        Detail::Summary => pods
            .load::<Pod<IgnoredAny>>(&paths.record())
            .map(Pod::without_manifest),
    }
}

/// `None` if the Pod is of another namespace than the one that is asked for. `pods` is
/// [`Layout::pods`].
fn view(
    layout: &Layout,
    pods: &store::Dir,
    uid: &str,
    namespace: Option<&str>,
    detail: Detail,
) -> Result<Option<View>> {
    match read_record(pods, uid, namespace, detail) {
        Recorded::Attended(view) => Ok(Some(*view)),
        Recorded::OfAnotherNamespace => Ok(None),
        Recorded::Unclear => find_out(layout, pods, uid, namespace),
    }
}

/// Of a Pod of which [`read_record`] has not said all: a new one, one whose records are
/// damaged or behind, or one without a monitor, which gets a new one.
fn find_out(
    layout: &Layout,
    pods: &store::Dir,
    uid: &str,
    namespace: Option<&str>,
) -> Result<Option<View>> {
    let (pod, damaged) = damage::load_pod(layout, uid)?;
    if namespace.is_some_and(|n| n != pod.namespace) {
        return Ok(None);
    }
    if let Some(why) = damaged {
        return Ok(Some(View::new(pod, Some(damage::state(&why)))));
    }
    let lock = PodPaths::below_pods(uid).monitor_lock();
    let revived = !pods.is_lock_held(&lock)? && layout.pod(uid).dir.exists();
    if revived && let Err(e) = monitor::start(layout, uid) {
        return unattended(layout, pod, e).map(Some);
    }
    let state = match (revived, damage::load_state(layout, uid)) {
        // Nothing has been seen of it yet.
        (false, Ok(None)) => None,
        // A monitor's first act is to look at what there is: what was written before may
        // be long wrong. One that lives knows more than a record that is marked as stale,
        // and writes a damaged one anew at the next change.
        (_, recorded) => match (ask_state(layout, uid), recorded) {
            (Some(state), _) => Some(state),
            (None, Ok(state)) => state,
            (None, Err(e)) => Some(damage::state(&e)),
        },
    };
    Ok(Some(View::new(pod, state)))
}

/// The Pod as it is recorded now; `None` if that cannot be read.
pub(super) fn recorded(layout: &Layout, uid: &str) -> Option<Pod> {
    store::load_existing(&layout.pod(uid).record()).ok()
}

/// A Pod whose monitor is dead and cannot be started: a read-only filesystem, a limit
/// on processes.
fn unattended(layout: &Layout, pod: Pod, why: Error) -> Result<View> {
    if !layout.pod(&pod.uid).dir.exists() {
        return Err(why.with_kind(Kind::NotFound));
    }
    let state = match damage::load_state(layout, &pod.uid) {
        Ok(state) => state.map(damage::without_the_dead),
        Err(e) => Some(damage::state(&e)),
    };
    Ok(View {
        pod,
        state,
        unattended: Some(why),
    })
}

/// The state as the monitor has it.
fn ask_state(layout: &Layout, uid: &str) -> Option<State> {
    let connection = Connection::open(layout, uid).ok()?;
    connection.send(&Request::State, &[]).ok()?;
    match connection.recv(Some(Duration::from_secs(10))) {
        Ok(Some((Reply::State(state), _))) => Some(*state),
        _ => None,
    }
}

/// Bytes of a Pod's record, which every command reads: many times those of a manifest, which
/// has 1 MiB at most. Each change may add so much.
const RECORD_MOST: usize = 16 << 20;

/// Changes the record of a Pod and has the monitor act on it, unless `change` says that
/// nothing has changed. No other change comes between. Returns the Pod as it is recorded then.
pub(super) fn change(
    layout: &Layout,
    uid: &str,
    change: impl FnOnce(&mut Pod) -> Result<bool>,
) -> Result<Pod> {
    let path = layout.pod(uid).record();
    let names = lock_names(layout)?;
    let mut pod: Pod = store::load_existing(&path)?;
    if !change(&mut pod)? {
        return Ok(pod);
    }
    let size = serde_json::to_string(&pod)?.len();
    if size > RECORD_MOST {
        return Err(Error::invalid(format!(
            "pod {}: its record would have {size} bytes; at most {RECORD_MOST} are possible",
            pod.name
        )));
    }
    store::save(&path, &pod)?;
    drop(names);
    let connection = Connection::open(layout, uid)?;
    connection.send(&Request::Update, &[])?;
    match connection.recv(Some(Duration::from_secs(10)))? {
        Some((Reply::Failed(e), _)) => Err(e),
        // A monitor that has died reads the record at its next start.
        _ => Ok(pod),
    }
}

/// A directory whose owner died. `.new-` is made and renamed under the names'
/// lock, so that one that is there under it has nobody; `.dead-` is its monitor's
/// while that lives.
fn collect_garbage(layout: &Layout, name: &str) -> Result<()> {
    let dir = layout.pods().join(name);
    if Lock::is_held(&dir.join("monitor.lock"))? {
        return Ok(());
    }
    let names = lock_names(layout)?;
    // Its name was taken, perhaps; or it was killed before it wrote the record.
    let pod = store::load_existing::<Pod>(&dir.join("pod.json")).ok();
    if let Some(pod) = &pod {
        release_name(layout, pod)?;
    }
    if name.starts_with(".new-") {
        remove_tree(&dir)?;
    }
    drop(names);
    if let Some(pod) = &pod {
        // Its monitor may have been killed before it did.
        claims::release(layout, pod)?;
    }
    monitor::remove_shared(layout)?;
    remove_tree(&dir)
}
