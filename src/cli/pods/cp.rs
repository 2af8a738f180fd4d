//! `carob cp`: files between this machine and a container.

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::{Face, say_hint, warn};
use crate::cli::pods::exec::container_of;
use crate::cli::show::object;
use crate::cli::show::output::Format;
use crate::pod::client;
use crate::pod::copy::{Copied, SkipReason};
use crate::pod::verbs::copy::{self, Request, Side};
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Cp {
    /// FILE, or [NAMESPACE/]POD:PATH
    #[arg(value_name = "SOURCE")]
    source: String,
    /// [NAMESPACE/]POD:PATH, or FILE
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// The container; the first one if not given
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Files in the container belong to its user, with modes of its own
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    no_preserve: bool,
    /// Accepted as kubectl's; nothing here is tried again
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        allow_hyphen_values = true
    )]
    retries: i64,
    /// json, yaml or jsonpath=TEMPLATE: what was copied
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Cp {
    const NAME: &'static str = "cp";
    const ABOUT: &'static str = "Copy files into a container, or out of it";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob cp settings.toml web:/etc/app/\n\
        \x20 carob cp web:/var/log/app ./logs\n\
        \x20 carob cp ./site other/web:/srv -c server";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        if let Format::Table { wide: true } | Format::Name = format {
            return Err(Error::usage("cp prints json, yaml or jsonpath=TEMPLATE"));
        }
        let source = Side::parse(&self.source)?;
        let destination = Side::parse(&self.destination)?;
        let (into, (namespace, pod), local, remote) = match (&source.pod, &destination.pod) {
            (None, Some(pod)) => (true, pod, &source.path, &destination.path),
            (Some(pod), None) => (false, pod, &destination.path, &source.path),
            (Some(_), Some(_)) => {
                return Err(
                    Error::usage("one of src or dest must be a local file specification")
                        .hint("copy to this machine first, and from here to the other container"),
                );
            }
            (None, None) => {
                return Err(
                    Error::usage("one of src or dest must be a remote file specification").hint(
                        "a container's file is POD:PATH, as in carob cp web:/etc/hosts hosts",
                    ),
                );
            }
        };
        let namespace = namespace.as_ref().unwrap_or(&face.namespace);
        let view = client::find(&face.layout, namespace, pod).map_err(|e| {
            match e.kind() == Kind::NotFound && object::is_pod_word(namespace) {
                true => e.hint(format!(
                    "{namespace}/{pod} is read as a namespace and a Pod: write {pod}:PATH"
                )),
                false => e,
            }
        })?;
        let quiet = !matches!(format, Format::Table { .. });
        let container = container_of(&view, self.container.as_deref(), quiet)?;
        let request = Request {
            container: &container,
            local,
            remote,
        };
        let copied = match into {
            true => copy::into(&face.layout, &view, &request, !self.no_preserve)?,
            false => copy::out_of(&face.layout, &view, &request)?,
        };
        match format {
            Format::Table { .. } => tell_skipped(&copied),
            _ => format.print_value(&serde_json::to_value(&copied)?)?,
        }
        match copied.unreadable {
            0 => Ok(0),
            n => Err(Error::failed(format!(
                "{n} of the files and directories could not be read; the others are copied"
            ))),
        }
    }
}

/// A line for each reason, as there may be thousands.
fn tell_skipped(copied: &Copied) {
    let mut reasons: Vec<SkipReason> = Vec::new();
    for skipped in &copied.skipped {
        if !reasons.contains(&skipped.reason) {
            reasons.push(skipped.reason);
        }
    }
    for reason in &reasons {
        let of_it = copied.skipped.iter().filter(|s| s.reason == *reason);
        let paths: Vec<_> = of_it.map(|s| format!("{:?}", s.path)).collect();
        let more = match paths.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        warn(&format!("skipped {}: {}{more}", reason.text(), paths[0]));
    }
    let told = copied.skipped.len() as u64;
    if copied.skipped_count > told {
        warn(&format!(
            "{} more were skipped",
            copied.skipped_count - told
        ));
    }
    if reasons.contains(&SkipReason::SymbolicLink) {
        say_hint("with links: carob exec POD -- tar cf - PATH | tar xf -, if the image has tar");
    }
}
