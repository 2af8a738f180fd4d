//! How one shows who one is: the challenges of RFC 9110 (Basic) and of the
//! distribution project's token scheme (Bearer). Whose credentials: `keyring`.

use std::collections::BTreeMap;

use super::Credentials;

/// The user name of a password that is an OAuth 2 refresh token, as credential
/// helpers have it.
pub const IDENTITY: &str = "<token>";

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

    /// Where to ask for a token for `scopes` (`repository:library/a:pull`).
    pub fn token_url(&self, scopes: &[String]) -> Option<String> {
        let realm = self.parameters.get("realm")?;
        let separator = if realm.contains('?') { '&' } else { '?' };
        let service = self.parameters.get("service").map(|s| ("service", s));
        let all = service
            .into_iter()
            .chain(scopes.iter().map(|s| ("scope", s)));
        let query: Vec<String> = all.map(|(k, v)| format!("{k}={}", percent(v))).collect();
        Some(format!("{realm}{separator}{}", query.join("&")))
    }

    /// The realm and the form to trade a refresh token for a token there
    /// (RFC 6749, section 6).
    pub fn refresh(&self, token: &str, scopes: &[String]) -> Option<(String, String)> {
        let service = self.parameters.get("service").map_or("", String::as_str);
        let form = format!(
            "grant_type=refresh_token&client_id=carob&service={}&scope={}&refresh_token={}",
            percent(service),
            percent(&scopes.join(" ")),
            percent(token)
        );
        Some((self.parameters.get("realm")?.clone(), form))
    }
}

pub fn percent(s: &str) -> String {
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

pub fn base64_encode(bytes: &[u8]) -> String {
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

pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
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
            c.token_url(&["repository:a/b:pull".to_owned()]).unwrap(),
            "https://auth.example/token?service=a%20%22b%22%2C%20c&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(Challenge::parse("Basic realm=x").unwrap().scheme, "basic");
        assert!(Challenge::parse("Bearer realm=\"open").is_none());
    }
}
