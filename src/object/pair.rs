//! The certificate and the key of a Secret of type kubernetes.io/tls.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::{Error, Result};

/// Whether they belong together, both in PEM, as kubectl checks before it makes the Secret.
/// Nothing of the key is in an error.
pub(crate) fn check_pair(certificate: &[u8], key: &[u8]) -> Result<()> {
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    if chain.is_empty() {
        return Err(Error::invalid("--cert: the file has no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| Error::invalid("--key: the file has no private key in PEM"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map(drop)
        .map_err(|e| Error::invalid(format!("--cert and --key are no pair: {e}")))
}
