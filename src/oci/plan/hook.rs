//! Hooks of a configuration: config.md, "POSIX-platform Hooks".

use std::time::Duration;

use oci_spec::runtime as oci;

use crate::container::hook::{Hook, Hooks};
use crate::{Error, Result};

#[allow(deprecated)]
pub fn plan_hooks(hooks: Option<&oci::Hooks>) -> Result<Hooks> {
    let Some(h) = hooks else {
        return Ok(Hooks::default());
    };
    Ok(Hooks {
        prestart: plan("prestart", h.prestart())?,
        create_runtime: plan("createRuntime", h.create_runtime())?,
        create_container: plan("createContainer", h.create_container())?,
        start_container: plan("startContainer", h.start_container())?,
        poststart: plan("poststart", h.poststart())?,
        poststop: plan("poststop", h.poststop())?,
    })
}

fn plan(kind: &str, list: &Option<Vec<oci::Hook>>) -> Result<Vec<Hook>> {
    let mut hooks = Vec::new();
    for (i, h) in list.iter().flatten().enumerate() {
        let invalid = |what: String| Err(Error::invalid(format!("hooks.{kind}[{i}].{what}")));
        if !h.path().is_absolute() {
            return invalid(format!("path: {:?} is not absolute", h.path()));
        }
        let timeout = match h.timeout() {
            None => None,
            Some(n @ 1..=86_400) => Some(Duration::from_secs(n as u64)),
            Some(n) => return invalid(format!("timeout: {n}: 1 to 86400 seconds")),
        };
        let (args, env) = (h.args().clone(), h.env().clone());
        let args = args.unwrap_or_default();
        for (field, list) in [("args", Some(&args)), ("env", env.as_ref())] {
            if list.is_some_and(|l| l.iter().any(|s| s.contains('\0'))) {
                return invalid(format!("{field}: a NUL byte"));
            }
        }
        hooks.push(Hook {
            path: h.path().clone(),
            args,
            env,
            timeout,
        });
    }
    Ok(hooks)
}
