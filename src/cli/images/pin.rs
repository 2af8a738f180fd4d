//! `carob pin` and `unpin`: images that no prune takes away.

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::images::list::print_objects;
use crate::cli::show::output::{self, Format};
use crate::image::Store;
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(crate) struct Pin {
    #[command(flatten)]
    of: Images,
}

#[derive(Args, Debug)]
pub(crate) struct Unpin {
    #[command(flatten)]
    of: Images,
}

#[derive(Args, Debug)]
struct Images {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Pin {
    const NAME: &'static str = "pin";
    const ABOUT: &'static str = "Keep images from being pruned";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob pin app:1";

    fn run(self, face: &Face) -> Result<u8> {
        self.of.set(face, true)
    }
}

impl Verb for Unpin {
    const NAME: &'static str = "unpin";
    const ABOUT: &'static str = "Let images be pruned again";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob unpin app:1";

    fn run(self, face: &Face) -> Result<u8> {
        self.of.set(face, false)
    }
}

impl Images {
    fn set(self, face: &Face, pinned: bool) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let store = Store::open(&face.layout)?;
        let (mut changed, mut errors) = (vec![], vec![]);
        for name in &self.images {
            match store.pin(name, pinned) {
                Ok(image) => changed.push(image),
                Err::<_, Error>(e) => errors.push(e),
            }
        }
        if let Format::Table { .. } = format {
            let ids: String = changed.iter().map(|i| format!("{}\n", i.id)).collect();
            output::text(&ids, false)?;
        }
        print_objects(&format, &changed)?;
        face.first_of(errors).map(|()| 0)
    }
}
