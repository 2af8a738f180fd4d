//! How it is told that a container cannot be made as its manifest has it.

use crate::{Error, Kind};

pub(super) fn config_error(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

pub(super) fn from_builder(e: impl std::fmt::Display) -> Error {
    Error::failed(format!("build the OCI configuration: {e}"))
}
