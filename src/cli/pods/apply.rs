//! `carob apply`: makes what the manifests say, and returns when it runs.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use nix::poll::{PollFd, PollFlags};
use serde_json::Value;

use crate::cli::face::{Face, say_hint, warn, warn_of};
use crate::cli::pods::delete::{self, Grace};
use crate::cli::show::output::{self, Format};
use crate::cli::show::waiting::Waiting;
use crate::cli::terminal::raw::Signals;
use crate::cli::watch::poll_until;
use crate::cli::{Verb, show::age, show::object, show::trouble};
use crate::manifest::{self, Parsed};
use crate::pod::client::{self, Connection, View};
use crate::pod::protocol::{Reply, Request};
use crate::pod::update;
use crate::spec::Pod;
use crate::{Context, Error, Kind, Result};

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
    const ABOUT: &'static str = "Make the Pods of manifests, and return when they run";
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
        if parsed.pods.is_empty() {
            // A file with a Namespace alone is no mistake: it is applied before others.
            if parsed.ignored > 0 {
                return Ok(0);
            }
            return Err(Error::invalid("the manifests hold no Pod"));
        }
        if self.dry_run == "client" {
            return dry_run(&format, parsed.pods);
        }
        face.make_ready()?;
        let grace = Grace {
            seconds: u64::try_from(self.grace_period).ok(),
            force: false,
        };
        let (mut pods, mut errors) = (vec![], vec![]);
        for pod in parsed.pods {
            // One that cannot be made is no reason to leave out those that follow.
            match settle(face, &pod, self.force.then_some(grace)) {
                Ok((done, uid)) => {
                    if let Format::Table { .. } = format {
                        output::text(&format!("pod/{} {done}\n", pod.name), false)?;
                    }
                    pods.push((pod, uid));
                }
                Err(e) => errors.push(e),
            }
        }
        let until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        let ended = match self.wait {
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
        if !matches!(format, Format::Table { .. }) && !pods.is_empty() {
            let views = pods
                .iter()
                .map(|(p, _)| client::find(&face.layout, &p.namespace, &p.name))
                .collect::<Result<Vec<View>>>()?;
            format.print(views.iter().map(object::v1).collect(), false)?;
        }
        face.first_of(errors).map(|()| 0)
    }
}

/// What a creation would make, as it is to be recorded.
pub(crate) fn dry_run(format: &Format, pods: Vec<Pod>) -> Result<u8> {
    match format {
        Format::Table { .. } => {
            for p in &pods {
                output::text(&format!("pod/{} created (dry run)\n", p.name), false)?;
            }
        }
        _ => {
            let objects = pods.into_iter().map(|p| p.manifest).collect();
            format.print(objects, false)?;
        }
    }
    Ok(0)
}

pub(crate) fn create(face: &Face, pod: &Pod) -> Result<()> {
    for warning in client::create(&face.layout, pod)? {
        warn_of(&warning);
    }
    Ok(())
}

/// Makes the one Pod, or changes what may be changed. Returns the word for it
/// and the UID.
fn settle(face: &Face, pod: &Pod, replace: Option<Grace>) -> Result<(&'static str, String)> {
    let view = match client::find(&face.layout, &pod.namespace, &pod.name) {
        Ok(v) => v,
        Err(e) if e.kind() == Kind::NotFound => {
            create(face, pod)?;
            return Ok(("created", pod.uid.clone()));
        }
        Err(e) => return Err(e),
    };
    let uid = view.pod.uid.clone();
    let damaged = view.state.as_ref().and_then(|s| s.damaged.as_ref());
    if let (Some(why), None) = (damaged, replace) {
        return Err(Error::conflict(format!(
            "pods {:?} exists and cannot be read: {why}",
            pod.name
        ))
        .hint(format!(
            "delete it first (carob delete pod {} -n {}), or let `apply --force` do so",
            pod.name, pod.namespace
        )));
    }
    let deleting = view.state.as_ref().is_some_and(|s| s.deletion.is_some());
    let over = object::status(&view).phase.is_terminal();
    let same_spec = view.pod.spec == pod.spec;
    let may_become = same_spec || (update::is_allowed(&view.pod.spec, &pod.spec) && !over);
    if may_become && !deleting {
        let same = same_spec
            && view.pod.labels == pod.labels
            && view.pod.annotations == pod.annotations
            && view.pod.pull_secrets == pod.pull_secrets
            && view.pod.manifest["spec"] == pod.manifest["spec"];
        if same {
            return Ok(("unchanged", uid));
        }
        let mut changed = view.pod.clone();
        changed.spec.clone_from(&pod.spec);
        changed.labels.clone_from(&pod.labels);
        changed.annotations.clone_from(&pod.annotations);
        changed.pull_secrets.clone_from(&pod.pull_secrets);
        changed.manifest.clone_from(&pod.manifest);
        client::update(&face.layout, &uid, &changed)?;
        return Ok(("configured", uid));
    }
    if let Some(grace) = replace {
        delete::delete(face, &view, grace, None)?;
        create(face, pod)?;
        return Ok(("replaced", pod.uid.clone()));
    }
    let delete_it = format!("carob delete pod {} -n {}", pod.name, pod.namespace);
    if deleting {
        return Err(client::being_deleted(pod));
    }
    if update::is_allowed(&view.pod.spec, &pod.spec) {
        return Err(Error::conflict(format!(
            "pods {:?} has ended: a change would have no effect",
            pod.name
        ))
        .hint(format!(
            "delete it first ({delete_it}), or let `apply --force` delete and make it anew"
        )));
    }
    let mut fields = vec![];
    differences(
        &view.pod.manifest["spec"],
        &pod.manifest["spec"],
        "spec",
        &mut fields,
    );
    // An image may change; something else is in the way.
    fields.retain(|f| !f.ends_with("].image"));
    let fields = match fields.len() {
        0 => "spec".to_owned(),
        _ => fields.join(", "),
    };
    Err(Error::conflict(format!(
        "pods {:?} exists and cannot be changed in: {fields}",
        pod.name
    ))
    .hint(format!(
        "delete it first ({delete_it}), or let `apply --force` delete and make it anew"
    )))
}

