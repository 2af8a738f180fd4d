//! The debug log: the steps of this program (level debug) and its calls to the kernel
//! (level trace), in their order. It answers what was done just before a failure, and
//! where a program hangs.
//!
//! Off unless `--log-level` or [`VARIABLE`] asks for it. Code anywhere says its steps by
//! the macros of the crate `log`, and its calls by [`Call`]. While the log is off each
//! costs one relaxed load; no text is made.
//!
//! Lines go to one [`Output`], which a program sets once: standard error, the file of
//! `carob-oci --log`, a monitor's file. The child that becomes a container's process has
//! none of these files: it sends its lines to its parent ([`crate::container`]).
//!
//! No line has what may be a secret: contents of volumes, environment variables and
//! arguments of containers, credentials.

use std::fmt::{self, Display};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::Location;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use log::{Level, LevelFilter, Metadata, Record};
use nix::errno::Errno;

use crate::plain::strip_styles;
use crate::{Error, Kind, Result};

/// The environment variable that has the level, where no flag is given.
pub(crate) const VARIABLE: &str = "CAROB_LOG";

/// From the one that says least; each has all of those before it.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The most bytes of a line's text: a line is one write(2).
const TEXT: usize = 4096;

/// What one line says.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub time: Timestamp,
    pub level: Level,
    pub pid: i32,
    /// The module that says it, such as `linux::mount`.
    pub area: &'a str,
    /// Without control characters.
    pub text: &'a str,
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.level.as_str().to_ascii_lowercase();
        let Line {
            time,
            pid,
            area,
            text,
            ..
        } = self;
        writeln!(f, "{time:.6} {pid} {level} {area}: {text}")
    }
}

/// Where lines go. What cannot be written is lost: the log never harms what it tells of.
pub(crate) type Output = Box<dyn Fn(&Line) + Send + Sync>;

static OUTPUT: RwLock<Option<Output>> = RwLock::new(None);

struct Backend;

impl log::Log for Backend {
    /// The crates that we use have lines of their own: headers of HTTP requests for one.
    fn enabled(&self, metadata: &Metadata) -> bool {
        area(metadata.target()).is_some()
    }

    fn log(&self, record: &Record) {
        if let Some(area) = area(record.target()) {
            write(Line {
                time: Timestamp::now(),
                level: record.level(),
                pid: std::process::id() as i32,
                area,
                text: &record.args().to_string(),
            });
        }
    }

    fn flush(&self) {}
}

fn area(target: &str) -> Option<&str> {
    target.strip_prefix("carob::")
}

/// Writes a line, unless the level is off. For lines of another process; others come by
/// the macros of the crate `log`.
pub(crate) fn write(line: Line) {
    if line.level > log::max_level() {
        return;
    }
    let text = one_line(line.text);
    let output = OUTPUT.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(output) = &*output {
        output(&Line {
            text: &text,
            ..line
        });
    }
}

/// Without the characters that a terminal acts on, and not longer than a line may be.
fn one_line(text: &str) -> String {
    let mut line = strip_styles(text).replace('\n', "\\n");
    if line.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or_default());
        line.push_str("...");
    }
    line
}

/// The level of that name.
pub(crate) fn parse_level(text: &str) -> Result<LevelFilter> {
    // As logrus, and so runc, has it too.
    if text.eq_ignore_ascii_case("warning") {
        return Ok(LevelFilter::Warn);
    }
    let level = text.parse::<Level>().map_err(|_| {
        Error::new(
            Kind::Usage,
            format!("{text:?}: no level of the log: it is one of {}", list()),
        )
    })?;
    Ok(level.to_level_filter())
}

fn list() -> String {
    let (last, others) = LEVELS.split_last().unwrap_or((&"", &[]));
    format!("{} or {last}", others.join(", "))
}

/// What [`VARIABLE`] asks for, if anything.
pub(crate) fn level_of_environment() -> Result<Option<LevelFilter>> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    parse_level(&value.to_string_lossy())
        .map(Some)
        .map_err(|e| e.push_context(VARIABLE))
}

/// The level's name, for a program that is to have the same one; `None` if the log is off.
pub(crate) fn level() -> Option<&'static str> {
    let place = log::max_level() as usize;
    place.checked_sub(1).and_then(|at| LEVELS.get(at)).copied()
}

/// From now on lines up to that level go to `output`, and to no other.
pub(crate) fn start(level: LevelFilter, output: Output) {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "a second call finds the same logger in its place"
    )]
    let _ = log::set_logger(&Backend);
    *OUTPUT.write().unwrap_or_else(PoisonError::into_inner) = Some(output);
    log::set_max_level(level);
}

/// As [`start`], on standard error.
pub(crate) fn start_on_stderr(level: LevelFilter) {
    start(level, Box::new(|line| write_stderr(&line.to_string())));
}

/// In one write(2), so that lines of several processes do not mix.
pub(crate) fn write_stderr(line: &str) {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "this is the log: it has no other place"
    )]
    let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
}

