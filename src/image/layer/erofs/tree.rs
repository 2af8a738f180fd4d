//! The names of a layer while it is written: what became of them is known at the
//! end of the archive alone, as a later entry takes the place of an earlier one.
//!
//! One arena for the bytes of names, flat tables for the rest, and one hash table
//! of (directory, name): some 60 bytes a name, so that the bound allows for a quarter
//! of a million.

use std::hash::{BuildHasher, RandomState};

use super::format::{Attributes, FileType, Xattr};
use crate::image::archive::tar::show;
use crate::image::layer::beneath::{MAX_DEPTH, MAX_NAME, MAX_SYMLINKS, Steps};
use crate::{Error, Result};
use nix::errno::Errno;

/// Memory for the names of a layer.
pub(super) const MAX_MEMORY: usize = 16 << 20;

/// What a name stands for. A nid's inode is in the file already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory(u32),
    Symlink {
        nid: u64,
        target: (u32, u16),
    },
    Other {
        nid: u64,
        kind: FileType,
        whiteout: bool,
    },
}

#[derive(Debug)]
struct Name {
    parent: u32,
    /// In the arena.
    at: u32,
    len: u8,
    node: u32,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub attributes: Attributes,
    pub parent: u32,
    /// Given when all names are known.
    pub nid: u64,
}

pub(super) const ROOT: u32 = 0;
const FREE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Tree {
    bytes: Vec<u8>,
    names: Vec<Name>,
    nodes: Vec<Node>,
    directories: Vec<Directory>,
    /// Open addressing; names by their number.
    table: Vec<u32>,
    hash: RandomState,
    xattr_bytes: usize,
    steps: Steps,
    memory: usize,
}

/// A name's place: there, or where it would be in the table.
enum Slot {
    Taken(u32),
    Free(usize),
}

impl Tree {
    /// With `memory` as the bound.
    pub(super) fn new(memory: usize) -> Self {
        Tree {
            bytes: Vec::new(),
            names: Vec::new(),
            nodes: Vec::new(),
            directories: vec![Directory {
                attributes: Attributes {
                    mode: 0o755,
                    ..Attributes::default()
                },
                parent: ROOT,
                nid: 0,
            }],
            table: vec![FREE; 64],
            hash: RandomState::new(),
            xattr_bytes: 0,
            steps: Steps::default(),
            memory,
        }
    }

    pub(super) fn directory(&self, d: u32) -> &Directory {
        &self.directories[d as usize]
    }

    pub(super) fn directory_mut(&mut self, d: u32) -> &mut Directory {
        &mut self.directories[d as usize]
    }

    pub(super) fn find(&self, parent: u32, name: &[u8]) -> Option<Node> {
        match self.slot(parent, name) {
            Slot::Taken(n) => Some(self.nodes[self.names[n as usize].node as usize]),
            Slot::Free(_) => None,
        }
    }

