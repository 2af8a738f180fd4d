//! What `apply`, `create`, `replace` and `delete` do with objects that are no Pods, told line
//! by line.

use crate::cli::face::{Face, warn};
use crate::cli::show::output::{self, Format};
use crate::manifest::{self, Parsed};
use crate::object;
use crate::pod::claims;
use crate::pod::verbs::{Grace, namespace};
use crate::spec::{Object, ObjectKind};
use crate::{Error, Kind, Result};

/// How a verb says that it did nothing.
pub(crate) fn dry_note(dry_run: &str) -> &'static str {
    match dry_run {
        "client" => " (dry run)",
        "server" => " (server dry run)",
        _ => "",
    }
}

/// `configmap/web created`, unless the whole object is to be printed.
pub(crate) fn say_done(format: &Format, object: &Object, word: &str, note: &str) -> Result<()> {
    match format {
        Format::Table { .. } => {
            let line = format!("{} {word}{note}\n", object.reference());
            output::text(&line, false)
        }
        _ => Ok(()),
    }
}

/// As it would be shown, of one that is not kept.
pub(crate) fn unkept(object: &Object) -> serde_json::Value {
    let mut value = Object {
        uid: String::new(),
        created: jiff::Timestamp::UNIX_EPOCH,
        ..object.clone()
    }
    .v1();
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("status");
    }
    value
}

/// Applies all of them, in their order; one that cannot be made is no reason to leave out
/// those that follow.
pub(crate) fn apply(
    face: &Face,
    format: &Format,
    parsed: &Parsed,
    errors: &mut Vec<Error>,
) -> Result<Vec<Object>> {
    each(parsed, errors, |object, uid| {
        let merge = |live: &Object| manifest::merged_object(live, object, uid);
        let (kept, done) = object::apply(&face.layout, object, merge)?;
        say_done(format, &kept, done.word(), "")?;
        Ok(expand(face, kept))
    })
}

pub(crate) fn create(face: &Face, object: &Object, dry_run: bool) -> Result<Object> {
    match dry_run {
        true => object::check_absent(&face.layout, object).map(|()| object.clone()),
        false => object::create(&face.layout, object),
    }
}

pub(crate) fn replace(
    face: &Face,
    object: &Object,
    uid: Option<&str>,
    force: bool,
    dry_run: bool,
) -> Result<Object> {
    if force {
        return match dry_run {
            true => Ok(object.clone()),
            false if object.kind == ObjectKind::PersistentVolumeClaim => claim_anew(face, object),
            false => object::make_anew(&face.layout, object),
        };
    }
    let (kind, namespace, name) = (object.kind, &object.namespace, &object.name);
    let act = |live: &Object| manifest::replaced_object(live, object, uid);
    update(face, (kind, namespace, name), dry_run, act).map(|(new, _)| new)
}

/// As [`object::update`]; a claim gets the size that it asks for now.
pub(crate) fn update(
    face: &Face,
    (kind, namespace, name): (ObjectKind, &str, &str),
    dry_run: bool,
    act: impl Fn(&Object) -> Result<Object>,
) -> Result<(Object, bool)> {
    let (new, changed) = object::update(&face.layout, kind, namespace, name, dry_run, act)?;
    match dry_run {
        true => Ok((new, changed)),
        false => Ok((expand(face, new), changed)),
    }
}

/// What asks for more has been written down; that it has not come yet is no error.
fn expand(face: &Face, object: Object) -> Object {
    match claims::expand(&face.layout, &object) {
        Ok(object) => object,
        Err(e) => {
            let why = e
                .get_hint()
                .map_or(String::new(), |hint| format!(": {hint}"));
            warn(&format!(
                "{} {:?} has {} until a Pod takes it anew: {e}{why}",
                object.kind.plural(),
                object.name,
                object.capacity()
            ));
            object
        }
    }
}

/// Its data goes with it.
fn claim_anew(face: &Face, claim: &Object) -> Result<Object> {
    let (namespace, name) = (&claim.namespace, &claim.name);
    if let Some(old) = object::find(&face.layout, claim.kind, namespace, name)? {
        let users = claims::delete(&face.layout, &old)?;
        if !users.is_empty() {
            return Err(in_use(&old, &users));
        }
    }
    object::create(&face.layout, claim)
}

fn in_use(claim: &Object, users: &[String]) -> Error {
    let (name, pods) = (&claim.name, users.join(", "));
    Error::conflict(format!(
        "{} {name:?} is used by pods: {pods}: it goes with the last of them",
        claim.kind.plural()
    ))
}

/// Does the same with each object of the manifests, which is given with the uid that the
/// manifest names.
pub(crate) fn each(
    parsed: &Parsed,
    errors: &mut Vec<Error>,
    act: impl Fn(&Object, Option<&str>) -> Result<Object>,
) -> Result<Vec<Object>> {
    let mut done = vec![];
    for object in &parsed.objects {
        let uid = parsed.given_uids.get(&object.uid).map(String::as_str);
        match act(object, uid) {
            Ok(object) => done.push(object),
            Err(e) => errors.push(e),
        }
    }
    Ok(done)
}

/// How `delete` goes about it.
pub(crate) struct Deletion<'a> {
    pub format: &'a Format,
    pub grace: Grace,
    pub wait: bool,
    pub until: Option<std::time::Instant>,
    pub ignore_not_found: bool,
}

/// Removes them, the last kind first: what others are in goes at the end.
pub(crate) fn delete(
    face: &Face,
    mut objects: Vec<Object>,
    how: &Deletion<'_>,
    errors: &mut Vec<Error>,
) -> Result<()> {
    objects.sort_by_key(|o| std::cmp::Reverse(o.kind));
    for object in objects {
        let (kind, name) = (object.kind, &object.name);
        let done = match kind {
            ObjectKind::Namespace => {
                namespace::delete(&face.layout, name, how.grace, how.wait, how.until)
            }
            ObjectKind::PersistentVolumeClaim => match claims::delete(&face.layout, &object) {
                // The deletion is noted, and what it waits for is no error.
                Ok(users) if !users.is_empty() => {
                    warn(&in_use(&object, &users).to_string());
                    Ok(())
                }
                done => done.map(drop),
            },
            _ => object::remove(
                &face.layout,
                kind,
                &object.namespace,
                name,
                Some(&object.uid),
            )
            .map(drop),
        };
        match done {
            Ok(()) => announce(how.format, &object)?,
            Err(e) if e.kind() == Kind::NotFound && how.ignore_not_found => {}
            Err(e) => errors.push(e),
        }
    }
    Ok(())
}

fn announce(format: &Format, object: &Object) -> Result<()> {
    let (kind, name) = (object.kind.singular(), &object.name);
    let line = match format {
        Format::Name => format!("{kind}/{name}\n"),
        Format::Table { .. } if object.kind.is_namespaced() => {
            let namespace = &object.namespace;
            format!("{kind} {name:?} deleted from {namespace} namespace\n")
        }
        Format::Table { .. } => format!("{kind} {name:?} deleted\n"),
        // Shown as a whole, with the others.
        _ => return Ok(()),
    };
    output::text(&line, false)
}
