//! What becomes of each field of a v1 Pod: honoured, without effect here, or
//! refused. One table, one line a field; `docs/fields.md` shows it to users.
//!
//! The table is complete for Kubernetes 1.37: a test walks every field that the
//! types have and fails for one that has no line, so that a newer version of the
//! types cannot bring a field that is dropped in silence. A line for a subtree
//! stands for all below it only where it refuses, has no effect, or is a plain
//! list or map; a structure that is honoured has a line for each of its fields.
//!
//! `spec.initContainers[*]` and `spec.ephemeralContainers[*]` share the lines of `spec.containers[*]`, but for
//! those of its own; all probes share those of `livenessProbe`, and `preStop` those of
//! `postStart`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::objects;
use crate::spec::ObjectKind;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Done as Kubernetes does it.
    Honoured,
    /// A structure: each field below has a line of its own.
    Fields,
    /// Taken, and does nothing here.
    NoEffect(&'static str),
    /// Not taken, whatever is in it.
    Refused(&'static str),
    /// Not taken unless it is empty, which means the same as leaving it out.
    RefusedIfSet(&'static str),
    /// The key is a resource's name. One that Kubernetes knows is not taken; what it does
    /// not know is for the checks to say.
    RefusedResource(&'static str),
    /// Honoured with these values. Others that Kubernetes knows are refused;
    /// what Kubernetes does not know either is for the checks to say.
    Only {
        honoured: &'static [&'static str],
        refused: &'static [&'static str],
        why: &'static str,
    },
}

use Rule::{Fields, Honoured, NoEffect, Only, Refused, RefusedIfSet, RefusedResource};

const SCHEDULER: &str = "there is one machine and no scheduler";
const SERVER: &str = "the API server's own note";
const PRIORITY: &str = "Pods do not displace each other on one machine";
const ACCOUNT: &str = "there is no API server to have an account with";
const CLOUD: &str = "carob has no such storage; use hostPath for what the machine has mounted";
const WINDOWS: &str = "carob runs Linux containers only";
const SELINUX_CHANGE: &str =
    "volumes that carob labels are new with each Pod, so both policies do the same";
const CLAIM: &str = "dynamic resource allocation is not supported";
const COMPUTE: &str = "so far only cpu and memory are supported; leave it out, and mount a device by hostPath with \
     privileged: true";
const CONFIG: &str =
    "ConfigMaps are not supported yet; use env values, or files of the host by hostPath";
const SECRET: &str =
    "Secrets are not supported yet, except as imagePullSecrets; use files of the host by hostPath";

const SECCOMP: Rule = Only {
    honoured: &["RuntimeDefault", "Unconfined"],
    refused: &["Localhost"],
    why: "seccomp profiles from files are not supported yet",
};
const SECCOMP_FILE: Rule = RefusedIfSet("seccomp profiles from files are not supported yet");

/// In the order of the documentation. `[*]` is any item, a last `.*` any key.
pub(crate) static TABLE: &[(&str, Rule)] = &[
    ("apiVersion", Honoured),
    ("kind", Honoured),
    ("status", NoEffect("carob finds the status out itself")),
    ("metadata", Fields),
    ("metadata.name", Honoured),
    ("metadata.namespace", Honoured),
    ("metadata.labels", Honoured),
    ("metadata.annotations", Honoured),
    (
        "metadata.generateName",
        NoEffect("an object goes by metadata.name"),
    ),
    ("metadata.creationTimestamp", NoEffect(SERVER)),
    ("metadata.deletionGracePeriodSeconds", NoEffect(SERVER)),
    ("metadata.deletionTimestamp", NoEffect(SERVER)),
    (
        "metadata.finalizers",
        NoEffect("there is no controller to remove a finalizer"),
    ),
    ("metadata.generation", NoEffect(SERVER)),
    ("metadata.managedFields", NoEffect(SERVER)),
    (
        "metadata.ownerReferences",
        NoEffect("there is no controller that owns Pods"),
    ),
    ("metadata.resourceVersion", NoEffect(SERVER)),
    ("metadata.selfLink", NoEffect(SERVER)),
    (
        "metadata.uid",
        NoEffect("each object made here gets a uid of its own"),
    ),
    ("spec", Fields),
    ("spec.activeDeadlineSeconds", Honoured),
    ("spec.affinity", NoEffect(SCHEDULER)),
    ("spec.automountServiceAccountToken", NoEffect(ACCOUNT)),
    ("spec.containers", Fields),
    ("spec.dnsConfig", Fields),
    ("spec.dnsConfig.nameservers", Honoured),
    ("spec.dnsConfig.options", Fields),
    ("spec.dnsConfig.options[*].name", Honoured),
    ("spec.dnsConfig.options[*].value", Honoured),
    ("spec.dnsConfig.searches", Honoured),
    ("spec.dnsPolicy", Honoured),
    (
        "spec.enableServiceLinks",
        NoEffect("there are no Services to link to"),
    ),
    ("spec.ephemeralContainers", Fields),
    ("spec.ephemeralContainers[*].targetContainerName", Honoured),
    (
        "spec.evictionResponders",
        NoEffect("nothing evicts Pods here"),
    ),
    ("spec.hostAliases", Fields),
    ("spec.hostAliases[*].hostnames", Honoured),
    ("spec.hostAliases[*].ip", Honoured),
    ("spec.hostIPC", Honoured),
    ("spec.hostNetwork", Honoured),
    ("spec.hostPID", Honoured),
    (
        "spec.hostUsers",
        Only {
            honoured: &["true"],
            refused: &["false"],
            why: "user namespaces are not supported yet",
        },
    ),
    ("spec.hostname", Honoured),
    (
        "spec.hostnameOverride",
        RefusedIfSet("not supported yet; use hostname"),
    ),
    ("spec.imagePullSecrets", Fields),
    ("spec.imagePullSecrets[*].name", Honoured),
    ("spec.initContainers", Fields),
    ("spec.nodeName", NoEffect(SCHEDULER)),
    ("spec.nodeSelector", NoEffect(SCHEDULER)),
    ("spec.os", Fields),
    (
        "spec.os.name",
        Only {
            honoured: &["linux"],
            refused: &["windows"],
            why: WINDOWS,
        },
    ),
    (
        "spec.overhead",
        RefusedIfSet("resources for a runtime's overhead are not supported yet"),
    ),
    ("spec.preemptionPolicy", NoEffect(PRIORITY)),
    ("spec.priority", NoEffect(PRIORITY)),
    ("spec.priorityClassName", NoEffect(PRIORITY)),
    (
        "spec.readinessGates",
        NoEffect("there is no controller that would open a gate"),
    ),
    ("spec.resourceClaims", RefusedIfSet(CLAIM)),
    (
        "spec.resources",
        RefusedIfSet("resources of the whole Pod are not supported yet; set them per container"),
    ),
    ("spec.restartPolicy", Honoured),
    (
        "spec.runtimeClassName",
        RefusedIfSet("runtime classes are not supported yet"),
    ),
    ("spec.schedulerName", NoEffect(SCHEDULER)),
    ("spec.schedulingGates", NoEffect(SCHEDULER)),
    ("spec.schedulingGroup", NoEffect(SCHEDULER)),
    ("spec.securityContext", Fields),
    ("spec.securityContext.appArmorProfile", Fields),
    (
        "spec.securityContext.appArmorProfile.localhostProfile",
        Honoured,
    ),
    ("spec.securityContext.appArmorProfile.type", Honoured),
    ("spec.securityContext.fsGroup", Honoured),
    ("spec.securityContext.fsGroupChangePolicy", Honoured),
    ("spec.securityContext.runAsGroup", Honoured),
    ("spec.securityContext.runAsNonRoot", Honoured),
    ("spec.securityContext.runAsUser", Honoured),
    (
        "spec.securityContext.seLinuxChangePolicy",
        NoEffect(SELINUX_CHANGE),
    ),
    ("spec.securityContext.seLinuxOptions", Fields),
    ("spec.securityContext.seLinuxOptions.level", Honoured),
    ("spec.securityContext.seLinuxOptions.role", Honoured),
    ("spec.securityContext.seLinuxOptions.type", Honoured),
    ("spec.securityContext.seLinuxOptions.user", Honoured),
    ("spec.securityContext.seccompProfile", Fields),
    (
        "spec.securityContext.seccompProfile.localhostProfile",
        SECCOMP_FILE,
    ),
    ("spec.securityContext.seccompProfile.type", SECCOMP),
    ("spec.securityContext.supplementalGroups", Honoured),
    ("spec.securityContext.supplementalGroupsPolicy", Honoured),
    ("spec.securityContext.sysctls", Fields),
    ("spec.securityContext.sysctls[*].name", Honoured),
    ("spec.securityContext.sysctls[*].value", Honoured),
    ("spec.securityContext.windowsOptions", RefusedIfSet(WINDOWS)),
    ("spec.serviceAccount", NoEffect(ACCOUNT)),
    ("spec.serviceAccountName", NoEffect(ACCOUNT)),
    ("spec.setHostnameAsFQDN", Honoured),
    ("spec.shareProcessNamespace", Honoured),
    ("spec.subdomain", Honoured),
    ("spec.terminationGracePeriodSeconds", Honoured),
    ("spec.tolerations", NoEffect(SCHEDULER)),
    ("spec.topologySpreadConstraints", NoEffect(SCHEDULER)),
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
    (
        "spec.volumes[*].nfs",
        Refused("NFS volumes are not supported yet; mount it on the machine and use hostPath"),
    ),
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
    ("spec.containers[*].args", Honoured),
    ("spec.containers[*].command", Honoured),
    ("spec.containers[*].env", Fields),
    ("spec.containers[*].env[*].name", Honoured),
    ("spec.containers[*].env[*].value", Honoured),
    ("spec.containers[*].env[*].valueFrom", Fields),
    (
        "spec.containers[*].env[*].valueFrom.configMapKeyRef",
        Fields,
    ),
    (
        "spec.containers[*].env[*].valueFrom.configMapKeyRef.key",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.configMapKeyRef.name",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.configMapKeyRef.optional",
        Honoured,
    ),
    ("spec.containers[*].env[*].valueFrom.fieldRef", Fields),
    (
        "spec.containers[*].env[*].valueFrom.fieldRef.apiVersion",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.fieldRef.fieldPath",
        Honoured,
    ),
    ("spec.containers[*].env[*].valueFrom.fileKeyRef", Fields),
    (
        "spec.containers[*].env[*].valueFrom.fileKeyRef.key",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.fileKeyRef.optional",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.fileKeyRef.path",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.fileKeyRef.volumeName",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.resourceFieldRef",
        Fields,
    ),
    (
        "spec.containers[*].env[*].valueFrom.resourceFieldRef.containerName",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.resourceFieldRef.divisor",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.resourceFieldRef.resource",
        Honoured,
    ),
    ("spec.containers[*].env[*].valueFrom.secretKeyRef", Fields),
    (
        "spec.containers[*].env[*].valueFrom.secretKeyRef.key",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.secretKeyRef.name",
        Honoured,
    ),
    (
        "spec.containers[*].env[*].valueFrom.secretKeyRef.optional",
        Honoured,
    ),
    ("spec.containers[*].envFrom", Fields),
    ("spec.containers[*].envFrom[*].configMapRef", Fields),
    ("spec.containers[*].envFrom[*].configMapRef.name", Honoured),
    (
        "spec.containers[*].envFrom[*].configMapRef.optional",
        Honoured,
    ),
    ("spec.containers[*].envFrom[*].prefix", Honoured),
    ("spec.containers[*].envFrom[*].secretRef", Fields),
    ("spec.containers[*].envFrom[*].secretRef.name", Honoured),
    ("spec.containers[*].envFrom[*].secretRef.optional", Honoured),
    ("spec.containers[*].image", Honoured),
    ("spec.containers[*].imagePullPolicy", Honoured),
    ("spec.containers[*].lifecycle", Fields),
    ("spec.containers[*].lifecycle.postStart", Fields),
    ("spec.containers[*].lifecycle.postStart.exec", Fields),
    (
        "spec.containers[*].lifecycle.postStart.exec.command",
        Honoured,
    ),
    ("spec.containers[*].lifecycle.postStart.httpGet", Fields),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.host",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.httpHeaders",
        Fields,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.httpHeaders[*].name",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.httpHeaders[*].value",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.path",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.port",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.protocol",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.httpGet.scheme",
        Honoured,
    ),
    ("spec.containers[*].lifecycle.postStart.sleep", Fields),
    (
        "spec.containers[*].lifecycle.postStart.sleep.seconds",
        Honoured,
    ),
    ("spec.containers[*].lifecycle.postStart.tcpSocket", Fields),
    (
        "spec.containers[*].lifecycle.postStart.tcpSocket.host",
        Honoured,
    ),
    (
        "spec.containers[*].lifecycle.postStart.tcpSocket.port",
        Honoured,
    ),
    ("spec.containers[*].lifecycle.stopSignal", Honoured),
    ("spec.containers[*].livenessProbe", Fields),
    ("spec.containers[*].livenessProbe.exec", Fields),
    ("spec.containers[*].livenessProbe.exec.command", Honoured),
    (
        "spec.containers[*].livenessProbe.failureThreshold",
        Honoured,
    ),
    ("spec.containers[*].livenessProbe.grpc", Fields),
    ("spec.containers[*].livenessProbe.grpc.mode", Honoured),
    ("spec.containers[*].livenessProbe.grpc.port", Honoured),
    ("spec.containers[*].livenessProbe.grpc.service", Honoured),
    ("spec.containers[*].livenessProbe.httpGet", Fields),
    ("spec.containers[*].livenessProbe.httpGet.host", Honoured),
    (
        "spec.containers[*].livenessProbe.httpGet.httpHeaders",
        Fields,
    ),
    (
        "spec.containers[*].livenessProbe.httpGet.httpHeaders[*].name",
        Honoured,
    ),
    (
        "spec.containers[*].livenessProbe.httpGet.httpHeaders[*].value",
        Honoured,
    ),
    ("spec.containers[*].livenessProbe.httpGet.path", Honoured),
    ("spec.containers[*].livenessProbe.httpGet.port", Honoured),
    (
        "spec.containers[*].livenessProbe.httpGet.protocol",
        Honoured,
    ),
    ("spec.containers[*].livenessProbe.httpGet.scheme", Honoured),
    (
        "spec.containers[*].livenessProbe.initialDelaySeconds",
        Honoured,
    ),
    ("spec.containers[*].livenessProbe.periodSeconds", Honoured),
    (
        "spec.containers[*].livenessProbe.successThreshold",
        Honoured,
    ),
    ("spec.containers[*].livenessProbe.tcpSocket", Fields),
    ("spec.containers[*].livenessProbe.tcpSocket.host", Honoured),
    ("spec.containers[*].livenessProbe.tcpSocket.port", Honoured),
    (
        "spec.containers[*].livenessProbe.terminationGracePeriodSeconds",
        Honoured,
    ),
    ("spec.containers[*].livenessProbe.timeoutSeconds", Honoured),
    ("spec.containers[*].name", Honoured),
    ("spec.containers[*].ports", Fields),
    ("spec.containers[*].ports[*].containerPort", Honoured),
    ("spec.containers[*].ports[*].hostIP", Honoured),
    ("spec.containers[*].ports[*].hostPort", Honoured),
    ("spec.containers[*].ports[*].name", Honoured),
    ("spec.containers[*].ports[*].protocol", Honoured),
    ("spec.containers[*].resizePolicy", Fields),
    ("spec.containers[*].resizePolicy[*].resourceName", Honoured),
    ("spec.containers[*].resizePolicy[*].restartPolicy", Honoured),
    ("spec.containers[*].resources", Fields),
    ("spec.containers[*].resources.claims", RefusedIfSet(CLAIM)),
    ("spec.containers[*].resources.limits", Fields),
    ("spec.containers[*].resources.limits.cpu", Honoured),
    ("spec.containers[*].resources.limits.memory", Honoured),
    (
        "spec.containers[*].resources.limits.*",
        RefusedResource(COMPUTE),
    ),
    ("spec.containers[*].resources.requests", Fields),
    ("spec.containers[*].resources.requests.cpu", Honoured),
    ("spec.containers[*].resources.requests.memory", Honoured),
    (
        "spec.containers[*].resources.requests.*",
        RefusedResource(COMPUTE),
    ),
    ("spec.containers[*].restartPolicy", Honoured),
    ("spec.containers[*].restartPolicyRules", Fields),
    ("spec.containers[*].restartPolicyRules[*].action", Honoured),
    ("spec.containers[*].restartPolicyRules[*].exitCodes", Fields),
    (
        "spec.containers[*].restartPolicyRules[*].exitCodes.operator",
        Honoured,
    ),
    (
        "spec.containers[*].restartPolicyRules[*].exitCodes.values",
        Honoured,
    ),
    ("spec.containers[*].securityContext", Fields),
    (
        "spec.containers[*].securityContext.allowPrivilegeEscalation",
        Honoured,
    ),
    ("spec.containers[*].securityContext.appArmorProfile", Fields),
    (
        "spec.containers[*].securityContext.appArmorProfile.localhostProfile",
        Honoured,
    ),
    (
        "spec.containers[*].securityContext.appArmorProfile.type",
        Honoured,
    ),
    ("spec.containers[*].securityContext.capabilities", Fields),
    (
        "spec.containers[*].securityContext.capabilities.add",
        Honoured,
    ),
    (
        "spec.containers[*].securityContext.capabilities.drop",
        Honoured,
    ),
    ("spec.containers[*].securityContext.privileged", Honoured),
    ("spec.containers[*].securityContext.procMount", Honoured),
    (
        "spec.containers[*].securityContext.readOnlyRootFilesystem",
        Honoured,
    ),
    ("spec.containers[*].securityContext.runAsGroup", Honoured),
    ("spec.containers[*].securityContext.runAsNonRoot", Honoured),
    ("spec.containers[*].securityContext.runAsUser", Honoured),
    ("spec.containers[*].securityContext.seLinuxOptions", Fields),
    (
        "spec.containers[*].securityContext.seLinuxOptions.level",
        Honoured,
    ),
    (
        "spec.containers[*].securityContext.seLinuxOptions.role",
        Honoured,
    ),
    (
        "spec.containers[*].securityContext.seLinuxOptions.type",
        Honoured,
    ),
    (
        "spec.containers[*].securityContext.seLinuxOptions.user",
        Honoured,
    ),
    ("spec.containers[*].securityContext.seccompProfile", Fields),
    (
        "spec.containers[*].securityContext.seccompProfile.localhostProfile",
        SECCOMP_FILE,
    ),
    (
        "spec.containers[*].securityContext.seccompProfile.type",
        SECCOMP,
    ),
    (
        "spec.containers[*].securityContext.windowsOptions",
        RefusedIfSet(WINDOWS),
    ),
    ("spec.containers[*].stdin", Honoured),
    ("spec.containers[*].stdinOnce", Honoured),
    ("spec.containers[*].terminationMessagePath", Honoured),
    ("spec.containers[*].terminationMessagePolicy", Honoured),
    ("spec.containers[*].tty", Honoured),
    (
        "spec.containers[*].volumeDevices",
        RefusedIfSet("block devices as volumes are not supported yet"),
    ),
    ("spec.containers[*].volumeMounts", Fields),
    (
        "spec.containers[*].volumeMounts[*].bindMountOptions",
        Honoured,
    ),
    ("spec.containers[*].volumeMounts[*].mountPath", Honoured),
    (
        "spec.containers[*].volumeMounts[*].mountPropagation",
        Honoured,
    ),
    ("spec.containers[*].volumeMounts[*].name", Honoured),
    ("spec.containers[*].volumeMounts[*].readOnly", Honoured),
    (
        "spec.containers[*].volumeMounts[*].recursiveReadOnly",
        Honoured,
    ),
    ("spec.containers[*].volumeMounts[*].subPath", Honoured),
    ("spec.containers[*].volumeMounts[*].subPathExpr", Honoured),
    ("spec.containers[*].workingDir", Honoured),
];

