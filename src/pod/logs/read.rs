//! Reads what a container has written, one record after the other, while it is written.
//!
//! Rotation gives the file another name, and the oldest are removed. A reader therefore
//! goes by inode: it reads its file to the end, and only then looks for the one that
//! follows. Memory is bounded by one block and one line.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Record, files};
use crate::{Context, Error, Kind, Result};

const BLOCK: usize = 64 * 1024;
/// Longer lines are not of the runtime's making, and are left out.
const MAX_LINE: usize = 1 << 20;

pub(crate) struct Reader {
    dir: PathBuf,
    attempt: u32,
    file: File,
    inode: u64,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer.
    at: usize,
    /// Up to where no newline was found.
    searched: usize,
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Reader {
    /// At the beginning, or so that `tail` whole lines are left.
    pub(crate) fn open(dir: &Path, attempt: u32, tail: Option<u64>) -> Result<Self> {
        // A rotation between the look and the opening changes the names.
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let mut opened = vec![];
            let mut moved = false;
            for path in files(dir, attempt)? {
                match File::open(&path) {
                    Ok(f) => opened.push(f),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => moved = true,
                    Err(e) => return Err(e).with_context(|| format!("open({})", path.display())),
                }
            }
            if moved {
                continue;
            }
            let (index, offset) = match tail {
                Some(n) => tail_start(&opened, n)?,
                None => (0, 0),
            };
            if index >= opened.len() {
                break;
            }
            let mut file = opened.swap_remove(index);
            if offset > 0 {
                use std::io::Seek;
                file.seek(std::io::SeekFrom::Start(offset))
                    .context("lseek(log)")?;
            }
            let inode = file.metadata().context("fstat(log)")?.ino();
            return Ok(Reader {
                dir: dir.to_owned(),
                attempt,
                file,
                inode,
                buffer: Vec::new(),
                at: 0,
                searched: 0,
                skipping: false,
            });
        }
        Err(Error::new(
            Kind::NotFound,
            format!("no log in {} of attempt {attempt}", dir.display()),
        ))
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The next line without its newline; `None` if there is none now.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(i) = unseen.iter().position(|b| *b == b'\n') {
                let end = self.searched + i;
                let begin = self.at;
                self.at = end + 1;
                self.searched = end + 1;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(Some(&self.buffer[begin..end]));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            if self.buffer.len() > MAX_LINE {
                self.buffer.clear();
                self.skipping = true;
            }
            self.searched = self.buffer.len();
            if self.fill()? == 0 && !self.turn_page()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> Result<usize> {
        let begin = self.buffer.len();
        self.buffer.resize(begin + BLOCK, 0);
        let n = loop {
            match self.file.read(&mut self.buffer[begin..]) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(begin + *n.as_ref().unwrap_or(&0));
        n.context("read(log)")
    }

    /// At the end of a file: goes on with the one after it, if there is one.
    /// True if there may be more to read.
    fn turn_page(&mut self) -> Result<bool> {
        let mut chain = vec![];
        for path in files(&self.dir, self.attempt)? {
            match std::fs::metadata(&path) {
                Ok(m) => chain.push((path, m.ino())),
                // Renamed or removed since: look again.
                Err(_) => return Ok(true),
            }
        }
        // Ours may have been removed, being the oldest: what is left is all
        // newer then, and the first of it is next.
        let ours = chain.iter().position(|(_, inode)| *inode == self.inode);
        let Some((path, inode)) = chain.get(ours.map_or(0, |i| i + 1)) else {
            return Ok(false);
        };
        let file = match File::open(path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(e).with_context(|| format!("open({})", path.display())),
        };
        let inode = *inode;
        if file.metadata().context("fstat(log)")?.ino() != inode {
            return Ok(true);
        }
        // The writer had renamed ours before it began the next: what comes now
        // is its last.
        if self.fill()? > 0 {
            return Ok(true);
        }
        if !self.buffer.is_empty() && !self.skipping {
            // The writer died in the middle of a line.
            self.buffer.push(b'\n');
        }
        self.skipping = false;
        self.file = file;
        self.inode = inode;
        Ok(true)
    }
}

/// The file and the offset from which `lines` whole lines follow. A line of
/// several records counts once.
fn tail_start(files: &[File], lines: u64) -> Result<(usize, u64)> {
    let mut count = 0;
    let mut start = (files.len().saturating_sub(1), None);
    for (index, file) in files.iter().enumerate().rev() {
        let mut end = file.metadata().context("fstat(log)")?.len();
        let mut lower = LineStarts::new(file, &mut end)?;
        if start.1.is_none() {
            start = (index, Some(end));
        }
        while let Some(at) = lower.next()? {
            let mut head = [0; 96];
            let n = read_at(file, &mut head, at)?;
            let line = head[..n].split(|b| *b == b'\n').next().unwrap_or_default();
            if Record::parse(line).is_none_or(|r| !r.partial) {
                count += 1;
                if count > lines {
                    return Ok((start.0, start.1.unwrap_or(0)));
                }
            }
            start = (index, Some(at));
        }
    }
    Ok((start.0, start.1.unwrap_or(0)))
}

/// The beginnings of a file's whole lines, from the last to the first.
struct LineStarts<'f> {
    file: &'f File,
    block: Vec<u8>,
    /// Where the block begins in the file.
    base: u64,
    /// How much of the block has not been looked at.
    left: usize,
    done: bool,
}

impl<'f> LineStarts<'f> {
    /// Lowers `end` to the end of the last whole line.
    fn new(file: &'f File, end: &mut u64) -> Result<Self> {
        let mut s = LineStarts {
            file,
            block: Vec::new(),
            base: *end,
            left: 0,
            done: false,
        };
        match s.newline()? {
            Some(at) => *end = at + 1,
            None => {
                *end = 0;
                s.done = true;
            }
        }
        Ok(s)
    }

    /// The newline before the place reached.
    fn newline(&mut self) -> Result<Option<u64>> {
        loop {
            let found = self.block[..self.left].iter().rposition(|b| *b == b'\n');
            if let Some(i) = found {
                self.left = i;
                return Ok(Some(self.base + i as u64));
            }
            if self.base == 0 {
                self.left = 0;
                return Ok(None);
            }
            let size = self.base.min(BLOCK as u64);
            self.base -= size;
            self.block.resize(size as usize, 0);
            self.left = read_at(self.file, &mut self.block, self.base)?;
        }
    }

    fn next(&mut self) -> Result<Option<u64>> {
        if self.done {
            return Ok(None);
        }
        match self.newline()? {
            Some(at) => Ok(Some(at + 1)),
            None => {
                self.done = true;
                Ok(Some(0))
            }
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read_at(&mut buffer[n..], offset + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("pread(log)"),
        }
    }
    Ok(n)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
