//! PersistentVolumeClaims: a directory of this machine each, `claims/<uid>` below the root's
//! data, which outlives the Pods that mount it. That of a claim whose size holds has a file in
//! it, which is mounted, or a block device of containers ([`disks`]).
//!
//! A claim goes when it is deleted and no Pod uses it any more, as `pvc-protection` of a
//! cluster has it: the deletion is written down first, and whoever finds no more users
//! removes the data, then the record. A Pod writes down that it takes its claims before it
//! looks at them, so that either the Pod finds the deletion or the deletion finds the Pod;
//! where it does not get them, it takes that back, and holds nothing up while it waits.
//!
//! The claim of an `ephemeral` volume is made for one Pod, and goes with it.

mod disks;

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::list_uids;
use super::state::{Now, State};
use super::{damage, status};
use crate::linux::mount;
use crate::linux::root::{open_dir, remove_tree};
use crate::linux::selinux::{self, Context as Label};
use crate::object;
use crate::spec::{Object, ObjectKind, Owner, Pod, VolumeSource};
use crate::store::{self, Layout, make_dir};
use crate::volume::owner;
use crate::{Context, Error, Ignored, Kind, Result};

pub(crate) use disks::{
    Places, data_of_mount, devices_of_roots, expand, held, places, release_unused, remove_all,
};

const KIND: ObjectKind = ObjectKind::PersistentVolumeClaim;

/// Takes the claims that a Pod names, and makes their directories where they are not there.
/// `label`: the SELinux label of the Pod's files.
///
/// # Errors
/// [`Kind::NotFound`]: there is no such claim. [`Kind::Conflict`]: one that goes, or that
/// another Pod has.
pub(crate) fn take(layout: &Layout, pod: &Pod, label: Option<&str>) -> Result<()> {
    if pod.spec.claims().next().is_none() {
        return Ok(());
    }
    let taken = layout.pod(&pod.uid).claims_taken();
    store::save_json(&taken, "true")?;
    disks::check_modes(layout, pod)?;
    for volume in &pod.spec.volumes {
        if let VolumeSource::Claim { name, template, .. } = &volume.source {
            take_one(layout, pod, name, template.as_ref(), label)
                .with_context(|| format!("volume {}", volume.name))?;
        }
    }
    Ok(())
}

/// What follows where the Pod does not start with what it has taken: it holds nothing up.
pub(crate) fn give_back(layout: &Layout, pod: &Pod) {
    if std::fs::remove_file(layout.pod(&pod.uid).claims_taken()).is_ok() {
        // A deletion may have waited for this Pod alone meanwhile.
        release(layout, pod).ignored("the next Pod that ends looks again");
    }
}

/// The group that the Pod's volumes are given, and whether only those that have another.
fn fs_group(pod: &Pod) -> Option<(u32, bool)> {
    let mut security = pod.spec.all_containers().map(|c| &c.security);
    security.find_map(|s| Some((s.fs_group?, s.fs_group_on_mismatch)))
}

/// Whether the files of a claim are to be given to the Pod's fsGroup: [`give_to_group`].
pub(crate) fn has_group_to_give(pod: &Pod) -> bool {
    fs_group(pod).is_some() && writable(pod).next().is_some()
}

/// The volumes that are claims to which the Pod may write.
fn writable(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec.volumes.iter().filter_map(|v| match &v.source {
        VolumeSource::Claim { read_only, .. } => (!read_only).then_some(v.name.as_str()),
        _ => None,
    })
}

/// Gives the claims that the Pod has taken to its fsGroup. That takes as long as there are
/// files: `seen` is told of each, with its volume and the group.
pub(crate) fn give_to_group(
    layout: &Layout,
    pod: &Pod,
    seen: &mut dyn FnMut(&str, u32),
) -> Result<()> {
    let Some((gid, on_mismatch)) = fs_group(pod) else {
        return Ok(());
    };
    let dirs = places(layout, pod)?.dirs;
    for volume in writable(pod) {
        let Some(dir) = dirs.get(volume) else {
            continue;
        };
        open_dir(dir)
            .and_then(|dir| owner::change(dir.as_fd(), gid, on_mismatch, &mut || seen(volume, gid)))
            .with_context(|| format!("volume {volume}: fsGroup"))?;
    }
    Ok(())
}

