"""Pods as a whole: their metadata and the fields of their specs, but for those that the scheduler reads."""

from __future__ import annotations

import pytest
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    REQUIRED,
    TOO_LONG,
    UNSUPPORTED,
    Case,
    case_id,
    check_creation,
    implemented,
    make,
)

from podling.api import validation

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NAME_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
IP_RULE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"

METADATA = [
    Case(
        "no name",
        "metadata: {name: ''}",
        REQUIRED,
        "metadata.name",
        "Required value: name or generateName is required",
    ),
    Case(
        "name with underscore",
        "metadata: {name: a_b}",
        INVALID,
        "metadata.name",
        f'Invalid value: "a_b": {SUBDOMAIN_RULE}',
    ),
    Case(
        "long name",
        f"metadata: {{name: {'a' * 254}}}",
        INVALID,
        "metadata.name",
        f'Invalid value: "{"a" * 254}": must be no more than 253 characters',
    ),
    Case("no namespace", "metadata: {namespace: ''}", REQUIRED, "metadata.namespace", "Required value"),
    Case(
        "label key",
        "metadata: {labels: {'-a': b}}",
        INVALID,
        "metadata.labels",
        f'Invalid value: "-a": {NAME_PART_RULE}',
    ),
    Case(
        "label value",
        "metadata: {labels: {a: 'b c'}}",
        INVALID,
        "metadata.labels",
        f'Invalid value: "b c": {VALUE_RULE}',
    ),
    Case(
        "annotation key",
        "metadata: {annotations: {'a b': c}}",
        INVALID,
        "metadata.annotations",
        f'Invalid value: "a b": {NAME_PART_RULE}',
    ),
    Case(
        "big annotations",
        f"metadata: {{annotations: {{a: {'x' * (256 * 1024)}}}}}",
        TOO_LONG,
        "metadata.annotations",
        "Too long: may not be more than 262144 bytes",
    ),
    Case(
        "finalizer without domain",
        "metadata: {finalizers: [mine]}",
        INVALID,
        "metadata.finalizers[0]",
        'Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified',
    ),
    Case(
        "owner without uid",
        "metadata: {ownerReferences: [{apiVersion: v1, kind: Node, name: n, uid: ''}]}",
        INVALID,
        "metadata.ownerReferences.uid",
        'Invalid value: "": must not be empty',
    ),
    Case(
        "negative generation",
        "metadata: {generation: -1}",
        INVALID,
        "metadata.generation",
        "Invalid value: -1: must be greater than or equal to 0",
    ),
    Case(
        "deletion cost",
        "metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: '1.5'}}",
        INVALID,
        "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]",
        'Invalid value: "1.5": must be a 32bit integer',
    ),
    Case(
        "mirror of a static Pod on no node",
        "metadata: {annotations: {kubernetes.io/config.mirror: abc}}",
        INVALID,
        "metadata.annotations[kubernetes.io/config.mirror]",
        'Invalid value: "abc": must set spec.nodeName if mirror pod annotation is set',
    ),
    Case(
        "AppArmor annotation of no container",
        "metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/other: runtime/default}}",
        INVALID,
        "metadata.annotations[container.apparmor.security.beta.kubernetes.io/other]",
        'Invalid value: "other": container not found',
    ),
]

