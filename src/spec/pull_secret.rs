//! Credentials for registries, as a v1 Secret has them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::{Error, Result};

/// A v1 Secret with a registry's credentials. It is in nothing that is printed.
#[derive(Clone, PartialEq)]
pub struct PullSecret {
    pub name: String,
    document: serde_json::Value,
}

/// One entry of `auths` in a docker `config.json` or containers-auth.json(5).
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct RegistryAuth {
    /// `user:password` in base64.
    pub auth: String,
    pub username: String,
    pub password: String,
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
}

impl RegistryAuth {
    /// Empty where a credential helper has the secret.
    pub fn is_empty(&self) -> bool {
        self.auth.is_empty() && self.username.is_empty() && self.identity_token.is_empty()
    }

    /// `auth`, decoded: the user and the password.
    pub fn decode(&self) -> Option<(String, String)> {
        let plain = String::from_utf8(base64_decode(&self.auth)?).ok()?;
        let (username, password) = plain.split_once(':')?;
        // Docker pads the password with zeros.
        Some((
            username.to_owned(),
            password.trim_end_matches('\0').to_owned(),
        ))
    }
}

/// Where a v1 Secret of this type has its credentials.
fn secret_key(kind: &str) -> Option<&'static str> {
    match kind {
        "kubernetes.io/dockerconfigjson" => Some(".dockerconfigjson"),
        "kubernetes.io/dockercfg" => Some(".dockercfg"),
        _ => None,
    }
}

impl PullSecret {
    pub fn new(name: String, document: serde_json::Value) -> Self {
        PullSecret { name, document }
    }

    /// Whether a Secret's type is one of those that [`PullSecret::auths`] reads.
    pub fn is_kind(kind: &str) -> bool {
        secret_key(kind).is_some()
    }

    /// The entries, by the registry that each is for. Credential helpers that a
    /// `.dockerconfigjson` names are left out: a manifest starts no programs outside of
    /// its containers.
    pub fn auths(&self) -> Result<BTreeMap<String, RegistryAuth>> {
        let name = &self.name;
        let kind = self.document["type"].as_str().unwrap_or_default();
        let key = secret_key(kind).ok_or_else(|| {
            Error::invalid(format!(
                "the Secret {name} of type {kind:?} is no imagePullSecret"
            ))
            .hint("kubectl create secret docker-registry --dry-run=client -o yaml makes one")
        })?;
        // stringData wins, as the API server merges it.
        let text = match (
            self.document["stringData"][key].as_str(),
            self.document["data"][key].as_str(),
        ) {
            (Some(plain), _) => plain.as_bytes().to_vec(),
            (None, Some(coded)) => {
                let joined: String = coded.split_ascii_whitespace().collect();
                base64_decode(&joined).ok_or_else(|| {
                    Error::invalid(format!("the Secret {name}: data.{key} is not base64"))
                })?
            }
            (None, None) => {
                return Err(Error::invalid(format!("the Secret {name} has no {key}")));
            }
        };
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Config {
            auths: BTreeMap<String, RegistryAuth>,
        }
        let auths = match key {
            ".dockercfg" => serde_json::from_slice(&text),
            _ => serde_json::from_slice(&text).map(|config: Config| config.auths),
        };
        // serde's own text would show a value that is of another type.
        auths.map_err(|e| {
            Error::invalid(format!(
                "the Secret {name}: {key} is not JSON as docker writes it (line {}, column {})",
                e.line(),
                e.column()
            ))
        })
    }
}

impl std::fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullSecret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Base64 as people write it by hand too: padding may be missing, and unused bits may
/// be set.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    LENIENT.decode(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_with_and_without_padding() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
        ] {
            assert_eq!(base64_decode(text).unwrap(), plain.as_bytes(), "{text}");
        }
        assert_eq!(base64_decode("Zm9v\n").unwrap(), b"foo");
        assert_eq!(base64_decode("Zm9v!"), None);
    }
}