/// Closes the output. For a process that goes on as a container's.
pub(crate) fn stop() {
    if log::max_level() != LevelFilter::Off {
        log::set_max_level(LevelFilter::Off);
        *OUTPUT.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The result of a system call, as strace shows it.
pub(crate) trait Returned {
    fn returned(&self) -> i64;
}

impl Returned for () {
    fn returned(&self) -> i64 {
        0
    }
}

impl Returned for OwnedFd {
    fn returned(&self) -> i64 {
        self.as_fd().as_raw_fd().into()
    }
}

impl Returned for i32 {
    fn returned(&self) -> i64 {
        (*self).into()
    }
}

impl Returned for usize {
    fn returned(&self) -> i64 {
        *self as i64
    }
}

/// A system call that has been made. `call` is its text as strace has it, as in
/// `mount("proc", "/proc", ...)`, made only where it is read.
pub(crate) trait Call<T> {
    /// Writes it to the log, and makes a refusal an error.
    fn call<S: Display>(self, call: impl FnOnce() -> S) -> Result<T>;

    /// Writes it to the log. For a caller that some refusals do not trouble.
    fn traced<S: Display>(self, call: impl FnOnce() -> S) -> Self;
}

impl<T: Returned> Call<T> for std::result::Result<T, Errno> {
    #[track_caller]
    #[inline]
    fn call<S: Display>(self, call: impl FnOnce() -> S) -> Result<T> {
        if log::max_level() < LevelFilter::Trace {
            return self.map_err(|e| Error::sys(call(), e));
        }
        let call = call();
        trace(&call, outcome(&self), Location::caller());
        self.map_err(|e| Error::sys(call, e))
    }

    #[track_caller]
    #[inline]
    fn traced<S: Display>(self, call: impl FnOnce() -> S) -> Self {
        if log::max_level() >= LevelFilter::Trace {
            trace(&call(), outcome(&self), Location::caller());
        }
        self
    }
}

fn outcome<T: Returned>(result: &std::result::Result<T, Errno>) -> std::result::Result<i64, Errno> {
    result.as_ref().map(Returned::returned).map_err(|e| *e)
}

#[cold]
fn trace(
    call: &dyn Display,
    outcome: std::result::Result<i64, Errno>,
    at: &'static Location<'static>,
) {
    let text = match outcome {
        Ok(n) => format!("{call} = {n}"),
        Err(e) => format!("{call} = -1 {e:?} ({})", e.desc()),
    };
    write_trace(&text, at);
}

#[cold]
fn write_trace(text: &str, at: &'static Location<'static>) {
    write(Line {
        time: Timestamp::now(),
        level: Level::Trace,
        pid: std::process::id() as i32,
        area: &module_of(at.file()),
        text,
    });
}

/// A result whose error changes nothing. Not for an [`Output`]: the log would write to
/// itself.
pub(crate) trait Ignored {
    /// `why` is the reason, for those who read the code; the log has both.
    fn ignored(self, why: &str);
}

impl<T, E: Display> Ignored for std::result::Result<T, E> {
    #[track_caller]
    #[inline]
    fn ignored(self, why: &str) {
        if let Err(e) = self
            && log::max_level() >= LevelFilter::Trace
        {
            write_trace(&format!("{e}; ignored: {why}"), Location::caller());
        }
    }
}

/// `linux::mount` of `src/linux/mount.rs`.
fn module_of(file: &str) -> String {
    let file = file.rsplit_once("src/").map_or(file, |(_, below)| below);
    let module = file.strip_suffix(".rs").unwrap_or(file);
    let module = module.strip_suffix("/mod").unwrap_or(module);
    module.replace('/', "::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_known_by_name() {
        for name in LEVELS {
            let level = parse_level(name).unwrap();
            assert_eq!(level.as_str().to_ascii_lowercase(), name);
            assert_eq!(LEVELS[level as usize - 1], name);
        }
        assert_eq!(parse_level("WARNING").unwrap(), LevelFilter::Warn);
        for wrong in ["", "off", "verbose", "7"] {
            let e = parse_level(wrong).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            let text = e.to_string();
            assert!(text.contains("error, warn, info, debug or trace"), "{text}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(one_line("a\nb\x1b[2Jc\rd\u{85}"), r"a\nbc\u000dd\u0085");
        let long = one_line(&"ü".repeat(TEXT));
        assert!(long.len() < TEXT + 8 && long.ends_with("..."));
        let line = Line {
            time: Timestamp::from_microsecond(1_500_000).unwrap(),
            level: Level::Debug,
            pid: 7,
            area: "linux::mount",
            text: "tmpfs at /dev",
        };
        assert_eq!(
            line.to_string(),
            "1970-01-01T00:00:01.500000Z 7 debug linux::mount: tmpfs at /dev\n"
        );
    }

    #[test]
    fn modules_are_named_by_their_file() {
        assert_eq!(module_of("src/linux/mount.rs"), "linux::mount");
        assert_eq!(module_of("/x/src/linux/cgroup/mod.rs"), "linux::cgroup");
    }

    #[test]
    fn no_text_is_made_while_the_log_is_off() {
        let made: std::result::Result<(), Errno> = Ok(());
        let text = || -> &str { panic!("the text of a call that nobody reads") };
        made.call(text).unwrap();
        made.traced(text).unwrap();
        let refused: std::result::Result<(), Errno> = Err(Errno::EBUSY);
        let e = refused.call(|| "move_mount(...)").unwrap_err();
        assert!(e.to_string().starts_with("move_mount(...): EBUSY"), "{e}");
        assert_eq!(e.errno(), Some(Errno::EBUSY));
    }
}
