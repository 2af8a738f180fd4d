//! Where a reference is really asked for: mirrors, rewrites, blocks, plain HTTP
//! and certificates, in the files that a machine already has.
//!
//! Two steps, each in its own format, one after the other:
//!
//! 1. what to ask: `containers/registries.conf` and `registries.conf.d/*.conf`
//!    (containers-registries.conf(5), version 2) refuse the name or turn it
//!    into a list of names, the mirrors first;
//! 2. how to ask it: for the host of each, `containerd/certs.d/<host>/hosts.toml`
//!    turns it into a list of servers. Certificates are in that file, or lie as
//!    `*.crt`, `*.cert` and `*.key` in `containerd`, `docker` and
//!    `containers/certs.d/<host>/`.
//!
//! Short names are Docker Hub's, as Docker and Kubernetes read them:
//! `unqualified-search-registries` and aliases are not looked at, lest one
//! manifest names other images on another machine.
//!
//! A file that cannot be read whole is an error: what it blocks is not known.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::image::registry::endpoint::Endpoint;
use crate::image::registry::hosts;
use crate::image::registry::keyring::host_of;
use crate::image::{PullOptions, Reference};
use crate::{Context, Error, Kind, Result};

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    registry: Vec<Rule>,
    registries: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Rule {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror: Vec<Mirror>,
    mirror_by_digest_only: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// The servers to ask for `r`, in this order; at least one.
pub(crate) fn endpoints(r: &Reference, options: &PullOptions) -> Result<Vec<Endpoint>> {
    let etc = options.etc.as_deref().unwrap_or(Path::new("/etc"));
    let rules = match std::env::var_os("CONTAINERS_REGISTRIES_CONF") {
        Some(one) if options.etc.is_none() => read_rules(&[PathBuf::from(one)])?,
        _ => read_rules(&files(&etc.join("containers"))?)?,
    };
    let mut list = Vec::new();
    for mut endpoint in named(r, &rules)? {
        if let (Some(insecure), false) = (options.insecure, endpoint.mirror) {
            let asked = Endpoint::new(&endpoint.registry, "", Some(insecure));
            endpoint.schemes = asked.schemes;
            endpoint.trust = asked.trust;
        }
        list.extend(hosts::expand(etc, endpoint, options.insecure)?);
    }
    Ok(list)
}

/// `registries.conf`, then the drop-ins by name.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut drop_ins = Vec::new();
    let path = dir.join("registries.conf.d");
    match std::fs::read_dir(&path) {
        Ok(entries) => {
            for entry in entries {
                let file = entry.context("getdents(registries.conf.d)")?.path();
                if file.extension().is_some_and(|e| e == "conf") {
                    drop_ins.push(file);
                }
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).context(format!("open({})", path.display())),
    }
    drop_ins.sort();
    drop_ins.insert(0, dir.join("registries.conf"));
    Ok(drop_ins)
}

fn read_rules(files: &[PathBuf]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for path in files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).context(format!("read({})", path.display())),
        };
        for rule in parse(&text).with_context(|| path.display().to_string())? {
            // A later file replaces the whole of an earlier one's rule.
            rules.retain(|r| r.prefix != rule.prefix);
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn parse(text: &str) -> Result<Vec<Rule>> {
    let file: File = toml::from_str(text).map_err(|e| Error::invalid(e.to_string()))?;
    if file.registries.is_some() {
        return Err(
            Error::unsupported("[registries...] is version 1 of registries.conf")
                .hint("write [[registry]] tables, as containers-registries.conf(5) has them"),
        );
    }
    let mut rules = file.registry;
    for rule in &mut rules {
        if rule.prefix.is_empty() {
            rule.prefix.clone_from(&rule.location);
        }
        if rule.prefix.is_empty() {
            return Err(Error::invalid("a [[registry]] has no prefix or location"));
        }
        if rule.location.is_empty() && !rule.prefix.starts_with("*.") {
            rule.location.clone_from(&rule.prefix);
        }
        for mirror in &rule.mirror {
            if mirror.location.is_empty() {
                return Err(Error::invalid(format!(
                    "a mirror of {} has no location",
                    rule.prefix
                )));
            }
            if !matches!(
                &*mirror.pull_from_mirror,
                "" | "all" | "digest-only" | "tag-only"
            ) {
                return Err(Error::invalid(format!(
                    "pull-from-mirror of {} is {:?}, not all, digest-only or tag-only",
                    mirror.location, mirror.pull_from_mirror
                )));
            }
        }
    }
    Ok(rules)
}

impl Rule {
    /// How many bytes of the reference the prefix covers.
    fn covers(&self, r: &Reference) -> Option<usize> {
        if let Some(domain) = self.prefix.strip_prefix('*') {
            let (host, path) = (r.registry(), self.prefix.split_once('/'));
            // Only whole hosts: the wildcard has no path in that file's format.
            return (path.is_none() && domain.starts_with('.') && host.ends_with(domain))
                .then_some(host.len());
        }
        let whole = r.to_string();
        let rest = whole.strip_prefix(&self.prefix)?;
        (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(self.prefix.len())
    }
}

/// The names that `r` stands for; the registry itself is last.
fn named(r: &Reference, rules: &[Rule]) -> Result<Vec<Endpoint>> {
    let best = rules
        .iter()
        .filter_map(|rule| Some((rule.covers(r)?, rule)))
        // Of a wildcard and a name of the same reach, the name.
        .max_by_key(|(length, rule)| (*length, rule.prefix.len(), !rule.prefix.starts_with('*')));
    let Some((length, rule)) = best else {
        return Ok(vec![Endpoint::new(r.registry(), r.repository(), None)]);
    };
    if rule.blocked {
        return Err(Error::new(
            Kind::Image,
            format!("{} is blocked by registries.conf", rule.prefix),
        )
        .hint("see the [[registry]] of this prefix in /etc/containers"));
    }
    let name = r.name();
    // A prefix may reach into the tag, which is no part of where to ask.
    let rest = name.get(length..).unwrap_or_default();
    let mut list = Vec::new();
    let by_digest = r.digest().is_some();
    for mirror in &rule.mirror {
        let fits = match (mirror.pull_from_mirror.as_str(), rule.mirror_by_digest_only) {
            ("digest-only", _) | ("" | "all", true) => by_digest,
            ("tag-only", _) => !by_digest,
            _ => true,
        };
        if fits {
            let mut endpoint = at(&mirror.location, rest, mirror.insecure)?;
            endpoint.mirror = true;
            list.push(endpoint);
        }
    }
    let location = if rule.location.is_empty() {
        r.registry()
    } else {
        &rule.location
    };
    list.push(at(location, rest, rule.insecure)?);
    Ok(list)
}

fn at(location: &str, rest: &str, insecure: bool) -> Result<Endpoint> {
    let name = format!("{location}{rest}");
    let (host, path) = name.split_once('/').unwrap_or((&name, ""));
    // It becomes part of a URL: the same rules as for a reference.
    let checked: Reference = format!("{host}/{path}")
        .parse()
        .with_context(|| format!("registries.conf: location {location:?}"))?;
    let registry = host_of(checked.registry());
    Ok(Endpoint::new(
        registry,
        checked.repository(),
        insecure.then_some(true),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(conf: &str, name: &str) -> Vec<String> {
        let rules = parse(conf).unwrap();
        let list = named(&name.parse().unwrap(), &rules).unwrap();
        list.iter()
            .map(|e| format!("{}://{}/{}", e.schemes.join("+"), e.host, e.repository))
            .collect()
    }

    #[test]
    fn mirrors_and_rewrites() {
        let conf = r#"
            unqualified-search-registries = ["evil.example"]
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example/hub"
            insecure = true
            [[registry.mirror]]
            location = "digests.example"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "q.example/team"
            location = "inside.example/q"
            [[registry]]
            prefix = "*.wild.example"
            insecure = true
            [[registry]]
            prefix = "wild.example"
            blocked = true
        "#;
        let hex = format!("@sha256:{}", "0".repeat(64));
        for (name, want) in [
            (
                "busybox",
                vec![
                    "https+http://mirror.example/hub/library/busybox",
                    "https://registry-1.docker.io/library/busybox",
                ],
            ),
            (
                &format!("a/b{hex}"),
                vec![
                    "https+http://mirror.example/hub/a/b",
                    "https://digests.example/a/b",
                    "https://registry-1.docker.io/a/b",
                ],
            ),
            ("q.example/team/x:1", vec!["https://inside.example/q/x"]),
            ("q.example/teams/x:1", vec!["https://q.example/teams/x"]),
            ("a.wild.example/x", vec!["https+http://a.wild.example/x"]),
            ("localhost:5000/x", vec!["http+https://localhost:5000/x"]),
        ] {
            assert_eq!(asked(conf, name), want, "{name}");
        }
        let rules = parse(conf).unwrap();
        let e = named(&"wild.example/a".parse().unwrap(), &rules).unwrap_err();
        assert!(e.to_string().contains("blocked"), "{e}");
    }

    #[test]
    fn the_longest_prefix_wins_and_may_reach_into_the_tag() {
        let conf = r#"
            [[registry]]
            location = "q.example"
            blocked = true
            [[registry]]
            prefix = "q.example/a"
            location = "one.example"
            [[registry]]
            prefix = "q.example/a/b:1"
            location = "two.example/b"
        "#;
        // A location of one word is a host with the prefix's rest as its path.
        assert_eq!(asked(conf, "q.example/a/b:2"), ["https://one.example/b"]);
        assert_eq!(asked(conf, "q.example/a/b:1"), ["https://two.example/b"]);
    }

    #[test]
    fn faults_are_errors() {
        for bad in [
            "[[registry]]\nblocked = true",
            "[registries.search]\nregistries = [\"x\"]",
            "[[registry]]\nlocation = 3",
            "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\ninsecure = true",
            "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"x\"",
            "[[registry",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let rules = parse("[[registry]]\nprefix = \"a.b\"\nlocation = \"c@d\"").unwrap();
        named(&"a.b/x".parse().unwrap(), &rules).unwrap_err();
    }
}
