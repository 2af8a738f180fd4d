//! What may change in a Pod that is there, as the API server has it: labels and
//! annotations; the images of containers and init containers; cpu and memory of containers
//! and sidecars (the subresource `resize`); activeDeadlineSeconds, which may be set or made
//! shorter; tolerations, to which more may come; schedulingGates, which may go; a
//! terminationGracePeriodSeconds below 0, which may become 1.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::spec::{Container, Pod, PullPolicy, Resources, Spec};

/// Why the one Pod cannot become the other: fields, with a reason where the field may change
/// otherwise. Empty: it can.
pub(crate) fn refusals(old: &Pod, new: &Pod) -> Vec<String> {
    let mut refused = Vec::new();
    let (was, is) = (&old.manifest["spec"], &new.manifest["spec"]);
    differences(
        was,
        &forget_allowed(was, is, &mut refused),
        "spec",
        &mut refused,
    );
    resizes(&old.spec, &new.spec, &mut refused);
    let deadline = (old.spec.active_deadline, new.spec.active_deadline);
    match deadline {
        (Some(old), Some(new)) if new > old => refused.push(format!(
            "spec.activeDeadlineSeconds (must be less than or equal to previous value, {old})"
        )),
        (Some(_), None) => refused.push(
            "spec.activeDeadlineSeconds (must not update from a positive integer to nil value)"
                .to_owned(),
        ),
        _ => {}
    }
    // What no manifest shows.
    if refused.is_empty() && !same_but_for_allowed(&old.spec, &new.spec) {
        refused.push("spec".to_owned());
    }
    refused
}

/// The new specification with what may change as it was.
fn forget_allowed(old: &Value, new: &Value, refused: &mut Vec<String>) -> Value {
    let mut like_old = new.clone();
    let mut keep = |field: &str| match old.get(field) {
        Some(value) => like_old[field] = value.clone(),
        None => {
            if let Some(map) = like_old.as_object_mut() {
                map.shift_remove(field);
            }
        }
    };
    keep("activeDeadlineSeconds");
    let grace = |v: &Value| v["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    if grace(old) < 0 && grace(new) == 1 {
        keep("terminationGracePeriodSeconds");
    }
    keep("tolerations");
    keep("schedulingGates");
    let list = |v: &Value, field: &str| v[field].as_array().cloned().unwrap_or_default();
    let (was, is) = (list(old, "tolerations"), list(new, "tolerations"));
    let is: HashSet<Value> = is.iter().map(without_seconds).collect();
    if !was.iter().map(without_seconds).all(|t| is.contains(&t)) {
        refused.push(
            "spec.tolerations (existing toleration can not be modified except its \
             tolerationSeconds)"
                .to_owned(),
        );
    }
    let was: HashSet<Value> = list(old, "schedulingGates").into_iter().collect();
    if !list(new, "schedulingGates").iter().all(|g| was.contains(g)) {
        refused.push("spec.schedulingGates (only deletion is allowed)".to_owned());
    }
    for field in ["containers", "initContainers"] {
        let was = list(old, field);
        let Some(is) = like_old.get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        for (new, old) in is.iter_mut().zip(&was) {
            forget_in_container(new, old);
        }
    }
    like_old
}

fn without_seconds(toleration: &Value) -> Value {
    let mut t = toleration.clone();
    if let Some(map) = t.as_object_mut() {
        map.shift_remove("tolerationSeconds");
    }
    t
}

fn forget_in_container(new: &mut Value, old: &Value) {
    let text = |v: &Value, field: &str| v[field].as_str().unwrap_or_default().to_owned();
    let by_tag = |v: &Value| {
        let policy = match PullPolicy::by_tag(&text(v, "image")) {
            PullPolicy::Always => "Always",
            _ => "IfNotPresent",
        };
        text(v, "imagePullPolicy") == policy
    };
    // The policy follows from the image's tag where the manifest has none.
    if new["image"] != old["image"] && by_tag(new) && by_tag(old) {
        new["imagePullPolicy"] = old["imagePullPolicy"].clone();
    }
    new["image"] = old["image"].clone();
    // What of these may change, `resizes` judges.
    match old.get("resources") {
        Some(resources) => new["resources"] = resources.clone(),
        None => {
            if let Some(map) = new.as_object_mut() {
                map.shift_remove("resources");
            }
        }
    }
}

