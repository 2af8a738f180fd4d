//! What is about to go from a FIFO into a log, noted before it does.
//!
//! A batch is written to the log, then read out of the FIFO. A monitor that is
//! killed in between leaves it in both, and its successor would log it twice. The
//! note says what the log is going to be and what the FIFO then begins with, so
//! that the successor can tell how far it came. It lies beside the bundle, on the
//! filesystem of the state, which is in memory: two writes of 40 bytes a batch.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Stream;
use crate::{Context, Result};

/// A batch on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub stream: Stream,
    /// The log's size without its records, and with them, bytes.
    pub before: u64,
    pub after: u64,
    /// Bytes at the FIFO's beginning, and their hash.
    pub taken: u64,
    pub hash: u64,
}

/// The file with the note.
#[derive(Debug)]
pub(crate) struct Intent(File);

impl Intent {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map(Intent)
            .with_context(|| format!("open({})", path.display()))
    }

    pub(crate) fn note(&self, batch: &Batch) -> Result<()> {
        let stream = match batch.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        let words = [stream, batch.before, batch.after, batch.taken, batch.hash];
        self.write(words)
    }

    pub(crate) fn clear(&self) -> Result<()> {
        self.write([0; 5])
    }

    fn write(&self, words: [u64; 5]) -> Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        self.0
            .write_all_at(&bytes, 0)
            .context("pwrite(<note of the log>)")
    }

    /// What was on its way when the last monitor died.
    pub(crate) fn read(&self) -> Option<Batch> {
        let mut words = [0_u64; 5];
        for (i, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            self.0.read_exact_at(&mut bytes, 8 * i as u64).ok()?;
            *word = u64::from_ne_bytes(bytes);
        }
        let stream = match words[0] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        Some(Batch {
            stream,
            before: words[1],
            after: words[2],
            taken: words[3],
            hash: words[4],
        })
    }
}

/// Tells one batch from the next; nobody gains from making two alike.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
