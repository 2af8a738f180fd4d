//! HTTP/1.1 as far as a probe needs it (RFC 9112): one request, the status of the answer,
//! and where its body ends. Bytes in, decisions out; no socket.

use crate::spec::{HttpGet, HttpVersion};

/// Bytes of an answer's head, and of its body, that are taken. A kubelet stops at as much of
/// a body, and takes the answer for whole.
const HEAD_MOST: usize = 64 << 10;
const BODY_MOST: usize = 10 << 10;
/// As a kubelet's.
pub(super) const REDIRECTS_MOST: u32 = 10;

/// The request. `address`: host and port, as in a URL.
pub(super) fn request(get: &HttpGet, address: &str) -> Vec<u8> {
    let mut text = format!("GET {} HTTP/1.1\r\n", get.path);
    for (name, value) in fields(get, address) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Connection: close\r\n\r\n");
    text.into_bytes()
}

/// The header fields of a request, `Host` first. A probe's own `Host`, `User-Agent` and
/// `Accept` stand in the place of ours, and an empty one of the latter leaves it out.
pub(super) fn fields(get: &HttpGet, address: &str) -> Vec<(String, String)> {
    let own = |name: &str| {
        let mut own = get.headers.iter().rev();
        own.find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.clone())
    };
    let mut all = Vec::new();
    for (name, ours) in [
        ("Host", address),
        ("User-Agent", "kube-probe/1.37"),
        ("Accept", "*/*"),
    ] {
        let value = own(name).unwrap_or_else(|| ours.to_owned());
        if !value.is_empty() {
            all.push((name.to_owned(), value));
        }
    }
    let is_ours = |name: &str| {
        ["host", "user-agent", "accept", "connection"].contains(&name.to_lowercase().as_str())
    };
    let others = get.headers.iter().filter(|(name, _)| !is_ours(name));
    all.extend(others.cloned());
    all
}

#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// There is more to come.
    Part,
    Whole {
        status: u16,
        location: Option<String>,
    },
    /// It is no HTTP, and why.
    Broken(&'static str),
}

/// Reads what has come so far; `ended`: no more will.
pub(super) fn read(bytes: &[u8], ended: bool) -> Answer {
    if bytes.len() > HEAD_MOST + BODY_MOST {
        return Answer::Broken("the answer has no end");
    }
    let mut rest = bytes;
    loop {
        let Some(end) = find(rest, b"\r\n\r\n") else {
            return match (rest.len() > HEAD_MOST, ended) {
                (true, _) => Answer::Broken("its header has more than 64 KiB"),
                (_, true) if bytes.is_empty() => Answer::Broken("the connection was closed"),
                (_, true) => Answer::Broken("the connection was closed within the header"),
                // What is no HTTP at all may never end.
                _ if !b"HTTP/".starts_with(&rest[..rest.len().min(5)]) => {
                    Answer::Broken("the answer is not HTTP")
                }
                _ => Answer::Part,
            };
        };
        let head = Head::parse(&rest[..end]);
        let body = &rest[end + 4..];
        match head {
            None => return Answer::Broken("the answer is not HTTP"),
            // 100 Continue and the like: another head follows.
            Some(head) if (100..200).contains(&head.status) => rest = body,
            Some(head) if ended || head.is_whole(body) => {
                return Answer::Whole {
                    status: head.status,
                    location: head.location,
                };
            }
            Some(_) => return Answer::Part,
        }
    }
}

#[derive(Debug, Default)]
struct Head {
    status: u16,
    location: Option<String>,
    length: Option<usize>,
    chunked: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let version = words.next()?;
        let status = words.next()?;
        if !version.starts_with("HTTP/1.") || status.len() != 3 {
            return None;
        }
        let mut head = Head {
            status: status.parse().ok()?,
            ..Head::default()
        };
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "location" => head.location = Some(value.to_owned()),
                "content-length" => head.length = value.parse().ok(),
                "transfer-encoding" => head.chunked = value.to_lowercase().ends_with("chunked"),
                _ => {}
            }
        }
        Some(head)
    }

    /// Whether the body has come, or as much of it as is wanted (RFC 9112, 6.3).
    fn is_whole(&self, body: &[u8]) -> bool {
        if matches!(self.status, 204 | 304) || body.len() >= BODY_MOST {
            return true;
        }
        match (self.chunked, self.length) {
            (true, _) => chunks_end(body),
            (false, Some(length)) => body.len() >= length,
            // It ends with the connection.
            (false, None) => false,
        }
    }
}

/// Whether the last chunk, which is empty, has come (RFC 9112, 7.1).
fn chunks_end(mut body: &[u8]) -> bool {
    while let Some(end) = find(body, b"\r\n") {
        let line = String::from_utf8_lossy(&body[..end]);
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            // It is no chunk, and no end of it will be found.
            return true;
        };
        if size == 0 {
            return true;
        }
        let next = (end + 2).saturating_add(size).saturating_add(2);
        match body.get(next..) {
            Some(rest) => body = rest,
            None => return false,
        }
    }
    false
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// Where a redirect leads, if that is the same host (`host`, as in the URL); else `None`.
pub(super) fn redirect(location: &str, from: &HttpGet, host: &str) -> Option<HttpGet> {
    let location = location.split('#').next().unwrap_or_default();
    let mut to = from.clone();
    let authority_and_path = match location.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            to.version = match scheme.to_lowercase().as_str() {
                "http" if from.version == HttpVersion::Http2 => HttpVersion::Http2,
                "http" => HttpVersion::Http,
                "https" => HttpVersion::Https,
                _ => return None,
            };
            Some(rest)
        }
        _ => location.strip_prefix("//"),
    };
    let target = match authority_and_path {
        None => location,
        Some(rest) => {
            let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let authority = authority.rsplit('@').next().unwrap_or_default();
            let default = match to.version {
                HttpVersion::Https => 443,
                _ => 80,
            };
            let (name, port) = match authority.rsplit_once(':') {
                Some((name, port)) if !port.contains(']') => (name, port.parse().ok()?),
                _ => (authority, default),
            };
            let name = name.trim_start_matches('[').trim_end_matches(']');
            if !name.eq_ignore_ascii_case(host) {
                return None;
            }
            to.port = port;
            match target {
                "" => "/",
                target => target,
            }
        }
    };
    let path = from.path.split('?').next().unwrap_or_default();
    to.path = match target.chars().next() {
        Some('/') => target.to_owned(),
        Some('?') => match authority_and_path {
            Some(_) => format!("/{target}"),
            None => format!("{path}{target}"),
        },
        Some(_) => {
            let directory = path.rfind('/').map_or("/", |i| &path[..=i]);
            format!("{directory}{target}")
        }
        None => path.to_owned(),
    };
    // It becomes a line of a request.
    let is_clean = to.path.bytes().all(|b| (b'!'..=b'~').contains(&b));
    is_clean.then_some(to)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
