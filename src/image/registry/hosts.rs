//! containerd's `certs.d/<host>/hosts.toml`, and the directories of certificates
//! that docker and podman look into.
//!
//! Directories are looked for as containerd does: `<host>_<port>_`, then
//! `<host>:<port>`, then `_default`; the first that is there counts. Hosts are
//! asked in the order of the file, the file's `server` last. Unlike containerd,
//! which takes unknown keys for typing errors too, we name them.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::image::registry::endpoint::Endpoint;
use crate::image::registry::keyring::host_of;
use crate::image::registry::tls::Trust;
use crate::{Context, Error, Result};

/// What the files below `etc` make of one endpoint. `insecure` is the command
/// line's word for the registry itself.
pub(crate) fn expand(
    etc: &Path,
    endpoint: Endpoint,
    insecure: Option<bool>,
) -> Result<Vec<Endpoint>> {
    let dir = directory(&etc.join("containerd/certs.d"), &endpoint.registry);
    let file = dir.as_ref().map(|d| d.join("hosts.toml"));
    let mut list = match file.as_ref().map(std::fs::read_to_string) {
        Some(Ok(text)) => {
            let dir = dir.as_deref().unwrap_or(etc);
            parse(&text, dir, &endpoint)
                .with_context(|| dir.join("hosts.toml").display().to_string())?
        }
        Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).context(format!("read({})", file.unwrap_or_default().display()));
        }
        _ => {
            let mut one = endpoint;
            if let Some(dir) = dir {
                add_certificates(&mut one.trust, &dir)?;
            }
            vec![one]
        }
    };
    for one in &mut list {
        for family in ["containers", "docker"] {
            let dir = etc.join(family).join("certs.d").join(&one.registry);
            add_certificates(&mut one.trust, &dir)?;
        }
        if insecure.is_some() && !one.mirror {
            one.trust.unverified = insecure == Some(true);
        }
    }
    Ok(list)
}

fn directory(certs: &Path, host: &str) -> Option<PathBuf> {
    let with_port = host
        .rsplit_once(':')
        .map(|(h, port)| format!("{h}_{port}_"));
    with_port
        .into_iter()
        .chain([host.to_owned(), "_default".to_owned()])
        .map(|name| certs.join(name))
        .find(|dir| dir.is_dir())
}

/// docker's: `*.crt` are CAs, `x.cert` with `x.key` is who we are.
fn add_certificates(trust: &mut Trust, dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(e) => return Err(e).context(format!("open({})", dir.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.context("getdents()")?.path());
    }
    files.sort();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => trust.authorities.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                trust.client.get_or_insert((file, key));
            }
            _ => {}
        }
    }
    Ok(())
}

fn parse(text: &str, dir: &Path, from: &Endpoint) -> Result<Vec<Endpoint>> {
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| Error::invalid(e.to_string()))?;
    let mut list = Vec::new();
    if let Some(hosts) = table.get("host") {
        let hosts = hosts
            .as_table()
            .ok_or_else(|| Error::invalid("host is no table"))?;
        for (url, settings) in hosts {
            let settings = settings
                .as_table()
                .ok_or_else(|| Error::invalid(format!("host.{url:?} is no table")))?;
            let mut endpoint =
                one(url, settings, dir, from).with_context(|| format!("host {url:?}"))?;
            endpoint.mirror = true;
            list.push(endpoint);
        }
    }
    let server = match table.get("server") {
        None => String::new(),
        Some(Value::String(url)) => url.clone(),
        Some(_) => return Err(Error::invalid("server is no string")),
    };
    let own: Table = table
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "host" | "server"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut last = one(&server, &own, dir, from).context("server")?;
    last.mirror = from.mirror;
    list.push(last);
    Ok(list)
}

