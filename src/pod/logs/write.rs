//! One attempt's log file: appended to, rotated, and what becomes of output that it has
//! no room for.
//!
//! As with a kubelet, such output is dropped, so that a full disk stops no container in
//! write(2). How much was dropped is counted, and said in the log when there is room
//! again. With the annotation [`WhenLogFull::ANNOTATION`] it waits in the FIFO, and the
//! container with it as soon as that is full.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::intent::{self, Batch, Intent};
use super::{Record, Stream, files, path_of};
use crate::spec::WhenLogFull;
use crate::{Context, Error, Ignored, Result};

/// Bytes of a log file before it is rotated, and how many files are kept: the
/// kubelet's defaults (containerLogMaxSize, containerLogMaxFiles).
const FILE_LIMIT: u64 = 10 << 20;
const FILES_KEPT: usize = 5;

/// Until a log that could not be written is tried again.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    attempt: u32,
    /// `None`: it could not be opened so far.
    file: Option<File>,
    size: u64,
    /// Opened when there is something to note.
    intent: Option<Intent>,
    note: PathBuf,
    when_full: WhenLogFull,
    /// Since the last record that was written.
    lost: Option<Loss>,
    /// In all.
    lost_in_all: Option<Loss>,
    /// The log has said so since the last [`Self::take_told`].
    told: bool,
    /// The last record in the file is the beginning of a line of this stream.
    open_line: Option<Stream>,
}

/// Output that was dropped.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// Line ends among it.
    pub lines: u64,
    pub bytes: u64,
    since: Timestamp,
    last: Instant,
    /// Of the first try.
    pub why: Error,
}

impl Loss {
    fn new(why: Error) -> Self {
        Loss {
            lines: 0,
            bytes: 0,
            since: Timestamp::now(),
            last: Instant::now(),
            why,
        }
    }

    fn add(&mut self, output: &[u8]) {
        self.lines += output.iter().filter(|b| **b == b'\n').count() as u64;
        self.bytes += output.len() as u64;
        self.last = Instant::now();
    }

    /// As it is said in the log and in the event.
    pub(crate) fn text(&self) -> String {
        let lines = match self.lines {
            1 => "line",
            _ => "lines",
        };
        format!(
            "{} {lines} ({} bytes) of output dropped since {:.3}: {}",
            self.lines, self.bytes, self.since, self.why
        )
    }
}

impl LogFile {
    /// `note` is where the next monitor finds what this one was about to do.
    ///
    /// # Errors
    /// It cannot be opened, and the container is to wait for room. Else that is tried
    /// again at each write.
    pub(crate) fn open(
        dir: &Path,
        attempt: u32,
        note: &Path,
        when_full: WhenLogFull,
    ) -> Result<Self> {
        let mut log = LogFile {
            path: path_of(dir, attempt),
            attempt,
            file: None,
            size: 0,
            intent: None,
            note: note.to_owned(),
            when_full,
            lost: None,
            lost_in_all: None,
            told: false,
            open_line: None,
        };
        match log.reopen() {
            Err(e) if when_full == WhenLogFull::Block => Err(e),
            _ => Ok(log),
        }
    }

    fn reopen(&mut self) -> Result<()> {
        let dir = self.path.parent().unwrap_or(&self.path);
        std::fs::create_dir_all(dir).with_context(|| format!("mkdir({})", dir.display()))?;
        let (file, size) = open_append(&self.path)?;
        (self.file, self.size) = (Some(file), size);
        Ok(())
    }

