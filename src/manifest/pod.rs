//! A v1 Pod, read and defaulted, to our own [`spec::Pod`], checked as the API
//! server checks it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::around::{Around, Known};
use super::container;
use super::report::Report;
use super::tree::Path;
use super::{ephemeral, metadata, names, restart, scheduling, security, volumes};
use crate::spec::{self, Container, Dns, HostAlias, Port, Protocol, RestartPolicy, Spec};

/// The domain that a cluster has if nobody says otherwise; a subdomain's full
/// name ends in it.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// What a Pod is where it has faults is of no use: look at the report first.
pub(super) fn lower(
    r: &mut Report<'_>,
    pod: &core::Pod,
    uid: &str,
    created: Timestamp,
) -> spec::Pod {
    let meta = &pod.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    metadata::check(r, pod, &name, &namespace);
    let spec = match &pod.spec {
        Some(spec) => {
            let lowered = lower_spec(r, spec, meta, &name, &namespace);
            volumes::warn_of_huge_pages(r, spec, &lowered);
            lowered
        }
        None => {
            r.required(&Path::default().key("spec"), "");
            Spec::default()
        }
    };
    spec::Pod {
        version: spec::Pod::VERSION,
        uid: uid.to_owned(),
        namespace,
        name,
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
        created,
        spec,
        applied: None,
        manifest: serde_json::to_value(pod).unwrap_or_default(),
    }
}

fn lower_spec(
    r: &mut Report<'_>,
    s: &core::PodSpec,
    meta: &ObjectMeta,
    name: &str,
    namespace: &str,
) -> Spec {
    let path = Path::default().key("spec");
    let host_network = s.host_network.unwrap_or(false);
    let host_ipc = s.host_ipc.unwrap_or(false);
    let restart_policy = r.choice(
        &path.key("restartPolicy"),
        s.restart_policy.as_deref(),
        &restart::POLICIES,
    );
    let grace = s.termination_grace_period_seconds.unwrap_or(30);
    let deadline = s.active_deadline_seconds;
    check_deadlines(r, &path, grace, deadline);
    scheduling::check(r, &path, s);
    check_os(r, &path, s);
    let (hostname, fqdn, set_hostname_as_fqdn) = hostname(r, &path, s, name, namespace);
    let security_path = path.key("securityContext");
    let security = security::lower_pod(r, &security_path, s.security_context.as_ref());
    let listed = s.volumes.as_deref().unwrap_or_default();
    let init = s.init_containers.as_deref().unwrap_or_default();
    let containers: HashSet<&str> = init
        .iter()
        .chain(&s.containers)
        .map(|c| c.name.as_str())
        .collect();
    let volumes = volumes::lower(r, &path.key("volumes"), listed, name, &containers);
    let annotations = meta.annotations.clone().unwrap_or_default();
    let app_armor = security::app_armor_annotations(r, &annotations, &containers);
    let around = Around {
        security: &security,
        security_path: &security_path,
        app_armor: &app_armor,
        volumes: Known::of(listed),
        containers,
        host_network,
        has_os: s.os.is_some(),
        never_restarts: restart_policy == Some(RestartPolicy::Never),
        grace,
    };
    check_container_names(r, &path, init, &s.containers);
    let mut lower = |field: &str, list: &[core::Container], is_init: bool| -> Vec<_> {
        let path = path.key(field);
        let lower = |(i, c)| container::lower(r, &path.index(i), c, is_init, &around);
        list.iter().enumerate().map(lower).collect()
    };
    let init_containers = lower("initContainers", init, true);
    let containers = lower("containers", &s.containers, false);
    if s.containers.is_empty() {
        r.required(
            &path.key("containers"),
            "a Pod needs at least one container",
        );
    }
    let ephemeral_containers = ephemeral::lower(r, &path, s, &around);
    check_all_host_ports(r, &path, &init_containers, &containers);
    let sysctls = s
        .security_context
        .as_ref()
        .and_then(|c| c.sysctls.as_deref());
    let sysctls_path = security_path.key("sysctls");
    let se_linux = security.se_linux.clone();
    Spec {
        se_linux,
        hostname,
        fqdn,
        set_hostname_as_fqdn,
        restart_policy: restart_policy.unwrap_or_default(),
        termination_grace_period: u64::try_from(grace).unwrap_or(1),
        active_deadline: deadline.and_then(|d| u64::try_from(d).ok()),
        host_network,
        host_pid: s.host_pid.unwrap_or(false),
        share_process_namespace: shares_processes(r, &path, s),
        host_ipc,
        host_aliases: host_aliases(r, &path.key("hostAliases"), s),
        dns: dns(r, &path, s),
        sysctls: security::sysctls(r, &sysctls_path, sysctls, host_network, host_ipc),
        volumes,
        image_pull_secrets: s
            .image_pull_secrets
            .iter()
            .flatten()
            .map(|secret| secret.name.clone())
            .collect(),
        init_containers,
        containers,
        ephemeral_containers,
    }
}

