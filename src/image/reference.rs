//! Image references as Docker and Kubernetes read them.
//!
//! The grammar is that of the distribution project's reference package:
//! `[domain[:port]/]path[:tag][@digest]`. A first component without `.`, `:` or
//! an upper-case letter, and other than `localhost`, belongs to the path; the
//! domain is then `docker.io`, and a path of one component is below `library/`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;
use crate::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Registry and repository together, as the distribution project bounds them.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A normalized reference. It always has a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Host and, if given, port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }
    /// The path at the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    /// `sha256:<64 hex digits>`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What a manifest is asked for by: the digest if there is one, as the
    /// digest is the stronger promise, or the tag.
    pub fn selector(&self) -> &str {
        self.digest().or(self.tag()).unwrap_or(DEFAULT_TAG)
    }

    /// Registry and repository without tag or digest, in canonical form.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short form that people type: `busybox:latest`.
    pub fn familiar(&self) -> String {
        let name = if self.registry == DEFAULT_REGISTRY {
            let path = self.repository.as_str();
            match path.strip_prefix(DEFAULT_NAMESPACE) {
                Some(rest) if !rest.contains('/') => rest.to_owned(),
                _ => path.to_owned(),
            }
        } else {
            self.name()
        };
        let short = self.with_suffix(name);
        // Without docker.io in front, a path may begin as a registry's name does.
        match short.parse::<Reference>() {
            Ok(read) if read == *self => short,
            _ => self.to_string(),
        }
    }

    /// The same by its tag alone, if it has one.
    pub fn without_digest(&self) -> Option<Reference> {
        self.tag.as_ref()?;
        Some(Reference {
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository by digest alone.
    pub fn at(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest);
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl From<Reference> for String {
    fn from(r: Reference) -> Self {
        r.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        parse(s).map_err(|why| {
            Error::invalid(format!("InvalidImageName: {s:?}: {why}"))
                .hint("an image is named [registry[:port]/]repository[:tag][@sha256:digest]")
        })
    }
}

fn parse(s: &str) -> std::result::Result<Reference, String> {
    if s.is_empty() {
        return Err("the name is empty".into());
    }
    if s.contains("://") {
        return Err("a reference has no scheme such as https://".into());
    }
    if let Some(c) = s.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("it holds the character {c:?}"));
    }
    let (rest, digest) = match s.split_once('@') {
        Some((rest, digest)) => {
            Digest::parse(digest).map_err(|e| e.to_string())?;
            (rest, Some(digest.to_owned()))
        }
        None => (s, None),
    };
    // A colon after the last slash starts the tag; one before it, a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !name.is_empty() => (name, Some(tag)),
        Some(("", _)) => return Err("the repository is empty".into()),
        _ => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    // With a tag or a registry it is a name, if a strange one.
    if s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id, not a name".into());
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" {
        DEFAULT_REGISTRY
    } else {
        registry
    };
    check_registry(registry)?;
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{DEFAULT_NAMESPACE}{path}")
    } else {
        path.to_owned()
    };
    if path.is_empty() {
        return Err("the repository is empty".into());
    }
    for component in path.split('/') {
        check_component(component)?;
    }
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("the name is longer than {MAX_NAME} characters"));
    }
    let tag = tag
        .map(str::to_owned)
        .or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

fn is_domain(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> std::result::Result<(), String> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (ip, after) = rest
                .split_once(']')
                .ok_or_else(|| format!("the registry {registry} lacks a ]"))?;
            ip.parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("the registry {registry} is no IPv6 address"))?;
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return Err(format!("the registry {registry} is malformed")),
            }
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    if let Some(port) = port
        && port.parse::<u16>().map_or(true, |p| p == 0)
    {
        return Err(format!("{port:?} is no port (1 to 65535)"));
    }
    let valid = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match host {
        Some(host) if !host.split('.').all(valid) => {
            Err(format!("the registry {host:?} is no host name"))
        }
        _ => Ok(()),
    }
}

