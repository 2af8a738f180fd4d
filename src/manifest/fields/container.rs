//! Its containers.

use super::Rule::{self, Fields, Honoured, RefusedIfSet, RefusedResource};
use super::{CLAIM, SECCOMP, SECCOMP_FILE, WINDOWS};

pub(super) const COMPUTE: &str = "so far only cpu, memory and huge pages of 64Ki, 2Mi, 32Mi and 1Gi are supported; leave it out, and mount a device by hostPath with \
     privileged: true";

pub(super) const TABLE: &[(&str, Rule)] = &[
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
    (
        "spec.containers[*].resources.limits.hugepages-1Gi",
        Honoured,
    ),
    (
        "spec.containers[*].resources.limits.hugepages-2Mi",
        Honoured,
    ),
    (
        "spec.containers[*].resources.limits.hugepages-32Mi",
        Honoured,
    ),
    (
        "spec.containers[*].resources.limits.hugepages-64Ki",
        Honoured,
    ),
    ("spec.containers[*].resources.limits.memory", Honoured),
    (
        "spec.containers[*].resources.limits.*",
        RefusedResource(COMPUTE),
    ),
    ("spec.containers[*].resources.requests", Fields),
    ("spec.containers[*].resources.requests.cpu", Honoured),
    (
        "spec.containers[*].resources.requests.hugepages-1Gi",
        Honoured,
    ),
    (
        "spec.containers[*].resources.requests.hugepages-2Mi",
        Honoured,
    ),
    (
        "spec.containers[*].resources.requests.hugepages-32Mi",
        Honoured,
    ),
    (
        "spec.containers[*].resources.requests.hugepages-64Ki",
        Honoured,
    ),
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
    ("spec.containers[*].volumeDevices", Fields),
    ("spec.containers[*].volumeDevices[*].devicePath", Honoured),
    ("spec.containers[*].volumeDevices[*].name", Honoured),
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
