//! TLS to registries: which certificates are trusted, and a connector for ureq.
//!
//! ureq's own connector takes no verifier, and `verifier` is needed for self-signed
//! certificates that are a CA's. Each configuration here is for one endpoint.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned, WantsVerifier,
};
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::image::registry::verifier::{Unverified, Verifier};
use crate::{Context, Error, Kind, Result};

const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which certificates of servers are trusted, and the certificate of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Certificates are not verified.
    pub unverified: bool,
    /// PEM files, beside the machine's own roots.
    pub authorities: Vec<PathBuf>,
    /// PEM files: our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    /// The files whose certificates are trusted, for a hint.
    pub(crate) fn files(&self) -> String {
        let mut files: Vec<String> = bundle()
            .into_iter()
            .chain(self.authorities.iter().cloned())
            .map(|path| match std::fs::File::open(&path) {
                Ok(_) => path.display().to_string(),
                Err(e) => format!("{} ({e})", path.display()),
            })
            .collect();
        if files.is_empty() {
            files.push("none".to_owned());
        }
        files.join(", ")
    }
}

/// Wraps a connection in TLS where the URL is `https:`.
pub(crate) struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    /// Reads the certificates that `trust` names. On loopback, which plain HTTP is spoken
    /// to as well, the machine's own roots may be missing.
    pub(crate) fn new(trust: &Trust, loopback: bool) -> Result<TlsConnector> {
        let builder = builder()?;
        let algorithms = builder.crypto_provider().signature_verification_algorithms;
        let builder = builder.dangerous();
        let builder = if trust.unverified {
            builder.with_custom_certificate_verifier(Arc::new(Unverified))
        } else {
            let trusted = trusted(trust, loopback)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(trusted.iter().cloned());
            builder.with_custom_certificate_verifier(Arc::new(Verifier {
                roots,
                trusted,
                algorithms,
            }))
        };
        let config = match &trust.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let pem = std::fs::read(key).with_context(|| format!("open({})", key.display()))?;
                let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                    Error::invalid(format!("{} has no private key in PEM", key.display()))
                })?;
                builder.with_client_auth_cert(chain, der).map_err(|e| {
                    let (certificate, key) = (certificate.display(), key.display());
                    Error::invalid(format!("client certificate {certificate}, key {key}: {e}"))
                })?
            }
        };
        Ok(TlsConnector {
            config: Arc::new(config),
        })
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::failed(format!("TLS: {e}")))
}

/// For servers whose certificate nobody verifies, and a protocol by its ALPN name.
pub(crate) fn unverified(protocol: &str) -> Result<Arc<ClientConfig>> {
    let mut config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    // One connection, which nothing is resumed from.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn trusted(trust: &Trust, loopback: bool) -> Result<Vec<CertificateDer<'static>>> {
    let mut all = match machine_roots() {
        Err(_) if loopback || !trust.authorities.is_empty() => Vec::new(),
        known => known?,
    };
    for path in &trust.authorities {
        all.extend(certificates(path)?);
    }
    Ok(all)
}

/// `SSL_CERT_FILE` first, as OpenSSL has it.
fn bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.or_else(|| {
        let mut bundles = CA_BUNDLES.iter().map(PathBuf::from);
        bundles.find(|p| p.exists())
    })
}

/// The machine's own roots, so that a site's CA counts.
fn machine_roots() -> Result<Vec<CertificateDer<'static>>> {
    let path = bundle().ok_or_else(|| {
        Error::new(
            Kind::Image,
            "no bundle of CA certificates is on this machine",
        )
        .hint("install the package ca-certificates, or set SSL_CERT_FILE")
    })?;
    certificates(&path)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("open({})", path.display()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    if found.is_empty() {
        return Err(Error::invalid(format!(
            "{} has no certificate in PEM",
            path.display()
        )));
    }
    Ok(found)
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let name = ServerName::try_from(bare.unwrap_or(host))
            .map_err(|_| ureq::Error::BadUri(details.uri.to_string()))?
            .to_owned();
        let mut conn = ClientConnection::new(self.config.clone(), name)
            .map_err(|e| ureq::Error::Other(e.into()))?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(rest(details));
        conn.complete_io(&mut sock)?;
        let config = details.config;
        Ok(Some(Either::B(TlsTransport {
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            stream: StreamOwned { conn, sock },
        })))
    }
}

/// What the TCP connection has left of the time to connect in.
fn rest(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Duration::Exact(all), Instant::Exact(began), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        let spent = now.saturating_duration_since(began);
        timeout.after = Duration::Exact(all.saturating_sub(spent));
    }
    timeout
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}
