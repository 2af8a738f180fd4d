//! Whether a file is what its layer's archive makes: it is made once more, and
//! compared instead of written. No digest has to be made at each load for that.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::body::Sink;
use crate::image::digest::Digest;
use crate::image::limits::Budget;
use crate::{Context, Error, Result};

/// Bytes that differ and may yet be written again: link counts.
const MAX_PENDING: usize = 1 << 20;

/// Reads the plain archive and `file` to their ends.
pub(crate) fn same<R: Read>(stream: R, file: &File, diff_id: &Digest) -> Result<bool> {
    let differs = Rc::new(Cell::new(false));
    let compare = Compare {
        file,
        pending: BTreeMap::new(),
        buffer: Vec::new(),
        differs: Rc::clone(&differs),
    };
    let memory = super::tree::MAX_MEMORY;
    Budget::none(|b| super::write_to(stream, compare, diff_id, b, memory))?;
    Ok(!differs.get())
}

struct Compare<'a> {
    file: &'a File,
    /// What should be where something else is.
    pending: BTreeMap<u64, u8>,
    buffer: Vec<u8>,
    differs: Rc<Cell<bool>>,
}

impl Sink for Compare<'_> {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        if self.differs.get() {
            return Ok(());
        }
        self.buffer.resize(bytes.len(), 0);
        match self.file.read_exact_at(&mut self.buffer, at) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.differs.set(true);
                return Ok(());
            }
            Err(e) => return Err(Error::from(e)).context("pread"),
        }
        let before = self.pending.range(at..at + bytes.len() as u64);
        for at in before.map(|(at, _)| *at).collect::<Vec<_>>() {
            self.pending.remove(&at);
        }
        if self.buffer != bytes {
            let pairs = self.buffer.iter().zip(bytes).enumerate();
            let other = pairs.filter(|(_, (is, should))| is != should);
            self.pending
                .extend(other.map(|(i, (_, should))| (at + i as u64, *should)));
        }
        if self.pending.len() > MAX_PENDING {
            self.differs.set(true);
        }
        Ok(())
    }

    /// Nothing but the first block is written after this.
    fn end(&mut self, at: u64) -> Result<()> {
        let len = self.file.metadata().context("fstat")?.len();
        if len != at || !self.pending.is_empty() {
            self.differs.set(true);
        }
        Ok(())
    }
}

impl Drop for Compare<'_> {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.differs.set(true);
        }
    }
}
