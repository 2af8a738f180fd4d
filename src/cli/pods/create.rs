//! `carob create` and `carob replace`.

use std::time::Instant;

use clap::Args;

use crate::cli::face::{Face, warn, warn_of};
use crate::cli::objects::create::Made;
use crate::cli::pods::apply::{await_started, dry_run, read, show_made, warn_of_trouble};
use crate::cli::show::output::{self, Format};
use crate::cli::show::waiting::Waiting;
use crate::cli::{Verb, objects::made, show::age};
use crate::manifest::{self, Parsed};
use crate::pod::client;
use crate::pod::verbs::Grace;
use crate::pod::verbs::change::change;
use crate::pod::verbs::delete;
use crate::spec::{Object, Pod};
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Common {
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
    /// client, server: say what would be done, and do nothing
    #[arg(long, value_name = "none|client|server", num_args = 0..=1, default_value = "none", default_missing_value = "client", require_equals = true, value_parser = ["none", "client", "server"])]
    dry_run: String,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

#[derive(Args, Debug)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct Create {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    made: Option<Made>,
}

#[derive(Args, Debug)]
pub(crate) struct Replace {
    #[command(flatten)]
    common: Common,
    /// Delete the Pod, and make it anew
    #[arg(long)]
    force: bool,
    /// Seconds between TERM and KILL for what --force deletes; -1: the Pod's own
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
}

impl Verb for Create {
    const NAME: &'static str = "create";
    const ABOUT: &'static str = "Make what manifests say, which must not be there yet";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob create -f web.yaml\n\
        \x20 carob create -f web.yaml --dry-run=client -o yaml\n\
        \x20 carob create configmap web --from-literal=color=red --from-file=web.conf\n\
        \x20 carob create secret generic db --from-file=password=/run/credentials/db/password\n\
        \x20 carob create secret docker-registry hub --docker-username=me --docker-password=p\n\
        \x20 carob create secret tls web --cert=web.crt --key=web.key\n\
        \x20 carob create namespace shop";

    fn needs_root(&self) -> bool {
        match &self.made {
            Some(made) => !made.is_dry(),
            None => self.common.dry_run != "client",
        }
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        if let Some(made) = &self.made {
            if !self.common.filename.is_empty() {
                return Err(Error::usage("-f cannot go with a kind and a name"));
            }
            return made.run(face);
        }
        let dry = self.common.dry_run == "server";
        let made = |object: &Object, _: Option<&str>| made::create(face, object, dry);
        self.common.run(face, "created", made, |pod| {
            if !dry {
                return Ok((client::create(&face.layout, pod)?, pod.uid.clone()));
            }
            match client::find(&face.layout, &pod.namespace, &pod.name) {
                Err(e) if e.kind() == Kind::NotFound => Ok((vec![], pod.uid.clone())),
                Err(e) => Err(e),
                Ok(_) => Err(Error::conflict(format!(
                    "pods {:?} already exists",
                    pod.name
                ))),
            }
        })
    }
}

impl Verb for Replace {
    const NAME: &'static str = "replace";
    const ABOUT: &'static str = "Make what is there as manifests say";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob replace -f web.yaml\n\
        \x20 carob replace -f web.yaml --force --grace-period=5";

    fn needs_root(&self) -> bool {
        self.common.dry_run != "client"
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let dry = self.common.dry_run != "none";
        let (force, grace) = (
            self.force,
            Grace {
                seconds: u64::try_from(self.grace_period).ok(),
                force: false,
            },
        );
        let made =
            |object: &Object, uid: Option<&str>| made::replace(face, object, uid, self.force, dry);
        self.common.run(face, "replaced", made, |pod| {
            let found = client::find(&face.layout, &pod.namespace, &pod.name);
            match (found, force) {
                (Ok(view), true) if !dry => delete::delete(&face.layout, &view, grace, None)?,
                (Ok(view), true) => return Ok((vec![], view.pod.uid)),
                (Err(e), true) if e.kind() == Kind::NotFound => {}
                (found, _) => {
                    let view = found?;
                    let make = |live: &Pod| manifest::replacement(live, pod);
                    change(&face.layout, &view, &make, dry)?;
                    return Ok((vec![], view.pod.uid));
                }
            }
            match dry {
                true => Ok((vec![], pod.uid.clone())),
                false => Ok((client::create(&face.layout, pod)?, pod.uid.clone())),
            }
        })
    }
}

impl Common {
    /// `act` returns warnings, and the uid of the Pod that there is then; `make` is of all
    /// that are no Pods.
    fn run(
        &self,
        face: &Face,
        word: &str,
        make: impl Fn(&Object, Option<&str>) -> Result<Object>,
        act: impl Fn(&Pod) -> Result<(Vec<Error>, String)>,
    ) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let timeout = age::parse_timeout(&self.timeout)?;
        let mut parsed = read(face, &self.filename, self.recursive)?;
        for note in &parsed.notes {
            warn(&note.to_string());
        }
        if parsed.pods.is_empty() && parsed.objects.is_empty() {
            return Ok(0);
        }
        // As with kubectl, what `apply` may take away again it has made itself.
        parsed.pods.iter_mut().for_each(|p| p.applied = None);
        parsed.objects.iter_mut().for_each(|o| o.applied = None);
        match self.dry_run.as_str() {
            "client" => return dry_run(&format, parsed, word, "client"),
            "none" => face.make_ready()?,
            _ => {}
        }
        let (mut pods, mut errors) = (vec![], vec![]);
        let kept = made::each(&parsed, &mut errors, make)?;
        for pod in parsed.pods {
            match act(&pod) {
                Ok((warnings, uid)) => {
                    warnings.iter().for_each(warn_of);
                    pods.push((pod, uid));
                }
                Err(e) => errors.push(e),
            }
        }
        let is_table = matches!(format, Format::Table { .. });
        if self.dry_run == "server" {
            let given = Parsed {
                pods: pods.into_iter().map(|(p, _)| p).collect(),
                objects: kept,
                ..Parsed::default()
            };
            if is_table || given.pods.len() + given.objects.len() > 0 {
                dry_run(&format, given, word, "server")?;
            }
            return face.first_of(errors).map(|()| 0);
        }
        for object in &kept {
            made::say_done(&format, object, word, "")?;
        }
        if is_table {
            for (pod, _) in &pods {
                output::text(&format!("pod/{} {word}\n", pod.name), false)?;
            }
        }
        let until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        if self.wait && !pods.is_empty() {
            let mut waiting = Waiting::new(false, &format);
            let ended = await_started(face, &pods, until, None, &mut waiting);
            if ended.is_ok() && is_table {
                warn_of_trouble(face, &pods);
            }
            errors.extend(ended.err());
        }
        show_made(face, &format, &kept, &pods)?;
        face.first_of(errors).map(|()| 0)
    }
}
