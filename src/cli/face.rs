//! What every verb has: the layout, the namespace, how errors are shown.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::json;

use crate::cli::show::object;
use crate::linux::kernel;
use crate::plain::{escape_json, strip_styles};
use crate::pod::client::{self, View};
use crate::pod::command_line::with_root;
use crate::store::Layout;
use crate::{Error, Ignored, Result};

#[derive(Debug)]
pub(super) struct Face {
    pub layout: Layout,
    pub namespace: String,
    /// Whether `-n` was on the command line: manifests that name another
    /// namespace are refused then.
    pub namespace_given: bool,
    /// Errors are JSON objects, one a line: `-o json` was asked for.
    pub json: bool,
    /// When the command began.
    pub began: Timestamp,
}

impl Face {
    /// For a verb that makes something: the kernel can do it, and the directories that
    /// it goes into are there.
    pub(super) fn make_ready(&self) -> Result<()> {
        kernel::check()?;
        self.layout.create()
    }

    /// The Pod of `NAME` or `pod/NAME`.
    pub(super) fn find(&self, word: &str) -> Result<View> {
        let name = object::name_of(word)?;
        let view = client::find(&self.layout, &self.namespace, &name)
            .map_err(|e| object::not_found(e, word))?;
        warn_of_unattended(std::slice::from_ref(&view));
        Ok(view)
    }

    /// What every object of a manifest has to be in, if `-n` was given.
    pub(super) fn only_namespace(&self) -> Option<&str> {
        self.namespace_given.then_some(self.namespace.as_str())
    }

    /// Where a verb goes on past the failure of one object: the first error is the
    /// verb's own. Several are reported here, in their order.
    pub(super) fn first_of(&self, errors: Vec<Error>) -> Result<()> {
        if errors.len() > 1 {
            errors.iter().for_each(|e| report(e, self.json));
        }
        let is_one = errors.len() == 1;
        match errors.into_iter().next() {
            None => Ok(()),
            Some(only) if is_one => Err(only),
            Some(first) => Err(first.reported()),
        }
    }

    /// Finds all of them; the first that is missing is the error.
    pub(super) fn find_all(&self, names: &[String]) -> Result<Vec<View>> {
        let find = |n: &String| client::find(&self.layout, &self.namespace, n);
        let views = names.iter().map(find).collect::<Result<Vec<_>>>()?;
        warn_of_unattended(&views);
        Ok(views)
    }
}

/// Whether the command line asks for JSON, known before clap has judged it: its
/// own errors are JSON too then.
pub(super) fn wants_json(args: &[OsString]) -> bool {
    let mut words = args
        .iter()
        .skip(1)
        .map(|a| a.to_string_lossy())
        .take_while(|a| a != "--")
        .peekable();
    while let Some(word) = words.next() {
        let value = match word.as_ref() {
            "-o" | "--output" => words.peek().map(|w| w.to_string()),
            w => w
                .strip_prefix("--output=")
                .or_else(|| w.strip_prefix("-o="))
                .or_else(|| w.strip_prefix("-o").filter(|_| !w.starts_with("--")))
                .map(str::to_owned),
        };
        if value.is_some_and(|v| v == "json") {
            return true;
        }
    }
    false
}

/// `--root` of a command line that clap has refused.
pub(super) fn root_of(args: &[OsString]) -> Option<PathBuf> {
    let mut words = args.iter().skip(1).take_while(|a| *a != "--");
    while let Some(word) = words.next() {
        if word == "--root" {
            return words.next().map(Into::into);
        }
        let text = word.to_string_lossy();
        if let Some(root) = text.strip_prefix("--root=") {
            return Some(root.into());
        }
    }
    None
}

pub(super) fn root_of_environment() -> Option<PathBuf> {
    let root = std::env::var_os("CAROB_ROOT").filter(|v| !v.is_empty());
    root.map(Into::into)
}

/// `--root` as it was given, for the command lines in hints.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// To be called once, before the verb.
pub(super) fn remember_root(root: Option<&Path>) {
    if let Some(root) = root {
        ROOT.get_or_init(|| root.to_owned());
    }
}

/// A hint whose command lines have the `--root` of this one.
fn placed(hint: &str) -> String {
    with_root(hint, ROOT.get().map(PathBuf::as_path))
}

/// On stderr: `error: ...`, each further line as it is, `hint: ...`; or one
/// JSON object `{"error": ...}`.
pub(super) fn report(e: &Error, json: bool) {
    if e.is_reported() {
        return;
    }
    let mut e = e.clone();
    if let Some(hint) = e.get_hint() {
        let hint = placed(hint);
        e = e.hint(hint);
    }
    let mut err = std::io::stderr().lock();
    let told = if json {
        writeln!(
            err,
            "{}",
            escape_json(&json!({"error": e.to_json()}).to_string())
        )
    } else {
        let hint = e.get_hint().map(|h| format!("hint: {h}\n"));
        let text = format!("error: {e}\n{}", hint.unwrap_or_default());
        // An error may hold words of a manifest, an image or a container.
        err.write_all(strip_styles(&text).as_bytes())
    };
    told.ignored("nobody reads standard error any more");
}

/// A remark on stderr that changes nothing.
pub(super) fn warn(text: &str) {
    writeln!(std::io::stderr().lock(), "warning: {}", strip_styles(text))
        .ignored("nobody reads standard error any more");
}

/// As [`warn`], with the hint.
pub(super) fn warn_of(e: &Error) {
    warn(&e.to_string());
    if let Some(hint) = e.get_hint() {
        say_hint(hint);
    }
}

/// What to do about what has just been said.
pub(super) fn say_hint(hint: &str) {
    say(&format!("hint: {}", placed(hint)));
}

/// What is shown of a Pod without a monitor is what was recorded last.
pub(super) fn warn_of_unattended(views: &[View]) {
    for view in views {
        if let Some(why) = &view.unattended {
            warn(&format!(
                "pod {}: it has no monitor, and none can be started ({why}): what is shown was \
                 recorded before",
                view.pod.name
            ));
        }
    }
}

/// A line on stderr for whoever watches.
pub(super) fn say(text: &str) {
    writeln!(std::io::stderr().lock(), "{}", strip_styles(text))
        .ignored("nobody reads standard error any more");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_noticed_wherever_it_is_asked_for() {
        let cases = [
            ("carob get pods -o json", true),
            ("carob get pods -ojson", true),
            ("carob get pods -o=json", true),
            ("carob get pods --output=json", true),
            ("carob --output json get", true),
            ("carob get pods -o yaml", false),
            ("carob get pods -o", false),
            ("carob exec web -- tool -o json", false),
            ("carob get pods", false),
        ];
        for (line, want) in cases {
            let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(wants_json(&args), want, "{line}");
        }
    }
}