/// One server; an empty `url` is the registry itself.
fn one(url: &str, settings: &Table, dir: &Path, from: &Endpoint) -> Result<Endpoint> {
    let mut e = from.clone();
    let mut path = "";
    if !url.is_empty() {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        e.schemes = match scheme {
            "https" => vec!["https"],
            "http" => vec!["http"],
            _ => return Err(Error::invalid("its scheme is neither https nor http")),
        };
        let (host, after) = rest.split_once('/').unwrap_or((rest, ""));
        path = after.trim_end_matches('/');
        if crate::image::registry::connection::origin(&format!("{scheme}://{host}/")).is_none() {
            return Err(Error::invalid("it is no URL"));
        }
        e.host = host.to_owned();
        e.registry = host_of(host).to_owned();
        if e.registry != from.registry {
            // Another server's certificates and rights are not this one's.
            e.trust = Trust::default();
            e.namespace = Some(from.registry.clone());
        }
    }
    let mut override_path = false;
    for (key, value) in settings {
        let wrong = || Error::invalid(format!("{key} is of the wrong type"));
        match key.as_str() {
            "capabilities" => {
                (e.resolves, e.pulls, e.pushes) = (false, false, false);
                for name in value.as_array().ok_or_else(wrong)? {
                    match name.as_str().ok_or_else(wrong)? {
                        "resolve" => e.resolves = true,
                        "pull" => e.pulls = true,
                        "push" => e.pushes = true,
                        // Of later versions: they take nothing from the others.
                        _ => {}
                    }
                }
            }
            "ca" => e
                .trust
                .authorities
                .extend(paths(value, dir).ok_or_else(wrong)?),
            "client" => {
                e.trust.client = match value {
                    Value::String(both) => Some((dir.join(both), dir.join(both))),
                    Value::Array(list) => match list.first() {
                        Some(Value::Array(pair)) => {
                            let pair = paths(&Value::Array(pair.clone()), dir).ok_or_else(wrong)?;
                            let cert = pair.first().ok_or_else(wrong)?;
                            // An empty key is in the certificate's file.
                            let key = pair.get(1).filter(|k| *k != dir).unwrap_or(cert);
                            Some((cert.clone(), key.clone()))
                        }
                        Some(Value::String(both)) => Some((dir.join(both), dir.join(both))),
                        None => None,
                        _ => return Err(wrong()),
                    },
                    _ => return Err(wrong()),
                };
            }
            "skip_verify" => e.trust.unverified = value.as_bool().ok_or_else(wrong)?,
            "override_path" => override_path = value.as_bool().ok_or_else(wrong)?,
            "header" => {
                for (name, value) in value.as_table().ok_or_else(wrong)? {
                    let values = match value {
                        Value::Array(list) => list.clone(),
                        one => vec![one.clone()],
                    };
                    for value in values {
                        let value = value.as_str().ok_or_else(wrong)?.to_owned();
                        e.headers.push((name.clone(), value));
                    }
                }
            }
            "dial_timeout" => {}
            other => {
                return Err(Error::unsupported(format!("the key {other} is not known")));
            }
        }
    }
    let path = if path.is_empty() {
        String::new()
    } else {
        format!("/{path}")
    };
    e.root = if override_path || path.ends_with("/v2") {
        path
    } else {
        format!("{path}/v2")
    };
    Ok(e)
}

/// One path or a list of paths, below `dir` where they are relative.
fn paths(value: &Value, dir: &Path) -> Option<Vec<PathBuf>> {
    match value {
        Value::String(one) => Some(vec![dir.join(one)]),
        Value::Array(list) => list
            .iter()
            .map(|v| Some(dir.join(v.as_str()?)))
            .map(|p| p.map(|p| p.components().collect()))
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_the_order_of_the_file() {
        let text = r#"
            server = "https://registry-1.docker.io"
            skip_verify = true
            [host."https://z.example/some/path"]
            capabilities = ["pull", "resolve"]
            ca = ["a.crt", "/b.crt"]
            client = [["c.cert", "c.key"]]
            override_path = true
            [host."https://z.example/some/path".header]
            x-one = "1"
            [host."http://a.example:5000/x"]
            capabilities = ["pull"]
        "#;
        let from = Endpoint::new("docker.io", "library/a", None);
        let list = parse(text, Path::new("/d"), &from).unwrap();
        let [z, a, server] = &list[..] else {
            panic!("{list:?}");
        };
        assert_eq!((&*z.host, &*z.root), ("z.example", "/some/path"));
        assert!(z.resolves && z.pulls && !z.pushes && z.mirror);
        assert_eq!(
            z.trust.authorities,
            ["/d/a.crt", "/b.crt"].map(PathBuf::from)
        );
        assert_eq!(
            z.trust.client,
            Some(("/d/c.cert".into(), "/d/c.key".into()))
        );
        assert_eq!(z.headers, [("x-one".to_owned(), "1".to_owned())]);
        assert_eq!(z.namespace.as_deref(), Some("docker.io"));
        assert_eq!((&*a.host, &*a.root), ("a.example:5000", "/x/v2"));
        assert_eq!(a.schemes, ["http"]);
        assert!(!a.resolves && a.pulls && !a.trust.unverified);
        assert_eq!((&*server.registry, &*server.root), ("docker.io", "/v2"));
        assert!(server.trust.unverified && !server.mirror && server.namespace.is_none());
    }

    #[test]
    fn faults_are_errors() {
        let from = Endpoint::new("docker.io", "library/a", None);
        for bad in [
            "server = 3",
            "[host.\"ftp://x\"]",
            "[host.\"https://u@x\"]",
            "[host.\"https://x\"]\nskip_verfy = true",
            "[host.\"https://x\"]\nca = 3",
            "host = 3",
            "server = ",
        ] {
            assert!(parse(bad, Path::new("/d"), &from).is_err(), "{bad}");
        }
        assert_eq!(parse("", Path::new("/d"), &from).unwrap(), [from]);
    }
}
