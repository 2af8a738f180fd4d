//! The form that an object has on the disk: a Secret's values are encrypted there, if the root
//! is set so. Its name, its metadata and the names of its keys stay readable, so that it can
//! be listed, watched and deleted without the key.
//!
//! The cipher is AES-256-GCM with a key for each writing, which HKDF-SHA256 makes of the root's
//! key and of random bytes. What is encrypted is bound to namespace, name and uid: in the
//! record of another Secret it does not decrypt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{Key, fill};
use crate::spec::{Object, ObjectKind};
use crate::store::Versioned;
use crate::{Error, Result};

/// A record of the store of objects.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// Without its values, if `sealed` has them.
    #[serde(flatten)]
    pub object: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

impl Versioned for Kept {
    const VERSION: u32 = Object::VERSION;
    fn version(&self) -> u32 {
        self.object.version
    }
}

/// What is encrypted of an object: all in base64.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// Which key it is.
    pub key: String,
    salt: String,
    text: String,
}

/// What is in there.
#[derive(Serialize, Deserialize)]
struct Content {
    manifest: Value,
    applied: Option<Value>,
}

/// kubectl writes a whole Secret into it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Kept {
    /// Another one after each encryption.
    pub(super) fn mark(&self) -> Option<String> {
        self.sealed.as_ref().map(|s| s.salt.clone())
    }

    pub(super) fn plain(object: &Object) -> Kept {
        Kept {
            object: object.clone(),
            sealed: None,
        }
    }

    pub(super) fn sealed(object: &Object, key: &Key) -> Result<Kept> {
        let mut salt = [0; 32];
        fill(&mut salt)?;
        let content = Content {
            manifest: object.manifest.clone(),
            applied: object.applied.clone(),
        };
        let mut bytes = serde_json::to_vec(&content)?;
        cipher(key, &salt)?
            .seal_in_place_append_tag(nonce(), bound_to(object), &mut bytes)
            .map_err(|_| Error::failed("AES-256-GCM does not encrypt this"))?;
        Ok(Kept {
            object: outline(object),
            sealed: Some(Sealed {
                key: key.id.clone(),
                salt: STANDARD.encode(salt),
                text: STANDARD.encode(bytes),
            }),
        })
    }

    /// The whole object.
    pub(super) fn open(self, key: &Key) -> Result<Object> {
        let Some(sealed) = self.sealed else {
            return Ok(self.object);
        };
        let broken = || {
            Error::failed("what is encrypted was changed, or is another Secret's").hint(
                "bring its record back from a backup of the root's data, or delete it and make it \
                 anew",
            )
        };
        let salt = STANDARD.decode(&sealed.salt).map_err(|_| broken())?;
        let mut bytes = STANDARD.decode(&sealed.text).map_err(|_| broken())?;
        let plain = cipher(key, &salt)?
            .open_in_place(nonce(), bound_to(&self.object), &mut bytes)
            .map_err(|_| broken())?;
        let content: Content = serde_json::from_slice(plain).map_err(|_| broken())?;
        Ok(Object {
            manifest: content.manifest,
            applied: content.applied,
            ..self.object
        })
    }
}

/// What stays readable.
fn outline(object: &Object) -> Object {
    let mut manifest = object.manifest.clone();
    if let Some(data) = manifest.get_mut("data").and_then(Value::as_object_mut) {
        data.values_mut().for_each(|value| *value = Value::Null);
    }
    if let Some(map) = manifest["metadata"]["annotations"].as_object_mut() {
        map.shift_remove(LAST_APPLIED);
    }
    Object {
        manifest,
        applied: None,
        ..object.clone()
    }
}

/// Whether it is no more than what stays readable of a Secret: nothing that may be written.
pub(super) fn is_outline(object: &Object) -> bool {
    let data = object.manifest["data"].as_object();
    object.kind == ObjectKind::Secret && data.is_some_and(|d| d.values().any(Value::is_null))
}

fn cipher(key: &Key, salt: &[u8]) -> Result<LessSafeKey> {
    let root = Salt::new(HKDF_SHA256, salt).extract(&key.bytes);
    let own = root
        .expand(&[b"carob secret 1"], &AES_256_GCM)
        .map_err(|_| Error::failed("HKDF-SHA256 gives no key"))?;
    Ok(LessSafeKey::new(UnboundKey::from(own)))
}

/// Always the same: a key encrypts once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn bound_to(object: &Object) -> Aad<Vec<u8>> {
    let Object {
        namespace,
        name,
        uid,
        ..
    } = object;
    // None of them has a slash.
    Aad::from(format!("{namespace}/{name}/{uid}").into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, uid: &str) -> Object {
        let manifest = json!({"type": "Opaque", "data": {"p": "aHVudGVyMg=="}, "metadata": {
            "labels": {"a": "b"}, "annotations": {LAST_APPLIED: "hunter2", "x": "y"}}});
        Object {
            uid: uid.into(),
            applied: Some(manifest.clone()),
            ..Object::sample(ObjectKind::Secret, name, manifest)
        }
    }

    #[test]
    fn values_are_sealed_and_the_rest_is_readable() {
        let key = Key::random().unwrap();
        let object = secret("s", "u");
        let text = serde_json::to_string(&Kept::sealed(&object, &key).unwrap()).unwrap();
        for clear in ["hunter2", "aHVudGVyMg"] {
            assert!(!text.contains(clear), "{text}");
        }
        let read = || -> Kept { serde_json::from_str(&text).unwrap() };
        let readable = read().object;
        assert!(is_outline(&readable) && !is_outline(&object));
        assert_eq!(
            readable.manifest,
            json!({"type": "Opaque", "data": {"p": null},
                "metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}}})
        );
        assert_eq!(read().open(&key).unwrap(), object);
        assert!(read().open(&Key::random().unwrap()).is_err());
        // No two writings are the same.
        let again = Kept::sealed(&object, &key).unwrap().sealed;
        assert!(again != read().sealed);
    }

    #[test]
    fn what_is_sealed_is_bound_to_its_secret() {
        let key = Key::random().unwrap();
        let sealed = || Kept::sealed(&secret("s", "u"), &key).unwrap();
        for other in [secret("s", "v"), secret("t", "u")] {
            let kept = Kept {
                object: other,
                ..sealed()
            };
            assert!(kept.open(&key).is_err());
        }
        let mut kept = sealed();
        kept.object.namespace = "other".into();
        assert!(kept.open(&key).is_err());
    }
}
