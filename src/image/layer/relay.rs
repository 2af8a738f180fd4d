//! A stream that one thread produces and another consumes: while a layer's next
//! bytes are inflated, the ones before are hashed and become files.
//!
//! Memory is bounded: [`BUFFERS`] of [`SIZE`] bytes go round and round.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::Ignored;

const SIZE: usize = 256 << 10;
const BUFFERS: usize = 4;

/// Both ends. The producer's are the [`Feed`]'s.
pub(crate) fn relay() -> (Feed, Relayed) {
    let (full, filled) = sync_channel(BUFFERS);
    let (empty, emptied) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // Made when they are first used: a small layer takes one of them.
        empty
            .send(Vec::new())
            .ignored("the receiver is in the next lines");
    }
    let feed = Feed { full, emptied };
    let relayed = Relayed {
        filled,
        empty,
        chunk: Vec::new(),
        at: 0,
        whole: false,
    };
    (feed, relayed)
}

pub(crate) struct Feed {
    full: SyncSender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
}

impl Feed {
    /// Hands over all of `from`, then the end. `false` if the consumer went away
    /// before that, which is no error of this end's.
    pub(crate) fn all(self, mut from: impl Read) -> io::Result<bool> {
        while let Ok(mut chunk) = self.emptied.recv() {
            chunk.resize(SIZE, 0);
            let n = fill(&mut from, &mut chunk)?;
            chunk.truncate(n);
            if self.full.send(chunk).is_err() {
                return Ok(false);
            }
            if n < SIZE {
                // An empty chunk is the end; a feed that was dropped is none.
                return Ok(n == 0 || self.full.send(Vec::new()).is_ok());
            }
        }
        Ok(false)
    }
}

/// As much as there is, so that small reads do not become small chunks.
fn fill(from: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < chunk.len() {
        match from.read(&mut chunk[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// What was fed. Ends early, with an error, if the feed does.
pub(crate) struct Relayed {
    filled: Receiver<Vec<u8>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    whole: bool,
}

impl Read for Relayed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && !self.whole {
            let used = std::mem::take(&mut self.chunk);
            self.at = 0;
            if used.capacity() > 0 {
                self.empty
                    .send(used)
                    .ignored("the producer has ended and needs no buffer");
            }
            self.chunk = self
                .filled
                .recv()
                .map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, CUT))?;
            self.whole = self.chunk.is_empty();
        }
        let n = buf.len().min(self.chunk.len() - self.at);
        buf[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// What the consumer says if the producer failed: the producer knows why.
const CUT: &str = "the stream ended early";

#[cfg(test)]
mod tests {
    use super::*;

    fn through(size: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
        let (feed, mut relayed) = relay();
        let got = std::thread::scope(|scope| {
            let consumer = scope.spawn(move || {
                let mut got = Vec::new();
                relayed.read_to_end(&mut got).map(|_| got)
            });
            assert!(feed.all(data.as_slice()).unwrap());
            consumer.join().unwrap().unwrap()
        });
        assert!(got == data, "{size}");
        got
    }

    #[test]
    fn every_byte_arrives_in_order() {
        for size in [0, 1, SIZE - 1, SIZE, SIZE + 1, 9 * SIZE + 5] {
            assert_eq!(through(size).len(), size);
        }
    }

    #[test]
    fn either_end_may_go_early() {
        let (feed, relayed) = relay();
        drop(relayed);
        assert!(!feed.all(io::repeat(7)).unwrap());

        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (feed, mut relayed) = relay();
        let e = feed.all((&b"abc"[..]).chain(Broken)).unwrap_err();
        assert_eq!(e.to_string(), "broken");
        let e = io::copy(&mut relayed, &mut io::sink()).unwrap_err();
        assert_eq!(e.to_string(), CUT);
    }
}
