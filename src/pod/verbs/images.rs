//! Which images Pods use, so that no other verb takes them away.

use std::collections::BTreeSet;

use crate::pod::client;
use crate::pod::state::State;
use crate::store::Layout;
use crate::{Error, Result};

/// The IDs of images that Pods have.
pub(crate) fn used(layout: &Layout) -> Result<BTreeSet<String>> {
    let states = client::list(layout, None)?
        .into_iter()
        .filter_map(|v| Some((v.pod, v.state?)));
    let states: Vec<State> = states
        .map(|(pod, state)| match &state.damaged {
            None => Ok(state),
            Some(why) => Err(Error::conflict(format!(
                "the images that pod {}/{} uses are not known: {why}",
                pod.namespace, pod.name
            ))
            .hint(format!(
                "delete it first: carob delete pod {} -n {}",
                pod.name, pod.namespace
            ))),
        })
        .collect::<Result<_>>()?;
    Ok(image_ids(states))
}

/// As [`used`], without those of Pods whose record cannot be read.
pub(crate) fn known(layout: &Layout) -> Result<BTreeSet<String>> {
    let views = client::list(layout, None)?;
    Ok(image_ids(
        views.into_iter().filter_map(|v| v.state).collect(),
    ))
}

fn image_ids(states: Vec<State>) -> BTreeSet<String> {
    let containers = states.into_iter().flat_map(|s| s.containers.into_values());
    containers
        .flat_map(|c| c.images().cloned().collect::<Vec<_>>())
        .collect()
}
