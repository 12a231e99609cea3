"""The controller of Endpoints, with Pods that some kubelet is said to run."""

from __future__ import annotations

from typing import Any

from tests.support.api_server import ApiServer
from tests.support.controllers import Bench, run
from tests.support.objects import make_node

from podling.api import codec
from podling.api.core.v1 import Endpoints, Pod, Service, ServiceAccount


def addresses(endpoints: Endpoints | None) -> tuple[list[str], list[str]]:
    subsets = endpoints.subsets if endpoints else []
    return [a.ip for s in subsets for a in s.addresses], [a.ip for s in subsets for a in s.not_ready_addresses]


def service(name: str, namespace: str, **spec: Any) -> Service:
    document = {
        "metadata": {"name": name, "namespace": namespace, "labels": {"tier": "front"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }
    return codec.convert(document, Service)


def test_endpoints_follow_the_pods_of_their_service(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(make_node("node-1"))
        view = it.view(Endpoints)
        web = {"app": "web"}
        await it.client.create(service("web", it.namespace))
        endpoints = await it.exists(Endpoints, "web")
        assert addresses(endpoints) == ([], [])
        assert endpoints.metadata.labels == {
            "tier": "front",
            "endpoints.kubernetes.io/managed-by": "endpoint-controller",
        }

        async def becomes(ready: list[str], other: list[str]) -> None:
            await it.until(lambda: addresses(view.get(it.namespace, "web")) == (ready, other))

        await it.running_pod("a", "10.244.0.1", node="node-1", labels=web)
        await it.running_pod("b", "10.244.0.2", node="node-1", labels=web, ready="False")
        await it.running_pod("c", "10.244.0.3", node="node-1")
        await becomes(["10.244.0.1"], ["10.244.0.2"])
        await it.report("b", "10.244.0.2")
        await becomes(["10.244.0.1", "10.244.0.2"], [])
        await it.client.patch(Pod, "a", it.namespace, {"metadata": {"labels": {"app": "other"}}})
        await becomes(["10.244.0.2"], [])
        await it.client.delete(Pod, "b", it.namespace)
        await becomes([], [])
        await it.client.patch(Service, "web", it.namespace, {"spec": {"selector": {"app": "other"}}})
        await becomes(["10.244.0.1"], [])
        await it.client.delete(Service, "web", it.namespace)
        await it.gone(Endpoints, "web")

    run(server, test)


def test_endpoints_of_a_service_without_selector_are_left_alone(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        manual = service("manual", it.namespace)
        manual.spec.selector = {}
        await it.client.create(manual)
        document = {
            "metadata": {"name": "manual", "namespace": it.namespace},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
        }
        await it.client.create(codec.convert(document, Endpoints))
        await it.client.create(service("other", it.namespace))
        await it.exists(Endpoints, "other")
        assert addresses(await it.client.get(Endpoints, "manual", it.namespace)) == (["192.0.2.1"], [])

    run(server, test)


def test_endpoints_without_a_service_stay_until_the_controller_starts_again(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        document = {
            "metadata": {"name": "early", "namespace": it.namespace},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
        }
        # The controller works once it has made others, and has seen these once it has made later ones.
        await it.exists(ServiceAccount, "default")
        await it.client.create(service("first", it.namespace))
        await it.exists(Endpoints, "first")
        await it.client.create(codec.convert(document, Endpoints))
        await it.client.create(service("web", it.namespace))
        await it.exists(Endpoints, "web")
        assert await it.client.get(Endpoints, "early", it.namespace)
        created.append((it.namespace, "early"))

    async def again(it: Bench) -> None:
        namespace, name = created[0]
        await it.gone(Endpoints, name, namespace)

    created: list[tuple[str, str]] = []
    run(server, test)
    run(server, again)
