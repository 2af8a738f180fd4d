//! EROFS's structures as bytes (the kernel's fs/erofs/erofs_fs.h and
//! Documentation/filesystems/erofs.rst), of its first feature set: blocks of 4 KiB,
//! nothing compressed, inodes in their long form. Chunks (5.15) for sparse files.

use nix::errno::Errno;

use crate::{Error, Result};

use crate::image::archive::tar::show;

pub(super) const BLOCK: u64 = 4096;
/// Inodes are told by their offset in units of this: the nid.
pub(super) const SLOT: u64 = 32;
pub(super) const INODE: u64 = 64;
/// Where the superblock is, and what is free behind it in block 0.
const SUPER: usize = 1024;
pub(super) const AFTER_SUPER: u64 = 1024 + 128;
/// An inode's link count, from the inode's beginning.
pub(super) const NLINK_AT: u64 = 44;

/// No block: a chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;

/// As the kernel's XATTR_NAME_MAX, prefix and all.
const MAX_XATTR_NAME: usize = 255;
/// Of one inode's attributes, headers and all.
const MAX_XATTRS: usize = 128 << 10;

/// How an inode's content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In blocks, one after the other; the last one filled up with zeros.
    Plain = 0,
    /// As plain, but what is over after the last whole block is behind the inode,
    /// in the same block.
    Inline = 2,
    /// In chunks, by a table behind the inode.
    Chunks = 4,
}

/// Kinds as a directory has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileType {
    File = 1,
    Directory = 2,
    CharDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    Symlink = 7,
}

impl FileType {
    pub(super) fn mode(self) -> u32 {
        match self {
            FileType::File => libc::S_IFREG,
            FileType::Directory => libc::S_IFDIR,
            FileType::CharDevice => libc::S_IFCHR,
            FileType::BlockDevice => libc::S_IFBLK,
            FileType::Fifo => libc::S_IFIFO,
            FileType::Symlink => libc::S_IFLNK,
        }
    }
}

/// What an inode says besides where its content is.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: Vec<Xattr>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub kind: FileType,
    pub form: Form,
    pub size: u64,
    /// The first block, the device number or the size of chunks, as `form` and
    /// `kind` have it.
    pub place: u32,
    pub nlink: u32,
}

/// An inode and its attributes; inline content or a table of chunks follows.
pub(super) fn inode(inode: Inode, of: &Attributes, xattrs: &[u8]) -> Vec<u8> {
    let count = match xattrs.len() {
        0 => 0,
        n => (n - 12) / 4 + 1,
    };
    let mut b = Vec::with_capacity(INODE as usize + xattrs.len());
    put16(&mut b, 1 | (inode.form as u16) << 1);
    put16(&mut b, count as u16);
    put16(&mut b, (inode.kind.mode() | of.mode) as u16);
    put16(&mut b, 0);
    put64(&mut b, inode.size);
    put32(&mut b, inode.place);
    put32(&mut b, 0); // a number for 32-bit stat(2): the nid does
    put32(&mut b, of.uid);
    put32(&mut b, of.gid);
    put64(&mut b, of.mtime.0 as u64);
    put32(&mut b, of.mtime.1);
    put32(&mut b, inode.nlink);
    b.extend([0; 16]);
    b.extend(xattrs);
    b
}

/// An extended attribute, its name's prefix told by a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Xattr {
    pub prefix: u8,
    pub name: Box<[u8]>,
    pub value: Box<[u8]>,
}

const USER: u8 = 1;
const TRUSTED: u8 = 4;
const SECURITY: u8 = 6;

impl Xattr {
    /// As setxattr(2) would take it of `user.*` and `security.*`.
    pub(super) fn new(name: &[u8], value: &[u8]) -> Result<Self> {
        let refused = |e| Error::sys(format!("setxattr({})", show(name)), e);
        let (prefix, rest) = match (name.strip_prefix(b"user."), name.strip_prefix(b"security.")) {
            (Some(rest), _) => (USER, rest),
            (_, Some(rest)) => (SECURITY, rest),
            _ => return Err(refused(Errno::EOPNOTSUPP)),
        };
        if rest.is_empty() {
            return Err(refused(Errno::EINVAL));
        }
        if name.len() > MAX_XATTR_NAME {
            return Err(refused(Errno::ERANGE));
        }
        // Two bytes tell the length: one value less than the kernel's own limit.
        if value.len() > usize::from(u16::MAX) {
            return Err(refused(Errno::E2BIG));
        }
        Ok(Xattr {
            prefix,
            name: rest.into(),
            value: value.into(),
        })
    }

    pub(super) fn opaque() -> Self {
        Xattr {
            prefix: TRUSTED,
            name: b"overlay.opaque".as_slice().into(),
            value: b"y".as_slice().into(),
        }
    }

    pub(super) fn same_name(&self, other: &Xattr) -> bool {
        self.prefix == other.prefix && self.name == other.name
    }
}

