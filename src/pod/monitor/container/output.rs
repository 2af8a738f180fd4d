//! A container's output: from its FIFOs to its log ([`crate::pod::logs`]) and to attached
//! clients.
//!
//! Nothing is lost when the monitor is killed. The container writes to FIFOs that
//! it has open for reading too, so that they never break; bytes are taken out of
//! a FIFO only after they are in the log (tee(2) looks at them first); a line's
//! beginning stays in the FIFO until its end comes or it grows too long; what was
//! in both when a monitor died is told by a note ([`crate::pod::logs::intent`]). Only if
//! the container ends as well before the next monitor comes, what waits in the
//! FIFO is lost: nobody has it open then, and the kernel keeps it in no inode.
//! What there is no room for in the log is dropped, or waits: [`crate::pod::logs::write`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, tee};
use nix::sys::stat::Mode;

use crate::linux::selinux;
use crate::pod::logs::intent;
use crate::pod::logs::write::LogFile;
use crate::pod::logs::{Record, Stream};
use crate::{Error, Result};

/// Bytes of one record's text, as in containerd: longer lines come in parts.
const LINE_LIMIT: usize = 16 * 1024;
/// A pipe's capacity, and so the most that one look sees.
const PIPE: usize = 64 * 1024;
/// What one look takes from a stream at most, bytes: who writes without end must
/// not keep the monitor from everything else.
const SHARE: usize = 128 * 1024;
/// What a client that does not read may fall behind, bytes, before it is let go.
const BACKLOG: usize = 1 << 20;

/// A client that is shown the output: the write end of a pipe that it reads.
#[derive(Debug)]
pub(crate) struct Sink {
    pub client: u64,
    pipe: OwnedFd,
    waiting: Vec<u8>,
}

impl Sink {
    /// `pipe` must be non-blocking.
    pub(crate) fn new(client: u64, pipe: OwnedFd) -> Self {
        Sink {
            client,
            pipe,
            waiting: Vec::new(),
        }
    }

    /// False when the client is gone or too far behind.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.waiting.extend_from_slice(bytes);
        while !self.waiting.is_empty() {
            match nix::unistd::write(&self.pipe, &self.waiting) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::EAGAIN) => return self.waiting.len() <= BACKLOG,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Where one stream comes from.
#[derive(Debug)]
enum Source {
    Fifo { fd: OwnedFd, shown: usize },
    Terminal { fd: OwnedFd, line: Vec<u8> },
}

/// One of a container's output streams.
#[derive(Debug)]
pub(crate) struct Output {
    stream: Stream,
    source: Source,
    sinks: Vec<Sink>,
}

/// What a look at a stream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// All that there was is in the log.
    Drained,
    /// There may be more: it is the others' turn.
    More,
    /// Nobody can write to it any more.
    Ended,
}

/// A pipe to look into FIFOs with. One serves all streams.
#[derive(Debug)]
pub(crate) struct Glass {
    read: OwnedFd,
    write: OwnedFd,
}

impl Glass {
    pub(crate) fn new() -> Result<Self> {
        nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map(|(read, write)| Glass { read, write })
            .map_err(|e| Error::sys("pipe2()", e))
    }
}

/// Makes the FIFO `path` and returns the fd that the container gets: open both
/// ways, so that writing to it never fails for want of a reader.
pub(crate) fn make_fifo(path: &Path, label: Option<&str>) -> Result<OwnedFd> {
    match nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(Error::sys(format!("mkfifo({})", path.display()), e)),
    }
    if let Some(label) = label {
        selinux::label(path, label)?;
    }
    nix::fcntl::open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::sys(format!("open({}, O_RDWR)", path.display()), e))
}