/// The paths of what differs, no deeper than needed and not more than ten.
fn differences(old: &Value, new: &Value, path: &str, out: &mut Vec<String>) {
    const MOST: usize = 10;
    if old == new || out.len() >= MOST {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            for k in keys {
                differences(&old[k], &new[k], &format!("{path}.{k}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{i}]"), out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

/// Waits for all of them together. Those that do not start are told one by
/// one; the first is the error. The Pods stay, to be looked at. A signal ends the
/// waiting without an error: it stays readable for the caller.
pub(crate) fn await_started(
    face: &Face,
    pods: &[(Pod, String)],
    until: Option<Instant>,
    signals: Option<&Signals>,
    waiting: &mut Waiting,
) -> Result<()> {
    let mut errors: Vec<Error> = vec![];
    let mut open: Vec<(&Pod, Connection)> = vec![];
    for (pod, uid) in pods {
        let asked = Connection::open(&face.layout, uid).and_then(|c| {
            c.send(&Request::AwaitStarted, &[])?;
            Ok(c)
        });
        match asked {
            Ok(c) => open.push((pod, c)),
            Err(e) => errors.push(of_pod(e, pod)),
        }
    }
    while !open.is_empty() {
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd> = open
                .iter()
                .map(|(_, c)| PollFd::new(c.as_fd(), PollFlags::POLLIN))
                .collect();
            fds.extend(signals.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
            let due = waiting.due();
            if !poll_until(&mut fds, due.into_iter().chain(until).min())? {
                if until.is_none_or(|u| Instant::now() < u) {
                    waiting.show();
                    continue;
                }
                let pods = open.iter().map(|(p, _)| *p);
                errors.extend(pods.map(|p| late(p, waiting)));
                break;
            }
            let mut ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(true)).collect();
            if signals.is_some() && ready.pop() == Some(true) {
                break;
            }
            ready
        };
        let mut ready = ready.into_iter();
        open.retain(|(pod, c)| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match c.recv(Some(Duration::ZERO)) {
                Ok(Some((Reply::Waits(waits), _))) => {
                    waiting.set(&pod.name, waits);
                    true
                }
                Ok(Some((Reply::Settled, _))) => {
                    waiting.set(&pod.name, vec![]);
                    false
                }
                Ok(Some((Reply::Failed(e), _))) => {
                    waiting.set(&pod.name, vec![]);
                    errors.push(of_pod(e, pod));
                    false
                }
                Ok(Some(_)) => true,
                Err(e) if e.kind() == Kind::Timeout => true,
                Ok(None) => {
                    errors.push(of_pod(
                        Error::failed("its monitor ended before it was started")
                            .hint(format!("look at it with: carob describe pod {}", pod.name)),
                        pod,
                    ));
                    false
                }
                Err(e) => {
                    errors.push(of_pod(e, pod));
                    false
                }
            }
        });
    }
    waiting.end();
    face.first_of(errors)
}

/// The time is over before the Pod is started.
fn late(pod: &Pod, waiting: &Waiting) -> Error {
    let mut text = format!("timed out waiting for the start of {}", pod.name);
    let why = waiting.of(&pod.name);
    if !why.is_empty() {
        text = format!("{text}: {why}");
    }
    Error::new(Kind::Timeout, text).hint(match waiting.init_of(&pod.name) {
        Some(init) => trouble::logs_command(pod, init, false),
        None => format!("carob describe pod {}", pod.as_arguments()),
    })
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

/// The monitor's errors name their Pod; others may not.
fn of_pod(e: Error, pod: &Pod) -> Error {
    if e.to_string().starts_with("pod ") {
        e
    } else {
        e.push_context(format!("pod {}", pod.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_path() {
        let old = json!({"a": 1, "c": [{"image": "x", "name": "n"}, {"name": "m"}], "gone": 1});
        let new = json!({"a": 1, "c": [{"image": "y", "name": "n"}, {"name": "m", "tty": true}], "l": [1]});
        let mut out = vec![];
        differences(&old, &new, "spec", &mut out);
        assert_eq!(
            out,
            ["spec.c[0].image", "spec.c[1].tty", "spec.gone", "spec.l"]
        );
        let mut out = vec![];
        differences(&json!({"c": [1]}), &json!({"c": [1, 2]}), "spec", &mut out);
        assert_eq!(out, ["spec.c"]);
    }
}
