//! Connections to registries: timeouts, proxies, trusted roots, and what URLs
//! have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
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

/// So many silences, of 30 s each, are the most for a body that is no layer's.
const SMALL_BODY: u32 = 20;

/// Whom to believe, and who to be, in TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates are not verified.
    pub unverified: bool,
    /// PEM files, beside the machine's own roots.
    pub authorities: Vec<PathBuf>,
    /// PEM files: our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// An agent that follows no redirect and judges no status by itself. `silence`
/// ends a wait for bytes of a body, or for room to send more of one.
pub fn agent(loopback: bool, trust: &Trust, silence: Duration) -> Result<Agent> {
    let mut tls = TlsConfig::builder().disable_verification(trust.unverified);
    // Reading some hundred certificates is for those who need them.
    if !trust.unverified {
        let mut known = match roots() {
            Err(_) if loopback || !trust.authorities.is_empty() => Vec::new(),
            known => known?,
        };
        for path in &trust.authorities {
            known.extend(certificates(path)?);
        }
        tls = tls.root_certs(RootCerts::from(known));
    }
    if let Some((certificate, key)) = &trust.client {
        let chain = certificates(certificate)?;
        let pem = std::fs::read(key).with_context(|| format!("open({})", key.display()))?;
        let key = PrivateKey::from_pem(&pem)
            .map_err(|e| Error::invalid(format!("{}: {e}", key.display())))?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
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
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .timeout_recv_body(Some(silence * SMALL_BODY))
        .build();
    Ok(Agent::with_parts(config, DefaultConnector::default(), Stub))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("open({})", path.display()))?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::invalid(format!(
            "{} has no certificate in PEM",
            path.display()
        )));
    }
    Ok(found)
}

/// The machine's own roots, so that a site's CA counts; `SSL_CERT_FILE` first,
/// as OpenSSL has it.
fn roots() -> Result<Vec<Certificate<'static>>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let path = named
        .or_else(|| {
            CA_BUNDLES
                .iter()
                .map(Into::into)
                .find(|p: &PathBuf| p.exists())
        })
        .ok_or_else(|| {
            Error::new(
                Kind::Image,
                "no bundle of CA certificates is on this machine",
            )
            .hint("install the package ca-certificates, or set SSL_CERT_FILE")
        })?;
    certificates(&path)
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
