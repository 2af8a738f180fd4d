//! Files between this machine and a running container: `carob cp`.
//!
//! carob copies by itself, in its own process and mount namespace. No program of the
//! container runs, so that its image needs no tar, a paused Pod can be copied from, and the
//! container can neither slow carob down nor lie to it. What is read and written belongs to
//! the container all the same, and its processes may change it at every moment:
//!
//! 1. [`root`]: the container's root directory comes as an O_PATH fd out of its mount
//!    namespace, as `exec` enters it.
//! 2. All that is done on the container's side by a path or a name is done with the rights of
//!    the container's first process ([`rights`]).
//! 3. A path that a user gives is resolved once, by openat2(2) with RESOLVE_IN_ROOT and
//!    RESOLVE_NO_MAGICLINKS ([`crate::linux::root`]).
//! 4. [`tree`]: from there on each name is one component that is opened relative to its
//!    directory's fd with O_PATH and O_NOFOLLOW, on both sides. What it is, is asked of the
//!    fd; only a regular file is opened by that fd to be read. A FIFO or a device is never
//!    opened.
//! 5. [`regular`], [`file`]: content goes into a file without a name (O_TMPFILE), which gets
//!    its name when it is whole. Small files of a directory that this copy has made have theirs
//!    from the start. [`stream`]: what goes to an output goes through a pipe, and nothing of the
//!    container is kept for its reader.
//!
//! Never: a link followed below the two paths that were given; a device, FIFO, extended
//! attribute or file capability copied.

mod file;
mod regular;
mod rights;
mod root;
mod stream;
mod tree;

pub(crate) use regular::{End, Owner, Rules};
pub(crate) use root::ContainerRoot;
pub(crate) use stream::stream;
pub(crate) use tree::{copy, copy_contents};

use std::path::{Path, PathBuf};

use serde::Serialize;

/// What has been copied.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Copied {
    pub files: u64,
    /// Those that were made.
    pub directories: u64,
    /// Symbolic links that were made.
    pub links: u64,
    /// Of the files' content, without holes.
    pub bytes: u64,
    /// The first [`Copied::SKIPPED_MOST`] of what was not copied.
    pub skipped: Vec<Skipped>,
    /// How many were not copied.
    pub skipped_count: u64,
    /// How many of these cannot be read.
    pub unreadable: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    /// Below the directory that was given; as it is displayed, if it is no UTF-8.
    #[serde(serialize_with = "displayed")]
    pub path: PathBuf,
    pub reason: SkipReason,
}

/// Why something is not copied. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum SkipReason {
    SymbolicLink,
    Fifo,
    Socket,
    Device,
    /// It was removed, or renamed, before it could be opened.
    Gone,
    /// It is the directory that is copied to.
    Destination,
    /// A directory of a file system whose files are the kernel's, such as procfs.
    KernelFiles,
    /// It may not be read, or cannot be. The copy has failed in part.
    Unreadable,
}

impl SkipReason {
    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            SkipReason::SymbolicLink => "a symbolic link",
            SkipReason::Fifo => "a FIFO",
            SkipReason::Socket => "a socket",
            SkipReason::Device => "a device",
            SkipReason::Gone => "gone before it was read",
            SkipReason::Destination => "the directory that is copied to",
            SkipReason::KernelFiles => "files of the kernel",
            SkipReason::Unreadable => "cannot be read",
        }
    }
}

impl Copied {
    const SKIPPED_MOST: usize = 1000;

    fn add(&mut self, other: Copied) {
        self.files += other.files;
        self.directories += other.directories;
        self.links += other.links;
        self.bytes += other.bytes;
        self.skipped_count += other.skipped_count;
        self.unreadable += other.unreadable;
        self.skipped.extend(other.skipped);
        self.skipped.truncate(Self::SKIPPED_MOST);
    }

    fn skip(&mut self, path: &Path, reason: SkipReason) {
        self.skipped_count += 1;
        self.unreadable += u64::from(reason == SkipReason::Unreadable);
        if self.skipped.len() < Self::SKIPPED_MOST {
            let path = path.to_owned();
            self.skipped.push(Skipped { path, reason });
        }
    }
}

fn displayed<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}
