//! `carob debug`: a container beside those of a Pod that is there.

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::{Face, say, say_hint};
use crate::cli::pods::attach;
use crate::cli::pods::exec::{code_of, need_terminal};
use crate::cli::show::object;
use crate::cli::show::output::{self, Format};
use crate::cli::terminal::raw::Signals;
use crate::cli::terminal::stream::End;
use crate::manifest;
use crate::object::new_uid;
use crate::pod::client;
use crate::pod::verbs::debug::{self, Profile, Wanted};
use crate::spec::Pod;
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Debug {
    /// The Pod: NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The image to debug with [default: busybox; if it is not here, one that is and is called
    /// so, as localhost/carob/busybox:1; else it is pulled]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// See the processes of this container; its files are in /proc/1/root
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// The container's name [default: debugger- and five digits]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// What the container may do
    #[arg(long, value_name = "PROFILE", default_value = "general", value_parser = Profile::NAMES)]
    profile: String,
    /// An environment variable; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Keep stdin open, and attach to it
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Stay until the container ends, and print what it writes; implied by -i
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    attach: Option<bool>,
    /// What follows -- replaces the image's arguments, not its entrypoint
    #[arg(long)]
    arguments_only: bool,
    /// Always, IfNotPresent or Never [default: as in a manifest; without --image, IfNotPresent]
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Say nothing but what the container says
    #[arg(short, long)]
    quiet: bool,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// The command to run in place of the image's
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Verb for Debug {
    const NAME: &'static str = "debug";
    const ABOUT: &'static str = "Run a container beside those of a Pod, to look at them";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob debug -it web\n\
        \x20 carob debug -it web --image localhost/carob/busybox:1 --target server\n\
        \x20 carob debug web --attach -- wget -O- localhost:8080";

    fn passes_through(&self) -> bool {
        self.attached()
    }

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        if self.attached() {
            need_terminal(self.tty, self.stdin)?;
        }
        let mut env = Vec::new();
        for e in &self.env {
            let pair = e.split_once('=').filter(|(name, _)| !name.is_empty());
            let pair =
                pair.ok_or_else(|| Error::usage(format!("--env {e:?}: expected NAME=VALUE")))?;
            env.push(pair);
        }
        let view = face.find(&self.pod)?;
        let name = match &self.container {
            Some(name) => name.clone(),
            None => free_name(&view.pod)?,
        };
        let default_image = match &self.image {
            Some(_) => String::new(),
            None => debug::default_image(&face.layout)?,
        };
        let wanted = Wanted {
            name: &name,
            image: self.image.as_deref(),
            default_image: &default_image,
            pull_policy: self.image_pull_policy.as_deref(),
            target: self.target.as_deref(),
            profile: Profile::of(&self.profile).unwrap_or_default(),
            command: &self.command,
            arguments_only: self.arguments_only,
            env: &env,
            stdin: self.stdin,
            tty: self.tty,
        };
        let container = wanted.container();
        let make = |live: &Pod| manifest::with_ephemeral(live, &container);
        let pod = debug::add(&face.layout, &view, &name, &make)?;
        if let Some(target) = &self.target
            && !self.quiet
        {
            say(&format!("Targeting container {target:?}."));
        }
        if self.image.is_none() && default_image != debug::DEFAULT_IMAGE.0 && !self.quiet {
            say(&format!("Defaulting debug image to {default_image}."));
        }
        if self.container.is_none() && !self.quiet {
            say(&format!("Defaulting debug container name to {name}."));
        }
        if self.attached() {
            return code_of(self.stay(face, &pod, &name)?);
        }
        let started = debug::await_start(&face.layout, &pod, &name);
        match format {
            Format::Table { .. } => {
                started?;
                output::text(&format!("{name}\n"), false)?;
                if !self.quiet && !self.command.is_empty() {
                    let logs = pod.logs_command(&name, false);
                    say_hint(&format!("{logs} shows what it writes; --attach at once"));
                }
            }
            _ => {
                let view = client::find(&face.layout, &pod.namespace, &pod.name)?;
                format.print(vec![object::v1(&view)], false)?;
                started?;
            }
        }
        Ok(0)
    }
}

impl Debug {
    fn attached(&self) -> bool {
        self.attach.unwrap_or(self.stdin)
    }

    /// Until the container ends.
    fn stay(&self, face: &Face, pod: &Pod, name: &str) -> Result<End> {
        let connection = attach::ask(face, pod, name.to_owned(), self.stdin)?;
        debug::await_start(&face.layout, pod, name)?;
        let signals = Signals::new()?;
        let flags = (self.stdin, self.quiet);
        attach::to_the_end(face, pod, name, Some(connection), flags, &signals)
    }
}

/// `debugger-` and five digits, as kubectl has it.
fn free_name(pod: &Pod) -> Result<String> {
    loop {
        let digits: String = new_uid()?.chars().take(5).collect();
        let name = format!("debugger-{digits}");
        if pod.spec.container(&name).is_none() {
            return Ok(name);
        }
    }
}
