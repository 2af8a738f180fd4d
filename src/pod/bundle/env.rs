//! The environment of a container: Kubernetes' API reference (EnvVar, EnvFromSource,
//! ObjectFieldSelector, ResourceFieldSelector), and how a kubelet puts them together:
//! `envFrom` in its order, then `env` in its order, the later one over the earlier.
//!
//! A value that has come from a Secret, or in which such a value was expanded, is secret:
//! the process gets it, and the bundle on disk does not have it.

use std::collections::BTreeSet;
use std::fmt;

use super::expand::{Vars, expand, mentions};
use super::fault::{LENGTH_MAX, config_error, too_long};
use super::files;
use super::inputs::{EnvInputs, Inputs};
use crate::container::plan::DEFAULT_PATH;
use crate::container::user::User;
use crate::spec::{EnvValue, ObjectKind, ObjectRef};
use crate::{Context, Result};

/// What the container's own part of the manifest sets.
#[derive(Default)]
pub(crate) struct OwnEnv {
    /// What `$(VAR)` may name.
    pub vars: Vars,
    /// Those in the order in which they were set first.
    order: Vec<String>,
    /// Those whose values are secret.
    pub secret: BTreeSet<String>,
}

impl OwnEnv {
    fn set(&mut self, name: String, value: String, is_secret: bool) {
        match is_secret {
            true => self.secret.insert(name.clone()),
            false => self.secret.remove(&name),
        };
        if !self.vars.contains_key(&name) {
            self.order.push(name.clone());
        }
        self.vars.insert(name, value);
    }

    /// Whether the expansion of this text has anything secret in it.
    pub(super) fn is_secret(&self, text: &str) -> bool {
        mentions(text, &self.secret)
    }

    /// `KEY=value` of those that the bundle on disk has not.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        self.secret
            .iter()
            .map(|name| format!("{name}={}", self.vars[name]))
    }
}

/// Without the values.
impl fmt::Debug for OwnEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnEnv")
            .field("names", &self.order)
            .finish_non_exhaustive()
    }
}

/// `KEY=value` for the process: the image's, with the container's own over them.
pub(super) fn plan_env(inputs: &Inputs, user: &User, own: &OwnEnv) -> Vec<String> {
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
    for name in &own.order {
        set(name, own.vars[name].clone());
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
    all.into_iter().map(|(n, v)| format!("{n}={v}")).collect()
}

/// What the manifest sets, by the Pod, its objects and its files.
///
/// # Errors
/// [`crate::Kind::Invalid`]: an object, a key or a file that is not there and not optional.
pub(crate) fn own_env(inputs: &EnvInputs) -> Result<OwnEnv> {
    let mut own = OwnEnv::default();
    let mut read = files::Read::new();
    for from in &inputs.container.env_from {
        let values = inputs
            .objects
            .texts(&from.object, None)
            .context("envFrom")?;
        for (key, value) in values {
            let name = format!("{}{key}", from.prefix);
            check(&name, &value)?;
            own.set(name, value, from.object.kind == ObjectKind::Secret);
        }
    }
    for v in &inputs.container.env {
        let value =
            value(inputs, &mut read, &v.value, &own).with_context(|| format!("env {}", v.name))?;
        let Some((value, is_secret)) = value else {
            continue;
        };
        check(&v.name, &value)?;
        own.set(v.name.clone(), value, is_secret);
    }
    Ok(own)
}

fn check(name: &str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(config_error(format!("env {name}: a NUL byte in the value")));
    }
    // With the name, the = and the byte that ends it.
    if name.len() + 1 + value.len() > LENGTH_MAX {
        return Err(too_long(&format!("env {name}")));
    }
    Ok(())
}

/// The value and whether it is secret; `None`: the variable is not set.
fn value(
    inputs: &EnvInputs,
    read: &mut files::Read,
    value: &EnvValue,
    own: &OwnEnv,
) -> Result<Option<(String, bool)>> {
    let text = match value {
        EnvValue::Text(text) => {
            return Ok(Some((expand(text, &own.vars), own.is_secret(text))));
        }
        EnvValue::Field(path) => field_value(inputs, path)?,
        EnvValue::Resource {
            container,
            resource,
            divisor,
        } => resource_value(inputs, container, resource, *divisor)?,
        EnvValue::Key { object, key } => {
            let value = key_value(inputs, object, key)?;
            return Ok(value.map(|v| (v, object.kind == ObjectKind::Secret)));
        }
        EnvValue::File {
            volume,
            path,
            key,
            optional,
        } => {
            let value = files::variable(inputs, read, volume, path, key, *optional)?;
            return Ok(value.map(|v| (v, false)));
        }
    };
    Ok(Some((text, false)))
}

fn key_value(inputs: &EnvInputs, object: &ObjectRef, key: &str) -> Result<Option<String>> {
    let mut values = inputs.objects.texts(object, Some(key))?;
    match values.remove(key) {
        Some(value) => Ok(Some(value)),
        None if object.optional => Ok(None),
        None => {
            let (kind, name) = (object.kind, &object.name);
            let namespace = &inputs.pod.namespace;
            let text = format!(
                "couldn't find key {key} in {} {namespace}/{name}",
                kind.kind()
            );
            Err(config_error(text).hint(format!(
                "add the key (carob edit {} {name} -n {namespace}), or set optional: true: the \
                 container starts when the key is there",
                kind.singular()
            )))
        }
    }
}
fn field_value(inputs: &EnvInputs, path: &str) -> Result<String> {
    let pod = inputs.pod;
    let ip = |ip: Option<&std::net::IpAddr>| ip.map(ToString::to_string).unwrap_or_default();
    if let Some(value) = pod.metadata_field(path) {
        return Ok(value);
    }
    Ok(match path {
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
    inputs: &EnvInputs,
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
    let value = c
        .resources
        .named(resource, inputs.node)
        .ok_or_else(|| config_error(format!("resourceFieldRef {resource}: not supported yet")))?;
    Ok(value.div_ceil(divisor.max(1)).to_string())
}
