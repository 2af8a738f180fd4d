//! The ConfigMaps and Secrets that a container's environment is made of.

use std::collections::BTreeMap;

use super::fault::config_error;
use crate::Result;
use crate::spec::{Object, ObjectKind, ObjectRef};

/// Those that there are, by kind and name, all of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub namespace: String,
    pub found: BTreeMap<(ObjectKind, String), Object>,
}

impl Objects {
    /// What there is of the object; `None` if it may be missing and is.
    fn get(&self, wanted: &ObjectRef) -> Result<Option<&Object>> {
        let found = self.found.get(&(wanted.kind, wanted.name.clone()));
        match found {
            None if !wanted.optional => Err(self.missing(wanted)),
            found => Ok(found),
        }
    }

    fn missing(&self, wanted: &ObjectRef) -> crate::Error {
        let (kind, name) = (wanted.kind.singular(), &wanted.name);
        config_error(format!("{kind} {name:?} not found")).hint(format!(
            "apply one of that name in namespace {}, or set optional: true: the container \
             starts when it is there",
            self.namespace
        ))
    }

    /// Keys and values that can be variables: those of a ConfigMap's `data` (`binaryData` is
    /// for files), or of a Secret. `key`: this one alone.
    pub(super) fn texts(
        &self,
        wanted: &ObjectRef,
        key: Option<&str>,
    ) -> Result<BTreeMap<String, String>> {
        let mut texts = BTreeMap::new();
        let Some(object) = self.get(wanted)? else {
            return Ok(texts);
        };
        let is_text = |key: &String| match object.kind {
            ObjectKind::ConfigMap => !object.manifest["data"][key].is_null(),
            _ => true,
        };
        let is_wanted = |k: &String| key.is_none_or(|key| key == k) && is_text(k);
        for (key, value) in object.data().into_iter().filter(|(k, _)| is_wanted(k)) {
            let Ok(text) = String::from_utf8(value) else {
                let of = object.reference();
                return Err(config_error(format!(
                    "key {key} of {of} is not UTF-8: it can be a file of a volume, but no variable"
                )));
            };
            texts.insert(key, text);
        }
        Ok(texts)
    }
}
