//! Archives: a tar, its forms of compression, and the files that `load` finds in it.

pub(in crate::image) mod compression;
pub(in crate::image) mod packed;
pub(in crate::image) mod read;
pub(crate) mod tar;
