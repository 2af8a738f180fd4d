//! `carob inspect` and `tag`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::images::list::{familiar, object};
use crate::cli::show::output::{self, Format};
use crate::image::{Image, Reference, Store};
use crate::{Context, Result};

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// json (the default), yaml or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Inspect {
    const NAME: &'static str = "inspect";
    const ABOUT: &'static str = "Show all that is known of images, as docker does";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob inspect app:1";
    const ALIASES: &'static [&'static str] = &["inspecti"];

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref().or(Some("json")))?;
        let store = Store::open(&face.layout)?;
        let mut all = vec![];
        for name in &self.images {
            let image = store.lookup_any(name)?.ok_or_else(|| store.absent(name))?;
            all.push(described(&store, &image).with_context(|| format!("image {name}"))?);
        }
        if let Format::Name = format {
            let ids: String = all
                .iter()
                .map(|v| format!("{}\n", v["Id"].as_str().unwrap_or_default()))
                .collect();
            output::text(&ids, false)?;
        } else {
            format.print_value(&all.into())?;
        }
        Ok(0)
    }
}

/// Docker's keys; `Config` and `History` are the image's own words.
fn described(store: &Store, image: &Image) -> Result<Value> {
    let mut config: Value =
        serde_json::from_slice(&store.config_of(image)?).context("the image's config")?;
    let names = image.names.iter();
    let references: Vec<Reference> = names.clone().filter_map(|n| n.parse().ok()).collect();
    let mut digests: Vec<String> = references
        .iter()
        .filter_map(|r| Some((r, image.digest.as_deref()?)))
        .map(|(r, digest)| format!("{}@{digest}", r.name()))
        .collect();
    digests.dedup();
    // overlayfs has the uppermost first.
    let lower: Vec<String> = image
        .layers
        .iter()
        .rev()
        .map(|l| l.display().to_string())
        .collect();
    Ok(json!({
        "Id": image.id,
        "RepoTags": names
            .filter(|n| !n.contains('@'))
            .map(|n| familiar(n))
            .collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Created": image.created,
        "Author": config["author"].take(),
        "Architecture": image.architecture,
        "Variant": config["variant"].take(),
        "Os": image.os,
        "Size": image.size,
        "Config": config["config"].take(),
        "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"].take()},
        "GraphDriver": {"Name": "overlay", "Data": {"LowerDir": lower.join(":")}},
        "History": config["history"].take(),
    }))
}

#[derive(Args, Debug)]
pub(crate) struct Tag {
    /// A name or ID of an image that is here
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Its further name
    #[arg(value_name = "NAME")]
    name: String,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Tag {
    const NAME: &'static str = "tag";
    const ABOUT: &'static str = "Give an image another name";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob tag app:1 localhost:5000/app:1";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let name: Reference = self.name.parse()?;
        let image = Store::open(&face.layout)?.tag(&self.image, &name)?;
        match format {
            Format::Table { .. } => {}
            Format::Name => output::text(&format!("{name}\n"), false)?,
            _ => format.print_value(&object(&image))?,
        }
        Ok(0)
    }
}