fn check_tag(tag: &str) -> std::result::Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if tag.is_empty() {
        return Err("the tag is empty".into());
    }
    if tag.len() > MAX_TAG {
        return Err(format!("the tag is longer than {MAX_TAG} characters"));
    }
    if !word(tag.as_bytes()[0]) || !tag.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
        return Err(format!(
            "the tag {tag:?} may hold letters, digits, _ . and -, and starts with none of the last two"
        ));
    }
    Ok(())
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any
/// number of `-`.
fn check_component(component: &str) -> std::result::Result<(), String> {
    if component.is_empty() {
        return Err("the repository has an empty component".into());
    }
    if component.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!(
            "the repository must be lower case; {component:?} is not"
        ));
    }
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if let Some(c) = component
        .chars()
        .find(|c| !c.is_ascii() || !(alnum(*c as u8) || matches!(c, '.' | '_' | '-')))
    {
        return Err(format!("the repository holds the character {c:?}"));
    }
    let separators_fit = component
        .split(|c: char| c.is_ascii_alphanumeric())
        .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
    let bytes = component.as_bytes();
    if !separators_fit || !alnum(bytes[0]) || !alnum(bytes[bytes.len() - 1]) {
        return Err(format!(
            "{component:?} must be lower-case letters and digits, joined by . or _ or __ or -"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn normalizes_as_docker_does() {
        for (from, canonical, familiar) in [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            (
                "library/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            ("docker.io/a/b/c:t", "docker.io/a/b/c:t", "a/b/c:t"),
            (
                "docker.io/evil.example/a:t",
                "docker.io/evil.example/a:t",
                "docker.io/evil.example/a:t",
            ),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/app",
                "localhost:5000/app:latest",
                "localhost:5000/app:latest",
            ),
            (
                "LOCALHOST/app",
                "LOCALHOST/app:latest",
                "LOCALHOST/app:latest",
            ),
            ("[::1]:5000/app:x", "[::1]:5000/app:x", "[::1]:5000/app:x"),
            (
                "127.0.0.1:5000/a/b",
                "127.0.0.1:5000/a/b:latest",
                "127.0.0.1:5000/a/b:latest",
            ),
            (
                "quay.io/a/b-c_d__e.f:T_1.2-3",
                "quay.io/a/b-c_d__e.f:T_1.2-3",
                "quay.io/a/b-c_d__e.f:T_1.2-3",
            ),
            ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
            ("docker.io/a", "docker.io/library/a:latest", "a:latest"),
            ("Host/a:1", "Host/a:1", "Host/a:1"),
            (
                "localhosts/a",
                "docker.io/localhosts/a:latest",
                "localhosts/a:latest",
            ),
            ("a.b/c", "a.b/c:latest", "a.b/c:latest"),
            ("a_b/c", "docker.io/a_b/c:latest", "a_b/c:latest"),
            ("foo:5000", "docker.io/library/foo:5000", "foo:5000"),
        ] {
            let r: Reference = from.parse().unwrap();
            assert_eq!(r.to_string(), canonical, "{from}");
            assert_eq!(r.familiar(), familiar, "{from}");
            assert_eq!(canonical.parse::<Reference>().unwrap(), r);
            assert_eq!(familiar.parse::<Reference>().unwrap(), r);
        }
    }

    #[test]
    fn keeps_digests() {
        let r: Reference = format!("busybox@{HEX}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (None, Some(HEX)));
        assert_eq!(r.to_string(), format!("docker.io/library/busybox@{HEX}"));
        let r: Reference = format!("localhost:5000/a:b@{HEX}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (Some("b"), Some(HEX)));
        assert_eq!(r.selector(), HEX);
        assert_eq!(r.to_string(), format!("localhost:5000/a:b@{HEX}"));
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            ":",
            "/",
            ":tag",
            "a:",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/B",
            "a b",
            "a\nb",
            "a:t/b:",
            "https://docker.io/a",
            "a@sha256:12",
            "a@md5:00",
            "a@",
            "-a",
            "a-",
            "a..b",
            "a___b",
            ".a",
            "a.",
            "a:-x",
            "a:.x",
            "localhost:0/a",
            "localhost:99999/a",
            "localhost:x/a",
            "[::1/a",
            "[zz]/a",
            "ä",
            "a:ü",
            "../a",
            "a/../b",
            "x.y:/a",
            "ex-.com/a",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            &long,
            &tag,
        ] {
            let e = bad.parse::<Reference>().expect_err(bad);
            assert_eq!(e.kind(), crate::Kind::Invalid);
            assert!(e.to_string().starts_with("InvalidImageName: "), "{e}");
        }
    }
}
