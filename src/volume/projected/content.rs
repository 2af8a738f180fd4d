//! Which files a projected volume has, from the Pod and the objects that it names: pure.
//! The rules and the texts are a kubelet's (pkg/volume/configmap, secret, downwardapi,
//! projected, and util.SetVolumeOwnership).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::downward;
use crate::spec::{KeyToPath, Node, Object, ObjectKind, ObjectRef, Pod, Projection, VolumeSource};
use crate::{Context, Error, Kind, Result};

/// The objects that a Pod names and that are there.
pub(crate) type VolumeObjects = BTreeMap<(ObjectKind, String), Object>;

#[derive(Clone, PartialEq)]
pub(crate) struct File {
    /// Below the volume, of names only.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub user: u32,
}

/// Without the bytes, which may be secret.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:o} {} {} bytes",
            self.path.display(),
            self.mode,
            self.user,
            self.bytes.len()
        )
    }
}

/// All files of one volume, sorted by their paths.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub volume: String,
    pub files: Vec<File>,
    pub group: Option<u32>,
}

/// What the files of a Pod are made from.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub pod: &'a Pod,
    pub objects: &'a VolumeObjects,
    /// What the machine has: a limit that is not set.
    pub node: Node,
    /// The volumes have files already: without an object they keep them.
    pub has_files: bool,
}

impl Facts<'_> {
    /// What happens until an object that is missing is there, and then.
    fn until_then(&self) -> &'static str {
        match self.has_files {
            false => "the Pod starts when it is there",
            true => "until it is there, the volume keeps the files that it has",
        }
    }
}

/// The content of each projected volume, in the Pod's order.
///
/// # Errors
/// [`Kind::NotFound`]: an object or a key is missing that is not optional. All that are
/// missing in one volume are named.
pub(crate) fn plan(facts: Facts<'_>) -> Vec<Result<Content>> {
    let volumes = facts.pod.spec.volumes.iter();
    let group = facts.pod.spec.fs_group();
    let mut left = SIZE_ALL;
    volumes
        .filter_map(|v| match &v.source {
            VolumeSource::Projected {
                sources,
                mode,
                user,
            } => Some((v, sources, *mode, user.unwrap_or(0))),
            _ => None,
        })
        .map(|(v, sources, mode, user)| {
            let mut planned = Planned {
                facts,
                files: BTreeMap::new(),
                size: 0,
                most: SIZE_MAX.min(left),
                missing: Vec::new(),
                mode,
                user,
                // What the group is to read: SetVolumeOwnership's mask of a volume that is
                // mounted read-only.
                for_group: if group.is_some() { 0o440 } else { 0 },
            };
            let files = sources
                .iter()
                .try_for_each(|s| planned.source(s))
                .and_then(|()| {
                    left -= planned.size;
                    planned.end()
                })
                .with_context(|| format!("MountVolume.SetUp failed for volume \"{}\" ", v.name))?;
            Ok(Content {
                volume: v.name.clone(),
                files,
                group,
            })
        })
        .collect()
}

/// Of the files of one volume, which the monitor holds while it writes them.
const SIZE_MAX: usize = 32 << 20;
/// Of those of all volumes of a Pod.
pub(super) const SIZE_ALL: usize = 128 << 20;

struct Planned<'a> {
    facts: Facts<'a>,
    files: BTreeMap<PathBuf, File>,
    /// Bytes of all that was added.
    size: usize,
    /// Bytes that there may be.
    most: usize,
    /// What is missing, and what mends it.
    missing: Vec<(String, String)>,
    mode: u32,
    user: u32,
    for_group: u32,
}

impl Planned<'_> {
    fn source(&mut self, source: &Projection) -> Result<()> {
        match source {
            Projection::Object { object, items } => self.object(object, items),
            Projection::Downward(items) => {
                for item in items {
                    let text = downward::value(self.facts, &item.value)
                        .with_context(|| item.path.clone())?;
                    self.add(&item.path, text.as_bytes(), item.mode, item.user)?;
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, r: &ObjectRef, items: &[KeyToPath]) -> Result<()> {
        let kind = r.kind.singular();
        let namespace = &self.facts.pod.namespace;
        let found = self.facts.objects.get(&(r.kind, r.name.clone()));
        let data = match found {
            Some(object) => object.data(),
            None if r.optional => return Ok(()),
            None => {
                let hint = format!(
                    "make it, with `carob apply -f` or `carob create {kind}`, in the namespace \
                     {namespace}: {}",
                    self.facts.until_then()
                );
                self.missing
                    .push((format!("{kind} {:?} not found", r.name), hint));
                return Ok(());
            }
        };
        if items.is_empty() {
            for (key, bytes) in data {
                self.add(&key, &bytes, None, None)?;
            }
            return Ok(());
        }
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => self.add(&item.path, bytes, item.mode, item.user)?,
                None if r.optional => {}
                None => {
                    let text = match r.kind {
                        ObjectKind::Secret => "references non-existent secret key",
                        _ => "configmap references non-existent config key",
                    };
                    let hint = format!(
                        "give {kind} {} of the namespace {namespace} the key {}, or name another \
                         in `items`: {}",
                        r.name,
                        item.key,
                        self.facts.until_then()
                    );
                    self.missing.push((format!("{text}: {}", item.key), hint));
                }
            }
        }
        Ok(())
    }

    /// A later one takes the place of an earlier one with the same path.
    fn add(
        &mut self,
        path: &str,
        bytes: &[u8],
        mode: Option<u32>,
        user: Option<u32>,
    ) -> Result<()> {
        // One key may be many files.
        self.size += bytes.len();
        if self.size > self.most {
            let text = match self.most {
                SIZE_MAX => format!("its files have more than {SIZE_MAX} bytes together"),
                _ => format!(
                    "with its files, the volumes of the Pod that are made of objects have more \
                     than {SIZE_ALL} bytes together"
                ),
            };
            return Err(Error::invalid(text)
                .hint("name each key once in `items`, or mount the volume in several places"));
        }
        let mut clean = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::CurDir => {}
                // The manifest's checks have refused it.
                _ => return Err(Error::invalid(format!("path {path:?} leads out"))),
            }
        }
        if clean.as_os_str().is_empty() {
            return Err(Error::invalid(format!("path {path:?} names no file")));
        }
        let file = File {
            path: clean.clone(),
            bytes: bytes.to_vec(),
            mode: mode.unwrap_or(self.mode) | self.for_group,
            user: user.unwrap_or(self.user),
        };
        self.files.insert(clean, file);
        Ok(())
    }

    fn end(self) -> Result<Vec<File>> {
        if !self.missing.is_empty() {
            let (texts, hints): (Vec<_>, Vec<_>) = self.missing.into_iter().unzip();
            let text = match texts.as_slice() {
                [one] => one.clone(),
                _ => format!("[{}]", texts.join(", ")),
            };
            let hint = hints.into_iter().next().unwrap_or_default();
            return Err(Error::new(Kind::NotFound, text).hint(hint));
        }
        for path in self.files.keys() {
            let above = path.ancestors().skip(1);
            let taken = above.into_iter().find(|a| self.files.contains_key(*a));
            if let Some(taken) = taken {
                let message = format!(
                    "{:?} cannot be made: {:?} is a file",
                    path.display().to_string(),
                    taken.display().to_string()
                );
                return Err(Error::invalid(message).hint("give one of the two another path"));
            }
        }
        Ok(self.files.into_values().collect())
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
