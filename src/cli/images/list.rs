//! `carob pull`, `load`, `images` and `rmi`.

use std::io::IsTerminal;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::face::Face;
use crate::cli::show::output::{self, Format};
use crate::cli::show::progress::Shown;
use crate::cli::show::size::bytes;
use crate::cli::show::table::Table;
use crate::cli::{Verb, show::age};
use crate::image::{Image, PullOptions, Reference, Store};
use crate::manifest;
use crate::pod::layers;
use crate::pod::verbs::images;
use crate::store;
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// As Kubernetes writes it: busybox, localhost:5000/app:1.2, name@sha256:...
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// As in linux/arm64; this machine's by default
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// true: certificates are not checked, plain HTTP is tried; false: HTTPS
    /// only. By default plain HTTP is tried for loopback alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    insecure: Option<bool>,
    /// A bound for this image, as in layer-size=128Gi: docs/images.md
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<String>,
    /// Print the ID alone
    #[arg(short, long)]
    quiet: bool,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Pull {
    const NAME: &'static str = "pull";
    const ABOUT: &'static str = "Pull images from registries";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob pull docker.io/library/nginx:1.29\n\
        \x20 carob pull localhost:5000/app:1 --insecure";

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let mut references = vec![];
        for name in &self.images {
            references.push(name.parse::<Reference>()?);
        }
        face.make_ready()?;
        let store = Store::configured(&face.layout, &self.limits)?;
        let options = PullOptions {
            platform: self.platform.clone(),
            insecure: self.insecure,
            ..PullOptions::default()
        };
        let mut pulled = vec![];
        for r in references {
            let mut shown = Shown::new(self.quiet, &format);
            let image = store.pull(&r, &options, &mut |p| shown.show(&p));
            // An error is not to be written over bars.
            shown.end();
            let image = image.map_err(|e| without_room(face, e))?;
            if let Format::Table { .. } = format {
                output::text(&format!("{}\n", image.id), false)?;
            }
            pulled.push(image);
        }
        print_objects(&format, &pulled)?;
        Ok(0)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Load {
    /// An OCI layout's directory or tar, a docker archive, or - for stdin; a tar may be
    /// compressed with gzip, zstd, xz or bzip2
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    input: String,
    /// The image's name, where the archive has none
    #[arg(long, value_name = "IMAGE")]
    name: Option<String>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// A bound for these images, as in layer-size=128Gi: docs/images.md
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<String>,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Load {
    const NAME: &'static str = "load";
    const ABOUT: &'static str = "Load images from a directory or an archive";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob load -i app.tar\n\
        \x20 carob load -i app.tar.xz --name app:1\n\
        \x20 docker save app:1 | carob load";

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        if self.input == "-" && std::io::stdin().is_terminal() {
            return Err(Error::usage("stdin is a terminal").hint("name the archive with -i FILE"));
        }
        let name = self
            .name
            .as_deref()
            .map(str::parse::<Reference>)
            .transpose()?;
        face.make_ready()?;
        let store = Store::configured(&face.layout, &self.limits)?;
        let mut shown = Shown::new(self.quiet, &format);
        let loaded = store.load_watched(Path::new(&self.input), name.as_ref(), &mut |p| {
            shown.show(&p);
        });
        shown.end();
        let loaded = loaded.map_err(|e| without_room(face, missing_archive(&self.input, e)))?;
        if let Format::Table { .. } = format {
            for image in &loaded {
                let names = match image.names.is_empty() {
                    true => image.id.clone(),
                    false => image
                        .names
                        .iter()
                        .map(|n| familiar(n))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                output::text(&format!("Loaded image: {names}\n"), false)?;
            }
        }
        print_objects(&format, &loaded)?;
        Ok(0)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Images {
    /// json, yaml, wide (whole IDs) or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
    /// Print whole IDs alone
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Images {
    const NAME: &'static str = "images";
    const ABOUT: &'static str = "List the images that are here";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob images\n\
        \x20 carob images -o wide --no-headers";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let images = Store::open(&face.layout)?.list()?;
        if self.quiet {
            let ids: String = images.iter().map(|i| format!("{}\n", i.id)).collect();
            output::text(&ids, false)?;
            return Ok(0);
        }
        let Format::Table { wide } = format else {
            print_objects(&format, &images)?;
            return Ok(0);
        };
        let mut table = Table::default();
        if !self.no_headers {
            table.row(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
        }
        let now = Timestamp::now();
        for image in &images {
            let created = image
                .created
                .as_deref()
                .and_then(|c| c.parse::<Timestamp>().ok())
                .map_or_else(|| "<unknown>".to_owned(), |t| age::ago(t, now));
            let id = image.id.rsplit(':').next().unwrap_or(&image.id);
            let id: String = id
                .chars()
                .take(if wide { usize::MAX } else { 12 })
                .collect();
            let names: Vec<String> = match image.names.is_empty() {
                true => vec!["<none>".into()],
                false => image.names.iter().map(|n| familiar(n)).collect(),
            };
            for name in names {
                let (repository, tag) = split_name(&name);
                table.row([repository, tag, &id, &created, &bytes(image.size)]);
            }
        }
        output::text(&table.take(), false)?;
        Ok(0)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Rmi {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Every name of an image that is given by ID
    #[arg(short, long)]
    force: bool,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Rmi {
    const NAME: &'static str = "rmi";
    const ABOUT: &'static str = "Remove images that no Pod uses";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob rmi app:1";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let store = Store::open(&face.layout)?;
        let used = images::used(&face.layout)?;
        let mut errors: Vec<Error> = vec![];
        let (mut untagged, mut deleted) = (vec![], vec![]);
        for name in &self.images {
            match store.remove(name, self.force, &|id| used.contains(id)) {
                Ok(removed) if !matches!(format, Format::Table { .. }) => {
                    untagged.extend(removed.untagged);
                    deleted.extend(removed.deleted);
                }
                Ok(removed) => {
                    let mut text: String = removed
                        .untagged
                        .iter()
                        .map(|n| format!("Untagged: {n}\n"))
                        .collect();
                    text.extend(removed.deleted.iter().map(|id| format!("Deleted: {id}\n")));
                    output::text(&text, false)?;
                }
                Err(e) => errors.push(e),
            }
        }
        layers::release(&face.layout)?;
        if !matches!(format, Format::Table { .. }) {
            format.print_value(&json!({"untagged": untagged, "deleted": deleted}))?;
        }
        face.first_of(errors).map(|()| 0)
    }
}

/// An archive that is not there, with what may have been meant.
fn missing_archive(input: &str, e: Error) -> Error {
    const ENDS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"];
    match e.kind() == Kind::NotFound && input != "-" && !Path::new(input).exists() {
        true => e.hint(manifest::missing_hint(Path::new(input), ENDS)),
        false => e,
    }
}

/// An error for want of room, with the filesystem that has none.
fn without_room(face: &Face, e: Error) -> Error {
    if e.get_hint().is_some() || !store::is_full(&e) {
        return e;
    }
    e.hint(format!(
        "the filesystem of {0} is full (df -h {0}): carob image-prune removes the images that no \
         Pod uses",
        face.layout.data.display()
    ))
}

pub(crate) fn print_objects(format: &Format, images: &[Image]) -> Result<()> {
    match format {
        Format::Table { .. } => Ok(()),
        Format::Name => {
            let text: String = images
                .iter()
                .map(|i| format!("{}\n", i.names.first().unwrap_or(&i.id)))
                .collect();
            output::text(&text, false)
        }
        _ => {
            let all: Vec<Value> = images.iter().map(object).collect();
            format.print_value(&all.into())
        }
    }
}

pub(crate) fn object(i: &Image) -> Value {
    json!({
        "id": i.id,
        "digest": i.digest,
        "names": i.names,
        "size": i.size,
        "created": i.created,
        "architecture": i.architecture,
        "os": i.os,
        "pinned": i.pinned,
    })
}

pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |r| r.familiar())
}

/// Repository and tag; a colon before the last slash is a port's.
fn split_name(name: &str) -> (&str, &str) {
    if let Some((repository, _)) = name.split_once('@') {
        return (repository, "<none>");
    }
    match name.rsplit_once(':') {
        Some((r, tag)) if !tag.contains('/') => (r, tag),
        _ => (name, "<none>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_tag() {
        for (name, want) in [
            ("busybox:latest", ("busybox", "latest")),
            ("localhost:5000/a", ("localhost:5000/a", "<none>")),
            ("localhost:5000/a:1", ("localhost:5000/a", "1")),
            ("a@sha256:00", ("a", "<none>")),
        ] {
            assert_eq!(split_name(name), want);
        }
    }
}
