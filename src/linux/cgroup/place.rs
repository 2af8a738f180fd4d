//! Where a cgroup is, from a path as container engines write it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hierarchy::{Hierarchies, Hierarchy};
use super::io;
use crate::{Context, Error, Result};

/// A path in every hierarchy, mostly the same. Found once and kept in a record:
/// what a relative path is relative to is gone with the process that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    path: String,
    /// By mount point, the hierarchies where it is another one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    elsewhere: BTreeMap<PathBuf, String>,
}

impl Place {
    /// The same path in every hierarchy, as in `carob/pod<uid>/app`.
    pub fn new(path: &str) -> Result<Place> {
        let place = Place {
            path: path.to_owned(),
            elsewhere: BTreeMap::new(),
        };
        place.check()?;
        Ok(place)
    }

    /// As runc has it: an absolute path starts at each hierarchy's root, a relative
    /// one at the caller's own cgroup (on v2, whose inner cgroups have no
    /// processes, beside it); without any it is `/<id>`. `..` does not lead above.
    pub fn from_path(path: Option<&Path>, id: &str, h: &Hierarchies) -> Result<Place> {
        let path = match path {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => return Place::new(id),
        };
        let field = || format!("{path:?}");
        let text = path.to_str();
        let text = text.ok_or_else(|| Error::invalid(format!("{}: is not UTF-8", field())))?;
        let clean = normalize(text);
        if clean.is_empty() {
            return Err(Error::invalid(format!(
                "{}: would be the root of every hierarchy",
                field()
            )));
        }
        if path.is_absolute() {
            return Place::new(&clean).with_context(field);
        }
        let own = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let mut place = Place {
            path: clean.clone(),
            elsewhere: BTreeMap::new(),
        };
        for h in h.v2().into_iter().chain(h.v1()) {
            let mut base = own_path(&own, h.list());
            if h.list().is_empty() {
                base = base.rsplit_once('/').map_or("", |(parent, _)| parent);
            }
            // A mount whose root is our own cgroup (a container without a cgroup
            // namespace) does not have the path that the kernel tells.
            let visible = |base: &str| io::open_dir(h, base, nix::fcntl::OFlag::O_PATH).is_ok();
            if !base.is_empty() && !base.starts_with("..") && visible(base) {
                let path = format!("{base}/{clean}");
                place.elsewhere.insert(h.point().to_owned(), path);
            }
        }
        place.check().with_context(field)?;
        Ok(place)
    }

    /// The path in most hierarchies.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn path_in(&self, h: &Hierarchy) -> &str {
        self.elsewhere.get(h.point()).unwrap_or(&self.path)
    }

    /// A cgroup further down. `below` is relative, as in `worker/1`.
    pub fn join(&self, below: &str) -> Result<Place> {
        let join = |path: &String| format!("{path}/{below}");
        let elsewhere = self.elsewhere.iter();
        let place = Place {
            path: join(&self.path),
            elsewhere: elsewhere.map(|(k, v)| (k.clone(), join(v))).collect(),
        };
        place.check()?;
        Ok(place)
    }

    /// The same but for one hierarchy, where it is `path`.
    pub(super) fn moved(&self, h: &Hierarchy, path: String) -> Result<Place> {
        let mut place = self.clone();
        place.elsewhere.insert(h.point().to_owned(), path);
        place.check()?;
        Ok(place)
    }

    /// Also of a record that was read: the kernel would follow `..` out of our part
    /// of the tree.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |part: &str| {
            let unnamed = matches!(part, "" | "." | "..");
            unnamed || part.len() > 255 || part.contains(['\0', '\n'])
        };
        let mut paths = std::iter::once(&self.path).chain(self.elsewhere.values());
        match paths.find(|p| p.split('/').any(bad)) {
            None => Ok(()),
            Some(path) => Err(Error::invalid(format!(
                "cgroup path {path:?}: has to be relative, without empty parts, . and .., each of \
                 255 bytes at most"
            ))),
        }
    }
}

/// Without `.`, empty parts and any slash in front; `..` ends at the root.
fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts.join("/")
}

/// The path, without the slash in front, that /proc/self/cgroup has for the
/// hierarchy of that list.
fn own_path<'t>(own: &'t str, list: &str) -> &'t str {
    let fields = own.lines().filter_map(|l| {
        let mut parts = l.splitn(3, ':');
        Some((parts.next()?, parts.next()?, parts.next()?))
    });
    let mut found = fields.filter(|(_, names, _)| *names == list);
    let path = found.next().map_or("", |(_, _, path)| path);
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_relative_and_none() {
        let h = Hierarchies::detect().unwrap();
        let place = |p: Option<&str>| Place::from_path(p.map(Path::new), "box", &h);
        assert_eq!(place(None).unwrap(), Place::new("box").unwrap());
        assert_eq!(place(Some("")).unwrap(), Place::new("box").unwrap());
        let absolute = place(Some("/a//b/../../../c/./d")).unwrap();
        assert_eq!(absolute, Place::new("c/d").unwrap());
        assert!(place(Some("/")).is_err() && place(Some("..")).is_err());
        assert!(place(Some("/a\nb")).is_err());

        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let relative = place(Some("../a/b")).unwrap();
        for h in h.v1() {
            let base = own_path(&own, h.list());
            let wanted = if base.is_empty() {
                "a/b".into()
            } else {
                format!("{base}/a/b")
            };
            assert_eq!(relative.path_in(h), wanted, "{}", h.list());
        }
        let text = serde_json::to_string(&relative).unwrap();
        let back: Place = serde_json::from_str(&text).unwrap();
        assert_eq!(back, relative);
        assert!(place(Some("a")).unwrap().join("../b").is_err());
    }

    #[test]
    fn own_paths() {
        let text = "9:name=systemd:/\n4:cpu,cpuacct:/user:odd/x\n0::/a/b\n";
        assert_eq!(own_path(text, "cpu,cpuacct"), "user:odd/x");
        assert_eq!(own_path(text, "name=systemd"), "");
        assert_eq!(own_path(text, ""), "a/b");
        assert_eq!(own_path(text, "pids"), "");
    }
}
