//! The verbs on images.

pub(in crate::cli) mod inspect;
pub(in crate::cli) mod list;
pub(in crate::cli) mod pin;
pub(in crate::cli) mod push;
pub(in crate::cli) mod save;