static BY_PATTERN: LazyLock<HashMap<&str, Rule>> =
    LazyLock::new(|| TABLE.iter().copied().collect());

/// The line for a pattern such as `spec.containers[*].image`.
pub(crate) fn rule(pattern: &str) -> Option<Rule> {
    // A claim's own table has these.
    let claim = pattern.strip_prefix("spec.volumes[*].ephemeral.volumeClaimTemplate.");
    if let Some(field) = claim.filter(|field| field.starts_with("spec")) {
        return objects::rule(ObjectKind::PersistentVolumeClaim, field);
    }
    let exact = |p: &str| BY_PATTERN.get(p).copied();
    let any_key = |p: &str| {
        let (parent, _) = p.rsplit_once('.')?;
        exact(&format!("{parent}.*"))
    };
    exact(pattern).or_else(|| any_key(pattern)).or_else(|| {
        let shared = shared(pattern)?;
        exact(&shared).or_else(|| any_key(&shared))
    })
}

/// The keys of a map that have lines of their own; `*` is any other.
pub(crate) fn keys(pattern: &str) -> impl Iterator<Item = (&'static str, Rule)> {
    let shared = shared(pattern).unwrap_or_else(|| pattern.to_owned());
    TABLE.iter().filter_map(move |(line, rule)| {
        let key = line.strip_prefix(shared.as_str())?.strip_prefix('.')?;
        (!key.contains('.')).then_some((key, *rule))
    })
}

/// The pattern whose line a pattern shares that has none of its own.
fn shared(pattern: &str) -> Option<String> {
    let template = pattern.strip_prefix("spec.volumes[*].ephemeral.volumeClaimTemplate.");
    if let Some(field) = template.filter(|field| field.starts_with("metadata")) {
        return Some(field.to_owned());
    }
    let rest = pattern
        .strip_prefix("spec.initContainers[*].")
        .or_else(|| pattern.strip_prefix("spec.ephemeralContainers[*]."))
        .or_else(|| pattern.strip_prefix("spec.containers[*]."))?;
    let twins = [
        ("readinessProbe", "livenessProbe"),
        ("startupProbe", "livenessProbe"),
        ("lifecycle.preStop", "lifecycle.postStart"),
    ];
    let twin = twins.iter().find_map(|(field, twin)| {
        let below = rest.strip_prefix(field)?;
        (below.is_empty() || below.starts_with('.')).then(|| format!("{twin}{below}"))
    });
    Some(format!(
        "spec.containers[*].{}",
        twin.as_deref().unwrap_or(rest)
    ))
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
