//! `carob save`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::image::{Form, Store};
use crate::{Context, Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Save {
    /// Names or IDs; one that is given by ID has no name in the archive
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Where to; stdout by default
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    output: Option<String>,
    /// oci-archive: an OCI layout with docker's manifest.json beside, which every
    /// tool reads; oci-dir: a directory; docker-archive: of plain layers
    #[arg(long, value_name = "FORMAT", default_value = "oci-archive",
          value_parser = ["oci-archive", "oci-dir", "docker-archive"])]
    format: String,
}

impl Verb for Save {
    const NAME: &'static str = "save";
    const ABOUT: &'static str = "Save images to an archive";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob save app:1 -o app.tar\n\
        \x20 carob save app:1 --format docker-archive -o app.tar";

    fn run(self, face: &Face) -> Result<u8> {
        let store = Store::open(&face.layout)?;
        let form = match self.format.as_str() {
            "docker-archive" => Form::Docker,
            _ => Form::Both,
        };
        let to = self.output.as_deref().filter(|o| *o != "-");
        match (self.format.as_str(), to) {
            ("oci-dir", None) => {
                return Err(Error::usage("a directory has to be named").hint("add -o DIR"));
            }
            ("oci-dir", Some(dir)) => {
                directory(Path::new(dir), |d| store.save_layout(&self.images, d))?
            }
            (_, Some(file)) => archive(Path::new(file), |out| store.save(&self.images, form, out))?,
            (_, None) if std::io::stdout().is_terminal() => {
                return Err(
                    Error::usage("stdout is a terminal").hint("name the archive with -o FILE")
                );
            }
            (_, None) => {
                let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
                store.save(&self.images, form, &mut out)?;
                out.flush().context("write(stdout)")?;
            }
        }
        Ok(0)
    }
}

/// A regular file appears whole, in one step, or not at all.
fn archive(to: &Path, save: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let special = to.metadata().is_ok_and(|m| !m.is_file());
    let mut name = to
        .file_name()
        .ok_or_else(|| Error::usage(format!("{} is no file", to.display())))?
        .to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = match special {
        true => to.to_owned(),
        false => to.with_file_name(name),
    };
    let about = || format!("write {}", to.display());
    let attempt = || -> Result<()> {
        let file = File::options()
            .write(true)
            .create(!special)
            .truncate(!special)
            .open(&temporary)
            .with_context(about)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        save(&mut out)?;
        out.flush().with_context(about)?;
        match special {
            true => Ok(()),
            false => std::fs::rename(&temporary, to).with_context(about),
        }
    };
    attempt().map_err(|e| {
        if special {
            return e;
        }
        match std::fs::remove_file(&temporary) {
            // It could not even be opened.
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => e,
            removed => {
                let what = || format!("remove {}", temporary.display());
                e.with_cleanup(removed.with_context(what))
            }
        }
    })
}

/// A directory that is not there, or empty. After an error it is removed.
fn directory(to: &Path, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let about = || format!("write {}", to.display());
    match std::fs::read_dir(to) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("{} is not empty", to.display()),
                ));
            }
        }
        Err(_) => std::fs::create_dir(to).with_context(about)?,
    }
    save(to).map_err(|e| {
        let removed = std::fs::remove_dir_all(to);
        e.with_cleanup(removed.with_context(|| format!("remove {}", to.display())))
    })
}
