//! Connections to registries: timeouts, proxies, trusted roots, and what URLs
//! have in common.

use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy};

use super::resolve::Stub;
use crate::{Context, Error, Kind, Result};

const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An agent that follows no redirect and judges no status by itself.
pub fn agent(loopback: bool, insecure: bool) -> Result<Agent> {
    let tls = TlsConfig::builder().disable_verification(insecure);
    // Reading some hundred certificates is for those who need them.
    let tls = if insecure {
        tls
    } else {
        match roots() {
            Ok(roots) => tls.root_certs(roots),
            Err(_) if loopback => tls.root_certs(RootCerts::new_with_certs(&[])),
            Err(e) => return Err(e),
        }
    };
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
        .tls_config(tls.build())
        .timeout_resolve(seconds(15))
        .timeout_connect(seconds(15))
        .timeout_recv_response(seconds(60))
        .timeout_per_read(seconds(30))
        .build();
    Ok(Agent::with_parts(config, DefaultConnector::default(), Stub))
}

/// The machine's own roots, so that a site's CA counts; `SSL_CERT_FILE` first,
/// as OpenSSL has it.
fn roots() -> Result<RootCerts> {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let path = named
        .or_else(|| {
            CA_BUNDLES
                .iter()
                .map(Into::into)
                .find(|p: &std::path::PathBuf| p.exists())
        })
        .ok_or_else(|| {
            Error::new(
                Kind::Image,
                "no bundle of CA certificates is on this machine",
            )
            .hint("install the package ca-certificates, or set SSL_CERT_FILE")
        })?;
    let pem = std::fs::read(&path).with_context(|| format!("open({})", path.display()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect();
    Ok(RootCerts::from(certificates))
}

/// A registry on this machine: what Docker and the kubelet speak plain HTTP to.
pub fn is_loopback(host: &str) -> bool {
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
pub fn origin(url: &str) -> Option<String> {
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
pub fn join(url: &str, location: &str) -> Option<String> {
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
