//! Layers: from a compressed tar to what a container mounts, a directory (`unpack`) or an
//! EROFS image (`erofs`).
//!
//! `fetch` leads one layer from its source there; `beneath` and `whiteout` are what keeps a
//! hostile layer inside of its directory, and what it deletes of the layers below.

pub(in crate::image) mod beneath;
pub(in crate::image) mod erofs;
pub(in crate::image) mod fetch;
pub(in crate::image) mod form;
pub(in crate::image) mod relay;
pub(in crate::image) mod unpack;
pub(in crate::image) mod whiteout;
