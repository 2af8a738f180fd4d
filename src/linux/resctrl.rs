//! Shares of caches and of memory bandwidth (Intel RDT, AMD QoS, Arm MPAM): the
//! kernel's Documentation/filesystems/resctrl.rst.
//!
//! A directory of the resctrl filesystem is a class of service, a directory in its
//! `mon_groups` a group that is measured. A process belongs to what its id was last
//! written to `tasks` of, and so do the children it has from then on. This module
//! never mounts the filesystem: its mount options are the machine's owner's.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{RDTGROUP_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::root::{Links, Root, open_dir};
use crate::{Context, Error, Result};

const MOUNT_POINT: &str = "/sys/fs/resctrl";
const MODE: Mode = Mode::from_bits_truncate(0o755);

/// What the filesystem has at its top beside classes of service.
pub(crate) const NOT_CLASSES: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// What a container wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// None: one of its own, with its id for a name.
    pub class: Option<String>,
    /// Lines for `schemata`, in the order of their writing.
    pub schemata: Vec<String>,
    pub monitored: bool,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    class: String,
    /// Made for this container alone, and gone with it.
    own: bool,
    /// The container's id, of one that is measured apart.
    group: Option<String>,
}

/// The mounted filesystem.
#[derive(Debug)]
pub(crate) struct Resctrl(OwnedFd);

impl Resctrl {
    /// # Errors
    /// Unsupported where it is not mounted at /sys/fs/resctrl.
    pub(crate) fn open() -> Result<Self> {
        let found = open_dir(Path::new(MOUNT_POINT)).ok();
        let is_resctrl =
            |dir: &OwnedFd| fstatfs(dir).is_ok_and(|s| s.filesystem_type() == RDTGROUP_SUPER_MAGIC);
        found.filter(is_resctrl).map(Resctrl).ok_or_else(|| {
            Error::unsupported(format!("no resctrl is mounted at {MOUNT_POINT}")).hint(
                "mount -t resctrl resctrl /sys/fs/resctrl: it needs a CPU whose flags in \
                 /proc/cpuinfo have rdt_a",
            )
        })
    }

    /// Finds or makes the class and the group. What was made is undone if it fails.
    pub(crate) fn make(&self, wanted: &Wanted, id: &str) -> Result<Place> {
        let mut place = Place {
            class: wanted.class.clone().unwrap_or_else(|| id.to_owned()),
            own: false,
            group: None,
        };
        let made: Result<()> = (|| {
            let is_new = self.make_class(&place.class, wanted)?;
            place.own = is_new && wanted.class.is_none();
            if !wanted.schemata.is_empty() {
                match is_new {
                    true => self
                        .write_schemata(&place, &wanted.schemata)
                        // One that is named is kept for others, but not half-made.
                        .map_err(|e| match place.own {
                            true => e,
                            false => e.with_cleanup(self.remove_dir(Path::new(&place.class))),
                        })?,
                    false => self.compare(&place, &wanted.schemata)?,
                }
            }
            if wanted.monitored {
                let group = Path::new(&place.class).join("mon_groups").join(id);
                self.make_dir(&group).context("enableMonitoring")?;
                place.group = Some(id.to_owned());
            }
            Ok(())
        })();
        match made {
            Ok(()) => Ok(place),
            Err(e) => Err(e.with_cleanup(self.remove(&place))),
        }
    }

    /// Whether it is new.
    fn make_class(&self, name: &str, wanted: &Wanted) -> Result<bool> {
        if wanted.class.is_some() && wanted.schemata.is_empty() {
            let there = self
                .root()
                .open(Path::new(name), OFlag::O_PATH, Links::Refuse);
            return match there {
                Ok(_) => Ok(false),
                Err(e) => Err(e
                    .hint("a class without a schema of its own must be there already")
                    .push_context(format!("closID: {name}"))),
            };
        }
        match self.make_dir(Path::new(name)) {
            Ok(()) => Ok(true),
            Err(e) if e.errno() == Some(Errno::EEXIST) && wanted.class.is_some() => Ok(false),
            Err(e) => Err(match e.errno() {
                Some(Errno::ENOSPC) => e.hint("this CPU has no further class of service"),
                _ => e,
            }),
        }
    }

    /// Writes lines to the class's schemata, one write each, as the kernel parses
    /// them.
    pub(crate) fn write_schemata(&self, place: &Place, lines: &[String]) -> Result<()> {
        for line in lines {
            let mut file = self.open_file(&place.class, "schemata", OFlag::O_WRONLY)?;
            file.write_all(format!("{line}\n").as_bytes())
                .with_context(|| format!("write(<resctrl>/{}/schemata, {line:?})", place.class))
                .map_err(|e| match self.complaint() {
                    Some(text) => e.hint(text),
                    None => e,
                })?;
        }
        Ok(())
    }

