//! Who we are to a registry: `~/.docker/config.json`, and the challenges of
//! RFC 9110 (Basic) and of the distribution project's token scheme (Bearer).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;

use super::Credentials;
use crate::{Context, Error, Result};

const MAX_FILE: u64 = 1 << 20;

/// What docker login has left for `registry`. `$DOCKER_CONFIG` moves the file.
pub fn stored(registry: &str) -> Result<Option<Credentials>> {
    let dir = std::env::var_os("DOCKER_CONFIG").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
            PathBuf::from(home).join(".docker")
        },
        PathBuf::from,
    );
    let path = dir.join("config.json");
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(format!("open({})", path.display())),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut text)
        .with_context(|| format!("read {}", path.display()))?;
    in_config(&text, registry).with_context(|| path.display().to_string())
}

fn in_config(text: &[u8], registry: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        auths: BTreeMap<String, Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        auth: String,
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
    }
    let file: File = serde_json::from_slice(text)?;
    for (server, entry) in &file.auths {
        if host_of(server) != host_of(registry) {
            continue;
        }
        if !entry.username.is_empty() {
            return Ok(Some(Credentials {
                username: entry.username.clone(),
                password: entry.password.clone(),
            }));
        }
        // Empty where a credential helper has it.
        if entry.auth.is_empty() {
            continue;
        }
        let malformed = || Error::invalid(format!("auths: {server}: auth is malformed"));
        let plain = base64_decode(&entry.auth).ok_or_else(malformed)?;
        let plain = String::from_utf8(plain).map_err(|_| malformed())?;
        let (username, password) = plain.split_once(':').ok_or_else(malformed)?;
        return Ok(Some(Credentials {
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    Ok(None)
}

/// Keys are hosts, or URLs of the days of `https://index.docker.io/v1/`.
fn host_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// The value of an `Authorization: Basic` header.
pub fn basic(c: &Credentials) -> String {
    format!(
        "Basic {}",
        base64_encode(format!("{}:{}", c.username, c.password).as_bytes())
    )
}

/// A parsed `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case: `basic`, `bearer`.
    pub scheme: String,
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        let mut parameters = BTreeMap::new();
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
            let value;
            if let Some(quoted) = after.trim_start().strip_prefix('"') {
                let mut text = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (i, '"') => break i + 1,
                        (_, '\\') => text.push(chars.next()?.1),
                        (_, c) => text.push(c),
                    }
                };
                value = text;
                rest = &quoted[end..];
            } else {
                let end = after.find(',').unwrap_or(after.len());
                value = after[..end].trim().to_owned();
                rest = &after[end..];
            }
            parameters.insert(key, value);
        }
        (!scheme.is_empty()).then(|| Challenge {
            scheme: scheme.to_ascii_lowercase(),
            parameters,
        })
    }

    /// Where to ask for a token to pull from `repository`.
    pub fn token_url(&self, repository: &str) -> Option<String> {
        let realm = self.parameters.get("realm")?;
        let mut url = realm.clone();
        let mut separator = if realm.contains('?') { '&' } else { '?' };
        let scope = format!("repository:{repository}:pull");
        let service = self.parameters.get("service").map(String::as_str);
        for (key, value) in [("service", service), ("scope", Some(scope.as_str()))] {
            if let Some(value) = value {
                url.push(separator);
                url.push_str(key);
                url.push('=');
                url.push_str(&percent(value));
                separator = '&';
            }
        }
        Some(url)
    }
}

fn percent(s: &str) -> String {
    s.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            out.push(if i <= chunk.len() {
                char::from(ALPHABET[(n >> (18 - 6 * i)) as usize & 63])
            } else {
                '='
            });
        }
    }
    out
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let (mut n, mut bits, mut out) = (0u32, 0, Vec::new());
    for b in text.bytes() {
        n = n << 6 | u32::try_from(ALPHABET.iter().position(|a| *a == b)?).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((n >> bits) as u8);
            n &= (1 << bits) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_config() {
        let text = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "localhost:5000": {"username": "u", "password": "p"},
            "helper.example": {}, "bad.example": {"auth": "!"}}, "credsStore": "x"}"#;
        let c = in_config(text, "docker.io").unwrap().unwrap();
        assert_eq!(
            (c.username.as_str(), c.password.as_str()),
            ("user", "pa:ss")
        );
        assert_eq!(basic(&c), "Basic dXNlcjpwYTpzcw==");
        assert_eq!(
            in_config(text, "localhost:5000").unwrap().unwrap().username,
            "u"
        );
        assert!(in_config(text, "localhost").unwrap().is_none());
        assert!(in_config(text, "helper.example").unwrap().is_none());
        assert!(in_config(text, "bad.example").is_err());
        assert!(!format!("{c:?}").contains("pa:ss"));
    }

    #[test]
    fn base64_both_ways() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64_encode(plain.as_bytes()), text);
            assert_eq!(base64_decode(text).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn challenges() {
        let c = Challenge::parse(
            r#"Bearer realm="https://auth.example/token",service="a \"b\", c",scope="x""#,
        )
        .unwrap();
        assert_eq!(c.scheme, "bearer");
        assert_eq!(
            c.token_url("a/b").unwrap(),
            "https://auth.example/token?service=a%20%22b%22%2C%20c&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(Challenge::parse("Basic realm=x").unwrap().scheme, "basic");
        assert!(Challenge::parse("Bearer realm=\"open").is_none());
    }
}
