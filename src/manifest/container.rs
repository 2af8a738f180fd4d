//! One container of the Pod: names, image, environment, ports, probes, hooks.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::around::Around;
use super::report::Report;
use super::tree::Path;
use super::{devices, env, lifecycle, names, probe, resources, restart, security, volumes};
use crate::spec::{
    Container, Port, Probe, ProbeKind, Protocol, PullPolicy, ResizePolicy, Resources,
};

pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
    is_init: bool,
    pod: &Around<'_>,
) -> Container {
    let sidecar = is_init && c.restart_policy.as_deref() == Some("Always");
    let (restart_policy, restart_rules) = restart::lower(r, path, c);
    let image_path = path.key("image");
    let image = c.image.clone().unwrap_or_default();
    if image.is_empty() {
        r.required(&image_path, "");
    } else if image.trim() != image {
        r.invalid(
            &image_path,
            &image,
            "must not have leading or trailing whitespace",
        );
    }
    let security_path = path.key("securityContext");
    let security = security::lower_container(
        r,
        &security_path,
        c.security_context.as_ref(),
        pod.security,
        pod.security_path,
        pod.app_armor.get(&c.name),
    );
    let ports = ports(r, &path.key("ports"), c, pod.host_network);
    let [startup, readiness, liveness] = probes(r, path, c, is_init && !sidecar, &ports);
    let (post_start, pre_stop, stop_signal) =
        lifecycle::lower(r, path, c, is_init && !sidecar, &ports, pod);
    let resize_policy = resize_policy(r, &path.key("resizePolicy"), c, pod.never_restarts);
    let message_path = message_path(r, &path.key("terminationMessagePath"), c);
    let working_dir = c.working_dir.clone().filter(|d| !d.is_empty());
    if let Some(dir) = &working_dir {
        r.check(&path.key("workingDir"), dir, names::absolute_path(dir));
    }
    let pull_policy = c.image_pull_policy.as_deref();
    let message_policies = [("File", false), ("FallbackToLogsOnError", true)];
    let message_policy = c.termination_message_policy.as_deref();
    if let Some([first, ..]) = c.command.as_deref()
        && first.is_empty()
    {
        r.warn(
            &path.key("command").index(0),
            "it is empty: the container cannot start; name a program there, or leave command out",
        );
    }
    Container {
        name: c.name.clone(),
        target: None,
        image,
        pull_policy: r
            .choice(&path.key("imagePullPolicy"), pull_policy, &PullPolicy::ALL)
            .unwrap_or_default(),
        command: c.command.clone().unwrap_or_default(),
        args: c.args.clone().unwrap_or_default(),
        working_dir,
        env_from: env::lower_from(r, &path.key("envFrom"), c),
        env: env::lower(r, &path.key("env"), c, pod),
        ports,
        resources: lower_resources(r, path, c),
        resize_policy,
        mounts: volumes::mounts(
            r,
            &path.key("volumeMounts"),
            c.volume_mounts.as_deref().unwrap_or_default(),
            &pod.volumes,
            security.privileged,
        ),
        devices: devices::lower(r, path, c, &pod.volumes),
        security,
        startup,
        readiness,
        liveness,
        post_start,
        pre_stop,
        stop_signal,
        termination_message_path: message_path,
        termination_message_from_logs: r
            .choice(
                &path.key("terminationMessagePolicy"),
                message_policy,
                &message_policies,
            )
            .unwrap_or(false),
        stdin: c.stdin.unwrap_or(false),
        stdin_once: c.stdin_once.unwrap_or(false),
        tty: c.tty.unwrap_or(false),
        sidecar,
        restart_policy,
        restart_rules,
    }
}

fn message_path(r: &mut Report<'_>, path: &Path, c: &core::Container) -> String {
    let written = c.termination_message_path.as_deref().unwrap_or_default();
    let target = names::from_root(written);
    if names::is_root(&target) {
        r.invalid(path, written, "must be a file, not the root");
    }
    r.check(path, written, names::absolute_path(&target));
    target
}

