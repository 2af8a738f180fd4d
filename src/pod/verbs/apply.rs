//! A Pod becomes as its manifest says: made, changed in place, or deleted and made anew.

use super::change::{Changed, Make, change};
use super::delete::{self, Grace};
use crate::pod::client;
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// What was done to a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Unchanged,
    Configured,
    Replaced,
}

impl Done {
    /// kubectl's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Done::Created => "created",
            Done::Unchanged => "unchanged",
            Done::Configured => "configured",
            Done::Replaced => "replaced",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Applied {
    pub done: Done,
    /// Of the Pod that there is now.
    pub uid: String,
    /// What the caller should be warned of.
    pub warnings: Vec<Error>,
}

/// Makes the Pod, or changes what may be changed of the one of its name, which becomes what
/// `merge` makes of its record. `replace`: one that cannot be changed so is deleted, with
/// this grace, and made anew.
pub(crate) fn apply(
    layout: &Layout,
    pod: &Pod,
    replace: Option<Grace>,
    merge: Make,
) -> Result<Applied> {
    let create = |done| {
        Ok(Applied {
            done,
            warnings: client::create(layout, pod)?,
            uid: pod.uid.clone(),
        })
    };
    let view = match client::find(layout, &pod.namespace, &pod.name) {
        Ok(v) => v,
        Err(e) if e.kind() == Kind::NotFound => return create(Done::Created),
        Err(e) => return Err(e),
    };
    let done = match (change(layout, &view, merge, false), replace) {
        (Ok(Changed { changed: false, .. }), _) => Done::Unchanged,
        (Ok(_), _) => Done::Configured,
        (Err(e), Some(grace)) if matches!(e.kind(), Kind::Conflict | Kind::Invalid) => {
            delete::delete(layout, &view, grace, None)?;
            return create(Done::Replaced);
        }
        (Err(e), _) => return Err(e),
    };
    Ok(Applied {
        done,
        uid: view.pod.uid,
        warnings: vec![],
    })
}
