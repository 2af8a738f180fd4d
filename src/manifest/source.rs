//! Where manifests come from: a file, a directory, standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::yaml::{MAX_BYTES, other_format};
use crate::nearest::nearest;
use crate::{Context, Error, Kind, Result};

/// Bytes, and whence.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file as the user named it, or `-`.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Reads what `-f` names: `-` is standard input; of a directory the files
/// `*.yaml`, `*.yml` and `*.json` in the order of their names, without those
/// below, as kubectl does.
pub(crate) fn read(path: &str) -> Result<Vec<Source>> {
    if path == "-" {
        let bytes = read_bounded(std::io::stdin().lock(), "standard input")?;
        return Ok(vec![Source {
            name: "-".into(),
            bytes,
        }]);
    }
    if let Some((scheme @ ("http" | "https"), _)) = path.split_once("://") {
        return Err(Error::new(
            Kind::Usage,
            format!("{path}: carob reads files, not {scheme} URLs"),
        )
        .hint(format!("curl -fsSL {path} | carob apply -f -")));
    }
    let kind = std::fs::metadata(path).map_err(|e| not_found(e, path))?;
    if !kind.is_dir() {
        return Ok(vec![read_file(Path::new(path))?]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("open({path})"))? {
        let file = entry.with_context(|| format!("getdents({path})"))?.path();
        let wanted = file
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| ["yaml", "yml", "json"].contains(&e));
        if wanted && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            format!("{path} has no file that ends in .yaml, .yml or .json"),
        )
        .hint("name the manifest itself: -f FILE; directories below are not read"));
    }
    files.sort();
    files.iter().map(|f| read_file(f)).collect()
}

fn read_file(path: &Path) -> Result<Source> {
    let name = path.to_string_lossy().into_owned();
    let file = File::open(path).map_err(|e| not_found(e, &name))?;
    let bytes = read_bounded(file, &name)?;
    Ok(Source { name, bytes })
}

fn not_found(e: std::io::Error, name: &str) -> Error {
    let error = Error::of_file(e, format!("open({name})"));
    let missing = error.kind() == Kind::NotFound;
    match missing {
        true => error.hint(missing_hint(Path::new(name), &[".yaml", ".yml", ".json"])),
        false => error,
    }
}

/// The first part of `path` that is not there, and what may have been meant: of a directory,
/// names that end in one of `ends`.
pub(crate) fn missing_hint(path: &Path, ends: &[&str]) -> String {
    /// Of a directory, what is read and what is listed.
    const READ: usize = 4096;
    const LISTED: usize = 6;
    let mut parts: Vec<&Path> = path.ancestors().filter(|p| *p != Path::new("")).collect();
    parts.reverse();
    let Some(gap) = parts.iter().find(|part| !part.exists()) else {
        return "correct the path".into();
    };
    let (dir, place) = match gap.parent() {
        Some(dir) if dir != Path::new("") => (dir, dir.display().to_string()),
        _ => {
            let dir = std::env::current_dir().unwrap_or_default();
            (
                Path::new("."),
                format!("the working directory, {}", dir.display()),
            )
        }
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().take(READ);
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.contains(char::is_control))
        .collect();
    names.sort_unstable();
    let sought = gap.file_name().unwrap_or_default().to_string_lossy();
    if let Some(near) = nearest(&sought, names.iter().map(String::as_str)) {
        let near = match dir == Path::new(".") {
            true => Path::new(near).to_owned(),
            false => dir.join(near),
        };
        return format!("did you mean {}?", near.display());
    }
    names.retain(|n| ends.iter().any(|end| n.ends_with(end)));
    let more = if names.len() > LISTED { ", ..." } else { "" };
    names.truncate(LISTED);
    match names.is_empty() {
        true => format!("correct the path: there is no {sought:?} in {place}"),
        false => format!("{place} has {}{more}", names.join(", ")),
    }
}

/// All of it, but never more than a manifest may have.
fn read_bounded(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut bounded = from.take(MAX_BYTES as u64 + 1);
    bounded
        .read_to_end(&mut bytes)
        .with_context(|| format!("read({name})"))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::invalid(match other_format(&bytes) {
            Some(other) => format!("{name}: {other}"),
            None => format!(
                "{name}: a manifest may have at most {MAX_BYTES} bytes: split it into several files"
            ),
        }));
    }
    Ok(bytes)
}
