//! `carob logs`: prints what containers have written, and goes on with `-f`.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cli::face::{Face, say, warn_of_unattended};
use crate::cli::pods::exec::container_of;
use crate::cli::terminal::raw::{Signals, Wake};
use crate::cli::{Verb, show::age};
use crate::manifest;
use crate::pod::client::{self, Connection, View};
use crate::pod::logs::attempt::find_attempt;
use crate::pod::logs::read::Reader;
use crate::pod::logs::{self, Record, attempts};
use crate::pod::protocol::{Reply, Request};
use crate::pod::state::{Now, State};
use crate::pod::trouble;
use crate::pod::watch::{next_reply, poll_until};
use crate::{Context, Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// The Pod: NAME or pod/NAME
    #[arg(
        value_name = "POD",
        required_unless_present = "selector",
        conflicts_with = "selector"
    )]
    pod: Option<String>,
    /// The container, as with -c
    #[arg(value_name = "CONTAINER", conflicts_with = "container")]
    second: Option<String>,
    /// Of every Pod with these labels, of each the last 10 lines
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    #[arg(
        short,
        long,
        value_name = "NAME",
        help = "The container; the first one if not given"
    )]
    container: Option<String>,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// What the container wrote before its last restart
    #[arg(short, long)]
    previous: bool,
    /// So many of the last lines; -1 is all, which is the default without -l
    #[arg(long, value_name = "LINES", allow_hyphen_values = true)]
    tail: Option<i64>,
    /// Lines newer than this, as 5s, 2m or 3h
    #[arg(long, value_name = "DURATION", conflicts_with = "since_time")]
    since: Option<String>,
    /// Lines newer than this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since_time: Option<String>,
    /// Each line's time before it
    #[arg(long)]
    timestamps: bool,
    /// Of every container
    #[arg(long)]
    all_containers: bool,
    /// Each line's Pod and container before it
    #[arg(long)]
    prefix: bool,
    /// So many bytes and no more
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Follow no more logs than this at once
    #[arg(long, value_name = "LOGS", default_value_t = 5)]
    max_log_requests: usize,
}

/// Lines of each log that are printed for a selector.
const SELECTED_TAIL: i64 = 10;

impl Verb for Logs {
    const NAME: &'static str = "logs";
    const ABOUT: &'static str = "Print what a container has written";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob logs -f web\n\
        \x20 carob logs web -c app -p --tail=20\n\
        \x20 carob logs -l app=web --all-containers --prefix -f";

    fn run(self, face: &Face) -> Result<u8> {
        if self.follow && self.previous {
            return Err(Error::usage(
                "--follow cannot go with --previous: that container has ended",
            ));
        }
        if self.all_containers && (self.container.is_some() || self.second.is_some()) {
            return Err(Error::usage(
                "--all-containers cannot go with a container's name",
            ));
        }
        let tail = match (self.tail, &self.selector) {
            (Some(-1), _) | (None, None) => None,
            (n, _) => Some(
                u64::try_from(n.unwrap_or(SELECTED_TAIL))
                    .map_err(|_| Error::usage("--tail must be a number of lines, or -1 for all"))?,
            ),
        };
        let since = match (&self.since, &self.since_time) {
            (Some(d), _) => Timestamp::now().checked_sub(age::parse(d)?).ok(),
            (None, Some(t)) => Some(t.parse().map_err(|_| {
                Error::usage(format!("{t:?} is not a time"))
                    .hint("write it as in 2026-01-02T03:04:05Z")
            })?),
            (None, None) => None,
        };
        let (views, mut errors) = (self.views(face)?, vec![]);
        let mut streams = vec![];
        for numbered in views.iter().enumerate() {
            match self.streams(face, numbered, tail) {
                Ok(found) => streams.extend(found),
                // Of several Pods, those that have a log are shown whatever the others do.
                Err(e) => errors.push(e),
            }
        }
        if self.follow && streams.len() > 1 && streams.len() > self.max_log_requests {
            let text = format!(
                "there are {} logs to follow, and --max-log-requests allows {}",
                streams.len(),
                self.max_log_requests
            );
            return Err(Error::usage(text).hint("give a higher --max-log-requests"));
        }
        let mut printer = Printer {
            timestamps: self.timestamps,
            since,
            left: self.limit_bytes,
            split: false,
        };
        if self.follow {
            follow(face, &views, streams, &mut printer, None)?;
        } else if tail != Some(0) {
            // With none of the last lines, one that is written just now is too many.
            for s in &mut streams {
                s.print(&mut printer)?;
            }
        }
        face.first_of(errors).map(|()| 0)
    }
}

