//! Whether a root's Secrets are encrypted at rest, and the way there and back.
//!
//! The setting is written first, then each record is rewritten as a whole. A command that was
//! killed leaves some of both forms, which are read all the same, and the next one goes on:
//!
//! 1. to encrypt: the key is made, tried and kept, with what says that all writers encrypt;
//!    then every record that is in clear is encrypted;
//! 2. to decrypt: the key is tried, what says that writers encrypt is taken back; then every
//!    record is decrypted; the key goes last.

use super::key::{Key, KeyRecord};
use super::seal::Kept;
use super::{NEW, lock, names_in, write};
use crate::spec::ObjectKind;
use crate::store::{self, Layout};
use crate::{Context, Error, Ignored, Result};

const SECRET: ObjectKind = ObjectKind::Secret;

/// What a root's Secrets are on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// Whether writers encrypt.
    pub encrypts: bool,
    /// What `--with-key` was, where there is a key.
    pub with_key: Option<String>,
    pub encrypted: usize,
    /// Those in clear.
    pub plain: usize,
    /// Those whose record cannot be read.
    pub damaged: usize,
}

impl Encryption {
    /// Whether all Secrets are as the setting says.
    pub(crate) fn is_whole(&self) -> bool {
        let others = match self.encrypts {
            true => self.plain,
            false => self.encrypted,
        };
        others + self.damaged == 0
    }

    pub(crate) fn text(&self) -> String {
        let all = self.encrypted + self.plain + self.damaged;
        let mut text = match self.encrypted {
            n if n == all && n > 0 => format!("{n} Secrets, all encrypted"),
            n => format!("{all} Secrets, {n} of them encrypted"),
        };
        if self.damaged > 0 {
            text.push_str(&format!(", {} with a damaged record", self.damaged));
        }
        if let Some(key) = &self.with_key {
            text.push_str(&format!(", with the key {key}"));
        }
        text
    }
}

/// As it is now. No key is needed for that.
pub(crate) fn encryption(layout: &Layout) -> Result<Encryption> {
    let record = KeyRecord::load(layout)?;
    let mut found = Encryption {
        encrypts: match &record {
            Some(record) => record.encrypts,
            None => is_to_encrypt(layout),
        },
        with_key: record.map(|r| r.with_key),
        encrypted: 0,
        plain: 0,
        damaged: 0,
    };
    for (namespace, name) in all(layout)? {
        match load(layout, &namespace, &name) {
            Ok(Some(kept)) if kept.sealed.is_some() => found.encrypted += 1,
            Ok(Some(_)) => found.plain += 1,
            Ok(None) => {}
            Err(_) => found.damaged += 1,
        }
    }
    Ok(found)
}

/// Whether the machine decrypts the root's key now. A root without one needs none.
pub(crate) fn try_key(layout: &Layout) -> Result<()> {
    match KeyRecord::load(layout)? {
        Some(record) => record.open(layout).map(drop),
        None if is_to_encrypt(layout) => Err(no_key(layout)),
        None => Ok(()),
    }
}

/// Whether the root was told to encrypt, and not yet to do without. If it has no key then, that
/// is lost.
pub(super) fn is_to_encrypt(layout: &Layout) -> bool {
    layout.objects_encrypted().exists()
}

/// Encrypts all Secrets, and those to come. `with_key`: what the machine encrypts the key with
/// from now on, if it is to be another than before.
///
/// # Errors
/// That of the first Secret that could not be rewritten; all the others are.
pub(crate) fn encrypt_all(layout: &Layout, with_key: Option<&str>) -> Result<Encryption> {
    {
        let _lock = lock(layout)?;
        let old = KeyRecord::load(layout)?;
        let key = match &old {
            Some(record) => record.open(layout)?,
            None => {
                check_no_key_is_missing(layout)?;
                Key::random()?
            }
        };
        let record = match old {
            Some(old) if !old.is_moved_by(with_key) => old.encrypting(true),
            old => {
                let before = old.map(|r| r.with_key);
                let with_key = with_key.or(before.as_deref()).unwrap_or("auto");
                KeyRecord::new(&key, with_key).map_err(|e| cannot(e, with_key))?
            }
        };
        store::save_durable(&layout.objects_encrypted(), &true)?;
        record.save(layout)?;
        rewrite_all(layout, true)?;
    }
    encryption(layout)
}

