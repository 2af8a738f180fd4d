//! JSON records: read whole, written whole.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Context, Error, Kind, Result};

/// Reads a record. A missing file is [`Kind::NotFound`]; a damaged one is
/// [`Kind::Failed`] and names the file and the place in it.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound {
            Kind::NotFound
        } else {
            Kind::Failed
        };
        Error::from(e)
            .with_kind(kind)
            .push_context(format!("open({})", path.display()))
    })?;
    parse(&bytes, path)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::failed(format!("the record {} is damaged: {e}", path.display())))
}

/// Replaces a record in one step for every reader. For trees that a boot
/// clears anyway; see [`save_durable`] for the others.
pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write(path, value, false)
}

/// As [`save`], and on the disk when this returns.
pub fn save_durable<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write(path, value, true)
}

fn write<T: Serialize>(path: &Path, value: &T, durable: bool) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let attempt = || -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        if durable && let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    attempt()
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .with_context(|| format!("write {}", path.display()))
}
