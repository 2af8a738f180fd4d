//! What `apply`, `create`, `replace` and `delete` do with objects that are no Pods, told line
//! by line.

use crate::cli::face::{Face, warn};
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::output::{self, Format};
use crate::manifest::{Note, Parsed};
use crate::object;
use crate::pod::claims;
use crate::pod::verbs::{Grace, namespace, objects};
use crate::spec::{Object, ObjectKind};
use crate::{Error, Kind, Result};

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

/// Whether a note is told: what has no effect in a claim is told when it is made, and not at
/// each apply of it.
pub(crate) fn is_news(face: &Face, parsed: &Parsed, note: &Note) -> bool {
    let about = note.claim.as_ref().filter(|_| !note.is_warning());
    let claim = about.and_then(|uid| parsed.objects.iter().find(|o| o.uid == *uid));
    claim.is_none_or(|c| {
        let live = object::find(&face.layout, c.kind, &c.namespace, &c.name);
        live.is_ok_and(|live| live.is_none())
    })
}

/// Gives a claim the size that its record asks for now. Where that cannot be done yet, it is a
/// warning: the record is written.
pub(crate) fn expanded(face: &Face, object: Object, dry_run: bool) -> Object {
    if dry_run {
        return object;
    }
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

/// As it is kept, or would be.
pub(crate) fn shown(object: &Object, dry_run: bool) -> serde_json::Value {
    // What is there has a version already.
    match dry_run && object.resource_version == 0 {
        true => unkept(object),
        false => object.v1(),
    }
}

/// Does the same with each object of the manifests, which is given with the uid that the
/// manifest names.
pub(crate) fn each(
    parsed: &Parsed,
    errors: &mut Vec<Error>,
    act: impl Fn(&Object, Option<&str>) -> Result<Object>,
) -> Vec<Object> {
    let mut done = vec![];
    for object in &parsed.objects {
        let uid = parsed.given_uids.get(&object.uid).map(String::as_str);
        match act(object, uid) {
            Ok(object) => done.push(object),
            Err(e) => errors.push(e),
        }
    }
    done
}

/// How `delete` goes about it.
pub(crate) struct Deletion<'a> {
    pub format: &'a Format,
    pub grace: Grace,
    pub wait: bool,
    pub until: Option<std::time::Instant>,
    pub ignore_not_found: bool,
    pub dry_run: &'a DryRun,
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
            ObjectKind::Namespace if how.dry_run.is_server() => namespace::check_may_go(name),
            _ if how.dry_run.is_any() => Ok(()),
            ObjectKind::Namespace => {
                namespace::delete(&face.layout, name, how.grace, how.wait, how.until)
            }
            ObjectKind::PersistentVolumeClaim => match claims::delete(&face.layout, &object) {
                // The deletion is noted, and what it waits for is no error.
                Ok(users) if !users.is_empty() => {
                    warn(&objects::in_use(&object, &users).to_string());
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
            Ok(()) => announce(how.format, &object, how.dry_run.note())?,
            Err(e) if e.kind() == Kind::NotFound && how.ignore_not_found => {}
            Err(e) => errors.push(e),
        }
    }
    Ok(())
}

fn announce(format: &Format, object: &Object, note: &str) -> Result<()> {
    let (kind, name) = (object.kind.singular(), &object.name);
    let line = match format {
        Format::Name => format!("{kind}/{name}\n"),
        Format::Table { .. } if object.kind.is_namespaced() => {
            let namespace = &object.namespace;
            format!("{kind} {name:?} deleted{note} from {namespace} namespace\n")
        }
        Format::Table { .. } => format!("{kind} {name:?} deleted{note}\n"),
        // Shown as a whole, with the others.
        _ => return Ok(()),
    };
    output::text(&line, false)
}
