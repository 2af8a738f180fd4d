//! Connections to registries: timeouts, proxies, and what URLs have in common.

use std::time::Duration;

use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Proxy};

use crate::Result;
use crate::image::registry::resolve::Stub;
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
