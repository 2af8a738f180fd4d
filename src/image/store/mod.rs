//! The store: the images on this machine, and each way in which they change.
//!
//! `index` is what is on the disk. `ingest` puts an image there by a `transaction`, `removal`
//! takes it away, `check` examines and mends, `usage` counts.

pub(in crate::image) mod absent;
pub(in crate::image) mod check;
pub(in crate::image) mod index;
pub(in crate::image) mod ingest;
pub(in crate::image) mod partial;
pub(in crate::image) mod removal;
pub(in crate::image) mod transaction;
pub(in crate::image) mod usage;