impl Output {
    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    pub(crate) fn from_fifo(stream: Stream, path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|e| Error::sys(format!("open({}, O_RDONLY)", path.display()), e))?;
        Ok(Output {
            stream,
            source: Source::Fifo { fd, shown: 0 },
            sinks: Vec::new(),
        })
    }

    /// `master` must be non-blocking.
    pub(crate) fn from_terminal(master: OwnedFd) -> Self {
        let source = Source::Terminal {
            fd: master,
            line: Vec::new(),
        };
        Output {
            stream: Stream::Stdout,
            source,
            sinks: Vec::new(),
        }
    }

    pub(crate) fn add_sink(&mut self, sink: Sink) {
        self.sinks.push(sink);
    }

    pub(crate) fn remove_sink(&mut self, client: u64) {
        self.sinks.retain(|s| s.client != client);
    }

    /// Ends what a monitor that died was doing with this stream: a batch is in the
    /// log or in the FIFO, and not in both.
    pub(crate) fn recover(&mut self, glass: &Glass, log: &mut LogFile) -> Result<()> {
        let Source::Fifo { fd, .. } = &self.source else {
            return Ok(());
        };
        let Some(batch) = log.noted().filter(|b| b.stream == self.stream) else {
            return Ok(());
        };
        if log.has_whole(&batch)?
            && let Some(mut bytes) = look(fd.as_fd(), glass)?
            && bytes.len() as u64 >= batch.taken
        {
            bytes.truncate(batch.taken as usize);
            if intent::hash(&bytes) == batch.hash {
                take(fd.as_fd(), &mut bytes)?;
            }
        }
        log.clear_note();
        Ok(())
    }

    /// Moves what there is into the log, [`SHARE`] at most. `last`: the container
    /// has ended, so a line without an end is logged as it is, and so is all that
    /// the FIFO can hold; a process elsewhere that has got hold of the FIFO may
    /// write on for ever.
    ///
    /// # Errors
    /// The log could not be written, and the container is to wait: what was not logged
    /// stays in the FIFO.
    pub(crate) fn pump(&mut self, glass: &Glass, log: &mut LogFile, last: bool) -> Result<Flow> {
        let (stream, sinks) = (self.stream, &mut self.sinks);
        let mut moved = 0;
        let share = match &self.source {
            Source::Fifo { fd, .. } if last => capacity(fd.as_fd()),
            _ => SHARE,
        };
        match &mut self.source {
            Source::Fifo { fd, shown } => loop {
                if moved >= share {
                    return Ok(Flow::More);
                }
                let mut bytes = match look(fd.as_fd(), glass)? {
                    None => return Ok(if last { Flow::Ended } else { Flow::Drained }),
                    Some(bytes) if bytes.is_empty() => return Ok(Flow::Ended),
                    Some(bytes) => bytes,
                };
                show(sinks, &bytes[(*shown).min(bytes.len())..]);
                let (records, taken) = format_records(stream, &bytes, last);
                *shown = bytes.len() - taken;
                if taken == 0 {
                    return Ok(Flow::Drained);
                }
                bytes.truncate(taken);
                moved += taken;
                log.write(records, &bytes, Some(stream))?;
                take(fd.as_fd(), &mut bytes)?;
                log.clear_note();
            },
            Source::Terminal { fd, line } => {
                let mut flow = None;
                loop {
                    let end = flow.is_some() && (last || flow == Some(Flow::Ended));
                    let (records, taken) = format_records(stream, line, end);
                    // Before more is read: a line that has to wait does not grow.
                    log.write(records, &line[..taken], None)?;
                    line.drain(..taken);
                    if let Some(flow) = flow {
                        return Ok(flow);
                    }
                    if moved >= share {
                        return Ok(Flow::More);
                    }
                    let mut buffer = [0; 4096];
                    match nix::unistd::read(&*fd, &mut buffer) {
                        Ok(0) | Err(Errno::EIO) => flow = Some(Flow::Ended),
                        Err(Errno::EAGAIN) => flow = Some(Flow::Drained),
                        Err(Errno::EINTR) => {}
                        Err(e) => return Err(Error::sys("read(<terminal>)", e)),
                        Ok(n) => {
                            moved += n;
                            show(sinks, &buffer[..n]);
                            line.extend_from_slice(&buffer[..n]);
                        }
                    }
                }
            }
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Fifo { fd, .. } | Source::Terminal { fd, .. } => fd.as_fd(),
        }
    }
}

fn show(sinks: &mut Vec<Sink>, bytes: &[u8]) {
    sinks.retain_mut(|s| s.push(bytes));
}

/// What is in the FIFO, left there; `None` if there is nothing yet, empty if
/// there never will be.
fn look(fifo: BorrowedFd, glass: &Glass) -> Result<Option<Vec<u8>>> {
    let n = loop {
        match tee(fifo, &glass.write, PIPE, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(n) => break n,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("tee(<fifo>)", e)),
        }
    };
    let mut bytes = vec![0; n];
    take(glass.read.as_fd(), &mut bytes)?;
    Ok(Some(bytes))
}

/// How much a pipe can hold, bytes.
fn capacity(pipe: BorrowedFd) -> usize {
    nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_GETPIPE_SZ)
        .ok()
        .and_then(|n| usize::try_from(n).ok())
        .map_or(SHARE, |n| n.max(PIPE))
}

/// Reads exactly that many bytes, which are known to be there, unless the
/// container has read its own output meanwhile: then they are its loss.
fn take(pipe: BorrowedFd, bytes: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match nix::unistd::read(pipe, &mut bytes[done..]) {
            Ok(0) => return Err(Error::failed("read(<pipe>): fewer bytes than there were")),
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(e) => return Err(Error::sys("read(<pipe>)", e)),
        }
    }
    Ok(())
}

