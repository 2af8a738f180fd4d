//! One repository at a registry: the pulling half of the distribution-spec.
//!
//! Rules that hold for every request:
//! - credentials and tokens go to the origin that asked for them and never
//!   along a redirect to another (scheme, host and port);
//! - a redirect never leads from HTTPS to plain HTTP;
//! - every wait has an end, every body a bound;
//! - what may pass by itself (no connection, 429, 5xx) is tried three times.
//!
//! Plain HTTP is spoken only to loopback, or where the caller said `insecure`.

use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::auth::{self, Challenge};
use super::connection::{agent, is_loopback, join, origin};
use super::digest::Digest;
use super::{Credentials, PullOptions, Reference};
use crate::{Error, Kind, Result};

const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A registry's Retry-After is obeyed up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
const MAX_REDIRECTS: usize = 5;
/// A token, or the text of an error.
const MAX_SMALL_BODY: u64 = 1 << 20;
/// A blob whose connection breaks this often is given up, however far it came.
const MAX_RESUMES: u32 = 20;

pub struct Registry {
    /// As the reference has it; for errors.
    name: String,
    /// Host and port that serve it.
    host: String,
    repository: String,
    insecure: Option<bool>,
    credentials: Option<Credentials>,
    agent: Agent,
    /// What this registry turned out to speak; empty until it has answered.
    scheme: Mutex<&'static str>,
    /// The Authorization header that it last accepted.
    authorization: Mutex<Option<String>>,
}

impl Registry {
    pub fn new(r: &Reference, options: &PullOptions) -> Result<Self> {
        let host = match r.registry() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let credentials = match &options.credentials {
            Some(c) => Some(c.clone()),
            None => auth::stored(r.registry())?,
        };
        Ok(Registry {
            name: r.registry().to_owned(),
            host: host.to_owned(),
            repository: r.repository().to_owned(),
            insecure: options.insecure,
            credentials,
            agent: agent(is_loopback(host), options.insecure == Some(true))?,
            scheme: Mutex::new(""),
            authorization: Mutex::new(None),
        })
    }

    /// A manifest or index by tag or digest, with its declared media type. At
    /// most `limit` bytes; a digest in `selector` is the caller's to verify.
    pub fn manifest(&self, selector: &str, accept: &str, limit: u64) -> Result<(Vec<u8>, String)> {
        let path = format!("/v2/{}/manifests/{selector}", self.repository);
        self.retrying(|| {
            let response = self.get(&path, Some(accept), 0)?;
            let media_type = response
                .headers()
                .get(header::CONTENT_TYPE)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            Ok((self.body(response, limit, "manifest")?, media_type))
        })
    }