fn shares_processes(r: &mut Report<'_>, path: &Path, s: &core::PodSpec) -> bool {
    let shares = s.share_process_namespace.unwrap_or(false);
    if shares && s.host_pid == Some(true) {
        let path = path.key("shareProcessNamespace");
        r.invalid(
            &path,
            "true",
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    shares
}

fn check_deadlines(r: &mut Report<'_>, path: &Path, grace: i64, deadline: Option<i64>) {
    if grace < 0 {
        let path = path.key("terminationGracePeriodSeconds");
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        r.warn(&path, why);
    }
    if let Some(d) = deadline.filter(|d| !(1..=i64::from(i32::MAX)).contains(d)) {
        let path = path.key("activeDeadlineSeconds");
        r.invalid_number(&path, d, "must be between 1 and 2147483647, inclusive");
    }
}

fn check_os(r: &mut Report<'_>, path: &Path, s: &core::PodSpec) {
    match s.os.as_ref().map(|os| os.name.as_str()) {
        Some("") => r.required(&path.keys("os.name"), "cannot be empty"),
        Some(name) if !["linux", "windows"].contains(&name) => {
            r.unknown_value(&path.keys("os.name"), name, &["linux", "windows"]);
        }
        _ => {}
    }
}

/// Of containers that run beside each other: init containers run alone, but for sidecars.
fn check_all_host_ports(
    r: &mut Report<'_>,
    path: &Path,
    init_containers: &[Container],
    containers: &[Container],
) {
    let mut clashes = HashMap::new();
    for (field, list) in [
        ("initContainers", init_containers),
        ("containers", containers),
    ] {
        for (i, c) in list.iter().enumerate() {
            if field == "containers" || c.sidecar {
                let path = path.key(field).index(i).key("ports");
                check_host_ports(r, &path, &c.ports, &mut clashes);
            }
        }
    }
}

fn check_container_names(
    r: &mut Report<'_>,
    path: &Path,
    init: &[core::Container],
    ordinary: &[core::Container],
) {
    let mut seen = HashSet::new();
    for (field, list) in [("initContainers", init), ("containers", ordinary)] {
        for (i, c) in list.iter().enumerate() {
            let path = path.key(field).index(i).key("name");
            if c.name.is_empty() {
                r.required(&path, "");
            } else if !seen.insert(c.name.as_str()) {
                r.duplicate(&path, &c.name);
            } else {
                r.check(&path, &c.name, names::dns_label(&c.name));
            }
        }
    }
}

/// One host port can be had once. An unset address is every address, and so
/// clashes with any.
fn check_host_ports(
    r: &mut Report<'_>,
    path: &Path,
    ports: &[Port],
    taken: &mut HashMap<(Protocol, u16), Vec<Option<IpAddr>>>,
) {
    for (i, port) in ports.iter().enumerate() {
        let Some(host_port) = port.host_port else {
            continue;
        };
        let address = port.host_ip.filter(|ip| !ip.is_unspecified());
        let others = taken.entry((port.protocol, host_port)).or_default();
        let clash = |o: &Option<IpAddr>| o.is_none() || address.is_none() || *o == address;
        if others.iter().any(clash) {
            let protocol = format!("{:?}", port.protocol).to_uppercase();
            let ip = port.host_ip.map_or(String::new(), |ip| ip.to_string());
            let value = format!("{protocol}/{ip}/{host_port}");
            r.duplicate(&path.index(i).key("hostPort"), &value);
        }
        others.push(address);
    }
}

/// The hostname, the fully qualified name if the Pod has one, and whether the
/// latter is what the kernel is told.
fn hostname(
    r: &mut Report<'_>,
    path: &Path,
    s: &core::PodSpec,
    name: &str,
    namespace: &str,
) -> (String, Option<String>, bool) {
    let given = s.hostname.as_deref().filter(|h| !h.is_empty());
    if let Some(h) = given {
        r.check(&path.key("hostname"), h, names::dns_label(h));
    }
    // A Pod's name may be longer than a hostname, and have dots in it.
    let cut: String = name.chars().take(names::LABEL_MAX).collect();
    let hostname = match given {
        Some(h) => h.to_owned(),
        None => cut.trim_end_matches(['-', '.']).to_owned(),
    };
    let subdomain = s.subdomain.as_deref().filter(|d| !d.is_empty());
    if let Some(d) = subdomain {
        r.check(&path.key("subdomain"), d, names::dns_label(d));
    }
    let fqdn = subdomain.map(|d| format!("{hostname}.{d}.{namespace}.svc.{CLUSTER_DOMAIN}"));
    let as_fqdn = s.set_hostname_as_fqdn.unwrap_or(false);
    // The kernel's limit for a hostname (sethostname(2)) is 64 bytes.
    if as_fqdn && let Some(full) = fqdn.as_deref().filter(|f| f.len() > 64) {
        r.invalid(
            &path.key("setHostnameAsFQDN"),
            "true",
            format!(
                "{full} has {} characters; at most 64 are possible",
                full.len()
            ),
        );
    }
    (hostname, fqdn, as_fqdn)
}

fn host_aliases(r: &mut Report<'_>, path: &Path, s: &core::PodSpec) -> Vec<HostAlias> {
    let mut out = Vec::new();
    for (i, alias) in s.host_aliases.iter().flatten().enumerate() {
        let path = path.index(i);
        let ip = ip_address(r, &path.key("ip"), &alias.ip);
        let hostnames = alias.hostnames.clone().unwrap_or_default();
        for (j, h) in hostnames.iter().enumerate() {
            r.check(&path.key("hostnames").index(j), h, names::dns_subdomain(h));
        }
        out.extend(ip.map(|ip| HostAlias { ip, hostnames }));
    }
    out
}

fn ip_address(r: &mut Report<'_>, path: &Path, text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        r.required(path, "");
        return None;
    }
    match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => {
            r.invalid(
                path,
                text,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
            None
        }
    }
}

fn dns(r: &mut Report<'_>, path: &Path, s: &core::PodSpec) -> Dns {
    const NAMESERVERS_MAX: usize = 3;
    const SEARCHES_MAX: usize = 32;
    const SEARCH_CHARACTERS_MAX: usize = 2048;
    let policy_path = path.key("dnsPolicy");
    let policies = [
        ("ClusterFirstWithHostNet", true),
        ("ClusterFirst", true),
        ("Default", true),
        ("None", false),
    ];
    let policy = s.dns_policy.as_deref();
    let from_host = r.choice(&policy_path, policy, &policies).unwrap_or(true);
    if policy.is_some_and(|p| p.starts_with("ClusterFirst")) && r.is_set(&policy_path) {
        let message =
            "there is no cluster DNS here, so the Pod uses the machine's, as with Default";
        r.no_effect(&policy_path, message);
    }
    let path = path.key("dnsConfig");
    let mut dns = Dns {
        from_host,
        ..Dns::default()
    };
    let config = s.dns_config.clone().unwrap_or_default();
    let nameservers = config.nameservers.unwrap_or_default();
    let nameservers_path = path.key("nameservers");
    if nameservers.len() > NAMESERVERS_MAX {
        let message = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        r.problem(&nameservers_path, message);
    }
    if !from_host && nameservers.is_empty() {
        r.required(
            &nameservers_path,
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    for (i, server) in nameservers.iter().enumerate() {
        let ip = ip_address(r, &nameservers_path.index(i), server);
        dns.nameservers.extend(ip);
    }
    dns.searches = config.searches.unwrap_or_default();
    let searches_path = path.key("searches");
    let characters: usize = dns.searches.iter().map(|s| s.len() + 1).sum();
    if dns.searches.len() > SEARCHES_MAX || characters > SEARCH_CHARACTERS_MAX + 1 {
        let message = format!(
            "must not have more than {SEARCHES_MAX} search paths or \
             {SEARCH_CHARACTERS_MAX} characters"
        );
        r.problem(&searches_path, message);
    }
    for (i, search) in dns.searches.iter().enumerate() {
        // "." alone is the root; a trailing dot makes a name absolute.
        let name = search.strip_suffix('.').unwrap_or(search);
        if search != "." {
            r.check(&searches_path.index(i), search, names::search_domain(name));
        }
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        let path = path.key("options").index(i);
        let name = option.name.as_deref().unwrap_or_default();
        let value = option.value.as_deref();
        let breaks = |s: &str| s.contains(char::is_whitespace);
        if name.is_empty() {
            r.required(&path.key("name"), "must not be empty");
        } else if breaks(name) {
            r.invalid(&path.key("name"), name, "must be one word");
        }
        if value.is_some_and(breaks) {
            let value = value.unwrap_or_default();
            r.invalid(&path.key("value"), value, "must be one word");
        }
        dns.options.push(match value {
            Some(v) => format!("{name}:{v}"),
            None => name.to_owned(),
        });
    }
    dns
}
