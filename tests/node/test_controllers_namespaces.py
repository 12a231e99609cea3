"""The controllers of Namespaces: what each of them has, and how it goes."""

from __future__ import annotations

from typing import Any

from tests.support.api_server import ApiServer
from tests.support.controllers import ROOT_CA, Bench, run
from tests.support.objects import make_node, make_pod

from podling.api.core.v1 import ConfigMap, Namespace, Pod, Secret, ServiceAccount
from podling.api.meta.v1 import ObjectMeta, OwnerReference


def test_every_namespace_gets_its_service_account_and_the_root_certificate(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        config_map = await it.exists(ConfigMap, "kube-root-ca.crt")
        assert config_map.data == {"ca.crt": ROOT_CA.decode()}
        await it.exists(ServiceAccount, "default", "kube-system")

    run(server, test)


def test_both_come_back_when_they_are_deleted_and_the_certificate_when_it_is_changed(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        account = await it.exists(ServiceAccount, "default")
        await it.exists(ConfigMap, "kube-root-ca.crt")
        await it.client.delete(ServiceAccount, "default", it.namespace)
        accounts = it.view(ServiceAccount)

        def renewed() -> bool:
            found = accounts.get(it.namespace, "default")
            return found is not None and found.metadata.uid != account.metadata.uid

        await it.until(renewed)
        await it.client.patch(ConfigMap, "kube-root-ca.crt", it.namespace, {"data": {"ca.crt": "forged", "extra": "x"}})
        maps = it.view(ConfigMap)
        await it.until(lambda: getattr(maps.get(it.namespace, "kube-root-ca.crt"), "data", {}).get("extra") == "x")
        await it.until(
            lambda: getattr(maps.get(it.namespace, "kube-root-ca.crt"), "data", None) == {"ca.crt": ROOT_CA.decode()}
        )

    run(server, test)


def test_a_deleted_namespace_goes_with_everything_in_it(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(Secret(metadata=ObjectMeta(name="s", namespace=it.namespace)))
        await it.client.create(make_pod("unbound", it.namespace))
        await it.client.delete(Namespace, it.namespace)
        await it.gone(Namespace, it.namespace, "")
        assert (await it.client.list(Secret, it.namespace)).items == []
        assert (await it.client.list(Pod, it.namespace)).items == []
        assert (await it.client.list(ConfigMap, it.namespace)).items == []

    run(server, test)


def test_a_namespace_waits_for_its_pods_and_tells_so(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(make_node("node-1"))
        await it.running_pod("web", "10.244.0.1", node="node-1", terminationGracePeriodSeconds=30)
        await it.client.delete(Namespace, it.namespace)
        view = it.view(Namespace)

        def conditions() -> dict[str, Any]:
            namespace = view.get("", it.namespace)
            return {c.type: c for c in namespace.status.conditions} if namespace else {}

        await it.until(conditions)
        left = conditions()["NamespaceContentRemaining"]
        assert (left.status, left.reason) == ("True", "SomeResourcesRemain")
        assert left.message == "Some resources are remaining: pods. has 1 resource instances"
        deleted = conditions()["NamespaceDeletionContentFailure"]
        assert (deleted.status, deleted.reason) == ("False", "ContentDeleted")
        pod = await it.client.get(Pod, "web", it.namespace)
        assert pod.metadata.deletion_timestamp
        # The kubelet would do this once the containers have stopped.
        await it.client.delete(Pod, "web", it.namespace, grace_period_seconds=0)
        await it.gone(Namespace, it.namespace, "")

    run(server, test)


def test_nothing_else_is_touched_until_the_pods_of_a_namespace_are_gone(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.exists(ConfigMap, "kube-root-ca.crt")
        await it.client.create(make_node("node-1"))
        await it.running_pod("web", "10.244.0.1", node="node-1", terminationGracePeriodSeconds=30)
        await it.client.create(Secret(metadata=ObjectMeta(name="s", namespace=it.namespace)))
        pods = it.view(Pod)
        await it.client.delete(Namespace, it.namespace)
        await it.until(lambda: (pod := pods.get(it.namespace, "web")) and pod.metadata.deletion_timestamp)
        view = it.view(Namespace)
        await it.until(lambda: (found := view.get("", it.namespace)) and found.status.conditions)
        assert not (await it.client.get(Secret, "s", it.namespace)).metadata.deletion_timestamp
        assert not (await it.client.get(ServiceAccount, "default", it.namespace)).metadata.deletion_timestamp
        assert not (await it.client.get(ConfigMap, "kube-root-ca.crt", it.namespace)).metadata.deletion_timestamp
        await it.client.delete(Pod, "web", it.namespace, grace_period_seconds=0)
        await it.gone(Namespace, it.namespace, "")

    run(server, test)


def test_objects_deleted_in_the_foreground_do_not_hold_their_namespace(server: ApiServer) -> None:
    """The second's finalizer is one that nobody takes away; the first waits for it."""

    async def test(it: Bench) -> None:
        first = await it.client.create(ConfigMap(metadata=ObjectMeta(name="first", namespace=it.namespace)))
        reference = OwnerReference(
            api_version="v1", kind="ConfigMap", name="first", uid=first.metadata.uid, block_owner_deletion=True
        )
        meta = ObjectMeta(
            name="second", namespace=it.namespace, owner_references=[reference], finalizers=["example.com/hold"]
        )
        await it.client.create(ConfigMap(metadata=meta))
        await it.client.delete(ConfigMap, "first", it.namespace, propagation="Foreground")
        await it.client.delete(Namespace, it.namespace)
        await it.gone(ConfigMap, "first")
        await it.client.patch(ConfigMap, "second", it.namespace, {"metadata": {"finalizers": None}})
        await it.gone(Namespace, it.namespace, "")

    run(server, test)


def test_a_namespace_names_the_finalizers_that_hold_it(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        meta = ObjectMeta(name="held", namespace=it.namespace, finalizers=["example.com/hold"])
        await it.client.create(Secret(metadata=meta))
        await it.client.delete(Namespace, it.namespace)
        view = it.view(Namespace)

        def held() -> Any:
            namespace = view.get("", it.namespace)
            conditions = namespace.status.conditions if namespace else []
            return next((c for c in conditions if c.type == "NamespaceFinalizersRemaining"), None)

        condition = await it.until(held)
        assert (condition.status, condition.reason) == ("True", "SomeFinalizersRemain")
        assert condition.message == (
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        )
        await it.client.patch(Secret, "held", it.namespace, {"metadata": {"finalizers": None}})

    run(server, test)
