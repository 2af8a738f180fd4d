//! What callers read when something went wrong: a line on stderr, and a line of
//! the log, whose form containerd and conmon know (`--log`, `--log-format`). With
//! `--debug` the debug log ([`crate::debug_log`]) goes the same way.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use log::{Level, LevelFilter};
use serde_json::json;

use super::args::{Args, usage};
use crate::debug_log::{self, Line};
use crate::plain::{escape_json, strip_styles};
use crate::{Context, Error, Ignored, Result};

#[derive(Clone, Debug)]
pub(super) struct Log {
    pub path: Option<PathBuf>,
    form: Form,
    level: LevelFilter,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            path: None,
            form: Form::Text,
            level: LevelFilter::Info,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Log {
    /// Of the global flags, and of the environment where those say nothing of the level.
    /// What is known of the log before an error is set all the same: the error goes there.
    pub(super) fn set(&mut self, global: &Args) -> Result<()> {
        self.path = global.path("log");
        self.form = match global.get("log-format") {
            None | Some("text" | "") => Form::Text,
            Some("json") => Form::Json,
            Some(other) => return Err(usage(format!("--log-format: {other:?}: text or json"))),
        };
        let given = global.get("log-level").filter(|level| !level.is_empty());
        let level = match given {
            Some(level) => Some(debug_log::parse_level(level).context("--log-level")?),
            None if global.is("debug") => None,
            None => debug_log::level_of_environment()?,
        };
        let least = match global.is("debug") {
            true => LevelFilter::Debug,
            false => LevelFilter::Off,
        };
        self.level = level.unwrap_or(self.level).max(least);
        Ok(())
    }

    /// The debug log begins, if it was asked for.
    ///
    /// # Errors
    /// The log cannot be written to, which is found out before anything is done.
    pub(super) fn start(&self) -> Result<()> {
        let file =
            match &self.path {
                Some(path) => Some(open(path).map_err(|e| {
                    Error::from(e).push_context(format!("--log {}", path.display()))
                })?),
                None => None,
            };
        if self.level >= LevelFilter::Debug {
            let form = self.form;
            // Kept open: a step may change the working directory.
            let output = move |line: &Line| write(&file, &form.step(line));
            debug_log::start(self.level, Box::new(output));
        }
        Ok(())
    }

    /// To the log if there is one, else to stderr.
    pub(super) fn warn(&self, text: &str) {
        if self.level < LevelFilter::Warn {
            return;
        }
        let line = self.form.line("warning", text);
        match &self.path {
            Some(path) => append(path, &line),
            None => debug_log::write_stderr(&line),
        }
    }

    pub(super) fn warn_all(&self, texts: &[String]) {
        for text in texts {
            self.warn(text);
        }
    }

    /// The last thing that is said.
    pub(super) fn error(&self, e: &Error) {
        let mut text = e.to_string();
        if let Some(hint) = e.get_hint() {
            text.push_str(&format!(" ({hint})"));
        }
        if let Some(path) = &self.path {
            append(path, &self.form.line("error", &text));
        }
        writeln!(std::io::stderr(), "carob-oci: {}", strip_styles(&text))
            .ignored("nobody reads standard error any more");
    }
}

impl Form {
    fn line(self, level: &str, text: &str) -> String {
        self.write(level, text, &Timestamp::now().to_string(), None)
    }

    /// A line of the debug log; with the process and the module that say it.
    fn step(self, line: &Line) -> String {
        let level = match line.level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let time = format!("{:.6}", line.time);
        self.write(level, line.text, &time, Some((line.area, line.pid)))
    }

    fn write(self, level: &str, text: &str, time: &str, by: Option<(&str, i32)>) -> String {
        match self {
            Form::Json => {
                let mut object = json!({"level": level, "msg": text, "time": time});
                if let Some((area, pid)) = by {
                    object["area"] = area.into();
                    object["pid"] = pid.into();
                }
                format!("{}\n", escape_json(&object.to_string()))
            }
            Form::Text => {
                let by = by.map(|(area, pid)| format!(" area={area} pid={pid}"));
                let by = by.unwrap_or_default();
                format!("time=\"{time}\" level={level} msg={text:?}{by}\n")
            }
        }
    }
}

fn write(file: &Option<File>, line: &str) {
    match file {
        #[expect(
            clippy::let_underscore_must_use,
            reason = "this is the log: it has no other place"
        )]
        Some(file) => {
            let _ = nix::unistd::write(file, line.as_bytes());
        }
        None => debug_log::write_stderr(line),
    }
}

fn append(path: &Path, line: &str) {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "this is the log; standard error gets errors in any case"
    )]
    let _ = open(path).and_then(|mut f| f.write_all(line.as_bytes()));
}

fn open(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
}
