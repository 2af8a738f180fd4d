//! JSON records: read whole, written whole.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Context, Error, Ignored, Kind, Result};

/// Reads a record. A missing file is [`Kind::NotFound`]; a damaged one is
/// [`Kind::Failed`] and names the file and the place in it.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
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
    parse(&bytes, || path.to_owned())
}

/// A record that holds the version of its form.
pub(crate) trait Versioned: DeserializeOwned {
    const VERSION: u32;
    fn version(&self) -> u32;
}

/// Reads a record; `None` if there is none, which means that a new one is due.
///
/// # Errors
/// The record is there and is damaged or of another version: both name the file.
pub(crate) fn load_versioned<T: Versioned>(path: &Path) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let other = |version: u32| {
        Err(Error::unsupported(format!(
            "the record {} has version {version}, this carob reads {}",
            path.display(),
            T::VERSION
        )))
    };
    match load::<T>(path) {
        Ok(record) if record.version() == T::VERSION => Ok(Some(record)),
        Ok(record) => other(record.version()),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        // Another version may have other fields.
        Err(e) => match load::<Version>(path) {
            Ok(v) if v.version != T::VERSION => other(v.version),
            _ => Err(e),
        },
    }
}

/// As [`load_versioned`], of a record that has to be there.
///
/// # Errors
/// [`Kind::NotFound`] if it is not; else as there.
pub(crate) fn load_existing<T: Versioned>(path: &Path) -> Result<T> {
    load_versioned(path)?.ok_or_else(|| {
        Error::sys(format!("open({})", path.display()), Errno::ENOENT).with_kind(Kind::NotFound)
    })
}

pub(super) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    path: impl FnOnce() -> PathBuf,
) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::failed(format!("the record {} is damaged: {e}", path().display())))
}

/// Replaces a record in one step for every reader. For trees that a boot
/// clears anyway; see [`save_durable`] for the others.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write(path, value, false)
}

/// As [`save`], of a text that is JSON already.
pub(crate) fn save_json(path: &Path, text: &str) -> Result<()> {
    replace(path, text.as_bytes(), false).with_context(|| format!("write {}", path.display()))
}

/// As [`save`], and on the disk when this returns.
pub(crate) fn save_durable<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write(path, value, true)
}

/// As [`save_durable`], by a temporary file of this name in the same directory: for a path
/// whose name leaves no room for a longer one. Writers keep each other out.
pub(crate) fn save_by<T: Serialize>(temporary: &Path, path: &Path, value: &T) -> Result<()> {
    replace_by(temporary, path, &serde_json::to_vec(value)?, true)
        .with_context(|| format!("write {}", path.display()))
}

/// Removes a record for good.
pub(crate) fn remove_durable(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("unlink({})", path.display()))?;
    sync_parent(path).with_context(|| format!("fsync the directory of {}", path.display()))
}

fn write<T: Serialize>(path: &Path, value: &T, durable: bool) -> Result<()> {
    replace(path, &serde_json::to_vec(value)?, durable)
        .with_context(|| format!("write {}", path.display()))
}

fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let temporary = beside(path, &format!(".{}.tmp", std::process::id()));
    replace_by(&temporary, path, bytes, durable)
}

fn replace_by(temporary: &Path, path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    log::trace!(
        "write the record {} ({} bytes)",
        path.display(),
        bytes.len()
    );
    let attempt = || -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(temporary)?;
        file.write_all(bytes)?;
        put_in_place(&file, temporary, path, durable)
    };
    attempt().inspect_err(|_| {
        std::fs::remove_file(temporary).ignored("it may not have been made");
    })
}

fn sync_parent(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn put_in_place(file: &File, from: &Path, to: &Path, durable: bool) -> Result<()> {
    if durable {
        file.sync_all()?;
    }
    std::fs::rename(from, to)?;
    if durable {
        sync_parent(to)?;
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// The least that is set aside: a page, which is also what most filesystems allocate.
const SPARE_LEAST: u64 = 4096;

/// Sets `bytes` aside for [`save_reserved`], in a file beside the record. A record that
/// says that something has ended or goes must not need space that is not there.
pub(crate) fn reserve(path: &Path, bytes: u64) -> Result<()> {
    let spare = beside(path, SPARE);
    let bytes = bytes.max(SPARE_LEAST).next_multiple_of(SPARE_LEAST);
    let make = || -> Result<()> {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&spare)?;
        if file.metadata()?.len() >= bytes {
            return Ok(());
        }
        match fallocate(&file, FallocateFlags::empty(), 0, bytes as i64) {
            // This filesystem cannot: it allocates what is written.
            Err(Errno::EOPNOTSUPP) => Ok(file.write_all_at(&vec![0; bytes as usize], 0)?),
            other => Ok(other?),
        }
    };
    make().with_context(|| format!("reserve {bytes} bytes for {}", path.display()))
}

/// What [`reserve`] appends to a record's name.
const SPARE: &str = ".spare";

/// As [`save`]; on a full filesystem into the space that [`reserve`] has set aside.
/// Afterwards `room` bytes are set aside again, or as much of that as there is; without
/// `room`, as many as the record has.
pub(crate) fn save_reserved<T: Serialize>(path: &Path, value: &T, room: Option<u64>) -> Result<()> {
    write_reserved(path, value, room, false)
}

/// As [`save_reserved`], and on the disk when this returns.
pub(crate) fn save_reserved_durable<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_reserved(path, value, None, true)
}

fn write_reserved<T: Serialize>(
    path: &Path,
    value: &T,
    room: Option<u64>,
    durable: bool,
) -> Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let saved = match replace(path, &bytes, durable) {
        // The error to tell is that of a filesystem that is full.
        Err(e) if is_full(&e) => write_into_spare(path, &bytes, durable).map_err(|_| e),
        other => other,
    };
    saved.with_context(|| format!("write {}", path.display()))?;
    // The old record has left some room, and so has the end of the spare file.
    let mut room = room.unwrap_or(bytes.len() as u64);
    while reserve(path, room).is_err() && room > SPARE_LEAST {
        room /= 2;
    }
    Ok(())
}

