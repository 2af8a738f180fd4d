//! `carob apply`: makes what the manifests say, and returns when it runs.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::cli::face::{Face, say_hint, warn, warn_of};
use crate::cli::show::monitor_log::MonitorLogs;
use crate::cli::show::output::{self, Format};
use crate::cli::show::waiting::Waiting;
use crate::cli::terminal::raw::Signals;
use crate::cli::{Verb, objects::made, show::age, show::object};
use crate::manifest::{self, Parsed};
use crate::pod::client::{self, View};
use crate::pod::trouble;
use crate::pod::verbs::Grace;
use crate::pod::verbs::apply::apply;
use crate::pod::verbs::start::{self, Progress};
use crate::spec::{Object, Pod};
use crate::{Context, Result};

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A manifest, a directory of them, or - for stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<String>,
    /// Directories with those below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Return when the containers are started, or it is known why one is not
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// Give up waiting after this long; 0s never
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    timeout: String,
    /// client: say what would be done, and do nothing
    #[arg(long, value_name = "none|client", num_args = 0..=1, default_value = "none", default_missing_value = "client", require_equals = true, value_parser = ["none", "client"])]
    dry_run: String,
    /// Delete and make anew what cannot be changed
    #[arg(long)]
    force: bool,
    /// Seconds between TERM and KILL for what --force deletes
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

/// Reads manifests for `apply` and `delete`.
pub(crate) fn read(face: &Face, files: &[String], recursive: bool) -> Result<Parsed> {
    manifest::parse(&sources(files, recursive)?, face.only_namespace())
}

/// What `-f` and `-R` name.
pub(crate) fn sources(files: &[String], recursive: bool) -> Result<Vec<manifest::Source>> {
    let mut sources = vec![];
    for file in files {
        for path in expand(file, recursive)? {
            sources.extend(manifest::read(&path)?);
        }
    }
    Ok(sources)
}

/// [`manifest::read`] takes a directory by itself, but not those below it.
fn expand(file: &str, recursive: bool) -> Result<Vec<String>> {
    if !recursive || file == "-" || !Path::new(file).is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let mut files = vec![];
    let mut dirs = vec![PathBuf::from(file)];
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir)
            .and_then(|d| d.collect::<std::io::Result<Vec<_>>>())
            .with_context(|| format!("readdir({})", dir.display()))?;
        for entry in entries {
            let path = entry.path();
            // A link to a directory may lead back up: its entry says "link".
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                dirs.push(path);
            } else if path
                .extension()
                .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|w| e == *w))
            {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

impl Verb for Apply {
    const NAME: &'static str = "apply";
    const ABOUT: &'static str = "Make what manifests say, and return when the Pods run";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob apply -f web.yaml\n\
        \x20 carob apply -f manifests -R --timeout=2m";

    fn needs_root(&self) -> bool {
        self.dry_run == "none"
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let timeout = age::parse_timeout(&self.timeout)?;
        let parsed = read(face, &self.filename, self.recursive)?;
        for note in &parsed.notes {
            warn(&note.to_string());
        }
        if parsed.pods.is_empty() && parsed.objects.is_empty() {
            return Ok(0);
        }
        if self.dry_run == "client" {
            return dry_run(&format, parsed, "created", "client");
        }
        face.make_ready()?;
        let grace = Grace {
            seconds: u64::try_from(self.grace_period).ok(),
            force: false,
        };
        let (mut pods, mut errors) = (vec![], vec![]);
        // Pods start with what is there.
        let kept = made::apply(face, &format, &parsed, &mut errors)?;
        for pod in parsed.pods {
            // One that cannot be made is no reason to leave out those that follow.
            let merge = |live: &Pod| manifest::merged(live, &pod);
            match apply(&face.layout, &pod, self.force.then_some(grace), &merge) {
                Ok(applied) => {
                    for warning in &applied.warnings {
                        warn_of(warning);
                    }
                    let done = applied.done.word();
                    if let Format::Table { .. } = format {
                        output::text(&format!("pod/{} {done}\n", pod.name), false)?;
                    }
                    pods.push((pod, applied.uid));
                }
                Err(e) => errors.push(e),
            }
        }
        let until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        let ended = match self.wait && !pods.is_empty() {
            true => {
                let mut waiting = Waiting::new(false, &format);
                await_started(face, &pods, until, None, &mut waiting)
            }
            false => Ok(()),
        };
        let ended = ended.inspect(|()| {
            if self.wait && matches!(format, Format::Table { .. }) {
                warn_of_trouble(face, &pods);
            }
        });
        errors.extend(ended.err());
        show_made(face, &format, &kept, &pods)?;
        face.first_of(errors).map(|()| 0)
    }
}

/// Prints as objects what was made, in the order in which it was.
pub(crate) fn show_made(
    face: &Face,
    format: &Format,
    kept: &[Object],
    pods: &[(Pod, String)],
) -> Result<()> {
    if matches!(format, Format::Table { .. }) || kept.len() + pods.len() == 0 {
        return Ok(());
    }
    let views = pods
        .iter()
        .map(|(p, _)| client::find(&face.layout, &p.namespace, &p.name))
        .collect::<Result<Vec<View>>>()?;
    let mut all: Vec<_> = kept.iter().map(Object::v1).collect();
    all.extend(views.iter().map(object::v1));
    format.print(all, false)
}

/// What would be made, as it is to be recorded.
pub(crate) fn dry_run(format: &Format, parsed: Parsed, word: &str, kind: &str) -> Result<u8> {
    let note = made::dry_note(kind);
    for object in &parsed.objects {
        made::say_done(format, object, word, note)?;
    }
    match format {
        Format::Table { .. } => {
            for p in &parsed.pods {
                output::text(&format!("pod/{} {word}{note}\n", p.name), false)?;
            }
        }
        _ => {
            let mut all: Vec<_> = parsed.objects.iter().map(made::unkept).collect();
            all.extend(parsed.pods.into_iter().map(|p| p.manifest));
            format.print(all, false)?;
        }
    }
    Ok(0)
}

/// Waits for the start of these Pods, and shows what they wait for.
pub(crate) fn await_started(
    face: &Face,
    pods: &[(Pod, String)],
    until: Option<Instant>,
    signals: Option<&Signals>,
    waiting: &mut Waiting,
) -> Result<()> {
    let interrupt = signals.map(AsFd::as_fd);
    let mut logs = MonitorLogs::follow(face, pods);
    let errors = start::await_started(&face.layout, pods, until, interrupt, &mut |progress| {
        logs.show();
        match progress {
            Progress::Waits { pod, waits } => waiting.set(&pod.name, waits.to_vec()),
            Progress::Due => waiting.show(),
        }
        waiting.due().into_iter().chain(logs.due()).min()
    });
    logs.show();
    waiting.end();
    face.first_of(errors)
}

/// Containers that have been started and are no more: no error of the start, but what
/// people want to know.
pub(crate) fn warn_of_trouble(face: &Face, pods: &[(Pod, String)]) {
    for (pod, _) in pods {
        let Ok(view) = client::find(&face.layout, &pod.namespace, &pod.name) else {
            continue;
        };
        if let Some(t) = trouble::of(&face.layout, &view) {
            warn(&format!("pod {}: {}", pod.name, t.text()));
            say_hint(&t.mend);
        }
    }
}
