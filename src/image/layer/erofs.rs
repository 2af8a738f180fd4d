//! A layer's tar stream to one file, an EROFS image, that the kernel mounts as it
//! is: what [`crate::image::layer::unpack`] makes with a system call for each file and more is
//! here a few large writes.
//!
//! The file belongs to us alone: no entry of the archive, whatever it says, is
//! anything but bytes and names in it. What a name means, and what is refused, is as
//! in `unpack`; a test gives both the same archives and compares what comes out.
//!
//! The order of the file, written front to back but for the first block:
//!
//! 1. the superblock, and the root's inode;
//! 2. content as it comes, between it runs of inodes, with the ends of files and with
//!    whole small files behind their inodes;
//! 3. directories, once all names are known; link counts over 1 are put in then.
//!
//! The same archive gives the same bytes: [`LAYOUT`] says by which rules. What has no
//! time in the archive (a directory that has no entry, a whiteout) has 1970's.
//! Only the tree of names is in memory, with a bound: [`tree::MAX_MEMORY`].

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use crate::image::archive::tar::{Entry, EntryKind, Reader, show};
use crate::image::digest::Digest;
use crate::image::layer::beneath::{MAX_PATH, clean, split};
use crate::image::layer::unpack::Unpacked;
use crate::image::layer::whiteout::{Meaning, meaning};
use crate::image::limits::Budget;
use crate::{Context, Error, Result};

mod body;
mod directories;
mod format;
mod tree;
mod verify;

use body::{Body, Sink, read_some};
use format::{
    AFTER_SUPER, Attributes, BLOCK, FileType, Form, HOLE, INODE, Inode, SLOT, Xattr, inode, seal,
    xattrs,
};
use nix::errno::Errno;
use tree::{Node, ROOT, Tree};
pub(crate) use verify::same;

/// A new number for each change of where things are put, so that a file is compared
/// with what the same rules make.
pub(crate) const LAYOUT: u32 = 1;

/// Chunks of a sparse file, at most: 64 KiB of table.
const MAX_CHUNKS: u64 = 1 << 14;

/// Writes a plain tar stream into the empty `file`, and reads the stream to its end.
/// On an error the file is to be thrown away.
pub(crate) fn write<R: Read>(
    stream: R,
    file: &File,
    diff_id: &Digest,
    budget: &Budget<'_>,
) -> Result<Unpacked> {
    write_to(stream, file, diff_id, budget, tree::MAX_MEMORY)
}

fn write_to<R: Read, S: Sink>(
    stream: R,
    sink: S,
    diff_id: &Digest,
    budget: &Budget<'_>,
    memory: usize,
) -> Result<Unpacked> {
    let mut reader = Reader::new(stream);
    let mut writer = Writer {
        body: Body::new(sink),
        budget,
        tree: Tree::new(memory),
        parent: None,
        done: Unpacked::default(),
    };
    while let Some(entry) = reader.next_entry()? {
        writer.done.entries += 1;
        budget.entries(writer.done.entries)?;
        writer
            .entry(&entry, &mut reader)
            .with_context(|| format!("unpack {}", entry.shown()))?;
    }
    reader.drain()?;
    writer.end(uuid(diff_id))
}

fn uuid(diff_id: &Digest) -> [u8; 16] {
    let hex = diff_id.hex();
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap_or(0))
}

/// Bytes at places of a file.
impl Sink for &File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.write_all_at(bytes, at).context("pwrite")
    }
    fn end(&mut self, at: u64) -> Result<()> {
        self.set_len(at).with_context(|| format!("ftruncate({at})"))
    }
}

struct Writer<'a, S> {
    body: Body<S>,
    budget: &'a Budget<'a>,
    tree: Tree,
    /// The directory of the last entry, by its path in the archive.
    parent: Option<(Vec<u8>, u32)>,
    done: Unpacked,
}

/// The directory and the name of an entry.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: u32,
    name: &'a [u8],
}

