//! The environment of a container: Kubernetes' API reference (EnvVar, ObjectFieldSelector,
//! ResourceFieldSelector).

use super::expand::{Vars, expand};
use super::inputs::{Inputs, config_error};
use crate::container::plan::DEFAULT_PATH;
use crate::container::user::User;
use crate::spec::EnvValue;
use crate::{Context, Result};

pub(super) struct Env {
    /// What `$(VAR)` may name: the container's own variables.
    pub own: Vars,
    /// `KEY=value` for the process.
    pub all: Vec<String>,
}

pub(super) fn plan_env(inputs: &Inputs, user: &User) -> Result<Env> {
    let c = inputs.container;
    let mut all: Vec<(String, String)> = vec![(
        "HOSTNAME".to_owned(),
        inputs
            .pod
            .spec
            .fqdn
            .clone()
            .filter(|_| inputs.pod.spec.set_hostname_as_fqdn)
            .unwrap_or_else(|| inputs.pod.spec.hostname.clone()),
    )];
    if c.tty {
        all.push(("TERM".into(), "xterm".into()));
    }
    let mut set = |name: &str, value: String| match all.iter_mut().find(|(n, _)| n == name) {
        Some((_, v)) => *v = value,
        None => all.push((name.to_owned(), value)),
    };
    for entry in &inputs.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value.to_owned());
    }
    let mut own = Vars::new();
    for v in &c.env {
        let value = match &v.value {
            EnvValue::Text(text) => expand(text, &own),
            EnvValue::Field(path) => {
                field_value(inputs, path).with_context(|| format!("env {}", v.name))?
            }
            EnvValue::Resource {
                container,
                resource,
                divisor,
            } => resource_value(inputs, container, resource, *divisor)
                .with_context(|| format!("env {}", v.name))?,
            EnvValue::Key { .. } | EnvValue::File { .. } => {
                return Err(config_error("values of objects are not supported yet"));
            }
        };
        if value.contains('\0') {
            return Err(config_error(format!(
                "env {}: a NUL byte in the value",
                v.name
            )));
        }
        own.insert(v.name.clone(), value.clone());
        set(&v.name, value);
    }
    let has = |all: &[(String, String)], name: &str| all.iter().any(|(n, _)| n == name);
    if !has(&all, "PATH") {
        all.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    if !has(&all, "HOME") {
        all.push((
            "HOME".into(),
            user.home.clone().unwrap_or_else(|| "/".into()),
        ));
    }
    let all = all.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    Ok(Env { own, all })
}

fn field_value(inputs: &Inputs, path: &str) -> Result<String> {
    let pod = inputs.pod;
    let ip = |ip: Option<&std::net::IpAddr>| ip.map(ToString::to_string).unwrap_or_default();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &pod.labels,
            "metadata.annotations" => &pod.annotations,
            _ => return Err(config_error(format!("fieldRef {path}: no such field"))),
        };
        return Ok(map.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid.clone(),
        "spec.nodeName" => inputs.node_name.to_owned(),
        "spec.serviceAccountName" => "default".into(),
        "status.podIP" => ip(inputs.ips.first()),
        "status.podIPs" => inputs
            .ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
        "status.hostIP" | "status.hostIPs" => ip(inputs.host_ip.as_ref()),
        _ => return Err(config_error(format!("fieldRef {path}: no such field"))),
    })
}

fn resource_value(
    inputs: &Inputs,
    container: &str,
    resource: &str,
    divisor: u64,
) -> Result<String> {
    let c =
        if container.is_empty() {
            inputs.container
        } else {
            inputs.pod.spec.container(container).ok_or_else(|| {
                config_error(format!("resourceFieldRef: no container {container:?}"))
            })?
        };
    let r = c.resources;
    let value = match resource {
        "limits.cpu" => r.cpu_limit.unwrap_or(inputs.node_cpu),
        "limits.memory" => r.memory_limit.unwrap_or(inputs.node_memory),
        "requests.cpu" => r.cpu_request.or(r.cpu_limit).unwrap_or(0),
        "requests.memory" => r.memory_request.or(r.memory_limit).unwrap_or(0),
        other => {
            return Err(config_error(format!(
                "resourceFieldRef {other}: not supported yet"
            )));
        }
    };
    Ok(value.div_ceil(divisor.max(1)).to_string())
}
