//! Where manifests come from: a file, a directory, standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::yaml::MAX_BYTES;
use crate::{Context, Error, Kind, Result};

/// Bytes, and whence.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file as the user named it, or `-`.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Reads what `-f` names: `-` is standard input; of a directory the files
/// `*.yaml`, `*.yml` and `*.json` in the order of their names, without those
/// below, as kubectl does.
pub fn read(path: &str) -> Result<Vec<Source>> {
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
        ));
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
    let kind = match e.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Permission,
        _ => Kind::Failed,
    };
    Error::from(e)
        .with_kind(kind)
        .push_context(format!("open({name})"))
}

/// All of it, but never more than a manifest may have.
fn read_bounded(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut bounded = from.take(MAX_BYTES as u64 + 1);
    bounded
        .read_to_end(&mut bytes)
        .with_context(|| format!("read({name})"))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::invalid(format!(
            "{name}: a manifest may have at most {MAX_BYTES} bytes"
        )));
    }
    Ok(bytes)
}