impl<S: Sink> Writer<'_, S> {
    fn entry<R: Read>(&mut self, entry: &Entry, content: &mut Reader<R>) -> Result<()> {
        let path = clean(&entry.path)?;
        let Some((dir, name)) = split(&path) else {
            return self.root(entry);
        };
        let (name, whiteout) = match meaning(dir, name)? {
            Meaning::Nothing => return Ok(()),
            Meaning::Opaque => {
                let parent = self.enter(dir)?;
                self.done.opaque_root |= parent == ROOT;
                return self.set_opaque(parent);
            }
            Meaning::Whiteout(name) => (name, true),
            Meaning::Entry(name) => (name, false),
        };
        let place = Place {
            parent: self.enter(dir)?,
            name,
        };
        if whiteout {
            return self.whiteout(place);
        }
        match entry.kind {
            EntryKind::Directory => self.directory(place, entry),
            EntryKind::File => {
                self.budget.file(self.done.bytes, entry.size)?;
                self.done.bytes += entry.size;
                self.file(place, entry, content)
            }
            EntryKind::HardLink => self.hard_link(place, entry),
            EntryKind::Symlink => self.symlink(place, entry),
            EntryKind::CharDevice => self.node(place, entry, FileType::CharDevice),
            EntryKind::BlockDevice => self.node(place, entry, FileType::BlockDevice),
            EntryKind::Fifo => self.node(place, entry, FileType::Fifo),
        }
    }

    fn enter(&mut self, path: &[u8]) -> Result<u32> {
        if let Some((known, d)) = &self.parent
            && known == path
        {
            return Ok(*d);
        }
        let d = self.tree.walk(path, true)?.unwrap_or(ROOT);
        self.parent = Some((path.to_vec(), d));
        Ok(d)
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::invalid("the root of a layer must be a directory"));
        }
        self.apply(ROOT, entry)
    }

    fn set_opaque(&mut self, d: u32) -> Result<()> {
        self.tree.add_xattrs(d, vec![Xattr::opaque()])
    }

    /// To a directory, new or not.
    fn apply(&mut self, d: u32, entry: &Entry) -> Result<()> {
        let new = attributes(entry, FileType::Directory)?;
        let of = &mut self.tree.directory_mut(d).attributes;
        (of.mode, of.uid, of.gid, of.mtime) = (new.mode, new.uid, new.gid, new.mtime);
        self.tree.add_xattrs(d, new.xattrs)
    }

    fn find(&self, at: Place<'_>) -> Option<Node> {
        self.tree.find(at.parent, at.name)
    }

    /// Something goes from this name: it may have been on the way to the directory
    /// that is remembered.
    fn replaces(&mut self, at: Place<'_>) {
        if self.find(at).is_some() {
            self.parent = None;
        }
    }

    fn directory(&mut self, at: Place<'_>, entry: &Entry) -> Result<()> {
        let (d, opaque) = match self.find(at) {
            // An entry for a directory adds to what is there.
            Some(Node::Directory(d)) => (d, false),
            found => {
                self.replaces(at);
                // Deleted and made anew in one layer: nothing below shines through.
                let opaque = matches!(found, Some(Node::Other { whiteout: true, .. }));
                (self.tree.make_directory(at.parent, at.name)?, opaque)
            }
        };
        if opaque {
            self.set_opaque(d)?;
        }
        self.apply(d, entry)
    }

    fn whiteout(&mut self, at: Place<'_>) -> Result<()> {
        match self.find(at) {
            Some(Node::Directory(d)) => self.set_opaque(d),
            Some(_) => Ok(()),
            None => {
                let nid = self.small(FileType::CharDevice, 0, &Attributes::default(), b"")?;
                self.other(at, nid, FileType::CharDevice, true)
            }
        }
    }

    fn other(&mut self, at: Place<'_>, nid: u64, kind: FileType, whiteout: bool) -> Result<()> {
        self.replaces(at);
        let node = Node::Other {
            nid,
            kind,
            whiteout,
        };
        self.tree.put(at.parent, at.name, node)
    }

    fn symlink(&mut self, at: Place<'_>, entry: &Entry) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > MAX_PATH {
            return Err(Error::invalid("a symlink's target is empty or too long"));
        }
        let of = attributes(entry, FileType::Symlink)?;
        let nid = self.small(FileType::Symlink, 0, &of, &entry.link)?;
        self.replaces(at);
        self.tree.put_symlink(at.parent, at.name, nid, &entry.link)
    }

    fn node(&mut self, at: Place<'_>, entry: &Entry, kind: FileType) -> Result<()> {
        let (major, minor) = entry.device;
        if major > 0xfff || minor > 0xf_ffff {
            return Err(Error::sys(
                format!("mknodat({})", show(at.name)),
                Errno::EINVAL,
            ));
        }
        let device = minor & 0xff | major << 8 | (minor & !0xff) << 12;
        let of = attributes(entry, kind)?;
        let nid = self.small(kind, device, &of, b"")?;
        let whiteout = kind == FileType::CharDevice && device == 0;
        self.other(at, nid, kind, whiteout)
    }

    /// The target must be in the same layer, as image tools write it.
    fn hard_link(&mut self, at: Place<'_>, entry: &Entry) -> Result<()> {
        let path = clean(&entry.link)?;
        let no_target =
            |why: &str| Error::invalid(format!("hard link to {}: {why}", show(&entry.link)));
        let (dir, target) = split(&path).ok_or_else(|| no_target("it is the layer's root"))?;
        let found = match self.tree.walk(dir, false)? {
            Some(d) => self.tree.node_of(d, target).map(|node| (d, node)),
            None => None,
        };
        let (dir, node) = found.ok_or_else(|| no_target("it is not in this layer"))?;
        if let Node::Directory(_) = self.tree.node(node) {
            return Err(no_target("it is a directory"));
        }
        if self.tree.node_of(at.parent, at.name) == Some(node) {
            return Ok(());
        }
        // The directory that the link replaces has its target in it.
        if let Some(Node::Directory(d)) = self.find(at)
            && self.tree.is_below(dir, d)
        {
            return Err(Error::sys(
                format!("linkat({})", show(at.name)),
                Errno::ENOENT,
            ));
        }
        self.replaces(at);
        self.tree.link(at.parent, at.name, node)
    }

    fn file<R: Read>(
        &mut self,
        at: Place<'_>,
        entry: &Entry,
        content: &mut Reader<R>,
    ) -> Result<()> {
        let of = attributes(entry, FileType::File)?;
        let nid = match &entry.extents {
            None => self.content(FileType::File, 0, &of, entry.size, content)?,
            Some(_) => self.sparse(&of, entry, content)?,
        };
        self.other(at, nid, FileType::File, false)
    }

    fn small(
        &mut self,
        kind: FileType,
        device: u32,
        of: &Attributes,
        mut content: &[u8],
    ) -> Result<u64> {
        let size = content.len() as u64;
        self.content(kind, device, of, size, &mut content)
    }

    /// An inode and its content, whole blocks beside it, the rest behind it if there
    /// is room in its block.
    fn content<R: Read>(
        &mut self,
        kind: FileType,
        device: u32,
        of: &Attributes,
        size: u64,
        content: &mut R,
    ) -> Result<u64> {
        let xattrs = xattrs(&of.xattrs)?;
        let head = INODE + xattrs.len() as u64;
        let tail = size % BLOCK;
        let inline = if head + tail <= BLOCK { tail } else { 0 };
        let at = self.body.reserve(head + inline)?;
        let place = match size - inline {
            0 => device,
            beside => {
                let first = self.body.blocks(beside.div_ceil(BLOCK))?;
                self.body.append(content, beside)?;
                first
            }
        };
        let form = if inline > 0 {
            Form::Inline
        } else {
            Form::Plain
        };
        let bytes = inode(
            Inode {
                kind,
                form,
                size,
                place,
                nlink: 1,
            },
            of,
            &xattrs,
        );
        self.body.put(&bytes, at);
        let rest = self.body.reserved(at + head, inline as usize);
        let mut have = 0;
        while have < rest.len() {
            have += read_some(content, &mut rest[have..])?;
        }
        Ok(at / SLOT)
    }

    /// What no extent touches has no blocks.
    fn sparse<R: Read>(
        &mut self,
        of: &Attributes,
        entry: &Entry,
        content: &mut Reader<R>,
    ) -> Result<u64> {
        let extents = entry.extents.as_deref().unwrap_or_default();
        let mut bits = 0;
        while entry.size.div_ceil(BLOCK << bits) > MAX_CHUNKS {
            bits += 1;
        }
        if bits > 31 {
            return Err(Error::sys(
                format!("ftruncate({})", entry.size),
                Errno::EFBIG,
            ));
        }
        let chunk = BLOCK << bits;
        let mut table = vec![HOLE; entry.size.div_ceil(chunk) as usize];
        let mut buffer = vec![0; 64 << 10];
        for extent in extents {
            let (mut at, end) = (extent.offset, extent.offset + extent.length);
            while at < end {
                let i = (at / chunk) as usize;
                if table[i] == HOLE {
                    let size = chunk.min(entry.size - i as u64 * chunk);
                    table[i] = self.body.blocks_apart(size.div_ceil(BLOCK))?;
                }
                let most = (end - at).min(chunk - at % chunk).min(buffer.len() as u64);
                let n = read_some(content, &mut buffer[..most as usize])?;
                let to = u64::from(table[i]) * BLOCK + at % chunk;
                self.body.write_at(&buffer[..n], to)?;
                at += n as u64;
            }
        }
        let xattrs = xattrs(&of.xattrs)?;
        let mut bytes = inode(
            Inode {
                kind: FileType::File,
                form: Form::Chunks,
                size: entry.size,
                place: bits,
                nlink: 1,
            },
            of,
            &xattrs,
        );
        bytes.extend(table.iter().flat_map(|block| block.to_le_bytes()));
        let at = self.body.reserve(bytes.len() as u64)?;
        self.body.put(&bytes, at);
        Ok(at / SLOT)
    }

    fn end(mut self, uuid: [u8; 16]) -> Result<Unpacked> {
        self.body.flush_run()?;
        let root = directories::write(&mut self.body, &mut self.tree)?;
        self.body.end(|blocks| {
            let mut first = vec![0; BLOCK as usize];
            first[AFTER_SUPER as usize..][..root.inode.len()].copy_from_slice(&root.inode);
            seal(&mut first, uuid, root.inodes, blocks, root.nid);
            first
        })?;
        Ok(self.done)
    }
}

