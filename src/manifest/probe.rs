//! A container's probes, and the requests of probes and hooks.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names;
use super::report::Report;
use super::tree::{Path, quote};
use crate::spec::{Check, Host, HttpGet, HttpVersion, Port, Probe, ProbeKind};

/// As an API server fills them in; 0 is absent to it.
const PERIOD: i32 = 10;
const TIMEOUT: i32 = 1;
const SUCCESSES: i32 = 1;
const FAILURES: i32 = 3;

/// Fills in what a probe leaves out.
pub(super) fn fill(probe: &mut core::Probe) {
    for (field, default) in [
        (&mut probe.period_seconds, PERIOD),
        (&mut probe.timeout_seconds, TIMEOUT),
        (&mut probe.success_threshold, SUCCESSES),
        (&mut probe.failure_threshold, FAILURES),
    ] {
        if field.unwrap_or(0) == 0 {
            *field = Some(default);
        }
    }
    if let Some(get) = &mut probe.http_get {
        fill_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

pub(super) fn fill_get(get: &mut core::HTTPGetAction) {
    for (field, default) in [(&mut get.path, "/"), (&mut get.scheme, "HTTP")] {
        if field.as_deref().is_none_or(str::is_empty) {
            *field = Some(default.to_owned());
        }
    }
}

/// One of a container's probes. `ports`: the container's, which may be meant by name.
pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    kind: ProbeKind,
    p: &core::Probe,
    ports: &[Port],
) -> Option<Probe> {
    let before = r.problems.len();
    let check = check(r, path, p, ports);
    let mut number = |key: &str, value: Option<i32>, default: i32| {
        let value = value.unwrap_or(default);
        if value < 0 {
            let why = "must be greater than or equal to 0";
            r.invalid_number(&path.key(key), value.into(), why);
        }
        u32::try_from(value).unwrap_or(0)
    };
    let initial_delay = number("initialDelaySeconds", p.initial_delay_seconds, 0);
    let period = number("periodSeconds", p.period_seconds, PERIOD);
    let timeout = number("timeoutSeconds", p.timeout_seconds, TIMEOUT);
    let success_threshold = number("successThreshold", p.success_threshold, SUCCESSES);
    let failure_threshold = number("failureThreshold", p.failure_threshold, FAILURES);
    if kind != ProbeKind::Readiness && success_threshold > 1 {
        let path = path.key("successThreshold");
        r.invalid_number(&path, success_threshold.into(), "must be 1");
    }
    let grace_path = path.key("terminationGracePeriodSeconds");
    let grace = p.termination_grace_period_seconds;
    match grace {
        Some(seconds) if kind == ProbeKind::Readiness => {
            r.invalid_number(&grace_path, seconds, "must not be set for readinessProbes");
        }
        Some(seconds) if seconds <= 0 => {
            r.invalid_number(&grace_path, seconds, "must be greater than 0");
        }
        _ => {}
    }
    let probe = Probe {
        check: check?,
        initial_delay: initial_delay.into(),
        period: period.into(),
        timeout: timeout.into(),
        success_threshold,
        failure_threshold,
        grace: grace.and_then(|g| u64::try_from(g).ok()),
    };
    (r.problems.len() == before).then_some(probe)
}

fn check(r: &mut Report<'_>, path: &Path, p: &core::Probe, ports: &[Port]) -> Option<Check> {
    let set = [
        p.exec.is_some(),
        p.http_get.is_some(),
        p.tcp_socket.is_some(),
        p.grpc.is_some(),
    ];
    match set.iter().filter(|s| **s).count() {
        0 => {
            let hint = "must specify a handler type: exec, httpGet, tcpSocket or grpc";
            r.required(path, hint);
        }
        1 => {}
        _ => r.forbidden(path, "may not specify more than 1 handler type"),
    }
    if let Some(exec) = &p.exec {
        return Some(command(r, path, exec));
    }
    if let Some(get) = &p.http_get {
        return http_get(r, &path.key("httpGet"), get, ports).map(Check::Http);
    }
    if let Some(socket) = &p.tcp_socket {
        return tcp_socket(r, &path.key("tcpSocket"), socket, ports);
    }
    let grpc = p.grpc.as_ref()?;
    let path = path.key("grpc");
    let modes = [("Plaintext", false), ("TLS", true)];
    let mode = grpc.mode.as_deref().filter(|m| !m.is_empty());
    let tls = r.choice(&path.key("mode"), mode, &modes).unwrap_or(false);
    Some(Check::Grpc {
        port: port_number(r, &path.key("port"), grpc.port)?,
        service: grpc.service.clone().unwrap_or_default(),
        tls,
    })
}

/// `path`: of the handler's parent.
pub(super) fn command(r: &mut Report<'_>, path: &Path, exec: &core::ExecAction) -> Check {
    let command = exec.command.clone().unwrap_or_default();
    if command.is_empty() {
        r.required(&path.keys("exec.command"), "");
    }
    Check::Exec(command)
}

pub(super) fn tcp_socket(
    r: &mut Report<'_>,
    path: &Path,
    socket: &core::TCPSocketAction,
    ports: &[Port],
) -> Option<Check> {
    let host = host(r, &path.key("host"), socket.host.as_deref());
    let port = port(r, &path.key("port"), &socket.port, ports)?;
    Some(Check::Tcp { host, port })
}

pub(super) fn http_get(
    r: &mut Report<'_>,
    path: &Path,
    get: &core::HTTPGetAction,
    ports: &[Port],
) -> Option<HttpGet> {
    let schemes = [("HTTP", false), ("HTTPS", true)];
    let protocols = [("HTTP1", false), ("HTTP2", true)];
    let written = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    let (scheme, protocol) = (written(&get.scheme), written(&get.protocol));
    let https = r.choice(&path.key("scheme"), scheme.as_deref(), &schemes);
    let protocol_path = path.key("protocol");
    let http2 = r.choice(&protocol_path, protocol.as_deref(), &protocols);
    let version = match (https.unwrap_or(false), http2.unwrap_or(false)) {
        (false, false) => HttpVersion::Http,
        (true, false) => HttpVersion::Https,
        (false, true) => HttpVersion::Http2,
        (true, true) => {
            let why = "HTTP2 is without TLS: it may only be set with scheme HTTP";
            r.invalid(&protocol_path, "HTTP2", why);
            HttpVersion::Http2
        }
    };
    let host_path = path.key("host");
    let host = host(r, &host_path, get.host.as_deref());
    if version == HttpVersion::Http2 && host.is_some() {
        r.forbidden(&host_path, "may not be set with protocol HTTP2");
    }
    let mut headers = Vec::new();
    for (i, header) in get.http_headers.iter().flatten().enumerate() {
        let path = path.key("httpHeaders").index(i);
        let (name, value) = (&header.name, &header.value);
        r.check(&path.key("name"), name, names::http_header_name(name));
        if value.bytes().any(|b| b != b'\t' && (b < b' ' || b == 0x7f)) {
            let why = "must not hold control characters, line breaks among them";
            r.invalid(&path.key("value"), value, why);
        }
        headers.push((name.clone(), value.clone()));
    }
    Some(HttpGet {
        version,
        host,
        port: port(r, &path.key("port"), &get.port, ports)?,
        path: request_target(get.path.as_deref().unwrap_or_default()),
        headers,
    })
}

/// A path as it goes into a request: what a URI may not hold is percent-encoded (RFC 3986,
/// 2.1), and a fragment is the client's own.
fn request_target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::from(if path.starts_with('/') { "" } else { "/" });
    for b in path.bytes() {
        match b {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&b) => target.push(b.into()),
            _ => target.push_str(&format!("%{b:02X}")),
        }
    }
    target
}

