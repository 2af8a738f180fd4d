//! A layer as containers get it: a directory, or an EROFS image in a file. Which of
//! them the next layers become is the store's setting, for whoever brings them: a
//! load, a pull, a Pod's own pull.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;
use crate::image::layer::erofs;
use crate::image::layer::unpack::{Unpacked, unpack};
use crate::image::limits::Budget;
use crate::image::store::index::{LayerRecord, Store};
use crate::linux::mount::Mount;
use crate::store::{load, make_dir, save_durable};
use crate::{Context, Error, Kind, Result};

/// What a layer is unpacked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerForm {
    /// `layers/<32 hex>/`, one of overlayfs's lower directories as it is.
    #[default]
    Dir,
    /// `layers/<32 hex>.erofs`, to be mounted first.
    Erofs,
}

const EXTENSION: &str = "erofs";

impl LayerForm {
    /// Of one of [`crate::image::Image::layers`].
    pub fn of(layer: &Path) -> Self {
        match layer.extension() {
            Some(e) if e == EXTENSION => LayerForm::Erofs,
            _ => LayerForm::Dir,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            LayerForm::Dir => "dir",
            LayerForm::Erofs => "erofs",
        }
    }

    /// The layer of this name in this form.
    pub(in crate::image) fn file(self, name: &str) -> String {
        match self {
            LayerForm::Dir => name.to_owned(),
            LayerForm::Erofs => format!("{name}.{EXTENSION}"),
        }
    }

    /// Makes the layer below `dir` from a plain tar stream.
    pub(in crate::image) fn make<R: Read>(
        self,
        stream: R,
        dir: &Path,
        name: &str,
        diff_id: &Digest,
        budget: &Budget<'_>,
    ) -> Result<Unpacked> {
        // What an attempt before this one has left, or a layer that lost a race. Its
        // record first, which says that the layer is whole.
        let (record, path) = (dir.join(format!("{name}.json")), dir.join(name));
        let file = dir.join(LayerForm::Erofs.file(name));
        remove(&record, std::fs::remove_file(&record))?;
        remove(&file, std::fs::remove_file(&file))?;
        remove(&path, std::fs::remove_dir_all(&path))?;
        match self {
            LayerForm::Dir => unpack(stream, make_target(&path)?, budget),
            LayerForm::Erofs => {
                let made = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&file)
                    .with_context(|| format!("open({}, O_CREAT|O_EXCL)", file.display()))?;
                erofs::write(stream, &made, diff_id, budget)
            }
        }
    }

    /// An error, if this kernel has no such layers.
    pub(in crate::image) fn probe(self, dir: &Path) -> Result<()> {
        if self == LayerForm::Dir {
            return Ok(());
        }
        let path = dir.join("probe.tmp");
        let file = File::create(&path).with_context(|| format!("open({})", path.display()))?;
        // An archive of nothing.
        let result = Budget::none(|b| erofs::write(io::empty(), &file, &Digest::of(b""), b))
            .and_then(|_| Mount::erofs(&path).map(drop));
        remove(&path, std::fs::remove_file(&path))?;
        result
    }
}

/// The name of the layer whose file or record this is.
pub(in crate::image) fn stem(file: &str) -> &str {
    let dot = file.rsplit_once('.');
    match dot {
        Some((name, "json" | EXTENSION)) => name,
        _ => file,
    }
}

fn remove(path: &Path, result: io::Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).context(format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The empty directory to unpack into.
fn make_target(dir: &Path) -> Result<OwnedFd> {
    DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .and_then(|()| {
            // Not by umask: it becomes the mode of / in the container.
            std::fs::set_permissions(dir, Permissions::from_mode(0o755))
        })
        .with_context(|| format!("mkdir({})", dir.display()))?;
    let target = File::open(dir).with_context(|| format!("open({})", dir.display()))?;
    Ok(OwnedFd::from(target))
}

impl LayerRecord {
    pub(crate) fn form(&self) -> LayerForm {
        match self.erofs {
            None => LayerForm::Dir,
            Some(_) => LayerForm::Erofs,
        }
    }

    /// Its name below `layers/`.
    pub(crate) fn file(&self) -> String {
        self.form()
            .file(&crate::image::store::index::layer_name(&self.diff_id))
    }
}

#[derive(Serialize, Deserialize)]
struct Settings {
    version: u32,
    layers: LayerForm,
}

const VERSION: u32 = 1;

impl Store {
    /// What layers become that are not here yet.
    pub fn layer_form(&self) -> Result<LayerForm> {
        match load::<Settings>(&self.settings()) {
            Ok(settings) if settings.version == VERSION => Ok(settings.layers),
            Ok(settings) => Err(Error::unsupported(format!(
                "{} has version {}, not {VERSION}",
                self.settings().display(),
                settings.version
            ))),
            Err(e) if e.kind() == Kind::NotFound => Ok(LayerForm::default()),
            Err(e) => Err(e),
        }
    }

    /// Layers that are here stay what they are.
    pub fn set_layer_form(&self, layers: LayerForm) -> Result<()> {
        make_dir(self.root())?;
        let _lock = self.lock()?;
        layers.probe(self.root())?;
        let settings = Settings {
            version: VERSION,
            layers,
        };
        save_durable(&self.settings(), &settings)
    }

    /// A layer of this name, in whichever form it is here.
    pub(in crate::image) fn layer_path(&self, name: &str) -> PathBuf {
        let file = self.layers().join(LayerForm::Erofs.file(name));
        match file.exists() {
            true => file,
            false => self.layers().join(name),
        }
    }

    fn settings(&self) -> PathBuf {
        self.root().join("settings.json")
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
