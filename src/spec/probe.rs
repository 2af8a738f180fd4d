//! Probes: what is asked of a container, how often, and how many answers decide.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pod::annotated;

/// What a probe decides about. In the order in which a container that starts meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum ProbeKind {
    /// Has it started? The two others wait for it.
    Startup,
    /// May it be sent requests?
    Readiness,
    /// Does it have to be restarted?
    Liveness,
}

impl ProbeKind {
    pub(crate) const ALL: [ProbeKind; 3] = [
        ProbeKind::Startup,
        ProbeKind::Readiness,
        ProbeKind::Liveness,
    ];

    /// With a capital, as Kubernetes' events begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub check: Check,
    /// Seconds from the container's start to the first probe.
    pub initial_delay: u64,
    /// Seconds between probes; at least 1.
    pub period: u64,
    /// Seconds that an answer may take; at least 1.
    pub timeout: u64,
    /// How many successes in a row make up for failures; at least 1.
    pub success_threshold: u32,
    /// How many failures in a row count as one; at least 1.
    pub failure_threshold: u32,
    /// Seconds, in the place of the Pod's grace period when this probe ends the container.
    pub grace: Option<u64>,
}

impl Probe {
    pub(crate) fn period(&self) -> Duration {
        Duration::from_secs(self.period)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// As kubectl describes it.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} delay={}s timeout={}s period={}s #success={} #failure={}",
            self.check,
            self.initial_delay,
            self.timeout,
            self.period,
            self.success_threshold,
            self.failure_threshold
        )
    }
}

/// How it is asked. All but [`Check::Exec`] go from inside the Pod's network namespace to
/// the Pod's own address, where no other host is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Check {
    /// A command in the container: success is exit code 0.
    Exec(Vec<String>),
    Http(HttpGet),
    /// Success is a connection.
    Tcp {
        host: Option<Host>,
        port: u16,
    },
    /// gRPC's health checking protocol: success is SERVING.
    Grpc {
        port: u16,
        service: String,
        tls: bool,
    },
}

/// As kubectl describes it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |host: &Option<Host>| host.as_ref().map(Host::in_url).unwrap_or_default();
        match self {
            Check::Exec(command) => write!(f, "exec [{}]", command.join(" ")),
            Check::Http(get) => {
                let (host, port, path) = (name(&get.host), get.port, &get.path);
                let (scheme, protocol) = match get.version {
                    HttpVersion::Http => ("http", ""),
                    HttpVersion::Https => ("https", ""),
                    HttpVersion::Http2 => ("http", " (HTTP2)"),
                };
                write!(f, "http-get {scheme}://{host}:{port}{path}{protocol}")
            }
            Check::Tcp { host, port } => write!(f, "tcp-socket {}:{port}", name(host)),
            Check::Grpc { port, service, tls } => {
                let mode = if *tls { " (TLS)" } else { "" };
                write!(f, "grpc <pod>:{port} {service}{mode}")
            }
        }
    }
}

/// Success is a status from 200 to 399.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HttpGet {
    pub version: HttpVersion,
    pub host: Option<Host>,
    pub port: u16,
    /// From its `/` on, with the query.
    pub path: String,
    /// In their order; a name may come twice.
    pub headers: Vec<(String, String)>,
}

/// The scheme and protocol of a manifest in one: not all of them go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HttpVersion {
    /// HTTP/1.1 without TLS.
    Http,
    /// HTTP/1.1 in TLS; certificates are not verified, as in a kubelet.
    Https,
    /// HTTP/2 without TLS, from the first byte ("prior knowledge", RFC 9113, 3.3).
    Http2,
}

/// Another host than the Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Host {
    /// As it stands in a URL.
    pub(crate) fn in_url(&self) -> String {
        match self {
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }
}

/// Whether startup and readiness probes come sooner than their period until the first
/// success, as annotations say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FirstProbes {
    #[default]
    Early,
    /// As a kubelet's: at the period from the start on.
    Periodic,
}

impl FirstProbes {
    pub(crate) const ANNOTATION: &str = "carob/first-probes";
    pub(crate) const VALUES: [(&str, FirstProbes); 2] = [
        ("early", FirstProbes::Early),
        ("periodic", FirstProbes::Periodic),
    ];

    /// As annotations say it.
    pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Self {
        annotated(annotations, Self::ANNOTATION, &Self::VALUES)
    }
}
