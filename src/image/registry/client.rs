//! One repository at one server, as the distribution-spec has it.
//!
//! Rules that hold for every request:
//! - credentials, tokens, our client certificate and configured headers go to
//!   the origin that asked for them and never along a redirect to another
//!   (scheme, host and port), nor to a token server that such another names;
//! - a redirect never leads from HTTPS to plain HTTP, a token server that is to
//!   see credentials not to plain HTTP beyond this machine;
//! - every wait has an end, every body a bound (`retry`).
//!
//! Plain HTTP is spoken only to loopback, or where the caller or a file said so.

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body};

use crate::image::digest::Digest;
use crate::image::limits::raise;
use crate::image::registry::auth::{self, Challenge, IDENTITY};
use crate::image::registry::connection::{agent, is_loopback, join, logged, origin};
use crate::image::registry::endpoint::Endpoint;
use crate::image::registry::retry::{Failure, Paced, Patience, retry_after};
use crate::image::registry::tls::Trust;
use crate::image::{Credentials, PullOptions, registry::keyring, registry::refusal};
use crate::{Error, Kind, Result};

const MAX_REDIRECTS: usize = 5;
/// A token, or the text of an error.
const MAX_SMALL_BODY: u64 = 1 << 20;

/// Of one request; its status may be anything.
pub(crate) type Answer = Result<Response<Body>, Failure>;

pub(crate) struct Registry {
    pub endpoint: Endpoint,
    pub patience: Patience,
    /// The caller has said so, not a file.
    insecure: bool,
    credentials: Option<Credentials>,
    agent: Agent,
    /// Without the client certificate, for where redirects lead; where there
    /// is such a certificate.
    stranger: Option<Agent>,
    /// What tokens are asked for: `repository:library/a:pull`.
    scopes: Vec<String>,
    /// What this registry turned out to speak; empty until it has answered.
    scheme: Mutex<&'static str>,
    /// The Authorization header that it last accepted.
    authorization: Mutex<Option<String>>,
}

/// What is asked for, below the endpoint's root.
pub(crate) struct Ask<'a> {
    pub head: bool,
    /// `manifests/<selector>`, `blobs/<digest>`.
    pub what: &'a str,
    pub accept: Option<&'a str>,
    /// The first byte that is wanted, in a Range.
    pub from: u64,
    /// Bytes of a layer that are to come; 0 for all that is small.
    pub size: u64,
}

impl Registry {
    /// `own` is the reference's registry, whose credentials `options` may have;
    /// `actions` are `pull` or `pull,push`.
    pub(crate) fn new(
        endpoint: Endpoint,
        own: &str,
        options: &PullOptions,
        actions: &str,
    ) -> Result<Self> {
        let (name, repository) = (&endpoint.registry, &endpoint.repository);
        let mut credentials = options.credentials.clone().filter(|_| name == own);
        for ring in &options.secrets {
            if credentials.is_none() {
                credentials = ring.find(name, repository)?;
            }
        }
        if credentials.is_none() {
            credentials = keyring::stored(name, repository)?;
        }
        let loopback = is_loopback(&endpoint.host);
        let silence = options.patience.silence;
        let stranger = endpoint.trust.client.as_ref().map(|_| {
            let trust = Trust {
                client: None,
                ..endpoint.trust.clone()
            };
            agent(loopback, &trust, silence)
        });
        Ok(Registry {
            insecure: options.insecure == Some(true),
            patience: options.patience.clone(),
            credentials,
            agent: agent(loopback, &endpoint.trust, silence)?,
            stranger: stranger.transpose()?,
            scopes: vec![format!("repository:{repository}:{actions}")],
            scheme: Mutex::new(""),
            authorization: Mutex::new(None),
            endpoint,
        })
    }

    /// Tokens from now on are also for reading another repository.
    pub(crate) fn also_from(&mut self, repository: &str) {
        self.scopes.push(format!("repository:{repository}:pull"));
    }

    /// A manifest or index by tag or digest, with its declared media type. At
    /// most `limit` bytes; a digest in `selector` is the caller's to verify.
    pub(crate) fn manifest(
        &self,
        selector: &str,
        accept: &str,
        limit: u64,
    ) -> Result<(Vec<u8>, String)> {
        let ask = Ask {
            head: false,
            what: &format!("manifests/{selector}"),
            accept: Some(accept),
            from: 0,
            size: 0,
        };
        self.retrying(|| {
            let response = self.ask(&ask)?;
            let media_type = text_of(response.headers(), header::CONTENT_TYPE);
            Ok((self.body(response, limit, "manifest")?, media_type))
        })
    }

