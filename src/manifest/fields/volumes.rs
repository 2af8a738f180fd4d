//! The Pod's volumes.

use super::Rule::{self, Fields, Honoured, Only, Refused};

const CLOUD: &str = "carob has no such storage; use hostPath for what the machine has mounted";

pub(super) const TABLE: &[(&str, Rule)] = &[
    ("spec.volumes", Fields),
    ("spec.volumes[*].name", Honoured),
    ("spec.volumes[*].emptyDir", Fields),
    (
        "spec.volumes[*].emptyDir.medium",
        Only {
            honoured: &["", "Memory"],
            refused: &["HugePages"],
            why: "huge pages are not supported yet",
        },
    ),
    ("spec.volumes[*].emptyDir.mode", Honoured),
    ("spec.volumes[*].emptyDir.sizeLimit", Honoured),
    ("spec.volumes[*].hostPath", Fields),
    ("spec.volumes[*].hostPath.path", Honoured),
    ("spec.volumes[*].hostPath.type", Honoured),
    ("spec.volumes[*].configMap", Fields),
    ("spec.volumes[*].configMap.defaultMode", Honoured),
    ("spec.volumes[*].configMap.defaultUser", Honoured),
    ("spec.volumes[*].configMap.items", Fields),
    ("spec.volumes[*].configMap.items[*].key", Honoured),
    ("spec.volumes[*].configMap.items[*].mode", Honoured),
    ("spec.volumes[*].configMap.items[*].path", Honoured),
    ("spec.volumes[*].configMap.items[*].user", Honoured),
    ("spec.volumes[*].configMap.name", Honoured),
    ("spec.volumes[*].configMap.optional", Honoured),
    ("spec.volumes[*].downwardAPI", Fields),
    ("spec.volumes[*].downwardAPI.defaultMode", Honoured),
    ("spec.volumes[*].downwardAPI.defaultUser", Honoured),
    ("spec.volumes[*].downwardAPI.items", Fields),
    ("spec.volumes[*].downwardAPI.items[*].fieldRef", Fields),
    (
        "spec.volumes[*].downwardAPI.items[*].fieldRef.apiVersion",
        Honoured,
    ),
    (
        "spec.volumes[*].downwardAPI.items[*].fieldRef.fieldPath",
        Honoured,
    ),
    ("spec.volumes[*].downwardAPI.items[*].mode", Honoured),
    ("spec.volumes[*].downwardAPI.items[*].path", Honoured),
    (
        "spec.volumes[*].downwardAPI.items[*].resourceFieldRef",
        Fields,
    ),
    (
        "spec.volumes[*].downwardAPI.items[*].resourceFieldRef.containerName",
        Honoured,
    ),
    (
        "spec.volumes[*].downwardAPI.items[*].resourceFieldRef.divisor",
        Honoured,
    ),
    (
        "spec.volumes[*].downwardAPI.items[*].resourceFieldRef.resource",
        Honoured,
    ),
    ("spec.volumes[*].downwardAPI.items[*].user", Honoured),
    ("spec.volumes[*].ephemeral", Fields),
    ("spec.volumes[*].ephemeral.volumeClaimTemplate", Fields),
    ("spec.volumes[*].image", Fields),
    ("spec.volumes[*].image.pullPolicy", Honoured),
    ("spec.volumes[*].image.reference", Honoured),
    ("spec.volumes[*].nfs", Fields),
    ("spec.volumes[*].nfs.path", Honoured),
    ("spec.volumes[*].nfs.readOnly", Honoured),
    ("spec.volumes[*].nfs.server", Honoured),
    ("spec.volumes[*].persistentVolumeClaim", Fields),
    ("spec.volumes[*].persistentVolumeClaim.claimName", Honoured),
    ("spec.volumes[*].persistentVolumeClaim.readOnly", Honoured),
    ("spec.volumes[*].projected", Fields),
    ("spec.volumes[*].projected.defaultMode", Honoured),
    ("spec.volumes[*].projected.defaultUser", Honoured),
    ("spec.volumes[*].projected.sources", Fields),
    (
        "spec.volumes[*].projected.sources[*].clusterTrustBundle",
        Refused(
            "there is no API server that keeps trust bundles; put the certificates into a ConfigMap",
        ),
    ),
    ("spec.volumes[*].projected.sources[*].configMap", Fields),
    (
        "spec.volumes[*].projected.sources[*].configMap.items",
        Fields,
    ),
    (
        "spec.volumes[*].projected.sources[*].configMap.items[*].key",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].configMap.items[*].mode",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].configMap.items[*].path",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].configMap.items[*].user",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].configMap.name",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].configMap.optional",
        Honoured,
    ),
    ("spec.volumes[*].projected.sources[*].downwardAPI", Fields),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items",
        Fields,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].fieldRef",
        Fields,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].fieldRef.apiVersion",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].fieldRef.fieldPath",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].mode",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].path",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].resourceFieldRef",
        Fields,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].resourceFieldRef.containerName",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].resourceFieldRef.divisor",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].resourceFieldRef.resource",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].downwardAPI.items[*].user",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].podCertificate",
        Refused(
            "there is no API server that signs certificates; put a certificate and its key into a Secret",
        ),
    ),
    ("spec.volumes[*].projected.sources[*].secret", Fields),
    ("spec.volumes[*].projected.sources[*].secret.items", Fields),
    (
        "spec.volumes[*].projected.sources[*].secret.items[*].key",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].secret.items[*].mode",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].secret.items[*].path",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].secret.items[*].user",
        Honoured,
    ),
    ("spec.volumes[*].projected.sources[*].secret.name", Honoured),
    (
        "spec.volumes[*].projected.sources[*].secret.optional",
        Honoured,
    ),
    (
        "spec.volumes[*].projected.sources[*].serviceAccountToken",
        Refused("there is no API server that a token would be for; leave this source out"),
    ),
    ("spec.volumes[*].secret", Fields),
    ("spec.volumes[*].secret.defaultMode", Honoured),
    ("spec.volumes[*].secret.defaultUser", Honoured),
    ("spec.volumes[*].secret.items", Fields),
    ("spec.volumes[*].secret.items[*].key", Honoured),
    ("spec.volumes[*].secret.items[*].mode", Honoured),
    ("spec.volumes[*].secret.items[*].path", Honoured),
    ("spec.volumes[*].secret.items[*].user", Honoured),
    ("spec.volumes[*].secret.optional", Honoured),
    ("spec.volumes[*].secret.secretName", Honoured),
    ("spec.volumes[*].awsElasticBlockStore", Refused(CLOUD)),
    ("spec.volumes[*].azureDisk", Refused(CLOUD)),
    ("spec.volumes[*].azureFile", Refused(CLOUD)),
    ("spec.volumes[*].cephfs", Refused(CLOUD)),
    ("spec.volumes[*].cinder", Refused(CLOUD)),
    ("spec.volumes[*].csi", Refused(CLOUD)),
    ("spec.volumes[*].fc", Refused(CLOUD)),
    ("spec.volumes[*].flexVolume", Refused(CLOUD)),
    ("spec.volumes[*].flocker", Refused(CLOUD)),
    ("spec.volumes[*].gcePersistentDisk", Refused(CLOUD)),
    (
        "spec.volumes[*].gitRepo",
        Refused("gitRepo is disabled on clusters too; clone in an init container"),
    ),
    ("spec.volumes[*].glusterfs", Refused(CLOUD)),
    ("spec.volumes[*].iscsi", Refused(CLOUD)),
    ("spec.volumes[*].photonPersistentDisk", Refused(CLOUD)),
    ("spec.volumes[*].portworxVolume", Refused(CLOUD)),
    ("spec.volumes[*].quobyte", Refused(CLOUD)),
    ("spec.volumes[*].rbd", Refused(CLOUD)),
    ("spec.volumes[*].scaleIO", Refused(CLOUD)),
    ("spec.volumes[*].storageos", Refused(CLOUD)),
    ("spec.volumes[*].vsphereVolume", Refused(CLOUD)),
];
