//! Mounts of a configuration and their options: config.md, "Mounts"; mount(8).

use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime as oci;

use super::namespace::plan_map;
use crate::container::plan::mount::{ATTRIBUTES, IdMapped, PROPAGATIONS, SUPERBLOCK_FLAGS};
use crate::container::plan::namespace::USER;
use crate::container::plan::{Mount, Namespaces, Source};
use crate::linux::mount::{ATIME_MASK, Change};
use crate::{Error, Result};

const ATIME_OPPOSITES: [&str; 2] = ["nostrictatime", "norelatime"];

/// The option of mount(8) that means a directory of the source instead of all of it. Of a
/// bind mount here: what it names is looked up below the source, no link in it leads out,
/// and what is missing is made as directories. A Pod's `subPath` is written so.
pub(crate) const SUB_DIRECTORY: &str = "X-mount.subdir=";

fn attribute(name: &str) -> Option<(u64, u64)> {
    if ATIME_OPPOSITES.contains(&name) {
        return Some((0, ATIME_MASK));
    }
    let found = ATTRIBUTES.iter().find(|(n, ..)| *n == name)?;
    Some((found.1, found.2))
}

/// `warnings` gets what has no effect.
pub(crate) fn plan(
    m: &oci::Mount,
    namespaces: &Namespaces,
    warnings: &mut Vec<String>,
) -> Result<Mount> {
    if m.destination().as_os_str().is_empty() {
        return Err(Error::invalid("destination: is empty"));
    }
    if m.destination().as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::invalid("destination: a NUL byte"));
    }
    // config.md: "MAY be a relative path, in which case it MUST be interpreted as
    // relative to "/"".
    let target = Path::new("/").join(m.destination());
    let (mut own, mut tree) = (Change::default(), Change::default());
    let mut propagation = Vec::new();
    let (mut bind, mut idmap, mut copy_up) = (None, None, false);
    let mut sub_path = None;
    let mut data = Vec::new();
    for option in m.options().iter().flatten() {
        let o = option.as_str();
        if let Some((set, clear)) = attribute(o) {
            own.then(set, clear);
        } else if let Some((set, clear)) = o.strip_prefix('r').and_then(attribute) {
            tree.then(set, clear);
        } else if let Some((p, recursive)) = plan_propagation(o) {
            propagation.push((p, recursive));
        } else {
            match o {
                "" | "defaults" | "loud" => {}
                "bind" => bind = Some(bind.unwrap_or(false)),
                "rbind" => bind = Some(true),
                "idmap" => idmap = Some(false),
                "ridmap" => idmap = Some(true),
                "tmpcopyup" => copy_up = true,
                other if other.contains('\0') => {
                    return Err(Error::invalid(format!("options: {other:?}: a NUL byte")));
                }
                other if other.starts_with(SUB_DIRECTORY) => {
                    sub_path = Some(plan_sub_path(&other[SUB_DIRECTORY.len()..])?);
                }
                other => {
                    let (key, value) = other.split_once('=').unwrap_or((other, ""));
                    data.push((key.to_owned(), value.to_owned()));
                }
            }
        }
    }
    let source = match (plan_source(m, &target, bind, data, warnings)?, sub_path) {
        (source, None) => source,
        (Source::Bind { path, .. }, Some(sub_path)) => Source::SubPath {
            volume: path,
            sub_path,
        },
        (_, Some(_)) => {
            return Err(Error::invalid(format!(
                "options: {SUB_DIRECTORY}... is for a bind mount"
            )));
        }
    };
    if copy_up && !matches!(&source, Source::New { fstype, .. } if fstype == "tmpfs") {
        return Err(Error::invalid("options: tmpcopyup is for a tmpfs"));
    }
    Ok(Mount {
        target,
        own,
        tree,
        propagation,
        idmap: plan_idmap(m, idmap, &source, namespaces)?,
        source,
        copy_up,
    })
}

fn plan_sub_path(text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let mut parts = path.components();
    match !text.is_empty() && parts.all(|p| matches!(p, Component::Normal(_))) {
        true => Ok(path.to_owned()),
        false => Err(Error::invalid(format!(
            "options: {SUB_DIRECTORY}{text}: not a relative path without `.` and `..`"
        ))),
    }
}

/// Left over where the mount was a tmpfs before; runtime-tools has the former.
const NO_EFFECT_ON_BIND: [&str; 3] = ["mode", "size", "remount"];

/// They hold for the whole hierarchy, and only the host's mount sets them.
const NO_EFFECT_ON_CGROUP: [&str; 6] = [
    "nsdelegate",
    "favordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
];

