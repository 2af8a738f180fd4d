use std::process::Command;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::*;

const YEAR: u64 = 365 * 24 * 3600;

/// A self-signed CA for localhost and its key.
fn self_signed(extra: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let out = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "10"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "-"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(extra)
        .output()
        .expect("openssl must be installed");
    let certificate = CertificateDer::from_pem_slice(&out.stdout).unwrap();
    (
        certificate,
        PrivateKeyDer::from_pem_slice(&out.stdout).unwrap(),
    )
}

fn verifier(trusted: &[&CertificateDer<'static>]) -> Verifier {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add((*root).clone()).unwrap();
    }
    Verifier {
        roots,
        trusted: trusted.iter().map(|c| (*c).clone()).collect(),
        algorithms: default_provider().signature_verification_algorithms,
    }
}

fn verify(v: &Verifier, certificate: &CertificateDer<'_>, name: &str, now: UnixTime) -> Verified {
    let name = ServerName::try_from(name).unwrap();
    v.verify_server_cert(certificate, &[], &name, &[], now)
}

fn later(seconds: u64) -> UnixTime {
    let now = UnixTime::now().as_secs();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now + seconds))
}

fn earlier(seconds: u64) -> UnixTime {
    let now = UnixTime::now().as_secs();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now - seconds))
}

fn refusal(e: &rustls::Error) -> Option<Refused> {
    match e {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref().copied()
        }
        _ => None,
    }
}

#[test]
fn a_ca_is_a_server_only_if_that_very_certificate_is_trusted() {
    let (certificate, _) = self_signed(&[]);
    let (other, _) = self_signed(&[]);
    let now = UnixTime::now();
    for trusted in [&[&certificate][..], &[&other, &certificate]] {
        verify(&verifier(trusted), &certificate, "localhost", now).unwrap();
    }
    for v in [verifier(&[]), verifier(&[&other])] {
        let e = verify(&v, &certificate, "localhost", now).unwrap_err();
        assert_eq!(refusal(&e), Some(Refused::SelfSigned), "{e}");
    }
}

#[test]
fn a_trusted_ca_is_checked_as_a_server_is() {
    let (certificate, _) = self_signed(&[]);
    let v = verifier(&[&certificate]);
    let e = verify(&v, &certificate, "other.invalid", UnixTime::now()).unwrap_err();
    assert!(e.to_string().contains("not valid for name"), "{e}");
    for (now, text) in [(later(YEAR), "expired"), (earlier(YEAR), "not valid yet")] {
        let e = verify(&v, &certificate, "localhost", now).unwrap_err();
        assert!(e.to_string().contains(text), "{e}");
    }
    // Without what webpki looks at before.
    v.check_trusted_ca(&certificate, UnixTime::now()).unwrap();
    let e = v.check_trusted_ca(&certificate, later(YEAR)).unwrap_err();
    assert_eq!(e, CertificateError::Expired.into());
    let e = v.check_trusted_ca(&certificate, earlier(YEAR)).unwrap_err();
    assert_eq!(e, CertificateError::NotValidYet.into());

    let eku = |value: &str| {
        let (certificate, _) = self_signed(&["-addext", &format!("extendedKeyUsage={value}")]);
        let v = verifier(&[&certificate]);
        verify(&v, &certificate, "localhost", UnixTime::now())
    };
    eku("clientAuth,serverAuth").unwrap();
    eku("critical,serverAuth").unwrap();
    let e = eku("clientAuth").unwrap_err();
    assert_eq!(e, CertificateError::InvalidPurpose.into());
}

/// A handshake in memory, in which the server shows `certificate` and signs with `key`.
fn handshake(
    version: &'static SupportedProtocolVersion,
    verifier: Verifier,
    certificate: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(default_provider());
    let key = provider.key_provider.load_private_key(key)?;
    // Nothing here looks whether the two belong together.
    let shown = CertifiedKey::new(vec![certificate.clone()], key);
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_server_without_the_key_of_a_named_ca_is_refused() {
    for version in [&TLS12, &TLS13] {
        let (certificate, key) = self_signed(&[]);
        let (_, other) = self_signed(&[]);
        let v = || verifier(&[&certificate]);
        handshake(version, v(), &certificate, key).unwrap();
        let e = handshake(version, v(), &certificate, other).unwrap_err();
        assert_eq!(e, CertificateError::BadSignature.into(), "{version:?}");
    }
}

#[test]
fn fields_are_read_from_der() {
    let (certificate, _) = self_signed(&["-addext", "extendedKeyUsage=clientAuth,serverAuth"]);
    let fields = Fields::parse(&certificate).unwrap();
    assert_eq!(fields.issuer, fields.subject);
    let now = der_time(UnixTime::now()).unwrap();
    assert!(fields.not_before <= now && now < fields.not_after);
    assert!(der_time(later(9 * 24 * 3600)).unwrap() < fields.not_after);
    assert!(der_time(later(11 * 24 * 3600)).unwrap() > fields.not_after);
    assert_eq!(fields.purposes.unwrap().len(), 2);

    // From 2050 on the form of time is another.
    let (long, _) = self_signed(&["-days", "15000"]);
    let fields = Fields::parse(&long).unwrap();
    assert!(*fields.not_after > *"2060" && fields.not_after.len() == now.len());
    assert_eq!(fields.purposes, None);

    for end in 0..certificate.len() {
        assert_eq!(Fields::parse(&certificate[..end]), None, "{end}");
    }
    let mut spoilt = certificate.to_vec();
    for at in 0..spoilt.len() {
        for bit in 0..8 {
            spoilt[at] ^= 1 << bit;
            let _ = Fields::parse(&spoilt);
            spoilt[at] ^= 1 << bit;
        }
    }
}