impl Logs {
    /// The Pods that are meant.
    fn views(&self, face: &Face) -> Result<Vec<View>> {
        let Some(selector) = &self.selector else {
            let pod = self.pod.as_deref().unwrap_or_default();
            return Ok(vec![face.find(pod)?]);
        };
        let selector = manifest::parse_selector(selector)?;
        let mut views = client::list(&face.layout, Some(&face.namespace))?;
        views.retain(|v| selector.matches(&v.pod.labels));
        warn_of_unattended(&views);
        if views.is_empty() {
            let namespace = &face.namespace;
            say(&format!("No resources found in {namespace} namespace."));
        }
        Ok(views)
    }

    /// The logs of one Pod, the one of this number.
    fn streams(
        &self,
        face: &Face,
        (pod, view): (usize, &View),
        tail: Option<u64>,
    ) -> Result<Vec<Stream>> {
        let containers = match self.all_containers {
            true => view
                .pod
                .spec
                .every_container()
                .map(|c| c.name.clone())
                .collect(),
            false => {
                let given = self.container.as_deref().or(self.second.as_deref());
                vec![container_of(view, given, false)?]
            }
        };
        let mut streams = vec![];
        for name in containers {
            match log_of(face, view, &name, self.previous) {
                Ok((dir, attempt)) => streams.push(Stream {
                    prefix: match self.prefix {
                        true => format!("[pod/{}/{name}] ", view.pod.name),
                        false => String::new(),
                    },
                    pod,
                    ..Stream::new(Reader::open(&dir, attempt, tail)?, dir, name)
                }),
                // Of all, those that have not run yet have nothing to say.
                Err(e) if self.all_containers && e.kind() == Kind::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Ok(streams)
    }
}

fn log_of(face: &Face, view: &View, container: &str, previous: bool) -> Result<(PathBuf, u32)> {
    find_attempt(&face.layout, view, container, previous).map_err(|e| match e.kind() {
        Kind::Conflict => match trouble::in_the_way(view, container) {
            Some(hint) => e.hint(hint),
            None => e.hint(format!("carob describe pod {}", view.pod.as_arguments())),
        },
        _ => e,
    })
}

/// One container's log on its way out.
struct Stream {
    reader: Reader,
    /// The number of its Pod among those that are shown.
    pod: usize,
    dir: PathBuf,
    container: String,
    prefix: String,
    /// The last record left its line open.
    open_line: bool,
    /// Older lines are left out until the first one that is not.
    reached: bool,
    /// The container has ended: what is there now is all.
    over: bool,
}

impl Stream {
    fn new(reader: Reader, dir: PathBuf, container: String) -> Self {
        Stream {
            reader,
            pod: 0,
            dir,
            container,
            prefix: String::new(),
            open_line: false,
            reached: false,
            over: false,
        }
    }

    /// All that is there now; false when the limit has been reached.
    fn print(&mut self, printer: &mut Printer) -> Result<bool> {
        let stdout = std::io::stdout();
        let mut out = std::io::BufWriter::with_capacity(32 * 1024, stdout.lock());
        let mut going = true;
        while going {
            let Some(line) = self.reader.next_line()? else {
                break;
            };
            let Some(record) = Record::parse(line) else {
                continue;
            };
            if !self.reached {
                let old = printer
                    .since
                    .is_some_and(|s| record.timestamp().is_some_and(|t| t < s));
                if old {
                    continue;
                }
                self.reached = true;
            }
            let mut head = String::new();
            if !self.open_line {
                head.push_str(&self.prefix);
                if printer.timestamps {
                    head.push_str(record.time);
                    head.push(' ');
                }
            }
            let end: &[u8] = if record.partial { b"" } else { b"\n" };
            let to_stderr = printer.split && record.stream == logs::Stream::Stderr;
            for part in [head.as_bytes(), record.text, end] {
                let part = printer.allowed(part);
                if to_stderr {
                    std::io::stderr().write_all(part).context("write(stderr)")?;
                } else {
                    out.write_all(part).context("write(stdout)")?;
                }
            }
            self.open_line = record.partial;
            going = printer.left != Some(0);
        }
        out.flush().context("write(stdout)")?;
        Ok(going)
    }
}

struct Printer {
    timestamps: bool,
    since: Option<Timestamp>,
    /// Bytes that may still be printed.
    left: Option<u64>,
    /// stderr's lines to stderr.
    split: bool,
}

impl Printer {
    fn allowed<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(left) = &mut self.left else {
            return bytes;
        };
        let n = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        *left -= n as u64;
        &bytes[..n]
    }
}

/// Everything that a container writes to its end, stderr to stderr: how `run
/// --attach` loses nothing of a container that was quicker than we.
pub(crate) fn follow_container(
    face: &Face,
    view: &View,
    container: &str,
    signals: &Signals,
) -> Result<Followed> {
    let (dir, attempt) = log_of(face, view, container, false)?;
    // The first attempt: it may have been restarted since.
    let attempt = attempts(&dir)?.first().copied().unwrap_or(attempt);
    let reader = Reader::open(&dir, attempt, None)?;
    let stream = Stream::new(reader, dir, container.to_owned());
    let mut printer = Printer {
        timestamps: false,
        since: None,
        left: None,
        split: true,
    };
    follow(
        face,
        std::slice::from_ref(view),
        vec![stream],
        &mut printer,
        Some(signals),
    )
}

/// How following ended.
pub(crate) enum Followed {
    /// With the last state that was seen.
    ToTheEnd(Option<Box<State>>),
    /// By this signal.
    Interrupted(i32),
}

/// To the monitor of a Pod, which tells of each change. None of a Pod that is gone or will
/// not write any more.
fn watch(face: &Face, view: &View) -> Option<Connection> {
    let connection = Connection::open(&face.layout, &view.pod.uid).ok()?;
    connection.send(&Request::Watch, &[]).ok()?;
    Some(connection)
}

fn watch_logs(streams: &[Stream]) -> Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .map_err(|e| Error::sys("inotify_init1(IN_CLOEXEC)", e))?;
    let events = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM;
    for s in streams {
        inotify
            .add_watch(&s.dir, events)
            .map_err(|e| Error::sys(format!("inotify_add_watch({})", s.dir.display()), e))?;
    }
    Ok(inotify)
}

