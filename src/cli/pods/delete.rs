//! `carob delete`.

use std::time::Instant;

use clap::Args;

use crate::cli::face::{Face, warn};
use crate::cli::objects::get::{self, Item};
use crate::cli::objects::made::{self, Deletion};
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::object::{self, Named, What};
use crate::cli::show::output::{self, Format};
use crate::cli::{Verb, pods::files, show::age};
use crate::manifest;
use crate::pod::client::View;
use crate::pod::verbs::delete::{self, Grace};
use crate::spec::Object;
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// `pod NAME...`, `cm/NAME...`, or a kind with -l or --all. A namespace goes with all that
    /// is in it
    #[arg(value_name = "KIND [NAME]")]
    what: Vec<String>,
    /// What these manifests name
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<String>,
    /// Directories of -f with those below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Every one of the namespace
    #[arg(long)]
    all: bool,
    /// With --all or -l: those of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Seconds between TERM and KILL, instead of the Pod's own
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// With --grace-period=0: the name is free at once
    #[arg(long)]
    force: bool,
    /// The same as --grace-period=1
    #[arg(long)]
    now: bool,
    /// Return when the Pod is gone, and nothing of it is left. The default is
    /// true, but false with --force
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    wait: Option<bool>,
    /// Give up waiting after this long; 0s never
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    timeout: String,
    /// One that is not there is no error
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    ignore_not_found: bool,
    #[command(flatten)]
    dry_run: DryRun,
    /// name, json or yaml: Pods as they are when they begin to end
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

/// kubectl's rules for the three flags; the second is what to say of them.
fn grace(period: i64, force: bool, now: bool) -> Result<(Grace, Option<&'static str>)> {
    if now && period >= 0 {
        return Err(Error::usage("--now and --grace-period cannot go together"));
    }
    if force && (period > 0 || now) {
        return Err(Error::usage("--force needs a grace period of 0"));
    }
    let plain = |seconds| Grace {
        seconds,
        force: false,
    };
    Ok(match (period, force) {
        (_, true) => (
            Grace {
                seconds: Some(0),
                force: true,
            },
            Some(
                "Immediate deletion does not wait for confirmation that the running resource has \
                 been terminated. The resource may continue to run for a short while.",
            ),
        ),
        (0, false) => (
            plain(Some(1)),
            Some("--grace-period=0 without --force means 1 second; add --force to delete at once"),
        ),
        _ if now => (plain(Some(1)), None),
        (s, false) => (plain(u64::try_from(s).ok()), None),
    })
}

impl Verb for Delete {
    const NAME: &'static str = "delete";
    const ABOUT: &'static str = "Delete Pods (TERM, the grace period, then KILL) and other objects";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob delete pod web\n\
        \x20 carob delete -f web.yaml\n\
        \x20 carob delete configmap,secret -l app=web\n\
        \x20 carob delete pod web --grace-period=0 --force";

    fn run(self, face: &Face) -> Result<u8> {
        let (grace, note) = grace(self.grace_period, self.force, self.now)?;
        let format = Format::parse(self.output.as_deref())?;
        let timeout = age::parse_timeout(&self.timeout)?;
        let Found {
            views,
            objects,
            missing,
        } = self.find(face)?;
        if let Some(n) = note.filter(|_| !self.dry_run.is_any()) {
            warn(n);
        }
        let until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        let mut errors = missing;
        let (mut ending, mut shown) = (vec![], vec![]);
        // Asked first, waited for together.
        let as_list = views.len() + objects.len() != 1;
        for mut view in views {
            if self.dry_run.is_any() {
                match format {
                    Format::Table { .. } | Format::Name => {
                        announce(&format, &view, grace.force, self.dry_run.note())?;
                    }
                    _ => shown.push(object::v1(&view)),
                }
                continue;
            }
            match delete::begin(&face.layout, &view, grace) {
                Ok(connection) => {
                    match format {
                        Format::Table { .. } | Format::Name => {
                            announce(&format, &view, grace.force, "")?;
                        }
                        _ => {
                            delete::look_again(&connection, &mut view, grace);
                            shown.push(object::v1(&view));
                        }
                    }
                    ending.push((view, connection));
                }
                Err(e) if e.kind() == Kind::NotFound && self.ignore_not_found => {}
                Err(e) => errors.push(e),
            }
        }
        if !matches!(format, Format::Table { .. } | Format::Name) {
            shown.extend(objects.iter().map(Object::v1));
            if !shown.is_empty() {
                format.print(shown, as_list)?;
            }
        }
        let wait = self.wait.unwrap_or(!grace.force);
        if wait {
            for (view, connection) in ending {
                if let Err(e) = delete::end(&face.layout, &view, connection, grace, until) {
                    errors.push(e);
                }
            }
        }
        // A Pod has what it uses until its end.
        let how = Deletion {
            format: &format,
            grace,
            wait,
            until,
            ignore_not_found: self.ignore_not_found,
            dry_run: &self.dry_run,
        };
        made::delete(face, objects, &how, &mut errors)?;
        face.first_of(errors).map(|()| 0)
    }
}

