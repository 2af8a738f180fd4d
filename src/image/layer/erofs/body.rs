//! Where things are in the file: content is appended block after block, inodes are
//! packed into runs of blocks between it, which are kept in memory until they are
//! full. Nothing that is written is read again.

use std::io::Read;

use super::format::{BLOCK, SLOT};
use crate::{Context, Error, Result};

/// Who takes what is written.
pub(super) trait Sink {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()>;
    /// The file ends there.
    fn end(&mut self, at: u64) -> Result<()>;
}

const BUFFER: usize = 256 << 10;
/// Blocks of a run of inodes, at most; the first runs are shorter.
const MAX_RUN: u64 = 64;

pub(super) struct Body<S> {
    sink: S,
    /// The first block that nothing has.
    next: u64,
    /// Content that is not written yet, and where it belongs.
    buffer: Box<[u8]>,
    have: usize,
    buffer_at: u64,
    run: Run,
    run_blocks: u64,
}

#[derive(Default)]
struct Run {
    /// Its first block.
    at: u64,
    bytes: Vec<u8>,
    /// Of each block the bytes that are taken.
    used: Vec<u64>,
}

impl<S: Sink> Body<S> {
    pub(super) fn new(sink: S) -> Self {
        Body {
            sink,
            next: 1, // the superblock's
            buffer: vec![0; BUFFER].into_boxed_slice(),
            have: 0,
            buffer_at: 0,
            run: Run::default(),
            run_blocks: 1,
        }
    }

    /// Room for an inode of `len` bytes with all that is behind it, whose first byte
    /// is at the offset that is returned: in one block, if it fits into one.
    /// Good until the next call.
    pub(super) fn reserve(&mut self, len: u64) -> Result<u64> {
        let len = len.next_multiple_of(SLOT);
        if len > BLOCK {
            self.flush_run()?;
            self.new_run(len.div_ceil(BLOCK))?;
            self.run.used.fill(BLOCK);
            return Ok(self.run.at * BLOCK);
        }
        // The block that is left with least.
        let best = |used: &[u64]| {
            let fits = used.iter().enumerate().filter(|(_, u)| **u + len <= BLOCK);
            fits.max_by_key(|(i, u)| (**u, std::cmp::Reverse(*i)))
                .map(|(i, _)| i)
        };
        let i = match best(&self.run.used) {
            Some(i) => i,
            None => {
                self.flush_run()?;
                self.new_run(self.run_blocks)?;
                self.run_blocks = (self.run_blocks * 2).min(MAX_RUN);
                0
            }
        };
        let at = (self.run.at + i as u64) * BLOCK + self.run.used[i];
        self.run.used[i] += len;
        Ok(at)
    }

    /// Into what was reserved last.
    pub(super) fn put(&mut self, bytes: &[u8], at: u64) {
        self.reserved(at, bytes.len()).copy_from_slice(bytes);
    }

    /// What was reserved last, to be written to.
    pub(super) fn reserved(&mut self, at: u64, len: usize) -> &mut [u8] {
        let from = (at - self.run.at * BLOCK) as usize;
        &mut self.run.bytes[from..][..len]
    }

    /// So many blocks, whose content is appended next.
    pub(super) fn blocks(&mut self, n: u64) -> Result<u32> {
        let first = self.next;
        self.next += n;
        block(self.next)?;
        if self.have == 0 {
            self.buffer_at = first * BLOCK;
        }
        block(first)
    }

    /// So many blocks, whose content is written with [`Body::write_at`].
    pub(super) fn blocks_apart(&mut self, n: u64) -> Result<u32> {
        self.flush()?;
        self.blocks(n)
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.sink.write_at(bytes, at)
    }

    /// Content of the blocks that were asked for last.
    pub(super) fn append<R: Read>(&mut self, content: &mut R, mut len: u64) -> Result<()> {
        while len > 0 {
            if self.have == BUFFER {
                self.flush()?;
            }
            let most = (BUFFER - self.have).min(usize::try_from(len).unwrap_or(usize::MAX));
            let n = read_some(content, &mut self.buffer[self.have..][..most])?;
            self.have += n;
            len -= n as u64;
        }
        let padded = self.have.next_multiple_of(BLOCK as usize);
        self.buffer[self.have..padded].fill(0);
        self.have = padded;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.have > 0 {
            self.sink
                .write_at(&self.buffer[..self.have], self.buffer_at)?;
            self.buffer_at += self.have as u64;
            self.have = 0;
        }
        Ok(())
    }

    fn new_run(&mut self, blocks: u64) -> Result<()> {
        self.flush()?;
        self.run.at = u64::from(self.blocks(blocks)?);
        self.run.bytes.clear();
        self.run.bytes.resize((blocks * BLOCK) as usize, 0);
        self.run.used.clear();
        self.run.used.resize(blocks as usize, 0);
        Ok(())
    }

    /// Whole blocks; those that nothing is in stay a hole.
    pub(super) fn flush_run(&mut self) -> Result<()> {
        let taken = self.run.used.iter().take_while(|u| **u > 0).count();
        if taken > 0 {
            let bytes = &self.run.bytes[..taken * BLOCK as usize];
            self.sink.write_at(bytes, self.run.at * BLOCK)?;
        }
        self.run.used.clear();
        Ok(())
    }

    /// The end: block 0, given how many blocks there are.
    pub(super) fn end(mut self, first: impl FnOnce(u32) -> Vec<u8>) -> Result<()> {
        self.flush_run()?;
        self.flush()?;
        let blocks = block(self.next)?;
        self.sink.end(self.next * BLOCK)?;
        self.sink.write_at(&first(blocks), 0)
    }
}

pub(super) fn read_some<R: Read>(content: &mut R, buffer: &mut [u8]) -> Result<usize> {
    match content.read(buffer).context("read the layer")? {
        0 => Err(Error::invalid("the layer has less content than it says")),
        n => Ok(n),
    }
}

/// Blocks are told by 32 bits, of which the last value is no block.
fn block(n: u64) -> Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|n| *n != u32::MAX)
        .ok_or_else(|| Error::unsupported("the layer is larger than 16 TiB"))
}
