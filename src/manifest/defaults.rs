//! What the API server fills in before it checks, so that the Pod that is shown
//! back reads as it would on a cluster.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::spec::PullPolicy;

/// Fills in `pod`. `namespace` is for a Pod that names none.
pub(super) fn fill(pod: &mut core::Pod, namespace: &str, uid: &str, created: Timestamp) {
    let meta = &mut pod.metadata;
    // Kubernetes takes an empty text for none.
    if meta.namespace.as_deref().unwrap_or_default().is_empty() {
        meta.namespace = Some(namespace.to_owned());
    }
    meta.uid = Some(uid.to_owned());
    // The types bring a jiff of their own.
    let seconds = k8s_openapi::jiff::Timestamp::from_second(created.as_second());
    meta.creation_timestamp = seconds.ok().map(Time);
    meta.generation = Some(1);
    meta.resource_version = None;
    meta.self_link = None;
    meta.generate_name = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.managed_fields = None;
    pod.status = None;
    if let Some(spec) = &mut pod.spec {
        fill_spec(spec);
    }
}

fn fill_spec(spec: &mut core::PodSpec) {
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    for volume in spec.volumes.iter_mut().flatten() {
        // `emptyDir:` with nothing behind it is null, which is no field at all.
        if super::volumes::kinds(volume) == 0 {
            volume.empty_dir = Some(core::EmptyDirVolumeSource::default());
        }
        if let Some(host_path) = &mut volume.host_path {
            host_path.type_.get_or_insert_default();
        }
        if let Some(image) = &mut volume.image {
            let reference = image.reference.as_deref().unwrap_or_default();
            set(&mut image.pull_policy, default_pull_policy(reference));
        }
        super::projected::fill(volume);
    }
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers) {
        fill_container(container, host_network);
    }
    for c in spec.ephemeral_containers.iter_mut().flatten() {
        let image = c.image.as_deref().unwrap_or_default();
        set(&mut c.image_pull_policy, default_pull_policy(image));
        set(&mut c.termination_message_path, "/dev/termination-log");
        set(&mut c.termination_message_policy, "File");
    }
}

/// An empty text counts as absent, as it does for the API server.
fn set(field: &mut Option<String>, default: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(default.to_owned());
    }
}

fn fill_container(c: &mut core::Container, host_network: bool) {
    let image = c.image.as_deref().unwrap_or_default();
    set(&mut c.image_pull_policy, default_pull_policy(image));
    set(&mut c.termination_message_path, "/dev/termination-log");
    set(&mut c.termination_message_policy, "File");
    for port in c.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for env in c.env.iter_mut().flatten() {
        let Some(from) = &mut env.value_from else {
            continue;
        };
        if let Some(field) = &mut from.field_ref {
            set(&mut field.api_version, "v1");
        }
        if let Some(resource) = &mut from.resource_field_ref {
            let divisor = resource.divisor.get_or_insert_default();
            if divisor.0.is_empty() {
                divisor.0 = "0".into();
            }
        }
    }
    let probes = [
        &mut c.startup_probe,
        &mut c.readiness_probe,
        &mut c.liveness_probe,
    ];
    for probe in probes.into_iter().flatten() {
        super::probe::fill(probe);
    }
    if let Some(hooks) = &mut c.lifecycle {
        let hooks = [&mut hooks.post_start, &mut hooks.pre_stop];
        let gets = hooks
            .into_iter()
            .flatten()
            .filter_map(|h| h.http_get.as_mut());
        gets.for_each(super::probe::fill_get);
    }
    c.resources.get_or_insert_default();
}

/// A limit without a request is the request too.
pub(super) fn fill_requests(pod: &mut core::Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let init = spec.init_containers.iter_mut().flatten();
    for c in init.chain(&mut spec.containers) {
        if let Some(resources) = &mut c.resources
            && let Some(limits) = resources.limits.as_ref().filter(|l| !l.is_empty())
        {
            let requests = resources.requests.get_or_insert_default();
            for (name, limit) in limits {
                requests
                    .entry(name.clone())
                    .or_insert_with(|| limit.clone());
            }
        }
    }
}

fn default_pull_policy(image: &str) -> &'static str {
    match PullPolicy::by_tag(image) {
        PullPolicy::Always => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_by_tag() {
        for (image, policy) in [
            ("app", "Always"),
            ("app:latest", "Always"),
            ("app:1", "IfNotPresent"),
            ("localhost:5000/app", "Always"),
            ("localhost:5000/app:1", "IfNotPresent"),
            ("localhost:5000/app:latest", "Always"),
            ("app@sha256:00", "IfNotPresent"),
            ("app:latest@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(default_pull_policy(image), policy, "{image}");
        }
    }
}
