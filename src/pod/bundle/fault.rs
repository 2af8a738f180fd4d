//! How it is told that a container cannot be made as its manifest has it.

use crate::{Error, Kind};

/// The kernel takes no longer string of a process (MAX_ARG_STRLEN of execve(2), with the byte
/// that ends it), in bytes. Variables that name each other ten times over would grow without
/// end: an expansion stops once it is longer, and is refused by its length.
pub(super) const LENGTH_MAX: usize = 128 * 1024 - 1;

pub(super) fn config_error(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

/// `what`: a variable, or a word of the command.
pub(super) fn too_long(what: &str) -> Error {
    config_error(format!(
        "{what}: it has more than {} bytes, with its variables expanded",
        LENGTH_MAX
    ))
    .hint("give the program a file: a volume of a ConfigMap or a Secret has room for 1 MiB")
}

pub(super) fn from_builder(e: impl std::fmt::Display) -> Error {
    Error::failed(format!("build the OCI configuration: {e}"))
}
