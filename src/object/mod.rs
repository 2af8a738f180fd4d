//! The objects that carob keeps for Pods: ConfigMaps, Secrets, claims and namespaces, each a
//! record of its own below `/var/lib/carob/objects`.
//!
//! A reader takes no lock: a record is replaced by rename(2), so that it is read whole. A
//! writer holds the lock of all objects while it reads, decides and writes, so that no
//! change of another is lost. The directory of a kind and namespace can be watched; what
//! tells of a change is the rename.
//!
//! What `create` makes objects of is read here too ([`sources`], [`hash`], [`pair`]).
//!
//! A Secret's values may be encrypted on the disk ([`seal`], [`key`], [`encryption`]). What asks
//! for an object gets it in clear; what needs no values asks for its outline, for which no key
//! is needed.
//!
//! Nothing here is printed, and errors name an object, never what it holds.

mod encryption;
mod hash;
mod key;
mod pair;
mod seal;
mod sources;
mod watch;

use std::path::Path;

use crate::spec::{Object, ObjectKind};
use crate::store::{self, Layout, Lock, make_dir};
use crate::{Context, Error, Result};

use key::KeyRecord;
use seal::Kept;

pub(crate) use encryption::{decrypt_all, encrypt_all, encryption, try_key};
pub(crate) use hash::{go_json, suffix};
pub(crate) use key::forget_key;
pub(crate) use pair::check_pair;
pub(crate) use sources::{Data, Sources};
pub(crate) use watch::Watcher;

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Unchanged,
    Configured,
    /// Deleted and made anew.
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

/// The object of this name; `None` where there is none.
///
/// # Errors
/// Its record cannot be read, is damaged or of another version, or it cannot be decrypted.
pub(crate) fn find(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
) -> Result<Option<Object>> {
    let mut next = load(layout, kind, namespace, name)?;
    while let Some(kept) = next {
        let mark = kept.mark();
        let e = match opened(layout, kept) {
            Ok(object) => return Ok(Some(object)),
            Err(e) => e,
        };
        // All Secrets may be decrypted meanwhile, and the key be gone.
        next = load(layout, kind, namespace, name)?;
        if next.as_ref().is_some_and(|now| now.mark() == mark) {
            return Err(e.push_context(format!("{} {name:?}", kind.singular())));
        }
    }
    Ok(None)
}

/// As [`find`], but of a Secret that is encrypted only what stays readable: all but its values.
pub(crate) fn outline(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
) -> Result<Option<Object>> {
    Ok(load(layout, kind, namespace, name)?.map(|kept| kept.object))
}

/// An object is the one that its record's place names.
fn load(layout: &Layout, kind: ObjectKind, namespace: &str, name: &str) -> Result<Option<Kept>> {
    let mut kept: Option<Kept> =
        store::load_versioned(&layout.object(kind.plural(), namespace, name))
            .with_context(|| format!("{} {name:?}", kind.singular()))?;
    if let Some(kept) = &mut kept {
        kept.object.namespace = namespace.to_owned();
        kept.object.name = name.to_owned();
    }
    Ok(kept)
}

/// In clear.
fn opened(layout: &Layout, kept: Kept) -> Result<Object> {
    let Some(sealed) = &kept.sealed else {
        return Ok(kept.object);
    };
    let record = KeyRecord::load(layout)?.filter(|r| r.id == sealed.key);
    let record = record.ok_or_else(|| encryption::no_key(layout))?;
    kept.open(&record.open(layout)?)
}

/// As [`find`], where one that is missing is [`crate::Kind::NotFound`].
pub(crate) fn get(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
) -> Result<Object> {
    find(layout, kind, namespace, name)?.ok_or_else(|| not_found(kind, namespace, name))
}

/// As [`outline`], where one that is missing is [`crate::Kind::NotFound`].
pub(crate) fn get_outline(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
) -> Result<Object> {
    outline(layout, kind, namespace, name)?.ok_or_else(|| not_found(kind, namespace, name))
}

/// The [outlines](outline) of a kind in one namespace, or in all, by namespace and name.
pub(crate) fn list(
    layout: &Layout,
    kind: ObjectKind,
    namespace: Option<&str>,
) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    let namespaces = match (kind.is_namespaced(), namespace) {
        (false, _) => vec![String::new()],
        (true, Some(one)) => vec![one.to_owned()],
        (true, None) => names_in(&layout.objects_of(kind.plural()))?,
    };
    for namespace in namespaces {
        for name in names_in(&layout.objects_in(kind.plural(), &namespace))? {
            // One that goes meanwhile is none.
            objects.extend(outline(layout, kind, &namespace, &name)?);
        }
    }
    Ok(objects)
}

