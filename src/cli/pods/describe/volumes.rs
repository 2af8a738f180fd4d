//! The volumes of a Pod, as `kubectl describe` shows them.

use super::Page;
use crate::spec::{DownwardValue, HostPathKind, ObjectKind, Projection, Volume, VolumeSource};

pub(super) fn volumes(p: &mut Page, list: &[Volume]) {
    if list.is_empty() {
        p.line(0, "Volumes:  <none>");
        return;
    }
    p.line(0, "Volumes:");
    for v in list {
        p.line(1, &format!("{}:", v.name));
        match &v.source {
            VolumeSource::EmptyDir { size_limit, .. } => {
                p.pair(
                    2,
                    "Type",
                    "EmptyDir (a temporary directory that shares a pod's lifetime)",
                );
                p.pair(2, "Medium", v.source.medium());
                let limit = size_limit.map_or("<unset>".to_owned(), |n| n.to_string());
                p.pair(2, "SizeLimit", limit);
            }
            VolumeSource::Nfs {
                server,
                path,
                read_only,
            } => {
                let about = "NFS (an NFS mount that lasts the lifetime of a pod)";
                p.pair(2, "Type", about);
                p.pair(2, "Server", server);
                p.pair(2, "Path", path);
                p.pair(2, "ReadOnly", read_only.to_string());
            }
            VolumeSource::Image { reference, policy } => {
                p.pair(2, "Type", "Image (a container image or OCI artifact)");
                p.pair(2, "Reference", reference);
                p.pair(2, "PullPolicy", format!("{policy:?}"));
            }
            VolumeSource::HostPath { path, kind } => {
                p.pair(2, "Type", "HostPath (bare host directory volume)");
                p.pair(2, "Path", path.display().to_string());
                p.pair(
                    2,
                    "HostPathType",
                    match kind {
                        HostPathKind::Unset => String::new(),
                        HostPathKind::CharDevice => "CharDevice".into(),
                        other => format!("{other:?}"),
                    },
                );
            }
            VolumeSource::Claim {
                name,
                read_only,
                template,
            } => {
                let kind = match template {
                    None => {
                        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same \
                         namespace)"
                    }
                    Some(_) => {
                        "EphemeralVolume (an inline specification for a volume that gets created \
                         and deleted with the pod)"
                    }
                };
                p.pair(2, "Type", kind);
                p.pair(2, "ClaimName", name.clone());
                p.pair(2, "ReadOnly", read_only.to_string());
            }
            VolumeSource::Projected { sources, .. } => projected(p, sources),
        }
        p.flush();
    }
}

/// One source alone is a volume of its own kind, which nearly all of them are.
fn projected(p: &mut Page, sources: &[Projection]) {
    match sources {
        [Projection::Object { object, .. }] => {
            let (kind, key) = match object.kind {
                ObjectKind::Secret => ("Secret (a volume populated by a Secret)", "SecretName"),
                _ => ("ConfigMap (a volume populated by a ConfigMap)", "Name"),
            };
            p.pair(2, "Type", kind);
            p.pair(2, key, object.name.clone());
            p.pair(2, "Optional", object.optional.to_string());
        }
        [Projection::Downward(items)] => {
            let kind = "DownwardAPI (a volume populated by information about the pod)";
            p.pair(2, "Type", kind);
            p.line(2, "Items:");
            for item in items {
                let of = match &item.value {
                    DownwardValue::Field(field) => field,
                    DownwardValue::Resource { resource, .. } => resource,
                };
                p.line(3, &format!("{of} -> {}", item.path));
            }
        }
        sources => {
            let kind = "Projected (a volume that contains injected data from multiple sources)";
            p.pair(2, "Type", kind);
            for source in sources {
                match source {
                    Projection::Object { object, .. } => {
                        let (name, optional) = match object.kind {
                            ObjectKind::Secret => ("SecretName", "SecretOptionalName"),
                            _ => ("ConfigMapName", "Optional"),
                        };
                        p.pair(2, name, object.name.clone());
                        p.pair(2, optional, object.optional.to_string());
                    }
                    Projection::Downward(_) => p.pair(2, "DownwardAPI", "true"),
                }
            }
        }
    }
}
