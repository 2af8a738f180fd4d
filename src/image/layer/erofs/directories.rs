//! The end of the file: what the names have come to. All directories' inodes first,
//! with small directories' content in them, then the content of large ones; each in
//! one pass, as the places of all are known before anything is written.

use super::body::{Body, Sink};
use super::format::{
    AFTER_SUPER, BLOCK, DirectoryBlocks, DirectorySize, FileType, Form, INODE, Inode, NLINK_AT,
    SLOT, inode, xattrs,
};
use super::tree::{Node, ROOT, Tree};
use crate::{Error, Result};

struct Place {
    directory: u32,
    /// Of the inode.
    at: u64,
    size: u64,
    inline: u64,
    /// The first block of the content, if it has any.
    block: u64,
}

/// What goes into block 0.
pub(super) struct Root {
    pub inode: Vec<u8>,
    pub nid: u16,
    /// In the whole file.
    pub inodes: u64,
}

pub(super) fn write<S: Sink>(body: &mut Body<S>, tree: &mut Tree) -> Result<Root> {
    let sorted = tree.sorted();
    let mut names = vec![0_u32; tree.nodes()];
    let mut places = Vec::new();
    let (mut inodes, mut blocks) = (0, 0);
    let mut todo = vec![ROOT];
    while let Some(d) = todo.pop() {
        for n in tree.children(&sorted, d).iter().rev() {
            let (_, node) = tree.name(*n);
            match tree.node(node) {
                Node::Directory(below) => todo.push(below),
                _ => names[node as usize] += 1,
            }
        }
        let place = place(tree, &sorted, d, &mut inodes, &mut blocks)?;
        tree.directory_mut(d).nid = place.at / SLOT;
        places.push(place);
    }
    let inode_blocks = inodes.div_ceil(BLOCK);
    let first = u64::from(body.blocks_apart(inode_blocks + blocks)?);
    for p in &mut places {
        if p.directory != ROOT {
            p.at += first * BLOCK;
            tree.directory_mut(p.directory).nid = p.at / SLOT;
        }
        p.block += first + inode_blocks;
    }
    let mut root = Vec::new();
    let mut inodes = Stream::new(first * BLOCK);
    let mut content = Stream::new((first + inode_blocks) * BLOCK);
    for p in &places {
        let bytes = directory(body, tree, &sorted, p, &mut content)?;
        match p.directory {
            ROOT => root = bytes,
            _ => inodes.put(body, &bytes, p.at)?,
        }
    }
    inodes.end(body, (first + inode_blocks) * BLOCK)?;
    content.end(body, content.at + content.bytes.len() as u64)?;
    let mut used = places.len() as u64;
    for (n, names) in names.iter().enumerate() {
        used += u64::from(*names > 0);
        let (Node::Symlink { nid, .. } | Node::Other { nid, .. }) = tree.node(n as u32) else {
            continue;
        };
        if *names > 1 {
            body.write_at(&names.to_le_bytes(), nid * SLOT + NLINK_AT)?;
        }
    }
    Ok(Root {
        inode: root,
        nid: (AFTER_SUPER / SLOT) as u16,
        inodes: used,
    })
}

/// Takes room among the inodes and among the blocks of content, both counted from
/// their beginnings. The root's is in block 0.
fn place(tree: &Tree, sorted: &[u32], d: u32, inodes: &mut u64, blocks: &mut u64) -> Result<Place> {
    let mut size = DirectorySize::default();
    for (name, ..) in entries(tree, sorted, d) {
        size.add(name.len());
    }
    let size = size.bytes();
    let head = INODE + xattr_bytes(tree, d)?.len() as u64;
    let room = if d == ROOT {
        BLOCK - AFTER_SUPER
    } else {
        BLOCK
    };
    if d == ROOT && head > room {
        return Err(Error::unsupported(format!(
            "the root's extended attributes take more than the {} bytes that an erofs layer has for them",
            room - INODE
        )));
    }
    let tail = size % BLOCK;
    let inline = if head + tail <= room { tail } else { 0 };
    let place = Place {
        directory: d,
        at: if d == ROOT {
            AFTER_SUPER
        } else {
            next_inode(inodes, head + inline)
        },
        size,
        inline,
        block: *blocks,
    };
    *blocks += (size - inline).div_ceil(BLOCK);
    Ok(place)
}