/// Until each container's attempt is over and its log is read. The monitor
/// writes a log to its end before it says that the container has ended. The state that is
/// returned is the first Pod's.
fn follow(
    face: &Face,
    views: &[View],
    mut streams: Vec<Stream>,
    printer: &mut Printer,
    signals: Option<&Signals>,
) -> Result<Followed> {
    let inotify = watch_logs(&streams)?;
    let mut last = views.first().and_then(|v| v.state.clone());
    let connect = |(i, view): (usize, &View)| {
        let is_shown = streams.iter().any(|s| s.pod == i);
        is_shown.then(|| watch(face, view)).flatten()
    };
    let mut connections: Vec<Option<Connection>> = views.iter().enumerate().map(connect).collect();
    loop {
        for s in &mut streams {
            s.over |= connections[s.pod].is_none();
            if !s.print(printer)? {
                return Ok(Followed::ToTheEnd(last.map(Box::new)));
            }
        }
        streams.retain(|s| !s.over);
        if streams.is_empty() {
            return Ok(Followed::ToTheEnd(last.map(Box::new)));
        }
        for (i, connection) in connections.iter_mut().enumerate() {
            connection.take_if(|_| !streams.iter().any(|s| s.pod == i));
        }
        let (written, told) = {
            let mut fds = vec![PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
            let open = connections.iter().enumerate();
            let open = open.filter_map(|(i, c)| c.as_ref().map(|c| (i, c)));
            let (pods, open): (Vec<usize>, Vec<&Connection>) = open.unzip();
            let poll = |fd| PollFd::new(fd, PollFlags::POLLIN);
            fds.extend(open.iter().map(|c| poll(c.as_fd())));
            fds.extend(signals.map(|s| poll(s.as_fd())));
            poll_until(&mut fds, None)?;
            let told = pods.into_iter().zip(&fds[1..]);
            let told = told.filter(|(_, fd)| fd.any().unwrap_or(true));
            let told: Vec<usize> = told.map(|(i, _)| i).collect();
            (fds[0].any().unwrap_or(true), told)
        };
        if let Some(Wake::End(n)) = signals.and_then(Signals::take) {
            return Ok(Followed::Interrupted(n));
        }
        if written {
            while inotify.read_events().is_ok_and(|e| !e.is_empty()) {}
        }
        for i in told {
            let Some(c) = &connections[i] else { continue };
            match next_reply(c, None) {
                Ok(Some((Reply::State(state), _))) => {
                    for s in streams.iter_mut().filter(|s| s.pod == i) {
                        s.over = is_over(&state, &s.container, s.reader.attempt());
                    }
                    if i == 0 {
                        last = Some(*state);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => connections[i] = None,
            }
        }
    }
}

fn is_over(state: &State, container: &str, attempt: u32) -> bool {
    let Some(c) = state.containers.get(container) else {
        return false;
    };
    c.attempt > attempt
        || match &c.now {
            Now::Ended(_) => true,
            Now::Waiting { .. } => c.last.is_some(),
            Now::Running(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_to_the_byte() {
        let mut p = Printer {
            timestamps: false,
            since: None,
            left: Some(5),
            split: false,
        };
        assert_eq!(p.allowed(b"abc"), b"abc");
        assert_eq!(p.allowed(b"defg"), b"de");
        assert_eq!(p.allowed(b"x"), b"");
        assert_eq!(p.left, Some(0));
    }
}
