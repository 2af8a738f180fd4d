//! Connections to registries: timeouts, proxies, and what URLs have in common.

use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Proxy};

use crate::Result;
use crate::image::registry::resolve::Stub;
use crate::image::registry::retry::Failure;
use crate::image::registry::tls::{TlsConnector, Trust};

/// So many silences, of 30 s each, are the most for a body that is no layer's.
const SMALL_BODY: u32 = 20;

/// An agent that follows no redirect and judges no status by itself. `silence`
/// ends a wait for bytes of a body, or for room to send more of one.
pub(crate) fn agent(loopback: bool, trust: &Trust, silence: Duration) -> Result<Agent> {
    let tls = TlsConnector::new(trust, loopback)?;
    let seconds = |n| Some(Duration::from_secs(n));
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(if loopback {
            None
        } else {
            Proxy::try_from_env()
        })
        .user_agent(concat!("carob/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(seconds(15))
        .timeout_connect(seconds(15))
        .timeout_recv_response(seconds(60))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .timeout_recv_body(Some(silence * SMALL_BODY))
        .build();
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(tls);
    Ok(Agent::with_parts(config, connector, Stub))
}

/// A registry on this machine: what Docker and the kubelet speak plain HTTP to.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Scheme, host and port, all of what a credential belongs to.
pub(crate) fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let authority = uri.authority()?;
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    // user:password@host would be credentials of somebody else's making.
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    Some(format!(
        "{scheme}://{host}:{}",
        authority.port_u16().unwrap_or(default)
    ))
}

/// A URL without what may be a credential: its query, and a user before its host.
pub(crate) fn shown(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?..."),
        None => (url, ""),
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}{query}")
}

/// Sends a request, and says so in the debug log. What the request carries is not said.
pub(crate) fn logged<T>(
    method: &str,
    url: &str,
    send: impl FnOnce() -> Result<Response<T>, Failure>,
) -> Result<Response<T>, Failure> {
    log::debug!("{method} {}", shown(url));
    let answer = send();
    match &answer {
        Ok(response) => log::debug!("{method} {}: {}", shown(url), response.status()),
        Err(failure) => log::debug!("{method} {}: {}", shown(url), failure.error),
    }
    answer
}

/// A Location against the URL that it came from. Registries send absolute
/// URLs and absolute paths; relative ones do not occur.
pub(crate) fn join(url: &str, location: &str) -> Option<String> {
    let base: Uri = url.parse().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let joined = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    origin(&joined)?;
    Some(joined.split('#').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_credentials() {
        for (url, want) in [
            (
                "https://h:5000/v2/a/manifests/1",
                "https://h:5000/v2/a/manifests/1",
            ),
            ("https://s3/b?X-Amz-Signature=secret", "https://s3/b?..."),
            ("http://user:secret@h/v2/", "http://h/v2/"),
            ("https://user:secret@h", "https://h"),
            ("https://h/a@b", "https://h/a@b"),
        ] {
            assert_eq!(shown(url), want);
        }
    }
}
