//! Faults of containers: each with what is said of it.

use super::tests::{pod_with, refused};

#[test]
fn faults_in_a_container() {
    for (container, expected) in [
        (
            "ports: [{containerPort: 0}]",
            "ports[0].containerPort: Required value",
        ),
        (
            "ports: [{containerPort: 65536}]",
            "must be between 1 and 65535",
        ),
        ("ports: [{containerPort: \"80\"}]", "remove the quotes: 80"),
        (
            "ports: [{containerPort: 80, protocol: tcp}]",
            "Unsupported value",
        ),
        (
            "ports: [{containerPort: 80, name: HTTP}]",
            "at least one letter",
        ),
        (
            "ports: [{containerPort: 80, name: a}, {containerPort: 81, name: a}]",
            "Duplicate value",
        ),
        (
            "ports: [{containerPort: 80, hostPort: 8}, {containerPort: 81, hostPort: 8}]",
            "ports[1].hostPort: Duplicate value: \"TCP//8\"",
        ),
        (
            "ports: [{containerPort: 80, hostPort: 8, hostIP: 192.0.2.1}, {containerPort: 81, hostPort: 8}]",
            "Duplicate value",
        ),
        (
            "ports: [{containerPort: 80, hostPort: 8, hostIP: 127.0.0.1}]",
            "ports[0].hostIP: ports are not published on the loopback yet",
        ),
        (
            "ports: [{containerPort: 80, hostPort: 8, hostIP: \"::\"}]",
            "ports[0].hostIP: Pods have no IPv6 yet",
        ),
        (
            "ports: [{containerPort: 80, hostPort: 8, hostIP: x}]",
            "valid IP address",
        ),
        ("env: [{name: \"A=B\", value: x}]", "other than '='"),
        ("env: [{value: x}]", "env[0].name: Required value"),
        ("env: [{name: A, value: 5}]", "quote it: \"5\""),
        ("env: [{name: A, value: on}]", "quote it: \"on\""),
        ("env: [{name: A, valueFrom: {}}]", "must specify one of"),
        (
            "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            "when `value` is not empty",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}]",
            "Unsupported value",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]",
            "Unsupported value",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]",
            "supported values: \"v1\"",
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]",
            "Unsupported value",
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}]",
            "divisor: Unsupported value",
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: zz}}}]",
            "Not found: \"zz\"",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: a/b}}}]",
            "secretKeyRef.key: Invalid value: \"a/b\": a valid config key",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: A, key: b}}}]",
            "configMapKeyRef.name: Invalid value",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: a}}}]",
            "configMapKeyRef.key: Required value",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: a, key: K}}}]",
            "Not found: \"v\"",
        ),
        ("envFrom: [{}]", "envFrom[0]: Required value"),
        (
            "envFrom: [{configMapRef: {}}]",
            "configMapRef.name: Required",
        ),
        (
            "envFrom: [{secretRef: {name: a}, prefix: \"a=\"}]",
            "prefix: Invalid value",
        ),
        (
            "envFrom: [{secretRef: {name: a}, configMapRef: {name: a}}]",
            "more than one field",
        ),
        ("resources: {limits: {memory: 1GB}}", "must be a quantity"),
        (
            "resources: {limits: {memory: -1}}",
            "greater than or equal to 0",
        ),
        (
            "resources: {limits: {memory: 1Mi}, requests: {memory: 2Mi}}",
            "requests.memory: Invalid value: \"2Mi\": must be less than or equal to memory limit of 1Mi",
        ),
        (
            "resources: {limits: {memroy: 1Gi}}",
            "limits.memroy: Invalid value: \"memroy\": must be a standard resource for containers: did you mean \"memory\"?",
        ),
        (
            "resources: {limits: {ephemeral-storage: 1Gi}}",
            "only cpu, memory and huge pages",
        ),
        (
            "resources: {limits: {nvidia.com/gpu: 1}, requests: {}}",
            "limits['nvidia.com/gpu']: so far only cpu, memory and huge pages",
        ),
        ("livenessProbe: {}", "must specify a handler type"),
        (
            "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}",
            "more than 1 handler",
        ),
        ("livenessProbe: {exec: {}}", "exec.command: Required value"),
        (
            "livenessProbe: {tcpSocket: {port: 0}}",
            "livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535",
        ),
        (
            "livenessProbe: {tcpSocket: {port: web}}",
            "port: Not found: \"web\": no port of this container (none has a name)",
        ),
        (
            "ports: [{name: api, containerPort: 1}]\nreadinessProbe: {httpGet: {port: web}}",
            "Not found: \"web\": no port of this container (it has api)",
        ),
        (
            "livenessProbe: {tcpSocket: {port: \"80\"}}",
            "at least one letter",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}",
            "periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
            "successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "startupProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}",
            "must be greater than 0",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 1}",
            "must not be set for readinessProbes",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, scheme: ftp}}",
            "scheme: Unsupported value: \"ftp\"",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, protocol: HTTP2, scheme: HTTPS}}",
            "may only be set with scheme HTTP",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, protocol: HTTP2, host: a}}",
            "host: Forbidden: may not be set with protocol HTTP2",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: \"a b\", value: c}]}}",
            "must be the name of an HTTP header",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: \"b\\r\\nc: d\"}]}}",
            "must not hold control characters",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, host: \"a b\"}}",
            "must be an IP address or a name",
        ),
        (
            "livenessProbe: {grpc: {port: 1, mode: Secret}}",
            "mode: Unsupported value: \"Secret\"",
        ),
        ("imagePullPolicy: Sometimes", "Unsupported value"),
        ("terminationMessagePolicy: Log", "Unsupported value"),
        ("workingDir: a", "absolute path"),
        (
            "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]",
            "restartPolicy: Required value: must be set where restartPolicyRules are",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Stop, exitCodes: {operator: In, values: [1]}}]",
            "restartPolicyRules[0].action: Unsupported value",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Restart}]",
            "restartPolicyRules[0].exitCodes: Required value",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {operator: Is, values: [1]}}]",
            "exitCodes.operator: Unsupported value",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {operator: In}}]",
            "exitCodes.values: Required value",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [256]}}]",
            "exitCodes.values[0]: Invalid value: 256",
        ),
        ("lifecycle: {preStop: {}}", "must specify a handler type"),
        (
            "lifecycle: {preStop: {exec: {}}}",
            "exec.command: Required value",
        ),
        (
            "lifecycle: {preStop: {exec: {command: [a]}, sleep: {seconds: 1}}}",
            "more than 1 handler",
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: 31}}}",
            "terminationGracePeriodSeconds (30)",
        ),
        (
            "lifecycle: {preStop: {httpGet: {port: web}}}",
            "preStop.httpGet.port: Not found",
        ),
        (
            "lifecycle: {stopSignal: SIGTERM}",
            "may not be set for containers with empty `spec.os.name`",
        ),
        (
            "volumeMounts: [{name: a, mountPath: /a}]",
            "Not found: \"a\"",
        ),
        (
            "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
            "cannot set `allowPrivilegeEscalation`",
        ),
        (
            "securityContext: {capabilities: {add: [CAP_NET_ADMIN]}}",
            "did you mean \"NET_ADMIN\"?",
        ),
        (
            "securityContext: {capabilities: {drop: [ZEBRA]}}",
            "no such capability",
        ),
        ("securityContext: {procMount: Naked}", "Unsupported value"),
    ] {
        refused(&pod_with("", container), expected);
    }
    let volumes = "volumes: [{name: data, emptyDir: {}}]";
    for (mount, expected) in [
        ("name: dta, mountPath: /a", "did you mean \"data\"?"),
        ("name: data, mountPath: /", "must not be the root"),
        ("name: data, mountPath: //./", "must not be the root"),
        (
            "name: data, mountPath: /a}, {name: data, mountPath: //a/./",
            "must be unique",
        ),
        ("name: data, mountPath: a/..", "must not be the root"),
        ("name: data, mountPath: .", "must not be the root"),
        ("name: data, mountPath: \"/a:b\"", "must not contain ':'"),
        (
            "name: data, mountPath: /a}, {name: data, mountPath: /a/",
            "must be unique",
        ),
        (
            "name: data, mountPath: /a, subPath: ../b",
            "must not contain '..'",
        ),
        (
            "name: data, mountPath: /a, subPath: /b",
            "must be a relative path",
        ),
        (
            "name: data, mountPath: /a, subPath: b, subPathExpr: c",
            "mutually exclusive",
        ),
        (
            "name: data, mountPath: /a, mountPropagation: Bidirectional",
            "privileged containers",
        ),
        (
            "name: data, mountPath: /a, mountPropagation: Both",
            "Unsupported value",
        ),
        (
            "name: data, mountPath: /a, recursiveReadOnly: Enabled",
            "when readOnly is true",
        ),
        (
            "name: data, mountPath: /a, bindMountOptions: [ro]",
            "Unsupported value: \"ro\"",
        ),
        (
            "name: data, mountPath: /a, bindMountOptions: [nodev, nodev]",
            "Duplicate value: \"nodev\"",
        ),
    ] {
        refused(
            &pod_with(volumes, &format!("volumeMounts: [{{{mount}}}]")),
            expected,
        );
    }
}
