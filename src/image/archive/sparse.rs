//! GNU's sparse files: which parts of a file are in the archive, and where in the
//! file they belong. Four forms, as the manual of GNU tar has them:
//!
//! - *old*: type `S`, a map of four extents in the header and 21 in each block that
//!   follows it;
//! - *0.0*: PAX records `GNU.sparse.offset` and `numbytes`, in turn;
//! - *0.1*: one record `GNU.sparse.map`, and the file's name in `GNU.sparse.name`;
//! - *1.0*: the map is text before the content, in blocks of its own.
//!
//! Whatever the form, extents are in the order of the file, do not overlap, lie
//! within the file's size, and make up all of the content that follows: a map in
//! which two bytes of the archive claim one place, or none, means one thing to one
//! tool and another to the next.

use std::io::Read;

use super::{BLOCK, Header, Reader, truncated};
use crate::{Error, Result};

/// Extents of one file: 2 MiB of memory. The maps of 0.0 and 0.1 end earlier, at the
/// bound for PAX records.
pub(super) const MAX_EXTENTS: usize = 1 << 17;

/// A part of a file that is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// A map as it was found, to be checked.
pub(super) struct Map {
    size: u64,
    extents: Vec<Extent>,
}

/// How an entry is sparse.
pub(super) enum Form {
    /// The map is known.
    Known(Map),
    /// 1.0: it is where the content begins.
    Ahead { size: u64 },
}

/// What the headers have said so far.
#[derive(Default)]
pub(super) struct Pax {
    pub old: Option<Map>,
    pub name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    real_size: Option<u64>,
    blocks: Option<u64>,
    /// Of 0.0: an offset whose length is to come.
    offset: Option<u64>,
    extents: Vec<Extent>,
}

impl Pax {
    /// A record, without `GNU.sparse.` before it; `None` if it makes no sense.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" if value.is_empty() => return None,
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(number(value)?),
            b"minor" => self.minor = Some(number(value)?),
            b"size" => self.size = Some(number(value)?),
            b"realsize" => self.real_size = Some(number(value)?),
            b"numblocks" => self.blocks = Some(number(value)?),
            b"offset" if self.offset.is_some() => return None,
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => {
                let (offset, length) = (self.offset.take()?, number(value)?);
                self.extents.push(Extent { offset, length });
            }
            b"map" => {
                self.extents.clear();
                let mut numbers = value.split(|b| *b == b',');
                while let Some(offset) = numbers.next() {
                    let (offset, length) = (number(offset)?, number(numbers.next()?)?);
                    self.extents.push(Extent { offset, length });
                }
            }
            // What is not understood could change what the rest means.
            _ => return None,
        }
        Some(())
    }

    /// How the entry to come is sparse, if it is.
    pub(super) fn form(self) -> Result<Option<Form>> {
        let records = self.major.is_some()
            || self.minor.is_some()
            || self.size.is_some()
            || self.real_size.is_some()
            || self.blocks.is_some()
            || self.name.is_some()
            || self.offset.is_some()
            || !self.extents.is_empty();
        if !records {
            return Ok(self.old.map(Form::Known));
        }
        let wrong = |why: &str| Error::invalid(format!("sparse file: {why}"));
        if self.old.is_some() {
            return Err(wrong("it has a map of the old form and one of PAX"));
        }
        let size = match (self.real_size, self.size) {
            (Some(a), Some(b)) if a != b => return Err(wrong("it has two sizes")),
            (real, size) => real.or(size).ok_or_else(|| wrong("it has no size"))?,
        };
        match (self.major, self.minor) {
            (Some(1), Some(0)) if self.extents.is_empty() && self.offset.is_none() => {
                Ok(Some(Form::Ahead { size }))
            }
            (Some(1), Some(0)) => Err(wrong("it has a map of version 0 and is of version 1")),
            // Writers of 0.0 and 0.1 need not say so.
            (None | Some(0), None | Some(0 | 1)) => {
                if self.offset.is_some() {
                    return Err(wrong("an offset has no length"));
                }
                if self.blocks.is_some_and(|n| n != self.extents.len() as u64) {
                    return Err(wrong("its map has another number of extents than it says"));
                }
                let extents = self.extents;
                Ok(Some(Form::Known(Map { size, extents })))
            }
            (major, minor) => Err(Error::unsupported(format!(
                "sparse file: version {}.{} is not supported",
                major.unwrap_or(0),
                minor.unwrap_or(0)
            ))),
        }
    }
}