    /// The number of a name's node, for another name of it.
    pub(super) fn node_of(&self, parent: u32, name: &[u8]) -> Option<u32> {
        match self.slot(parent, name) {
            Slot::Taken(n) => Some(self.names[n as usize].node),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn node(&self, number: u32) -> Node {
        self.nodes[number as usize]
    }

    /// The name stands for this from now on, whatever it stood for.
    pub(super) fn put(&mut self, parent: u32, name: &[u8], node: Node) -> Result<()> {
        let number = self.nodes.len() as u32;
        self.nodes.push(node);
        self.link(parent, name, number)
    }

    pub(super) fn link(&mut self, parent: u32, name: &[u8], node: u32) -> Result<()> {
        match self.slot(parent, name) {
            Slot::Taken(n) => self.names[n as usize].node = node,
            Slot::Free(at) => {
                self.table[at] = self.names.len() as u32;
                let at = self.keep(name);
                self.names.push(Name {
                    parent,
                    at,
                    len: name.len() as u8,
                    node,
                });
                self.grow();
            }
        }
        self.bounded()
    }

    pub(super) fn put_symlink(
        &mut self,
        parent: u32,
        name: &[u8],
        nid: u64,
        target: &[u8],
    ) -> Result<()> {
        let target = (self.keep(target), target.len() as u16);
        self.put(parent, name, Node::Symlink { nid, target })
    }

    pub(super) fn make_directory(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let number = self.directories.len() as u32;
        // As mkdir(2) by root in a directory with the setgid bit.
        let above = &self.directory(parent).attributes;
        let gid = if above.mode & 0o2000 != 0 {
            above.gid
        } else {
            0
        };
        self.directories.push(Directory {
            attributes: Attributes {
                mode: 0o755,
                gid,
                ..Attributes::default()
            },
            parent,
            nid: 0,
        });
        self.put(parent, name, Node::Directory(number))?;
        Ok(number)
    }

    /// As repeated setxattr(2): what is there by other names stays.
    pub(super) fn add_xattrs(&mut self, d: u32, xattrs: Vec<Xattr>) -> Result<()> {
        for x in xattrs {
            self.xattr_bytes += size_of::<Xattr>() + x.name.len() + x.value.len();
            let all = &mut self.directories[d as usize].attributes.xattrs;
            match all.iter_mut().find(|a| a.same_name(&x)) {
                Some(there) => there.value = x.value,
                None => all.push(x),
            }
        }
        self.bounded()
    }

    /// Whether `d` is `above` or below it.
    pub(super) fn is_below(&self, mut d: u32, above: u32) -> bool {
        loop {
            if d == above {
                return true;
            }
            if d == ROOT {
                return false;
            }
            d = self.directory(d).parent;
        }
    }

    /// Resolves a directory as if the layer's root were the root directory: see
    /// [`crate::image::layer::beneath::walk`]. `None` if it is not there, and not to be made.
    pub(super) fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<u32>> {
        let refused = |e| Error::sys(format!("open({})", show(path)), e);
        let mut todo = Vec::new();
        push_reversed(&mut todo, path.to_vec());
        let mut stack = vec![ROOT];
        let mut links = 0;
        while let (Some(component), Some(&here)) = (todo.pop(), stack.last()) {
            if links > 0 {
                self.steps.take()?;
            }
            if component == b".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            if component.len() > MAX_NAME {
                return Err(refused(Errno::ENAMETOOLONG));
            }
            match self.find(here, &component) {
                Some(Node::Directory(d)) => stack.push(d),
                Some(Node::Symlink { target, .. }) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(refused(Errno::ELOOP));
                    }
                    let target = self.kept(target.0, usize::from(target.1)).to_vec();
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    push_reversed(&mut todo, target);
                }
                Some(Node::Other { .. }) => {
                    return Err(Error::invalid(format!(
                        "{} is not a directory",
                        show(&component)
                    )));
                }
                None if make => stack.push(self.make_directory(here, &component)?),
                None => return Ok(None),
            }
            if stack.len() > MAX_DEPTH {
                return Err(Error::invalid(format!(
                    "a directory is deeper than {MAX_DEPTH} components"
                )));
            }
        }
        Ok(stack.pop())
    }

    /// Numbers of names, those of one directory together and in the order of their
    /// bytes. What was replaced with its directory is among them.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let mut all: Vec<u32> = (0..self.names.len() as u32).collect();
        all.sort_unstable_by(|a, b| {
            let (a, b) = (&self.names[*a as usize], &self.names[*b as usize]);
            (a.parent, self.text(a)).cmp(&(b.parent, self.text(b)))
        });
        all
    }

    /// A directory's own of [`Tree::sorted`].
    pub(super) fn children<'a>(&self, sorted: &'a [u32], d: u32) -> &'a [u32] {
        let parent = |n: &u32| self.names[*n as usize].parent;
        let from = sorted.partition_point(|n| parent(n) < d);
        let to = from + sorted[from..].partition_point(|n| parent(n) == d);
        &sorted[from..to]
    }

    pub(super) fn name(&self, n: u32) -> (&[u8], u32) {
        let name = &self.names[n as usize];
        (self.text(name), name.node)
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn text(&self, name: &Name) -> &[u8] {
        self.kept(name.at, usize::from(name.len))
    }

    fn keep(&mut self, bytes: &[u8]) -> u32 {
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn kept(&self, at: u32, len: usize) -> &[u8] {
        &self.bytes[at as usize..][..len]
    }

    fn slot(&self, parent: u32, name: &[u8]) -> Slot {
        let mask = self.table.len() - 1;
        let mut at = self.hash.hash_one((parent, name)) as usize & mask;
        loop {
            match self.table[at] {
                FREE => return Slot::Free(at),
                n => {
                    let found = &self.names[n as usize];
                    if found.parent == parent && self.text(found) == name {
                        return Slot::Taken(n);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Keeps a third of the table free.
    fn grow(&mut self) {
        if self.names.len() * 3 < self.table.len() * 2 {
            return;
        }
        let size = self.table.len() * 2;
        self.table.clear();
        self.table.resize(size, FREE);
        for (n, name) in self.names.iter().enumerate() {
            let mut at = self.hash.hash_one((name.parent, self.text(name))) as usize & (size - 1);
            while self.table[at] != FREE {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = n as u32;
        }
    }

    fn bounded(&self) -> Result<()> {
        // With what sorting and counting take at the end.
        let used = self.bytes.len()
            + self.names.len() * (size_of::<Name>() + 4)
            + self.nodes.len() * (size_of::<Node>() + 4)
            + self.directories.len() * (size_of::<Directory>() + 4)
            + self.table.len() * 4
            + self.xattr_bytes;
        if used <= self.memory {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "the layer has too many names for an erofs layer: {} take more than {} MiB of memory",
            self.names.len(),
            self.memory >> 20
        ))
        .hint("`carob system layers dir`, and once more: directories may have any number"))
    }
}

/// The components of a path onto a stack, the first one uppermost.
fn push_reversed(todo: &mut Vec<Vec<u8>>, path: Vec<u8>) {
    todo.extend(
        path.split(|b| *b == b'/')
            .filter(|c| !c.is_empty() && *c != b".")
            .rev()
            .map(<[u8]>::to_vec),
    );
}