    /// A small blob, whole. Not verified.
    pub fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        self.retrying(|| self.body(self.get(&path, None, 0)?, limit, "blob"))
    }

    /// A blob as a stream of at most `size` bytes, which goes on where it was
    /// when a connection breaks. Not verified.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob<'_>> {
        let mut blob = Blob {
            registry: self,
            path: self.blob_path(digest),
            size,
            offset: 0,
            good_offset: 0,
            body: None,
            tries: 0,
            resumes: 0,
        };
        blob.body = Some(self.retrying(|| blob.request())?);
        Ok(blob)
    }

    fn blob_path(&self, digest: &Digest) -> String {
        format!("/v2/{}/blobs/{digest}", self.repository)
    }

    fn body(&self, response: Response<Body>, limit: u64, what: &str) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader()
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::passing(self.error(&format!("read the {what}: {e}"))))?;
        if bytes.len() as u64 > limit {
            return Err(Failure::lasting(
                self.error(&format!("the {what} is larger than {limit} bytes")),
            ));
        }
        Ok(bytes)
    }

    fn retrying<T>(&self, attempt: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match attempt() {
                Err(f) if f.passing => {
                    std::thread::sleep(f.retry_after.unwrap_or(pause).min(LONGEST_PAUSE));
                    pause *= 2;
                }
                other => return other.map_err(|f| f.error),
            }
        }
        attempt().map_err(|f| f.error)
    }

    /// A GET below the registry, authorized as it asks; 200 and 206 only.
    fn get(&self, path: &str, accept: Option<&str>, from: u64) -> Result<Response<Body>, Failure> {
        let known = *lock(&self.scheme);
        let schemes: &[&'static str] = match (known, self.insecure) {
            ("http", _) => &["http"],
            ("https", _) => &["https"],
            (_, Some(true)) => &["https", "http"],
            (_, Some(false)) => &["https"],
            (_, None) if is_loopback(&self.host) => &["http", "https"],
            (_, None) => &["https"],
        };
        let mut last = None;
        for scheme in schemes {
            let base = format!("{scheme}://{}", self.host);
            match self.get_authorized(&base, path, accept, from) {
                // A TLS server answers plain HTTP with 400 at best.
                Ok(r) if *scheme == "http" && schemes.len() > 1 && r.status() == 400 => {}
                Ok(response) => {
                    *lock(&self.scheme) = scheme;
                    return self.judge(response, from);
                }
                Err(f) if f.no_answer => last = last.or(Some(f)),
                Err(f) => return Err(f),
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::lasting(self.error("it speaks neither HTTPS nor plain HTTP"))
        }))
    }

    fn get_authorized(
        &self,
        base: &str,
        path: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response<Body>, Failure> {
        let url = format!("{base}{path}");
        let before = lock(&self.authorization).clone();
        let response = self.follow(&url, before.as_deref(), accept, from)?;
        if response.status() != 401 {
            return Ok(response);
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| Challenge::parse(v.to_str().ok()?))
            .collect();
        let Some(value) = self.answer(base, &challenges)? else {
            return Ok(response);
        };
        *lock(&self.authorization) = Some(value.clone());
        self.follow(&url, Some(&value), accept, from)
    }

    /// The Authorization that a challenge asks for, if there can be one.
    fn answer(&self, base: &str, challenges: &[Challenge]) -> Result<Option<String>, Failure> {
        let basic = self.credentials.as_ref().map(auth::basic);
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            let url = bearer.token_url(&self.repository).ok_or_else(|| {
                Failure::lasting(self.error("its challenge names no token server (realm)"))
            })?;
            // Whoever reads plain HTTP here could read the registry's too.
            if !url.starts_with("https://") && !base.starts_with("http://") {
                return Err(Failure::lasting(
                    self.error(&format!("its token server {url} is not HTTPS")),
                ));
            }
            let response = self.follow(&url, basic.as_deref(), None, 0)?;
            if matches!(response.status().as_u16(), 400 | 401 | 403) {
                return Err(Failure::lasting(self.denied(&format!(
                    "the token server answers {}",
                    response.status()
                ))));
            }
            let response = self.judge(response, 0)?;
            let bytes = self.body(response, MAX_SMALL_BODY, "token")?;
            #[derive(serde::Deserialize)]
            struct Token {
                #[serde(default)]
                token: String,
                #[serde(default)]
                access_token: String,
            }
            let token: Token = serde_json::from_slice(&bytes)
                .map_err(|e| Failure::lasting(self.error(&format!("its token: {e}"))))?;
            let token = if token.token.is_empty() {
                token.access_token
            } else {
                token.token
            };
            return Ok(Some(format!("Bearer {token}")).filter(|v| v.len() > 7));
        }
        Ok(basic.filter(|_| challenges.iter().any(|c| c.scheme == "basic")))
    }

    /// A GET through redirects. `authorization` is for the first origin alone.
    fn follow(
        &self,
        url: &str,
        authorization: Option<&str>,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        let first = origin(&url).ok_or_else(|| self.bad_url(&url))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(accept) = accept {
                request = request.header(header::ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if let Some(value) = authorization
                && origin(&url).as_ref() == Some(&first)
            {
                request = request.header(header::AUTHORIZATION, value);
            }
            let response = request.call().map_err(|e| self.no_answer(&url, e))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            let next = join(&url, location).ok_or_else(|| self.bad_url(location))?;
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err(Failure::lasting(
                    self.error("it redirects from HTTPS to plain HTTP"),
                ));
            }
            url = next;
        }
        Err(Failure::lasting(
            self.error(&format!("more than {MAX_REDIRECTS} redirects")),
        ))
    }

    /// A status to a success, or to an error that says what to do.
    fn judge(&self, response: Response<Body>, from: u64) -> Result<Response<Body>, Failure> {
        let status = response.status();
        match status.as_u16() {
            200 => return Ok(response),
            206 if from > 0 => return Ok(response),
            _ => {}
        }
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = self
            .body(response, MAX_SMALL_BODY, "error")
            .map(|b| said(&b))
            .unwrap_or_default();
        let text = format!("{status}{text}");
        Err(match status.as_u16() {
            401 | 403 => Failure::lasting(self.denied(&text)),
            404 => {
                Failure::lasting(self.error(&text).hint(
                    "check the repository and the tag; a private one may hide behind this too",
                ))
            }
            429 => Failure {
                retry_after,
                ..Failure::passing(
                    self.error(&text)
                        .hint("the registry limits pulls: wait, or log in with docker login"),
                )
            },
            500..=599 => Failure {
                retry_after,
                ..Failure::passing(self.error(&text))
            },
            _ => Failure::lasting(self.error(&text)),
        })
    }

    fn no_answer(&self, url: &str, e: ureq::Error) -> Failure {
        let at = origin(url).unwrap_or_default();
        let text = match &e {
            ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
            other => other.to_string(),
        };
        let mut error = Error::new(
            Kind::Image,
            format!("registry {}: GET {at}: {text}", self.name),
        );
        let tls = text.contains("ertificate") || matches!(e, ureq::Error::Tls(_));
        if tls {
            error = error.hint(
                "install the registry's CA in the system's bundle, or name it in SSL_CERT_FILE",
            );
        } else if self.insecure.is_none() && text.contains("InvalidContentType") {
            error = error.hint("it speaks plain HTTP, perhaps: --insecure allows that");
        }
        Failure {
            // A wrong certificate is as wrong the next time.
            passing: !tls,
            no_answer: true,
            retry_after: None,
            error,
        }
    }

    fn bad_url(&self, url: &str) -> Failure {
        Failure::lasting(self.error(&format!("it leads to {url:?}, which is no URL")))
    }

    fn denied(&self, text: &str) -> Error {
        let hint = if self.credentials.is_some() {
            "the credentials for this registry are not accepted"
        } else {
            "log in with docker login, or give the Pod an imagePullSecret"
        };
        self.error(text).hint(hint)
    }

    fn error(&self, text: &str) -> Error {
        Error::new(Kind::Image, format!("registry {}: {text}", self.name))
    }
}

