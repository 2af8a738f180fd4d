//! A mount namespace's mounts, as /proc/<pid>/mountinfo lists them: proc(5).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::{Context, Error, Result};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: u32,
    /// The id of the mount that it is on.
    pub parent: u32,
    /// major:minor
    pub device: String,
    /// What of its filesystem it shows.
    pub root: PathBuf,
    /// In the eyes of the process whose table this is.
    pub point: PathBuf,
    pub fstype: String,
}

/// Of a process: "self" or a pid.
pub(crate) fn of(process: &str) -> Result<Vec<Entry>> {
    let path = format!("/proc/{process}/mountinfo");
    // A mount point may have any bytes in its name.
    let text = std::fs::read(&path).with_context(|| format!("read({path})"))?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// The id of the mount that an open file is on.
pub(crate) fn id_of(fd: BorrowedFd) -> Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read({path})"))?;
    let id = text.lines().find_map(|l| l.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| Error::failed(format!("{path}: no mnt_id")))
}

/// "id parent dev root point options [optional...] - type source super"
fn parse(line: &[u8]) -> Option<Entry> {
    let text = |field: &[u8]| Some(std::str::from_utf8(field).ok()?.to_owned());
    let dash = line.windows(3).position(|w| w == b" - ")?;
    let mut fields = line[..dash].split(|b| *b == b' ');
    let mut right = line[dash + 3..].split(|b| *b == b' ');
    Some(Entry {
        id: text(fields.next()?)?.parse().ok()?,
        parent: text(fields.next()?)?.parse().ok()?,
        device: text(fields.next()?)?,
        root: unescape(fields.next()?),
        point: unescape(fields.next()?),
        fstype: text(right.next()?)?,
    })
}

impl Entry {
    /// Whether it keeps a mount namespace: nsfs, in namespaces(7).
    pub(crate) fn pins_mount_namespace(&self) -> bool {
        self.fstype == "nsfs"
            && self
                .root
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"mnt:")
    }

    /// Its place below `dir`, if it is there.
    pub(crate) fn below(&self, dir: &Path) -> Option<&Path> {
        let rest = self.point.strip_prefix(dir).ok()?;
        Some(rest).filter(|r| !r.as_os_str().is_empty())
    }
}

/// mountinfo writes space, tab, newline and backslash as `\ooo`.
pub(super) fn unescape(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).filter(|_| bytes[i] == b'\\');
        let value = octal
            .and_then(|o| std::str::from_utf8(o).ok())
            .and_then(|o| u8::from_str_radix(o, 8).ok());
        match value {
            Some(v) => {
                out.push(v);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let line = "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root rw";
        let e = parse(line.as_bytes()).unwrap();
        assert_eq!(
            (e.id, e.parent, &*e.device, &*e.fstype),
            (36, 35, "98:0", "ext3")
        );
        assert_eq!(e.root, Path::new("/mnt1"));
        assert_eq!(e.point, Path::new("/a b"));
        assert_eq!(e.below(Path::new("/")), Some(Path::new("a b")));
        assert_eq!(e.below(Path::new("/a b")), None);
        assert!(parse(b"36 35").is_none());
        use std::os::unix::ffi::OsStrExt;
        let e = parse(b"36 35 98:0 / /m\xff rw - ext3 /dev/root rw").unwrap();
        assert_eq!(e.point.as_os_str().as_bytes(), b"/m\xff");
    }
}
