"""The official Python client (PyPI: kubernetes) against a whole cluster."""

from __future__ import annotations

import base64
import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.pods import RUN, container, pod

# Half of the package is typed, with every attribute optional: nothing that mypy could check.
kubernetes: Any = importlib.import_module("kubernetes")
client, config, utils, watch = kubernetes.client, kubernetes.config, kubernetes.utils, kubernetes.watch
ApiException = client.exceptions.ApiException


@pytest.fixture(scope="module")
def api_client(cluster: Cluster) -> Iterator[Any]:
    with config.new_client_from_config(str(cluster.kubeconfig)) as made:
        yield made


@pytest.fixture
def core(api_client: Any) -> Any:
    return client.CoreV1Api(api_client)


def phases(core: Any, namespace: str, last: str, **options: Any) -> list[tuple[str, str]]:
    """Type and phase of a watch's events up to the phase given."""
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_pod, namespace, timeout_seconds=60, **options):
        seen.append((event["type"], event["object"].status.phase))
        if seen[-1][1] == last:
            return seen
    raise AssertionError(f"never {last}: {seen}")


def test_a_pod_is_created_watched_patched_and_deleted(core: Any, namespace: str) -> None:
    spec = client.V1PodSpec(
        termination_grace_period_seconds=1,
        containers=[
            client.V1Container(
                name="main",
                image="busybox",
                image_pull_policy="IfNotPresent",
                command=["sh", "-c", RUN],
                resources=client.V1ResourceRequirements(requests={"cpu": "10m"}),
            )
        ],
    )
    body = client.V1Pod(metadata=client.V1ObjectMeta(generate_name="made-", labels={"app": "made"}), spec=spec)
    made = core.create_namespaced_pod(namespace, body)
    name = made.metadata.name
    assert name.startswith("made-")
    assert made.status.phase == "Pending"
    since = {"resource_version": made.metadata.resource_version, "field_selector": f"metadata.name={name}"}
    assert phases(core, namespace, "Running", **since)[-1] == ("MODIFIED", "Running")
    read = core.read_namespaced_pod(name, namespace)
    assert read.status.container_statuses[0].state.running.started_at.tzinfo is not None
    assert read.spec.containers[0].resources.requests == {"cpu": "10m"}
    patched = core.patch_namespaced_pod(name, namespace, {"metadata": {"labels": {"colour": "red"}}})
    assert patched.metadata.labels == {"app": "made", "colour": "red"}
    assert [p.metadata.name for p in core.list_namespaced_pod(namespace, label_selector="colour=red").items] == [name]
    answer = core.delete_namespaced_pod(name, namespace, grace_period_seconds=1)
    assert answer.metadata.deletion_timestamp is not None
    for event in watch.Watch().stream(core.list_namespaced_pod, namespace, timeout_seconds=60):
        if event["type"] == "DELETED":
            break
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_pod(name, namespace)
    assert (missing.value.status, missing.value.reason) == (404, "Not Found")
    assert f'pods \\"{name}\\" not found' in missing.value.body


def test_logs_are_read_and_followed(core: Any, api_client: Any, namespace: str) -> None:
    script = "for i in 1 2 3; do echo line $i; sleep 0.1; done; echo done"
    utils.create_from_dict(api_client, pod("p", container(script=script), restartPolicy="Never"), namespace=namespace)
    phases(core, namespace, "Running")
    lines = list(watch.Watch().stream(core.read_namespaced_pod_log, "p", namespace, follow=True))
    assert lines == ["line 1", "line 2", "line 3", "done"]
    assert core.read_namespaced_pod_log("p", namespace, tail_lines=1) == "done\n"
    answer = core.read_namespaced_pod_log("p", namespace, follow=True, _preload_content=False)
    assert answer.read() == b"line 1\nline 2\nline 3\ndone\n"
    with pytest.raises(ApiException) as refused:
        core.read_namespaced_pod_log("p", namespace, container="nope")
    assert refused.value.status == 400