/// An attempt that failed, and whether another may not.
struct Failure {
    error: Error,
    passing: bool,
    /// Nobody answered, or not in this protocol.
    no_answer: bool,
    retry_after: Option<Duration>,
}

impl Failure {
    fn lasting(error: Error) -> Self {
        Failure {
            error,
            passing: false,
            no_answer: false,
            retry_after: None,
        }
    }
    fn passing(error: Error) -> Self {
        Failure {
            passing: true,
            ..Self::lasting(error)
        }
    }
}

pub struct Blob<'a> {
    registry: &'a Registry,
    path: String,
    size: u64,
    offset: u64,
    /// Where the connection at hand began; progress since then earns new tries.
    good_offset: u64,
    body: Option<Box<dyn Read + Send>>,
    tries: u32,
    resumes: u32,
}

impl Blob<'_> {
    /// A body that starts at `offset`.
    fn request(&self) -> Result<Box<dyn Read + Send>, Failure> {
        let registry = self.registry;
        let response = registry.get(&self.path, None, self.offset)?;
        let left = self.size - self.offset;
        if response.status() == 206 {
            let range = response
                .headers()
                .get(header::CONTENT_RANGE)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            if !range.starts_with(&format!("bytes {}-", self.offset)) {
                return Err(Failure::lasting(registry.error(&format!(
                    "asked for bytes from {}, it sends {range:?}",
                    self.offset
                ))));
            }
            return Ok(reader(response, left));
        }
        if let Some(length) = response.body().content_length()
            && length != self.size
        {
            return Err(Failure::lasting(registry.error(&format!(
                "the blob has {length} bytes, not {} as the manifest says",
                self.size
            ))));
        }
        // Ranges are optional for a registry: pass what is known.
        let mut body = reader(response, self.size);
        let passed = io::copy(&mut (&mut body).take(self.offset), &mut io::sink())
            .map_err(|e| Failure::passing(registry.error(&e.to_string())))?;
        if passed < self.offset {
            return Err(Failure::passing(
                registry.error("the connection ended early"),
            ));
        }
        Ok(body)
    }
}

fn reader(response: Response<Body>, limit: u64) -> Box<dyn Read + Send> {
    let body = response.into_body().into_with_config().limit(u64::MAX);
    Box::new(body.reader().take(limit))
}

impl Read for Blob<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.offset == self.size {
            return Ok(0);
        }
        loop {
            let error = match self.body.as_mut().map(|b| b.read(buf)) {
                Some(Ok(n)) if n > 0 => {
                    self.offset += n as u64;
                    return Ok(n);
                }
                Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Some(Err(e)) => e.to_string(),
                Some(Ok(_)) => "the connection ended early".to_owned(),
                None => String::new(),
            };
            self.body = None;
            if self.offset > self.good_offset {
                self.tries = 0;
            }
            self.good_offset = self.offset;
            self.tries += 1;
            self.resumes += 1;
            if self.tries > TRIES || self.resumes > MAX_RESUMES {
                return Err(io::Error::other(format!(
                    "registry {}: after {} of {} bytes: {error}",
                    self.registry.name, self.offset, self.size
                )));
            }
            std::thread::sleep(FIRST_PAUSE * (1 << (self.tries - 1)));
            match self.request() {
                Ok(body) => self.body = Some(body),
                Err(f) if f.passing && self.tries < TRIES => {}
                Err(f) => return Err(io::Error::other(f.error.to_string())),
            }
        }
    }
}

/// The first error in a registry's own words: `: manifest unknown (CODE)`.
fn said(body: &[u8]) -> String {
    let Ok(v) = serde_json::from_slice::<serde_json::Value>(body) else {
        return String::new();
    };
    let error = &v["errors"][0];
    let word = |key: &str| -> String {
        let text = error[key].as_str().unwrap_or_default();
        text.chars().filter(|c| !c.is_control()).take(200).collect()
    };
    match (word("message"), word("code")) {
        (m, c) if m.is_empty() && c.is_empty() => String::new(),
        (m, c) => format!(": {m} ({c})"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
