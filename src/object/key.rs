//! The key that Secrets are encrypted with at rest: random, one for a root, and itself
//! encrypted by systemd-creds(1) with a key of the machine.
//!
//! One key, since a TPM2 takes up to a second for each thing that it decrypts, and a
//! credential of systemd has room for less than a Secret may have.

use std::path::PathBuf;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::linux::credential::{Caller, KEY_FILE_VARIABLE};
use crate::store::{self, Layout, Versioned};
use crate::{Context, Error, Kind, Result};

/// In clear; kept in memory only.
#[derive(Clone)]
pub(super) struct Key {
    pub id: String,
    pub bytes: [u8; 32],
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.fill(0);
        // So that the compiler does not leave the line above out.
        std::hint::black_box(&self.bytes);
    }
}

/// The record of a root's key, beside its objects.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    version: u32,
    /// Names the key in each record that is encrypted with it.
    pub(super) id: String,
    /// Whether what is written from now on is encrypted. It is not while all is being
    /// decrypted.
    pub(super) encrypts: bool,
    /// What `--with-key` was.
    pub(super) with_key: String,
    /// What the variable of systemd was when the key was made: later commands and monitors
    /// have to agree, whatever their own environment is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    /// The key, as systemd-creds has encrypted it.
    credential: String,
}

impl Versioned for KeyRecord {
    const VERSION: u32 = 1;
    fn version(&self) -> u32 {
        self.version
    }
}

/// The last key that was decrypted, with the credential that it was in.
static LAST: Mutex<Option<(String, Key)>> = Mutex::new(None);

/// Leaves no key in the memory of a process that stays.
pub(crate) fn forget_key() {
    *last() = None;
}

fn last() -> std::sync::MutexGuard<'static, Option<(String, Key)>> {
    LAST.lock().unwrap_or_else(|e| e.into_inner())
}

impl KeyRecord {
    /// `None`: this root has none.
    pub(super) fn load(layout: &Layout) -> Result<Option<KeyRecord>> {
        store::load_versioned(&layout.objects_key()).context("the key of Secrets")
    }

    /// Of a new key, or of one that another key of the machine is to encrypt from now on. It
    /// is not kept yet. What the machine could not decrypt later is an error now.
    pub(super) fn new(key: &Key, with_key: &str) -> Result<KeyRecord> {
        let mut record = KeyRecord {
            version: KeyRecord::VERSION,
            id: key.id.clone(),
            encrypts: true,
            with_key: with_key.to_owned(),
            key_file: key_file_of_caller(),
            credential: String::new(),
        };
        let name = record.name();
        let text = STANDARD.encode(key.bytes);
        record.credential = record.caller(&name).encrypt(with_key, text.as_bytes())?;
        match record.decrypted()?.bytes == key.bytes {
            true => Ok(record),
            false => Err(Error::failed(
                "systemd-creds decrypts another key than it encrypted",
            )),
        }
    }

    /// Whether the key is to be encrypted by another key of the machine than it is.
    pub(super) fn is_moved_by(&self, with_key: Option<&str>) -> bool {
        let file = key_file_of_caller();
        with_key.is_some() || file.is_some_and(|f| self.key_file.as_ref() != Some(&f))
    }

    pub(super) fn encrypting(self, encrypts: bool) -> KeyRecord {
        KeyRecord { encrypts, ..self }
    }

    pub(super) fn save(&self, layout: &Layout) -> Result<()> {
        store::save_durable(&layout.objects_key(), self)
    }

    /// The key in clear.
    pub(super) fn open(&self, layout: &Layout) -> Result<Key> {
        if let Some((credential, key)) = &*last()
            && *credential == self.credential
        {
            return Ok(key.clone());
        }
        let key = self.decrypted().map_err(|e| {
            let e = e.push_context(format!(
                "decrypt the key in {}",
                layout.objects_key().display()
            ));
            self.lost(e)
        })?;
        *last() = Some((self.credential.clone(), key.clone()));
        Ok(key)
    }

    fn decrypted(&self) -> Result<Key> {
        let name = self.name();
        let text = self.caller(&name).decrypt(&self.credential)?;
        let bytes = STANDARD.decode(text).ok().and_then(|b| b.try_into().ok());
        Ok(Key {
            id: self.id.clone(),
            bytes: bytes.ok_or_else(|| Error::failed("it decrypts to no key"))?,
        })
    }

    fn name(&self) -> String {
        format!("carob.secrets.{}", self.id)
    }

    fn caller<'a>(&'a self, name: &'a str) -> Caller<'a> {
        Caller {
            name,
            key_file: self.key_file.as_deref(),
        }
    }

    fn lost(&self, e: Error) -> Error {
        let file = match &self.key_file {
            Some(file) => file.display().to_string(),
            None => "/var/lib/systemd/credential.secret".to_owned(),
        };
        let place = match self.with_key.as_str() {
            "host" => file,
            "tpm2" => "the TPM2 of the machine that encrypted it".to_owned(),
            _ => format!("{file}, and the TPM2 of the machine that encrypted it if it had one"),
        };
        // A mend of its own: a machine without the program.
        if e.kind() == Kind::Unsupported {
            return e;
        }
        e.hint(format!(
            "it needs {place}. Where that is lost, delete the encrypted Secrets and make them anew \
             after `carob system secrets plain`"
        ))
    }
}

fn key_file_of_caller() -> Option<PathBuf> {
    let set = std::env::var_os(KEY_FILE_VARIABLE).filter(|v| !v.is_empty());
    set.map(PathBuf::from)
}

impl Key {
    pub(super) fn random() -> Result<Key> {
        let mut id = [0; 8];
        fill(&mut id)?;
        let mut key = Key {
            id: id.iter().map(|b| format!("{b:02x}")).collect(),
            bytes: [0; 32],
        };
        fill(&mut key.bytes)?;
        Ok(key)
    }
}

/// From getrandom(2).
pub(super) fn fill(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::failed("getrandom() gives no bytes"))
}