/// Owner, mode, time, and of extended attributes what [`crate::image::layer::unpack`] keeps:
/// `user.*` where the kernel has them, and file capabilities, as it takes them.
fn attributes(entry: &Entry, kind: FileType) -> Result<Attributes> {
    let mut kept = Vec::new();
    for (name, value) in &entry.xattrs {
        let name = name.to_bytes();
        if name == b"security.capability" {
            if !is_capability(value) {
                return Err(Error::sys("setxattr(security.capability)", Errno::EINVAL));
            }
        } else if !name.starts_with(b"user.")
            || name.starts_with(b"user.overlay.")
            || !matches!(kind, FileType::File | FileType::Directory)
        {
            continue;
        }
        kept.push(Xattr::new(name, value)?);
    }
    Ok(Attributes {
        mode: if kind == FileType::Symlink {
            0o777
        } else {
            entry.mode
        },
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: kept,
    })
}

/// Version 2, or 3 with its root's id: what setxattr(2) takes of root.
fn is_capability(value: &[u8]) -> bool {
    const EFFECTIVE: u32 = 1;
    let word = |at: usize| value[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    match value.len() {
        20 => word(0) & !EFFECTIVE == 0x0200_0000,
        24 => word(0) & !EFFECTIVE == 0x0300_0000 && word(20) != u32::MAX,
        _ => false,
    }
}

#[cfg(test)]
#[path = "erofs_tests.rs"]
mod tests;