/// Options that a mount does not pass to a filesystem. To ignore one silently would be to
/// ignore what is misspelt, and what another runtime knows, such as `src-nofollow`: as with
/// runc it is an error.
fn check_unused(
    data: &[(String, String)],
    no_effect: &[&str],
    kind: &str,
    warnings: &mut Vec<String>,
) -> Result<()> {
    for (key, value) in data {
        let option = match value.is_empty() {
            true => key.clone(),
            false => format!("{key}={value}"),
        };
        // Flags of mount(2) for a filesystem: there as everywhere, and without effect.
        if SUPERBLOCK_FLAGS.contains(&option.as_str()) {
            continue;
        }
        if !no_effect.contains(&key.as_str()) {
            return Err(Error::invalid(format!(
                "options: {option:?}: not known, and {kind} takes no options of a filesystem"
            ))
            .hint("`carob-oci features` lists the options of mounts"));
        }
        warnings.push(format!("options: {option:?} has no effect on {kind}"));
    }
    Ok(())
}

fn plan_propagation(option: &str) -> Option<(MsFlags, bool)> {
    let find = |name: &str| PROPAGATIONS.iter().find(|(n, _)| *n == name).map(|p| p.1);
    find(option)
        .map(|p| (p, false))
        .or_else(|| Some((option.strip_prefix('r').and_then(find)?, true)))
}

fn plan_source(
    m: &oci::Mount,
    target: &Path,
    bind: Option<bool>,
    data: Vec<(String, String)>,
    warnings: &mut Vec<String>,
) -> Result<Source> {
    let given = m.typ().as_deref().filter(|t| !t.is_empty());
    let fstype = given.unwrap_or(if bind.is_some() { "bind" } else { "" });
    let of = m.source().as_ref().filter(|s| !s.as_os_str().is_empty());
    Ok(match (fstype, bind) {
        (_, Some(_)) | ("bind", None) => {
            check_unused(&data, &NO_EFFECT_ON_BIND, "a bind mount", warnings)?;
            Source::Bind {
                path: of
                    .cloned()
                    .ok_or_else(|| Error::invalid("source: a bind mount needs one"))?,
                recursive: bind.unwrap_or(false),
            }
        }
        ("cgroup" | "cgroup2", None) => {
            check_unused(&data, &NO_EFFECT_ON_CGROUP, "a mount of cgroups", warnings)?;
            Source::Cgroup
        }
        ("tmpfs", None) if target == Path::new("/dev") => Source::Dev(data),
        ("", None) => return Err(Error::invalid("type: missing, and options have no bind")),
        (fstype, None) => {
            let mut options = data;
            if fstype == "devpts" {
                // Each mount has been an instance of its own since Linux 4.7.
                options.retain(|(key, _)| key != "newinstance");
            }
            Source::New {
                fstype: fstype.to_owned(),
                name: of.map_or(fstype.to_owned(), |s| s.to_string_lossy().into_owned()),
                options,
            }
        }
    })
}

/// What configurations say of the host's path of the root filesystem, as runc has it.
///
/// A destination that begins with it is meant without it. The source of a bind mount
/// that lies below it, where an earlier mount of the list has put something, is what is
/// there then, and not what the host has there now.
pub(crate) fn resolve_root(mounts: &mut [Mount], root: &Path) {
    if root == Path::new("/") {
        return;
    }
    for i in 0..mounts.len() {
        let (before, m) = mounts.split_at_mut(i);
        let m = &mut m[0];
        if let Ok(rest) = m.target.strip_prefix(root) {
            m.target = Path::new("/").join(rest);
        }
        let Source::Bind { path, recursive } = &m.source else {
            continue;
        };
        let Ok(rest) = path.strip_prefix(root) else {
            continue;
        };
        let path = Path::new("/").join(rest);
        let changed =
            |e: &Mount| path.starts_with(&e.target) || *recursive && e.target.starts_with(&path);
        if before.iter().any(changed) {
            let recursive = *recursive;
            m.source = Source::Inside { path, recursive };
        }
    }
}

fn plan_idmap(
    m: &oci::Mount,
    option: Option<bool>,
    source: &Source,
    namespaces: &Namespaces,
) -> Result<Option<IdMapped>> {
    let uids = plan_map("uidMappings", m.uid_mappings().as_deref())?;
    let gids = plan_map("gidMappings", m.gid_mappings().as_deref())?;
    if uids.is_empty() != gids.is_empty() {
        let missing = if uids.is_empty() {
            "uidMappings"
        } else {
            "gidMappings"
        };
        return Err(Error::invalid(format!(
            "{missing}: an idmapped mount needs both mappings"
        )));
    }
    if option.is_none() && uids.is_empty() {
        return Ok(None);
    }
    if !matches!(source, Source::Bind { .. } | Source::SubPath { .. }) {
        return Err(Error::unsupported(
            "uidMappings: only a bind mount can be idmapped here",
        ));
    }
    if uids.is_empty() && !namespaces.has(USER) {
        return Err(Error::invalid(
            "options: idmap without uidMappings takes those of the container's user namespace, \
             and it has none",
        ));
    }
    Ok(Some(IdMapped {
        recursive: option.unwrap_or(false),
        uids,
        gids,
    }))
}
