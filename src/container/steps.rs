//! A line of the debug log, from a child to its parent. Between its clone and its exec the
//! child has no file of the log: it sends each line on the socket that its errors go through
//! too ([`super::channel::send_steps`]). That one is close-on-exec, and none of the log's fds
//! is in the container at any time.

use jiff::Timestamp;
use log::Level;
use serde::{Deserialize, Serialize};

use crate::debug_log::{self, Line};

/// A line as it is sent; the parent knows the process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Step {
    microsecond: i64,
    level: usize,
    area: String,
    text: String,
}

impl Step {
    /// At most `most` characters of the text.
    pub(super) fn of(line: &Line, most: usize) -> Self {
        Step {
            microsecond: line.time.as_microsecond(),
            level: line.level as usize,
            area: line.area.to_owned(),
            text: line.text.chars().take(most).collect(),
        }
    }

    /// Writes what the process `pid` has said to the log of this one.
    pub(super) fn write(&self, pid: i32) {
        let level = Level::iter().find(|level| *level as usize == self.level);
        debug_log::write(Line {
            time: Timestamp::from_microsecond(self.microsecond).unwrap_or_default(),
            level: level.unwrap_or(Level::Trace),
            pid,
            area: &self.area,
            text: &self.text,
        });
    }
}