fn take_one(
    layout: &Layout,
    pod: &Pod,
    name: &str,
    template: Option<&Value>,
    label: Option<&str>,
) -> Result<()> {
    let claim = match (object::find(layout, KIND, &pod.namespace, name)?, template) {
        (Some(claim), None) => claim,
        (Some(claim), Some(_)) if owner_of(&claim) == Some(&pod.uid) => claim,
        (Some(_), Some(_)) => {
            let text = format!(
                "persistentvolumeclaim {name:?} was not created for pod {:?} (pod is not owner)",
                pod.name
            );
            return Err(Error::conflict(text)
                .hint("rename the Pod or the volume, or delete the claim: the Pod starts then"));
        }
        (None, Some(template)) => object::create(layout, &from_template(pod, name, template)?)?,
        (None, None) => {
            let text = format!("persistentvolumeclaim {name:?} not found");
            return Err(Error::not_found(text).hint(format!(
                "apply one of that name in namespace {}: the Pod starts when it is there",
                pod.namespace
            )));
        }
    };
    if claim.deletion.is_some() {
        let text = format!("persistentvolumeclaim {name:?} is being deleted");
        return Err(Error::conflict(text)
            .hint("it is removed when the last Pod that has it is deleted; apply it anew then"));
    }
    hold(layout, pod, &claim)?;
    if claim.claim_form().is_sized() {
        let label = label.and_then(Label::parse);
        let label = label.map(|label| for_all_pods(label).to_string());
        return disks::take(layout, &claim, label.as_deref());
    }
    let dir = layout.claim(&claim.uid);
    if !dir.exists() {
        // Two Pods may be the first at once.
        let _lock = object::lock(layout)?;
        if dir.exists() {
            return Ok(());
        }
        make_dir(&layout.claims())?;
        let new = layout.claims().join(format!(".new-{}", claim.uid));
        make_dir(&new)?;
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o777))
            .with_context(|| format!("chmod({}, 777)", new.display()))?;
        if let Some(label) = label.and_then(Label::parse) {
            selinux::label(&new, &for_all_pods(label).to_string())?;
        }
        std::fs::rename(&new, &dir).with_context(|| format!("rename({})", new.display()))?;
    }
    Ok(())
}

/// Pods of other levels mount the same directory.
fn for_all_pods(label: Label) -> Label {
    let level = label.level.as_deref().and_then(|l| l.split(':').next());
    Label {
        level: level.map(str::to_owned),
        ..label
    }
}

fn from_template(pod: &Pod, name: &str, template: &Value) -> Result<Object> {
    let mut metadata = json!({});
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let mut spec = template["spec"].clone();
    // As a claim of its own gets it.
    if spec["volumeMode"].is_null() {
        spec["volumeMode"] = "Filesystem".into();
    }
    Ok(Object {
        version: Object::VERSION,
        kind: KIND,
        namespace: pod.namespace.clone(),
        name: name.to_owned(),
        uid: object::new_uid()?,
        created: now(),
        resource_version: 0,
        owner: Some(Owner {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        }),
        deletion: None,
        capacity: None,
        manifest: json!({
            "apiVersion": "v1", "kind": KIND.kind(), "metadata": metadata,
            "spec": spec,
        }),
        applied: None,
    })
}

/// The uid of the Pod that an ephemeral claim was made for.
fn owner_of(claim: &Object) -> Option<&String> {
    claim.owner.as_ref().map(|owner| &owner.uid)
}

/// Takes a claim of ReadWriteOncePod for the Pod; others need not be taken.
fn hold(layout: &Layout, pod: &Pod, claim: &Object) -> Result<()> {
    if claim.manifest["spec"]["accessModes"] != json!(["ReadWriteOncePod"]) {
        return Ok(());
    }
    let _lock = object::lock(layout)?;
    make_dir(&layout.claims())?;
    let record = layout.claim_holder(&claim.uid);
    let holder = match store::load::<String>(&record) {
        Ok(uid) => Some(uid),
        Err(e) if e.kind() == Kind::NotFound => None,
        Err(e) => return Err(e),
    };
    let others = holder.filter(|uid| *uid != pod.uid);
    let others = others.map(|uid| user(layout, &uid, claim)).transpose()?;
    if let Some(other) = others.flatten() {
        let text = format!(
            "persistentvolumeclaim {:?}: pod {other:?} has it, and its access mode is \
             ReadWriteOncePod",
            claim.name
        );
        return Err(Error::conflict(text).hint("the Pod starts when the other one has ended"));
    }
    store::save_by(&new_holder(layout, claim), &record, &pod.uid)
}

/// What [`hold`] writes to before it gets its name. A writer that was killed leaves it to the
/// next, or to the claim's removal.
fn new_holder(layout: &Layout, claim: &Object) -> PathBuf {
    layout.claims().join(format!(".new-{}.holder", claim.uid))
}

/// Gives up the claims of ReadWriteOncePod that the Pod has for itself. Pods that wait for one
/// are woken by that: their monitors watch the directory of the records.
pub(crate) fn let_go(layout: &Layout, pod: &Pod) -> Result<()> {
    for (_, name) in pod.spec.claims() {
        let Some(claim) = object::find(layout, KIND, &pod.namespace, name)? else {
            continue;
        };
        let record = layout.claim_holder(&claim.uid);
        if !record.exists() {
            continue;
        }
        let _lock = object::lock(layout)?;
        if store::load::<String>(&record).is_ok_and(|holder| holder == pod.uid) {
            std::fs::remove_file(&record)
                .with_context(|| format!("unlink({})", record.display()))?;
        }
    }
    Ok(())
}

/// Whether another Pod than this one has the claim for itself, or had it when it ended.
pub(crate) fn is_held(layout: &Layout, claim: &Object, uid: &str) -> bool {
    let holder = store::load::<String>(&layout.claim_holder(&claim.uid));
    holder.is_ok_and(|holder| holder != uid)
}