impl<R: Read> Reader<R> {
    /// The map of an old header, and of the blocks that follow it.
    pub(super) fn old_sparse(&mut self, header: &Header<'_>) -> Result<Map> {
        let mut map = Map {
            size: size(header.number(483, 12)?)?,
            extents: Vec::new(),
        };
        let mut more = add(&mut map, header, 386, 4)? && header.field(482, 1) != [0];
        while more {
            let block = self.block()?.ok_or_else(truncated)?;
            let header = Header(&block);
            more = add(&mut map, &header, 0, 21)? && header.field(504, 1) != [0];
            if map.extents.len() > MAX_EXTENTS {
                return Err(too_many());
            }
        }
        Ok(map)
    }

    /// The file's size and its extents, checked; what is left of the content is
    /// theirs.
    pub(super) fn sparse(&mut self, form: Form) -> Result<(u64, Vec<Extent>)> {
        let map = match form {
            Form::Known(map) => map,
            Form::Ahead { size } => {
                let mut text = Text::default();
                let count = self.map_number(&mut text)?;
                if count > MAX_EXTENTS as u64 {
                    return Err(too_many());
                }
                let mut extents = Vec::new();
                for _ in 0..count {
                    extents.push(Extent {
                        offset: self.map_number(&mut text)?,
                        length: self.map_number(&mut text)?,
                    });
                }
                Map { size, extents }
            }
        };
        let extents = check(map.size, map.extents, self.remaining)?;
        Ok((map.size, extents))
    }

    /// The next line of a map of version 1.0.
    fn map_number(&mut self, text: &mut Text) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if text.at == text.block.len() {
                if self.remaining < BLOCK as u64 {
                    return Err(Error::invalid("sparse file: its map does not end"));
                }
                let block = self.block()?.ok_or_else(truncated)?;
                self.remaining -= BLOCK as u64;
                *text = Text {
                    block: block.to_vec(),
                    at: 0,
                };
            }
            let byte = text.block[text.at];
            text.at += 1;
            if byte == b'\n' {
                return number(&digits).ok_or_else(bad_map);
            }
            digits.push(byte);
            if digits.len() > 20 {
                return Err(bad_map());
            }
        }
    }
}

/// The block of a map of version 1.0 that is being read.
#[derive(Default)]
struct Text {
    block: Vec<u8>,
    at: usize,
}

/// Takes extents from a header's table; `false` if it ended early.
fn add(map: &mut Map, header: &Header<'_>, at: usize, most: usize) -> Result<bool> {
    for i in 0..most {
        let at = at + 24 * i;
        if header.field(at, 1) == [0] {
            return Ok(false);
        }
        map.extents.push(Extent {
            offset: size(header.number(at, 12)?)?,
            length: size(header.number(at + 12, 12)?)?,
        });
    }
    Ok(true)
}

/// Those extents that are not empty, if they are what the module's head says.
fn check(size: u64, extents: Vec<Extent>, stored: u64) -> Result<Vec<Extent>> {
    if extents.len() > MAX_EXTENTS {
        return Err(too_many());
    }
    let (mut end, mut sum) = (0, 0);
    for e in &extents {
        let after = e.offset.checked_add(e.length).filter(|n| *n <= size);
        let Some(after) = after.filter(|_| e.offset >= end) else {
            return Err(Error::invalid(
                "sparse file: its extents overlap, are out of order, or lie beyond its end",
            ));
        };
        end = after;
        // At most `size`, as they do not overlap.
        sum += e.length;
    }
    if sum != stored {
        return Err(Error::invalid(format!(
            "sparse file: its map is of {sum} bytes, its content of {stored}"
        )));
    }
    Ok(extents.into_iter().filter(|e| e.length > 0).collect())
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (n <= i64::MAX as u64 / 2).then_some(n)
}

fn size(n: i128) -> Result<u64> {
    u64::try_from(n)
        .ok()
        .filter(|n| *n <= i64::MAX as u64 / 2)
        .ok_or_else(|| Error::invalid("sparse file: a number of its map is out of range"))
}

fn bad_map() -> Error {
    Error::invalid("sparse file: its map is malformed")
}

fn too_many() -> Error {
    Error::invalid(format!(
        "sparse file: its map has more than {MAX_EXTENTS} extents"
    ))
}

#[cfg(test)]
#[path = "sparse_tests.rs"]
mod tests;
