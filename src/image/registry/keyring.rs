//! Whose credentials: what `docker login`, `podman login` and credential
//! helpers have left on this machine, and a Pod's imagePullSecrets.
//!
//! The first of these that has an entry for the repository wins:
//!
//! 1. imagePullSecrets, in the Pod's order;
//! 2. `$REGISTRY_AUTH_FILE`, which stands in for all of 3 (containers-auth.json(5));
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/<uid>/auth.json`
//!    without it), `$XDG_CONFIG_HOME/containers/auth.json`, and
//!    `$DOCKER_CONFIG/config.json` (`~/.docker/config.json`).
//!
//! Within a file: the helper that `credHelpers` names for the host, then the
//! longest key of `auths` that leads to the repository, then `credsStore`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::image::Credentials;
use crate::spec::{PullSecret, RegistryAuth};
use crate::{Context, Error, Ignored, Kind, Result};

const MAX_FILE: u64 = 1 << 20;
/// A helper may ask a keychain over the network, but not a person.
const HELPER_PATIENCE: Duration = Duration::from_secs(30);
/// What helpers take for Docker Hub, since the days of its first API.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// A parsed `config.json`, `auth.json` or pull secret.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Keyring {
    auths: BTreeMap<String, RegistryAuth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.auths.keys()).finish()
    }
}

impl Keyring {
    /// A docker `config.json`; the value of `.dockerconfigjson`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Ok(serde_json::from_slice(text)?)
    }

    /// What a Pod's imagePullSecret has.
    pub fn from_secret(secret: &PullSecret) -> Result<Self> {
        Ok(Keyring {
            auths: secret.auths()?,
            ..Keyring::default()
        })
    }

    /// The credentials for a repository: `docker.io`, `library/busybox`.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>> {
        let host = host_of(registry);
        let helper = self.helpers.iter().find(|(key, _)| host_of(key) == host);
        if let Some((_, name)) = helper {
            return ask_helper(name, host);
        }
        let best = self
            .auths
            .iter()
            .filter(|(_, entry)| !entry.is_empty())
            .filter_map(|(key, entry)| Some((reach(key, host, repository)?, key, entry)))
            .max_by_key(|(length, ..)| *length);
        if let Some((_, key, entry)) = best {
            return credentials(entry, key).map(Some);
        }
        match self.store.as_str() {
            "" => Ok(None),
            name => ask_helper(name, host),
        }
    }
}

/// Those of the entry with this key.
fn credentials(entry: &RegistryAuth, key: &str) -> Result<Credentials> {
    if !entry.identity_token.is_empty() {
        return Ok(Credentials {
            username: crate::image::registry::auth::IDENTITY.to_owned(),
            password: entry.identity_token.clone(),
        });
    }
    if entry.auth.is_empty() || !entry.username.is_empty() {
        return Ok(Credentials {
            username: entry.username.clone(),
            password: entry.password.clone(),
        });
    }
    let (username, password) = entry
        .decode()
        .ok_or_else(|| Error::invalid(format!("auths: {key}: auth is malformed")))?;
    Ok(Credentials { username, password })
}

/// How much of the repository's name `key` covers; `None` if it is another's.
/// The host may have `*` for whole labels, as the kubelet takes it.
fn reach(key: &str, host: &str, repository: &str) -> Option<usize> {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let path = bare.split_once('/').map_or("", |(_, path)| path);
    // The API's version is no part of a repository's name.
    let path = match path.trim_end_matches('/') {
        "v1" | "v2" => "",
        path => path,
    };
    let pattern = host_of(key);
    let same = pattern == host
        || (pattern.split('.').count() == host.split('.').count()
            && pattern
                .split('.')
                .zip(host.split('.'))
                .all(|(p, h)| p == "*" || p == h));
    let below = path.is_empty()
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (same && below).then(|| 2 * path.len() + usize::from(pattern == host))
}

/// Keys are hosts, hosts with a path, or URLs of the days of
/// `https://index.docker.io/v1/`.
pub(crate) fn host_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// What this machine has for the repository.
pub(crate) fn stored(registry: &str, repository: &str) -> Result<Option<Credentials>> {
    for path in files(|name| std::env::var_os(name).filter(|v| !v.is_empty())) {
        let found = read(&path)
            .and_then(|ring| ring.map_or(Ok(None), |r| r.find(registry, repository)))
            .with_context(|| path.display().to_string())?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn files(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    if let Some(one) = variable("REGISTRY_AUTH_FILE") {
        return vec![one.into()];
    }
    let home = PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into()));
    let runtime = variable("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/containers/{}", nix::unistd::geteuid())),
        |dir| PathBuf::from(dir).join("containers"),
    );
    let config = variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), Into::into);
    let docker = variable("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), Into::into);
    vec![
        runtime.join("auth.json"),
        config.join("containers/auth.json"),
        docker.join("config.json"),
    ]
}

