//! Makes and changes objects that are no Pods. `dry_run`: every check is made, and the result
//! is what would be kept; nothing is written.

use crate::object::{self, Done};
use crate::pod::claims;
use crate::spec::{Object, ObjectKind};
use crate::store::Layout;
use crate::{Error, Kind, Result};

/// What an object is to become, from what it is.
pub(crate) type Make<'a> = &'a dyn Fn(&Object) -> Result<Object>;

/// Makes it, or makes of the one of its name what `merge` says. `force`: one that cannot
/// become that is deleted and made anew.
pub(crate) fn apply(
    layout: &Layout,
    object: &Object,
    force: bool,
    dry_run: bool,
    merge: Make,
) -> Result<(Object, Done)> {
    if object.kind == ObjectKind::PersistentVolumeClaim && !dry_run {
        // Of a deletion that was cut short: what is applied is another claim then.
        claims::finish_deletion(layout, &object.namespace, &object.name)?;
    }
    match object::apply(layout, object, dry_run, merge) {
        Err(e) if force && matches!(e.kind(), Kind::Conflict | Kind::Invalid) => {
            Ok((anew(layout, object, dry_run)?, Done::Replaced))
        }
        done => done,
    }
}

pub(crate) fn create(layout: &Layout, object: &Object, dry_run: bool) -> Result<Object> {
    match dry_run {
        true => object::check_absent(layout, object).map(|()| object.unkept()),
        false => object::create(layout, object),
    }
}

/// `force`: in the place of one of its name, if there is one.
pub(crate) fn replace(
    layout: &Layout,
    object: &Object,
    force: bool,
    dry_run: bool,
    make: Make,
) -> Result<Object> {
    if force {
        return anew(layout, object, dry_run);
    }
    let (kind, namespace, name) = (object.kind, &object.namespace, &object.name);
    object::update(layout, kind, namespace, name, dry_run, make).map(|(new, _)| new)
}

/// The data of a claim goes with the one that was there.
fn anew(layout: &Layout, object: &Object, dry_run: bool) -> Result<Object> {
    let (kind, namespace) = (object.kind, &object.namespace);
    object::check_namespace(layout, kind.plural(), namespace, &object.name)?;
    let old = match kind {
        ObjectKind::PersistentVolumeClaim => object::find(layout, kind, namespace, &object.name)?,
        _ => None,
    };
    if let Some(old) = &old {
        // One that may not go now is not to go later, either.
        let users = claims::users(layout, old)?;
        if !users.is_empty() {
            return Err(in_use(old, &users));
        }
    }
    if dry_run {
        return Ok(object.unkept());
    }
    if kind != ObjectKind::PersistentVolumeClaim {
        return object::make_anew(layout, object);
    }
    if let Some(old) = old {
        // A Pod may have taken it meanwhile.
        let users = claims::delete(layout, &old)?;
        if !users.is_empty() {
            return Err(in_use(&old, &users));
        }
    }
    object::create(layout, object)
}

pub(crate) fn in_use(claim: &Object, users: &[String]) -> Error {
    let (name, pods) = (&claim.name, users.join(", "));
    Error::conflict(format!(
        "{} {name:?} is used by pods: {pods}: it goes with the last of them",
        claim.kind.plural()
    ))
}
