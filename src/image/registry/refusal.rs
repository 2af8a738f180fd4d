//! Why TLS with a registry failed, and what mends it.

use jiff::Timestamp;
use nix::errno::Errno;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

use crate::image::registry::tls::Trust;
use crate::image::registry::verifier::Refused;

/// So many of a certificate's names are shown.
const MAX_NAMES: usize = 5;

/// A cause, without the registry that it is about.
pub(crate) struct Refusal {
    pub text: String,
    pub hint: Option<String>,
    /// It is the same the next time.
    pub lasting: bool,
}

/// What `e` says, if it is an error of TLS. `registry` is the one that was asked for,
/// whose directory in certs.d counts.
pub(crate) fn explain(e: &ureq::Error, registry: &str, trust: &Trust) -> Option<Refusal> {
    let ureq::Error::Io(e) = e else {
        return None;
    };
    let lasting = |text: String, hint: String| Refusal {
        text,
        hint: Some(hint),
        lasting: true,
    };
    Some(match e.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(e) => {
            let (text, hint) = certificate(e, registry, trust);
            lasting(text, hint)
        }
        rustls::Error::AlertReceived(alert) if is_of_client(*alert) => {
            let hint = match &trust.client {
                Some((path, _)) => format!("it does not take {}", path.display()),
                None => format!(
                    "it asks for a client's certificate, perhaps: put that and its key into \
                     /etc/containers/certs.d/{registry}/ as client.cert and client.key"
                ),
            };
            lasting(format!("it ends TLS with the alert {alert:?}"), hint)
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Refusal {
            text: "it answers in plain HTTP, not TLS".into(),
            hint: Some(format!(
                "carob pull --insecure takes that; for Pods, write a [[registry]] with location = \
                 \"{registry}\" and insecure = true into /etc/containers/registries.conf"
            )),
            lasting: false,
        },
        other => Refusal {
            text: format!("TLS: {other}"),
            hint: None,
            lasting: false,
        },
    })
}

/// Of an error that says that nobody at this name was reached: why. A name that DNS does not
/// know counts as EHOSTUNREACH.
pub(crate) fn unreachable(e: &ureq::Error) -> Option<Errno> {
    let ureq::Error::Io(e) = e else {
        return matches!(e, ureq::Error::Timeout(_)).then_some(Errno::ETIMEDOUT);
    };
    use std::io::ErrorKind;
    let errno = match (e.raw_os_error(), e.kind()) {
        (Some(raw), _) => Errno::from_raw(raw),
        (None, ErrorKind::NotFound) => Errno::EHOSTUNREACH,
        // Of a name server, whose text has its address.
        (None, ErrorKind::NetworkUnreachable) => Errno::ENETUNREACH,
        (None, ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused) => Errno::EHOSTUNREACH,
        (None, ErrorKind::TimedOut) => Errno::ETIMEDOUT,
        _ => return None,
    };
    is_unreachable(errno).then_some(errno)
}

pub(crate) fn is_unreachable(errno: Errno) -> bool {
    [
        Errno::ECONNREFUSED,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::ETIMEDOUT,
    ]
    .contains(&errno)
}

/// Without the number that std adds to a system's error.
pub(crate) fn io_text(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(raw) => {
            let errno = Errno::from_raw(raw);
            format!("{errno:?}: {}", errno.desc())
        }
        None => e.to_string(),
    }
}

/// Servers answer with these to a client's certificate that is missing or wrong.
fn is_of_client(alert: AlertDescription) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, UnknownCA, UnsupportedCertificate,
    };
    [
        AccessDenied,
        BadCertificate,
        CertificateExpired,
        CertificateRequired,
        CertificateRevoked,
        CertificateUnknown,
        UnknownCA,
        UnsupportedCertificate,
    ]
    .contains(&alert)
}

fn certificate(e: &CertificateError, registry: &str, trust: &Trust) -> (String, String) {
    let put = |what: &str| {
        format!(
            "put {what} into /etc/containers/certs.d/{registry}/ca.crt or the system's bundle, \
             or name its file in SSL_CERT_FILE; trusted are those in: {}",
            trust.files()
        )
    };
    match e {
        CertificateError::UnknownIssuer => (
            "its certificate is issued by a CA that is not trusted here".into(),
            put("the certificate of the registry's CA"),
        ),
        CertificateError::BadSignature => (
            "its certificate or handshake is not signed with the key that it should be".into(),
            put("the certificate that its CA has now"),
        ),
        CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<Refused>() {
            Some(Refused::SelfSigned) => (
                "its certificate is self-signed, and none of those that are trusted here".into(),
                format!(
                    "save it (openssl s_client -connect {} </dev/null | openssl x509 >ca.crt), \
                     compare it with the registry's own, and {}",
                    address(registry),
                    put("that certificate")
                ),
            ),
            Some(Refused::Authority) => (
                "its certificate is a CA's (CA:TRUE), and none of those that are trusted here"
                    .into(),
                "give the registry a certificate of its own, with CA:FALSE, issued by that CA"
                    .into(),
            ),
            None => (
                format!("its certificate is not taken: {inner}"),
                "give the registry another certificate".into(),
            ),
        },
        CertificateError::ExpiredContext { time, not_after } => (
            format!("its certificate has expired on {}", day(*not_after)),
            clock("renew the registry's certificate", *time),
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!("its certificate is valid from {} on", day(*not_before)),
            clock("wait, or set this machine's clock", *time),
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => name(expected, presented),
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => (
            "its certificate is not for servers: its extendedKeyUsage is without serverAuth".into(),
            "give the registry a certificate for servers".into(),
        ),
        other => (
            format!("its certificate is not taken: {other}"),
            "give the registry another certificate".into(),
        ),
    }
}

/// With the port that a registry's name leaves out.
fn address(registry: &str) -> String {
    match registry.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => registry.to_owned(),
        _ => format!("{registry}:443"),
    }
}

fn name(expected: &ServerName<'_>, presented: &[String]) -> (String, String) {
    let host = expected.to_str();
    let kind = match expected {
        ServerName::IpAddress(_) => "IP",
        _ => "DNS",
    };
    let hint = format!("make it anew with subjectAltName={kind}:{host}");
    if presented.is_empty() {
        let text = "its certificate has no subjectAltName, and its common name is not looked at";
        return (text.to_owned(), hint);
    }
    // webpki has them as DnsName("a.example") and IpAddress(10.0.0.1).
    let mut names: Vec<&str> = presented
        .iter()
        .take(MAX_NAMES)
        .map(|n| match n.split_once('(') {
            Some((_, inner)) => inner.trim_end_matches(')').trim_matches('"'),
            None => n,
        })
        .collect();
    if presented.len() > MAX_NAMES {
        names.push("others");
    }
    (
        format!(
            "its certificate is for {}, not for {host}",
            names.join(", ")
        ),
        format!("use a name that it is for, or {hint}"),
    )
}

fn clock(what: &str, now: UnixTime) -> String {
    format!("{what}; this machine's clock says {}", day(now))
}

fn day(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .map_or_else(|| "another time".to_owned(), |t| t.to_string())
}
