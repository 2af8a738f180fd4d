//! What an entry's name says besides naming a file: whiteouts, as OCI image-spec's
//! layer.md has them from aufs.

use crate::{Error, Result};

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// aufs's own bookkeeping.
    Nothing,
    /// The directory hides what lower layers have in it.
    Opaque,
    /// This name hides what lower layers have.
    Whiteout(&'a [u8]),
    /// The entry is what it is.
    Entry(&'a [u8]),
}

/// Of a cleaned path's directory and last component.
pub(crate) fn meaning<'a>(dir: &[u8], name: &'a [u8]) -> Result<Meaning<'a>> {
    let mut above = dir
        .split(|b| *b == b'/')
        .filter(|c| c.starts_with(WHITEOUT));
    if above.clone().any(|c| c.starts_with(META)) {
        return Ok(Meaning::Nothing);
    }
    if above.next().is_some() {
        return Err(Error::invalid("a whiteout cannot be a directory"));
    }
    Ok(match name.strip_prefix(WHITEOUT) {
        None => Meaning::Entry(name),
        Some(_) if name == OPAQUE => Meaning::Opaque,
        Some(_) if name.starts_with(META) => Meaning::Nothing,
        Some(b"" | b"." | b"..") => {
            return Err(Error::invalid("a whiteout that names nothing"));
        }
        Some(hidden) => Meaning::Whiteout(hidden),
    })
}
