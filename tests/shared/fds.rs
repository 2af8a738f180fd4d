//! The fds of a traced program: what a test of paths through `/proc/self/fd/N` tries,
//! instead of a guess.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

/// A command that runs `program` under strace, which writes to `trace` what
/// [`numbers`] reads: all calls of it and its children, each fd with what it refers to.
pub(crate) fn traced(trace: &Path, program: &OsStr) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-qq", "-o"])
        .arg(trace)
        .arg(program);
    strace
}

/// Every number that an fd has had: 3 to the highest one.
pub(crate) fn numbers(trace: &Path) -> RangeInclusive<u32> {
    let text = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();
    // As in `openat2(27</tmp/bundle>, ...`.
    let before_angle = text.split('<').filter_map(|part| {
        let end = part.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        part[end..].parse::<u32>().ok()
    });
    // Strings that were written may have larger numbers before an angle bracket.
    let highest = before_angle.filter(|n| *n < 1024).max();
    3..=highest.expect("strace has seen no fd")
}