/// What is meant, and the errors of what is not there.
#[derive(Default)]
struct Found {
    views: Vec<View>,
    objects: Vec<Object>,
    missing: Vec<Error>,
}

impl Delete {
    fn find(&self, face: &Face) -> Result<Found> {
        let mut wanted: Vec<(What, String, String)> = vec![];
        let many = self.all || self.selector.is_some();
        if self.all_namespaces && !many {
            return Err(Error::usage("--all-namespaces needs --all or --selector"));
        }
        if self.filename.is_empty() {
            let resources = object::resources_of(Self::NAME, &self.what)?;
            match (resources.iter().all(|n| n.names.is_empty()), many) {
                (true, false) => {
                    return Err(object::nothing_named(&resources)
                        .hint("name what is to go, or give -f FILE, --all or -l LABELS"));
                }
                (false, true) => {
                    return Err(Error::usage("names cannot go with --all or --selector"));
                }
                (true, true) => return self.find_many(face, &resources),
                (false, false) => {}
            }
            for Named { what, names } in resources {
                let names = names.into_iter();
                wanted.extend(names.map(|n| (what, face.namespace.clone(), n)));
            }
        } else {
            if !self.what.is_empty() || many {
                return Err(Error::usage("-f cannot go with names, --all or --selector"));
            }
            wanted = files::named(face, &self.filename, self.recursive)?;
        }
        let mut found = Found::default();
        for (what, namespace, name) in wanted {
            match get::one_in(face, what, &namespace, &name) {
                Ok(Item::Pod(view)) => found.views.push(*view),
                Ok(Item::Object(object)) => found.objects.push(*object),
                Err(e) if e.kind() == Kind::NotFound && self.ignore_not_found => {}
                Err(e) => found.missing.push(e),
            }
        }
        Ok(found)
    }

    /// With --all or --selector.
    fn find_many(&self, face: &Face, resources: &[Named]) -> Result<Found> {
        let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
        let selector = self.selector.as_deref().map(manifest::parse_selector);
        let selector = selector.transpose()?;
        let mut found = Found::default();
        for named in resources {
            for item in get::all_of(face, named.what, namespace, selector.as_ref())? {
                match item {
                    Item::Pod(view) => found.views.push(*view),
                    Item::Object(object) => found.objects.push(*object),
                }
            }
        }
        if found.views.len() + found.objects.len() == 0 {
            output::text("No resources found\n", false)?;
        }
        Ok(found)
    }
}

fn announce(format: &Format, view: &View, force: bool, note: &str) -> Result<()> {
    let (name, namespace) = (&view.pod.name, &view.pod.namespace);
    let line = match format {
        Format::Name => format!("pod/{name}\n"),
        _ => {
            let word = if force { "force deleted" } else { "deleted" };
            format!("pod {name:?} {word}{note} from {namespace} namespace\n")
        }
    };
    output::text(&line, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_grace() {
        // period, force, now -> seconds, force, is something said
        let cases = [
            (-1, false, false, None, false, false),
            (30, false, false, Some(30), false, false),
            (1, false, false, Some(1), false, false),
            (0, false, false, Some(1), false, true),
            (-1, false, true, Some(1), false, false),
            (0, true, false, Some(0), true, true),
            (-1, true, false, Some(0), true, true),
        ];
        for (period, force, now, seconds, forced, said) in cases {
            let (g, note) = grace(period, force, now).unwrap();
            assert_eq!(
                g,
                Grace {
                    seconds,
                    force: forced
                },
                "{period} {force} {now}"
            );
            assert_eq!(note.is_some(), said, "{period} {force} {now}");
        }
        for (period, force, now) in [
            (5, true, false),
            (0, false, true),
            (5, false, true),
            (-1, true, true),
        ] {
            assert!(grace(period, force, now).is_err(), "{period} {force} {now}");
        }
    }
}
