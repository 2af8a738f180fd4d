//! How one shows who one is: the challenges of RFC 9110 (Basic) and of the
//! distribution project's token scheme (Bearer). Whose credentials: `keyring`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;

use crate::image::Credentials;

/// The user name of a password that is an OAuth 2 refresh token, as credential
/// helpers have it.
pub(crate) const IDENTITY: &str = "<token>";

/// The value of an `Authorization: Basic` header.
pub(crate) fn basic(c: &Credentials) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", c.username, c.password))
    )
}

/// A parsed `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case: `basic`, `bearer`.
    pub scheme: String,
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub(crate) fn parse(header: &str) -> Option<Self> {
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
    pub(crate) fn token_url(&self, scopes: &[String]) -> Option<String> {
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
    pub(crate) fn refresh(&self, token: &str, scopes: &[String]) -> Option<(String, String)> {
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

pub(crate) fn percent(s: &str) -> String {
    s.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