    /// What the kernel says of the last write.
    fn complaint(&self) -> Option<String> {
        let status = self.open_file("info", "last_cmd_status", OFlag::O_RDONLY);
        let text = std::io::read_to_string(status.ok()?).ok()?;
        let text = text.trim();
        (!text.is_empty() && text != "ok").then(|| text.to_owned())
    }

    fn compare(&self, place: &Place, wanted: &[String]) -> Result<()> {
        let file = self.open_file(&place.class, "schemata", OFlag::O_RDONLY)?;
        let has = std::io::read_to_string(file)
            .with_context(|| format!("read(<resctrl>/{}/schemata)", place.class))?;
        match wanted.iter().find(|line| !agrees(&has, line)) {
            None => Ok(()),
            Some(line) => Err(Error::conflict(format!(
                "closID: {}: the class is there already, without {line:?}",
                place.class
            ))),
        }
    }

    /// The files whose writing puts a process into its place.
    pub(crate) fn tasks(&self, place: &Place) -> Result<Vec<std::fs::File>> {
        let mut files = vec![self.open_file(&place.class, "tasks", OFlag::O_WRONLY)?];
        if let Some(group) = &place.group {
            let dir = format!("{}/mon_groups/{group}", place.class);
            files.push(self.open_file(&dir, "tasks", OFlag::O_WRONLY)?);
        }
        Ok(files)
    }

    /// Removes what was made for the container alone; that it is gone already is no
    /// error.
    pub(crate) fn remove(&self, place: &Place) -> Result<()> {
        let class = Path::new(&place.class);
        if place.own {
            // Its groups go with it.
            return self.remove_dir(class);
        }
        match &place.group {
            Some(group) => self.remove_dir(&class.join("mon_groups").join(group)),
            None => Ok(()),
        }
    }

    fn root(&self) -> Root<'_> {
        Root::new(self.0.as_fd())
    }

    fn make_dir(&self, path: &Path) -> Result<()> {
        nix::sys::stat::mkdirat(&self.0, path, MODE)
            .map_err(|e| Error::sys(format!("mkdirat(<resctrl>, {path:?})"), e))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        match unlinkat(&self.0, path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(Error::sys(
                format!("unlinkat(<resctrl>, {path:?}, AT_REMOVEDIR)"),
                e,
            )),
        }
    }

    fn open_file(&self, dir: &str, name: &str, flags: OFlag) -> Result<std::fs::File> {
        let path = PathBuf::from(dir).join(name);
        let fd = self.root().open(&path, flags, Links::Refuse)?;
        Ok(fd.into())
    }
}

/// The calling thread joins, and with it the children it has from then on.
pub(crate) fn join(tasks: &[std::fs::File]) -> Result<()> {
    for mut file in tasks {
        file.write_all(b"0")
            .context("write(<resctrl>/tasks, \"0\")")?;
    }
    Ok(())
}

/// Whether what `schemata` reads as has what `line` would set.
fn agrees(has: &str, line: &str) -> bool {
    fn parts(line: &str) -> Option<(&str, impl Iterator<Item = (&str, &str)>)> {
        let (name, values) = line.split_once(':')?;
        let values = values.split(';').filter_map(|v| v.split_once('='));
        // Masks are padded with zeros.
        let value = |v: &str| v.trim().trim_start_matches('0').len();
        Some((
            name.trim(),
            values.map(move |(domain, v)| {
                let v = v.trim();
                (domain.trim(), &v[v.len() - value(v)..])
            }),
        ))
    }
    let Some((name, wanted)) = parts(line) else {
        return false;
    };
    let Some((_, has)) = has.lines().filter_map(parts).find(|(n, _)| *n == name) else {
        return false;
    };
    let has: Vec<_> = has.collect();
    let mut wanted = wanted;
    wanted.all(|(domain, value)| {
        let same = |(d, v): &(&str, &str)| *d == domain && v.eq_ignore_ascii_case(value);
        has.iter().any(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_is_there_is_compared() {
        let has = "    MB:0=100;1= 70\n    L3:0=07f;1=7ff\n";
        for line in ["L3:0=7F", "L3:1=7ff;0=7f", "MB:0=100;1=70"] {
            assert!(agrees(has, line), "{line}");
        }
        for line in ["L3:0=7e", "L3:2=7f", "L2:0=7f", "MB:1=7"] {
            assert!(!agrees(has, line), "{line}");
        }
    }
}