/// The records of as many bytes as can be logged now, and how many those are:
/// whole lines, parts of lines that are too long, and the rest if it is the last.
fn format_records(stream: Stream, bytes: &[u8], last: bool) -> (Vec<u8>, usize) {
    let mut records = Vec::with_capacity(bytes.len() + bytes.len() / 4 + 64);
    let mut taken = 0;
    let mut time = String::new();
    while taken < bytes.len() {
        let rest = &bytes[taken..];
        let window = &rest[..rest.len().min(LINE_LIMIT + 1)];
        let (text, partial, used) = match window.iter().position(|b| *b == b'\n') {
            Some(end) => (&rest[..end], false, end + 1),
            None if rest.len() > LINE_LIMIT => (&rest[..LINE_LIMIT], true, LINE_LIMIT),
            None if last => (rest, true, rest.len()),
            None => break,
        };
        if time.is_empty() {
            time = format!("{:.9}", Timestamp::now());
        }
        let record = Record {
            time: &time,
            stream,
            partial,
            text,
        };
        record.append_to(&mut records);
        taken += used;
    }
    (records, taken)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::pod::logs::intent::Batch;
    use crate::pod::logs::write::tail;
    use crate::spec::WhenLogFull;

    fn texts(records: &[u8]) -> Vec<String> {
        String::from_utf8_lossy(records)
            .lines()
            .map(|l| l.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn whole_lines_leave_the_fifo_and_the_rest_waits() {
        let (records, taken) = format_records(Stream::Stdout, b"one\ntwo\nthr", false);
        assert_eq!(texts(&records), ["stdout F one", "stdout F two"]);
        assert_eq!(taken, 8);
        let (records, taken) = format_records(Stream::Stderr, b"thr", true);
        assert_eq!(texts(&records), ["stderr P thr"]);
        assert_eq!(taken, 3);
    }

    #[test]
    fn long_lines_come_in_parts() {
        let mut line = vec![b'x'; LINE_LIMIT + 10];
        let (_, taken) = format_records(Stream::Stdout, &line, false);
        assert_eq!(taken, LINE_LIMIT);
        line.push(b'\n');
        let (records, taken) = format_records(Stream::Stdout, &line, false);
        assert_eq!(taken, line.len());
        let tags: Vec<_> = texts(&records).iter().map(|t| t[7..8].to_owned()).collect();
        assert_eq!(tags, ["P", "F"]);
    }

    #[test]
    fn a_new_reader_finds_what_the_old_one_left() {
        let dir = std::env::temp_dir().join(format!("carob-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fifo = dir.join("stdout");
        let container = make_fifo(&fifo, None).unwrap();
        let glass = Glass::new().unwrap();
        let mut log = LogFile::open(&dir, 0, &dir.join("note"), WhenLogFull::Drop).unwrap();
        let mut first = Output::from_fifo(Stream::Stdout, &fifo).unwrap();
        nix::unistd::write(&container, b"a\nb").unwrap();
        assert_eq!(first.pump(&glass, &mut log, false).unwrap(), Flow::Drained);
        drop(first);
        nix::unistd::write(&container, b"c\n").unwrap();
        let mut second = Output::from_fifo(Stream::Stdout, &fifo).unwrap();
        second.pump(&glass, &mut log, false).unwrap();
        drop(container);
        assert_eq!(second.pump(&glass, &mut log, true).unwrap(), Flow::Ended);
        let text = std::fs::read(dir.join("0.log")).unwrap();
        assert_eq!(texts(&text), ["stdout F a", "stdout F bc"]);
        assert_eq!(tail(&dir, 0, 1, 100), "bc\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// Every moment at which a monitor can die with a batch of "a" on its way.
    #[test]
    fn a_batch_is_logged_once_whenever_the_monitor_dies() {
        let record = b"2026-01-01T00:00:00.000000000Z stdout F a\n";
        let base = std::env::temp_dir().join(format!("carob-intent-{}", std::process::id()));
        let glass = Glass::new().unwrap();
        for (written, read, cleared) in [
            (0, false, false),
            (10, false, false),
            (record.len(), false, false),
            (record.len(), true, false),
            (record.len(), true, true),
        ] {
            let dir = base.join(format!("{written}-{read}-{cleared}"));
            std::fs::create_dir_all(&dir).unwrap();
            let fifo = dir.join("stdout");
            let container = make_fifo(&fifo, None).unwrap();
            let open = || LogFile::open(&dir, 0, &dir.join("note"), WhenLogFull::Drop).unwrap();
            let mut log = open();
            nix::unistd::write(&container, b"a\n").unwrap();
            let batch = Batch {
                stream: Stream::Stdout,
                before: 0,
                after: record.len() as u64,
                taken: 2,
                hash: intent::hash(b"a\n"),
            };
            log.note(&batch);
            std::fs::OpenOptions::new()
                .append(true)
                .open(dir.join("0.log"))
                .and_then(|mut file| file.write_all(&record[..written]))
                .unwrap();
            if read {
                take(container.as_fd(), &mut [0; 2]).unwrap();
            }
            if cleared {
                log.clear_note();
            }
            let mut log = open();
            let mut next = Output::from_fifo(Stream::Stdout, &fifo).unwrap();
            nix::unistd::write(&container, b"b\n").unwrap();
            next.recover(&glass, &mut log).unwrap();
            next.pump(&glass, &mut log, false).unwrap();
            let text = std::fs::read(dir.join("0.log")).unwrap();
            assert_eq!(texts(&text), ["stdout F a", "stdout F b"], "{dir:?}");
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}