    /// Writes the records of so much output, or drops it. `fifo` is the stream in whose
    /// FIFO the output is until this returns.
    ///
    /// # Errors
    /// There is no room, and the container is to wait.
    pub(crate) fn write(
        &mut self,
        records: Vec<u8>,
        output: &[u8],
        fifo: Option<Stream>,
    ) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let open_line = fifo.filter(|_| is_partial(&records));
        let mut all = self.notice();
        all.extend_from_slice(&records);
        match self.append(&all, output, fifo) {
            Ok(()) => {
                self.told |= self.lost.take().is_some();
                self.open_line = open_line;
                Ok(())
            }
            Err(e) if self.when_full == WhenLogFull::Block => Err(e),
            Err(e) => {
                for loss in [&mut self.lost, &mut self.lost_in_all] {
                    loss.get_or_insert_with(|| Loss::new(e.clone())).add(output);
                }
                Ok(())
            }
        }
    }

    /// What was dropped and is not said in the log yet.
    pub(crate) fn lost(&self) -> Option<&Loss> {
        self.lost.as_ref()
    }

    /// All that was dropped, if the log has said something of it since the last call, or
    /// with `anyway`.
    pub(crate) fn take_told(&mut self, anyway: bool) -> Option<Loss> {
        let told = std::mem::take(&mut self.told) || anyway && self.lost.is_some();
        self.lost_in_all.clone().filter(|_| told)
    }

    /// Says in the log what was dropped, if there is room, and nothing more has been for
    /// a while: in a file's last block there is room for a notice more often than for
    /// output.
    pub(crate) fn tell_loss(&mut self) {
        let is_over = |loss: &Loss| loss.last.elapsed() >= PAUSE;
        if !self.lost.as_ref().is_some_and(is_over) {
            return;
        }
        let notice = self.notice();
        if self.append(&notice, &[], None).is_ok() {
            self.told |= self.lost.take().is_some();
            self.open_line = None;
        }
    }

    /// A record that says what was dropped; nothing if nothing was.
    fn notice(&self) -> Vec<u8> {
        let Some(lost) = &self.lost else {
            return Vec::new();
        };
        let time = format!("{:.9}", Timestamp::now());
        let text = format!("carob: {}", lost.text());
        let end = self.open_line.map(|stream| (stream, ""));
        let mut notice = Vec::new();
        for (stream, text) in end.into_iter().chain([(Stream::Stderr, text.as_str())]) {
            let record = Record {
                time: &time,
                stream,
                partial: false,
                text: text.as_bytes(),
            };
            record.append_to(&mut notice);
        }
        notice
    }

    /// Writes records whole or not at all.
    fn append(&mut self, records: &[u8], output: &[u8], fifo: Option<Stream>) -> Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.size > 0 && self.size + records.len() as u64 > FILE_LIMIT {
            self.rotate()?;
        }
        if let Some(stream) = fifo {
            self.note(&Batch {
                stream,
                before: self.size,
                after: self.size + records.len() as u64,
                taken: output.len() as u64,
                hash: intent::hash(output),
            });
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if let Err(e) = file.write_all(records) {
            // A full disk: no half record stays for the next try to follow.
            file.set_len(self.size)
                .ignored("the write's error is the one to tell");
            return Err(e).with_context(|| format!("write({})", self.path.display()));
        }
        self.size += records.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{stamp}"));
        let rotated = PathBuf::from(name);
        if rotated.exists() {
            // Twice in one second: the name is taken, the limit is not that sharp.
            return Ok(());
        }
        std::fs::rename(&self.path, &rotated)
            .with_context(|| format!("rename({}, {})", self.path.display(), rotated.display()))?;
        match open_append(&self.path) {
            Ok((file, size)) => (self.file, self.size) = (Some(file), size),
            Err(e) => {
                // No inode is left: the file goes on until there is one.
                std::fs::rename(&rotated, &self.path)
                    .ignored("a rename within the directory needs no inode");
                return Err(e);
            }
        }
        let dir = self.path.parent().unwrap_or(&self.path);
        let all = files(dir, self.attempt).unwrap_or_default();
        for old in &all[..all.len().saturating_sub(FILES_KEPT)] {
            std::fs::remove_file(old).ignored("the next rotation finds it again");
        }
        Ok(())
    }

    /// Without room for the note (a full /run) a monitor that is killed right now leaves
    /// the batch to be logged twice, which is less than not to log it.
    pub(crate) fn note(&mut self, batch: &Batch) {
        if let Some(intent) = self.intent() {
            intent
                .note(batch)
                .ignored("a batch may be logged twice, which is less than a loss");
        }
    }

    pub(crate) fn clear_note(&mut self) {
        if let Some(intent) = &self.intent {
            intent.clear().ignored("it needs no room: the note has it");
        }
    }

    /// What the last monitor was about to do.
    pub(crate) fn noted(&mut self) -> Option<Batch> {
        self.intent()?.read()
    }

    fn intent(&mut self) -> Option<&Intent> {
        if self.intent.is_none() {
            self.intent = Intent::open(&self.note).ok();
        }
        self.intent.as_ref()
    }

    /// Whether the batch is in the log; a part of it is removed.
    pub(crate) fn has_whole(&mut self, batch: &Batch) -> Result<bool> {
        if let Some(file) = &self.file
            && (batch.before..batch.after).contains(&self.size)
        {
            file.set_len(batch.before)
                .with_context(|| format!("ftruncate({})", self.path.display()))?;
            self.size = batch.before;
        }
        Ok(self.size == batch.after)
    }
}

/// The end of what an attempt has logged: at most `lines` lines and `bytes` bytes of
/// text, for messages.
pub(crate) fn tail(dir: &Path, attempt: u32, lines: usize, bytes: usize) -> String {
    let text = end_of(&path_of(dir, attempt), 4 * bytes as u64).unwrap_or_default();
    let mut message = String::new();
    let records: Vec<&str> = text.lines().collect();
    let last = &records[records.len().saturating_sub(lines)..];
    for record in last
        .iter()
        .filter_map(|line| Record::parse(line.as_bytes()))
    {
        message.push_str(&String::from_utf8_lossy(record.text));
        if !record.partial {
            message.push('\n');
        }
    }
    let cut = message.len().saturating_sub(bytes);
    let cut = (cut..=message.len())
        .find(|i| message.is_char_boundary(*i))
        .unwrap_or(0);
    message.split_off(cut)
}

/// The whole lines in a file's last bytes.
fn end_of(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut read = Vec::new();
    file.read_to_end(&mut read)?;
    let text = String::from_utf8_lossy(&read).into_owned();
    Ok(match from {
        0 => text,
        // The first line may have lost its beginning.
        _ => text.split_once('\n').unwrap_or_default().1.to_owned(),
    })
}

/// Whether the last record is the beginning of a line.
fn is_partial(records: &[u8]) -> bool {
    let last = records.strip_suffix(b"\n").unwrap_or(records);
    let last = last.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    Record::parse(last).is_some_and(|record| record.partial)
}

fn open_append(path: &Path) -> Result<(File, u64)> {
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .with_context(|| format!("open({}, O_APPEND)", path.display()))?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Removes the logs of attempts before `keep_from`.
pub(crate) fn remove_old(dir: &Path, keep_from: u32) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let attempt = name.split('.').next().and_then(|a| a.parse::<u32>().ok());
        if attempt.is_some_and(|a| a < keep_from) {
            std::fs::remove_file(entry.path()).ignored("the next attempt finds it again");
        }
    }
}
