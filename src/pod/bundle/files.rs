//! Variables from files (fileKeyRef): KEP-3721, "Support for env files".
//!
//! A file is a list of assignments as a POSIX shell would take them, of one form alone:
//!
//! ```text
//! # a comment
//! NAME='any text, with $, \ and
//! line breaks as they stand'
//! ```
//!
//! The file was written by a container: it is read through its volume's directory without
//! following links out of it, it has to be a regular file, and no more than
//! [`SIZE_MAX`] bytes of it are read.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use super::fault::config_error;
use super::inputs::EnvInputs;
use crate::linux::root::{Root, open_dir};
use crate::spec::VolumeSource;
use crate::{Context, Error, Result};

/// Bytes: as much as an argument list has room for.
const SIZE_MAX: u64 = 128 * 1024;

/// The files that have been read, by volume and path: many variables may be of one.
pub(super) type Read = BTreeMap<(String, String), Option<Vec<(String, String)>>>;

/// The value of a variable in the file; `None` if it is optional and not there.
pub(super) fn variable(
    inputs: &EnvInputs,
    read: &mut Read,
    volume: &str,
    path: &str,
    key: &str,
    optional: bool,
) -> Result<Option<String>> {
    let of = || format!("file {path} of volume {volume}");
    let place = (volume.to_owned(), path.to_owned());
    if !read.contains_key(&place) {
        read.insert(
            place.clone(),
            read_file(inputs, volume, path).with_context(of)?,
        );
    }
    let missing = |what: String| -> Result<Option<String>> {
        match optional {
            true => Ok(None),
            false => Err(config_error(what).hint(
                "an init container that mounts the volume has to write it first, or set \
                 optional: true",
            )),
        }
    };
    let Some(Some(found)) = read.get(&place) else {
        return missing(format!("there is no {}", of()));
    };
    // The last assignment is the one that a shell would leave.
    match found.iter().rev().find(|(name, _)| name == key) {
        Some((_, value)) => Ok(Some(value.clone())),
        None => missing(format!("there is no key {key} in {}", of())),
    }
}

/// What is in the file; `None` where there is none.
fn read_file(
    inputs: &EnvInputs,
    volume: &str,
    path: &str,
) -> Result<Option<Vec<(String, String)>>> {
    let dir = match inputs.pod.spec.volume(volume).map(|v| &v.source) {
        Some(VolumeSource::EmptyDir { memory: true, .. }) => inputs.paths.memory_volume(volume),
        Some(VolumeSource::EmptyDir { .. }) => inputs.paths.disk_volume(volume),
        _ => return Err(config_error(format!("volume {volume} is no emptyDir"))),
    };
    let dir = open_dir(&dir)?;
    let bytes = match Root::new(dir.as_fd()).read(Path::new(path), SIZE_MAX) {
        Err(e) if e.errno() == Some(Errno::EAGAIN) => {
            let held = config_error("a process has a lease on it (F_SETLEASE of fcntl(2))");
            return Err(held.hint(
                "let the program that wrote the file give up its lease or end: the container \
                 starts then",
            ));
        }
        other => other?,
    };
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| config_error("it is not UTF-8"))?;
    parse(&text).map(Some)
}

/// Names and values in their order.
fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let begun = first.trim_start();
        if begun.is_empty() || begun.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let wrong = |why: &str| -> Error {
            config_error(format!("line {line}: {why}"))
                .hint("a line is NAME='value', a comment that begins with #, or empty")
        };
        let (name, value) = rest
            .trim_start()
            .split_once('=')
            .filter(|(name, _)| !name.contains('\n'))
            .ok_or_else(|| wrong("there is no ="))?;
        let is_name = |b: u8| (b'!'..=b'~').contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(wrong("what stands before the = is no name of a variable"));
        }
        let value = value
            .strip_prefix('\'')
            .ok_or_else(|| wrong("the value is not in single quotes"))?;
        let (value, after) = value
            .split_once('\'')
            .ok_or_else(|| wrong("the value has no closing single quote"))?;
        let (tail, after) = after.split_once('\n').unwrap_or((after, ""));
        let tail = tail.trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(wrong("there is more after the closing single quote"));
        }
        found.push((name.to_owned(), value.to_owned()));
        line += value.matches('\n').count() + 1;
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let text = "# c\n\n  A='1'\nB='two\nlines = $x \\' # more\nA=''\r\n";
        let found = parse(text).unwrap();
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            found,
            [
                pair("A", "1"),
                pair("B", "two\nlines = $x \\"),
                pair("A", "")
            ]
        );
        for (text, why) in [
            ("A='1'\nB=2\n", "line 2: the value is not in single quotes"),
            ("A\nB='1'", "line 1: there is no ="),
            ("='1'", "no name"),
            ("A B='1'", "no name"),
            ("A='1", "no closing"),
            ("A='x\ny'\nB='1'2\n", "line 3: there is more"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text:?}: {e}");
        }
    }
}