fn read(path: &Path) -> Result<Option<Keyring>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context("open()"),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut text)
        .context("read()")?;
    Keyring::parse(&text).map(Some)
}

/// `docker-credential-<name> get`, with the server on stdin and JSON on stdout.
fn ask_helper(name: &str, host: &str) -> Result<Option<Credentials>> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    // It becomes part of a program's name.
    if name.is_empty() || !name.bytes().all(word) {
        return Err(Error::invalid(format!(
            "{name:?} is no credential helper's name"
        )));
    }
    let program = format!("docker-credential-{name}");
    let server = if host == "docker.io" {
        HUB_SERVER
    } else {
        host
    };
    run_helper(&program, server).with_context(|| format!("{program} get"))
}

fn run_helper(program: &str, server: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let failed = |text: &str| {
        let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        Error::new(Kind::Image, text)
    };
    log::debug!("ask the credential helper {program:?}");
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("exec()")
        .map_err(|e| e.hint("install the helper, or take it out of the file that names it"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(server.as_bytes())
            .ignored("a helper that does not read its input says so by its status");
    }
    let stdout = child.stdout.take();
    // A helper that hangs is killed, and its end of the pipe with it; a
    // grandchild that keeps the pipe open costs a thread, not the pull.
    let (sender, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(out) = stdout {
            out.take(MAX_FILE)
                .read_to_end(&mut text)
                .ignored("an answer that is cut short is refused as no JSON");
        }
        sender
            .send(text)
            .ignored("nobody waits any more after the deadline");
    });
    let deadline = Instant::now() + HELPER_PATIENCE;
    let text = answer.recv_timeout(HELPER_PATIENCE).ok();
    let status = loop {
        match child.try_wait().context("wait4()")? {
            Some(status) => break status,
            None if text.is_some() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            None => {
                child.kill().ignored("the helper may have ended already");
                child
                    .wait()
                    .ignored("that the helper gave no answer is the error to tell");
                return Err(failed("no answer in 30 s"));
            }
        }
    };
    let text = text.unwrap_or_default();
    if !status.success() {
        let said = String::from_utf8_lossy(&text);
        // The protocol has no other sign of it than these words.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(&format!("{status}: {}", said.trim())));
    }
    let answer: Answer =
        serde_json::from_slice(&text).map_err(|_| failed("its answer is not what it should be"))?;
    Ok(Some(Credentials {
        username: answer.username,
        password: answer.secret,
    }))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn user(ring: &Keyring, registry: &str, repository: &str) -> Option<String> {
        let found = ring.find(registry, repository).unwrap();
        found.map(|c| format!("{}:{}", c.username, c.password))
    }

    #[test]
    fn docker_config() {
        let text = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "localhost:5000": {"username": "u", "password": "p"},
            "azure.example": {"auth": "eDp5", "identitytoken": "t"},
            "helper.example": {}, "bad.example": {"auth": "!"}}}"#;
        let ring = Keyring::parse(text).unwrap();
        assert_eq!(user(&ring, "docker.io", "library/a").unwrap(), "user:pa:ss");
        assert_eq!(user(&ring, "localhost:5000", "a").unwrap(), "u:p");
        assert_eq!(user(&ring, "azure.example", "a").unwrap(), "<token>:t");
        assert!(user(&ring, "localhost", "a").is_none());
        assert!(user(&ring, "helper.example", "a").is_none());
        assert!(ring.find("bad.example", "a").is_err());
        assert!(!format!("{ring:?}").contains("dXNl"));
    }

    #[test]
    fn the_longest_key_wins() {
        let text = br#"{"auths": {
            "q.example": {"username": "host"}, "q.example/a": {"username": "a"},
            "q.example/a/b/": {"username": "ab"}, "*.example": {"username": "any"},
            "docker.io/library": {"username": "lib"}}}"#;
        let ring = Keyring::parse(text).unwrap();
        for (registry, repository, want) in [
            ("q.example", "x", Some("host:")),
            ("q.example", "a", Some("a:")),
            ("q.example", "a/x", Some("a:")),
            ("q.example", "ab", Some("host:")),
            ("q.example", "a/b", Some("ab:")),
            ("q.example", "a/b/c", Some("ab:")),
            ("r.example", "a", Some("any:")),
            ("x.r.example", "a", None),
            ("docker.io", "library/busybox", Some("lib:")),
            ("docker.io", "user/busybox", None),
            ("q.example:5000", "a", None),
        ] {
            let found = user(&ring, registry, repository);
            assert_eq!(found.as_deref(), want, "{registry}/{repository}");
        }
    }

    #[test]
    fn files_in_their_order() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.to_vec();
            files(move |n| set.iter().find(|(k, _)| *k == n).map(|(_, v)| (*v).into()))
        };
        assert_eq!(with(&[("REGISTRY_AUTH_FILE", "/x")]), [PathBuf::from("/x")]);
        let all = with(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]);
        let want = [
            "/r/containers/auth.json",
            "/h/.config/containers/auth.json",
            "/h/.docker/config.json",
        ];
        assert_eq!(all, want.map(PathBuf::from));
    }

    #[test]
    fn pull_secrets() {
        let json = r#"{"auths":{"r.example":{"username":"u","password":"p"}},"credsStore":"evil"}"#;
        let mut document = serde_json::json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": BASE64_STANDARD.encode(json)},
        });
        let read = |document: &serde_json::Value| {
            Keyring::from_secret(&PullSecret::new("s".into(), document.clone()))
        };
        let ring = read(&document).unwrap();
        assert_eq!(user(&ring, "r.example", "a").unwrap(), "u:p");
        assert!(user(&ring, "other.example", "a").is_none());
        document["type"] = "kubernetes.io/dockercfg".into();
        assert!(read(&document).is_err());
        document["stringData"] =
            serde_json::json!({".dockercfg": r#"{"r.example":{"auth":"dTpw"}}"#});
        let ring = read(&document).unwrap();
        assert_eq!(user(&ring, "r.example", "a").unwrap(), "u:p");
        document["type"] = "Opaque".into();
        assert!(read(&document).is_err());
    }

    #[test]
    fn helpers() {
        let dir = std::env::temp_dir().join(format!("carob-helper-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\nread -r server\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let good = write(
            "good",
            r#"echo "{\"ServerURL\":\"$server\",\"Username\":\"$server\",\"Secret\":\"s\"}""#,
        );
        let none = write(
            "none",
            "echo credentials not found in native keychain; exit 1",
        );
        let bad = write("bad", "echo locked; exit 2");
        let c = run_helper(&good, "r.example").unwrap().unwrap();
        assert_eq!((&*c.username, &*c.password), ("r.example", "s"));
        assert!(run_helper(&none, "r.example").unwrap().is_none());
        let e = run_helper(&bad, "r.example").unwrap_err().to_string();
        assert!(e.contains("locked"), "{e}");
        let e = run_helper("/nonexistent/helper", "r.example").unwrap_err();
        assert!(e.get_hint().is_some());
        assert!(ask_helper("../x", "r.example").is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
