//! A Pod becomes as its manifest says: made, changed in place, or deleted and made anew.

use super::change::{Changed, Make, change};
use super::delete::{self, Grace};
use crate::object::{self, Done};
use crate::pod::client::{self, View};
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// How [`apply`] goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// One that cannot be changed so is deleted, with this grace, and made anew.
    pub replace: Option<Grace>,
    /// Every check is made, and nothing is done.
    pub dry_run: bool,
}

#[derive(Debug)]
pub(crate) struct Applied {
    pub done: Done,
    /// Of the Pod that there is now.
    pub uid: String,
    /// What the caller should be warned of.
    pub warnings: Vec<Error>,
    /// What becomes of the Pod that is there; `None` of one that is new.
    pub would_be: Option<View>,
}

/// Makes the Pod, or changes what may be changed of the one of its name, which becomes what
/// `merge` makes of its record.
pub(crate) fn apply(layout: &Layout, pod: &Pod, how: How, merge: Make) -> Result<Applied> {
    let create = |done| {
        let warnings = match (how.dry_run, done) {
            (true, Done::Created) => client::check_create(layout, pod).map(|()| vec![]),
            (true, _) => {
                object::check_namespace(layout, "pods", &pod.namespace, &pod.name).map(|()| vec![])
            }
            (false, _) => client::create(layout, pod),
        };
        Ok(Applied {
            done,
            warnings: warnings?,
            uid: pod.uid.clone(),
            would_be: None,
        })
    };
    let view = match client::find(layout, &pod.namespace, &pod.name) {
        Ok(v) => v,
        Err(e) if e.kind() == Kind::NotFound => return create(Done::Created),
        Err(e) => return Err(e),
    };
    let Changed { pod, changed } = match (change(layout, &view, merge, how.dry_run), how.replace) {
        (Ok(changed), _) => changed,
        (Err(e), Some(grace)) if matches!(e.kind(), Kind::Conflict | Kind::Invalid) => {
            if !how.dry_run {
                delete::delete(layout, &view, grace, None)?;
            }
            return create(Done::Replaced);
        }
        (Err(e), _) => return Err(e),
    };
    Ok(Applied {
        done: match changed {
            true => Done::Configured,
            false => Done::Unchanged,
        },
        uid: pod.uid.clone(),
        warnings: vec![],
        would_be: Some(View { pod, ..view }),
    })
}