fn cannot(e: Error, with_key: &str) -> Error {
    let hint = e.get_hint().map(str::to_owned).unwrap_or_else(|| {
        "`systemd-creds has-tpm2` says whether there is a TPM2; --with-key=host needs none".into()
    });
    e.push_context(format!(
        "encrypt a key for Secrets with the machine's key ({with_key})"
    ))
    .hint(hint)
}

/// A new key beside records that another one has encrypted would hide what is wrong.
fn check_no_key_is_missing(layout: &Layout) -> Result<()> {
    for (namespace, name) in all(layout)? {
        if let Ok(Some(kept)) = load(layout, &namespace, &name)
            && kept.sealed.is_some()
        {
            return Err(no_key(layout).push_context(format!("secret {namespace}/{name}")));
        }
    }
    Ok(())
}

pub(super) fn no_key(layout: &Layout) -> Error {
    let path = layout.objects_key();
    Error::failed(format!(
        "it is encrypted, and the key in {} is not there or is another one",
        path.display()
    ))
    .hint(
        "bring that file back from a backup; or delete the encrypted Secrets, say `carob system \
         secrets plain`, and make them anew",
    )
}

/// Decrypts all Secrets, and takes the key away.
///
/// # Errors
/// As [`encrypt_all`]. The key stays if one of them is encrypted still.
pub(crate) fn decrypt_all(layout: &Layout) -> Result<Encryption> {
    {
        let _lock = lock(layout)?;
        let record = KeyRecord::load(layout)?;
        let has_key = record.is_some();
        match record {
            Some(record) => {
                // With nothing left to decrypt, a key that is lost is no loss.
                if encryption(layout)?.encrypted > 0 {
                    record.open(layout)?;
                }
                record.encrypting(false).save(layout)?;
                rewrite_all(layout, false)?;
            }
            None => check_no_key_is_missing(layout)?,
        }
        // What says that there was a key goes before the key: the other way round, a command
        // that is killed between would leave a root whose key is lost.
        if is_to_encrypt(layout) {
            store::remove_durable(&layout.objects_encrypted())?;
        }
        if has_key {
            store::remove_durable(&layout.objects_key())?;
        }
    }
    encryption(layout)
}

/// The lock is held. A change of the form is no change of the object: its version stays.
fn rewrite_all(layout: &Layout, encrypted: bool) -> Result<()> {
    let (mut first, mut failed) = (None, 0);
    for (namespace, name) in all(layout)? {
        if let Err(e) = rewrite(layout, &namespace, &name, encrypted) {
            failed += 1;
            first.get_or_insert(e.push_context(format!("secret {namespace}/{name}")));
        }
    }
    for namespace in names_in(&layout.objects_of(SECRET.plural()))? {
        // What a writer that was killed has left may be a value in clear.
        let left = layout.objects_in(SECRET.plural(), &namespace).join(NEW);
        std::fs::remove_file(left).ignored("none is left, most of the time");
    }
    match first {
        None => Ok(()),
        Some(e) if failed == 1 => Err(e),
        Some(e) => Err(e.push_context(format!("{failed} Secrets stay as they are; the first"))),
    }
}

fn rewrite(layout: &Layout, namespace: &str, name: &str, encrypted: bool) -> Result<()> {
    let Some(kept) = load(layout, namespace, name)? else {
        return Ok(());
    };
    if kept.sealed.is_some() == encrypted {
        return Ok(());
    }
    let object = super::opened(layout, kept)?;
    let version = object.resource_version;
    write(layout, &object, version).map(drop)
}

fn load(layout: &Layout, namespace: &str, name: &str) -> Result<Option<Kept>> {
    super::load(layout, SECRET, namespace, name)
}

/// Namespace and name of every Secret.
fn all(layout: &Layout) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for namespace in names_in(&layout.objects_of(SECRET.plural()))? {
        let names = names_in(&layout.objects_in(SECRET.plural(), &namespace))
            .with_context(|| format!("the Secrets of namespace {namespace}"))?;
        all.extend(names.into_iter().map(|name| (namespace.clone(), name)));
    }
    Ok(all)
}
