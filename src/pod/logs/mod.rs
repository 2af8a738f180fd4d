//! What containers have written, in files in the CRI log format:
//!
//! ```text
//! 2026-01-02T03:04:05.123456789Z stdout F a whole line
//! 2026-01-02T03:04:05.123456790Z stderr P the beginning of a long line,
//! ```
//!
//! An attempt's log is `<n>.log`. Rotation renames it to `<n>.log.<YYYYMMDD-HHMMSS>` and
//! begins a new one. The monitor writes ([`write`]), the verbs read ([`read`]).

pub(crate) mod attempt;
pub(crate) mod intent;
pub(crate) mod read;
pub(crate) mod write;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::{Context, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'b> {
    pub time: &'b str,
    pub stream: Stream,
    /// The line goes on in the next record.
    pub partial: bool,
    pub text: &'b [u8],
}

impl<'b> Record<'b> {
    /// `None` for what is not in the format.
    pub(crate) fn parse(line: &'b [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let name = parts.next()?;
        let stream = Stream::BOTH
            .into_iter()
            .find(|stream| stream.name().as_bytes() == name)?;
        // Tags are separated by colons; the first tells.
        let tag = parts.next()?.split(|b| *b == b':').next()?;
        Some(Record {
            time,
            stream,
            partial: tag == b"P",
            text: parts.next().unwrap_or_default(),
        })
    }

    /// Appends the record as a line.
    pub(crate) fn append_to(&self, log: &mut Vec<u8>) {
        let tag = if self.partial { "P" } else { "F" };
        for part in [self.time, self.stream.name(), tag] {
            log.extend_from_slice(part.as_bytes());
            log.push(b' ');
        }
        log.extend_from_slice(self.text);
        log.push(b'\n');
    }

    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// The attempts of which there is a log, in order.
pub(crate) fn attempts(dir: &Path) -> Result<Vec<u32>> {
    let mut all: Vec<u32> = names(dir)?
        .iter()
        .filter_map(|n| n.split_once(".log")?.0.parse().ok())
        .collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(e) => e,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e).with_context(|| format!("open({})", dir.display())),
    };
    let mut names = vec![];
    for entry in entries {
        let entry = entry.with_context(|| format!("readdir({})", dir.display()))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// One attempt's files, the oldest first (their names sort by time), the one that is
/// written last. By one look at the directory: between two, a rotation would hide a file.
pub(crate) fn files(dir: &Path, attempt: u32) -> Result<Vec<PathBuf>> {
    let current = format!("{attempt}.log");
    let mut names = names(dir)?;
    names.retain(|n| match n.strip_prefix(&current) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('.').is_some_and(|r| {
            r.starts_with(|c: char| c.is_ascii_digit())
                && r.bytes().all(|b| b.is_ascii_digit() || b"-.".contains(&b))
        }),
        None => false,
    });
    names.sort_by(|a, b| (*a == current, a).cmp(&(*b == current, b)));
    Ok(names.into_iter().map(|n| dir.join(n)).collect())
}

/// The file that is written.
pub(crate) fn path_of(dir: &Path, attempt: u32) -> PathBuf {
    dir.join(format!("{attempt}.log"))
}
