//! The ConfigMaps and Secrets that a container's environment is made of.

use std::collections::BTreeMap;

use super::fault::config_error;
use crate::Result;
use crate::spec::{Object, ObjectKind, ObjectRef};

/// Those that there are, by kind and name, all of one namespace.
#[derive(Debug, Default)]
pub(crate) struct EnvObjects {
    namespace: String,
    found: BTreeMap<(ObjectKind, String), Kept>,
    /// Bytes of all their data.
    size: usize,
}

/// Of the objects of one container, which the monitor holds together: many times what the
/// kernel takes as an environment.
const SIZE_MAX: usize = 64 << 20;

/// An object, decoded once for all the variables that are made of it.
#[derive(Debug)]
struct Kept {
    object: Object,
    data: BTreeMap<String, Vec<u8>>,
}

impl EnvObjects {
    pub(crate) fn new(namespace: &str) -> Self {
        EnvObjects {
            namespace: namespace.to_owned(),
            found: BTreeMap::new(),
            size: 0,
        }
    }

    pub(crate) fn has(&self, wanted: &ObjectRef) -> bool {
        self.found.contains_key(&(wanted.kind, wanted.name.clone()))
    }

    pub(crate) fn add(&mut self, object: Object) -> Result<()> {
        let data = object.data();
        self.size += data.values().map(Vec::len).sum::<usize>();
        if self.size > SIZE_MAX {
            return Err(config_error(format!(
                "its ConfigMaps and Secrets have more than {SIZE_MAX} bytes together"
            ))
            .hint("a program with so much configuration gets it as files: mount volumes"));
        }
        let key = (object.kind, object.name.clone());
        self.found.insert(key, Kept { object, data });
        Ok(())
    }

    /// What there is of the object; `None` if it may be missing and is.
    fn get(&self, wanted: &ObjectRef) -> Result<Option<&Kept>> {
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
        let Some(Kept { object, data }) = self.get(wanted)? else {
            return Ok(texts);
        };
        let is_text = |key: &String| match object.kind {
            ObjectKind::ConfigMap => !object.manifest["data"][key].is_null(),
            _ => true,
        };
        let one = key.and_then(|key| data.get_key_value(key));
        let all = data.iter().filter(|_| key.is_none());
        let wanted = one.into_iter().chain(all).filter(|(k, _)| is_text(k));
        for (key, value) in wanted {
            let Ok(text) = String::from_utf8(value.clone()) else {
                let of = object.reference();
                return Err(config_error(format!(
                    "key {key} of {of} is not UTF-8: it can be a file of a volume, but no variable"
                )));
            };
            texts.insert(key.clone(), text);
        }
        Ok(texts)
    }
}
