//! How `get --watch` shows what happens: `--watch-only`, `--output-watch-events`.

use serde_json::{Value, json};

use super::output::Format;

/// What has happened to one that is watched, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Added,
    Modified,
    Deleted,
}

impl Happened {
    fn word(self) -> &'static str {
        match self {
            Happened::Added => "ADDED",
            Happened::Modified => "MODIFIED",
            Happened::Deleted => "DELETED",
        }
    }
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watching {
    /// Not what is there at the beginning.
    pub only: bool,
    /// With what has happened.
    pub events: bool,
}

impl Watching {
    pub(crate) fn head(self, head: Vec<String>) -> Vec<String> {
        self.with("EVENT", head)
    }

    pub(crate) fn row(self, happened: Happened, row: Vec<String>) -> Vec<String> {
        self.with(happened.word(), row)
    }

    fn with(self, word: &str, mut row: Vec<String>) -> Vec<String> {
        if self.events {
            row.insert(0, word.to_owned());
        }
        row
    }

    /// As the API sends it; a name stands alone, as with kubectl.
    pub(crate) fn value(self, format: &Format, happened: Happened, object: Value) -> Value {
        match self.events && !matches!(format, Format::Name) {
            true => json!({"type": happened.word(), "object": object}),
            false => object,
        }
    }
}
