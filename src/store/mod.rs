//! The disk: where things are, how records are written, who may change them.
//!
//! Owns the two directory trees and every file name in them. A record is JSON,
//! written whole to a temporary file and renamed; a lock is an open-file-
//! description lock, freed by its holder's death (fcntl(2), F_OFD_SETLK).

mod dir;
mod disk;
mod layout;
mod lock;
mod record;

pub(crate) use dir::Dir;
pub(crate) use disk::disk_usage;
pub use layout::Layout;
pub(crate) use layout::{PodPaths, make_dir, tag_in, tag_of, tagged};
pub use lock::Lock;
pub(crate) use record::{
    Versioned, is_full, is_out_of_fds, load, load_existing, load_versioned, mark_stale,
    remove_durable, reserve, save, save_by, save_durable, save_json, save_reserved,
    save_reserved_durable,
};
