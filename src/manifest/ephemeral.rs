//! Ephemeral containers: `carob debug` adds them to a Pod that is there.

use std::collections::HashSet;

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use super::around::Around;
use super::container;
use super::names;
use super::report::Report;
use super::tree::Path;
use crate::spec::{Container, RestartPolicy};

/// What an ephemeral container may not have: API reference, EphemeralContainer.
const FORBIDDEN: [&str; 8] = [
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
    "restartPolicyRules",
];

pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    s: &core::PodSpec,
    around: &Around<'_>,
) -> Vec<Container> {
    let path = path.key("ephemeralContainers");
    let mut taken: HashSet<&str> = around.containers.clone();
    let mut lowered = Vec::new();
    if s.ephemeral_containers
        .as_ref()
        .is_some_and(|l| !l.is_empty())
    {
        let why = "no Pod is made with these: carob debug adds them to one that is there";
        r.warn(&path, why);
    }
    for (i, c) in s.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.index(i);
        let name = path.key("name");
        if c.name.is_empty() {
            r.required(&name, "");
        } else if !taken.insert(&c.name) {
            r.duplicate(&name, &c.name);
        } else {
            r.check(&name, &c.name, names::dns_label(&c.name));
        }
        let target = c.target_container_name.clone().filter(|t| !t.is_empty());
        if let Some(target) = &target
            && !around.containers.contains(target.as_str())
        {
            r.invalid(
                &path.key("targetContainerName"),
                target,
                "no such container",
            );
        }
        // All fields but the target are a container's.
        let mut fields = serde_json::to_value(c).unwrap_or_default();
        if let Some(map) = fields.as_object_mut() {
            map.shift_remove("targetContainerName");
            for field in FORBIDDEN
                .iter()
                .filter(|f| map.get(**f).is_some_and(is_set))
            {
                r.invalid(
                    &path.key(field),
                    "",
                    "cannot be set for an Ephemeral Container",
                );
            }
        }
        let Ok(ordinary) = serde_json::from_value::<core::Container>(fields) else {
            continue;
        };
        lowered.push(Container {
            target,
            restart_policy: Some(RestartPolicy::Never),
            ..container::lower(r, &path, &ordinary, false, around)
        });
    }
    lowered
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}