/// In one block, if it fits into one.
fn next_inode(inodes: &mut u64, len: u64) -> u64 {
    if *inodes % BLOCK + len > BLOCK {
        *inodes = inodes.next_multiple_of(BLOCK);
    }
    let at = *inodes;
    *inodes += len.next_multiple_of(SLOT);
    at
}

fn xattr_bytes(tree: &Tree, d: u32) -> Result<Vec<u8>> {
    xattrs(&tree.directory(d).attributes.xattrs)
}

/// Writes the content but for its inline end, and returns the inode with that.
fn directory<S: Sink>(
    body: &mut Body<S>,
    tree: &Tree,
    sorted: &[u32],
    p: &Place,
    content: &mut Stream,
) -> Result<Vec<u8>> {
    let mut blocks = DirectoryBlocks::new();
    let mut below = 0;
    for (name, nid, kind) in entries(tree, sorted, p.directory) {
        below += u32::from(kind == FileType::Directory);
        if let Some(full) = blocks.add(name, nid, kind) {
            content.append(body, full)?;
        }
    }
    let mut tail = blocks.end();
    if p.inline == 0 {
        tail.resize(BLOCK as usize, 0);
        content.append(body, &tail)?;
        tail.clear();
    }
    let head = Inode {
        kind: FileType::Directory,
        form: if p.inline > 0 {
            Form::Inline
        } else {
            Form::Plain
        },
        size: p.size,
        place: p.block as u32,
        // `.` and `..` are among them.
        nlink: below,
    };
    let attributes = &tree.directory(p.directory).attributes;
    let mut bytes = inode(head, attributes, &xattr_bytes(tree, p.directory)?);
    bytes.extend(tail);
    Ok(bytes)
}

/// In the order of their bytes, `.` and `..` among them.
fn entries<'a>(
    tree: &'a Tree,
    sorted: &'a [u32],
    d: u32,
) -> impl Iterator<Item = (&'a [u8], u64, FileType)> {
    let own = tree.directory(d);
    let dots = [
        (b".".as_slice(), own.nid),
        (b"..", tree.directory(own.parent).nid),
    ];
    let mut dots = dots.into_iter().peekable();
    let mut names = tree
        .children(sorted, d)
        .iter()
        .map(|n| tree.name(*n))
        .peekable();
    std::iter::from_fn(move || {
        let name = names.peek().map(|n| n.0);
        if let Some((dot, nid)) = dots.next_if(|dot| name.is_none_or(|n| dot.0 < n)) {
            return Some((dot, nid, FileType::Directory));
        }
        let (name, node) = names.next()?;
        Some(match tree.node(node) {
            Node::Directory(below) => (name, tree.directory(below).nid, FileType::Directory),
            Node::Symlink { nid, .. } => (name, nid, FileType::Symlink),
            Node::Other { nid, kind, .. } => (name, nid, kind),
        })
    })
}

/// What is written in order, in large pieces.
struct Stream {
    at: u64,
    bytes: Vec<u8>,
}

const PIECE: usize = 256 << 10;

impl Stream {
    fn new(at: u64) -> Self {
        Stream {
            at,
            bytes: Vec::new(),
        }
    }

    fn append<S: Sink>(&mut self, body: &mut Body<S>, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PIECE {
            body.write_at(&self.bytes, self.at)?;
            self.at += self.bytes.len() as u64;
            self.bytes.clear();
        }
        Ok(())
    }

    /// At `to`, with zeros before it.
    fn put<S: Sink>(&mut self, body: &mut Body<S>, bytes: &[u8], to: u64) -> Result<()> {
        self.bytes.resize((to - self.at) as usize, 0);
        self.append(body, bytes)
    }

    fn end<S: Sink>(&mut self, body: &mut Body<S>, to: u64) -> Result<()> {
        self.bytes.resize((to - self.at) as usize, 0);
        if !self.bytes.is_empty() {
            body.write_at(&self.bytes, self.at)?;
        }
        Ok(())
    }
}