def test_lists_come_in_pages(core: Any, namespace: str) -> None:
    for i in range(5):
        body = client.V1ConfigMap(
            metadata=client.V1ObjectMeta(name=f"c{i}", labels={"page": "yes"}), data={"i": str(i)}
        )
        core.create_namespaced_config_map(namespace, body)
    names, left, token = [], [], None
    while True:
        page = core.list_namespaced_config_map(namespace, label_selector="page", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        left.append(page.metadata.remaining_item_count)
        token = page.metadata._continue
        if not token:
            break
        if len(names) == 2:
            # What comes later is not in the list that began before.
            late = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c9", labels={"page": "yes"}))
            core.create_namespaced_config_map(namespace, late)
    assert names == [f"c{i}" for i in range(5)]
    assert len(left) == 3
    deleted = core.delete_collection_namespaced_config_map(namespace, label_selector="page")
    assert deleted.status in ("Success", None)
    assert core.list_namespaced_config_map(namespace, label_selector="page").items == []


def test_conflicts_and_other_refusals(core: Any, namespace: str) -> None:
    meta = client.V1ObjectMeta(name="c")
    first = core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=meta, data={"k": "1"}))

    def refused(call: Any, *args: Any) -> tuple[int, str]:
        with pytest.raises(ApiException) as caught:
            call(*args)
        return caught.value.status, caught.value.body

    code, body = refused(core.create_namespaced_config_map, namespace, client.V1ConfigMap(metadata=meta))
    assert (code, '"reason":"AlreadyExists"' in body) == (409, True)
    first.data = {"k": "2"}
    second = core.replace_namespaced_config_map("c", namespace, first)
    code, body = refused(core.replace_namespaced_config_map, "c", namespace, first)
    assert (code, '"reason":"Conflict"' in body) == (409, True)
    assert int(second.metadata.resource_version) > int(first.metadata.resource_version)
    no_containers = client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec={"containers": []})
    code, body = refused(core.create_namespaced_pod, namespace, no_containers)
    assert (code, "spec.containers: Required value" in body) == (422, True)
    stale = client.V1DeleteOptions(preconditions=client.V1Preconditions(resource_version="1"))
    with pytest.raises(ApiException) as caught:
        core.delete_namespaced_config_map("c", namespace, body=stale)
    assert caught.value.status == 409


def test_a_watch_goes_on_from_where_it_was(core: Any, namespace: str) -> None:
    start = core.list_namespaced_secret(namespace).metadata.resource_version
    follower = watch.Watch()
    seen: list[tuple[str, str, bytes]] = []

    def follow() -> None:
        stream = follower.stream(core.list_namespaced_secret, namespace, resource_version=start, timeout_seconds=60)
        for event in stream:
            secret = event["object"]
            seen.append((event["type"], secret.metadata.name, base64.b64decode((secret.data or {}).get("k", ""))))
            if event["type"] == "DELETED":
                follower.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    meta = client.V1ObjectMeta(name="s")
    core.create_namespaced_secret(namespace, client.V1Secret(metadata=meta, string_data={"k": "one"}))
    core.patch_namespaced_secret("s", namespace, {"stringData": {"k": "two"}})
    core.delete_namespaced_secret("s", namespace)
    thread.join(60)
    assert seen == [("ADDED", "s", b"one"), ("MODIFIED", "s", b"two"), ("DELETED", "s", b"two")]
    with pytest.raises(ApiException) as gone:
        for _ in watch.Watch().stream(core.list_namespaced_secret, namespace, resource_version="99999999"):
            pass
    assert gone.value.status in (410, 504)


def test_the_dynamic_client_and_discovery(api_client: Any, cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "discovery")
    dynamic = importlib.import_module("kubernetes.dynamic").DynamicClient(api_client, cache_file=cache)
    resource = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    resource.create(body={"metadata": {"name": "d"}, "data": {"a": "b"}}, namespace=namespace)
    assert resource.get(name="d", namespace=namespace).data.a == "b"
    nodes = client.CoreV1Api(api_client).list_node().items
    assert [node.metadata.name for node in nodes] == [cluster.node]
    version = client.VersionApi(api_client).get_code()
    assert (version.major, version.minor) == ("1", "36")
    lease = client.CoordinationV1Api(api_client).read_namespaced_lease(cluster.node, "kube-node-lease")
    assert lease.spec.holder_identity == cluster.node


def test_a_service_account_token_is_good_for_what_its_user_may(core: Any, namespace: str) -> None:
    answer = core.create_namespaced_service_account_token(
        "default", namespace, client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    )
    configuration = client.Configuration()
    configuration.host = core.api_client.configuration.host
    configuration.ssl_ca_cert = core.api_client.configuration.ssl_ca_cert
    configuration.api_key = {"authorization": f"Bearer {answer.status.token}"}
    with client.ApiClient(configuration) as own:
        identity = client.AuthenticationV1Api(own).create_self_subject_review(client.V1SelfSubjectReview())
        assert identity.status.user_info.username == f"system:serviceaccount:{namespace}:default"
        with pytest.raises(ApiException) as refused:
            client.CoreV1Api(own).list_node()
    assert refused.value.status == 403
