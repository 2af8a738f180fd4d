//! `carob push`.

use clap::Args;
use serde_json::json;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::show::output::{self, Format};
use crate::cli::show::progress::Shown;
use crate::image::{PullOptions, Reference, Store};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Push {
    /// A name or ID of an image that is here
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to; the image's own name by default
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// true: certificates are not checked, plain HTTP is tried; false: HTTPS
    /// only. By default plain HTTP is tried for loopback alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    insecure: Option<bool>,
    /// Print the digest alone
    #[arg(short, long)]
    quiet: bool,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Push {
    const NAME: &'static str = "push";
    const ABOUT: &'static str = "Push an image to a registry";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob push localhost:5000/app:1\n\
        \x20 carob push app:1 registry.example.com/app:1";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let options = PullOptions {
            insecure: self.insecure,
            ..PullOptions::default()
        };
        let table = matches!(format, Format::Table { .. });
        let mut shown = Shown::new(self.quiet, &format);
        let store = Store::open(&face.layout)?;
        let to: Reference = match &self.target {
            Some(target) => target.parse()?,
            // The first digits of an ID read as a name at Docker Hub.
            None if store.lookup_any(&self.image)?.is_some() => self
                .image
                .parse()
                .ok()
                .filter(|r| matches!(store.lookup(r), Ok(Some(_))))
                .ok_or_else(|| {
                    Error::usage("an ID says not where to push").hint("carob push ID NAME does")
                })?,
            None => self.image.parse()?,
        };
        let pushed = store.push(&self.image, &to, &options, &mut |p| shown.show(&p));
        shown.end();
        let digest = pushed?;
        match table {
            true => output::text(&format!("{digest}\n"), false)?,
            false => format.print_value(&json!({
                "name": to.to_string(),
                "digest": digest.as_str(),
            }))?,
        }
        Ok(0)
    }
}
