"""What users leave out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.verdict import build, make

from podling.api import codec, defaults, validation
from podling.api.core.v1 import Endpoints, Namespace, Node, Pod, PodSpec, Secret, Service


def wire(obj: object) -> dict[str, Any]:
    built: dict[str, Any] = codec.to_builtins(obj)
    return built


def test_a_pod_of_one_container_gets_what_upstream_gives_it() -> None:
    assert wire(make().spec) == {
        "containers": [
            {
                "name": "main",
                "image": "busybox",
                "imagePullPolicy": "Always",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }


def test_a_template_gets_what_does_not_make_it_a_pod() -> None:
    spec = codec.convert({"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}]}, PodSpec)
    defaults.apply_pod_spec(spec)
    assert spec.enable_service_links is None
    assert spec.containers[0].resources.requests == {}
    assert spec.restart_policy == "Always"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("registry.example.com:5000/a/nginx", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        (f"nginx@sha256:{'a' * 64}", "IfNotPresent"),
        (f"nginx:latest@sha256:{'a' * 64}", "Always"),
        ("Not A Reference", "IfNotPresent"),
        ("a" * 64, "IfNotPresent"),
    ],
)
def test_the_pull_policy_depends_on_the_tag(image: str, policy: str) -> None:
    assert make(f"container: {{image: '{image}'}}").spec.containers[0].image_pull_policy == policy


CASES = [
    ("container: {resources: {limits: {cpu: '1'}}}", "spec.containers.0.resources.requests", {"cpu": "1"}),
    (
        "container: {resources: {limits: {cpu: '2', memory: 1Gi}, requests: {cpu: '1'}}}",
        "spec.containers.0.resources.requests",
        {"cpu": "1", "memory": "1Gi"},
    ),
    (
        "container: {ports: [{containerPort: 80}]}",
        "spec.containers.0.ports.0",
        {"containerPort": 80, "protocol": "TCP"},
    ),
    (
        "{spec: {hostNetwork: true}, container: {ports: [{containerPort: 80}]}}",
        "spec.containers.0.ports.0.hostPort",
        80,
    ),
    (
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}",
        "spec.containers.0.env.0.valueFrom.fieldRef.apiVersion",
        "v1",
    ),
    (
        "container: {livenessProbe: {httpGet: {port: 80}}}",
        "spec.containers.0.livenessProbe",
        {
            "failureThreshold": 3,
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "periodSeconds": 10,
            "successThreshold": 1,
            "timeoutSeconds": 1,
        },
    ),
    ("spec: {volumes: [{name: v}]}", "spec.volumes.0", {"name": "v", "emptyDir": {}}),
    ("spec: {volumes: [{name: v, hostPath: {path: /x}}]}", "spec.volumes.0.hostPath", {"path": "/x", "type": ""}),
    ("spec: {volumes: [{name: v, secret: {secretName: s}}]}", "spec.volumes.0.secret.defaultMode", 0o644),
    (
        "spec: {volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]}",
        "spec.volumes.0.projected.sources.0.serviceAccountToken.expirationSeconds",
        3600,
    ),
    ("spec: {serviceAccount: a}", "spec.serviceAccountName", "a"),
    ("spec: {serviceAccountName: a}", "spec.serviceAccount", "a"),
    (
        "{spec: {resources: {limits: {cpu: '4'}}}, container: {resources: {requests: {cpu: '1', memory: 1Gi}}}}",
        "spec.resources.requests",
        {"cpu": "1", "memory": "1Gi"},
    ),
    ("{spec: {resources: {limits: {cpu: '4'}}}}", "spec.resources.requests", {"cpu": "4"}),
    (
        "{spec: {resources: {requests: {cpu: '4'}}}, container: {resources: {limits: {cpu: '5'}}}}",
        "spec.resources.limits",
        {"cpu": "5"},
    ),
]


@pytest.mark.parametrize(("manifest", "path", "value"), CASES, ids=[path for _, path, _ in CASES])
def test_a_default_of_a_pod(manifest: str, path: str, value: object) -> None:
    found: Any = wire(make(manifest))
    for part in path.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert found == value


def test_what_the_user_says_stays() -> None:
    manifest = (
        "{spec: {dnsPolicy: Default, restartPolicy: Never, terminationGracePeriodSeconds: 0, enableServiceLinks: false}, "
        "container: {imagePullPolicy: Never, terminationMessagePath: /x, terminationMessagePolicy: FallbackToLogsOnError}}"
    )
    before = make(manifest, apply_defaults=False)
    after = make(manifest)
    for name in ("dns_policy", "restart_policy", "termination_grace_period_seconds", "enable_service_links"):
        assert getattr(after.spec, name) == getattr(before.spec, name)
    assert after.spec.containers == before.spec.containers


def test_a_service_gets_target_ports_and_policies() -> None:
    service = build(Service, "{metadata: {name: a}, spec: {ports: [{port: 80}]}}")
    assert wire(service.spec) == {
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "type": "ClusterIP",
    }


def test_a_balanced_service_gets_node_ports_and_an_affinity_time() -> None:
    service = build(
        Service, "spec: {type: LoadBalancer, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: web}]}"
    )
    assert service.spec.allocate_load_balancer_node_ports is True
    assert service.spec.external_traffic_policy == "Cluster"
    assert service.spec.ports[0].target_port == "web"
    assert wire(service.spec.session_affinity_config) == {"clientIP": {"timeoutSeconds": 10800}}


def test_small_kinds_get_their_defaults() -> None:
    assert build(Secret, "{}").type == "Opaque"
    assert build(Endpoints, "subsets: [{ports: [{port: 1}]}]").subsets[0].ports[0].protocol == "TCP"
    namespace = build(Namespace, "metadata: {name: a}")
    assert namespace.metadata.labels == {"kubernetes.io/metadata.name": "a"}
    assert namespace.status.phase == "Active"
    node = build(Node, "{spec: {podCIDR: 10.0.0.0/24}, status: {capacity: {cpu: '1'}}}")
    assert node.spec.pod_cidrs == ["10.0.0.0/24"]
    assert node.status.allocatable == node.status.capacity
    assert build(Node, "spec: {podCIDRs: [10.0.0.0/24]}").spec.pod_cidr == "10.0.0.0/24"


quantities = st.sampled_from(["0", "100m", "1", "2", "64Mi", "1Gi"])
resource_lists = st.dictionaries(st.sampled_from(["cpu", "memory", "hugepages-2Mi", "example.com/gpu"]), quantities)
requirements = st.fixed_dictionaries({}, optional={"limits": resource_lists, "requests": resource_lists})
handlers = st.sampled_from(
    [{"exec": {"command": ["x"]}}, {"httpGet": {"port": 80}}, {"tcpSocket": {"port": "web"}}, {}]
)
probes = st.builds(
    lambda handler, numbers: {**handler, **numbers},
    handlers,
    st.dictionaries(st.sampled_from(["periodSeconds", "timeoutSeconds", "successThreshold"]), st.integers(-1, 5)),
)
containers: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", ""]), "image": st.sampled_from(["nginx", "nginx:1", "NGINX", ""])},
    optional={
        "resources": requirements,
        "livenessProbe": probes,
        "lifecycle": st.builds(lambda handler: {"postStart": handler}, handlers),
        "ports": st.lists(
            st.fixed_dictionaries({"containerPort": st.integers(0, 90000)}, optional={"protocol": st.just("UDP")}),
            max_size=2,
        ),
        "restartPolicy": st.just("Always"),
        "env": st.just([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
    },
)
sources: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"emptyDir": {"medium": "Memory"}},
        {"hostPath": {"path": "/x"}},
        {"secret": {}},
        {"configMap": {"name": "c"}},
        {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"image": {"reference": "nginx"}},
        {"azureDisk": {"diskName": "d", "diskURI": "u"}},
    ]
)
pods = st.builds(
    lambda spec: {"metadata": {"name": "web", "namespace": "default"}, "spec": spec},
    st.fixed_dictionaries(
        {"containers": st.lists(containers, max_size=2)},
        optional={
            "initContainers": st.lists(containers, max_size=2),
            "volumes": st.lists(sources.map(lambda source: {"name": "v", **source}), max_size=2),
            "hostNetwork": st.booleans(),
            "resources": requirements,
            "terminationGracePeriodSeconds": st.integers(-1, 60),
            "serviceAccountName": st.just("a"),
            "serviceAccount": st.just("b"),
        },
    ),
)


@given(pods)
def test_defaults_applied_again_change_nothing(document: dict[str, Any]) -> None:
    pod = codec.convert(document, Pod)
    whole = pod.spec.resources
    # As upstream, requests of the whole Pod without limits get limits from the containers; a second time these count.
    assume(whole is None or not whole.requests or whole.limits)
    defaults.apply(pod)
    once = copy.deepcopy(pod)
    defaults.apply(pod)
    assert pod == once
    assert codec.decode(Pod, codec.encode(pod)) == once


@given(pods)
def test_validation_of_any_pod_tells_errors_and_never_fails(document: dict[str, Any]) -> None:
    pod = codec.convert(document, Pod)
    before = validation.validate_create(pod)
    defaults.apply(pod)
    after = validation.validate_create(pod)
    assert all(str(error) for error in [*before, *after])
    assert all(isinstance(text, str) for text in validation.warnings(pod))


@given(pods)
def test_a_pod_can_be_written_back_unchanged(document: dict[str, Any]) -> None:
    pod = codec.convert(document, Pod)
    pod.metadata.resource_version = "1"
    defaults.apply(pod)
    update = validation.validate_update(pod, copy.deepcopy(pod))
    created = validation.validate_create(pod)
    assert {str(error) for error in update} <= {str(error) for error in created}
