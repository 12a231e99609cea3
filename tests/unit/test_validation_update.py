"""What may change in a Pod: metadata, spec, status, ephemeral containers and sizes."""

from __future__ import annotations

import pytest
from tests.support.verdict import (
    FORBIDDEN,
    INVALID,
    REQUIRED,
    Case,
    build,
    case_id,
    check,
    implemented,
    make,
)

from podling.api import validation
from podling.api.core.v1 import Pod

STORED = """
metadata: {name: web, namespace: default, uid: u1, resourceVersion: '1', creationTimestamp: '2026-01-02T03:04:05Z'}
spec:
  containers: [{name: main, image: busybox, imagePullPolicy: IfNotPresent}]
"""
UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
)
ONLY_COMPUTE = "Forbidden: only cpu and memory resources are mutable"


def stored(manifest: str = "") -> Pod:
    return build(Pod, STORED, manifest)


ALLOWED = [
    ("{}", "metadata: {labels: {a: b}, annotations: {c: d}}"),
    ("{}", "container: {image: 'busybox:2'}"),
    ("{}", "spec: {activeDeadlineSeconds: 10}"),
    ("spec: {activeDeadlineSeconds: 10}", "spec: {activeDeadlineSeconds: 5}"),
    ("{}", "spec: {tolerations: [{key: a, operator: Exists}]}"),
    (
        "spec: {tolerations: [{key: a, effect: NoExecute, operator: Exists}]}",
        "spec: {tolerations: [{key: a, effect: NoExecute, operator: Exists, tolerationSeconds: 5}]}",
    ),
    ("spec: {terminationGracePeriodSeconds: -5}", "spec: {terminationGracePeriodSeconds: 1}"),
    ("spec: {schedulingGates: [{name: a/b}]}", "spec: {schedulingGates: []}"),
    ("spec: {schedulingGates: [{name: a/b}]}", "spec: {schedulingGates: [{name: a/b}], nodeSelector: {a: b}}"),
    ("{}", "container: {resources: {}}"),
]


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_an_allowed_change_is_accepted(before: str, after: str) -> None:
    assert validation.validate_update(stored(after), stored(before)) == []


