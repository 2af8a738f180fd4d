//! `carob apply`: makes what the manifests say, and returns when it runs.

use std::os::fd::AsFd;
use std::time::Instant;

use clap::Args;
use serde_json::Value;

use crate::cli::face::{Face, say_hint, warn, warn_of};
use crate::cli::pods::files::{Asked, Files};
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::monitor_log::MonitorLogs;
use crate::cli::show::output::{self, Format};
use crate::cli::show::waiting::Waiting;
use crate::cli::terminal::raw::Signals;
use crate::cli::{Verb, objects::made, show::object};
use crate::manifest::{self, Parsed};
use crate::pod::client::{self, View};
use crate::pod::trouble;
use crate::pod::verbs::apply::{self, How};
use crate::pod::verbs::start::{self, Progress};
use crate::pod::verbs::{Grace, objects};
use crate::spec::{Object, Pod};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Delete and make anew what cannot be changed
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    force: bool,
    /// Seconds between TERM and KILL for what --force deletes
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// For scripts of kubectl's: the same merge as without it
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    server_side: bool,
    /// With --server-side, for scripts of kubectl's: there are no conflicts between writers
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    force_conflicts: bool,
    /// Is refused
    #[arg(long, hide = true, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    prune: bool,
    /// Of --prune
    #[arg(long, hide = true)]
    all: bool,
    /// Of --prune
    #[arg(short = 'l', long, hide = true, value_name = "LABELS")]
    selector: Option<String>,
    /// Of --prune
    #[arg(long, hide = true, value_name = "KIND")]
    prune_allowlist: Vec<String>,
}

impl Verb for Apply {
    const NAME: &'static str = "apply";
    const ABOUT: &'static str = "Make what manifests say, and return when the Pods run";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob apply -f web.yaml\n\
        \x20 carob apply -f web.yaml --dry-run=server -o yaml\n\
        \x20 carob apply -f manifests -R --timeout=2m";

    fn needs_root(&self) -> bool {
        !self.files.dry_run.is_client()
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        self.check()?;
        let Asked {
            format,
            until,
            parsed,
        } = self.files.read(face)?;
        if parsed.pods.is_empty() && parsed.objects.is_empty() {
            return Ok(0);
        }
        let dry_run = &self.files.dry_run;
        if dry_run.is_client() {
            return would_apply(face, &format, parsed, dry_run);
        }
        let how = How {
            replace: self.force.then_some(Grace {
                seconds: u64::try_from(self.grace_period).ok(),
                force: false,
            }),
            dry_run: dry_run.is_server(),
        };
        if !how.dry_run {
            face.make_ready()?;
        }
        let (mut shown, mut pods, mut errors) = (vec![], vec![], vec![]);
        let done = |kind: &str, name: &str, word: &str| match format {
            Format::Table { .. } => {
                let note = dry_run.note();
                output::text(&format!("{kind}/{name} {word}{note}\n"), false)
            }
            _ => Ok(()),
        };
        // Pods start with what is there.
        for object in &parsed.objects {
            let uid = parsed.given_uids.get(&object.uid).map(String::as_str);
            let merge = |live: &Object| manifest::merged_object(live, object, uid);
            match objects::apply(&face.layout, object, self.force, how.dry_run, &merge) {
                Ok((kept, word)) => {
                    let kept = made::expanded(face, kept, how.dry_run);
                    done(kept.kind.singular(), &kept.name, word.word())?;
                    if kept.deletion.is_some() {
                        warn(&format!(
                            "{} is being deleted, and stays so: apply it again when it is gone",
                            kept.reference()
                        ));
                    }
                    shown.push(made::shown(&kept, how.dry_run));
                }
                Err(e) => errors.push(e),
            }
        }
        for pod in parsed.pods {
            // One that cannot be made is no reason to leave out those that follow.
            let merge = |live: &Pod| manifest::merged(live, &pod);
            match apply::apply(&face.layout, &pod, how, &merge) {
                Ok(applied) => {
                    applied.warnings.iter().for_each(warn_of);
                    done("pod", &pod.name, applied.done.word())?;
                    if let (true, Some(view)) = (how.dry_run, &applied.would_be) {
                        shown.push(object::v1(view));
                    } else if how.dry_run {
                        shown.push(pod.manifest.clone());
                    }
                    pods.push((pod, applied.uid));
                }
                Err(e) => errors.push(e),
            }
        }
        if !how.dry_run {
            if self.files.wait {
                let ended = await_all(face, &pods, until, &format);
                errors.extend(ended.err());
            }
            shown.extend(made_pods(face, &format, &pods)?);
        }
        if !matches!(format, Format::Table { .. }) && !shown.is_empty() {
            format.print(shown, false)?;
        }
        face.first_of(errors).map(|()| 0)
    }
}

