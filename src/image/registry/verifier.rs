//! Verifies the certificates that registries show, and says why one is refused.
//!
//! Everything is as rustls and webpki have it, but for one case. `openssl req -x509`
//! makes a self-signed certificate a CA's (basicConstraints CA:TRUE), and webpki takes no
//! CA for a server, even where that very certificate is a trusted root. OpenSSL and Go
//! take it. So do we, if all of this holds:
//!
//! 1. webpki's verdict is `CaUsedAsEndEntity`, nothing else;
//! 2. the certificate is, byte for byte, one of those that are trusted;
//! 3. it is within its period of validity, and not for other purposes only;
//! 4. its subjectAltName has the server's name;
//! 5. the handshake is signed with its key, which rustls asks [`Verifier`] for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use crate::image::registry::certificate::{Fields, SERVER_AUTH, der_time};

type Verified = Result<ServerCertVerified, rustls::Error>;
type Signed = Result<HandshakeSignatureValid, rustls::Error>;

#[derive(Debug)]
pub(crate) struct Verifier {
    pub roots: RootCertStore,
    /// The certificates of the roots, for comparison.
    pub trusted: Vec<CertificateDer<'static>>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Verified {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let chain = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        );
        match chain {
            Err(e) if is_ca_as_server(&e) => self.check_trusted_ca(end_entity, now)?,
            other => other?,
        }
        verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Signed {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Signed {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// All of a CA's certificate but the name: the caller checks that as for any other.
    fn check_trusted_ca(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let fields = Fields::parse(certificate).ok_or(CertificateError::BadEncoding)?;
        if !self.trusted.iter().any(|c| c == certificate) {
            return Err(rustls::Error::from(match fields.issuer == fields.subject {
                true => Refused::SelfSigned,
                false => Refused::Authority,
            }));
        }
        // webpki has looked at the period before it says CaUsedAsEndEntity, but promises
        // no order.
        let now = der_time(now).ok_or(CertificateError::BadEncoding)?;
        if now < fields.not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > fields.not_after {
            return Err(CertificateError::Expired.into());
        }
        // It has not looked at the purposes. A certificate without any is for all.
        match &fields.purposes {
            Some(list) if !list.contains(&SERVER_AUTH) => {
                Err(CertificateError::InvalidPurpose.into())
            }
            _ => Ok(()),
        }
    }
}

/// What webpki has no error for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is a CA's and its own issuer.
    SelfSigned,
    /// A CA's, issued by another.
    Authority,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::SelfSigned => "it is self-signed, and none of those that are trusted",
            Refused::Authority => "it is a CA's (CA:TRUE), and none of those that are trusted",
        })
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for rustls::Error {
    fn from(why: Refused) -> Self {
        CertificateError::Other(OtherError(Arc::new(why))).into()
    }
}

/// rustls hands webpki's error on in a box, without its type: what it is called is all
/// that there is to compare. Another name would refuse such certificates, not accept more.
fn is_ca_as_server(e: &rustls::Error) -> bool {
    matches!(e, rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))
        if inner.to_string() == "CaUsedAsEndEntity")
}

/// Accepts every certificate and every signature: for `insecure` and `skip_verify`.
#[derive(Debug)]
pub(crate) struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Verified {
        Ok(ServerCertVerified::assertion())
    }

    // A man in the middle has a certificate of his own and its key: to verify the signature
    // would only keep servers away whose certificates cannot be parsed.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Signed {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Signed {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// More than we could verify: P-521 keys, for example.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
