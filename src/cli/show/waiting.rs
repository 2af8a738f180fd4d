//! What the start of Pods waits for, on stderr: a line that changes on a terminal, a line
//! for each thing elsewhere. What is over within a moment is not worth a line.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::Ignored;
use crate::cli::show::output::Format;
use crate::cli::show::size::bytes;
use crate::plain::strip_styles;
use crate::pod::protocol::Wait;
use crate::sys::tty::window_size;

/// What has lasted so long is shown.
const MOMENT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Quiet,
    Lines,
    Terminal,
}

struct Entry {
    pod: String,
    wait: Wait,
    since: Instant,
    shown: bool,
}

pub(crate) struct Waiting {
    manner: Manner,
    entries: Vec<Entry>,
    /// There is a line to be taken away.
    drawn: bool,
}

impl Waiting {
    /// Formats for programs have no lines for this.
    pub(crate) fn new(quiet: bool, format: &Format) -> Self {
        let manner = match format {
            Format::Table { .. } if quiet => Manner::Quiet,
            // A line that changes would be torn apart by those of the debug log.
            Format::Table { .. } if log::max_level() >= log::LevelFilter::Debug => Manner::Lines,
            Format::Table { .. } if std::io::stderr().is_terminal() => Manner::Terminal,
            Format::Table { .. } => Manner::Lines,
            _ => Manner::Quiet,
        };
        Waiting {
            manner,
            entries: Vec::new(),
            drawn: false,
        }
    }

    /// The Pod waits for these, and for nothing else.
    pub(crate) fn set(&mut self, pod: &str, waits: Vec<Wait>) {
        let was = |e: &Entry| e.pod == pod && waits.iter().any(|w| is_same(w, &e.wait));
        self.entries.retain(|e| e.pod != pod || was(e));
        for wait in waits {
            let known = |e: &&mut Entry| e.pod == pod && is_same(&e.wait, &wait);
            match self.entries.iter_mut().find(known) {
                Some(e) => e.wait = wait,
                None => self.entries.push(Entry {
                    pod: pod.to_owned(),
                    wait,
                    since: Instant::now(),
                    shown: false,
                }),
            }
        }
        self.show();
    }

    /// When there is something to show that is not shown yet.
    pub(crate) fn due(&self) -> Option<Instant> {
        let hidden = self.entries.iter().filter(|e| !e.shown);
        match self.manner {
            Manner::Quiet => None,
            _ => hidden.map(|e| e.since + MOMENT).min(),
        }
    }

    pub(crate) fn show(&mut self) {
        let now = Instant::now();
        let mut out = String::new();
        for e in &mut self.entries {
            if !e.shown && e.since + MOMENT <= now {
                e.shown = true;
                if self.manner == Manner::Lines {
                    out.push_str(&strip_styles(&format!("pod/{}: {}\n", e.pod, e.wait)));
                }
            }
        }
        if self.manner == Manner::Terminal {
            let shown = self.entries.iter().filter(|e| e.shown);
            let parts: Vec<String> = shown
                .map(|e| format!("pod/{}: {}{}", e.pod, e.wait, numbers(&e.wait)))
                .collect();
            // A line that wraps could not be taken back.
            let columns = match window_size(std::io::stderr()) {
                Ok((c, _)) if c > 1 => c,
                _ => 80,
            };
            let line: String = strip_styles(&parts.join("; "))
                .chars()
                .take(usize::from(columns) - 1)
                .collect();
            if self.drawn || !line.is_empty() {
                out = format!("\r\x1b[K{line}");
            }
            self.drawn = !line.is_empty();
        }
        std::io::stderr()
            .lock()
            .write_all(out.as_bytes())
            .ignored("nobody reads standard error any more");
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        self.entries.clear();
        self.show();
    }
}

/// But for how far it is.
fn is_same(a: &Wait, b: &Wait) -> bool {
    a.to_string() == b.to_string()
}

fn numbers(wait: &Wait) -> String {
    match wait {
        Wait::Pull { done, size, .. } if *size > 0 => {
            format!(" ({} of {})", bytes(*done), bytes(*size))
        }
        _ => String::new(),
    }
}
