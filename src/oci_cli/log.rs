//! What callers read when something went wrong: a line on stderr, and a line of
//! the log, whose form containerd and conmon know (`--log`, `--log-format`).

use std::io::Write;
use std::path::PathBuf;

use crate::{Error, Result};

#[derive(Debug, Default)]
pub struct Log {
    pub path: Option<PathBuf>,
    pub json: bool,
    pub debug: bool,
}

impl Log {
    /// To the log if there is one, else to stderr.
    pub fn warn(&self, text: &str) {
        self.write("warning", text, true);
    }

    pub fn warn_all(&self, texts: &[String]) {
        for text in texts {
            self.warn(text);
        }
    }

    /// With `--debug`.
    pub fn debug(&self, text: impl FnOnce() -> String) {
        if self.debug {
            self.write("debug", &text(), true);
        }
    }

    /// The last thing that is said.
    pub fn error(&self, e: &Error) {
        let mut text = e.to_string();
        if let Some(hint) = e.get_hint() {
            text.push_str(&format!(" ({hint})"));
        }
        self.write("error", &text, false);
        let _ = writeln!(std::io::stderr(), "carob-oci: {text}");
    }

    /// Whether it can be written to is found out before anything is done.
    pub fn check(&self) -> Result<()> {
        if let Some(path) = &self.path {
            open(path)
                .map_err(|e| Error::from(e).push_context(format!("--log {}", path.display())))?;
        }
        Ok(())
    }

    fn write(&self, level: &str, text: &str, or_stderr: bool) {
        let time = jiff::Timestamp::now();
        let line = match self.json {
            true => format!(
                "{}\n",
                serde_json::json!({"level": level, "msg": text, "time": time.to_string()})
            ),
            false => format!("time=\"{time}\" level={level} msg={text:?}\n"),
        };
        match &self.path {
            Some(path) => {
                // Nowhere to complain to: stderr gets errors in any case.
                let _ = open(path).and_then(|mut f| f.write_all(line.as_bytes()));
            }
            None if or_stderr => {
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            None => {}
        }
    }
}

fn open(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
}
