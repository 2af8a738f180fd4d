//! How it is told that a container cannot be made as its manifest has it.

use crate::{Error, Kind};

pub(super) fn config_error(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

/// `what`: a variable, or a word of the command.
pub(super) fn too_long(what: &str) -> Error {
    config_error(format!(
        "{what}: it has more than {} bytes, with its variables expanded",
        super::expand::LENGTH_MAX
    ))
    .hint("give the program a file: a volume of a ConfigMap or a Secret has room for 1 MiB")
}

pub(super) fn from_builder(e: impl std::fmt::Display) -> Error {
    Error::failed(format!("build the OCI configuration: {e}"))
}