/// Makes it. The result is what is kept: with its first resource version.
///
/// # Errors
/// [`crate::Kind::Conflict`]: there is one of the name.
pub(crate) fn create(layout: &Layout, object: &Object) -> Result<Object> {
    let _lock = lock(layout)?;
    check_absent(layout, object)?;
    write(layout, object, 1)
}

/// What [`create`] would refuse.
pub(crate) fn check_absent(layout: &Layout, object: &Object) -> Result<()> {
    let (kind, namespace) = (object.kind, &object.namespace);
    check_namespace(layout, kind.plural(), namespace, &object.name)?;
    match outline(layout, object.kind, &object.namespace, &object.name)? {
        Some(_) => Err(exists(object)),
        None => Ok(()),
    }
}

/// Whether something new may be in a namespace: not in one that is being deleted
/// (NamespaceLifecycle of an API server). `what`: the plural of its kind.
///
/// # Errors
/// [`crate::Kind::Conflict`].
pub(crate) fn check_namespace(
    layout: &Layout,
    what: &str,
    namespace: &str,
    name: &str,
) -> Result<()> {
    if namespace.is_empty() {
        return Ok(());
    }
    let kept = find(layout, ObjectKind::Namespace, "", namespace)?;
    if kept.is_none_or(|n| n.deletion.is_none()) {
        return Ok(());
    }
    let text = format!(
        "{what} {name:?} is forbidden: unable to create new content in namespace {namespace} \
         because it is being terminated"
    );
    Err(Error::conflict(text).hint(format!(
        "wait until the namespace is gone, or go on with a deletion that was cut short: carob \
         delete namespace {namespace}"
    )))
}

/// Makes it, in the place of one of its name: another object, which has nothing of that one.
pub(crate) fn make_anew(layout: &Layout, object: &Object) -> Result<Object> {
    let _lock = lock(layout)?;
    let (kind, namespace) = (object.kind, &object.namespace);
    check_namespace(layout, kind.plural(), namespace, &object.name)?;
    write(layout, object, 1)
}

/// Makes it, or makes of the one that there is what `merge` says. `dry_run`: only says what
/// would come of it; of one that is new, without a version.
pub(crate) fn apply(
    layout: &Layout,
    object: &Object,
    dry_run: bool,
    merge: impl Fn(&Object) -> Result<Object>,
) -> Result<(Object, Done)> {
    let _lock = match dry_run {
        true => None,
        false => Some(lock(layout)?),
    };
    let Some(old) = find(layout, object.kind, &object.namespace, &object.name)? else {
        let (kind, namespace) = (object.kind, &object.namespace);
        check_namespace(layout, kind.plural(), namespace, &object.name)?;
        let new = match dry_run {
            true => object.unkept(),
            false => write(layout, object, 1)?,
        };
        return Ok((new, Done::Created));
    };
    let new = successor(&old, merge(&old)?)?;
    let done = match new.manifest == old.manifest {
        true => Done::Unchanged,
        false => Done::Configured,
    };
    let new = match dry_run {
        true => new,
        false => keep(layout, &old, new)?,
    };
    Ok((new, done))
}

/// As [`change`], with whether that is another than before. `dry_run`: only says what would
/// come of it.
pub(crate) fn update(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
    dry_run: bool,
    act: impl Fn(&Object) -> Result<Object>,
) -> Result<(Object, bool)> {
    let _lock = match dry_run {
        true => None,
        false => Some(lock(layout)?),
    };
    let old = get(layout, kind, namespace, name)?;
    let new = successor(&old, act(&old)?)?;
    let changed = new != old;
    match dry_run {
        true => Ok((new, changed)),
        false => Ok((keep(layout, &old, new)?, changed)),
    }
}

/// Makes of an object what `act` says.
///
/// # Errors
/// [`crate::Kind::NotFound`], what `act` says, and [`crate::Kind::Invalid`] for a change of what is
/// immutable.
pub(crate) fn change(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
    act: impl Fn(&Object) -> Result<Object>,
) -> Result<Object> {
    let _lock = lock(layout)?;
    let old = get(layout, kind, namespace, name)?;
    let new = act(&old)?;
    keep(layout, &old, new)
}

/// Writes down that a claim has the size that `claim` asks for, unless another is asked for
/// meanwhile. The claim as it is then.
pub(crate) fn enlarged(layout: &Layout, claim: &Object) -> Result<Object> {
    let _lock = lock(layout)?;
    let old = get(layout, claim.kind, &claim.namespace, &claim.name)?;
    let is = old.uid == claim.uid && old.requested() == claim.requested();
    if !is || old.capacity.is_none() {
        return Ok(old);
    }
    let new = Object {
        capacity: None,
        ..old
    };
    write(layout, &new, new.resource_version + 1)
}