/// What stands between an inode and its inline content; empty without attributes.
pub(super) fn xattrs(all: &[Xattr]) -> Result<Vec<u8>> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    // No filter, none shared.
    let mut b = vec![0; 12];
    for x in all {
        b.push(x.name.len() as u8);
        b.push(x.prefix);
        put16(&mut b, x.value.len() as u16);
        b.extend_from_slice(&x.name);
        b.extend_from_slice(&x.value);
        b.resize(b.len().next_multiple_of(4), 0);
    }
    if b.len() > MAX_XATTRS {
        return Err(Error::invalid(format!(
            "its extended attributes take more than {MAX_XATTRS} bytes"
        )));
    }
    Ok(b)
}

/// A directory's content, block by block. Names come in the order of their bytes,
/// `.` and `..` among them.
pub(super) struct DirectoryBlocks {
    entries: Vec<u8>,
    names: Vec<u8>,
    full: Vec<u8>,
}

const DIRENT: usize = 12;

impl DirectoryBlocks {
    pub(super) fn new() -> Self {
        DirectoryBlocks {
            entries: Vec::new(),
            names: Vec::new(),
            full: Vec::new(),
        }
    }

    /// A block that is full now, without what was added last.
    pub(super) fn add(&mut self, name: &[u8], nid: u64, kind: FileType) -> Option<&[u8]> {
        let more = DIRENT + name.len();
        let full = self.entries.len() + self.names.len() + more > BLOCK as usize;
        if full {
            let mut block = std::mem::take(&mut self.full);
            block.clear();
            self.take(&mut block);
            block.resize(BLOCK as usize, 0);
            self.full = block;
        }
        put64(&mut self.entries, nid);
        // From the beginning of the names for now.
        put16(&mut self.entries, self.names.len() as u16);
        self.entries.extend([kind as u8, 0]);
        self.names.extend_from_slice(name);
        full.then_some(&*self.full)
    }

    /// What is left: less than a block, or one.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        self.take(&mut block);
        block
    }

    fn take(&mut self, block: &mut Vec<u8>) {
        let base = self.entries.len() as u16;
        for entry in self.entries.chunks_exact_mut(DIRENT) {
            let offset = base + u16::from_le_bytes([entry[8], entry[9]]);
            entry[8..10].copy_from_slice(&offset.to_le_bytes());
        }
        block.append(&mut self.entries);
        block.append(&mut self.names);
    }
}

/// How large a directory's content becomes, given its names' lengths in order.
#[derive(Default)]
pub(super) struct DirectorySize {
    blocks: u64,
    used: u64,
}

impl DirectorySize {
    pub(super) fn add(&mut self, name: usize) {
        let more = DIRENT as u64 + name as u64;
        if self.used + more > BLOCK {
            self.blocks += 1;
            self.used = 0;
        }
        self.used += more;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks * BLOCK + self.used
    }
}

/// Fills in the superblock, in block 0 with all else that is in it.
pub(super) fn seal(block: &mut [u8], uuid: [u8; 16], inodes: u64, blocks: u32, root: u16) {
    const MAGIC: u32 = 0xe0f5_e1e2;
    const CHECKSUM: u32 = 1;
    const MTIME: u32 = 2;
    const CHUNKS: u32 = 4;
    let mut b = Vec::with_capacity(128);
    put32(&mut b, MAGIC);
    put32(&mut b, 0); // the checksum
    put32(&mut b, CHECKSUM | MTIME);
    b.push(BLOCK.trailing_zeros() as u8);
    b.push(0);
    put16(&mut b, root);
    put64(&mut b, inodes);
    put64(&mut b, 0); // times, of inodes in the short form
    put32(&mut b, 0);
    put32(&mut b, blocks);
    put32(&mut b, 0); // nids count from block 0
    put32(&mut b, 0);
    b.extend(uuid);
    b.extend([0; 16]);
    put32(&mut b, CHUNKS);
    b.resize(128, 0);
    block[SUPER..SUPER + 128].copy_from_slice(&b);
    let sum = crc32c(u32::MAX, &block[SUPER..]);
    block[SUPER + 4..SUPER + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Castagnoli's polynomial, neither end inverted here.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| {
            (c >> 1) ^ (0x82f6_3b78 & (c & 1).wrapping_neg())
        })
    })
}

fn put16(b: &mut Vec<u8>, n: u16) {
    b.extend(n.to_le_bytes());
}
fn put32(b: &mut Vec<u8>, n: u32) {
    b.extend(n.to_le_bytes());
}
fn put64(b: &mut Vec<u8>, n: u64) {
    b.extend(n.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the CRC catalogue, which inverts both ends.
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn directories_take_the_room_that_was_counted() {
        for n in [0, 1, 7, 200, 5000] {
            let (mut blocks, mut size) = (DirectoryBlocks::new(), DirectorySize::default());
            let mut bytes = 0;
            for i in 0..n {
                let name = vec![b'n'; 1 + i * 37 % 255];
                size.add(name.len());
                bytes += blocks
                    .add(&name, i as u64, FileType::File)
                    .map_or(0, <[u8]>::len);
            }
            bytes += blocks.end().len();
            assert_eq!(bytes as u64, size.bytes(), "{n}");
        }
    }
}
