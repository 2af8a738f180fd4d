//! An object that is there, as a manifest or a patch makes it: the next record of the same
//! object, checked as a whole.

use serde_json::Value;

use crate::manifest::patch::{self, PatchKind};
use crate::manifest::{Parsed, Source, parse_patch, pod_from_value};
use crate::spec::Object;
use crate::{Error, Result};

/// What `apply` makes of it. `uid`: what the manifest says of it.
pub(crate) fn merged_object(live: &Object, given: &Object, uid: Option<&str>) -> Result<Object> {
    // A manifest that `get -o yaml` has printed elsewhere counts that other object's versions.
    if uid.is_none_or(|uid| uid == live.uid) {
        check_version(live, given.resource_version)?;
    }
    let none = Value::Null;
    let value = patch::three_way(
        live.applied.as_ref().unwrap_or(&none),
        given.applied.as_ref().unwrap_or(&given.manifest),
        &live.v1(),
    );
    Ok(Object {
        applied: given.applied.clone(),
        ..checked(live, &value)?
    })
}

/// What `replace` and `edit` make of it: nothing stays that the manifest has not.
pub(crate) fn replaced_object(live: &Object, given: &Object, uid: Option<&str>) -> Result<Object> {
    same_name(live, given)?;
    if let Some(uid) = uid.filter(|uid| *uid != live.uid) {
        return Err(cannot(
            live,
            &format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                live.uid
            ),
        ));
    }
    check_version(live, given.resource_version)?;
    Ok(Object {
        applied: given.applied.clone().or_else(|| live.applied.clone()),
        ..given.clone()
    })
}

/// What `edit` makes of it: `before` and `after` are the texts of the editor.
pub(crate) fn edited_object(live: &Object, before: &Source, after: &Source) -> Result<Object> {
    let (mut before, mut after) = (parse_patch(before)?, parse_patch(after)?);
    // What another writer has done meanwhile stays, as with kubectl.
    for text in [&mut before, &mut after] {
        if let Some(meta) = text["metadata"].as_object_mut() {
            meta.shift_remove("resourceVersion");
        }
    }
    checked(live, &patch::rebase(&before, &after, &live.v1()))
}

pub(crate) fn patched_object(live: &Object, change: &Value, kind: PatchKind) -> Result<Object> {
    checked(live, &patch::patch(&live.v1(), change, kind)?)
}

fn checked(live: &Object, value: &Value) -> Result<Object> {
    let namespace = live.kind.is_namespaced().then_some(&*live.namespace);
    let Parsed {
        objects,
        given_uids,
        ..
    } = pod_from_value(value, "", namespace)?;
    let [new] = objects.as_slice() else {
        let text = format!("it would be no {} any more", live.kind.kind());
        return Err(Error::invalid(text));
    };
    let uid = given_uids.get(&new.uid).map(String::as_str);
    replaced_object(live, new, uid)
}

/// `wanted`: the version that the change was made from; 0 where it does not say.
fn check_version(live: &Object, wanted: u64) -> Result<()> {
    if wanted == 0 || wanted == live.resource_version {
        return Ok(());
    }
    Err(cannot(
        live,
        "the object has been modified; please apply your changes to the latest version and try \
         again",
    ))
}

fn cannot(live: &Object, why: &str) -> Error {
    let what = format!("{} {:?}", live.kind.plural(), live.name);
    Error::conflict(format!("Operation cannot be fulfilled on {what}: {why}")).hint(format!(
        "take metadata.uid and metadata.resourceVersion out of the manifest, or begin from what \
         there is now: carob get {} {} -o yaml",
        live.kind.singular(),
        live.name
    ))
}

fn same_name(live: &Object, new: &Object) -> Result<()> {
    let key = |o: &Object| (o.kind, o.namespace.clone(), o.name.clone());
    if key(live) == key(new) {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "{} {:?}: the kind, the name and the namespace of an object cannot be changed",
        live.kind.plural(),
        live.name
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Kind;

    fn read(value: &Value) -> (Object, Option<String>) {
        let mut parsed = pod_from_value(value, "test", None).unwrap();
        let object = parsed.objects.remove(0);
        let uid = parsed.given_uids.remove(&object.uid);
        (object, uid)
    }

    fn map(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    fn live(value: &Value) -> Object {
        Object {
            resource_version: 7,
            ..read(value).0
        }
    }

    #[test]
    fn apply_takes_away_what_it_had_given() {
        let mut live = live(&map(json!({"a": "1", "b": "2"})));
        live.manifest["data"]["theirs"] = "3".into();
        let (given, _) = read(&map(json!({"a": "9"})));
        let merged = merged_object(&live, &given, None).unwrap();
        assert_eq!(merged.manifest["data"], json!({"a": "9", "theirs": "3"}));
        assert_eq!(merged.applied, given.applied);
    }

    #[test]
    fn versions_and_uids_are_preconditions() {
        let live = live(&map(json!({})));
        for (version, uid, replaced, merged) in [
            (None, None, true, true),
            (Some("7"), None, true, true),
            (Some("6"), None, false, false),
            (Some("6"), Some("another"), false, true),
            (Some("7"), Some("another"), false, true),
            (Some("7"), Some("own"), true, true),
            (None, Some("own"), true, true),
        ] {
            let mut value = map(json!({"a": "1"}));
            if let Some(version) = version {
                value["metadata"]["resourceVersion"] = version.into();
            }
            if let Some(uid) = uid {
                let uid = uid.replace("own", &live.uid);
                value["metadata"]["uid"] = uid.into();
            }
            let (given, uid) = read(&value);
            let uid = uid.as_deref();
            let case = format!("{version:?} {uid:?}");
            let done = replaced_object(&live, &given, uid);
            assert_eq!(done.is_ok(), replaced, "{case}");
            if let Err(e) = done {
                assert_eq!(e.kind(), Kind::Conflict);
            }
            let done = merged_object(&live, &given, uid);
            assert_eq!(done.is_ok(), merged, "{case}");
        }
    }

    #[test]
    fn a_claim_may_be_handed_in_as_it_is_shown() {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}});
        let live = live(&claim);
        let (given, uid) = read(&live.v1());
        let same = replaced_object(&live, &given, uid.as_deref()).unwrap();
        assert_eq!(same.manifest["spec"], live.manifest["spec"]);
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        let new = patched_object(&live, &label, PatchKind::Merge).unwrap();
        assert_eq!(new.manifest["spec"], live.manifest["spec"]);
    }

    #[test]
    fn a_patched_secret_is_checked_as_a_whole() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "stringData": {"a": "x"}});
        let live = live(&secret);
        let patch = |change: Value| patched_object(&live, &change, PatchKind::Merge);
        let new = patch(json!({"stringData": {"b": "y"}})).unwrap();
        assert_eq!(new.manifest["data"], json!({"a": "eA==", "b": "eQ=="}));
        for wrong in [
            json!({"data": {"a/b": "eA=="}}),
            json!({"data": {"b": "!"}}),
            json!({"metadata": {"name": "t"}}),
            json!({"metadata": {"resourceVersion": "3"}}),
            json!({"kind": "ConfigMap"}),
        ] {
            assert!(patch(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
