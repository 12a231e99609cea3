"""Containers: their names, images, ports, environment and mounts; and good ones of every kind."""

from __future__ import annotations

import pytest
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    REQUIRED,
    UNSUPPORTED,
    Case,
    case_id,
    check_creation,
    implemented,
    make,
)

from podling.api import validation

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
C = "spec.containers[0]"
DIVISORS = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"

CASES = [
    Case("no name", "container: {name: ''}", REQUIRED, f"{C}.name", "Required value"),
    Case(
        "name in capitals",
        "container: {name: Main}",
        INVALID,
        f"{C}.name",
        f'Invalid value: "Main": {LABEL_RULE}',
    ),
    Case(
        "long name",
        f"container: {{name: {'a' * 64}}}",
        INVALID,
        f"{C}.name",
        f'Invalid value: "{"a" * 64}": must be no more than 63 characters',
    ),
    Case("no containers", "spec: {containers: []}", REQUIRED, "spec.containers", "Required value"),
    Case("no image", "container: {image: ''}", REQUIRED, f"{C}.image", "Required value"),
    Case(
        "blank in image",
        "container: {image: ' busybox'}",
        INVALID,
        f"{C}.image",
        'Invalid value: " busybox": must not have leading or trailing whitespace',
    ),
    Case(
        "same name twice",
        "spec: {containers: [{name: a, image: i}, {name: a, image: i}]}",
        DUPLICATE,
        "spec.containers[1].name",
        'Duplicate value: "a"',
    ),
    Case(
        "init container with a container's name",
        "spec: {initContainers: [{name: main, image: i}]}",
        DUPLICATE,
        "spec.initContainers[0].name",
        'Duplicate value: "main"',
    ),
    Case(
        "pull policy",
        "container: {imagePullPolicy: Sometimes}",
        UNSUPPORTED,
        f"{C}.imagePullPolicy",
        'Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ),
    Case(
        "termination message policy",
        "container: {terminationMessagePolicy: Log}",
        UNSUPPORTED,
        f"{C}.terminationMessagePolicy",
        'Unsupported value: "Log": supported values: "File", "FallbackToLogsOnError"',
    ),
    # Ports.
    Case(
        "no port number",
        "container: {ports: [{name: web}]}",
        REQUIRED,
        f"{C}.ports[0].containerPort",
        "Required value",
    ),
    Case(
        "port out of range",
        "container: {ports: [{containerPort: 65536}]}",
        INVALID,
        f"{C}.ports[0].containerPort",
        "Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    Case(
        "host port out of range",
        "container: {ports: [{containerPort: 80, hostPort: -1}]}",
        INVALID,
        f"{C}.ports[0].hostPort",
        "Invalid value: -1: must be between 1 and 65535, inclusive",
    ),
    Case(
        "protocol",
        "container: {ports: [{containerPort: 80, protocol: HTTP}]}",
        UNSUPPORTED,
        f"{C}.ports[0].protocol",
        'Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"',
    ),
    Case(
        "same port name twice",
        "container: {ports: [{containerPort: 80, name: p}, {containerPort: 81, name: p}]}",
        DUPLICATE,
        f"{C}.ports[1].name",
        'Duplicate value: "p"',
    ),
    Case(
        "long port name",
        "container: {ports: [{containerPort: 80, name: a-very-long-port-name}]}",
        INVALID,
        f"{C}.ports[0].name",
        'Invalid value: "a-very-long-port-name": must be no more than 15 characters',
    ),
    Case(
        "same host port twice",
        "spec: {containers: [{name: a, image: i, ports: [{containerPort: 1, hostPort: 80}]}, "
        "{name: b, image: i, ports: [{containerPort: 2, hostPort: 80}]}]}",
        DUPLICATE,
        "spec.containers[1].ports[0].hostPort",
        'Duplicate value: "TCP//80"',
    ),
    Case(
        "host port in the host's network",
        "{spec: {hostNetwork: true}, container: {ports: [{containerPort: 80, hostPort: 81}]}}",
        INVALID,
        f"{C}.ports[0].hostPort",
        "Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
    ),
    # Environment.
    Case("no name of a variable", "container: {env: [{value: x}]}", REQUIRED, f"{C}.env[0].name", "Required value"),
    Case(
        "name of a variable",
        "container: {env: [{name: 'A=B'}]}",
        INVALID,
        f"{C}.env[0].name",
        'Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters '
        "other than '='",
    ),
    Case(
        "no source of a variable",
        "container: {env: [{name: A, valueFrom: {}}]}",
        INVALID,
        f"{C}.env[0].valueFrom",
        'Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` '
        "or `fileKeyRef`",
    ),
    Case(
        "value and source of a variable",
        "container: {env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom",
        'Invalid value: "": may not be specified when `value` is not empty',
    ),
    Case(
        "two sources of a variable",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, "
        "secretKeyRef: {name: s, key: k}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom",
        'Invalid value: "": may not have more than one field specified at a time',
    ),
    Case(
        "no path of a field",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: ''}}}]}",
        REQUIRED,
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        "Required value",
    ),
    Case(
        "unknown field",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nothing}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        'Invalid value: "spec.nothing": error converting fieldPath: field label not supported: spec.nothing',
    ),
    Case(
        "field not for the environment",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}]}",
        UNSUPPORTED,
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        'Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", '
        '"metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", '
        '"status.podIP", "status.podIPs"',
    ),
    Case(
        "subscript on a field without",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.name['a']\"}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        "Invalid value: \"metadata.name['a']\": error converting fieldPath: field label does not support subscript: "
        "metadata.name['a']",
    ),
    Case(
        "resource to refer to",
        "container: {env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.disk}}}]}",
        UNSUPPORTED,
        f"{C}.env[0].valueFrom.resourceFieldRef.resource",
        'Unsupported value: "limits.disk": supported values: "limits.cpu", "limits.ephemeral-storage", '
        '"limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"',
    ),
    Case(
        "divisor of CPU",
        "container: {env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom.resourceFieldRef.divisor",
        'Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are supported with the cpu resource',
    ),
    Case(
        "divisor of memory",
        "container: {env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 2Mi}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom.resourceFieldRef.divisor",
        f'Invalid value: "limits.memory": only divisor\'s values {DIVISORS} are supported with the memory resource',
    ),
    Case(
        "no key of a Secret",
        "container: {env: [{name: A, valueFrom: {secretKeyRef: {name: s}}}]}",
        REQUIRED,
        f"{C}.env[0].valueFrom.secretKeyRef.key",
        "Required value",
    ),
    Case(
        "key of a ConfigMap",
        "container: {env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: a/b}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom.configMapKeyRef.key",
        "Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
        "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    ),
    Case(
        "file of an unknown volume",
        "container: {env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: f, key: K}}}]}",
        NOT_FOUND,
        f"{C}.env[0].valueFrom.fileKeyRef.volumeName",
        'Not found: "v"',
    ),
    Case(
        "file of a volume that is no emptyDir",
        "{spec: {volumes: [{name: v, hostPath: {path: /x}}]}, "
        "container: {env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: f, key: K}}}]}}",
        INVALID,
        f"{C}.env[0].valueFrom.fileKeyRef.volumeName",
        'Invalid value: "v": referenced volume must be of type emptyDir',
    ),
    Case(
        "nothing in envFrom",
        "container: {envFrom: [{prefix: A}]}",
        INVALID,
        f"{C}.envFrom",
        'Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
    ),
    Case(
        "two sources in envFrom",
        "container: {envFrom: [{configMapRef: {name: a}, secretRef: {name: b}}]}",
        INVALID,
        f"{C}.envFrom",
        'Invalid value: "": may not have more than one field specified at a time',
    ),
    Case(
        "no name in envFrom",
        "container: {envFrom: [{configMapRef: {}}]}",
        REQUIRED,
        f"{C}.envFrom[0].configMapRef.name",
        "Required value",
    ),
    # Mounts.
    Case(
        "unknown volume",
        "container: {volumeMounts: [{name: gone, mountPath: /x}]}",
        NOT_FOUND,
        f"{C}.volumeMounts[0].name",
        'Not found: "gone"',
    ),
    Case(
        "no mount path",
        "{spec: {volumes: [{name: v}]}, container: {volumeMounts: [{name: v}]}}",
        REQUIRED,
        f"{C}.volumeMounts[0].mountPath",
        "Required value",
    ),
    Case(
        "same mount path twice",
        "{spec: {volumes: [{name: v}]}, "
        "container: {volumeMounts: [{name: v, mountPath: /x}, {name: v, mountPath: /x}]}}",
        INVALID,
        f"{C}.volumeMounts[1].mountPath",
        'Invalid value: "/x": must be unique',
    ),
    Case(
        "absolute subPath",
        "{spec: {volumes: [{name: v}]}, container: {volumeMounts: [{name: v, mountPath: /x, subPath: /y}]}}",
        INVALID,
        f"{C}.volumeMounts.subPath",
        'Invalid value: "/y": must be a relative path',
    ),
    Case(
        "backsteps in subPathExpr",
        "{spec: {volumes: [{name: v}]}, container: {volumeMounts: [{name: v, mountPath: /x, subPathExpr: a/../b}]}}",
        INVALID,
        f"{C}.volumeMounts.subPathExpr",
        "Invalid value: \"a/../b\": must not contain '..'",
    ),
    Case(
        "subPath and subPathExpr",
        "{spec: {volumes: [{name: v}]}, "
        "container: {volumeMounts: [{name: v, mountPath: /x, subPath: a, subPathExpr: b}]}}",
        INVALID,
        f"{C}.volumeMounts[0].subPathExpr",
        'Invalid value: "b": subPathExpr and subPath are mutually exclusive',
    ),
    Case(
        "bidirectional without privilege",
        "{spec: {volumes: [{name: v}]}, "
        "container: {volumeMounts: [{name: v, mountPath: /x, mountPropagation: Bidirectional}]}}",
        FORBIDDEN,
        f"{C}.volumeMounts.mountPropagation",
        "Forbidden: Bidirectional mount propagation is available only to privileged containers",
    ),
    Case(
        "mount propagation",
        "{spec: {volumes: [{name: v}]}, container: {volumeMounts: [{name: v, mountPath: /x, mountPropagation: Both}]}}",
        UNSUPPORTED,
        f"{C}.volumeMounts.mountPropagation",
        'Unsupported value: "Both": supported values: "Bidirectional", "HostToContainer", "None"',
    ),
    Case(
        "recursive read-only of a writable mount",
        "{spec: {volumes: [{name: v}]}, "
        "container: {volumeMounts: [{name: v, mountPath: /x, recursiveReadOnly: Enabled}]}}",
        FORBIDDEN,
        f"{C}.volumeMounts.recursiveReadOnly",
        "Forbidden: may only be specified when readOnly is true",
    ),
    Case(
        "device of a volume without blocks",
        "{spec: {volumes: [{name: v}]}, container: {volumeDevices: [{name: v, devicePath: /dev/x}]}}",
        INVALID,
        f"{C}.volumeDevices[0].name",
        'Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode',
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_mistake_in_a_container_is_told_as_upstream_tells_it(case: Case) -> None:
    check_creation(case)


GOOD = [
    "container: {ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}",
    "container: {env: [{name: '1 odd:name', value: x}]}",
    "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}]}",
    "container: {env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}]}",
    "container: {resources: {limits: {cpu: 500m, memory: 64Mi, hugepages-2Mi: 4Mi, example.com/gpu: '1'}}}",
    "container: {lifecycle: {preStop: {sleep: {seconds: 0}}}}",
    "{spec: {os: {name: linux}}, container: {lifecycle: {stopSignal: SIGRTMIN+3}}}",
    "spec: {initContainers: [{name: a, image: i, restartPolicy: Always, livenessProbe: {exec: {command: [x]}}}]}",
    "spec: {initContainers: [{name: a, image: i, ports: [{containerPort: 1, hostPort: 5}]}, "
    "{name: b, image: i, ports: [{containerPort: 1, hostPort: 5}]}]}",
    "{spec: {hostUsers: false}, container: {securityContext: {procMount: Unmasked}}}",
    "container: {restartPolicy: OnFailure, "
    "restartPolicyRules: [{action: Restart, exitCodes: {operator: NotIn, values: [1, 2]}}]}",
]


@pytest.mark.parametrize("manifest", GOOD)
def test_a_good_container_is_accepted(manifest: str) -> None:
    assert implemented(validation.validate_create(make(manifest))) == []


def test_all_mistakes_are_told_at_once() -> None:
    pod = make("{metadata: {name: Bad}, container: {image: '', imagePullPolicy: x, name: ''}}")
    assert [error.field for error in validation.validate_create(pod)] == [
        "metadata.name",
        "spec.containers[0].name",
        "spec.containers[0].image",
        "spec.containers[0].imagePullPolicy",
    ]