impl Apply {
    /// What kubectl refuses too, and what it has more.
    fn check(&self) -> Result<()> {
        let prunes = self.prune || self.all || !self.prune_allowlist.is_empty();
        if prunes || self.selector.is_some() {
            let flag = match (self.prune || !self.prune_allowlist.is_empty(), self.all) {
                (true, _) => "--prune",
                (false, true) => "--all",
                (false, false) => "--selector",
            };
            return Err(
                Error::usage(format!("apply has no {flag}: it deletes nothing")).hint(
                    "delete what is no longer in the manifests by name (carob delete -f OLD) or by \
                 label (carob delete pods,configmaps,secrets -l LABELS)",
                ),
            );
        }
        if self.force_conflicts && !self.server_side {
            return Err(Error::usage(
                "--force-conflicts only works with --server-side",
            ));
        }
        if self.server_side && self.force {
            return Err(Error::usage("--force cannot be used with --server-side"));
        }
        if self.server_side && self.files.dry_run.is_client() {
            return Err(
                Error::usage("--dry-run=client doesn't work with --server-side")
                    .hint("did you mean --dry-run=server instead?"),
            );
        }
        Ok(())
    }
}

/// What `--dry-run=client` says. Without the rights to look at what is there, all is new.
fn would_apply(face: &Face, format: &Format, parsed: Parsed, dry_run: &DryRun) -> Result<u8> {
    let looks = nix::unistd::geteuid().is_root();
    let word = |there: Result<bool>| match there {
        Ok(true) => "configured",
        _ => "created",
    };
    let object_word = |o: &Object| {
        let found = crate::object::find(&face.layout, o.kind, &o.namespace, &o.name);
        word(found.map(|found| looks && found.is_some()))
    };
    let pod_word = |p: &Pod| {
        word(Ok(
            looks && client::find(&face.layout, &p.namespace, &p.name).is_ok()
        ))
    };
    would_be(format, parsed, dry_run, &object_word, &pod_word)
}

/// Prints what would be made, as it is to be recorded.
pub(crate) fn would_be(
    format: &Format,
    parsed: Parsed,
    dry_run: &DryRun,
    object_word: &dyn Fn(&Object) -> &'static str,
    pod_word: &dyn Fn(&Pod) -> &'static str,
) -> Result<u8> {
    let note = dry_run.note();
    if let Format::Table { .. } = format {
        for object in &parsed.objects {
            made::say_done(format, object, object_word(object), note)?;
        }
        for p in &parsed.pods {
            output::text(&format!("pod/{} {}{note}\n", p.name, pod_word(p)), false)?;
        }
        return Ok(0);
    }
    let mut all: Vec<_> = parsed.objects.iter().map(made::unkept).collect();
    all.extend(parsed.pods.into_iter().map(|p| p.manifest));
    format.print(all, false)?;
    Ok(0)
}

/// The Pods that were made, as objects, if these are to be printed.
pub(crate) fn made_pods(
    face: &Face,
    format: &Format,
    pods: &[(Pod, String)],
) -> Result<Vec<Value>> {
    if matches!(format, Format::Table { .. }) {
        return Ok(vec![]);
    }
    let find = |(p, _): &(Pod, String)| client::find(&face.layout, &p.namespace, &p.name);
    let views = pods.iter().map(find).collect::<Result<Vec<View>>>()?;
    Ok(views.iter().map(object::v1).collect())
}

/// Waits for the start of all of them, if there are any; warns of what is wrong then.
pub(crate) fn await_all(
    face: &Face,
    pods: &[(Pod, String)],
    until: Option<Instant>,
    format: &Format,
) -> Result<()> {
    if pods.is_empty() {
        return Ok(());
    }
    let mut waiting = Waiting::new(false, format);
    await_started(face, pods, until, None, &mut waiting)?;
    if let Format::Table { .. } = format {
        warn_of_trouble(face, pods);
    }
    Ok(())
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
