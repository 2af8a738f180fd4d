//! The one error type: what was being done, to what, why it went wrong, and
//! what mends it.
//!
//! The message reads from the outermost doing to the innermost cause, as in
//! `pod web: container app: mount tmpfs at /dev: move_mount(...): EBUSY`.
//! A face maps [`Kind`] to an exit code, JSON or (later) a gRPC status; the text
//! is for people, the kind is for programs. Errors are serializable because a
//! container's child hands them to its monitor, and the monitor to its clients.

use std::fmt;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong. The exit code of each is part of the CLI's
/// contract (`docs/exit-codes.md`): add kinds, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Anything without a kind of its own: mostly the kernel saying no.
    Failed,
    /// The command line is wrong.
    Usage,
    /// A manifest, image, archive or other input is wrong.
    Invalid,
    /// The named object does not exist.
    NotFound,
    /// An object of that name exists already, or is in a state that forbids this.
    Conflict,
    /// The time that the caller allowed has passed.
    Timeout,
    /// A container could not be created or started.
    StartFailed,
    /// An image could not be pulled, loaded or found.
    Image,
    /// Valid, but not supported by this build or by this kernel.
    Unsupported,
    /// The caller lacks a right: not root, or a capability is missing.
    Permission,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Invalid => 3,
            Kind::NotFound => 4,
            Kind::Conflict => 5,
            Kind::Timeout => 6,
            Kind::StartFailed => 7,
            Kind::Image => 8,
            Kind::Unsupported => 9,
            Kind::Permission => 10,
        }
    }

    /// The stable name that `-o json` prints as `error.reason`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Failed => "Failed",
            Kind::Usage => "Usage",
            Kind::Invalid => "Invalid",
            Kind::NotFound => "NotFound",
            Kind::Conflict => "Conflict",
            Kind::Timeout => "Timeout",
            Kind::StartFailed => "StartFailed",
            Kind::Image => "Image",
            Kind::Unsupported => "Unsupported",
            Kind::Permission => "Permission",
        }
    }
}

/// One fault in an input, at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file and document, as the user named them; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// 1-based line in the source; 0 where it is not known.
    #[serde(default)]
    pub line: usize,
    /// The field's path, as in `spec.containers[0].image`.
    pub field: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}:", self.source)?;
        }
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.source.is_empty() || self.line > 0 {
            f.write_str(" ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// A set of flags as strace prints it, `O_DIRECTORY|O_PATH`, from the Debug form that
/// bitflags types have, `OFlag(O_DIRECTORY | O_PATH)`.
pub(crate) fn flags(set: impl fmt::Debug) -> String {
    let text = format!("{set:?}");
    let names = text
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    names.unwrap_or(&text).replace(" | ", "|")
}

/// See the module's head. Boxed, so that a `Result` stays one word wide.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    kind: Kind,
    /// Outermost last: contexts are pushed as the error travels up.
    chain: Vec<String>,
    hint: Option<String>,
    problems: Vec<Problem>,
    errno: Option<i32>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            chain: vec![message.into()],
            hint: None,
            problems: Vec::new(),
            errno: None,
        }))
    }

    /// A system call's refusal, shown as strace shows it: `call` is the call with
    /// its arguments, as in `mount("proc", "/proc", ...)`.
    pub fn sys(call: impl fmt::Display, errno: nix::errno::Errno) -> Self {
        let mut e = Self::new(Kind::Failed, format!("{call}: {errno}"));
        e.0.errno = Some(errno as i32);
        match errno {
            // What is always needed has been asked for: linux/kernel.rs.
            nix::errno::Errno::ENOSYS => e
                .with_kind(Kind::Unsupported)
                .hint("the kernel does not have this call, or a seccomp filter denies it"),
            _ => e,
        }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// Every fault found in an input, in its order.
    pub fn problems(problems: Vec<Problem>) -> Self {
        let text: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let mut e = Self::new(Kind::Invalid, text.join("\n"));
        e.0.problems = problems;
        e
    }

    /// Says what to do about it; shown on a line of its own.
    /// Of one that the user has seen: its kind alone is left, for the exit code.
    pub(crate) fn reported(self) -> Self {
        Error(Box::new(Inner {
            kind: self.0.kind,
            chain: Vec::new(),
            hint: None,
            problems: Vec::new(),
            errno: self.0.errno,
        }))
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.0.chain.is_empty()
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Of a file that the caller has named.
    pub(crate) fn of_file(e: std::io::Error, doing: String) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::Failed,
        };
        Error::from(e).with_kind(kind).push_context(doing)
    }

    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    pub fn with_errno(mut self, errno: nix::errno::Errno) -> Self {
        self.0.errno = Some(errno as i32);
        self
    }

    pub fn push_context(mut self, context: impl Into<String>) -> Self {
        self.0.chain.push(context.into());
        self
    }

    /// The same, and what went wrong when that was to be undone: something is left behind.
    pub fn with_cleanup(mut self, cleanup: Result<()>) -> Self {
        if let (Err(also), Some(cause)) = (cleanup, self.0.chain.first_mut()) {
            cause.push_str(&format!("; and afterwards: {also}"));
        }
        self
    }

    /// The same with a message of about `most` bytes, where it is longer: its
    /// beginning, which says what was being done, and its end, which says why not.
    pub fn shortened(self, most: usize) -> Self {
        let text = self.to_string();
        if text.len() <= most {
            return self;
        }
        let edge = |at: usize| (0..=at).rev().find(|i| text.is_char_boundary(*i));
        let head = edge(most / 2).unwrap_or(0);
        let tail = edge(text.len() - most / 2).unwrap_or(0);
        let mut e = self;
        e.0.chain = vec![format!("{} ... {}", &text[..head], &text[tail..])];
        e
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        self.0.errno.map(nix::errno::Errno::from_raw)
    }
    pub fn get_hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    pub fn get_problems(&self) -> &[Problem] {
        &self.0.problems
    }

    /// The machine-readable form: `{"reason", "message", "hint"?, "problems"?}`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut v = serde_json::json!({
            "reason": self.kind().name(),
            "exitCode": self.kind().exit_code(),
            "message": self.to_string(),
        });
        if let Some(h) = &self.0.hint {
            v["hint"] = h.as_str().into();
        }
        if !self.0.problems.is_empty() {
            v["problems"] = serde_json::to_value(&self.0.problems).unwrap_or_default();
        }
        v
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.chain.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

