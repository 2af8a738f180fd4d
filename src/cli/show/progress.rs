//! What a pull, load or push is doing, on stderr: a bar for each layer at work on a
//! terminal, a line for each step elsewhere, a JSON object a line with `-o json`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Ignored;
use crate::cli::show::output::Format;
use crate::cli::show::size::bytes;
use crate::image::Progress;
use crate::plain::escape_json;

/// Between two pictures on a terminal, and two JSON lines of one layer.
const PERIOD: Duration = Duration::from_millis(100);
const BAR: u64 = 30;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Quiet,
    Lines,
    Bars,
    Json,
}

pub(crate) struct Shown {
    manner: Manner,
    /// Layers at work: name, bytes done, bytes in all.
    active: Vec<(String, u64, u64)>,
    /// Lines of bars below the last whole line.
    drawn: usize,
    last: Option<Instant>,
}

impl Shown {
    /// Formats for programs other than JSON have no lines for this.
    pub(crate) fn new(quiet: bool, format: &Format) -> Self {
        let manner = match format {
            _ if quiet => Manner::Quiet,
            Format::Json => Manner::Json,
            Format::Yaml | Format::Name | Format::JsonPath(_) => Manner::Quiet,
            Format::Table { .. } if std::io::stderr().is_terminal() => Manner::Bars,
            Format::Table { .. } => Manner::Lines,
        };
        Shown {
            manner,
            active: Vec::new(),
            drawn: 0,
            last: None,
        }
    }

    pub(crate) fn show(&mut self, p: &Progress) {
        let text = match self.manner {
            Manner::Quiet => return,
            Manner::Json => match self.is_due(p) {
                true => format!("{}\n", escape_json(&object(p).to_string())),
                false => return,
            },
            Manner::Lines => line(p).map_or(String::new(), |l| l + "\n"),
            Manner::Bars => self.picture(p),
        };
        std::io::stderr()
            .lock()
            .write_all(text.as_bytes())
            .ignored("nobody reads standard error any more");
    }

    /// Takes the bars away.
    pub(crate) fn end(&mut self) {
        self.active.clear();
        let clear = self.clear();
        std::io::stderr()
            .lock()
            .write_all(clear.as_bytes())
            .ignored("nobody reads standard error any more");
    }

    fn is_due(&mut self, p: &Progress) -> bool {
        let due = self.last.is_none_or(|t| t.elapsed() >= PERIOD);
        match p {
            Progress::Layer { done, size, .. } if !due && done < size => false,
            _ => {
                self.last = Some(Instant::now());
                true
            }
        }
    }

    fn picture(&mut self, p: &Progress) -> String {
        match p {
            Progress::Layer { layer, done, size } => {
                let known = self.active.iter_mut().find(|(l, ..)| l == layer);
                match known {
                    Some((_, d, s)) => (*d, *s) = (*done, *size),
                    None => self.active.push((layer.clone(), *done, *size)),
                }
                if !self.is_due(p) {
                    return String::new();
                }
            }
            Progress::Exists { layer }
            | Progress::Unpacked { layer }
            | Progress::Pushed { layer } => self.active.retain(|(l, ..)| l != layer),
            Progress::Resolving { .. } | Progress::Resolved { .. } => {}
        }
        let mut text = self.clear();
        if let Some(line) = line(p) {
            text.push_str(&line);
            text.push('\n');
        }
        for (layer, done, size) in &self.active {
            text.push_str(&bar(layer, *done, *size));
            text.push('\n');
        }
        self.drawn = self.active.len();
        text
    }

    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            n => format!("\x1b[{n}A\r\x1b[J"),
        }
    }
}

fn short(digest: &str) -> String {
    let hex = digest.rsplit(':').next().unwrap_or(digest);
    hex.chars().take(12).collect()
}

/// At most 70 columns: a bar that wraps could not be taken back.
fn bar(layer: &str, done: u64, size: u64) -> String {
    if size == 0 {
        // A docker-archive does not say how much is to come.
        return format!("{} {}", short(layer), bytes(done));
    }
    let full = u128::from(done.min(size)) * u128::from(BAR) / u128::from(size);
    format!(
        "{} [{}{}] {} of {}",
        short(layer),
        "=".repeat(full as usize),
        " ".repeat(BAR as usize - full as usize),
        bytes(done),
        bytes(size)
    )
}

fn line(p: &Progress) -> Option<String> {
    Some(match p {
        Progress::Resolving { name } => format!("pulling {name}"),
        Progress::Resolved { layers, size, .. } => {
            format!("{layers} layers, {} compressed", bytes(*size))
        }
        Progress::Exists { layer } => format!("{}: is here already", short(layer)),
        Progress::Unpacked { layer } => format!("{}: done", short(layer)),
        Progress::Pushed { layer } => format!("{}: pushed", short(layer)),
        Progress::Layer { .. } => return None,
    })
}

fn object(p: &Progress) -> Value {
    match p {
        Progress::Resolving { name } => json!({"event": "resolving", "name": name}),
        Progress::Resolved {
            digest,
            layers,
            size,
        } => json!({"event": "resolved", "digest": digest, "layers": layers, "size": size}),
        Progress::Exists { layer } => json!({"event": "exists", "layer": layer}),
        Progress::Layer { layer, done, size } => {
            json!({"event": "layer", "layer": layer, "done": done, "size": size})
        }
        Progress::Unpacked { layer } => json!({"event": "unpacked", "layer": layer}),
        Progress::Pushed { layer } => json!({"event": "pushed", "layer": layer}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, done: u64) -> Progress {
        Progress::Layer {
            layer: name.into(),
            done,
            size: 100,
        }
    }

    #[test]
    fn bars_come_and_go() {
        let mut shown = Shown::new(true, &Format::Json);
        let first = shown.picture(&layer("sha256:aa", 50));
        assert_eq!(first, "aa [===============               ] 50B of 100B\n");
        shown.last = None;
        let two = shown.picture(&layer("sha256:bb", 100));
        assert!(two.starts_with("\x1b[1A\r\x1b[Jaa [") && two.matches('\n').count() == 2);
        let done = Progress::Unpacked {
            layer: "sha256:bb".into(),
        };
        let text = shown.picture(&done);
        assert!(
            text.starts_with("\x1b[2A\r\x1b[Jbb: done\naa ["),
            "{text:?}"
        );
        assert_eq!(shown.clear(), "\x1b[1A\r\x1b[J");
        assert_eq!(shown.clear(), "");
        assert_eq!(bar("sha256:0123456789abcdef", 7, 0), "0123456789ab 7B");
    }

    #[test]
    fn json_is_not_told_too_often() {
        let mut shown = Shown::new(false, &Format::Json);
        assert!(shown.is_due(&layer("a", 1)) && !shown.is_due(&layer("a", 2)));
        assert!(shown.is_due(&layer("a", 100)));
        assert_eq!(object(&layer("a", 1))["event"], "layer");
    }
}
