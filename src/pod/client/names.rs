//! The names of Pods: a link in the directory of its namespace each, whose target is the UID.
//! A name whose Pod does not exist is free.

use std::path::Path;

use crate::nearest::nearest;
use crate::pod::damage;
use crate::spec::Pod;
use crate::store::{self, Layout, Lock};
use crate::{Context, Error, Ignored, Result};

/// The error that there is no Pod of this name, with the name that was meant where one is
/// near: of this namespace, or the same of another.
pub(crate) fn absent(layout: &Layout, namespace: &str, name: &str) -> Error {
    let names_in = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        names.collect()
    };
    let here = names_in(&layout.names().join(namespace));
    let elsewhere = || {
        let mut namespaces = names_in(&layout.names());
        namespaces.sort_unstable();
        namespaces
            .into_iter()
            .find(|n| n != namespace && name_owner(layout, n, name).is_some())
    };
    let list = format!("`carob get pods -n {namespace}` lists those there are");
    let hint = match nearest(name, here.iter().map(String::as_str)) {
        Some(other) => format!("did you mean {other}? {list}"),
        None => match elsewhere() {
            Some(other) => format!("there is one in the namespace {other}: -n {other}"),
            None => list,
        },
    };
    Error::not_found(format!("pods {name:?} not found")).hint(hint)
}

/// Frees the name of a Pod that is being deleted by force.
pub(crate) fn force_release_name(layout: &Layout, pod: &Pod) -> Result<()> {
    let _names = lock_names(layout)?;
    release_name(layout, pod)
}

/// Removes the name if it is this Pod's. The caller holds the names' lock.
pub(in crate::pod) fn release_name(layout: &Layout, pod: &Pod) -> Result<()> {
    let link = layout.name_link(&pod.namespace, &pod.name);
    if owns_name(layout, pod) {
        std::fs::remove_file(&link).with_context(|| format!("unlink({})", link.display()))?;
    }
    // Where it was to be, too: a creation may have been cut short before.
    if let Some(namespace) = link.parent() {
        std::fs::remove_dir(namespace).ignored("other Pods of the namespace may be in it");
    }
    Ok(())
}

pub(in crate::pod) fn lock_names(layout: &Layout) -> Result<Lock> {
    Lock::acquire(&layout.names_lock())
}

pub(super) fn take_name(layout: &Layout, pod: &Pod) -> Result<()> {
    let link = layout.name_link(&pod.namespace, &pod.name);
    if check_name(layout, pod)?.is_some() {
        std::fs::remove_file(&link).with_context(|| format!("unlink({})", link.display()))?;
    }
    if let Some(namespace) = link.parent() {
        store::make_dir(namespace)?;
    }
    std::os::unix::fs::symlink(&pod.uid, &link)
        .with_context(|| format!("symlink({}, {})", pod.uid, link.display()))
}

/// Whether the Pod may have its name. The result is the one that had it last and is no more.
pub(super) fn check_name(layout: &Layout, pod: &Pod) -> Result<Option<String>> {
    let Some(owner) = name_owner(layout, &pod.namespace, &pod.name) else {
        return Ok(None);
    };
    if !layout.pod(&owner).dir.exists() {
        return Ok(Some(owner));
    }
    let state = damage::load_state(layout, &owner).ok().flatten();
    if state.is_some_and(|state| state.deletion.is_some()) {
        return Err(being_deleted(pod));
    }
    Err(
        Error::conflict(format!("pods {:?} already exists", pod.name)).hint(format!(
            "delete it first (carob delete pod {}), or choose another name",
            pod.as_arguments()
        )),
    )
}

/// The error where the name belongs to a Pod that ends.
pub(crate) fn being_deleted(pod: &Pod) -> Error {
    Error::conflict(format!("pods {:?} is being deleted", pod.name)).hint(format!(
        "wait for its end: carob wait pod/{} -n {} --for=delete",
        pod.name, pod.namespace
    ))
}

pub(super) fn name_owner(layout: &Layout, namespace: &str, name: &str) -> Option<String> {
    let target = std::fs::read_link(layout.name_link(namespace, name)).ok()?;
    target.to_str().map(str::to_owned)
}

fn owns_name(layout: &Layout, pod: &Pod) -> bool {
    name_owner(layout, &pod.namespace, &pod.name).as_deref() == Some(&pod.uid)
}