fn resizes(old: &Spec, new: &Spec, refused: &mut Vec<String>) {
    let lists = [
        ("containers", &old.containers, &new.containers),
        ("initContainers", &old.init_containers, &new.init_containers),
    ];
    for (field, old, new) in lists {
        for (i, (old, new)) in old.iter().zip(new).enumerate() {
            let path = format!("spec.{field}[{i}].resources");
            let (was, is) = (old.resources, new.resources);
            if was != is && field == "initContainers" && !old.sidecar {
                refused.push(format!(
                    "{path} (resources of an init container that is no sidecar cannot be changed)"
                ));
                continue;
            }
            if was.hugepages != is.hugepages {
                refused.push(format!(
                    "{path} (only cpu and memory resources are mutable)"
                ));
            }
            let gone = |a: Option<u64>, b: Option<u64>| a.is_some() && b.is_none();
            let requests = |r: Resources| (r.cpu_request, r.memory_request);
            let limits = |r: Resources| (r.cpu_limit, r.memory_limit);
            for (name, (cpu, memory), (cpu_now, memory_now)) in [
                ("requests", requests(was), requests(is)),
                ("limits", limits(was), limits(is)),
            ] {
                if gone(cpu, cpu_now) || gone(memory, memory_now) {
                    refused.push(format!("{path}.{name} (resource {name} cannot be removed)"));
                }
            }
        }
    }
    if refused.is_empty() && old.qos_class() != new.qos_class() {
        refused.push(format!(
            "spec (Pod QOS Class may not change as a result of resizing: it is {:?}, and would be \
             {:?})",
            old.qos_class(),
            new.qos_class()
        ));
    }
}

fn same_but_for_allowed(old: &Spec, new: &Spec) -> bool {
    let mut like_old = new.clone();
    like_old.active_deadline = old.active_deadline;
    let lists = [
        (&mut like_old.init_containers, &old.init_containers),
        (&mut like_old.containers, &old.containers),
    ];
    for (new, old) in lists {
        for (new, old) in new.iter_mut().zip(old) {
            forget_image(new, old);
            new.resources = old.resources;
        }
    }
    like_old == *old
}

fn forget_image(new: &mut Container, old: &Container) {
    if new.image != old.image {
        new.pull_policy = old.pull_policy;
    }
    new.image.clone_from(&old.image);
}

/// The paths of what differs, no deeper than needed and not more than ten.
fn differences(old: &Value, new: &Value, path: &str, out: &mut Vec<String>) {
    const MOST: usize = 10;
    if old == new || out.len() >= MOST {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            for k in keys {
                differences(&old[k], &new[k], &format!("{path}.{k}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{i}]"), out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

/// What the API server compares by: nothing of the Pod would change.
pub(crate) fn is_same(old: &Pod, new: &Pod) -> bool {
    old.spec == new.spec
        && old.labels == new.labels
        && old.annotations == new.annotations
        && old.manifest["spec"] == new.manifest["spec"]
}

/// Makes the one Pod's record what the other asks for, where [`refusals`] has none.
pub(crate) fn become_like(pod: &mut Pod, new: &Pod) {
    pod.spec.clone_from(&new.spec);
    pod.labels.clone_from(&new.labels);
    pod.annotations.clone_from(&new.annotations);
    pod.applied.clone_from(&new.applied);
    pod.manifest = new.manifest.clone();
    pod.manifest["metadata"]["uid"] = pod.uid.clone().into();
    pod.manifest["metadata"]["creationTimestamp"] = json!(pod.created.to_string());
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