/// Removes it. `uid`: only if it is this one still.
///
/// # Errors
/// [`crate::Kind::NotFound`].
pub(crate) fn remove(
    layout: &Layout,
    kind: ObjectKind,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Object> {
    let _lock = lock(layout)?;
    let path = layout.object(kind.plural(), namespace, name);
    let old = get_outline(layout, kind, namespace, name)?;
    if uid.is_some_and(|uid| uid != old.uid) {
        return Err(not_found(kind, namespace, name));
    }
    store::remove_durable(&path)?;
    Ok(old)
}

/// What may not be done to an object that is there (ValidateConfigMapUpdate and
/// ValidateSecretUpdate of Kubernetes), each with its field.
pub(crate) fn refusals(old: &Object, new: &Object) -> Vec<String> {
    let mut refused = Vec::new();
    let mut compare = |field: &str, why: &str| {
        if old.manifest[field] != new.manifest[field] {
            refused.push(format!("{field}: {why}"));
        }
    };
    if old.kind == ObjectKind::Secret {
        compare("type", "field is immutable");
    }
    if old.is_immutable() {
        let why = "field is immutable when `immutable` is set";
        for field in ["immutable", "data", "binaryData"] {
            compare(field, why);
        }
    }
    if old.kind == ObjectKind::PersistentVolumeClaim {
        let fixed = |o: &Object| {
            let mut spec = o.manifest["spec"].clone();
            for field in ["resources", "volumeAttributesClassName"] {
                spec[field] = serde_json::Value::Null;
            }
            spec
        };
        if fixed(old) != fixed(new) {
            refused.push(
                "spec: Forbidden: spec is immutable after creation except resources.requests and \
                 volumeAttributesClassName"
                    .to_owned(),
            );
        }
        if let Some(why) = old.refuses_size_of(new) {
            refused.push(format!("spec.resources.requests.storage: {why}"));
        }
    }
    refused
}

/// Writes the successor of a record, if it is another.
fn keep(layout: &Layout, old: &Object, new: Object) -> Result<Object> {
    let new = successor(old, new)?;
    match new == *old {
        true => Ok(new),
        false => write(layout, &new, old.resource_version + 1),
    }
}

/// The record that follows one that is there, if it may.
fn successor(old: &Object, new: Object) -> Result<Object> {
    let new = Object {
        uid: old.uid.clone(),
        created: old.created,
        owner: old.owner.clone(),
        resource_version: old.resource_version,
        capacity: old.capacity_of(&new),
        // What is to go goes.
        deletion: old.deletion.or(new.deletion),
        ..new
    };
    let refused = refusals(old, &new);
    if refused.is_empty() {
        return Ok(new);
    }
    let message = format!("{}: {}", old.reference(), refused.join("; "));
    let (kind, name, namespace) = (old.kind.singular(), &old.name, &old.namespace);
    let first = match old.kind {
        ObjectKind::PersistentVolumeClaim => {
            "its files go with it: copy out what you need (carob cp), then "
        }
        _ => "",
    };
    Err(Error::invalid(message).hint(format!(
        "{first}delete it and make it anew: carob delete {kind} {name} -n {namespace}"
    )))
}

/// The lock is held. What is given is whole, and no outline.
fn write(layout: &Layout, object: &Object, resource_version: u64) -> Result<Object> {
    let object = Object {
        resource_version,
        ..object.clone()
    };
    let dir = layout.objects_in(object.kind.plural(), &object.namespace);
    make_dir(&dir)?;
    let path = layout.object(object.kind.plural(), &object.namespace, &object.name);
    store::save_by(&dir.join(NEW), &path, &to_keep(layout, &object)?)?;
    Ok(object)
}

fn to_keep(layout: &Layout, object: &Object) -> Result<Kept> {
    if object.kind != ObjectKind::Secret {
        return Ok(Kept::plain(object));
    }
    let sealed = || match KeyRecord::load(layout)? {
        _ if seal::is_outline(object) => Err(Error::failed("its values are missing")),
        Some(record) if record.encrypts => Kept::sealed(object, &record.open(layout)?),
        None if encryption::is_to_encrypt(layout) => Err(encryption::no_key(layout)),
        _ => Ok(Kept::plain(object)),
    };
    sealed().with_context(|| format!("write {}", object.reference()))
}

/// The file that a record is written to before it gets its name. No object is called so,
/// and a writer that was killed leaves it to the next.
const NEW: &str = ".new";

/// A random UUID.
pub(crate) fn new_uid() -> Result<String> {
    const UUID: &str = "/proc/sys/kernel/random/uuid";
    let uid = std::fs::read_to_string(UUID).with_context(|| format!("read({UUID})"))?;
    Ok(uid.trim_end().to_owned())
}

/// Keeps all other writers out until it is dropped.
pub(crate) fn lock(layout: &Layout) -> Result<Lock> {
    make_dir(&layout.objects())?;
    Lock::acquire(&layout.objects_lock())
}

/// Of the objects or namespaces in a directory, sorted; none where it is not there.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let context = || format!("readdir({})", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(context),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(context)?;
        names.extend(entry.file_name().into_string());
    }
    names.retain(|n| !n.starts_with('.'));
    names.sort();
    Ok(names)
}

