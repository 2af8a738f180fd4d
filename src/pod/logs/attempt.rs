//! Which log of a container is meant: it has one for each attempt.

use std::path::PathBuf;

use super::attempts;
use crate::pod::client::View;
use crate::pod::reason::Reason;
use crate::pod::state::Now;
use crate::store::Layout;
use crate::{Error, Result};

/// The directory and the attempt whose log is meant: the container that runs or
/// that ran last; before a restart with `previous`.
///
/// # Errors
/// [`Kind::NotFound`]: there is no such log. [`Kind::Conflict`]: the container waits for its
/// first start; what it waits for is [`crate::pod::trouble::in_the_way`].
pub(crate) fn find_attempt(
    layout: &Layout,
    view: &View,
    container: &str,
    previous: bool,
) -> Result<(PathBuf, u32)> {
    let pod = &view.pod;
    let dir = layout
        .pod_logs(&pod.namespace, &pod.name, &pod.uid)
        .join(container);
    let seen = view
        .state
        .as_ref()
        .and_then(|s| s.containers.get(container));
    let waiting = seen.and_then(|s| match &s.now {
        Now::Waiting { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    let current = seen.map_or(0, |s| s.attempt);
    let restarted = seen.is_some_and(|s| s.last.is_some());
    let logs = attempts(&dir)?;
    if previous {
        // While it waits for its restart, the one that ran is the last one.
        let found = match waiting {
            Some(_) if restarted => logs.last(),
            _ => logs.iter().rev().find(|n| **n < current),
        };
        return found.map(|n| (dir.clone(), *n)).ok_or_else(|| {
            Error::not_found(format!(
                "previous terminated container {container:?} in pod {:?} not found",
                pod.name
            ))
        });
    }
    if waiting.is_some() && !restarted || seen.is_none() {
        let reason = waiting.unwrap_or(Reason::ContainerCreating.as_str());
        return Err(Error::conflict(format!(
            "container {container:?} in pod {:?} is waiting to start: {reason}",
            pod.name
        )));
    }
    logs.iter()
        .rev()
        .find(|n| **n <= current)
        .map(|n| (dir.clone(), *n))
        .ok_or_else(|| {
            Error::not_found(format!(
                "no log of container {container:?} in {}",
                dir.display()
            ))
        })
}
