//! `carob restart`, `carob pause` and `carob resume`.

use std::time::Instant;

use clap::Args;

use crate::cli::face::Face;
use crate::cli::pods::apply::await_started;
use crate::cli::show::output::{self, Format};
use crate::cli::show::waiting::Waiting;
use crate::cli::{Verb, show::age, show::object};
use crate::pod::client::{self, View};
use crate::pod::protocol::Request;
use crate::pod::verbs::steer;
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Restart {
    /// NAME or pod/NAME
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// This container alone
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Return when the containers have started again
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// Give up waiting after this long; 0s never
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    timeout: String,
    /// name, json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Restart {
    const NAME: &'static str = "restart";
    const ABOUT: &'static str = "Restart containers where they are, with hooks and grace period";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob restart web\n\
        \x20 carob restart web -c server --timeout=1m";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let timeout = age::parse_timeout(&self.timeout)?;
        let until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        let request = Request::Restart {
            container: self.container,
        };
        let (views, mut errors) = ask_all(face, &self.pods, &request);
        let pods: Vec<_> = views
            .iter()
            .map(|v| (v.pod.clone(), v.pod.uid.clone()))
            .collect();
        if self.wait {
            let mut waiting = Waiting::new(false, &format);
            errors.extend(await_started(face, &pods, until, None, &mut waiting).err());
        }
        tell(face, &format, &views, "restarted")?;
        face.first_of(errors).map(|()| 0)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Pause {
    /// NAME or pod/NAME
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// name, json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Pause {
    const NAME: &'static str = "pause";
    const ABOUT: &'static str = "Let all processes of Pods stand still";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob pause web";

    fn run(self, face: &Face) -> Result<u8> {
        steer(face, &self.pods, &self.output, &Request::Pause, "paused")
    }
}

#[derive(Args, Debug)]
pub(crate) struct Resume {
    /// NAME or pod/NAME
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// name, json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Resume {
    const NAME: &'static str = "resume";
    const ABOUT: &'static str = "Let paused Pods go on";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob resume web";

    fn run(self, face: &Face) -> Result<u8> {
        steer(face, &self.pods, &self.output, &Request::Resume, "resumed")
    }
}

fn steer(
    face: &Face,
    pods: &[String],
    output: &Option<String>,
    request: &Request,
    done: &str,
) -> Result<u8> {
    let format = Format::parse(output.as_deref())?;
    let (views, errors) = ask_all(face, pods, request);
    tell(face, &format, &views, done)?;
    face.first_of(errors).map(|()| 0)
}

/// The Pods that have done it, and the errors of the others.
fn ask_all(face: &Face, pods: &[String], request: &Request) -> (Vec<View>, Vec<Error>) {
    let (mut views, mut errors) = (vec![], vec![]);
    for name in pods {
        let done = face.find(name).and_then(|view| {
            steer::ask(&face.layout, &view, request)?;
            Ok(view)
        });
        match done {
            Ok(view) => views.push(view),
            Err(e) => errors.push(e),
        }
    }
    (views, errors)
}

fn tell(face: &Face, format: &Format, views: &[View], done: &str) -> Result<()> {
    if let Format::Table { .. } = format {
        for view in views {
            output::text(&format!("pod/{} {done}\n", view.pod.name), false)?;
        }
        return Ok(());
    }
    let now = views
        .iter()
        .map(|v| client::find(&face.layout, &v.pod.namespace, &v.pod.name))
        .collect::<Result<Vec<View>>>()?;
    match now.is_empty() {
        true => Ok(()),
        false => format.print(now.iter().map(object::v1).collect(), false),
    }
}