/// What is said of one that is not there.
pub(crate) fn not_found(kind: ObjectKind, namespace: &str, name: &str) -> Error {
    let text = format!("{} {name:?} not found", kind.plural());
    match kind.is_namespaced() {
        true => Error::not_found(text).hint(format!(
            "carob get {} -n {namespace} lists those of the namespace",
            kind.plural()
        )),
        false => Error::not_found(text),
    }
}

fn exists(object: &Object) -> Error {
    let text = format!("{} {:?} already exists", object.kind.plural(), object.name);
    Error::conflict(text).hint("change it with apply or edit, or delete it first")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Kind;

    struct Root(std::path::PathBuf, Layout);

    impl Root {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("carob-object-{name}-{}", std::process::id()));
            let layout = Layout::new(Some(&dir)).unwrap();
            Root(dir, layout)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn map(name: &str, value: &str) -> Object {
        let manifest = json!({"data": {"key": value}});
        Object::sample(ObjectKind::ConfigMap, name, manifest)
    }

    const KIND: ObjectKind = ObjectKind::ConfigMap;

    #[test]
    fn an_object_is_kept_changed_and_removed() {
        let Root(_, layout) = &Root::new("life");
        let longest = "n".repeat(253);
        for name in ["b", "a", &longest] {
            assert_eq!(create(layout, &map(name, "1")).unwrap().resource_version, 1);
        }
        let e = create(layout, &map("a", "2")).unwrap_err();
        assert_eq!(e.kind(), Kind::Conflict);
        let names = |ns| {
            let all = list(layout, KIND, ns).unwrap();
            all.into_iter().map(|o| o.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["a", "b", &longest]);
        assert_eq!(names(Some("other")), [""; 0]);
        let apply =
            |value: &str| apply(layout, &map("a", value), false, |_| Ok(map("a", value))).unwrap();
        assert_eq!(apply("1").1, Done::Unchanged);
        let (object, done) = apply("2");
        assert_eq!((object.resource_version, done), (2, Done::Configured));
        assert_eq!(find(layout, KIND, "default", "a").unwrap(), Some(object));
        let e = remove(layout, KIND, "default", "a", Some("another")).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
        remove(layout, KIND, "default", "a", None).unwrap();
        assert_eq!(find(layout, KIND, "default", "a").unwrap(), None);
    }

    #[test]
    fn what_is_immutable_stays() {
        let Root(_, layout) = &Root::new("immutable");
        let mut object = map("a", "1");
        object.manifest["immutable"] = true.into();
        create(layout, &object).unwrap();
        let change = |new: Object| change(layout, KIND, "default", "a", |_| Ok(new.clone()));
        for (field, value) in [("data", json!({})), ("immutable", false.into())] {
            let mut new = object.clone();
            new.manifest[field] = value;
            let e = change(new).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid);
            assert!(e.to_string().contains(field), "{e}");
        }
        object.manifest["metadata"] = json!({"labels": {"a": "b"}});
        assert_eq!(change(object).unwrap().resource_version, 2);
    }

    #[test]
    fn no_change_of_many_writers_is_lost() {
        let Root(_, layout) = &Root::new("writers");
        create(layout, &map("a", "0")).unwrap();
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..25 {
                        change(layout, KIND, "default", "a", |old| {
                            let n: u32 = old.manifest["data"]["key"]
                                .as_str()
                                .unwrap()
                                .parse()
                                .unwrap();
                            let mut new = old.clone();
                            new.manifest["data"]["key"] = (n + 1).to_string().into();
                            Ok(new)
                        })
                        .unwrap();
                    }
                });
            }
        });
        let object = get(layout, KIND, "default", "a").unwrap();
        assert_eq!(object.data()["key"], b"200");
        assert_eq!(object.resource_version, 201);
    }
}
