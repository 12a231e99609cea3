"""Containers as they run: resources, probes and hooks, restart policies, security contexts."""

from __future__ import annotations

import pytest
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    REQUIRED,
    TOO_MANY,
    UNSUPPORTED,
    Case,
    case_id,
    check_creation,
)

C = "spec.containers[0]"

CASES = [
    # Resources.
    Case(
        "request over limit",
        "container: {resources: {requests: {cpu: '2'}, limits: {cpu: '1'}}}",
        INVALID,
        f"{C}.resources.requests",
        'Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    Case(
        "negative request",
        "container: {resources: {requests: {memory: '-1'}}}",
        INVALID,
        f"{C}.resources.requests[memory]",
        'Invalid value: "-1": must be greater than or equal to 0',
    ),
    Case(
        "resource for quotas only",
        "container: {resources: {requests: {pods: '1'}}}",
        INVALID,
        f"{C}.resources.requests[pods]",
        'Invalid value: "pods": must be a standard resource for containers',
    ),
    Case(
        "huge pages alone",
        "container: {resources: {requests: {hugepages-2Mi: 4Mi}, limits: {hugepages-2Mi: 4Mi}}}",
        FORBIDDEN,
        f"{C}.resources",
        "Forbidden: HugePages require cpu or memory",
    ),
    Case(
        "extended resource without limit",
        "container: {resources: {requests: {example.com/gpu: '1'}}}",
        REQUIRED,
        f"{C}.resources.limits",
        "Required value: Limit must be set for non overcommitable resources",
    ),
    Case(
        "extended resource with another limit",
        "container: {resources: {requests: {example.com/gpu: '1'}, limits: {example.com/gpu: '2'}}}",
        INVALID,
        f"{C}.resources.requests",
        'Invalid value: "1": must be equal to example.com/gpu limit of 2',
    ),
    Case(
        "claim that the Pod does not have",
        "container: {resources: {claims: [{name: gpu}]}}",
        NOT_FOUND,
        f"{C}.resources.claims[0]",
        'Not found: "gpu": must be one of the names in pod.spec.resourceClaims which is empty',
    ),
    Case(
        "same resize policy twice",
        "container: {resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, "
        "{resourceName: cpu, restartPolicy: NotRequired}]}",
        DUPLICATE,
        f"{C}.resizePolicy[1]",
        'Duplicate value: "cpu"',
    ),
    Case(
        "resize policy that restarts what never restarts",
        "{spec: {restartPolicy: Never}, "
        "container: {resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}}",
        INVALID,
        f"{C}.resizePolicy",
        "Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'",
    ),
    # Probes and hooks.
    Case(
        "probe without handler",
        "container: {livenessProbe: {}}",
        REQUIRED,
        f"{C}.livenessProbe",
        "Required value: must specify a handler type",
    ),
    Case(
        "probe with two handlers",
        "container: {readinessProbe: {exec: {command: [x]}, tcpSocket: {port: 80}}}",
        FORBIDDEN,
        f"{C}.readinessProbe.tcpSocket",
        "Forbidden: may not specify more than 1 handler type",
    ),
    Case(
        "probe without command",
        "container: {startupProbe: {exec: {}}}",
        REQUIRED,
        f"{C}.startupProbe.exec.command",
        "Required value",
    ),
    Case(
        "success threshold of a liveness probe",
        "container: {livenessProbe: {exec: {command: [x]}, successThreshold: 2}}",
        INVALID,
        f"{C}.livenessProbe.successThreshold",
        "Invalid value: 2: must be 1",
    ),
    Case(
        "negative period",
        "container: {livenessProbe: {exec: {command: [x]}, periodSeconds: -1}}",
        INVALID,
        f"{C}.livenessProbe.periodSeconds",
        "Invalid value: -1: must be greater than or equal to 0",
    ),
    Case(
        "grace period of a readiness probe",
        "container: {readinessProbe: {exec: {command: [x]}, terminationGracePeriodSeconds: 5}}",
        INVALID,
        f"{C}.readinessProbe.terminationGracePeriodSeconds",
        "Invalid value: 5: must not be set for readinessProbes",
    ),
    Case(
        "scheme of a probe",
        "container: {livenessProbe: {httpGet: {port: 80, scheme: FTP}}}",
        UNSUPPORTED,
        f"{C}.livenessProbe.httpGet.scheme",
        'Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
    ),
    Case(
        "header of a probe",
        "container: {livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b', value: c}]}}}",
        INVALID,
        f"{C}.livenessProbe.httpGet.httpHeaders",
        "Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. "
        "'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
    ),
    Case(
        "port of a gRPC probe",
        "container: {livenessProbe: {grpc: {port: 0}}}",
        INVALID,
        f"{C}.livenessProbe.grpc.port",
        "Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    Case(
        "sleep beyond the grace period",
        "container: {lifecycle: {preStop: {sleep: {seconds: 31}}}}",
        INVALID,
        f"{C}.lifecycle.preStop.sleep",
        "Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
    ),
    Case(
        "stop signal of no operating system",
        "container: {lifecycle: {stopSignal: SIGUSR1}}",
        FORBIDDEN,
        f"{C}.lifecycle.stopSignal",
        "Forbidden: may not be set for containers with empty `spec.os.name`",
    ),
    Case(
        "probe of an init container",
        "spec: {initContainers: [{name: a, image: i, livenessProbe: {exec: {command: [x]}}}]}",
        FORBIDDEN,
        "spec.initContainers[0].livenessProbe",
        "Forbidden: may not be set for init containers without restartPolicy=Always",
    ),
    # Restart policies of containers.
    Case(
        "container restart policy",
        "container: {restartPolicy: Sometimes}",
        UNSUPPORTED,
        f"{C}.restartPolicy",
        'Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
    ),
    Case(
        "restart rules without policy",
        "container: {restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]}",
        REQUIRED,
        f"{C}.restartPolicy",
        "Required value: must specify restartPolicy when restart rules are used",
    ),
    Case(
        "operator of a restart rule",
        "container: {restartPolicy: Never, "
        "restartPolicyRules: [{action: Restart, exitCodes: {operator: Is, values: [1]}}]}",
        UNSUPPORTED,
        f"{C}.restartPolicyRules[0].exitCodes.operator",
        'Unsupported value: "Is": supported values: "In", "NotIn"',
    ),
    Case(
        "many restart rules",
        "container: {restartPolicy: Never, restartPolicyRules: ["
        + ", ".join(["{action: Restart, exitCodes: {operator: In, values: [1]}}"] * 21)
        + "]}",
        TOO_MANY,
        f"{C}.restartPolicyRules",
        "Too many: 21: must have at most 20 items",
    ),
    # Security contexts.
    Case(
        "negative user",
        "container: {securityContext: {runAsUser: -1}}",
        INVALID,
        f"{C}.securityContext.runAsUser",
        "Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    Case(
        "unmasked proc in the host's user namespace",
        "container: {securityContext: {procMount: Unmasked}}",
        INVALID,
        f"{C}.securityContext.procMount",
        'Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
    ),
    Case(
        "privileged without escalation",
        "container: {securityContext: {privileged: true, allowPrivilegeEscalation: false}}",
        INVALID,
        f"{C}.securityContext",
        'Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,'
        '"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,'
        '"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: '
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    Case(
        "seccomp profile without type",
        "container: {securityContext: {seccompProfile: {}}}",
        REQUIRED,
        f"{C}.securityContext.seccompProfile.type",
        "Required value: type is required when seccompProfile is set",
    ),
    Case(
        "seccomp profile without file",
        "container: {securityContext: {seccompProfile: {type: Localhost}}}",
        REQUIRED,
        f"{C}.securityContext.seccompProfile.localhostProfile",
        "Required value: must be set when seccomp type is Localhost",
    ),
    Case(
        "AppArmor profile",
        "container: {securityContext: {appArmorProfile: {type: Strict}}}",
        UNSUPPORTED,
        f"{C}.securityContext.appArmorProfile.type",
        'Unsupported value: "Strict": supported values: "Localhost", "RuntimeDefault", "Unconfined"',
    ),
    Case(
        "Windows user",
        "container: {securityContext: {windowsOptions: {runAsUserName: 'a\\b\\c'}}}",
        INVALID,
        f"{C}.securityContext.windowsOptions.runAsUserName",
        'Invalid value: "a\\\\b\\\\c": runAsUserName cannot contain more than one backslash',
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_mistake_in_a_container_is_told_as_upstream_tells_it(case: Case) -> None:
    check_creation(case)