SPEC = [
    Case(
        "restart policy",
        "spec: {restartPolicy: Sometimes}",
        UNSUPPORTED,
        "spec.restartPolicy",
        'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
    ),
    Case(
        "DNS policy",
        "spec: {dnsPolicy: Mine}",
        UNSUPPORTED,
        "spec.dnsPolicy",
        'Unsupported value: "Mine": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"',
    ),
    Case(
        "no DNS configuration",
        "spec: {dnsPolicy: None}",
        REQUIRED,
        "spec.dnsConfig",
        "Required value: must provide `dnsConfig` when `dnsPolicy` is None",
    ),
    Case(
        "no name server",
        "spec: {dnsPolicy: None, dnsConfig: {searches: [a]}}",
        REQUIRED,
        "spec.dnsConfig.nameservers",
        "Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
    ),
    Case(
        "name server",
        "spec: {dnsConfig: {nameservers: [dns.example.com]}}",
        INVALID,
        "spec.dnsConfig.nameservers[0]",
        f'Invalid value: "dns.example.com": {IP_RULE}',
    ),
    Case(
        "four name servers",
        "spec: {dnsConfig: {nameservers: [1.1.1.1, 2.2.2.2, 3.3.3.3, 4.4.4.4]}}",
        INVALID,
        "spec.dnsConfig.nameservers",
        'Invalid value: ["1.1.1.1","2.2.2.2","3.3.3.3","4.4.4.4"]: must not have more than 3 nameservers',
    ),
    Case(
        "DNS option without name",
        "spec: {dnsConfig: {options: [{value: '2'}]}}",
        REQUIRED,
        "spec.dnsConfig.options[0]",
        "Required value: must not be empty",
    ),
    Case(
        "host alias",
        "spec: {hostAliases: [{ip: 010.0.0.5, hostnames: [a]}]}",
        INVALID,
        "spec.hostAliases[0].ip",
        'Invalid value: "010.0.0.5": must not have leading 0s',
    ),
    Case(
        "name of a host alias",
        "spec: {hostAliases: [{ip: 10.0.0.5, hostnames: [a_b]}]}",
        INVALID,
        "spec.hostAliases[0].hostnames[0]",
        f'Invalid value: "a_b": {SUBDOMAIN_RULE}',
    ),
    Case(
        "host name with dot",
        "spec: {hostname: a.b}",
        INVALID,
        "spec.hostname",
        'Invalid value: "a.b": must not contain dots',
    ),
    Case(
        "host name override in the host's network",
        "spec: {hostnameOverride: a, hostNetwork: true}",
        FORBIDDEN,
        "spec.hostnameOverride",
        "Forbidden: may not be specified when hostNetwork is true",
    ),
    Case(
        "deadline of nothing",
        "spec: {activeDeadlineSeconds: 0}",
        INVALID,
        "spec.activeDeadlineSeconds",
        "Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    Case(
        "service account",
        "spec: {serviceAccountName: a_b}",
        INVALID,
        "spec.serviceAccountName",
        f'Invalid value: "a_b": {SUBDOMAIN_RULE}',
    ),
    Case(
        "node selector",
        "spec: {nodeSelector: {a: 'b c'}}",
        INVALID,
        "spec.nodeSelector",
        f'Invalid value: "b c": {VALUE_RULE}',
    ),
    Case(
        "readiness gate",
        "spec: {readinessGates: [{conditionType: 'a b'}]}",
        INVALID,
        "spec.readinessGates[0].conditionType",
        f'Invalid value: "a b": {NAME_PART_RULE}',
    ),
    Case(
        "operating system",
        "spec: {os: {name: plan9}}",
        UNSUPPORTED,
        "spec.os",
        'Unsupported value: "plan9": supported values: "linux", "windows"',
    ),
    Case(
        "Linux settings of a Windows Pod",
        "spec: {os: {name: windows}, securityContext: {runAsUser: 1}}",
        FORBIDDEN,
        "spec.securityContext.runAsUser",
        "Forbidden: cannot be set for a windows pod",
    ),
    Case(
        "Windows settings of a Linux Pod",
        "spec: {os: {name: linux}, securityContext: {windowsOptions: {}}}",
        FORBIDDEN,
        "spec.securityContext.windowsOptions",
        "Forbidden: windows options cannot be set for a linux pod",
    ),
    Case(
        "own users in the host's network",
        "spec: {hostUsers: false, hostNetwork: true}",
        FORBIDDEN,
        "spec.hostNetwork",
        "Forbidden: when `hostUsers` is false",
    ),
    Case(
        "shared and host processes",
        "spec: {shareProcessNamespace: true, hostPID: true}",
        INVALID,
        "spec.securityContext.shareProcessNamespace",
        "Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    Case(
        "sysctl given twice",
        "spec: {securityContext: {sysctls: [{name: kernel.shmmax, value: '1'}, {name: kernel.shmmax, value: '2'}]}}",
        DUPLICATE,
        "spec.securityContext.sysctls[1].name",
        'Duplicate value: "kernel.shmmax"',
    ),
    Case(
        "network sysctl in the host's network",
        "spec: {hostNetwork: true, securityContext: {sysctls: [{name: net/ipv4/ip_forward, value: '1'}]}}",
        INVALID,
        "spec.securityContext.sysctls[0].name",
        "Invalid value: \"net/ipv4/ip_forward\": may not be specified when 'hostNetwork' is true",
    ),
    Case(
        "sysctl name",
        "spec: {securityContext: {sysctls: [{name: Net, value: '1'}]}}",
        INVALID,
        "spec.securityContext.sysctls[0].name",
        'Invalid value: "Net": must have at most 253 characters and match regex '
        r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
    ),
    Case(
        "group",
        "spec: {securityContext: {supplementalGroups: [1, -2]}}",
        INVALID,
        "spec.securityContext.supplementalGroups[1]",
        "Invalid value: -2: must be between 0 and 2147483647, inclusive",
    ),
    Case(
        "change of the group of volumes",
        "spec: {securityContext: {fsGroupChangePolicy: Once}}",
        UNSUPPORTED,
        "spec.securityContext.fsGroupChangePolicy",
        'Unsupported value: "Once": supported values: "Always", "OnRootMismatch"',
    ),
    Case(
        "seccomp annotation against the field",
        "{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined}}, "
        "spec: {securityContext: {seccompProfile: {type: RuntimeDefault}}}}",
        FORBIDDEN,
        "spec.securityContext.seccompProfile.type",
        "Forbidden: seccomp type in annotation and field must match",
    ),
    # Resources of the Pod.
    Case(
        "resource that Pods do not have",
        "spec: {resources: {requests: {ephemeral-storage: 1Gi}}}",
        UNSUPPORTED,
        "spec.resources.requests[ephemeral-storage]",
        'Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"',
    ),
    Case(
        "Pod smaller than its containers",
        "{spec: {resources: {requests: {cpu: '1'}}}, container: {resources: {requests: {cpu: '2'}}}}",
        INVALID,
        "spec.resources.requests[cpu]",
        'Invalid value: "1": must be greater than or equal to aggregate container requests of 2',
    ),
    Case(
        "claim of nothing",
        "spec: {resourceClaims: [{name: gpu}]}",
        INVALID,
        "spec.resourceClaims[0]",
        'Invalid value: {"Name":"gpu","ResourceClaimName":null,"ResourceClaimTemplateName":null}: '
        "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
    ),
    Case(
        "ephemeral container",
        "spec: {ephemeralContainers: [{name: d, image: i}]}",
        FORBIDDEN,
        "spec.ephemeralContainers",
        "Forbidden: cannot be set on create",
    ),
    Case(
        "token without account",
        "spec: {volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]}",
        FORBIDDEN,
        "spec.volumes[0].projected.sources[0].serviceAccountToken",
        "Forbidden: must not be specified when serviceAccountName is not set",
    ),
]