fn host(r: &mut Report<'_>, path: &Path, host: Option<&str>) -> Option<Host> {
    let host = host.filter(|h| !h.is_empty())?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
        return Some(Host::Ip(ip));
    }
    if let Err(why) = names::dns_subdomain(&host.to_lowercase()) {
        r.invalid(
            path,
            host,
            format!("must be an IP address or a name: {why}"),
        );
    }
    Some(Host::Name(host.to_owned()))
}

/// A number, or the name of one of the container's ports. Kubernetes finds out at each
/// probe that there is no port of that name; here it is a fault of the manifest.
fn port(r: &mut Report<'_>, path: &Path, port: &IntOrString, ports: &[Port]) -> Option<u16> {
    let name = match port {
        IntOrString::Int(number) => return port_number(r, path, *number),
        IntOrString::String(name) => name,
    };
    if let Err(why) = names::port_name(name) {
        r.invalid(path, name, why);
        return None;
    }
    let found = ports.iter().find(|p| p.name.as_ref() == Some(name));
    if found.is_none() {
        let known: Vec<&str> = ports.iter().filter_map(|p| p.name.as_deref()).collect();
        let known = match known.is_empty() {
            true => "none has a name".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        let message = format!(
            "Not found: {}: no port of this container ({known})",
            quote(name)
        );
        r.problem(path, message);
    }
    found.map(|p| p.container_port)
}

pub(super) fn port_number(r: &mut Report<'_>, path: &Path, number: i32) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            let why = "must be between 1 and 65535, inclusive";
            r.invalid_number(path, number.into(), why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::request_target;

    #[test]
    fn paths_become_request_targets() {
        for (path, target) in [
            ("", "/"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/a b?q=1&r=%20#top", "/a%20b?q=1&r=%20"),
            ("/\r\nX: y", "/%0D%0AX:%20y"),
            ("/é", "/%C3%A9"),
        ] {
            assert_eq!(request_target(path), target, "{path}");
        }
    }
}