impl From<nix::errno::Errno> for Error {
    fn from(e: nix::errno::Errno) -> Self {
        let mut err = Error::failed(e.to_string());
        err.0.errno = Some(e as i32);
        err
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        match e.raw_os_error() {
            Some(n) => nix::errno::Errno::from_raw(n).into(),
            // One of ours, on its way through somebody's `Read`.
            None => e
                .downcast::<Error>()
                .unwrap_or_else(|e| Error::failed(e.to_string())),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Error::invalid(e.to_string())
    }
}

/// Adds what was being done to an error on its way up.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T>;
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.into().push_context(what))
    }
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().push_context(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_from_the_outside_in() {
        let e: Result<()> = Err(nix::errno::Errno::EBUSY)
            .context("move_mount(...)")
            .context("mount tmpfs at /dev")
            .context("pod web");
        let e = e.unwrap_err();
        assert_eq!(
            e.to_string(),
            "pod web: mount tmpfs at /dev: move_mount(...): EBUSY: Device or resource busy"
        );
        assert_eq!(e.errno(), Some(nix::errno::Errno::EBUSY));
    }

    #[test]
    fn tells_of_a_failed_cleanup_last() {
        let full = || Error::failed("ENOSPC").push_context("write");
        assert_eq!(full().with_cleanup(Ok(())), full());
        let e = full().with_cleanup(Err(Error::failed("EIO").push_context("unlink")));
        assert_eq!(e.to_string(), "write: ENOSPC; and afterwards: unlink: EIO");
    }

    #[test]
    fn is_shortened_in_the_middle() {
        let long = "ü".repeat(1000);
        let e = Error::failed(format!("EINVAL {long} end")).push_context("write");
        let text = e.shortened(100).to_string();
        assert!(text.len() < 120 && text.starts_with("write: EINVAL") && text.ends_with("end"));
    }

    #[test]
    fn flags_are_printed_as_strace_prints_them() {
        use nix::fcntl::OFlag;
        assert_eq!(
            flags(OFlag::O_DIRECTORY | OFlag::O_PATH),
            "O_DIRECTORY|O_PATH"
        );
        assert_eq!(flags(nix::mount::MsFlags::MS_PRIVATE), "MS_PRIVATE");
        assert_eq!(flags(nix::sched::CloneFlags::empty()), "0x0");
    }

    #[test]
    fn survives_the_wire() {
        let e = Error::new(Kind::Image, "no such tag").hint("check the name");
        let back: Error = serde_json::from_str(&serde_json::to_string(&e).unwrap()).unwrap();
        assert_eq!(back.kind(), Kind::Image);
        assert_eq!(back.to_string(), "no such tag");
        assert_eq!(back.get_hint(), Some("check the name"));
    }
}
