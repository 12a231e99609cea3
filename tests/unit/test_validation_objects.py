"""ConfigMaps, Secrets, Namespaces, Nodes, ServiceAccounts, Events and Leases."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    TOO_LONG,
    Case,
    build,
    check,
)

from podling.api import validation
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import ConfigMap, Event, Namespace, Node, Secret, ServiceAccount
from podling.api.events.v1 import Event as NewEvent
from podling.api.validation.namespace import validate_finalize

NAMED = "metadata: {name: it, namespace: default, resourceVersion: '1'}"
CLUSTER = "metadata: {name: it, resourceVersion: '1'}"
EVENT = """
metadata: {name: it, namespace: default, resourceVersion: '1'}
eventTime: '2026-01-02T03:04:05.000000Z'
regarding: {kind: Pod, name: web, namespace: default}
reportingController: podling.dev/kubelet
reportingInstance: node-1
action: Start
reason: Started
type: Normal
"""
OVER_A_MIB = "x" * ((1 << 20) + 1)

CREATES: list[tuple[Any, str, Case]] = [
    (
        ConfigMap,
        NAMED,
        Case(
            "key in both bags",
            "{data: {a: b}, binaryData: {a: Yg==}}",
            INVALID,
            "data[a]",
            'Invalid value: "a": duplicate of key present in binaryData',
        ),
    ),
    (
        ConfigMap,
        NAMED,
        Case(
            "big ConfigMap",
            f"data: {{a: {OVER_A_MIB}}}",
            TOO_LONG,
            "[]",
            "Too long: may not be more than 1048576 bytes",
        ),
    ),
    (
        ConfigMap,
        NAMED,
        Case(
            "key of the parent directory",
            "data: {..a: b}",
            INVALID,
            "data[..a]",
            "Invalid value: \"..a\": must not start with '..'",
        ),
    ),
    (
        Secret,
        NAMED,
        Case(
            "no key pair",
            "{type: kubernetes.io/tls, data: {tls.crt: YQ==}}",
            REQUIRED,
            "data[tls.key]",
            "Required value",
        ),
    ),
    (
        Secret,
        NAMED,
        Case(
            "no account",
            "type: kubernetes.io/service-account-token",
            REQUIRED,
            "metadata.annotations[kubernetes.io/service-account.name]",
            "Required value",
        ),
    ),
    (
        Secret,
        NAMED,
        Case("no SSH key", "type: kubernetes.io/ssh-auth", REQUIRED, "data[ssh-privatekey]", "Required value"),
    ),
    (
        Secret,
        NAMED,
        Case(
            "no registry credentials",
            "type: kubernetes.io/dockerconfigjson",
            REQUIRED,
            "data[.dockerconfigjson]",
            "Required value",
        ),
    ),
    (
        Secret,
        NAMED,
        Case(
            "registry credentials that are no JSON",
            "{type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: eHl6}}",
            INVALID,
            "data[.dockerconfigjson]",
            "Invalid value: \"<secret contents redacted>\": invalid character 'x' looking for beginning of value",
        ),
    ),
    (
        Namespace,
        CLUSTER,
        Case(
            "name with dot",
            "metadata: {name: a.b}",
            INVALID,
            "metadata.name",
            'Invalid value: "a.b": must not contain dots',
        ),
    ),
    (
        Namespace,
        CLUSTER,
        Case(
            "namespace of a namespace",
            "metadata: {namespace: default}",
            FORBIDDEN,
            "metadata.namespace",
            "Forbidden: not allowed on this type",
        ),
    ),
    (
        Node,
        CLUSTER,
        Case(
            "taint given twice",
            "spec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoSchedule}]}",
            DUPLICATE,
            "metadata.taints[1]",
            'Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: '
            "taints must be unique by key and effect pair",
        ),
    ),
    (
        Node,
        CLUSTER,
        Case(
            "taint without effect",
            "spec: {taints: [{key: a}]}",
            REQUIRED,
            "metadata.taints[0].effect",
            "Required value",
        ),
    ),
    (
        Node,
        CLUSTER,
        Case(
            "Pod network",
            "spec: {podCIDR: 10.0.0.0, podCIDRs: [10.0.0.0]}",
            INVALID,
            "spec.podCIDRs[0]",
            'Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
        ),
    ),
    (
        Node,
        CLUSTER,
        Case(
            "half a Pod",
            "status: {capacity: {pods: 500m}, allocatable: {cpu: 500m}}",
            INVALID,
            "status.capacity.pods",
            'Invalid value: "500m": must be an integer',
        ),
    ),
    (
        ServiceAccount,
        NAMED,
        Case(
            "account name",
            "metadata: {name: ''}",
            REQUIRED,
            "metadata.name",
            "Required value: name or generateName is required",
        ),
    ),
    (
        Event,
        NAMED,
        Case(
            "namespace of the object",
            "involvedObject: {kind: Pod, namespace: other}",
            INVALID,
            "involvedObject.namespace",
            'Invalid value: "other": does not match event.namespace',
        ),
    ),
    (NewEvent, EVENT, Case("no action", "action: ''", REQUIRED, "action", "Required value")),
    (
        NewEvent,
        EVENT,
        Case("type", "type: Error", INVALID, "type", 'Invalid value: "": has invalid value: Error'),
    ),
    (
        NewEvent,
        EVENT,
        Case(
            "long note",
            f"note: {'x' * 1025}",
            INVALID,
            "message",
            'Invalid value: "": can have at most 1024 characters',
        ),
    ),
    (
        NewEvent,
        EVENT,
        Case(
            "series of one",
            "series: {count: 1, lastObservedTime: '2026-01-02T03:04:05.000000Z'}",
            INVALID,
            "series.count",
            'Invalid value: "": should be at least 2',
        ),
    ),
    (
        Lease,
        NAMED,
        Case(
            "duration",
            "spec: {leaseDurationSeconds: 0}",
            INVALID,
            "spec.leaseDurationSeconds",
            "Invalid value: 0: must be greater than 0",
        ),
    ),
    (
        Lease,
        NAMED,
        Case(
            "holder without strategy",
            "spec: {preferredHolder: a}",
            FORBIDDEN,
            "spec.preferredHolder",
            "Forbidden: may only be specified if `strategy` is defined",
        ),
    ),
]


@pytest.mark.parametrize(("kind", "base", "case"), CREATES, ids=[f"{k.__name__}-{c.name}" for k, _, c in CREATES])
def test_a_mistake_is_told_as_upstream_tells_it(kind: Any, base: str, case: Case) -> None:
    check(validation.validate_create(build(kind, base, case.manifest)), case)


UPDATES: list[tuple[Any, str, str, Case]] = [
    (
        ConfigMap,
        NAMED,
        "{immutable: true, data: {a: b}}",
        Case(
            "immutable data",
            "{immutable: true, data: {a: c}}",
            FORBIDDEN,
            "data",
            "Forbidden: field is immutable when `immutable` is set",
        ),
    ),
    (
        Secret,
        NAMED,
        "immutable: true",
        Case(
            "immutable made mutable",
            "{}",
            FORBIDDEN,
            "immutable",
            "Forbidden: field is immutable when `immutable` is set",
        ),
    ),
    (
        Secret,
        NAMED,
        "{}",
        Case("type of a Secret", "type: a/b", INVALID, "type", 'Invalid value: "a/b": field is immutable'),
    ),
    (
        Node,
        CLUSTER,
        "spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24]}",
        Case(
            "another Pod network",
            "spec: {podCIDR: 10.0.1.0/24, podCIDRs: [10.0.1.0/24]}",
            FORBIDDEN,
            "spec.podCIDRs",
            'Forbidden: node updates may not change podCIDR except from "" to valid',
        ),
    ),
    (
        NewEvent,
        EVENT,
        "{}",
        Case("another reason", "reason: Other", INVALID, "reason", 'Invalid value: "Other": field is immutable'),
    ),
]


@pytest.mark.parametrize(("kind", "base", "before", "case"), UPDATES, ids=[case.name for *_, case in UPDATES])
def test_a_refused_update_is_told_as_upstream_tells_it(kind: Any, base: str, before: str, case: Case) -> None:
    check(validation.validate_update(build(kind, base, case.manifest), build(kind, base, before)), case)


@pytest.mark.parametrize(
    ("kind", "base", "manifest"),
    [
        (ConfigMap, NAMED, "{data: {a.b: c}, binaryData: {d: ZQ==}}"),
        (Secret, NAMED, "{type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: e30=}}"),
        (Secret, NAMED, "{type: kubernetes.io/basic-auth, data: {username: ''}}"),
        (Namespace, CLUSTER, "spec: {finalizers: [kubernetes]}"),
        (Node, CLUSTER, "status: {capacity: {cpu: '4', memory: 8Gi, pods: '110', example.com/gpu: '2'}}"),
        (Event, NAMED, "involvedObject: {kind: Pod, namespace: default}"),
        (NewEvent, EVENT, "{}"),
        (Lease, NAMED, "spec: {leaseDurationSeconds: 40, holderIdentity: a}"),
    ],
)
def test_a_good_object_is_accepted(kind: Any, base: str, manifest: str) -> None:
    obj = build(kind, base, manifest)
    assert validation.validate_create(obj) == []
    assert validation.validate_update(obj, build(kind, base, manifest)) == []


def test_the_phase_of_a_namespace_follows_its_deletion() -> None:
    old, new = build(Namespace, CLUSTER), build(Namespace, CLUSTER, "status: {phase: Terminating}")
    assert [str(error) for error in validation.validate_status_update(new, old)] == [
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
    ]


def test_a_finalizer_of_a_namespace_needs_a_domain() -> None:
    old, new = build(Namespace, CLUSTER), build(Namespace, CLUSTER, "spec: {finalizers: [mine]}")
    assert [error.field for error in validate_finalize(new, old)] == ["spec.finalizers[0]"]