@pytest.mark.parametrize("case", METADATA + SPEC, ids=case_id)
def test_a_mistake_in_a_pod_is_told_as_upstream_tells_it(case: Case) -> None:
    check_creation(case)


def test_a_generated_name_may_end_in_a_dash() -> None:
    assert validation.validate_create(make("metadata: {generateName: web-, name: web-x2x4z}")) == []


def test_what_defaulting_gives_is_required() -> None:
    errors = validation.validate_create(make(apply_defaults=False))
    assert {error.field for error in errors if error.type == REQUIRED} == {
        "spec.containers[0].imagePullPolicy",
        "spec.containers[0].terminationMessagePolicy",
        "spec.dnsPolicy",
        "spec.restartPolicy",
        "spec.terminationGracePeriodSeconds",
    }


def test_the_name_of_a_template_is_not_looked_at() -> None:
    from podling.api.core.v1 import PodTemplateSpec
    from podling.api.field import Path

    template = PodTemplateSpec(spec=make("container: {name: ''}").spec)
    errors = validation.validate_template(template, Path("spec").child("template"))
    assert [error.field for error in errors] == ["spec.template.spec.containers[0].name"]


def test_ephemeral_containers_may_not_do_what_pods_are_for() -> None:
    old = make("metadata: {resourceVersion: '1'}")
    new = make(
        "{metadata: {resourceVersion: '1'}, spec: {ephemeralContainers: [{name: d, image: i, "
        "targetContainerName: other, ports: [{containerPort: 80}], resources: {limits: {cpu: '1'}}}]}}"
    )
    errors = implemented(validation.validate_ephemeral_containers_update(new, old))
    assert [(e.type, e.field) for e in errors] == [
        (NOT_FOUND, "spec.ephemeralContainers[0].targetContainerName"),
        (FORBIDDEN, "spec.ephemeralContainers[0].ports"),
        (FORBIDDEN, "spec.ephemeralContainers[0].resources"),
    ]