    /// A small blob, whole. Not verified.
    pub(crate) fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let ask = Ask {
            head: false,
            what: &format!("blobs/{digest}"),
            accept: None,
            from: 0,
            size: 0,
        };
        self.retrying(|| self.body(self.ask(&ask)?, limit, "blob"))
    }

    pub(crate) fn body(
        &self,
        response: Response<Body>,
        limit: u64,
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let body = response.into_body().into_with_config().limit(u64::MAX);
        Paced::new(body.reader(), &self.patience)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::passing(self.error(&format!("read the {what}: {e}"))))?;
        if bytes.len() as u64 > limit {
            let name = match what {
                "manifest" => "manifest-size",
                _ => "config-size",
            };
            return Err(Failure::lasting(
                self.error(&format!(
                    "the {what} has more bytes than {name}={limit} allows"
                ))
                .hint(raise(name)),
            ));
        }
        Ok(bytes)
    }

    pub(crate) fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut n = 1;
        loop {
            let failure = match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            match self.patience.pause(n, &failure) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(failure.error),
            }
            n += 1;
        }
    }

    /// Where `what` is at this endpoint, once its scheme is known.
    pub(crate) fn url(&self, scheme: &str, what: &str) -> String {
        let e = &self.endpoint;
        let url = format!("{scheme}://{}{}/{}/{what}", e.host, e.root, e.repository);
        let joint = if what.contains('?') { '&' } else { '?' };
        match &e.namespace {
            Some(ns) => format!("{url}{joint}ns={}", auth::percent(ns)),
            None => url,
        }
    }

    /// The scheme that it has answered in.
    pub(crate) fn spoken(&self) -> &'static str {
        *lock(&self.scheme)
    }

    /// A GET or HEAD, authorized as it asks; 200 and 206 only.
    pub(crate) fn ask(&self, ask: &Ask<'_>) -> Result<Response<Body>, Failure> {
        let known = [self.spoken()];
        let schemes: &[&'static str] = match known {
            [""] => &self.endpoint.schemes,
            _ => &known,
        };
        let mut last: Option<Failure> = None;
        for scheme in schemes {
            let url = self.url(scheme, ask.what);
            let answer = self.authorized(&url, &mut |value| self.follow(&url, value, ask));
            match answer {
                // A TLS server answers plain HTTP with 400 at best.
                Ok(r) if *scheme == "http" && schemes.len() > 1 && r.status() == 400 => {}
                Ok(response) => {
                    *lock(&self.scheme) = scheme;
                    return self.judge(response, ask.from);
                }
                // A certificate that is refused says more than plain HTTP's failure.
                Err(f) if f.no_answer => {
                    last = last.filter(|l| f.passing || !l.passing).or(Some(f))
                }
                Err(f) => return Err(f),
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::lasting(self.error("it speaks neither HTTPS nor plain HTTP"))
        }))
    }

    /// Sends with what was accepted before and, where that is refused, with
    /// what the registry asks for.
    pub(crate) fn authorized(
        &self,
        url: &str,
        send: &mut dyn FnMut(Option<&str>) -> Answer,
    ) -> Result<Response<Body>, Failure> {
        let before = lock(&self.authorization).clone();
        let response = send(before.as_deref())?;
        if response.status() != 401 {
            return Ok(response);
        }
        // An upload may be elsewhere; whoever is there asks for what is not theirs.
        if !self.is_own(url) {
            return Err(self.not_yours(url));
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| Challenge::parse(v.to_str().ok()?))
            .collect();
        let Some(value) = self.answer(url, &challenges)? else {
            return Ok(response);
        };
        *lock(&self.authorization) = Some(value.clone());
        send(Some(&value))
    }

    /// The Authorization that a challenge asks for, if there can be one.
    fn answer(&self, url: &str, challenges: &[Challenge]) -> Result<Option<String>, Failure> {
        let bearer = challenges.iter().find(|c| c.scheme == "bearer");
        let Some(bearer) = bearer else {
            let basic = challenges.iter().any(|c| c.scheme == "basic");
            return Ok(self.credentials.as_ref().filter(|_| basic).map(auth::basic));
        };
        let no_realm =
            || Failure::lasting(self.error("its challenge names no token server (realm)"));
        let server = bearer.token_url(&self.scopes).ok_or_else(no_realm)?;
        self.check_realm(url, &server)?;
        let response = match &self.credentials {
            Some(c) if c.username == IDENTITY => {
                let (realm, form) = bearer
                    .refresh(&c.password, &self.scopes)
                    .ok_or_else(no_realm)?;
                logged("POST", &realm, || {
                    self.agent_for(&realm)
                        .post(&realm)
                        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                        .send(form)
                        .map_err(|e| self.no_answer(&realm, e))
                })?
            }
            other => {
                let basic = other.as_ref().map(auth::basic);
                let ask = Ask {
                    head: false,
                    what: "",
                    accept: None,
                    from: 0,
                    size: 0,
                };
                self.follow(&server, basic.as_deref(), &ask)?
            }
        };
        let bytes = self.body(self.judge(response, 0)?, MAX_SMALL_BODY, "token")?;
        #[derive(serde::Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct Token {
            token: String,
            access_token: String,
        }
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::lasting(self.error(&format!("its token: {e}"))))?;
        let token = match token.token.is_empty() {
            true => token.access_token,
            false => token.token,
        };
        // An open registry may have nothing to say here.
        Ok((!token.is_empty()).then(|| format!("Bearer {token}")))
    }

    /// Another host is normal for a token server; less safety than the
    /// registry's is not: whoever reads the token there can use it.
    fn check_realm(&self, url: &str, server: &str) -> Result<(), Failure> {
        let at = origin(server).ok_or_else(|| self.bad_url(server))?;
        let Some(host) = at.strip_prefix("http://") else {
            return Ok(());
        };
        let same = origin(url).is_some_and(|o| o == at);
        let plain = url.starts_with("http://");
        if plain && (same || is_loopback(host) || self.insecure) {
            return Ok(());
        }
        Err(Failure::lasting(
            self.error(&format!("its token server {at} is not HTTPS")),
        ))
    }

    /// Whether a URL is at the endpoint's own host.
    fn is_own(&self, url: &str) -> bool {
        let own = ["https", "http"].map(|s| origin(&format!("{s}://{}/", self.endpoint.host)));
        own.contains(&origin(url))
    }

    /// Our client certificate is for the endpoint's own host.
    pub(crate) fn agent_for(&self, url: &str) -> &Agent {
        match &self.stranger {
            Some(agent) if !self.is_own(url) => agent,
            _ => &self.agent,
        }
    }

    /// Of a server that was only led to, and wants to know who we are.
    fn not_yours(&self, url: &str) -> Failure {
        Failure::lasting(self.error(&format!(
            "it leads to {}, which asks for credentials, and gets none",
            origin(url).unwrap_or_default()
        )))
    }

    /// Through redirects. `authorization` is for the first origin alone.
    fn follow(
        &self,
        url: &str,
        authorization: Option<&str>,
        ask: &Ask<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        let first = origin(&url).ok_or_else(|| self.bad_url(&url))?;
        for _ in 0..=MAX_REDIRECTS {
            let agent = self.agent_for(&url);
            let mut request = match ask.head {
                true => agent.head(&url),
                false => agent.get(&url),
            };
            if let Some(accept) = ask.accept {
                request = request.header(header::ACCEPT, accept);
            }
            if ask.from > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", ask.from));
            }
            if origin(&url).as_ref() == Some(&first) {
                if let Some(value) = authorization {
                    request = request.header(header::AUTHORIZATION, value);
                }
                // A token server is another service, whatever its host.
                if !ask.what.is_empty() {
                    for (name, value) in &self.endpoint.headers {
                        request = request.header(name, value);
                    }
                }
            }
            if ask.size > 0 {
                let whole = Some(self.patience.whole(ask.size));
                request = request.config().timeout_recv_body(whole).build();
            }
            let method = if ask.head { "HEAD" } else { "GET" };
            let response = logged(method, &url, || {
                request.call().map_err(|e| self.no_answer(&url, e))
            })?;
            // Its challenge is not the first's: it could name any token server.
            if response.status() == 401 && origin(&url).as_ref() != Some(&first) {
                return Err(self.not_yours(&url));
            }
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = text_of(response.headers(), header::LOCATION);
            let next = join(&url, &location).ok_or_else(|| self.bad_url(&location))?;
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
    pub(crate) fn judge(
        &self,
        response: Response<Body>,
        from: u64,
    ) -> Result<Response<Body>, Failure> {
        let status = response.status();
        match status.as_u16() {
            200..=202 => return Ok(response),
            206 if from > 0 => return Ok(response),
            _ => {}
        }
        let asked = text_of(response.headers(), header::RETRY_AFTER);
        let retry_after = retry_after(&asked, Timestamp::now());
        let text = self
            .body(response, MAX_SMALL_BODY, "error")
            .map(|b| said(&b))
            .unwrap_or_default();
        let text = format!("{status}{text}");
        Err(match status.as_u16() {
            401 | 403 => Failure::lasting(self.denied(&text)),
            404 => Failure {
                status: 404,
                ..Failure::lasting(self.not_there(&text))
            },
            408 | 429 | 500..=599 => {
                let mut error = self.error(&text);
                let wait = retry_after.filter(|d| *d > self.patience.longest_pause);
                if let Some(wait) = wait {
                    error = error.hint(format!("it asks to wait for {} s", wait.as_secs()));
                } else if status == 429 {
                    error = error.hint(format!(
                        "the registry limits pulls: wait, or {}",
                        self.log_in()
                    ));
                }
                Failure {
                    retry_after,
                    ..Failure::passing(error)
                }
            }
            _ => Failure::lasting(self.error(&text)),
        })
    }

    pub(crate) fn no_answer(&self, url: &str, e: ureq::Error) -> Failure {
        let at = origin(url).unwrap_or_default();
        let registry = &self.endpoint.registry;
        let refusal = refusal::explain(&e, registry, &self.endpoint.trust);
        let lasting = refusal.as_ref().is_some_and(|r| r.lasting);
        let unreachable = refusal::unreachable(&e);
        let (text, hint) = match (refusal, &e) {
            (Some(r), _) => (r.text, r.hint),
            (None, ureq::Error::Timeout(what)) => (format!("no answer in time ({what})"), None),
            (None, ureq::Error::Io(e)) => (refusal::io_text(e), None),
            (None, other) => (other.to_string(), None),
        };
        let mut error = Error::new(Kind::Image, format!("registry {registry}: {at}: {text}"));
        if let Some(errno) = unreachable {
            error = error.with_errno(errno);
        }
        if let Some(hint) = hint {
            error = error.hint(hint);
        }
        Failure {
            passing: !lasting,
            no_answer: true,
            retry_after: None,
            status: 0,
            error,
        }
    }

    pub(crate) fn bad_url(&self, url: &str) -> Failure {
        Failure::lasting(self.error(&format!("it leads to {url:?}, which is no URL")))
    }

    fn denied(&self, text: &str) -> Error {
        let log_in = self.log_in();
        let hint = if self.credentials.is_some() {
            format!("the credentials for this registry are not accepted: {log_in}, once more")
        } else {
            format!("{log_in}, or give the Pod an imagePullSecret")
        };
        self.error(text).hint(hint)
    }

    /// The error of a 404. What is private is answered so too by some registries.
    fn not_there(&self, text: &str) -> Error {
        let (registry, repository) = (&self.endpoint.registry, &self.endpoint.repository);
        let insecure = self.option_of_skopeo();
        let private = match self.credentials {
            Some(_) => String::new(),
            None => format!(
                "; a private image may be answered so too: {}",
                self.log_in()
            ),
        };
        self.error(text).hint(format!(
            "correct the repository or the tag (skopeo list-tags {insecure}docker://{registry}/\
             {repository} lists the tags){private}"
        ))
    }

    /// skopeo tries no http by itself.
    fn option_of_skopeo(&self) -> &'static str {
        match self.spoken() {
            "http" => "--tls-verify=false ",
            _ => "",
        }
    }

    fn log_in(&self) -> String {
        let registry = &self.endpoint.registry;
        let insecure = self.option_of_skopeo();
        format!("log in: skopeo login {insecure}{registry} (or podman login, docker login)")
    }

    pub(crate) fn error(&self, text: &str) -> Error {
        Error::new(
            Kind::Image,
            format!("registry {}: {text}", self.endpoint.registry),
        )
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

/// A header's value; empty where there is none that is text.
pub(crate) fn text_of(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or_default().to_owned()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