fn write_into_spare(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let spare = beside(path, SPARE);
    let file = std::fs::OpenOptions::new().write(true).open(&spare)?;
    if bytes.len() as u64 > file.metadata()?.len() {
        return Err(Errno::ENOSPC.into());
    }
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    put_in_place(&file, &spare, path, durable)
}

/// Whether the process or the machine has no file descriptor left.
pub(crate) fn is_out_of_fds(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno::EMFILE | Errno::ENFILE))
}

/// Whether a filesystem has no room, or the owner's quota there is used up.
pub(crate) fn is_full(e: &Error) -> bool {
    matches!(e.errno(), Some(Errno::ENOSPC | Errno::EDQUOT))
}

/// Marks a record whose owner knows more than it could write. Needs no space; the next
/// record that is written has no mark. The mark is the sticky bit, which means nothing
/// on a file.
pub(crate) fn mark_stale(path: &Path) -> Result<()> {
    let mode = Permissions::from_mode(0o600 | STALE);
    std::fs::set_permissions(path, mode).with_context(|| format!("chmod({})", path.display()))
}

pub(super) const STALE: u32 = libc::S_ISVTX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mount::{Mount, unmount};
    use crate::linux::root::open_dir;
    use std::os::fd::AsFd;

    /// A tmpfs of 64 KiB, unmounted when dropped.
    struct Small(PathBuf);

    impl Small {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("carob-{name}-{}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            Mount::new("tmpfs", &[("size", "64k")], 0)
                .and_then(|m| m.attach(open_dir(&dir)?.as_fd()))
                .unwrap();
            Small(dir)
        }

        fn fill(&self) {
            let mut file = File::create(self.0.join("fill")).unwrap();
            while file.write_all(&[1; 4096]).is_ok() {}
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = unmount(&self.0);
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn a_full_filesystem_takes_records_that_have_room_of_their_own() {
        let fs = Small::new("full");
        let path = fs.0.join("r.json");
        save(&path, &"old").unwrap();
        reserve(&path, 8192).unwrap();
        fs.fill();
        assert!(is_full(&save(&path, &"new").unwrap_err()));
        // As often as one likes, up to what was reserved.
        for size in [1, 6000, 2, 8000] {
            let text = "x".repeat(size);
            save_reserved(&path, &text, Some(8192)).unwrap();
            assert!(load::<String>(&path).unwrap() == text, "{size}");
        }
        let e = save_reserved(&path, &"x".repeat(8200), None).unwrap_err();
        assert!(is_full(&e), "{e}");
        assert_eq!(load::<String>(&path).unwrap().len(), 8000);
        let mut names: Vec<_> = std::fs::read_dir(&fs.0)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["fill", "r.json", "r.json.spare"]);
    }

    #[test]
    fn only_a_missing_record_means_a_new_one() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Record {
            version: u32,
            value: String,
        }
        impl Versioned for Record {
            const VERSION: u32 = 2;
            fn version(&self) -> u32 {
                self.version
            }
        }
        let fs = Small::new("versions");
        let path = fs.0.join("r.json");
        assert_eq!(load_versioned::<Record>(&path).unwrap(), None);
        for (text, why, kind) in [
            ("", "r.json is damaged", Kind::Failed),
            ("{}", "r.json is damaged", Kind::Failed),
            (r#"{"version": 2}"#, "r.json is damaged", Kind::Failed),
            // Of another version, with the same fields and with others.
            (
                r#"{"version": 1, "value": "v"}"#,
                "r.json has version 1, this carob reads 2",
                Kind::Unsupported,
            ),
            (
                r#"{"version": 3, "values": []}"#,
                "r.json has version 3, this carob reads 2",
                Kind::Unsupported,
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let e = load_versioned::<Record>(&path).unwrap_err();
            assert!(e.to_string().contains(why), "{text}: {e}");
            assert_eq!(e.kind(), kind, "{text}");
        }
        std::fs::write(&path, r#"{"version": 2, "value": "v"}"#).unwrap();
        let value = load_versioned::<Record>(&path).unwrap().unwrap().value;
        assert_eq!(value, "v");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let e = load_versioned::<Record>(&path).unwrap_err();
        assert!(e.to_string().contains("r.json"), "{e}");
    }

    #[test]
    fn a_mark_goes_with_the_next_record() {
        let fs = Small::new("mark");
        save(&fs.0.join("r.json"), &1).unwrap();
        let dir = super::super::Dir::open(&fs.0).unwrap();
        let load = || dir.load_marked::<u32>(Path::new("r.json")).unwrap();
        assert_eq!(load(), (1, false));
        mark_stale(&fs.0.join("r.json")).unwrap();
        assert_eq!(load(), (1, true));
        save(&fs.0.join("r.json"), &2).unwrap();
        assert_eq!(load(), (2, false));
    }
}
