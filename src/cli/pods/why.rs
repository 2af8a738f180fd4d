//! `carob why`: what a Pod waits for, or what is wrong with it, in one paragraph.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use crate::cli::Verb;
use crate::cli::face::{Face, say, say_hint, warn_of_unattended};
use crate::cli::show::{object, output};
use crate::pod::client::{self, View};
use crate::pod::why::{self, Why};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct WhyOf {
    /// NAME or pod/NAME; none: all Pods that are not as they should be
    #[arg(value_name = "POD")]
    pods: Vec<String>,
    /// The Pods of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Verb for WhyOf {
    const NAME: &'static str = "why";
    const ABOUT: &'static str = "Say why Pods are not Ready, and what to do";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob why web\n\
        \x20 carob why -A";

    fn run(self, face: &Face) -> Result<u8> {
        if self.all_namespaces && !self.pods.is_empty() {
            return Err(Error::usage("names cannot go with --all-namespaces"));
        }
        let (views, errors) = self.find(face)?;
        warn_of_unattended(&views);
        let now = Timestamp::now();
        let all: Vec<Why> = views
            .iter()
            .map(|view| why::of(&face.layout, view, now))
            .filter(|why| !self.pods.is_empty() || !why.cause.is_well())
            .collect();
        if self.output.is_some() {
            let items = json!({ "items": all });
            output::text(&format!("{items:#}\n"), false)?;
        } else {
            for why in &all {
                output::text(&format!("{}\n", why.paragraph()), false)?;
                if let Some(mend) = &why.mend {
                    say_hint(mend);
                }
            }
            if all.is_empty() && errors.is_empty() {
                say(&format!("{} Pods, none waits or has failed", views.len()));
            }
        }
        face.first_of(errors).map(|()| 0)
    }
}

impl WhyOf {
    fn find(&self, face: &Face) -> Result<(Vec<View>, Vec<Error>)> {
        if self.pods.is_empty() {
            let namespace = (!self.all_namespaces).then_some(face.namespace.as_str());
            return Ok((client::list(&face.layout, namespace)?, vec![]));
        }
        let (mut views, mut errors) = (vec![], vec![]);
        for word in &self.pods {
            let name = object::name_of(word)?;
            match client::find(&face.layout, &face.namespace, &name) {
                Ok(view) => views.push(view),
                Err(e) => errors.push(object::not_found(e, word)),
            }
        }
        Ok((views, errors))
    }
}