/// The name of the Pod of this uid, if it uses the claim: one that is over does not.
///
/// # Errors
/// The Pod is there and its record cannot be read: then it may use any claim.
fn user(layout: &Layout, uid: &str, claim: &Object) -> Result<Option<String>> {
    let (pod, damaged) = match damage::load_pod(layout, uid) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        other => other?,
    };
    if let Some(e) = damaged {
        let text = format!("pod {uid}: which claims it uses is not known");
        return Err(e.push_context(text).hint(format!(
            "delete the Pod, whose record is damaged, first: {}",
            pod.as_arguments()
        )));
    }
    let names = pod.spec.claims().any(|(_, name)| name == claim.name);
    let has_taken = layout.pod(uid).claims_taken().exists();
    if pod.namespace != claim.namespace || !names || !has_taken {
        return Ok(None);
    }
    // One whose state cannot be read may run.
    let state = damage::load_state(layout, uid);
    let is_over = state.is_ok_and(|s| is_over(&pod, s.as_ref()));
    Ok((!is_over).then_some(pod.name))
}

/// Whether the Pod needs its claims no more. One that has failed may have containers that are
/// still to end.
pub(crate) fn is_over(pod: &Pod, state: Option<&State>) -> bool {
    let containers = state.iter().flat_map(|s| s.containers.values());
    let runs = containers
        .map(|c| &c.now)
        .any(|now| matches!(now, Now::Running(_)));
    !runs && status::phase(pod, state).is_terminal()
}

/// The names of the Pods that use a claim.
///
/// # Errors
/// As [`user`].
pub(crate) fn users(layout: &Layout, claim: &Object) -> Result<Vec<String>> {
    let mut users = Vec::new();
    for uid in list_uids(layout)? {
        users.extend(user(layout, &uid, claim)?);
    }
    users.sort();
    Ok(users)
}

/// Asks for the deletion of a claim, and does it if no Pod uses it. The names of those that
/// do are what it waits for.
pub(crate) fn delete(layout: &Layout, claim: &Object) -> Result<Vec<String>> {
    let (namespace, name) = (&claim.namespace, &claim.name);
    let marked = object::change(layout, KIND, namespace, name, |old| {
        if old.uid != claim.uid {
            return Err(Error::not_found(format!(
                "{} {name:?} not found",
                KIND.plural()
            )));
        }
        Ok(Object {
            deletion: old.deletion.or_else(|| Some(now())),
            ..old.clone()
        })
    })?;
    let users = users(layout, &marked)?;
    if users.is_empty() {
        remove(layout, &marked)?;
    }
    Ok(users)
}

/// Goes on with the deletion of a claim that was begun and that no Pod holds up any more: the
/// process that did it may have been killed.
pub(crate) fn finish_deletion(layout: &Layout, namespace: &str, name: &str) -> Result<()> {
    match object::find(layout, KIND, namespace, name)? {
        Some(claim) if claim.deletion.is_some() => delete(layout, &claim).map(drop),
        _ => Ok(()),
    }
}

/// A record, as the API, counts whole seconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Data first: as long as there is any, a record names it.
fn remove(layout: &Layout, claim: &Object) -> Result<()> {
    if claim.claim_form().is_sized() {
        disks::release(layout, claim)?;
    }
    remove_tree(&layout.claims().join(format!(".new-{}", claim.uid)))?;
    mount::remove_written_tree(&layout.claim(&claim.uid))?;
    for file in [layout.claim_holder(&claim.uid), new_holder(layout, claim)] {
        std::fs::remove_file(file).ignored("most have none");
    }
    match object::remove(
        layout,
        KIND,
        &claim.namespace,
        &claim.name,
        Some(&claim.uid),
    ) {
        // Another has done it.
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

/// Removes the claims that nothing holds any more: those that were deleted while a Pod used
/// them, and those of ephemeral volumes whose Pod is gone.
pub(crate) fn collect(layout: &Layout) -> Result<()> {
    for claim in object::list(layout, KIND, None)? {
        let orphan = owner_of(&claim).is_some_and(|uid| !layout.pod(uid).dir.exists());
        if !orphan && claim.deletion.is_none() {
            continue;
        }
        // Where it is not known, it stays for the next look.
        if users(layout, &claim).is_ok_and(|users| users.is_empty()) {
            delete(layout, &claim)?;
        }
    }
    Ok(())
}

/// As [`collect`], once a Pod is gone.
pub(crate) fn release(layout: &Layout, pod: &Pod) -> Result<()> {
    let_go(layout, pod)?;
    for (_, name) in pod.spec.claims() {
        // What a container has left mounted there is no part of the claim for the next Pod.
        let Some(claim) = object::find(layout, KIND, &pod.namespace, name)? else {
            continue;
        };
        if claim.claim_form().is_sized() {
            disks::release(layout, &claim).ignored("what is not known is in use");
        } else if users(layout, &claim).is_ok_and(|users| users.is_empty()) {
            mount::unmount_all(&layout.claim(&claim.uid))?;
        }
    }
    match pod.spec.claims().next() {
        Some(_) => collect(layout),
        None => Ok(()),
    }
}
