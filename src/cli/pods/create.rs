//! `carob create` and `carob replace`.

use clap::Args;

use crate::cli::face::{Face, warn_of};
use crate::cli::objects::create::Made;
use crate::cli::pods::apply::{await_all, made_pods, would_be};
use crate::cli::pods::files::{Asked, Files};
use crate::cli::show::output::{self, Format};
use crate::cli::{Verb, objects::made, show::object};
use crate::manifest;
use crate::pod::client::{self, View};
use crate::pod::verbs::change::change;
use crate::pod::verbs::{Grace, delete, objects};
use crate::spec::{Object, Pod};
use crate::{Error, Kind, Result};

/// Flags of both.
#[derive(Args, Debug)]
pub(crate) struct Common {
    #[command(flatten)]
    files: Files,
    /// Keep what is given as what was applied last: a later apply removes what its manifest no
    /// longer has
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    save_config: bool,
}

/// What has become of a Pod, or would.
struct Acted {
    warnings: Vec<Error>,
    uid: String,
    /// With what was there before. `None`: it is new.
    view: Option<View>,
}

impl Acted {
    fn new(pod: &Pod, warnings: Vec<Error>) -> Self {
        Acted {
            warnings,
            uid: pod.uid.clone(),
            view: None,
        }
    }
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
            None => !self.common.files.dry_run.is_client(),
        }
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        if let Some(made) = &self.made {
            if !self.common.files.filename.is_empty() {
                return Err(Error::usage("-f cannot go with a kind and a name"));
            }
            return made.run(face);
        }
        let dry = self.common.files.dry_run.is_server();
        let made = |object: &Object, _: Option<&str>| objects::create(&face.layout, object, dry);
        self.common.run(face, "created", made, |pod| match dry {
            true => client::check_create(&face.layout, pod).map(|()| Acted::new(pod, vec![])),
            false => client::create(&face.layout, pod).map(|w| Acted::new(pod, w)),
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
        !self.common.files.dry_run.is_client()
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let dry = self.common.files.dry_run.is_server();
        let (force, grace) = (
            self.force,
            Grace {
                seconds: u64::try_from(self.grace_period).ok(),
                force: false,
            },
        );
        let made = |object: &Object, uid: Option<&str>| {
            let replaced = |live: &Object| manifest::replaced_object(live, object, uid);
            let new = objects::replace(&face.layout, object, force, dry, &replaced)?;
            Ok(made::expanded(face, new, dry))
        };
        self.common.run(face, "replaced", made, |pod| {
            let found = client::find(&face.layout, &pod.namespace, &pod.name);
            match (found, force) {
                (Ok(view), true) if !dry => delete::delete(&face.layout, &view, grace, None)?,
                (Ok(_), true) => return Ok(Acted::new(pod, vec![])),
                (Err(e), true) if e.kind() == Kind::NotFound => {}
                (found, _) => {
                    let view = found?;
                    let make = |live: &Pod| manifest::replacement(live, pod);
                    let pod = change(&face.layout, &view, &make, dry)?.pod;
                    return Ok(Acted {
                        warnings: vec![],
                        uid: view.pod.uid.clone(),
                        view: Some(View { pod, ..view }),
                    });
                }
            }
            match dry {
                true => client::check_create(&face.layout, pod).map(|()| Acted::new(pod, vec![])),
                false => client::create(&face.layout, pod).map(|w| Acted::new(pod, w)),
            }
        })
    }
}

impl Common {
    /// `make` is of all that are no Pods, `act` of Pods.
    fn run(
        &self,
        face: &Face,
        word: &'static str,
        make: impl Fn(&Object, Option<&str>) -> Result<Object>,
        act: impl Fn(&Pod) -> Result<Acted>,
    ) -> Result<u8> {
        let Asked {
            format,
            until,
            mut parsed,
        } = self.files.read(face)?;
        if parsed.pods.is_empty() && parsed.objects.is_empty() {
            return Ok(0);
        }
        if !self.save_config {
            // As with kubectl, what `apply` may take away again it has made itself.
            parsed.pods.iter_mut().for_each(|p| p.applied = None);
            parsed.objects.iter_mut().for_each(|o| o.applied = None);
        }
        let dry_run = &self.files.dry_run;
        if dry_run.is_client() {
            return would_be(&format, parsed, dry_run, &|_| word, &|_| word);
        }
        let dry = dry_run.is_server();
        if !dry {
            face.make_ready()?;
        }
        let note = dry_run.note();
        let (mut shown, mut pods, mut errors) = (vec![], vec![], vec![]);
        for object in made::each(&parsed, &mut errors, make) {
            made::say_done(&format, &object, word, note)?;
            shown.push(made::shown(&object, dry));
        }
        for pod in parsed.pods {
            let acted = match act(&pod) {
                Ok(acted) => acted,
                Err(e) => {
                    errors.push(e);
                    continue;
                }
            };
            acted.warnings.iter().for_each(warn_of);
            if let Format::Table { .. } = format {
                output::text(&format!("pod/{} {word}{note}\n", pod.name), false)?;
            }
            if dry {
                let would_be = acted.view.as_ref().map(object::v1);
                shown.push(would_be.unwrap_or_else(|| pod.manifest.clone()));
            }
            pods.push((pod, acted.uid));
        }
        if !dry {
            if self.files.wait {
                errors.extend(await_all(face, &pods, until, &format).err());
            }
            shown.extend(made_pods(face, &format, &pods)?);
        }
        if !matches!(format, Format::Table { .. }) && !shown.is_empty() {
            format.print(shown, false)?;
        }
        face.first_of(errors).map(|()| 0)
    }
}
