//! What goes out of the store: a name, an image, and all that nothing leads to.

use std::collections::BTreeSet;
use std::path::Path;

use crate::image::Reference;
use crate::image::digest::Digest;
use crate::image::layer::form::stem;
use crate::image::store::index::{
    Index, LayerRecord, Store, find_key, layer_name, names_in, remove_file,
};
use crate::image::store::partial::collect;
use crate::image::store::transaction::Transaction;
use crate::linux::root::remove_tree;
use crate::store::{is_full, load};
use crate::{Context, Error, Result};

/// What [`Store::remove`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that no longer lead to an image.
    pub untagged: Vec<String>,
    /// The ids of images that are gone.
    pub deleted: Vec<String>,
}

/// What [`Store::prune`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub removed: Removed,
    /// Bytes of layers and blobs.
    pub freed: u64,
}

impl Store {
    /// Removes a name, and the image with its last name; or an image by its id
    /// with all its names, which takes `force` if there are several. So does the
    /// last name of an image that is pinned.
    ///
    /// An image that is `in_use` is not deleted ([`Kind::Conflict`]); with
    /// `force` it only loses the name. [`Kind::NotFound`] if there is none.
    pub fn remove(
        &self,
        name_or_id: &str,
        force: bool,
        in_use: &dyn Fn(&str) -> bool,
    ) -> Result<Removed> {
        if !self.root().exists() {
            return Err(self.absent(name_or_id));
        }
        let transaction = Transaction::begin_removal(self)?;
        let lock = self.lock()?;
        let mut index = self.index()?;
        let by_name = name_or_id
            .parse::<Reference>()
            .ok()
            .and_then(|r| find_key(&index, &r).map(str::to_owned));
        let image = match &by_name {
            Some(key) => {
                let name = &index.names[key];
                self.image(&name.id.clone(), None, &index)?
            }
            None => self.lookup_any(name_or_id)?,
        }
        .ok_or_else(|| self.absent(name_or_id))?;
        let id = Digest::parse(&image.id)?;
        let keys: Vec<String> = match by_name {
            Some(key) => vec![key],
            None => index
                .names
                .iter()
                .filter(|(_, n)| n.id == id)
                .map(|(k, _)| k.clone())
                .collect(),
        };
        if keys.len() > 1 && !force {
            return Err(Error::conflict(format!(
                "image {name_or_id} has several names: {}",
                keys.join(", ")
            ))
            .hint("remove it by name, or use --force"));
        }
        let others = index
            .names
            .iter()
            .any(|(k, n)| n.id == id && !keys.contains(k));
        let used = in_use(&image.id);
        if used && !others && (!force || keys.is_empty()) {
            return Err(
                Error::conflict(format!("image {name_or_id} is in use by a pod"))
                    .hint("delete the pods that use it first"),
            );
        }
        let last = !others && !used;
        if last && image.pinned && !force {
            return Err(Error::conflict(format!("image {name_or_id} is pinned"))
                .hint("carob unpin lets it go; or use --force"));
        }
        for key in &keys {
            index.names.remove(key);
        }
        if last {
            index.pinned.remove(&id);
        }
        let mut removed = Removed {
            untagged: keys,
            ..Removed::default()
        };
        let unsaved = self.try_save_index(&index, last)?;
        if last {
            // The record first: what it names may then go in any order.
            remove_file(&self.record_path(&id))?;
            removed.deleted.push(image.id);
            self.sweep(transaction.as_ref(), false)?;
        }
        if unsaved {
            self.save_index(&index)?;
        }
        drop(lock);
        Ok(removed)
    }

    /// Removes the images that have no name and are not `in_use`, with `all` those
    /// that have one too, but none that is pinned; then layers and blobs that no image has, and the beginnings
    /// of pulls that nobody is at.
    pub fn prune(&self, all: bool, in_use: &dyn Fn(&str) -> bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        if !self.root().exists() {
            return Ok(pruned);
        }
        let transaction = Transaction::begin_removal(self)?;
        let lock = self.lock()?;
        let mut index = self.index()?;
        let mut gone = Vec::new();
        for id in self.ids()? {
            let named = index.names.values().any(|n| n.id == id);
            if (all || !named) && !in_use(id.as_str()) && !index.pinned.contains(&id) {
                gone.push(id);
            }
        }
        let before = index.names.len();
        index.names.retain(|name, n| {
            let keep = !gone.contains(&n.id);
            if !keep {
                pruned.removed.untagged.push(name.clone());
            }
            keep
        });
        let unsaved = index.names.len() < before && self.try_save_index(&index, true)?;
        for id in gone {
            remove_file(&self.record_path(&id))?;
            pruned.removed.deleted.push(id.into());
        }
        pruned.freed = self.sweep(transaction.as_ref(), true)?;
        if unsaved {
            self.save_index(&index)?;
        }
        drop(lock);
        Ok(pruned)
    }

    /// True if the disk is full, and an image goes that makes room: names that lead to
    /// none are harmless, and go after it.
    fn try_save_index(&self, index: &Index, goes: bool) -> Result<bool> {
        match self.save_index(index) {
            Err(e) if goes && is_full(&e) => Ok(true),
            other => other.map(|()| false),
        }
    }

    /// Takes what no record names to the transaction's directory, which is
    /// deleted after the lock is free; with `partial` all beginnings of blobs too,
    /// else old ones. Without a transaction it is deleted here. The lock is held. Returns
    /// the bytes of content.
    fn sweep(&self, transaction: Option<&Transaction<'_>>, partial: bool) -> Result<u64> {
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for id in self.ids()? {
            if let Some(record) = self.record(&id)? {
                blobs.extend(record.all_blobs().map(|d| d.hex().to_owned()));
                layers.extend(record.diff_ids.iter().map(layer_name));
                layers.extend(record.stack);
            }
        }
        let mut freed = 0;
        for name in names_in(&self.layers())? {
            if !layers.contains(stem(&name)) {
                let from = self.layers().join(&name);
                if name.ends_with(".json") {
                    freed += load::<LayerRecord>(&from).map_or(0, |l| l.bytes);
                }
                self.take_out(&from, &name, transaction)?;
            }
        }
        for name in names_in(&self.blobs())? {
            if !blobs.contains(&name) {
                let path = self.blobs().join(name);
                freed += path.metadata().map_or(0, |m| m.len());
                remove_file(&path)?;
            }
        }
        Ok(freed + collect(&self.partial(), partial)?)
    }

    /// In one step, since what is left of a layer's directory must not be found by its
    /// name. Without a transaction it becomes one of a process that is dead, which the
    /// next transaction removes if this process is killed.
    fn take_out(&self, from: &Path, name: &str, to: Option<&Transaction<'_>>) -> Result<()> {
        let (to, remove) = match to {
            Some(transaction) => (transaction.path().join(name), false),
            None if !from.is_dir() => return remove_file(from),
            None => {
                let gone = format!("{}-{name}", std::process::id());
                (self.ingest_dir().join(gone), true)
            }
        };
        std::fs::rename(from, &to).with_context(|| format!("rename({})", from.display()))?;
        match remove {
            true => remove_tree(&to),
            false => Ok(()),
        }
    }
}