fn resize_policy(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
    never_restarts: bool,
) -> ResizePolicy {
    let mut lowered = ResizePolicy::default();
    let mut seen = HashSet::new();
    for (i, policy) in c.resize_policy.iter().flatten().enumerate() {
        let path = path.index(i);
        let (name, restart) = (&policy.resource_name, &policy.restart_policy);
        if !seen.insert(name) {
            r.duplicate(&path, name);
        }
        let names = [("cpu", ()), ("memory", ())];
        r.choice(&path.key("resourceName"), Some(name), &names);
        let restarts = [("NotRequired", ()), ("RestartContainer", ())];
        let path = path.key("restartPolicy");
        r.choice(&path, Some(restart), &restarts);
        if never_restarts && restart == "RestartContainer" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            r.invalid(&path, restart, why);
        }
        let restarts = restart == "RestartContainer";
        match name.as_str() {
            "cpu" => lowered.cpu_restarts = restarts,
            _ => lowered.memory_restarts = restarts,
        }
    }
    lowered
}

fn lower_resources(r: &mut Report<'_>, path: &Path, c: &core::Container) -> Resources {
    resources::lower(r, &path.key("resources"), c.resources.as_ref())
}

/// Addresses on which no port is published: the start would refuse them.
fn check_host_ip(r: &mut Report<'_>, path: &Path, ip: IpAddr) {
    if ip.is_loopback() && ip.is_ipv4() {
        r.refused(
            path,
            "ports are not published on the loopback yet; reach the Pod by its own address \
             (carob get pods -o wide), or leave hostIP out",
        );
    } else if ip.is_ipv6() {
        r.refused(
            path,
            "Pods have no IPv6 yet; name an IPv4 address of this machine",
        );
    }
}

fn ports(r: &mut Report<'_>, path: &Path, c: &core::Container, host_network: bool) -> Vec<Port> {
    let mut names_seen = HashSet::new();
    let mut out = Vec::new();
    for (i, p) in c.ports.iter().flatten().enumerate() {
        let path = path.index(i);
        let name = p.name.clone().filter(|n| !n.is_empty());
        if let Some(name) = &name {
            if !names_seen.insert(name.clone()) {
                r.duplicate(&path.key("name"), name);
            } else {
                r.check(&path.key("name"), name, names::port_name(name));
            }
        }
        let container_path = path.key("containerPort");
        let container_port = if p.container_port == 0 {
            r.required(&container_path, "");
            0
        } else {
            probe::port_number(r, &container_path, p.container_port).unwrap_or(0)
        };
        let host_port = p.host_port.filter(|h| *h != 0);
        if let Some(host) = host_port
            && host_network
            && host != p.container_port
        {
            r.invalid_number(
                &path.key("hostPort"),
                host.into(),
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
        let host_port = host_port.and_then(|h| probe::port_number(r, &path.key("hostPort"), h));
        let host_ip = p.host_ip.as_deref().filter(|ip| !ip.is_empty());
        let host_ip = host_ip.and_then(|ip| match ip.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                r.invalid(&path.key("hostIP"), ip, "must be a valid IP address");
                None
            }
        });
        if let (Some(ip), Some(_), false) = (host_ip, host_port, host_network) {
            check_host_ip(r, &path.key("hostIP"), ip);
        }
        let protocols = [
            ("TCP", Protocol::Tcp),
            ("UDP", Protocol::Udp),
            ("SCTP", Protocol::Sctp),
        ];
        out.push(Port {
            name,
            container_port,
            host_port,
            host_ip,
            protocol: r
                .choice(&path.key("protocol"), p.protocol.as_deref(), &protocols)
                .unwrap_or_default(),
        });
    }
    out
}

/// In the order of [`ProbeKind::ALL`].
fn probes(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
    is_plain_init: bool,
    ports: &[Port],
) -> [Option<Probe>; 3] {
    ProbeKind::ALL.map(|kind| {
        let (key, probe) = match kind {
            ProbeKind::Startup => ("startupProbe", &c.startup_probe),
            ProbeKind::Readiness => ("readinessProbe", &c.readiness_probe),
            ProbeKind::Liveness => ("livenessProbe", &c.liveness_probe),
        };
        let path = path.key(key);
        if is_plain_init && probe.is_some() {
            r.forbidden(
                &path,
                "may not be set for init containers without restartPolicy=Always",
            );
        }
        probe::lower(r, &path, kind, probe.as_ref()?, ports)
    })
}
