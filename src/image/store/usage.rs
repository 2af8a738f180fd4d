//! What the store holds on the disk, and what of it nothing needs.

use std::collections::HashSet;
use std::path::Path;

use crate::Result;
use crate::image::Store;
use crate::image::layer::form::stem;
use crate::image::store::index::{layer_name, names_in};
use crate::store::disk_usage;

/// Bytes are those of the disk (`st_blocks`), an inode counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub images: usize,
    /// Images that are in use.
    pub used_images: usize,
    /// Layers unpacked.
    pub layers: u64,
    /// Manifests, configs and layers as they came.
    pub blobs: u64,
    /// Of both, what images do not need that are in use or pinned.
    pub unused: u64,
    /// Pulls and loads at work, or killed.
    pub unfinished: u64,
}

impl Store {
    /// Takes no lock: what changes meanwhile is counted or not.
    pub fn usage(&self, in_use: &dyn Fn(&str) -> bool) -> Result<Usage> {
        let mut usage = Usage::default();
        let mut needed = HashSet::new();
        let pinned = self.index()?.pinned;
        for id in self.ids()? {
            let Some(record) = self.record(&id)? else {
                continue;
            };
            usage.images += 1;
            let used = in_use(id.as_str());
            usage.used_images += usize::from(used);
            if used || pinned.contains(&id) {
                needed.extend(record.all_blobs().map(|d| d.hex().to_owned()));
                needed.extend(record.diff_ids.iter().map(layer_name));
                needed.extend(record.stack);
            }
        }
        let mut bytes_of = |dir: &Path, sum: &mut u64| -> Result<()> {
            for name in names_in(dir)? {
                let bytes = disk_usage(&dir.join(&name))?;
                *sum += bytes;
                if !needed.contains(stem(&name)) {
                    usage.unused += bytes;
                }
            }
            Ok(())
        };
        let (mut layers, mut blobs) = (0, 0);
        bytes_of(&self.layers(), &mut layers)?;
        bytes_of(&self.blobs(), &mut blobs)?;
        (usage.layers, usage.blobs) = (layers, blobs);
        usage.unfinished = disk_usage(&self.partial())? + disk_usage(&self.ingest_dir())?;
        Ok(usage)
    }
}
