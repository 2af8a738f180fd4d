//! The debug log of Pods' monitors beside the command's own: what makes a Pod is its
//! monitor, which writes to a file, and a command that waits for it shows the new lines.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::LevelFilter;

use crate::cli::face::Face;
use crate::debug_log;
use crate::spec::Pod;

/// Nothing tells of a new line.
const PERIOD: Duration = Duration::from_millis(200);

/// Empty while the command has no debug log.
pub(crate) struct MonitorLogs {
    followed: Vec<Followed>,
    /// The time of the first line, as lines have it.
    from: String,
}

struct Followed {
    path: PathBuf,
    /// Bytes that have been read.
    read: u64,
}

impl MonitorLogs {
    /// Of these Pods, each with its UID, from the beginning of the command.
    pub(crate) fn follow(face: &Face, pods: &[(Pod, String)]) -> Self {
        let pods = match log::max_level() >= LevelFilter::Debug {
            true => pods,
            false => &[],
        };
        let followed = pods.iter().map(|(_, uid)| Followed {
            path: face.layout.pod(uid).monitor_log(),
            read: 0,
        });
        MonitorLogs {
            followed: followed.collect(),
            from: format!("{:.6}", face.began),
        }
    }

    /// When there may be new lines.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.followed.is_empty()).then(|| Instant::now() + PERIOD)
    }

    pub(crate) fn show(&mut self) {
        for followed in &mut self.followed {
            let news = followed.news().unwrap_or_default();
            let lines = news.split_inclusive('\n');
            let new: String = lines.filter(|line| *line >= &*self.from).collect();
            if !new.is_empty() {
                debug_log::write_stderr(&new);
            }
        }
    }
}

impl Followed {
    /// The whole lines that have come. A file that is shorter than it was is another one.
    fn news(&mut self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.read {
            self.read = 0;
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        self.read += whole as u64;
        bytes.truncate(whole);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