REFUSED = [
    (
        "{}",
        Case(
            "resource version left out",
            "metadata: {resourceVersion: ''}",
            INVALID,
            "metadata.resourceVersion",
            'Invalid value: "": must be specified for an update',
        ),
    ),
    ("{}", Case("uid", "metadata: {uid: u2}", INVALID, "metadata.uid", 'Invalid value: "u2": field is immutable')),
    (
        "{}",
        Case("name", "metadata: {name: x}", INVALID, "metadata.name", 'Invalid value: "x": field is immutable'),
    ),
    (
        "{}",
        Case(
            "creation time",
            "metadata: {creationTimestamp: '2027-01-02T03:04:05Z'}",
            INVALID,
            "metadata.creationTimestamp",
            'Invalid value: "2027-01-02T03:04:05Z": field is immutable',
        ),
    ),
    (
        "metadata: {generation: 3}",
        Case(
            "generation",
            "metadata: {generation: 2}",
            INVALID,
            "metadata.generation",
            "Invalid value: 2: must not be decremented",
        ),
    ),
    (
        "metadata: {deletionTimestamp: '2026-02-02T03:04:05Z'}",
        Case(
            "finalizer of a deleted Pod",
            "metadata: {deletionTimestamp: '2026-02-02T03:04:05Z', finalizers: [a/b]}",
            FORBIDDEN,
            "metadata.finalizers",
            "Forbidden: no new finalizers can be added if the object is being deleted, "
            'found new finalizers []string{"a/b"}',
        ),
    ),
    (
        "{}",
        Case(
            "another container",
            "spec: {containers: [{name: main, image: busybox}, {name: b, image: b}]}",
            FORBIDDEN,
            "spec.containers",
            "Forbidden: pod updates may not add or remove containers",
        ),
    ),
    (
        "spec: {activeDeadlineSeconds: 5}",
        Case(
            "longer deadline",
            "spec: {activeDeadlineSeconds: 6}",
            INVALID,
            "spec.activeDeadlineSeconds",
            "Invalid value: 6: must be less than or equal to previous value",
        ),
    ),
    (
        "spec: {tolerations: [{key: a, operator: Exists}]}",
        Case(
            "toleration taken away",
            "spec: {tolerations: []}",
            FORBIDDEN,
            "spec.tolerations",
            "Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
    ),
    (
        "{}",
        Case(
            "new gate",
            "spec: {schedulingGates: [{name: a/b}]}",
            FORBIDDEN,
            "spec.schedulingGates[0].name",
            "Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'",
        ),
    ),
    (
        "spec: {schedulingGates: [{name: a/b}], nodeSelector: {a: b}}",
        Case(
            "node selector of a gated Pod",
            "spec: {schedulingGates: [{name: a/b}], nodeSelector: {a: c}}",
            INVALID,
            "spec.nodeSelector",
            'Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)',
        ),
    ),
    (
        "{}",
        Case(
            "mirror annotation",
            "{metadata: {annotations: {kubernetes.io/config.mirror: x}}}",
            FORBIDDEN,
            "metadata.annotations[kubernetes.io/config.mirror]",
            "Forbidden: may not add mirror pod annotation",
        ),
    ),
]


@pytest.mark.parametrize(("before", "case"), REFUSED, ids=[case.name for _, case in REFUSED])
def test_a_refused_change_is_told_as_upstream_tells_it(before: str, case: Case) -> None:
    old = stored(before)
    if case.name == "mirror annotation":
        old.spec.node_name = "n"
        new = stored(case.manifest)
        new.spec.node_name = "n"
    else:
        new = stored(case.manifest)
    check(validation.validate_update(new, old), case)


def test_a_deadline_cannot_be_taken_away() -> None:
    errors = validation.validate_update(stored(), stored("spec: {activeDeadlineSeconds: 5}"))
    assert [str(error) for error in errors] == [
        'spec.activeDeadlineSeconds: Invalid value: "null": must not update from a positive integer to nil value'
    ]


def test_another_change_of_the_spec_is_refused_with_a_diff() -> None:
    errors = validation.validate_update(
        stored("container: {args: [b], image: other}"), stored("container: {args: [a]}")
    )
    assert [(error.type, error.field) for error in errors] == [(FORBIDDEN, "spec")]
    text = errors[0].detail
    assert text.startswith(UPDATABLE)
    changed = [line for line in text.removeprefix(UPDATABLE).splitlines() if line.startswith(("+", "-"))]
    assert [line.split() for line in changed] == [
        ["---", "expected"],
        ["+++", "got"],
        ["-", '"a"'],
        ["+", '"b"'],
    ]


def test_an_update_also_checks_the_whole_spec() -> None:
    errors = validation.validate_update(stored("container: {image: ' x'}"), stored())
    assert {error.body for error in errors} == {'Invalid value: " x": must not have leading or trailing whitespace'}


STATUS = [
    (
        "status: {qosClass: Burstable}",
        Case(
            "quality of service",
            "status: {qosClass: Guaranteed}",
            INVALID,
            "status.qosClass",
            'Invalid value: "Guaranteed": field is immutable',
        ),
    ),
    (
        "{}",
        Case(
            "condition",
            "status: {conditions: [{type: 'a b', status: 'True'}]}",
            INVALID,
            "status.conditions[0].Type",
            "Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must "
            "start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used "
            "for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
    ),
    (
        "{spec: {restartPolicy: Never}, status: {containerStatuses: [{name: main, state: {terminated: {exitCode: 1}}}]}}",
        Case(
            "back from the dead",
            "{spec: {restartPolicy: Never}, status: {containerStatuses: [{name: main, state: {running: {}}}]}}",
            FORBIDDEN,
            "status.containerStatuses[0].state",
            "Forbidden: may not be transitioned to non-terminated state",
        ),
    ),
    (
        "{}",
        Case(
            "address",
            "status: {podIPs: [{ip: 10.0.0.256}]}",
            INVALID,
            "status.podIPs[0]",
            'Invalid value: "10.0.0.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        ),
    ),
    (
        "{}",
        Case(
            "two addresses of one family",
            "status: {podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}",
            INVALID,
            "status.podIPs",
            'Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]: may specify no more than one IP for each IP family',
        ),
    ),
    (
        "{}",
        Case(
            "two host addresses",
            "status: {hostIP: 10.0.0.1, hostIPs: [{ip: 10.0.0.2}]}",
            INVALID,
            "status.hostIPs[0].ip",
            'Invalid value: "10.0.0.2": must be equal to `hostIP`',
        ),
    ),
]


@pytest.mark.parametrize(("before", "case"), STATUS, ids=[case.name for _, case in STATUS])
def test_a_refused_change_of_status_is_told_as_upstream_tells_it(before: str, case: Case) -> None:
    check(validation.validate_status_update(stored(case.manifest), stored(before)), case)


@pytest.mark.parametrize(
    ("policy", "exit_code"),
    [("Always", 0), ("OnFailure", 1)],
)
def test_a_container_that_is_restarted_may_leave_the_terminated_state(policy: str, exit_code: int) -> None:
    ended = f"{{terminated: {{exitCode: {exit_code}}}}}"
    spec = f"spec: {{restartPolicy: {policy}}}"
    old = stored(f"{{{spec}, status: {{containerStatuses: [{{name: main, state: {ended}}}]}}}}")
    new = stored(f"{{{spec}, status: {{containerStatuses: [{{name: main, state: {{waiting: {{}}}}}}]}}}}")
    assert validation.validate_status_update(new, old) == []


def test_a_sidecar_may_be_restarted_in_a_pod_that_is_not() -> None:
    spec = "spec: {restartPolicy: Never, initContainers: [{name: side, image: i, restartPolicy: Always}]}"
    old = stored(
        f"{{{spec}, status: {{initContainerStatuses: [{{name: side, state: {{terminated: {{exitCode: 0}}}}}}]}}}}"
    )
    new = stored(f"{{{spec}, status: {{initContainerStatuses: [{{name: side, state: {{running: {{}}}}}}]}}}}")
    assert validation.validate_status_update(new, old) == []


DEBUGGER = "spec: {ephemeralContainers: [{name: d, image: i}]}"


def test_an_ephemeral_container_can_be_added() -> None:
    assert implemented(validation.validate_ephemeral_containers_update(stored(DEBUGGER), stored())) == []


def test_an_ephemeral_container_stays() -> None:
    errors = validation.validate_ephemeral_containers_update(stored(), stored(DEBUGGER))
    assert [str(error) for error in errors] == [
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "d" may not be removed\n'
    ]


def test_an_ephemeral_container_does_not_change() -> None:
    other = stored("spec: {ephemeralContainers: [{name: d, image: other}]}")
    errors = validation.validate_ephemeral_containers_update(other, stored(DEBUGGER))
    assert [error.field for error in errors] == ["spec.ephemeralContainers"]
    assert errors[0].detail.startswith('existing ephemeral containers "d" may not be changed\n--- expected\n+++ got\n')


SIZED = "container: {resources: {requests: {cpu: 100m, memory: 64Mi}}}"
RESIZES = [
    Case(
        "request taken away",
        "container: {resources: {requests: {cpu: 100m}}}",
        FORBIDDEN,
        "spec.containers[0].resources.requests",
        "Forbidden: resource requests cannot be removed",
    ),
    Case(
        "quality of service",
        "container: {resources: {limits: {cpu: 100m, memory: 64Mi}}}",
        INVALID,
        "spec",
        'Invalid value: "": Pod QOS Class may not change as a result of resizing',
    ),
    Case(
        "another resource",
        "container: {resources: {requests: {cpu: 100m, memory: 64Mi, ephemeral-storage: 1Gi}}}",
        FORBIDDEN,
        "spec",
        ONLY_COMPUTE,
    ),
    Case(
        "image",
        "container: {image: i, resources: {requests: {cpu: 100m, memory: 64Mi}}}",
        FORBIDDEN,
        "spec",
        ONLY_COMPUTE,
    ),
    Case(
        "name",
        "container: {name: x, resources: {requests: {cpu: 100m, memory: 64Mi}}}",
        FORBIDDEN,
        "spec.containers[0].name",
        "Forbidden: containers may not be renamed or reordered on resize",
    ),
]


@pytest.mark.parametrize("case", RESIZES, ids=case_id)
def test_a_refused_resize_is_told_as_upstream_tells_it(case: Case) -> None:
    check(validation.validate_resize(stored(case.manifest), stored(SIZED)), case)


def test_cpu_and_memory_can_be_resized() -> None:
    new = stored("container: {resources: {requests: {cpu: 200m, memory: 32Mi}}}")
    assert validation.validate_resize(new, stored(SIZED)) == []


def test_a_new_object_needs_no_resource_version() -> None:
    assert validation.validate_create(make()) == []


def test_containers_need_an_image_in_updates_too() -> None:
    errors = validation.validate_update(stored("container: {image: ''}"), stored())
    assert {(error.type, error.field) for error in errors} == {(REQUIRED, "spec.containers[0].image")}
